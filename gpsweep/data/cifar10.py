"""CIFAR-10 in its published forms, and as a tree of pictures."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from gpsweep.atomic import is_file, is_folder, located
from gpsweep.data.archive import from_tar, from_zip, opened, opened_zip
from gpsweep.data.arrays import Arrays
from gpsweep.data.base import (
    CLASSIFICATION,
    Sample,
    Source,
    check_choice,
    check_ids,
    checked_limit,
)
from gpsweep.data.cifar_batches import SIDE, Labelled, binary_batch, python_batch
from gpsweep.data.decode import Picture, read_image, to_tensor
from gpsweep.data.files import Files, Item
from gpsweep.data.sizing import Wanted, sizing
from gpsweep.errors import GpsweepError, listing

KEY = "data.root"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
BATCHES = {"train": tuple(f"data_batch_{number}" for number in range(1, 6)), "test": ("test_batch",)}
PUBLISHED = "published at https://www.cs.toronto.edu/~kriz/cifar.html"
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar10_jpeg")
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-binary.tar.gz", "cifar10_jpeg.zip")
LAYOUT = (
    f"one of {', '.join((*FOLDERS, *ARCHIVES))}, or a folder with one of them, or with train/CLASS and "
    f"test/CLASS; {PUBLISHED}"
)
HIDDEN = ("._", "__MACOSX")  # what a Mac adds
PICTURE = re.compile(r"(?:.*/)?(train|test)/([^/]+)/([^/]+)\.(?:jpg|jpeg|png)", re.IGNORECASE)


def cifar10(
    *,
    root: str,
    split: str = "test",
    limit: int | None = None,
    size: Wanted = None,
) -> Source:
    """CIFAR-10: photographs of 32×32 pixels in ten classes, classification.

    Figures from pictures that were compressed as JPEG are not comparable with the original's: such a data
    set is named ``cifar10-jpeg-SPLIT``.

    Args:
        root: the published archive, for Python or binary, or the folder it unpacks to; a zip archive or a
            folder of ``train|test/CLASS/NAME.jpg`` (or ``.png``); or a folder with one of these.
        split: ``train`` or ``test``.
        limit: how many of the first samples to take; ``None`` for all.
        size: how pictures are resized, see :func:`gpsweep.data.sizing.sizing`; ``None``: they are not.

    Returns:
        The data set; ids like ``test/00042``, or ``test/cat/0004`` for pictures, where classes alternate.

    Raises:
        GpsweepError: naming the key, what was expected and what came.
    """
    sizing(size)
    count = checked_limit(limit)
    check_choice("data.split", split, BATCHES)
    found = _found(located(root).absolute(), root)
    if found.suffix == ".zip":
        return Zipped(found, split=split, limit=count, size=size)
    if found.is_dir() and not _has_batches(found):
        return _tree(found, split, limit, size)
    parts = _batches(found, split)
    return Arrays(
        name="cifar10",
        split=split,
        classes=CLASSES,
        images=np.concatenate([part.images for part in parts])[:count],
        labels=np.concatenate([part.labels for part in parts])[:count],
        size=size,
    )


def _found(base: Path, root: str) -> Path:
    """Find the archive or folder that holds the data: ``base``, or one of the known names in it."""
    if is_file(base):
        return base
    for path in (base, *(base / name for name in FOLDERS)):
        if _has_batches(path) or any(is_folder(path / split / CLASSES[0]) for split in BATCHES):
            return path
    for name in ARCHIVES:
        if is_file(base / name):
            return base / name
    came = "nothing of CIFAR-10 in it" if is_folder(base) else "no such file or folder"
    raise GpsweepError(f"{KEY}={root}: {came}; expected {LAYOUT}")


def _has_batches(folder: Path) -> bool:
    return any(is_file(path) for split in BATCHES for path in _batch_files(folder, split))


def _batch_files(folder: Path, split: str) -> list[Path]:
    return [folder / f"{name}{ending}" for ending in ("", ".bin") for name in BATCHES[split]]


def _batches(found: Path, split: str) -> list[Labelled]:
    """Read all batches of a split, from a folder or an archive, whichever form they have."""
    names = BATCHES[split]
    if found.is_dir():
        contents = {}
        for path in filter(is_file, _batch_files(found, split)):
            with opened(path, key=KEY) as stream:
                contents[path.name] = stream.read()
    else:
        contents = from_tar(found, {path.name for path in _batch_files(found, split)}, key=KEY)
    binary = f"{names[0]}.bin" in contents
    absent = [name for name in (f"{name}.bin" if binary else name for name in names) if name not in contents]
    if absent:
        raise GpsweepError(f"{KEY}: {listing(absent)} missing in {found}; expected {LAYOUT}")
    if binary:
        return [binary_batch(contents[f"{name}.bin"], found / f"{name}.bin", key=KEY) for name in names]
    return [python_batch(contents[name], found / name, key=KEY) for name in names]


class Entry(NamedTuple):
    """A picture in a tree of ``train|test/CLASS/NAME.jpg``."""

    stem: str
    label: int
    path: str


def _pictures(names: Sequence[str], split: str, where: Path) -> list[Entry]:
    """Find a split's pictures among file names; classes alternate, so that a limit leaves all of them."""
    seen = (name for name in names if not any(part.startswith(HIDDEN) for part in name.split("/")))
    parts = [(name, match) for name in seen if (match := PICTURE.fullmatch(name)) and match[1] == split]
    folders = {match[2] for _, match in parts}
    if folders != set(CLASSES):
        raise GpsweepError(
            f"{KEY}: {where} has {len(folders)} classes in {split}: {listing(sorted(folders))}; "
            f"expected {listing(CLASSES)}"
        )
    return sorted(Entry(match[3], CLASSES.index(match[2]), name) for name, match in parts)


def _name(pictures: Sequence[Entry], split: str) -> str:
    """Name the data set so that compressed pictures are not taken for the original."""
    lossless = all(picture.path.lower().endswith(".png") for picture in pictures)
    return f"cifar10-{'png' if lossless else 'jpeg'}-{split}"


def _tree(found: Path, split: str, limit: int | None, size: Wanted) -> Source:
    names = [path.relative_to(found).as_posix() for path in (found / split).glob("*/*")]
    pictures = _pictures(names, split, found)
    return Files(
        name=_name(pictures, split),
        classes=CLASSES,
        items=[
            Item(f"{split}/{CLASSES[label]}/{stem}", found / path, label) for stem, label, path in pictures
        ],
        root=found,
        where=found / split,
        limit=limit,
        size=size,
    )


class Zipped:
    """Pictures in a zip archive, held in memory: compressed, and those that were read decoded as well."""

    task = CLASSIFICATION
    classes = CLASSES

    def __init__(
        self,
        path: Path,
        *,
        split: str,
        limit: int | None = None,
        size: Wanted = None,
    ) -> None:
        """Read the pictures' bytes.

        Args:
            path: the archive.
            split: ``train`` or ``test``.
            limit: how many of the first to take.
            size: how pictures are resized, see :func:`gpsweep.data.sizing.sizing`; ``None``: they are not.
        """
        self.path = path
        self.sizing = sizing(size)
        with opened_zip(path, key=KEY) as archive:
            pictures = _pictures(archive.namelist(), split, path)
            chosen = pictures[:limit]
            self.contents = from_zip(archive, [picture.path for picture in chosen], path, key=KEY)
        self.name = _name(pictures, split)
        self.ids = [f"{split}/{CLASSES[label]}/{stem}" for stem, label, _ in chosen]
        check_ids(self.ids, key=KEY, where=path)
        self.labels = [picture.label for picture in chosen]
        self.decoded: dict[int, Picture] = {}

    def __len__(self) -> int:
        return len(self.contents)

    def __getitem__(self, index: int) -> Sample:
        image = to_tensor(self.sizing.image(self._picture(index), self.ids[index]))
        return Sample(image=image, target=torch.tensor(self.labels[index]), id=self.ids[index])

    def _picture(self, index: int) -> Picture:
        """Decode a picture when it is first read: each epoch would take as long again."""
        image = self.decoded.get(index)
        if image is None:
            name = self.ids[index]
            image = read_image(f"{self.path}/{name}", key=KEY, content=self.contents[index])
            if image.shape[:2] != (SIDE, SIDE):
                raise GpsweepError(
                    f"{KEY}: {name} of {self.path} has {image.shape[:2]} pixels; expected 32×32"
                )
            self.decoded[index] = image
        return image

    def stamp(self) -> str:
        """Return a short hash over the pictures' bytes, wherever the archive lies."""
        digest = hashlib.sha256()
        for name, content in zip(self.ids, self.contents, strict=True):
            digest.update(f"{name} {len(content)}\n".encode() + content)
        return digest.hexdigest()[:16]
