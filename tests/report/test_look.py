"""Colours stand out from what is behind them, on paper and on a dark page."""

from __future__ import annotations

import re

import pytest

from gpsweep.report.look import COLOURS, INK, MUTED, PAPER, SPARE
from gpsweep.report.page import DARK, TEMPLATES


def luminance(colour: str) -> float:
    """Return the relative luminance of WCAG 2.1."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of WCAG 2.1, 1 to 21."""
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def test_black_and_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("colour", [*COLOURS.values(), *SPARE])
def test_curves_stand_out(colour: str) -> None:
    card = re.findall(r"--paper: (#\w{6});", (TEMPLATES / "style.css.j2").read_text(encoding="utf-8"))[-1]
    assert contrast(colour, PAPER) >= 3
    assert contrast(DARK[colour], card) >= 3


@pytest.mark.parametrize("colour", [INK, MUTED])
def test_letters_can_be_read(colour: str) -> None:
    assert contrast(colour, PAPER) >= 4.5
