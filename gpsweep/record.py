"""What a run notes about itself in its folder, so that its results can be made once all is stored."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from gpsweep import cost, metrics, pictures
from gpsweep.atomic import save
from gpsweep.errors import GpsweepError
from gpsweep.points import Point, columns, from_columns
from gpsweep.results.loading import PER_CLASS, RESULTS, SELECTION, SUMMARY
from gpsweep.results.outcome import COUNTS, Outcome, plain
from gpsweep.store import KEY_LENGTH, Merged, Store

RECORD = "run.json"
CLAIM = ".claim"
OUTPUTS = (
    *(COUNTS, RESULTS, PER_CLASS, SELECTION, SUMMARY, "report.html"),
    *(f"{name}.{kind}" for name in ("curves", "cost") for kind in ("png", "svg", "pdf")),
)
"""What a finished run leaves in its folder besides."""


@dataclass(frozen=True)
class Record:
    """A run's note about itself.

    Args:
        folder: the run's folder.
        place: the folder of its counts, which may be gone: results remain.
        points: its points.
        info: see :class:`gpsweep.results.outcome.Outcome`.
    """

    folder: Path
    place: Path
    points: list[Point]
    info: Mapping[str, Any]

    def same_as(self, other: Record) -> bool:
        """Say whether another is a shard of the same run, whose points are judged in the same way."""
        same = self.place == other.place and self.points == other.points
        return same and _judged(self.info) == _judged(other.info)

    @property
    def store(self) -> Store:
        """Its counts.

        Raises:
            GpsweepError: if they are gone.
        """
        return Store.at(self.place)

    @property
    def finished(self) -> bool:
        """Whether the results of the whole run lie in this folder; counts among them may be lost."""
        return any((self.folder / name).is_file() for name in (COUNTS, SUMMARY))


def _judged(info: Mapping[str, Any]) -> list[Any]:
    """Return what a run's results depend on besides its counts."""
    return [plain(info.get(key)) for key in ("select", "groups")]


def note(folder: Path, store: Store, points: Sequence[Point], info: Mapping[str, Any]) -> Path:
    """Write a run's note into its folder; the store is named from there, so that both can move together.

    And as it lies on the disk, so that the folder can move alone.

    Results of another run that was in this folder before are removed: they would be taken for this one's.

    Args:
        folder: the run's folder.
        store: its counts.
        points: its points.
        info: see :class:`gpsweep.results.outcome.Outcome`.

    Raises:
        GpsweepError: if the note cannot be written.
    """
    place = store.folder.resolve()
    if (folder / RECORD).is_file() and not _same(folder, Record(folder, place, list(points), plain(info))):
        for name in OUTPUTS:
            (folder / name).unlink(missing_ok=True)
        pictures.clear(folder)
    content = {
        "store": os.path.relpath(place, folder.resolve()),
        "place": str(place),
        "points": columns(points),
        "info": plain(info),
    }
    return save(folder / RECORD, json.dumps(content, indent=1).encode() + b"\n")


def _same(folder: Path, this: Record) -> bool:
    """Say whether a folder's note is one of this run's."""
    try:
        return this.same_as(read(folder / RECORD))
    except (GpsweepError, OSError):
        return False


def finished_beside(folder: Path) -> Path | None:
    """Return the folder beside this one where another shard of its run has written the results of all."""
    if (folder / COUNTS).is_file():
        return None
    this = read(folder / RECORD)
    others = (path.parent for path in sorted(folder.parent.glob(f"*/{RECORD}")))
    return next((other for other in others if (other / COUNTS).is_file() and _same(other, this)), None)


def claim_of(store: Store, points: Sequence[Point], info: Mapping[str, Any]) -> Path:
    """Return where the shard is named that writes the results of these points, judged in this way.

    Args:
        store: the counts.
        points: those of the run.
        info: what tells how they are judged, see :class:`gpsweep.results.outcome.Outcome`.
    """
    key = json.dumps([columns(points), *_judged(info)], sort_keys=True)
    return store.folder / f"results-{sha256(key.encode()).hexdigest()[:KEY_LENGTH]}{CLAIM}"


def claim(path: Path, folder: Path) -> str | None:
    """Take on the results of all shards, of which several may see at once that nothing is missing any more.

    Args:
        path: see :func:`claim_of`.
        folder: the run's folder.

    Returns:
        The folder of the shard that was first, None if it is this one.

    Raises:
        GpsweepError: if the file cannot be written.
    """
    try:
        with path.open("xb") as file:
            file.write(os.fsencode(folder.resolve()))  # a name on disk need not be UTF-8
        return None
    except FileExistsError:
        other = ""  # as long as the other has not written its name
        with suppress(OSError):
            other = os.fsdecode(path.read_bytes())
        return other or "another shard's folder"
    except OSError as error:
        raise GpsweepError(
            f"store={path.parent}: expected a folder that can be written: {error.strerror}"
        ) from None


def noted(folder: Path) -> list[Record]:
    """Return the notes in a folder and all below it: of what is finished all, of other shards of a run one.

    Warns:
        UserWarning: of a note that is none.
    """
    every: list[Record] = []
    for path in sorted(folder.glob(f"**/{RECORD}")):
        try:
            every.append(read(path))
        except GpsweepError as error:
            warnings.warn(str(error), stacklevel=2)
    found, finished = list[Record](), [each for each in every if each.finished]
    for record in every:
        if record.finished or not any(map(record.same_as, (*finished, *found))):
            found.append(record)
    return found


def read(path: Path) -> Record:
    """Return the note of a file.

    Raises:
        GpsweepError: if it is no note.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        points = from_columns(content["points"])
        beside = (path.parent / content["store"]).resolve()
        still = Path(content.get("place", beside))  # older notes do not name it
        place = still if still.is_dir() and not beside.is_dir() else beside
        return Record(path.parent, place, points, content["info"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise GpsweepError(f"{path}: expected a run's note about itself: {error}") from None


def outcome(
    store: Store, points: Sequence[Point], info: Mapping[str, Any], times: Mapping[str, float] | None = None
) -> Outcome:
    """Return the outcome of a run whose batches are all stored.

    Args:
        store: the counts.
        points: the points, in the order wanted.
        info: what is known of the run.
        times: ``start`` and ``test``, the seconds of this process.

    Raises:
        GpsweepError: if batches are missing, or no image has a truth.

    Warns:
        UserWarning: where all masks are of one class.
    """
    merged = store.merge(points)
    data = store.identity["data"]
    truth = merged.base[..., [metrics.TP, metrics.FN]].sum((0, 2))  # how much of each class
    if not truth.any():
        raise GpsweepError(
            f"data: all {len(merged.ids)} masks of {info.get('dataset', 'the data')} are void throughout; "
            "there is nothing to score"
        )
    present = truth.nonzero()[0].tolist()
    alone = len(present) == 1 < len(data["classes"])
    if alone and len(merged.ids) > 1 and metrics.is_segmentation(data["task"]):
        warnings.warn(
            f"data: all {len(merged.ids)} masks of {info.get('dataset', 'the data')} hold class "
            f"{data['classes'][present[0]]} alone, and void; masks of 0 and 255 take data.values=[0,255] and "
            "data.void=null",
            stacklevel=2,
        )
    spent = {"shared": merged.shared, "points": sum(merged.seconds)}
    return Outcome(
        points=list(points),
        counts=merged.counts,
        base=merged.base,
        task=data["task"],
        classes=tuple(data["classes"]),
        ids=merged.ids,
        seconds=merged.seconds,
        info={
            **info,
            "finished": datetime.now(UTC).isoformat("T", "seconds"),
            "device": ", ".join(merged.devices),
            "points_per_forward": max(merged.points_per_forward),
            "times": {**(times or {}), **spent},
            "cost": cost.summary(store.folder, points),
            **_neighbours(info, merged),
        },
    )


def _neighbours(info: Mapping[str, Any], merged: Merged) -> dict[str, Any]:
    """Return what is known of the nearest neighbours, and how often they alone tell the class, in %."""
    if "knn" not in info or merged.neighbours is None:
        return {}
    # Each image with a truth is right or missed, once.
    known = int(merged.base[..., [metrics.TP, metrics.FN]].sum())
    return {"knn": {"accuracy": 100 * sum(merged.neighbours) / max(known, 1), **info["knn"]}}
