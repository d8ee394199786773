"""What numbers and colours in masks mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gpsweep.data.base import VOID
from gpsweep.data.legend import Legend, voc_colours
from gpsweep.data.palette import palette
from gpsweep.errors import GpsweepError

PATH = Path("m/a.png")
KEY = "data.masks"


def test_palette_is_that_of_the_development_kit() -> None:
    colours = palette()
    assert colours.shape == (256, 3)
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
    }
    assert {number: tuple(colours[number].tolist()) for number in known} == known
    assert tuple(colours[255].tolist()) == (224, 224, 192)  # the cream of void borders
    assert len(np.unique(colours, axis=0)) == 256


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=2, max_dims=2, max_side=9)))
def test_colours_give_their_numbers_back(mask: np.ndarray) -> None:
    assert np.array_equal(voc_colours().numbers(palette()[mask], PATH, key=KEY), mask)


def test_other_colours_are_named() -> None:
    picture = palette()[np.zeros((2, 3), dtype=int)]
    picture[0, 0], picture[1, 1] = (1, 2, 3), (255, 255, 255)
    with pytest.raises(
        GpsweepError, match=r"data\.masks: mask m/a\.png holds #010203, #ffffff; expected the col"
    ):
        voc_colours().numbers(picture, PATH, key=KEY)


def test_classes_may_have_numbers_of_their_own() -> None:
    legend = Legend(3, (0, 9), numbers=(7, 8, 11))
    assert legend.targets(np.array([[7, 11, 0], [8, 9, 7]]), PATH, key=KEY).tolist() == [
        [0, 2, VOID],
        [1, VOID, 0],
    ]
    with pytest.raises(GpsweepError, match=r"holds 1, 10; expected classes 7–8, 11 or void 0, 9$"):
        legend.targets(np.array([[10, 1, 7]]), PATH, key=KEY)


@given(st.sets(st.integers(0, 40), min_size=2, max_size=20), st.data())
def test_every_number_is_a_class_or_void_or_refused(numbers: set[int], data: st.DataObject) -> None:
    order = data.draw(st.permutations(sorted(numbers)))
    classes, void = tuple(order[:-1]), (order[-1],)
    legend = Legend(len(classes), void, numbers=classes)
    for number in range(42):
        mask = np.full((1, 1), number)
        if number in numbers:
            expected = VOID if number in void else classes.index(number)
            assert legend.targets(mask, PATH, key=KEY).tolist() == [[expected]]
        else:
            with pytest.raises(GpsweepError, match=f"holds {number}; expected"):
                legend.targets(mask, PATH, key=KEY)
