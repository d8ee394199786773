"""What is stored of one batch: a file that says itself whether it is whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from gpsweep.atomic import sealed, unseal
from gpsweep.counts import Counts
from gpsweep.points import Point, columns, from_columns

KIND = "counts"


@dataclass(frozen=True, eq=False)
class Chunk:
    """The counts of some points on one batch.

    Args:
        batch: the batch's number within the data.
        ids: the batch's samples.
        points: the points.
        counts: tp, fp and fn, ``(points, N, classes, 3)``.
        base: the same without perturbation, ``(N, classes, 3)``.
        seconds: wall time of each point's own forward passes.
        shared: wall time of what the points share.
        content: hash of the batch's images and truth.
        device: what computed it, in words.
        points_per_forward: how many ε rode in one forward pass.
        neighbours: whether the nearest training images alone tell the class, image by image; None where
            nothing asked for them.
    """

    batch: int
    ids: list[str]
    points: list[Point]
    counts: Counts
    base: np.ndarray[Any, Any]
    seconds: list[float]
    shared: float
    content: str
    device: str
    points_per_forward: int
    neighbours: list[bool] | None = None


class DamagedError(Exception):
    """A file is not what was once written."""


def pack(chunk: Chunk) -> bytes:
    """Return a chunk's file, sealed."""
    about = {key: value for key, value in vars(chunk).items() if key not in ("points", "counts", "base")}
    counted: dict[str, Any] = chunk.counts.arrays()
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        about=np.asarray(json.dumps(about)),
        points=np.asarray(json.dumps(columns(chunk.points))),
        base=chunk.base.astype(np.min_scalar_type(int(chunk.base.max(initial=0)))),
        **counted,
    )
    return sealed(KIND, buffer.getbuffer())


def check(path: Path) -> bool:
    """Say that a file is what was once written, which is quick beside reading its chunk.

    Raises:
        DamagedError: if it is not.
        OSError: if it cannot be read at all.
    """
    try:
        with path.open("rb") as file:
            unseal(file, KIND)
    except ValueError as error:
        raise DamagedError(str(error)) from error
    return True


def read(path: Path) -> Chunk:
    """Return the chunk of a file.

    Raises:
        DamagedError: if the file is not whole.
        OSError: if it cannot be read at all.
    """
    try:
        with path.open("rb") as file:
            unseal(file, KIND)
            arrays = dict(np.load(file, allow_pickle=False))
        return Chunk(
            points=from_columns(json.loads(str(arrays["points"]))),
            counts=Counts.from_arrays(arrays),
            base=arrays["base"],
            **json.loads(str(arrays["about"])),
        )
    except (BadZipFile, EOFError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(str(error)) from error
