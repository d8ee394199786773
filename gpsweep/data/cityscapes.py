"""Cityscapes: street scenes with fine annotations, in its 19 training classes."""

from __future__ import annotations

from gpsweep.data.base import Source, check_choice
from gpsweep.data.files import Files, Item, home
from gpsweep.data.legend import Legend
from gpsweep.data.sizing import Wanted

# The classes in the order of their training ids, with the number each has in *_labelIds.png.
NUMBERS = {
    "road": 7,
    "sidewalk": 8,
    "building": 11,
    "wall": 12,
    "fence": 13,
    "pole": 17,
    "traffic light": 19,
    "traffic sign": 20,
    "vegetation": 21,
    "terrain": 22,
    "sky": 23,
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}
VOID_NUMBERS = tuple(number for number in range(34) if number not in NUMBERS.values())
IMAGES = "leftImg8bit"
MASKS = "gtFine"
LAYOUT = (
    "the folder with leftImg8bit/ and gtFine/ of Cityscapes, published at https://www.cityscapes-dataset.com"
)


def cityscapes(
    *,
    root: str,
    split: str = "val",
    limit: int | None = None,
    size: Wanted = None,
) -> Source:
    """Cityscapes: 19 classes of street scenes, segmentation.

    Args:
        root: the folder with ``leftImg8bit/SPLIT/CITY/`` and ``gtFine/SPLIT/CITY/``.
        split: ``train``, ``val``, or another folder of ``leftImg8bit``; the masks of ``test`` are void.
        limit: how many of the first samples to take; ``None`` for all.
        size: how pictures are resized, see :func:`gpsweep.data.sizing.sizing`; ``None``: they are not.

    Returns:
        The data set; ids like ``frankfurt_000000_000294``.

    Raises:
        GpsweepError: naming the key, what was expected and what came.
    """
    base = home(root, ("cityscapes",), marker=IMAGES, expected=LAYOUT)
    splits = sorted(path.name for path in (base / IMAGES).iterdir() if path.is_dir())
    check_choice("data.split", split, splits)
    where = base / IMAGES / split
    ending = f"_{IMAGES}.png"
    images = sorted(where.glob(f"*/[!.]*{ending}"))
    names = [path.name.removesuffix(ending) for path in images]
    return Files(
        name=f"cityscapes-{split}",
        classes=tuple(NUMBERS),
        items=[
            Item(name, image, base / MASKS / split / image.parent.name / f"{name}_{MASKS}_labelIds.png")
            for name, image in zip(names, images, strict=True)
        ],
        root=base,
        where=where,
        legend=Legend(len(NUMBERS), VOID_NUMBERS, numbers=tuple(NUMBERS.values())),
        limit=limit,
        size=size,
    )
