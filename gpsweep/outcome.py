"""A finished run and the file that keeps it: counts.npz, from which every result can be made again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile
from zlib import error as ZlibError

import numpy as np

from gpsweep.errors import GpsweepError, listing
from gpsweep.points import AXES, Point

COUNTS = "counts.npz"


@dataclass(frozen=True, eq=False)
class Outcome:
    """Everything a finished run knows; every number it reports comes from here.

    Args:
        points: the points in grid order.
        counts: tp, fp and fn of every point, ``(points, images, classes, 3)``.
        base: the same without perturbation, ``(images, classes, 3)``.
        task: ``segmentation`` or ``classification``.
        classes: the names of the classes.
        ids: the names of the images.
        seconds: wall time of each point's own forward passes.
        info: ``dataset``, ``model``, ``weights_sha256``, ``versions`` (name → version), ``git_commit``,
            ``command``, ``config`` (YAML text), ``device``, ``layer_scale``, ``times`` (``start``,
            ``shared``, ``points``, ``test``: seconds); what is missing is left out.

    Raises:
        ValueError: if the lengths and shapes do not agree.
    """

    points: list[Point]
    counts: np.ndarray[Any, Any]
    base: np.ndarray[Any, Any]
    task: str
    classes: tuple[str, ...]
    ids: list[str]
    seconds: list[float]
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expected = (len(self.points), len(self.ids), len(self.classes), 3)
        if self.counts.shape != expected or self.base.shape != expected[1:]:
            raise ValueError(f"counts: expected {expected}, came {self.counts.shape}; base {self.base.shape}")
        if len(self.seconds) != len(self.points):
            raise ValueError(f"seconds: expected {len(self.points)} values, came {len(self.seconds)}")


def read(folder: Path) -> Outcome:
    """Return the outcome whose counts.npz a run left in a folder.

    Raises:
        GpsweepError: if its counts.npz is missing or not whole.
    """
    path = Path(folder) / COUNTS
    if not path.is_file():
        raise GpsweepError(
            f"{folder}: expected a results folder with {COUNTS}, came {contents(Path(folder))}"
        )
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return _unpack(dict(arrays))
    except (BadZipFile, EOFError, KeyError, OSError, TypeError, ValueError, ZlibError) as error:
        raise GpsweepError(
            f"{path}: expected the counts of a run, but they cannot be read: {error}"
        ) from None


def pack(outcome: Outcome) -> bytes:
    """Return the content of counts.npz: the smallest integers that hold the counts, the points as columns."""
    largest = max((int(array.max(initial=0)) for array in (outcome.counts, outcome.base)), default=0)
    smallest = np.min_scalar_type(largest)
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        counts=outcome.counts.astype(smallest),
        base=outcome.base.astype(smallest),
        task=np.asarray(outcome.task),
        classes=np.asarray(outcome.classes, dtype=np.str_),
        ids=np.asarray(outcome.ids, dtype=np.str_),
        seconds=np.asarray(outcome.seconds, dtype=np.float64),
        info=np.asarray(json.dumps(plain(outcome.info))),
        **{f"point_{axis}": np.asarray(values) for axis, values in axes(outcome.points).items()},
    )
    return buffer.getvalue()


def _unpack(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Outcome:
    settings = zip(*(arrays[f"point_{axis}"].tolist() for axis in AXES), strict=True)
    return Outcome(
        points=[Point(*setting) for setting in settings],
        counts=arrays["counts"],
        base=arrays["base"],
        task=str(arrays["task"]),
        classes=tuple(arrays["classes"].tolist()),
        ids=arrays["ids"].tolist(),
        seconds=arrays["seconds"].tolist(),
        info=json.loads(str(arrays["info"])),
    )


def axes(points: Sequence[Point]) -> dict[str, list[Any]]:
    """Return points as columns, one an axis."""
    return {axis: [getattr(point, axis) for point in points] for axis in AXES}


def plain(value: Any) -> Any:
    """Make JSON of any value: numpy's scalars become Python's, what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (str, int)) else str(value)


def save(path: Path, content: bytes) -> Path:
    """Write a file that is at any moment either the old one or the new one, never a part.

    Raises:
        GpsweepError: if it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise GpsweepError(
            f"{path.parent}: expected a folder that can be written, but {path.name} could not be: {why}"
        ) from None
    return path


def contents(folder: Path) -> str:
    """Say what is in a folder where something else was expected."""
    if not folder.is_dir():
        return "a file" if folder.exists() else "no such folder"
    names = sorted(path.name for path in folder.iterdir())
    return listing(names) if names else "an empty folder"
