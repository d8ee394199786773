"""PASCAL VOC 2012, the segmentation task: indexed masks, list files of photograph names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gpsweep.atomic import is_file, located
from gpsweep.data.base import Source
from gpsweep.data.files import Files, Item, home, list_file, read_names
from gpsweep.data.legend import Legend
from gpsweep.data.sizing import Wanted
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
LAYOUT = (
    "VOC2012, VOCdevkit or its parent (with ImageSets/Segmentation, JPEGImages, SegmentationClass), "
    "published at http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
)
TEST = "test.txt"
REDUCED = "reduced346"
REDUCED_COUNT = 346
SBD_LISTS = ("train.txt", "val.txt")
SBD_PUBLISHED = "http://home.bharathh.info/pubs/codes/SBD/download.html"


def voc(
    *,
    root: str,
    split: str = "val",
    sbd: str | None = None,
    limit: int | None = None,
    size: Wanted = None,
) -> Source:
    """PASCAL VOC 2012: 20 classes and background, segmentation.

    Args:
        root: ``VOC2012``, the ``VOCdevkit`` above it, or the folder above that.
        split: a list file of ``ImageSets/Segmentation`` without ``.txt``, or the path of one; ``reduced346``:
            val without the images of SBD's train and val, as published networks are judged on;
            ``test``: without masks.
        sbd: the folder of SBD's ``train.txt`` and ``val.txt``, for ``reduced346`` alone.
        limit: how many of the first samples to take; ``None`` for all.
        size: how pictures are resized, see :func:`gpsweep.data.sizing.sizing`; ``None``: they are not.

    Returns:
        The data set; ids like ``2007_000033``. The targets of ``test`` are void throughout.

    Raises:
        GpsweepError: naming the key, what was expected and what came.
    """
    base = home(root, ("VOC2012", "VOCdevkit/VOC2012"), marker=LISTS, expected=LAYOUT)
    reduced = split == REDUCED and not is_file(base / LISTS / f"{REDUCED}.txt")
    where = list_file(base / LISTS, "val" if reduced else split)
    names = read_names(where)
    if reduced:
        names = _reduced(names, sbd)
    return Files(
        name=f"voc-{REDUCED if reduced else where.stem}",
        classes=CLASSES,
        items=[_item(base, name, masked=where != base / LISTS / TEST) for name in names],
        root=base,
        where=where,
        legend=Legend(len(CLASSES), (VOID_NUMBER,)),
        limit=limit,
        size=size,
    )


def _reduced(names: Sequence[str], sbd: str | None) -> list[str]:
    """Leave out what SBD's lists name.

    Raises:
        GpsweepError: when they are not there, or not 346 images remain.
    """
    folder = located(sbd).absolute()
    lists = [folder / name for name in SBD_LISTS]
    if sbd is None or not all(is_file(path) for path in lists):
        raise GpsweepError(
            f"data.sbd={'null' if sbd is None else sbd}: data.split={REDUCED} needs SBD's {SBD_LISTS[0]} and "
            f"{SBD_LISTS[1]} there (benchmark_RELEASE/dataset), published at {SBD_PUBLISHED}"
        )
    taken = {name for path in lists for name in read_names(path, key="data.sbd")}
    kept = [name for name in names if name not in taken]
    if len(kept) != REDUCED_COUNT:
        raise GpsweepError(
            f"data.sbd={sbd}: val without SBD's lists is {len(kept)} of {len(names)} images; "
            f"expected {REDUCED_COUNT}, of the 1449 of VOC 2012's val"
        )
    return kept


def _item(base: Path, name: str, *, masked: bool) -> Item:
    mask = base / "SegmentationClass" / f"{name}.png" if masked else None
    return Item(name, base / "JPEGImages" / f"{name}.jpg", mask)
