"""The split of the images: whole, reproducible, and checked before anything is computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpsweep.errors import GpsweepError
from gpsweep.results.halves import halves, plan

IDS = [f"image_{number:05d}" for number in range(40)]


@given(st.integers(2, 60), st.integers(0, 5))
def test_halves_share_no_image_and_miss_none(images: int, seed: int) -> None:
    ids = [str(number) for number in range(images)]
    tune, held = halves(ids, seed=seed)
    assert sorted([*tune, *held]) == list(range(images))
    assert len(tune) == images // 2
    again = halves(ids, seed=seed)
    np.testing.assert_array_equal(tune, again[0])


def test_another_seed_is_another_split() -> None:
    assert list(halves(IDS, seed=0)[0]) != list(halves(IDS, seed=1)[0])


def test_plan() -> None:
    assert plan("none", ids=IDS) is None
    assert plan("half", ids=IDS, seed=3) == {"seed": 3}
    kept = plan("half", ids=IDS, tune=[IDS[4], IDS[1], "of another split"])
    assert kept == {"tune": [IDS[4], IDS[1]]}
    tune, held = halves(IDS, **kept)
    assert list(tune) == [1, 4]
    assert len(held) == 38


def test_plans_that_cannot_be() -> None:
    with pytest.raises(GpsweepError, match=r"select=halve: unknown. Did you mean half\?"):
        plan("halve", ids=IDS)
    with pytest.raises(GpsweepError, match="select=half: expected at least two images to split, came 1"):
        plan("half", ids=IDS[:1])
    for tune, came in ((["a", "b"], "0 of 40"), (IDS, "40 of 40"), ([], "0 of 40")):
        with pytest.raises(
            GpsweepError, match=rf"data\.tune_split: expected .* came those of {came}; .*_00000"
        ):
            plan("half", ids=IDS, tune=tune)
