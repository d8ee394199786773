"""MNIST from its four published idx files, gzipped or not."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gpsweep.data.base import CLASSIFICATION, Sample, Source, checked_limit, checked_size
from gpsweep.data.decode import resize_image, to_tensor
from gpsweep.data.files import existing_folder, is_file
from gpsweep.errors import GpsweepError, unknown

CLASSES = tuple("0123456789")
PREFIXES = {"train": "train", "test": "t10k"}
SIDE = 28
IMAGES_MAGIC = 2051
LABELS_MAGIC = 2049


class Digits:
    """Grey images ``(n, H, W)`` and their labels ``(n,)`` in memory."""

    task = CLASSIFICATION
    classes = CLASSES

    def __init__(
        self,
        *,
        split: str,
        images: NDArray[np.uint8],
        labels: NDArray[np.uint8],
        size: int | Sequence[int] | None = None,
    ) -> None:
        self.name = f"mnist-{split}"
        self.images = images
        self.labels = labels
        self.ids = [f"{split}/{number:05d}" for number in range(len(images))]
        self.size = checked_size(size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        image = np.repeat(self.images[index][..., None], 3, axis=2)
        target = torch.tensor(int(self.labels[index]))
        return Sample(image=to_tensor(resize_image(image, self.size)), target=target, id=self.ids[index])


def mnist(
    *,
    root: str,
    split: str = "test",
    limit: int | None = None,
    size: int | Sequence[int] | None = None,
) -> Source:
    """MNIST: handwritten digits of 28×28 grey pixels, classification.

    Args:
        root: the folder with ``t10k-images-idx3-ubyte`` and the like, gzipped or not.
        split: ``train`` or ``test``.
        limit: how many of the first samples to take; ``None`` for all.
        size: ``None`` for native sizes, ``S`` or ``[H, W]`` in pixels.

    Returns:
        The data set; ids like ``test/00042``.

    Raises:
        GpsweepError: naming the key, what was expected and what came.
    """
    checked_size(size)
    count = checked_limit(limit)
    if split not in PREFIXES:
        raise unknown("data.split", split, PREFIXES)
    base = existing_folder(root, key="data.root", expected="the four idx files of MNIST")
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
    return Digits(split=split, images=images[:count], labels=labels[:count], size=size)


def _found(base: Path, name: str) -> Path:
    for path in (base / name, base / f"{name}.gz"):
        if is_file(path):
            return path
    raise GpsweepError(f"data.root: {name} is missing in {base}, gzipped (.gz) or not")


def _idx(path: Path, *, magic: int, axes: int) -> NDArray[np.uint8]:
    """Read an idx file: magic number and sizes as big-endian 32-bit integers, then bytes."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise GpsweepError(f"data.root: {path} cannot be read: {error}") from error
    start = 4 * (1 + axes)
    if len(data) < start:
        raise GpsweepError(
            f"data.root: {path} is cut short: {len(data)} bytes; expected an idx header of {start}"
        )
    came, *shape = struct.unpack(f">{1 + axes}I", data[:start])
    if came != magic:
        raise GpsweepError(f"data.root: {path} begins with the magic number {came}; expected {magic}")
    expected = start + int(np.prod(shape, dtype=object))
    if len(data) != expected:
        raise GpsweepError(f"data.root: {path} has {len(data)} bytes; its header says {expected} for {shape}")
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(shape)
