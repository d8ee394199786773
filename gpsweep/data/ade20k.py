"""ADE20K as the scene parsing benchmark has it: 150 classes of places indoors and outdoors."""

from __future__ import annotations

from pathlib import Path

from gpsweep.data.base import Source, check_choice
from gpsweep.data.files import Files, Item, home
from gpsweep.data.legend import Legend
from gpsweep.data.sizing import Wanted

NAMES = """
wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth,
door, table, mountain, plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug,
field, armchair, seat, fence, desk, rock, wardrobe, lamp, bathtub, railing, cushion, base, box, column,
signboard, chest of drawers, counter, sand, sink, skyscraper, fireplace, refrigerator, grandstand, path,
stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge, bookcase, blind, coffee
table, toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair,
boat, bar, arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth,
television, airplane, dirt track, apparel, pole, land, bannister, escalator, ottoman, bottle, buffet,
poster, stage, van, ship, fountain, conveyer belt, canopy, washer, plaything, swimming pool, stool, barrel,
basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step, tank, trade name, microwave, pot,
animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light, tray,
ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
"""
CLASSES = tuple(" ".join(name.split()) for name in NAMES.split(","))
VOID_NUMBER = 0
FOLDERS = {"train": "training", "val": "validation"}
LAYOUT = (
    "ADEChallengeData2016 (with images/validation, annotations/validation), "
    "published at http://sceneparsing.csail.mit.edu"
)


def ade20k(
    *,
    root: str,
    split: str = "val",
    limit: int | None = None,
    size: Wanted = None,
) -> Source:
    """ADE20K: the 150 classes of the scene parsing benchmark, segmentation; what is none of them is void.

    Args:
        root: ``ADEChallengeData2016``, or the folder above it.
        split: ``train`` or ``val``.
        limit: how many of the first samples to take; ``None`` for all.
        size: how pictures are resized, see :func:`gpsweep.data.sizing.sizing`; ``None``: they are not.

    Returns:
        The data set; ids like ``ADE_val_00000001``.

    Raises:
        GpsweepError: naming the key, what was expected and what came.
    """
    check_choice("data.split", split, FOLDERS)
    part = FOLDERS[split]
    base = home(root, ("ADEChallengeData2016",), marker=Path("images", part), expected=LAYOUT)
    where = base / "images" / part
    names = sorted(path.stem for path in where.glob("[!.]*.jpg"))
    return Files(
        name=f"ade20k-{split}",
        classes=CLASSES,
        items=[
            Item(name, where / f"{name}.jpg", base / "annotations" / part / f"{name}.png") for name in names
        ],
        root=base,
        where=where,
        legend=Legend(len(CLASSES), (VOID_NUMBER,), numbers=tuple(range(1, len(CLASSES) + 1))),
        limit=limit,
        size=size,
    )
