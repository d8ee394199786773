"""A finished run and the file that keeps it: counts.npz, from which every result can be made again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, is_zipfile
from zlib import error as ZlibError

import numpy as np
from numpy.typing import NDArray

from gpsweep.counts import Counts
from gpsweep.errors import GpsweepError, listing
from gpsweep.points import AXES, Point, columns, from_columns
from gpsweep.results.groups import groups_of
from gpsweep.results.halves import Places, halves

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
        info: ``dataset``, ``model``, ``weights_sha256``, ``data_sha256`` (of the images and their truth),
            ``versions`` (name → version), ``git_commit``, ``command``, ``config`` (YAML text), ``options``
            (key → value, of those that scores of the points depend on), ``select`` (see
            :func:`gpsweep.results.halves.plan`), ``groups`` (see
            :func:`gpsweep.results.groups.groups_of`), ``device``, ``layer_scale``,
            ``memory_format``, ``points_per_forward``, ``finished`` (when), ``knn`` (``accuracy`` in % of what
            the nearest training images alone tell, and how these are found), ``times`` (``start``,
            ``shared``, ``points``, ``test``: seconds), ``cost`` (see :func:`gpsweep.cost.summary`); what is
            missing is left out.

    Raises:
        ValueError: if the lengths and shapes do not agree.
    """

    points: list[Point]
    counts: Counts
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

    @cached_property
    def units(self) -> Outcome:
        """What counts as independent, in the images' place: their groups, with the counts summed.

        It is the outcome itself where no image shares a group.
        """
        names = groups_of(self.info.get("groups"), self.ids)
        number = {name: place for place, name in enumerate(dict.fromkeys(names))}
        if len(number) == len(self.ids):
            return self
        groups = np.array([number[name] for name in names], dtype=np.intp)
        base = np.zeros((len(number), *self.base.shape[1:]), dtype=np.int64)
        np.add.at(base, groups, self.base)
        info = {**self.info, "groups": None}
        return replace(self, counts=self.counts.grouped(groups), base=base, ids=list(number), info=info)

    @cached_property
    def halves(self) -> tuple[Places, Places]:
        """The places of the images that ε is chosen on, and of those that it is judged on.

        For outcomes with ``info["select"]``, which in runs of old says the groups as well.
        """
        return halves(self.ids, **{"groups": self.info.get("groups"), **self.info["select"]})

    @property
    def over(self) -> str:
        """What intervals and tests are over, in words."""
        return "images" if self.units is self else "groups of images"

    def at(self, points: Sequence[int]) -> Outcome:
        """Return the outcome of some points, given by their places in the grid, in the order given."""
        return replace(
            self,
            points=[self.points[place] for place in points],
            counts=self.counts.take(points),
            seconds=[self.seconds[place] for place in points],
        )

    def of(self, images: Sequence[int] | NDArray[np.intp]) -> Outcome:
        """Return the outcome of some images, given by their places among ``ids``, in the order given."""
        return replace(
            self,
            counts=self.counts.images(images),
            base=self.base[list(images)],
            ids=[self.ids[place] for place in images],
        )


def read(folder: Path) -> Outcome:
    """Return the outcome whose counts.npz a run left in a folder.

    Raises:
        GpsweepError: if its counts.npz is missing or not whole.
    """
    with _opened(folder) as arrays:
        return _unpack(arrays)


def read_info(folder: Path) -> dict[str, Any]:
    """Return what is known of an outcome, see :class:`Outcome`, and leave its counts where they are.

    Raises:
        GpsweepError: as :func:`read`.
    """
    with _opened(folder) as arrays:
        return _info(arrays)


@contextmanager
def _opened(folder: Path) -> Iterator[Mapping[str, np.ndarray[Any, Any]]]:
    path = Path(folder) / COUNTS
    if not path.is_file():
        raise GpsweepError(
            f"{folder}: expected a results folder with {COUNTS}, came {contents(Path(folder))}"
        )
    try:
        with path.open("rb") as file:
            if not is_zipfile(file):  # NumPy would advise to read it as a pickle
                raise ValueError("it is no archive, or cut short")
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                yield arrays
    except (BadZipFile, ZlibError, EOFError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise GpsweepError(
            f"{path}: expected the counts of a run, but they cannot be read: {error}"
        ) from None


def pack(outcome: Outcome) -> bytes:
    """Return the content of counts.npz: only counts above zero, the points as columns."""
    counted: dict[str, Any] = {f"counts_{name}": part for name, part in outcome.counts.arrays().items()}
    points: dict[str, Any] = {f"point_{axis}": own for axis, own in columns(outcome.points).items()}
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        base=outcome.base.astype(np.min_scalar_type(int(outcome.base.max(initial=0)))),
        task=np.asarray(outcome.task),
        classes=np.asarray(outcome.classes, dtype=np.str_),
        ids=np.asarray(outcome.ids, dtype=np.str_),
        seconds=np.asarray(outcome.seconds, dtype=np.float64),
        info=np.asarray(json.dumps(plain(outcome.info))),
        **counted,
        **points,
    )
    return buffer.getvalue()


def _unpack(arrays: Mapping[str, np.ndarray[Any, Any]]) -> Outcome:
    return Outcome(
        points=from_columns({axis: arrays[f"point_{axis}"].tolist() for axis in AXES}),
        counts=Counts.from_arrays(
            {name.removeprefix("counts_"): arrays[name] for name in arrays if name.startswith("counts_")}
        ),
        base=arrays["base"],
        task=str(arrays["task"]),
        classes=tuple(arrays["classes"].tolist()),
        ids=arrays["ids"].tolist(),
        seconds=arrays["seconds"].tolist(),
        info=_info(arrays),
    )


def _info(arrays: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    info: dict[str, Any] = json.loads(str(arrays["info"]))
    return info


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


def contents(folder: Path) -> str:
    """Say what is in a folder where something else was expected."""
    if not folder.is_dir():
        return "a file" if folder.exists() else "no such folder"
    names = sorted(path.name for path in folder.iterdir())
    return listing(names) if names else "an empty folder"
