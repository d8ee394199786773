"""Numbers as people read them, the same in the page, on the terminal and in the tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpsweep import words
from gpsweep.results.significance import ROUNDING


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0.00"),
        (0.874, "+0.87"),
        (-1.5, "−1.50"),
        (0.0051, "+0.01"),
        (0.0049, "+0.005"),
        (0.004, "+0.004"),
        (-0.001, "−0.001"),
        (-0.00004, "−0.00004"),
        (7e-15, "0.00"),
    ],
)
def test_signed(number: float, text: str) -> None:
    assert words.signed(number) == text


@given(st.floats(-100, 100) | st.floats(-0.01, 0.01))
def test_a_change_lies_on_the_side_of_zero_that_a_verdict_puts_it_on(number: float) -> None:
    shown = float(words.signed(number, minus="-"))
    assert np.sign(shown) == (0 if abs(number) < ROUNDING else np.sign(number))
    assert abs(shown - number) <= 0.005 + 1e-12


@pytest.mark.parametrize(("number", "text"), [(62.1, "62.10"), (0.004, "0.00"), (-0.001, "0.00")])
def test_score(number: float, text: str) -> None:
    assert words.score(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0042, "4.2 ms"),
        (0, "0 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1 s"),
        (4.25, "4.25 s"),
        (754, "12 min 34 s"),
        (7300, "2 h 1 min"),
    ],
)
def test_seconds(number: float, text: str) -> None:
    assert words.seconds(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0.000022, "0.000022"), (0.00022, "0.00022"), (0, "0"), (9.96, "10"), (123.4, "123")]
)
def test_bare_seconds(number: float, text: str) -> None:
    assert words.bare_seconds(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0004, "<\xa00.001"),
        (0.0312, "0.031"),
        (0.0496, "0.0496"),
        (0.04999, "0.04999"),
        (0.05, "0.050"),
        (0.0504, "0.050"),
        (1.0, "1.000"),
    ],
)
def test_p(number: float, text: str) -> None:
    assert words.p(number) == text
