"""Resizing and cropping, against Pillow and torchvision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image
from torchvision.transforms import v2

from gpsweep.data.sizing import Sizing, sizing
from gpsweep.errors import GpsweepError


def picture(height: int, width: int) -> Any:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (None, Sizing()),
        (32, Sizing(stretch=(32, 32))),
        ([2, 3], Sizing(stretch=(2, 3))),
        ({"shorter": 256, "crop": 224}, Sizing(shorter=256, crop=(224, 224))),
        (OmegaConf.create({"crop": [2, 3]}), Sizing(crop=(2, 3))),
        ({"stretch": 9, "interpolation": "bicubic"}, Sizing(stretch=(9, 9), interpolation="bicubic")),
        ({}, Sizing()),
    ],
)
def test_ways_to_resize(size: Any, expected: Sizing) -> None:
    assert sizing(size) == expected


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("big", r"data\.size=big: expected null"),
        ({"shortest": 256}, r"data\.size=shortest: unknown\. Did you mean shorter"),
        ({"shorter": 2.5}, r"data\.size\.shorter=2\.5: expected whole pixels"),
        ({"shorter": True}, r"data\.size\.shorter=True"),
        ({"crop": 0}, r"data\.size\.crop=0: expected"),
        ({"stretch": [1, 2, 3]}, r"data\.size\.stretch=\[1, 2, 3\]"),
        ({"shorter": 8, "stretch": 8}, r"one of stretch and shorter, came both"),
        ({"interpolation": ["bicubic"]}, r"data\.size\.interpolation=\['bicubic'\]: unknown"),
        ({"interpolation": "cubic"}, r"data\.size\.interpolation=cubic: unknown\. Did you mean bicubic"),
    ],
)
def test_nonsense(size: Any, message: str) -> None:
    with pytest.raises(GpsweepError, match=message):
        sizing(size)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@given(
    native=st.tuples(st.integers(8, 60), st.integers(8, 60)),
    shorter=st.integers(8, 40),
    data=st.data(),
)
def test_what_torchvision_does(
    interpolation: str, native: tuple[int, int], shorter: int, data: st.DataObject
) -> None:
    """The evaluation that classifiers are published with, pixel by pixel."""
    crop = data.draw(st.tuples(st.integers(1, shorter), st.integers(1, shorter)))
    image = picture(*native)
    kinds = {"bilinear": v2.InterpolationMode.BILINEAR, "bicubic": v2.InterpolationMode.BICUBIC}
    theirs = v2.Compose([v2.Resize(shorter, kinds[interpolation]), v2.CenterCrop(crop)])
    ours = sizing({"shorter": shorter, "crop": crop, "interpolation": interpolation}).image(image, "a")
    assert np.array_equal(ours, np.asarray(theirs(Image.fromarray(image))))


@given(native=st.tuples(st.integers(4, 30), st.integers(4, 30)), shorter=st.integers(4, 30), data=st.data())
def test_masks_follow_their_images(native: tuple[int, int], shorter: int, data: st.DataObject) -> None:
    """To the same size and place, each pixel the nearest one."""
    crop = data.draw(st.one_of(st.none(), st.tuples(st.integers(1, shorter), st.integers(1, shorter))))
    mask = np.random.default_rng(0).integers(0, 9, native)
    way = Sizing(shorter=shorter, crop=crop)
    found = way.mask(mask, "a")
    assert found.shape == way.image(picture(*native), "a").shape[:2]
    resized = [shorter * side // min(native) for side in native]
    # Where a new pixel's centre lies on a border, Pillow takes either side of it.
    borders = [
        (2 * i + 1) * old % (2 * new) == 0
        for old, new in zip(native, resized, strict=True)
        for i in range(new)
    ]
    assume(not any(borders))
    nearest = v2.Compose(
        [v2.Resize(shorter, v2.InterpolationMode.NEAREST), *([v2.CenterCrop(crop)] if crop else [])]
    )
    assert np.array_equal(found, np.asarray(nearest(Image.fromarray(mask.astype(np.uint8)))))


@pytest.mark.parametrize("way", [Sizing(), Sizing(stretch=(4, 6)), Sizing(shorter=4), Sizing(crop=(4, 6))])
def test_what_has_its_size_stays(way: Sizing) -> None:
    image, mask = picture(4, 6), np.arange(24).reshape(4, 6)
    assert np.array_equal(way.image(image, "a"), image)
    assert np.array_equal(way.mask(mask, "a"), mask)


@pytest.mark.parametrize(
    "of",
    [
        lambda way: way.image(picture(20, 30), "a.jpg"),
        lambda way: way.mask(np.zeros((20, 30), dtype=np.int64), "a.jpg"),
    ],
)
def test_a_crop_larger_than_the_picture(of: Callable[[Sizing], object]) -> None:
    with pytest.raises(GpsweepError, match=r"at least 24×24 pixels, a\.jpg has 30×20; set shorter"):
        of(Sizing(crop=(24, 24)))


def test_nearest_takes_the_pixel_under_the_centre() -> None:
    mask = np.arange(12).reshape(2, 6)
    assert Sizing(stretch=(1, 2)).mask(mask, "a").tolist() == [[7, 10]]
    assert Sizing(stretch=(4, 6)).mask(mask, "a").tolist() == np.repeat(mask, 2, axis=0).tolist()


def test_images_shrink_with_antialiasing() -> None:
    board = np.indices((8, 8)).sum(axis=0) % 2 * np.uint8(255)
    image = np.repeat(board.astype(np.uint8)[..., None], 3, axis=2)
    small = Sizing(stretch=(2, 2)).image(image, "a")
    assert small.shape == (2, 2, 3)
    assert np.abs(small.astype(int) - 127).max() <= 12  # without it, 0 or 255
