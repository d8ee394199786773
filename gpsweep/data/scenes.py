"""The embedded data set: segmentation scenes composed, from a seed, of scikit-learn's handwritten digits.

Everything is computed in whole numbers, so that the same seed gives the same bytes on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from gpsweep.data.base import SEGMENTATION, Sample, Size, check_choice, checked_limit, checked_size
from gpsweep.errors import GpsweepError

Integers = NDArray[np.int64]

CLASSES = ("background", *"0123456789")
SPLITS = ("train", "val")
HELD_OUT = 4  # one handwritten digit in four is kept for val

DIGITS = (2, 4)  # in a scene
MOST = 100_000  # scenes
SIDES = (40, 68)  # pixels of a digit with its margin
CONTRAST = (28, 64)  # grey levels between a stroke and what lies under it
GROUND = (72, 184)  # mean grey levels of the background
TEXTURES = (4, 12)  # cells along the shorter side
ROUGHNESS = 8  # grey levels of each texture
NOISE = 6  # grey levels, twice a pixel and channel
INSIDE = 7  # sixteenths of ink around a pixel that make it the digit's
TRIES = 8

INK = 16  # full ink in scikit-learn's digits
ONE = 256  # what the weights of a resampling add up to, so that they are whole numbers


class Handwriting(NamedTuple):
    """Handwritten digits with a margin of one cell: ``(n, 10, 10)``, 0 to 16, and their values ``(n,)``."""

    strokes: Integers
    values: Integers


class Scenes:
    """Scenes in memory: images ``(n, H, W, 3)`` and masks ``(n, H, W)``, both uint8."""

    name = "scenes"
    task = SEGMENTATION
    classes = CLASSES

    def __init__(self, *, split: str, images: NDArray[np.uint8], masks: NDArray[np.uint8]) -> None:
        self.images = images
        self.masks = masks
        self.ids = [f"{split}/{number:04d}" for number in range(len(images))]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        image = torch.from_numpy(self.images[index].transpose(2, 0, 1).copy())
        return Sample(image=image, target=torch.from_numpy(self.masks[index]).long(), id=self.ids[index])


def scenes(
    *,
    split: str = "val",
    seed: int = 0,
    count: int = 96,
    size: int | Sequence[int] | None = (96, 128),
    limit: int | None = None,
) -> Scenes:
    """Compose scenes of coloured handwritten digits on textured noise: background and ten classes.

    Scene i depends on ``seed``, ``split`` and i alone, and the two splits share no handwritten digit.

    Args:
        split: ``train`` or ``val``.
        seed: another seed gives other scenes of the same digits, ≥ 0.
        count: how many scenes there are.
        size: ``S`` or ``[H, W]`` of the canvas in pixels; digits keep their size. ``None``: 96×128.
        limit: how many of the first to take; ``None`` for all.

    Returns:
        The data set; ids like ``val/0042``.

    Raises:
        GpsweepError: naming the key, what was expected and what came.
    """
    check_choice("data.split", split, SPLITS)
    canvas = checked_size(size) or (96, 128)
    if min(canvas) < SIDES[1]:
        raise GpsweepError(f"data.size={size}: expected at least {SIDES[1]} pixels a side for data=scenes")
    for key, value, least in (("data.seed", seed, 0), ("data.count", count, 1)):
        if type(value) is not int or value < least:
            raise GpsweepError(f"{key}={value}: expected a whole number ≥ {least}")
    most = checked_limit(limit)
    total = count if most is None else min(count, most)
    if total > MOST:
        raise GpsweepError(f"data.count={count}: expected at most {MOST}, all of which are kept in memory")
    hand = handwriting(split)
    images = np.empty((total, *canvas, 3), dtype=np.uint8)
    masks = np.empty((total, *canvas), dtype=np.uint8)
    for number in range(total):
        generator = np.random.default_rng([seed, SPLITS.index(split), number])
        images[number], masks[number] = compose(generator, hand, canvas)
    return Scenes(split=split, images=images, masks=masks)


def handwriting(split: str) -> Handwriting:
    """Read the handwritten digits of a split, one in four being val's."""
    strokes, values = digits()
    chosen = (np.arange(len(values)) % HELD_OUT == HELD_OUT - 1) == (split == "val")
    cells = strokes[chosen].astype(np.int64).reshape(-1, 8, 8)
    return Handwriting(np.pad(cells, ((0, 0), (1, 1), (1, 1))), values[chosen].astype(np.int64))


def digits() -> tuple[NDArray[Any], NDArray[Any]]:
    """Read scikit-learn's handwritten digits: ink ``(1797, 64)``, 0 to 16, and values ``(1797,)``."""
    spec = find_spec("sklearn")
    folders = spec.submodule_search_locations if spec is not None else None
    file = Path(folders[0]) / "datasets" / "data" / "digits.csv.gz" if folders else None
    if file is not None and file.is_file():
        # Read where they lie: importing scikit-learn for them takes more than a second of every start.
        table = np.loadtxt(file, delimiter=",")
        return table[:, :-1], table[:, -1]
    from sklearn.datasets import load_digits

    strokes, values = load_digits(return_X_y=True)
    return strokes, values


def compose(
    generator: np.random.Generator, hand: Handwriting, canvas: Size
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one scene: a background, digits that hardly overlap, noise on top.

    Args:
        generator: the scene's own; its state after the call is of no use to others.
        hand: the handwritten digits to choose from.
        canvas: height and width in pixels.

    Returns:
        image ``(H, W, 3)``, RGB; mask ``(H, W)``, 0 for the background, 1 + value for a digit.
    """
    image = background(generator, canvas)
    mask = np.zeros(canvas, dtype=np.uint8)
    for _ in range(generator.integers(*DIGITS, endpoint=True)):
        chosen = generator.integers(len(hand.values))
        place = _free_place(generator, mask)
        if place is None:
            continue
        sides = mask[place].shape
        ink = enlarged(hand.strokes[chosen], sides) // INK
        image[place] += ink[..., None] * _colour(generator)
        mask[place][enlarged(thickened(hand.strokes[chosen]), sides) > INSIDE * ONE**2] = (
            1 + hand.values[chosen]
        )
    image //= ONE**2
    for _ in range(2):
        image += generator.integers(-NOISE, NOISE, image.shape, endpoint=True)
    return image.clip(0, 255).astype(np.uint8), mask


def background(generator: np.random.Generator, canvas: Size) -> Integers:
    """Draw a colour with a coarse and a fine texture: ``(H, W, 3)``, in 65536ths of a grey level."""
    image = np.zeros((*canvas, 3), dtype=np.int64) + generator.integers(*GROUND, 3) * ONE**2
    for cells in TEXTURES:
        grid = [1 + cells * side // min(canvas) for side in canvas]
        image += enlarged(generator.integers(-ROUGHNESS, ROUGHNESS, (*grid, 3), endpoint=True), canvas)
    return image


def enlarged(cells: Integers, size: Size) -> Integers:
    """Resample a grid smoothly to ``size``, values multiplied by 65536.

    Args:
        cells: ``(h, w)`` or ``(h, w, channels)``.
        size: (H, W) in pixels.

    Returns:
        ``(H, W)`` or ``(H, W, channels)``.
    """
    rows, columns = (spline(old, new) for old, new in zip(cells.shape, size, strict=False))
    tall: Integers = np.tensordot(rows, cells, axes=(1, 0))
    return np.moveaxis(np.tensordot(columns, tall, axes=(1, 1)), 0, 1)


def spline(cells: int, pixels: int) -> Integers:
    """Weights of quadratic B-spline resampling, ``(pixels, cells)``; each row adds up to 256."""
    place = (2 * np.arange(pixels) + 1) * cells / (2 * pixels) - 0.5
    nearest = np.floor(place + 0.5).astype(np.int64)
    offset = place - nearest
    before = np.rint(ONE * (0.5 - offset) ** 2 / 2).astype(np.int64)
    after = np.rint(ONE * (0.5 + offset) ** 2 / 2).astype(np.int64)
    weights = np.zeros((pixels, cells), dtype=np.int64)
    for shift, weight in ((-1, before), (0, ONE - before - after), (1, after)):
        np.add.at(weights, (np.arange(pixels), (nearest + shift).clip(0, cells - 1)), weight)
    return weights


def thickened(cells: Integers) -> Integers:
    """Let the ink of each cell reach its eight neighbours: ``(h, w)`` → ``(h, w)``."""
    tall = np.maximum.reduce([np.pad(cells, ((a, 2 - a), (0, 0))) for a in range(3)])[1:-1]
    wide: Integers = np.maximum.reduce([np.pad(tall, ((0, 0), (a, 2 - a))) for a in range(3)])[:, 1:-1]
    return wide


def _free_place(generator: np.random.Generator, mask: NDArray[np.uint8]) -> tuple[slice, slice] | None:
    """Choose a box of a digit's size that hardly meets the digits already there."""
    height = int(generator.integers(*SIDES, endpoint=True))
    width = int(
        generator.integers(max(SIDES[0], height * 3 // 4), min(SIDES[1], height * 5 // 4), endpoint=True)
    )
    for _ in range(TRIES):
        top = int(generator.integers(mask.shape[0] - height, endpoint=True))
        left = int(generator.integers(mask.shape[1] - width, endpoint=True))
        place = slice(top, top + height), slice(left, left + width)
        if np.count_nonzero(mask[place]) * 50 <= height * width:
            return place
    return None


def _colour(generator: np.random.Generator) -> Any:
    """Choose how a stroke differs from what lies under it: ``(3,)`` grey levels, the largest the contrast."""
    contrast = generator.integers(*CONTRAST, endpoint=True)
    direction = generator.integers(-ONE, ONE, 3, endpoint=True)
    return direction * contrast // max(1, np.abs(direction).max())
