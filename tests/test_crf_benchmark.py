from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import crf


def test_time_and_memory_of_the_mean_field_layer() -> None:
    seconds, memory = crf.once(crf.noise(24), iterations=1)
    assert 0 < seconds < 60
    assert 0.1 < memory < 8


@pytest.mark.parametrize("make", [crf.photograph, crf.noise])
def test_pictures_are_in_grey_levels(make: Callable[[int], NDArray[np.float32]]) -> None:
    picture = make(20)
    assert picture.shape == (1, 3, 20, 20)
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert 100 < picture.max() <= 255


def test_both_pictures_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crf, "once", lambda picture, iterations: (12.0, 1.5))
    rows = list(crf.measure(repeats=2, side=8))
    assert [(row.item, row.unit, row.met) for row in rows] == 2 * [("m", "s", False), ("m", "GiB", True)]
