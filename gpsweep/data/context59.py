"""PASCAL-Context: whole scenes of PASCAL VOC 2010 in the 59 most frequent classes."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gpsweep.atomic import is_file, located
from gpsweep.data.base import Source, check_choice
from gpsweep.data.decode import read_mask
from gpsweep.data.files import Files, Item, existing_folder, list_file, read_lines, read_names
from gpsweep.data.legend import Legend, Mask
from gpsweep.data.matlab import read_label_map
from gpsweep.data.sizing import Wanted
from gpsweep.errors import GpsweepError, listing

# In the published order of 59_labels.txt, which is that of the published networks' outputs after background.
NAMES = """
aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant
sheep sofa train tvmonitor bag bed bench book building cabinet ceiling clothes computer cup door fence floor
flower food grass ground keyboard light mountain mouse curtain platform sign plate road rock shelves
sidewalk sky snow bedcloth track tree truck wall water window wood
"""
CLASSES = tuple(NAMES.split())
# What labels.txt calls a class that 59_labels.txt calls otherwise.
CALLED = {"diningtable": "table", "bedcloth": "bedclothes", "clothes": "cloth"}
ORDERS = ("published", "alphabetical")
CONVERTED = "SegmentationClassContext"  # where MMSegmentation's converter leaves its PNGs
LABELS = 459
PUBLISHED = "published at https://cs.stanford.edu/~roozbeh/pascal-context/"
MASKS = f"PASCAL-Context's trainval folder of .mat files, or a folder of PNGs with numbers 0–59, {PUBLISHED}"
IMAGES = "JPEGImages of VOC2010, published at http://host.robots.ox.ac.uk/pascal/VOC/voc2010/"
LISTS = ("SegmentationContext", "Main")


def context59(
    *,
    root: str,
    images: str = "VOCdevkit/VOC2010/JPEGImages",
    masks: str = "context59/trainval",
    order: str | None = None,
    labels: str | None = None,
    split: str | None = "val",
    background: bool = True,
    limit: int | None = None,
    size: Wanted = None,
) -> Source:
    """PASCAL-Context in 59 classes (Mottaghi et al., CVPR 2014), with or without what is none of them.

    Args:
        root: the folder that the others are relative to.
        images: the folder of the photographs.
        masks: the folder of ``.mat`` files with 459 labels, or of PNGs with the numbers 0–59, or with these
            numbers in PASCAL VOC's colours.
        order: what the numbers in PNGs count: the classes as ``published`` in ``59_labels.txt``, or by the
            names of ``labels.txt`` in ``alphabetical`` order, as MMSegmentation converts them. ``None``:
            as published, but to be said of a folder that bears the converter's name. The data's own classes
            are always in the published order.
        labels: ``labels.txt``, the names of the 459; ``None``: beside ``masks``. PNGs need none.
        split: a list file without ``.txt`` of ``ImageSets/SegmentationContext`` beside ``images``, or where
            there is no such folder of ``ImageSets/Main``, or the path of one; ``None`` for all masks.
        background: whether what is none of the 59 is a class of its own, the first, as FCN is scored; else
            it is void.
        limit: how many of the first samples to take; ``None`` for all.
        size: how pictures are resized, see :func:`gpsweep.data.sizing.sizing`; ``None``: they are not.

    Returns:
        The data set; ids like ``2008_000002``.

    Raises:
        GpsweepError: naming the key, what was expected and what came.
    """
    top = located(root)
    photographs = existing_folder(top / located(images), key="data.images", expected=IMAGES)
    truth = existing_folder(top / located(masks), key="data.masks", expected=MASKS)
    matlab = next(truth.glob("[!.]*.mat"), None) is not None
    ending = ".mat" if matlab else ".png"
    if split is None:
        where, names = truth, sorted(path.stem for path in truth.glob(f"[!.]*{ending}"))
    else:
        lists = [photographs.parent / "ImageSets" / name for name in LISTS]
        where = list_file(next((folder for folder in lists if folder.is_dir()), lists[-1]), split)
        names = read_names(where)
    if order is not None:
        check_choice("data.order", order, ORDERS)
    if matlab:
        table = _table(truth.parent / "labels.txt" if labels is None else top / located(labels))
        reader, told, counted = partial(_mapped, table=table), table.tobytes(), CLASSES
    else:
        reader, told, counted = partial(read_mask, coloured=True), b"", _counted(order, truth)
    numbers = ((0,) if background else ()) + tuple(counted.index(name) + 1 for name in CLASSES)
    return Files(
        name=f"context59-{where.stem if split else 'all'}",
        classes=(("background",) if background else ()) + CLASSES,
        items=[Item(name, photographs / f"{name}.jpg", truth / f"{name}{ending}") for name in names],
        root=top,
        where=where,
        legend=Legend(len(numbers), () if background else (0,), numbers=numbers),
        reader=reader,
        limit=limit,
        size=size,
        image_key="data.images",
        mask_key="data.masks",
        told=told,
    )


def _counted(order: str | None, masks: Path) -> tuple[str, ...]:
    """Return the classes in the order that the numbers in a folder of PNGs count them in, from 1.

    Raises:
        GpsweepError: when it is to be said.
    """
    if order is None and masks.name == CONVERTED:
        raise GpsweepError(
            f"data.order=null: the PNGs of MMSegmentation's {CONVERTED} number the classes by the alphabet; "
            "expected data.order=alphabetical for them, or data.order=published for 59_labels.txt's order"
        )
    return tuple(sorted(CLASSES, key=_called)) if order == "alphabetical" else CLASSES


def _called(name: str) -> str:
    """Return what labels.txt calls a class."""
    return CALLED.get(name, name)


def _table(path: Path) -> NDArray[np.uint8]:
    """Map the 459 labels to 1–59, and what is none of these to 0, by their names.

    Raises:
        GpsweepError: when the file is not there, or not the list of 459 names.
    """
    if not is_file(path):
        raise GpsweepError(f"data.labels: {path} is missing; expected the names of 459 labels, {PUBLISHED}")
    numbers: dict[str, int] = {}
    for line in read_lines(path, key="data.labels"):
        number, _, name = line.partition(":")
        if not number.strip().isdecimal() or not 1 <= int(number) <= LABELS or not name.strip():
            raise GpsweepError(
                f"data.labels: {path} has the line '{line}'; expected 'NUMBER: NAME', 1–{LABELS}"
            )
        numbers[name.strip()] = int(number)
    absent = [name for name in CLASSES if _called(name) not in numbers]
    if len(set(numbers.values())) != LABELS or absent:
        lacking = f", without {listing(absent)}" if absent else ""
        raise GpsweepError(f"data.labels: {path} names {len(numbers)} labels{lacking}; expected {LABELS}")
    table = np.zeros(LABELS + 1, dtype=np.uint8)
    for place, name in enumerate(CLASSES, start=1):
        table[numbers[_called(name)]] = place
    return table


def _mapped(path: Path, *, key: str, table: NDArray[np.uint8]) -> Mask:
    labels = read_label_map(path, key=key)
    if labels.max() > LABELS:
        raise GpsweepError(f"{key}: mask {path} holds {labels.max()}; expected labels 0–{LABELS}")
    return table[labels]
