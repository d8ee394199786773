from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpsweep.errors import GpsweepError
from gpsweep.points import (
    AXES,
    LONGEST,
    MOST,
    Grid,
    Point,
    columns,
    cover,
    decimal_range,
    from_columns,
    grid,
)


def test_the_paper_s_range_is_forty_exact_decimals() -> None:
    values = decimal_range(-1, 1, 0.05)
    assert len(values) == 40
    assert values[0] == -1.0
    assert values[-1] == 0.95
    assert [repr(v) for v in values[18:23]] == ["-0.1", "-0.05", "0.0", "0.05", "0.1"]
    assert all(math.copysign(1, v) > 0 for v in values if v == 0)


@given(
    start=st.integers(-50, 50),
    count=st.integers(0, 60),
    step=st.integers(1, 40),
    short=st.integers(0, 39),
    places=st.integers(0, 4),
)
def test_ranges_are_the_nearest_floats_of_the_decimals(
    start: int, count: int, step: int, short: int, places: int
) -> None:
    scale, stop = 10**places, start + count * step
    stop -= min(short, step - 1) if count else 0  # the end lies between two values, or on one
    values = decimal_range(start / scale, stop / scale, step / scale)
    assert values == [float(f"{(start + i * step) / scale:.{places}f}") for i in range(count)]


def test_descending_and_empty_ranges() -> None:
    assert decimal_range(1, -1, -0.5) == [1.0, 0.5, 0.0, -0.5]
    assert decimal_range(1, 0, 0.5) == []
    with pytest.raises(GpsweepError, match="step must not be 0"):
        decimal_range(0, 1, 0)
    with pytest.raises(GpsweepError, match="finite"):
        decimal_range(0, math.inf, 1)
    with pytest.raises(GpsweepError, match=r"range\(0,1,1e-09\): expected at most 10000 values, came 10+"):
        decimal_range(0, 1, 1e-9)


def test_as_many_as_are_allowed_are_allowed() -> None:
    assert len(decimal_range(0, LONGEST, 1)) == LONGEST
    assert grid(eps=range(MOST // 500), iterations=500).iterations[-1] == 500
    assert grid(label="knn", labels=["knn"]).label == ("knn",)


def test_axes_multiply_and_doubles_are_dropped() -> None:
    made = grid(label=["argmax", "top2", "argmax"], eps=[-1, 0, 1, 0.0], layer=["input", "conv"])
    assert made == Grid(
        ("argmax", "top2"), ("eq5",), ("input", "conv"), ("sign",), (1,), ("none",), (-1.0, 0.0, 1.0)
    )
    assert len(made) == 2 * 2 * 3
    assert made.points()[:2] == [Point(eps=-1.0), Point(eps=0.0)]
    assert [p.eps for p in made.curves()] == [0.0] * 4


def test_refinements_are_an_axis_before_eps() -> None:
    made = grid(refine=["none", "flip"], eps=[0, 1], iterations=2)
    assert len(made) == 8
    assert [(p.iterations, p.refine, p.eps) for p in made.points()[1:4]] == [
        (1, "none", 1.0),
        (1, "flip", 0.0),
        (1, "flip", 1.0),
    ]
    assert cover(made.points()) == [Grid(*(getattr(made, axis) for axis in AXES))]
    assert [p.refine for p in made.curves()] == ["none", "flip"] * 2
    added = [p for p in made.points() if p.refine == "flip" or p.eps == 1]
    assert sorted(p for part in cover(added) for p in part.points()) == sorted(added)


SETTINGS = st.builds(
    Point,
    label=st.sampled_from(["argmax", "top2"]),
    layer=st.sampled_from(["input", "conv"]),
    iterations=st.integers(1, 3),
    refine=st.sampled_from(["none", "flip"]),
    eps=st.sampled_from([-1.0, 0.0, 1.0]),
)


@given(st.lists(SETTINGS, unique=True))
def test_few_grids_hold_exactly_the_given_points(points: list[Point]) -> None:
    grids = cover(points)
    assert sorted(point for each in grids for point in each.points()) == sorted(points)
    assert len(grids) <= len({point.curve() for point in points})


def test_columns_and_back() -> None:
    points = grid(eps=[0, 1], refine=["none", "crf"]).points()
    assert from_columns(columns(points)) == points


def test_what_float_ranges_spoil_is_mended() -> None:
    assert grid(eps=[5.551115123125783e-17, -0.7999999999999999, -0.0]).eps == (0.0, -0.8)
    assert str(grid(eps=-1e-17).eps[0]) == "0.0"


@pytest.mark.parametrize("number", [np.float32(0.5), np.array(0.5), [np.array([0.5])]])
def test_numbers_of_an_array_are_numbers(number: object) -> None:
    assert grid(eps=number).eps == (0.5,)


def test_a_trajectory_passes_through_fewer_iterations() -> None:
    assert grid(iterations=3).iterations == (1, 2, 3)
    assert grid(iterations=[1, 2]).iterations == (1, 2)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"eps": "abc"}, r"eps=abc: expected a number or a list of numbers, came 'abc'"),
        ({"eps": math.nan}, "eps=nan: expected a finite number"),
        ({"eps": [0, math.inf]}, "eps=inf: expected a finite number"),
        ({"eps": "nan"}, "eps=nan: expected a finite number"),
        ({"eps": []}, r"eps=\[\]: expected a value or a list of values, came an empty list"),
        ({"eps": None}, "eps=None: expected a number"),
        ({"eps": True}, "eps=True: expected a number"),
        ({"eps": {"a": 1}}, r"eps=\{'a': 1\}: expected a value or a list of values, came a dict"),
        ({"eps": range(2000), "iterations": 501}, "expected at most 1000000 points, came 1002000"),
        ({"label": []}, r"label=\[\]"),
        ({"label": "argmin"}, r"label=argmin: unknown\. Did you mean argmax\?"),
        ({"label": None}, "label=None"),
        ({"signal": "eq"}, r"signal=eq: unknown\. Did you mean eq5"),
        ({"step": "signs"}, r"step=signs: unknown\. Did you mean sign"),
        ({"refine": []}, r"refine=\[\]"),
        ({"refine": "flips"}, r"refine=flips: unknown\. Did you mean flip\?"),
        ({"refine": None}, "refine=None: unknown"),
        ({"label": "knn", "refine": "flip", "labels": ["knn"]}, "refine=flip: expected none with label=knn"),
        ({"layer": ""}, "layer=: expected a name"),
        ({"layer": None}, "layer=None: expected a name, came nothing"),
        ({"iterations": 1.5}, "iterations=1.5: expected a whole number"),
        ({"iterations": "x"}, "iterations=x: expected a number"),
        ({"iterations": 10**400}, "iterations=10+: expected a number"),
        ({"iterations": math.inf}, "iterations=inf: expected a whole number"),
    ],
)
def test_mistakes_name_the_axis(axes: dict[str, object], message: str) -> None:
    with pytest.raises(GpsweepError, match=message):
        grid(**axes)
