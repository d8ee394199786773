"""Numbers as people read them, the same in the page, on the terminal and in the tables."""

from __future__ import annotations

import pytest

from gpsweep import words


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0.00"), (-0.001, "0.00"), (0.874, "+0.87"), (-1.5, "−1.50")],
)
def test_signed(number: float, text: str) -> None:
    assert words.signed(number) == text


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
