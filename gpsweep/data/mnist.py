"""MNIST from its four published idx files, gzipped or not."""

from __future__ import annotations

import struct
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpsweep.atomic import is_file
from gpsweep.data.archive import LARGEST, opened
from gpsweep.data.arrays import Arrays
from gpsweep.data.base import Source, check_choice, checked_limit
from gpsweep.data.files import existing_folder
from gpsweep.data.sizing import Wanted, sizing
from gpsweep.errors import GpsweepError

CLASSES = tuple("0123456789")
PREFIXES = {"train": "train", "test": "t10k"}
SIDE = 28
IMAGES_MAGIC = 2051
LABELS_MAGIC = 2049
LAYOUT = "the four idx files of MNIST, published at http://yann.lecun.com/exdb/mnist/"


def mnist(
    *,
    root: str,
    split: str = "test",
    limit: int | None = None,
    size: Wanted = None,
) -> Source:
    """MNIST: handwritten digits of 28×28 grey pixels, classification.

    Args:
        root: the folder with ``t10k-images-idx3-ubyte`` and the like, gzipped or not.
        split: ``train`` or ``test``.
        limit: how many of the first samples to take; ``None`` for all.
        size: how pictures are resized, see :func:`gpsweep.data.sizing.sizing`; ``None``: they are not.

    Returns:
        The data set; ids like ``test/00042``.

    Raises:
        GpsweepError: naming the key, what was expected and what came.
    """
    sizing(size)
    count = checked_limit(limit)
    check_choice("data.split", split, PREFIXES)
    base = existing_folder(root, key="data.root", expected=LAYOUT)
    paths = [_found(base, f"{PREFIXES[split]}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    images = _idx(paths[0], magic=IMAGES_MAGIC, axes=3)
    labels = _idx(paths[1], magic=LABELS_MAGIC, axes=1)
    if images.shape[1:] != (SIDE, SIDE):
        raise GpsweepError(f"data.root: {paths[0]} holds images of {images.shape[1:]} pixels; expected 28×28")
    if len(images) != len(labels) or not len(images):
        raise GpsweepError(
            f"data.root: {paths[0]} holds {len(images)} images and {paths[1].name} {len(labels)} labels; "
            "expected as many of both, and at least one"
        )
    if labels.max() >= len(CLASSES):
        raise GpsweepError(f"data.root: {paths[1]} holds the label {labels.max()}; expected 0–9")
    return Arrays(
        name="mnist",
        split=split,
        classes=CLASSES,
        images=images[:count],
        labels=labels[:count],
        size=size,
    )


def _found(base: Path, name: str) -> Path:
    for path in (base / name, base / f"{name}.gz"):
        if is_file(path):
            return path
    raise GpsweepError(f"data.root: {name} is missing in {base}, gzipped (.gz) or not; expected {LAYOUT}")


def _idx(path: Path, *, magic: int, axes: int) -> NDArray[np.uint8]:
    """Read an idx file: magic number and sizes as big-endian 32-bit integers, then bytes."""
    start = 4 * (1 + axes)
    with opened(path, key="data.root") as stream:
        head = stream.read(start)
        if len(head) < start:
            raise GpsweepError(
                f"data.root: {path} is cut short: {len(head)} bytes; expected an idx header of {start}"
            )
        came, *shape = struct.unpack(f">{1 + axes}I", head)
        if came != magic:
            raise GpsweepError(f"data.root: {path} begins with the magic number {came}; expected {magic}")
        count = prod(shape)
        data = stream.read(min(count, LARGEST) + 1)
    if len(data) != count:
        more = " or more" if len(data) > count else ""
        raise GpsweepError(
            f"data.root: {path} has {start + len(data)} bytes{more}; "
            f"its header says {start + count} for {shape}"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
