"""Counts on disk, batch by batch: what was once computed is never computed again, and never lost.

A store holds one folder for each *identity*: everything that could change a number, see
:mod:`gpsweep.identity`. In it lies one file for each batch and set of points, whole or absent. So a killed
run goes on where it stopped, a run with more ε computes only those, and the shards and devices of one run
write side by side without asking each other.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gpsweep.atomic import save, save_first, set_aside
from gpsweep.counts import Counts
from gpsweep.errors import GpsweepError, listing
from gpsweep.points import Point, columns
from gpsweep.store import chunk as chunks
from gpsweep.store.chunk import Chunk, DamagedError

IDENTITY = "identity.json"
SUFFIX = ".counts"
SETTLED = "points_per_forward"
KEY_LENGTH = 16

T = TypeVar("T")

__all__ = ["Chunk", "Merged", "Store", "digest"]


@dataclass(frozen=True, eq=False)
class Merged:
    """All batches of a run put together.

    Args:
        ids: the samples.
        counts: ``(points, images, classes, 3)``.
        base: ``(images, classes, 3)``.
        seconds: of each point, summed over the batches.
        shared: seconds of what the points share.
        devices: what computed them, in words.
        points_per_forward: the numbers that occur.
        neighbours: whether the nearest training images alone tell the class, image by image; None where that
            is not known of all.
    """

    ids: list[str]
    counts: Counts
    base: np.ndarray[Any, Any]
    seconds: list[float]
    shared: float
    devices: list[str]
    points_per_forward: list[int]
    neighbours: list[bool] | None = None


class Store:
    """The stored counts of one identity.

    Args:
        root: the folder of all stores.
        identity: everything that could change a number, as JSON; with ``data.samples`` and ``batch_size``.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any]) -> None:
        self.identity = dict(identity)
        canonical = json.dumps(self.identity, sort_keys=True)
        self.key = sha256(canonical.encode()).hexdigest()[:KEY_LENGTH]
        self.folder = root / self.key
        self._held: dict[str, frozenset[Point]] = {}

    @classmethod
    def at(cls, folder: Path) -> Store:
        """Return the store that an earlier run left in a folder.

        Raises:
            GpsweepError: if there is none.
        """
        path = folder / IDENTITY
        try:
            store = cls(folder.parent, json.loads(path.read_text(encoding="utf-8"))["identity"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise GpsweepError(f"{path}: expected the identity of stored counts: {error}") from None
        if store.key != folder.name:
            raise GpsweepError(f"{path}: expected the identity {folder.name}, came {store.key}")
        return store

    @property
    def batches(self) -> int:
        """How many batches the data make."""
        return math.ceil(int(self.identity["data"]["samples"]) / int(self.identity["batch_size"]))

    def describe(self, about: Mapping[str, Any]) -> None:
        """Write down, once, what this folder holds; again where that is damaged.

        Args:
            about: what a person wants to know besides the identity.

        Raises:
            GpsweepError: if it cannot be written.
        """
        try:
            Store.at(self.folder)
        except GpsweepError:
            content = json.dumps({"about": dict(about), "identity": self.identity}, indent=2)
            save(self.folder / IDENTITY, content.encode() + b"\n")

    def settle(self, measure: Callable[[], int]) -> int:
        """Return how many ε ride in one forward pass where that is measured: what the first process found.

        Counts differ by rounding between one number and another; so all that share an identity share it.

        Args:
            measure: finds a number where there is none yet.

        Raises:
            GpsweepError: if it cannot be written.
        """
        path = self.folder / SETTLED
        if path.is_file() and not path.read_bytes().strip().isdigit():
            path.unlink(missing_ok=True)  # damaged
        if not path.is_file():
            save_first(path, b"%d\n" % measure())
        return int(path.read_bytes())

    def put(self, chunk: Chunk) -> Path:
        """Store a batch's counts.

        Raises:
            GpsweepError: if the disk is full or cannot be written.
        """
        return save(self.folder / _name(chunk.batch, chunk.points), chunks.pack(chunk))

    def discard(self, points: Sequence[Point]) -> None:
        """Remove all that is stored of some points, and what is stored in the same files.

        Raises:
            GpsweepError: if a file cannot be removed.
        """
        for path in self.folder.glob(f"*{SUFFIX}"):
            try:
                if not self._points(path).isdisjoint(points):
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise GpsweepError(f"fresh=true: cannot remove {path}: {error.strerror}") from None

    def missing(
        self, points: Sequence[Point], batches: Iterable[int] | None = None
    ) -> dict[int, list[Point]]:
        """Return which points are missing in which batches; batches that are complete are left out.

        A damaged file is named, set aside, and counts as missing.

        Args:
            points: which points are looked for.
            batches: numbers of the batches that are looked at; None: all.

        Raises:
            GpsweepError: if a file cannot be read.
        """
        wanted = range(self.batches) if batches is None else batches
        files = self._files(points)
        left: dict[int, list[Point]] = {}
        for batch in wanted:
            open_points = dict.fromkeys(points)
            for path in files.get(batch, ()):
                useful = [point for point in open_points if point in self._points(path)]
                if useful and self._or_aside(chunks.check, path) is not None:
                    for point in useful:
                        del open_points[point]
                if not open_points:
                    break
            if open_points:
                left[batch] = list(open_points)
        return left

    def merge(self, points: Sequence[Point]) -> Merged:
        """Put all batches together.

        Args:
            points: which points, in the order wanted.

        Raises:
            GpsweepError: if batches are missing, or were computed on other data under the same names.
        """
        files = self._files(points)
        found = {batch: self._batch(batch, points, files.get(batch, ())) for batch in range(self.batches)}
        parts = [part for part in found.values() if part is not None]
        if left := [batch for batch, part in found.items() if part is None]:
            raise GpsweepError(
                f"{self.folder}: {len(left)} of {self.batches} batches are not complete ({listing(left)}); "
                "the command that made them goes on where it stopped"
            )
        votes = [part.neighbours for part in parts if part.neighbours is not None]
        return Merged(
            ids=[name for part in parts for name in part.ids],
            counts=Counts.beside([part.counts for part in parts]),
            base=np.concatenate([part.base for part in parts]),
            seconds=np.sum([part.seconds for part in parts], axis=0).tolist(),
            shared=sum(part.shared for part in parts),
            devices=sorted({part.device for part in parts}),
            points_per_forward=sorted({part.points_per_forward for part in parts}),
            neighbours=[right for own in votes for right in own] if len(votes) == len(parts) else None,
        )

    def _batch(self, batch: int, points: Sequence[Point], paths: Sequence[Path]) -> Chunk | None:
        """Return a batch's points in the order wanted, from as many files as it takes, None if some lack."""
        place: dict[Point, tuple[int, int]] = {}
        used: list[Chunk] = []
        for path in paths:
            if any(point not in place and point in self._points(path) for point in points):
                chunk = self._or_aside(chunks.read, path)
                if chunk is not None:
                    for row, point in enumerate(chunk.points):
                        place.setdefault(point, (len(used), row))
                    used.append(chunk)
            if all(point in place for point in points):
                break
        else:
            return None
        if len({(chunk.content, chunk.base.tobytes(), *chunk.ids) for chunk in used}) > 1:
            devices = sorted({chunk.device for chunk in used})
            what = "the network has" if len(devices) == 1 else f"they were counted on {listing(devices)}"
            raise GpsweepError(
                f"{self.folder}: the images or masks of batch {batch} ({used[0].ids[0]}, …) have changed "
                f"since they were counted first, or {what}; fresh=true computes all of it again"
            )
        return _chosen(used, [place[point] for point in points], points)

    def _files(self, points: Sequence[Point]) -> dict[int, list[Path]]:
        """List the files of each batch, the one that holds exactly these points first."""
        exact = digest(points)
        found: dict[int, list[Path]] = {}
        for path in sorted(self.folder.glob(f"*{SUFFIX}")):
            batch = path.name.partition("-")[0]
            if batch.isdigit():
                found.setdefault(int(batch), []).append(path)
        for paths in found.values():
            paths.sort(key=lambda path: _digest_of(path) != exact)
        return found

    def _points(self, path: Path) -> frozenset[Point]:
        """Return which points a file holds; its name says that it holds the same as others of that name."""
        named = _digest_of(path)
        if named not in self._held:
            chunk = self._or_aside(chunks.read, path)
            if chunk is None:
                return frozenset()
            self._held[named] = frozenset(chunk.points)
        return self._held[named]

    def _or_aside(self, look: Callable[[Path], T], path: Path) -> T | None:
        """Look at a file, or set it aside where it is damaged."""
        try:
            return look(path)
        except FileNotFoundError:
            return None  # another process has set it aside
        except OSError as error:
            raise GpsweepError(f"store: {path} cannot be read: {error.strerror}") from None
        except DamagedError as error:
            warnings.warn(
                f"store: {path} is damaged ({error}); it is set aside as {set_aside(path).name}, "
                "its batch is computed again",
                stacklevel=2,
            )
            return None


def _chosen(used: Sequence[Chunk], places: Sequence[tuple[int, int]], points: Sequence[Point]) -> Chunk:
    """Take some rows of some chunks of one batch."""
    first = used[0]
    starts = np.cumsum([0, *(len(chunk.points) for chunk in used)])
    stacked = first.counts if len(used) == 1 else Counts.below([chunk.counts for chunk in used])
    rows = [int(starts[chunk]) + row for chunk, row in places]
    seconds = [second for chunk in used for second in chunk.seconds]
    return Chunk(
        batch=first.batch,
        ids=first.ids,
        points=list(points),
        counts=stacked if rows == list(range(len(stacked))) else stacked.take(rows),
        base=first.base,
        seconds=[seconds[row] for row in rows],
        shared=sum(chunk.shared for chunk in used),
        content=first.content,
        device=first.device,
        points_per_forward=first.points_per_forward,
        neighbours=first.neighbours,
    )


def digest(points: Sequence[Point]) -> str:
    """Return what names a set of points in files and folders."""
    return sha256(json.dumps(columns(points)).encode()).hexdigest()[:KEY_LENGTH]


def _name(batch: int, points: Sequence[Point]) -> str:
    return f"{batch:06d}-{digest(points)}{SUFFIX}"


def _digest_of(path: Path) -> str:
    return path.name.removesuffix(SUFFIX).partition("-")[2]
