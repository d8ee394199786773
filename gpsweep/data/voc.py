"""PASCAL VOC 2012, the segmentation task: indexed masks, list files of photograph names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpsweep.data.base import Source
from gpsweep.data.decode import Legend
from gpsweep.data.files import Files, Item, existing_folder, list_file, read_lines
from gpsweep.errors import GpsweepError

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
VOID_NUMBER = 255
LISTS = Path("ImageSets", "Segmentation")
LAYOUT = "VOC2012, VOCdevkit or its parent (with ImageSets/Segmentation, JPEGImages, SegmentationClass)"


def voc(
    *,
    root: str,
    split: str = "val",
    limit: int | None = None,
    size: int | Sequence[int] | None = None,
) -> Source:
    """PASCAL VOC 2012: 20 classes and background, segmentation.

    Args:
        root: ``VOC2012``, the ``VOCdevkit`` above it, or the folder above that.
        split: a list file of ``ImageSets/Segmentation`` without ``.txt``, or the path of one.
        limit: how many of the first samples to take; ``None`` for all.
        size: ``None`` for native sizes, ``S`` or ``[H, W]`` in pixels.

    Returns:
        The data set; ids like ``2007_000033``.

    Raises:
        GpsweepError: naming the key, what was expected and what came.
    """
    base = _base(existing_folder(root, key="data.root", expected=LAYOUT))
    where = list_file(base / LISTS, split)
    return Files(
        name=f"voc-{where.stem}",
        classes=CLASSES,
        items=[_item(base, line, where) for line in read_lines(where)],
        root=base,
        where=where,
        legend=Legend(len(CLASSES), (VOID_NUMBER,)),
        limit=limit,
        size=size,
    )


def _base(root: Path) -> Path:
    for base in (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012"):
        if (base / LISTS).is_dir():
            return base
    raise GpsweepError(f"data.root={root}: no {LISTS} in it; expected {LAYOUT}")


def _item(base: Path, name: str, where: Path) -> Item:
    if len(name.split()) != 1 or "/" in name:
        raise GpsweepError(f"data.split: {where} has the line '{name}'; expected one name, like 2007_000033")
    return Item(name, base / "JPEGImages" / f"{name}.jpg", base / "SegmentationClass" / f"{name}.png")
