"""What every tracker shows of a run, read from the files in its folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml  # type: ignore[import-untyped]

from gpsweep import pictures, results
from gpsweep.errors import GpsweepError
from gpsweep.points import AXES, Point
from gpsweep.results.outcome import read_info
from gpsweep.results.selection import ranked

if TYPE_CHECKING:
    import pandas as pd

PICTURES = ("*.png", "pictures/*.png")
FILES = (results.RESULTS, results.PER_CLASS, results.SUMMARY, results.SELECTION)
PROVENANCE = ("task", *results.KEPT, "samples")
SHARED = ("samples", "base")  # the same for all points of a run
BEST = (*AXES, "score", "delta", "delta_low", "delta_high", "cost", "p_value", "helps")
HELD = {
    **{axis: axis for axis in results.CURVE},
    "eps": "tune_eps",
    "delta": "held_delta",
    "low": "held_low",
    "high": "held_high",
    "p_value": "p_value",
    "helps": "helps",
}
"""What is told of a gain on held-out images, and what selection.csv calls it."""
HASHED = 8  # characters of a hash that tell apart what a person has named
EPS_STEPS = 3  # decimals of ε that a whole number of steps stands for

Record = dict[str, Any]


@dataclass(frozen=True)
class Tracked:
    """A finished run as trackers want it.

    Args:
        name: the model and the data set.
        config: the configuration of the run, nested, and where its numbers come from.
        base: score without perturbation, in %.
        samples: how many images were scored.
        points: one record a point, in the order of results.csv: its columns, and ``iou/CLASS``
            (``accuracy/CLASS``) in %; what is missing is left out.
        names: the name of each point's curve, see :func:`curve_names`.
        best: the record of the best point of each curve, with ``helps``.
        top: the best of them, the oracle aside.
        held: of ``select=half``, the ε chosen on some images and its gain on the others, see :data:`HELD`;
            else nothing.
        files: the tables and the summary.
        pictures: a name and a PNG for each picture of the run.
        captions: what those of images show, by the same names.
    """

    name: str
    config: dict[str, Any]
    base: float
    samples: int
    points: list[Record]
    names: list[str]
    best: dict[str, Record]
    top: Record
    held: Record
    files: list[Path]
    pictures: dict[str, Path]
    captions: dict[str, str]

    def rows(self) -> Iterator[dict[str, float]]:
        """Yield one row an ε, ascending: ``eps``, ``base`` and ``CURVE/score``, … of all curves."""
        for eps in sorted({point["eps"] for point in self.points}):
            row = {"eps": eps, "base": self.base}
            for name, point in zip(self.names, self.points, strict=True):
                if point["eps"] == eps:
                    row |= {f"{name}/{key}": value for key, value in measures(point).items()}
            yield row

    def curves(self) -> dict[str, list[Record]]:
        """Return the points of each curve, ε ascending."""
        found: dict[str, list[Record]] = {}
        for name, point in zip(self.names, self.points, strict=True):
            found.setdefault(name, []).append(point)
        return {name: sorted(points, key=lambda point: point["eps"]) for name, points in found.items()}

    def steps(self) -> dict[float, int]:
        """Return a whole number for each ε, for trackers that know no other x-axis: thousandths, or finer."""
        numbers = [Decimal(results.decimal(point["eps"])) for point in self.points]
        digits = max(EPS_STEPS, *(-int(number.as_tuple().exponent) for number in numbers))
        return {float(number): int(number.scaleb(digits)) for number in numbers}

    def headline(self) -> dict[str, Any]:
        """Return the numbers that runs are compared by: base, the best point of all, the held-out gain."""
        best = {f"best/{key}": self.top[key] for key in BEST if key in self.top}
        held = {f"held/{key}": value for key, value in self.held.items()}
        return {"base": self.base, "samples": self.samples, **best, **held}


def below(folder: Path, sweep: Path | None) -> Path:
    """Return where a run lies below its sweep, which tells jobs apart; by itself its folder's name."""
    run, top = folder.resolve(), (sweep or folder).resolve()
    return run.relative_to(top) if top in run.parents else Path(run.name)


def group_name(sweep: Path) -> str:
    """Return the name of a sweep, which no other has: where its folder lies below the working directory.

    Of one that is named by the time, the day and the time are enough; elsewhere a hash of the path tells
    folders of one name apart.

    >>> group_name(Path("outputs/2026-01-02/03-04-05")), group_name(Path("outputs/labels"))
    ('2026-01-02/03-04-05', 'outputs/labels')
    """
    path, here = sweep.resolve(), Path.cwd()
    if re.fullmatch(r"\d{4}-\d\d-\d\d", path.parent.name):
        return f"{path.parent.name}/{path.name}"
    if here in path.parents:
        return path.relative_to(here).as_posix()
    return f"{path.name}-{sha256(str(path).encode()).hexdigest()[:HASHED]}"


def place(folder: Path, sweep: Path | None) -> Path:
    """Return where a run lies in a folder that sweeps share: below its sweep's name, by itself its own."""
    return Path(group_name(sweep), below(folder, sweep)) if sweep else Path(group_name(folder))


def tracked(folder: Path) -> Tracked:
    """Read a finished run.

    Raises:
        GpsweepError: if its files are missing or damaged.
    """
    rows, by_class, summary = results.tables(folder)
    points = _points(rows, by_class, results.class_column(summary["task"]))
    names = curve_names(rows)
    # Tests, and whether a refined point helps, are known from the counts, and noted in the summary.
    if "best" not in summary:
        raise GpsweepError(f"{folder / results.SUMMARY}: expected the best points of a run; it has no best")
    helped = zip(results.best(rows).index.to_list(), summary["best"], strict=True)
    best = {names[at]: points[at] | tested(noted) for at, noted in helped}
    own = [record for record in best.values() if record["label"] != results.ORACLE] or list(best.values())
    return Tracked(
        name=f"{summary.get('model') or 'model'} on {summary.get('dataset') or 'data'}",
        config=configuration(folder)
        | {"provenance": {key: summary[key] for key in PROVENANCE if summary.get(key) is not None}},
        base=float(summary["base"]),
        samples=int(summary["samples"]),
        points=points,
        names=names,
        best=best,
        top=own[ranked([each["score"] for each in own], [each["eps"] for each in own])[0]],
        held=_held(summary),
        files=[folder / name for name in FILES if (folder / name).is_file()],
        pictures={
            path.relative_to(folder).with_suffix("").as_posix(): path
            for pattern in PICTURES
            for path in sorted(folder.glob(pattern))
        },
        captions=captions(folder, dict(zip(map(_point, points), names, strict=True))),
    )


def tested(noted: Mapping[str, Any]) -> Record:
    """Return what the summary notes of a best point's test, ``p_value`` where there was one and ``helps``."""
    known = {} if noted.get("p_value") is None else {"p_value": float(noted["p_value"])}
    return known | {"helps": bool(noted["helps"])}


def captions(folder: Path, names: Mapping[Point, str]) -> dict[str, str]:
    """Return what the pictures of a run's images show, by the pictures' names.

    Args:
        folder: the run's.
        names: those of its points' curves; pictures of another point are not its own.
    """
    point, shown = pictures.noted(folder)
    if point not in names:
        return {}
    at = f"{names[point]} eps={results.decimal(point.eps)}"
    told = _caption if point.eps else _unperturbed
    return {f"{pictures.FOLDER}/{Path(each.file).stem}": told(each, at) for each in shown}


def _caption(picture: pictures.Picture, at: str) -> str:
    if picture.point:  # of a classification
        word = "right" if picture.right else "wrong"
        return f"{picture.id}: {picture.base} → {picture.point}, {word}, at {at}"
    panels, changes = ", ".join(pictures.PANELS), f"{picture.right} pixels set right, {picture.wrong} wrong"
    return f"{picture.id}: {panels}; the point is {at}; {changes}"


def _unperturbed(picture: pictures.Picture, at: str) -> str:
    if picture.point:
        word = "right" if picture.right else f"wrong: {picture.truth}"
        return f"{picture.id}: {picture.base}, {word}, without perturbation"
    panels = ", ".join(pictures.UNPERTURBED)
    return f"{picture.id}: {panels}; {picture.right} pixels right, {picture.wrong} wrong"


def _point(record: Record) -> Point:
    return Point(**{axis: record[axis] for axis in AXES})


def _held(summary: Mapping[str, Any]) -> Record:
    # None without select=half, or where the oracle is the only curve; what has no number is left out.
    chosen = (summary.get("held_out") or {}).get("chosen") or {}
    return {key: chosen[name] for key, name in HELD.items() if chosen.get(name) is not None}


def _points(rows: pd.DataFrame, by_class: pd.DataFrame, column: str) -> list[Record]:
    classes = len(by_class) // max(len(rows), 1)
    scores = by_class[column].to_numpy(dtype=float).reshape(len(rows), classes)
    keys = unique([f"{column}/{word(str(name))}" for name in by_class["class"][:classes]])
    return [
        {key: value for key, value in record.items() if value == value}  # without NaN
        for record in (
            record | dict(zip(keys, values.tolist(), strict=True))
            for record, values in zip(results.records(rows), scores, strict=True)
        )
    ]


def curve_names(rows: pd.DataFrame) -> list[str]:
    """Name the curve of each point by its label and by what else differs: ``argmax/encoder_down``.

    Args:
        rows: the table of results.csv.
    """
    told = [axis for axis in results.CURVE if axis == "label" or rows[axis].nunique() > 1]
    curves = [tuple(row) for row in rows[told].itertuples(index=False)]
    distinct = list(dict.fromkeys(curves))
    names = unique(
        [
            "/".join(f"{value}x" if axis == "iterations" else word(str(value)) for axis, value in pairs)
            for pairs in (list(zip(told, curve, strict=True)) for curve in distinct)
        ]
    )
    naming = dict(zip(distinct, names, strict=True))
    return [naming[curve] for curve in curves]


def word(name: str) -> str:
    """Return a name without what a tracker takes for something else: dots nest, slashes make sections.

    >>> word("encoder.layer1@2")
    'encoder_layer1_2'
    """
    return re.sub(r"[^\w\- ]+", "_", name)


def unique(names: list[str]) -> list[str]:
    """Number the names that occur again, so that none hides another.

    >>> unique(["a_b", "c", "a_b"])
    ['a_b', 'c', 'a_b 2']
    """
    seen: set[str] = set()
    for at, name in enumerate(names):
        again, number = name, 2
        while again in seen:
            again, number = f"{name} {number}", number + 1
        seen.add(again)
        names[at] = again
    return names


def measures(point: Mapping[str, Any]) -> dict[str, float]:
    """Return what was measured at a point, without its setting and what all points share."""
    return {key: value for key, value in point.items() if key not in (*AXES, *SHARED)}


def configuration(folder: Path) -> dict[str, Any]:
    """Return the configuration that a run kept with its counts, resolved where it ran; without the tracker.

    Raises:
        GpsweepError: if the counts are missing or damaged.
    """
    content = yaml.safe_load(read_info(folder).get("config", "")) or {}
    return {str(key): value for key, value in content.items() if key != "tracker"}


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return a nested configuration with dotted keys; lists as text.

    >>> flat({"model": {"name": "unet", "aliases": {}}, "eps": [0, 1]})
    {'model.name': 'unet', 'model.aliases': '{}', 'eps': '[0, 1]'}
    """
    found: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value if isinstance(value, (bool, int, float, str)) else str(value)
    return found
