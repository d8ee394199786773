"""Data sets made of image files, whatever the layout: found, checked and read in one way."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, Protocol

import torch

from gpsweep.atomic import is_file, is_folder, located
from gpsweep.data.base import (
    CLASSIFICATION,
    SEGMENTATION,
    VOID,
    Sample,
    Size,
    check_ids,
    checked_limit,
)
from gpsweep.data.decode import (
    extent,
    read_image,
    read_mask,
    to_tensor,
)
from gpsweep.data.legend import Legend, Mask, Targets
from gpsweep.data.sizing import Wanted, sizing
from gpsweep.errors import GpsweepError, listing, meant, unknown

PROBED = 32
PROBED_PIXELS = 4_000_000

UNCOMPRESSED = frozenset({".bmp", ".tif", ".tiff"})  # may be edited and keep their size


class Item(NamedTuple):
    """One sample on disk: its truth is a mask, or the number of its class, or nobody tells it."""

    id: str
    image: Path
    truth: Path | int | None


class MaskReader(Protocol):
    """Reads the numbers ``(H, W)`` of a mask."""

    def __call__(self, path: Path, /, *, key: str) -> Mask:
        """Read one mask; ``key`` is the configuration key to name where that fails."""
        ...


class Files:
    """Images on disk, each with a mask (segmentation) or a class (classification).

    Everything that can be known cheaply is checked at construction: that there are samples, each once,
    that their files exist, and that the first masks fit their images and the classes.
    """

    def __init__(
        self,
        *,
        name: str,
        classes: Sequence[str],
        items: Sequence[Item],
        root: Path,
        where: Path,
        legend: Legend | None = None,
        reader: MaskReader = read_mask,
        limit: int | None = None,
        size: Wanted = None,
        list_key: str = "data.split",
        image_key: str = "data.root",
        mask_key: str = "data.root",
        told: bytes = b"",
    ) -> None:
        """Check the samples.

        Args:
            name: name of the data set.
            classes: names of the classes.
            items: every sample, before ``limit``.
            root: the folder below which the files lie; errors name files relative to it.
            where: the list file or folder that names the samples.
            legend: what the masks' numbers mean; ``None`` for classification.
            reader: how masks are read.
            limit: how many of the first samples to take; ``None`` for all.
            size: how pictures are resized, see :func:`gpsweep.data.sizing.sizing`; ``None``: they are not.
            list_key: the configuration key behind ``where``.
            image_key: the configuration key behind the images.
            mask_key: the configuration key behind the masks.
            told: what else the truth comes from, such as a table of a file; part of the stamp.

        Raises:
            GpsweepError: naming the key and what does not fit.
        """
        self.sizing = sizing(size)
        count = checked_limit(limit)
        check_ids([item.id for item in items], key=list_key, where=where)
        self.name = name
        self.task = CLASSIFICATION if legend is None else SEGMENTATION
        self.classes = tuple(classes)
        self.items = list(items[:count])
        self.ids = [item.id for item in self.items]
        self.legend = legend
        self.reader = reader
        self.image_key = image_key
        self.mask_key = mask_key
        self.told = told
        images = [item.image for item in self.items]
        masks = [item.truth for item in self.items if isinstance(item.truth, Path)]
        self.unlabelled = all(item.truth is None for item in self.items)
        check_present("images", images, root=root, where=where, key=image_key)
        check_present("masks", masks, root=root, where=where, key=mask_key)
        self._probe()

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        item = self.items[index]
        image = read_image(item.image, key=self.image_key)
        resized = self.sizing.image(image, item.image)
        if isinstance(item.truth, int):
            target = torch.tensor(item.truth)
        elif item.truth is None or self.legend is None:
            target = torch.full(resized.shape[:2], VOID)
        else:
            mask = self._mask(item.image, item.truth, image.shape[:2], self.legend)
            target = torch.from_numpy(self.sizing.mask(mask, item.truth))
        return Sample(image=to_tensor(resized), target=target, id=item.id)

    def stamp(self) -> str:
        """Return a short hash over ids, masks and the sizes of images, wherever they lie.

        Raises:
            GpsweepError: when one of the files is not there any more.
        """
        digest = hashlib.sha256(self.told)
        try:
            for item in self.items:
                masks = [item.truth] if isinstance(item.truth, Path) else []
                files = [item.image, *masks]
                digest.update(f"{item.id}\0{[path.stat().st_size for path in files]}\n".encode())
                for path in files if item.image.suffix.lower() in UNCOMPRESSED else masks:
                    digest.update(path.read_bytes())
        except OSError as error:
            key = self.image_key
            raise GpsweepError(f"{key}: {error.filename} cannot be looked at: {error.strerror}") from error
        return digest.hexdigest()[:16]

    def _mask(self, image: Path, path: Path, size: Size, legend: Legend) -> Targets:
        mask = self.reader(path, key=self.mask_key)
        if mask.shape != size:
            raise GpsweepError(
                f"{self.mask_key}: mask {path} has {mask.shape[1]}×{mask.shape[0]} pixels and its image "
                f"{image} {size[1]}×{size[0]}; expected the same (EXIF orientation applied)"
            )
        return legend.targets(mask, path, key=self.mask_key)

    def _probe(self) -> None:
        """Read the first masks, so that numbers that do not fit are known before any network runs."""
        for item in self.items[:PROBED]:
            if self.legend is None or not isinstance(item.truth, Path):
                continue
            height, width = extent(item.image, key=self.image_key)
            if height * width <= PROBED_PIXELS:
                self._mask(item.image, item.truth, (height, width), self.legend)


def check_present(what: str, paths: Sequence[Path], *, root: Path, where: Path, key: str) -> None:
    """Refuse files that are named but not there, the first ten named.

    Args:
        what: ``images`` or ``masks``.
        paths: the files.
        root: the folder below which they lie.
        where: the list file or folder that names them.
        key: the configuration key behind them.

    Raises:
        GpsweepError: naming the key, the files and how many they are.
    """
    absent = [path for path in paths if not is_file(path)]
    if absent:
        names = [path.relative_to(root) if path.is_relative_to(root) else path for path in absent]
        raise missing(what, names, of=len(paths), root=root, where=where, key=key)


def missing(
    what: str, names: Sequence[object], *, of: int, root: Path, where: Path, key: str
) -> GpsweepError:
    """Build the error for files that are named but not there.

    Args:
        what: ``images`` or ``masks``.
        names: those that are missing.
        of: how many are named.
        root: the folder below which they should lie.
        where: the list file or folder that names them.
        key: the configuration key behind them.
    """
    return GpsweepError(
        f"{key}: {len(names)} of {of} {what} named by {where} are missing in {root}: {listing(names)}"
    )


def existing_folder(path: object, *, key: str, expected: str) -> Path:
    """Return the folder at ``path``, ``~`` expanded, absolute.

    Args:
        path: what the user gave.
        key: the configuration key.
        expected: what the folder should hold.

    Raises:
        GpsweepError: when there is no such folder.
    """
    folder = located(path).absolute()
    if path is None or not is_folder(folder):
        came = "not set" if path is None else "no such folder"
        near = "" if path is None else _beside(folder)
        where = f"{key}={'null' if path is None else path}"
        raise GpsweepError(f"{where}: {came}; expected {expected}{near and '.'}{near}")
    return folder


def _beside(folder: Path) -> str:
    """Name the folders whose names are nearest to one that is missing; begins with a space."""
    try:
        names = [path.name for path in folder.parent.iterdir() if path.is_dir()]
    except OSError:
        return ""
    return meant(get_close_matches(folder.name, sorted(names), n=3))


def home(root: str | Path | None, places: Sequence[str], *, marker: str | Path, expected: str) -> Path:
    """Find the folder that holds ``marker``: ``data.root`` itself, or one of some places in it.

    Args:
        root: what the user gave as ``data.root``.
        places: folders below it, in order of preference.
        marker: the folder that tells the data set.
        expected: what ``data.root`` should hold, and where it is published.

    Raises:
        GpsweepError: when there is none.
    """
    top = existing_folder(root, key="data.root", expected=expected)
    for base in (top, *(top / place for place in places)):
        if is_folder(base / marker):
            return base
    raise GpsweepError(f"data.root={root}: no {marker} in it; expected {expected}")


def list_file(folder: Path, split: str) -> Path:
    """Find the list that ``split`` names: ``folder/split.txt``, or a path to a list file.

    Raises:
        GpsweepError: when there is none; the nearest names are offered.
    """
    for path in (folder / f"{split}.txt", located(split), folder / str(split)):
        if is_file(path):
            return path
    names = sorted(path.stem for path in folder.glob("*.txt"))
    if names:
        raise unknown("data.split", split, names)
    raise GpsweepError(f"data.split={split}: no such list file, and no .txt list in {folder}")


def read_lines(path: Path, *, key: str = "data.split") -> list[str]:
    """Read a list file: its lines without surrounding blanks, empty ones left out.

    Raises:
        GpsweepError: when it is no UTF-8 text, or names something above its folder with ``..``.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise GpsweepError(f"{key}: list file {path} cannot be read as text: {error}") from error
    leaving = [line for line in lines if any(".." in re.split(r"[/\\]", field) for field in line.split())]
    if leaving:
        raise GpsweepError(f"{key}: {path} leaves the data's folder with '..': {listing(leaving)}")
    return [line for line in lines if line]


def read_names(path: Path, *, key: str = "data.split") -> list[str]:
    """Read a list file with a bare name a line, like 2007_000033.

    Raises:
        GpsweepError: as `read_lines`; or when a line is more than a name.
    """
    names = read_lines(path, key=key)
    for name in names:
        if len(name.split()) != 1 or "/" in name or "\\" in name:
            raise GpsweepError(f"{key}: {path} has the line '{name}'; expected one name, like 2007_000033")
    return names
