"""What the numbers, or the colours, in masks mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpsweep.data.base import VOID
from gpsweep.data.palette import palette
from gpsweep.errors import GpsweepError, listing

Mask = NDArray[np.integer[Any]]
Targets = NDArray[np.int64]

LARGEST_CLASS = 65535
UNKNOWN = VOID - 1


@dataclass(frozen=True)
class Legend:
    """What the numbers in the masks mean.

    Args:
        classes: how many classes there are; numbers 0 … classes − 1, unless ``numbers`` says otherwise.
        void: numbers that carry no truth; they win over classes.
        advice: what a user can do about other numbers, put at the end of the error.
        numbers: the number of each class in the files; empty: its place.
    """

    classes: int
    void: tuple[int, ...] = ()
    advice: str = ""
    numbers: tuple[int, ...] = ()

    @cached_property
    def _targets(self) -> Targets:
        table = np.full(LARGEST_CLASS + 1, UNKNOWN, dtype=np.int64)
        table[list(self.numbers or range(self.classes))] = np.arange(self.classes)
        table[list(self.void)] = VOID
        return table

    def targets(self, mask: Mask, path: Path, *, key: str) -> Targets:
        """Translate a mask into targets: classes from 0, `VOID` where there is no truth.

        Args:
            mask: integers ``(H, W)``.
            path: its file.
            key: the configuration key that led to it.

        Returns:
            int64 ``(H, W)``.

        Raises:
            GpsweepError: when the mask holds a number that is neither a class nor void.
        """
        if mask.dtype.itemsize > 2 and (mask.min() < 0 or mask.max() > LARGEST_CLASS):
            raise self._misfit(mask[(mask < 0) | (mask > LARGEST_CLASS)], path, key=key)
        targets = self._targets[mask]
        if targets.min() == UNKNOWN:
            raise self._misfit(mask[targets == UNKNOWN], path, key=key)
        return targets

    def _misfit(self, numbers: Mask, path: Path, *, key: str) -> GpsweepError:
        void = f"void {_spans(self.void)}" if self.void else "void (none set)"
        return GpsweepError(
            f"{key}: mask {path} holds {listing(np.unique(numbers).tolist())}; "
            f"expected classes {_spans(self.numbers or range(self.classes))} or {void}{self.advice}"
        )


class Colours:
    """What the colours in masks mean.

    Args:
        numbers: the number that each colour stands for, which is 256 (256 R + G) + B.
        expected: what to call them where another comes.
    """

    def __init__(self, numbers: Mapping[int, int], expected: str) -> None:
        self.expected = expected
        self._codes = np.array(sorted(numbers), dtype=np.int64)
        self._numbers = np.array([numbers[code] for code in sorted(numbers)], dtype=np.int64)

    def numbers(self, picture: NDArray[np.uint8], path: Path, *, key: str) -> Mask:
        """Turn a mask in these colours into numbers.

        Args:
            picture: uint8 ``(H, W, 3)``, RGB.
            path: its file.
            key: the configuration key that led to it.

        Returns:
            integers ``(H, W)``.

        Raises:
            GpsweepError: when it holds another colour.
        """
        came = _codes(picture)
        place = np.searchsorted(self._codes, came).clip(max=len(self._codes) - 1)
        foreign = self._codes[place] != came
        if foreign.any():
            found = [f"#{code:06x}" for code in np.unique(came[foreign]).tolist()]
            raise GpsweepError(f"{key}: mask {path} holds {listing(found)}; expected {self.expected}")
        numbers: Mask = self._numbers[place]
        return numbers


@cache
def voc_colours() -> Colours:
    """Return what PASCAL VOC's mean."""
    numbers = {code: number for number, code in enumerate(_codes(palette()).tolist())}
    return Colours(numbers, "the colours of PASCAL VOC")


def _codes(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the colours of a picture ``(…, 3)`` as numbers ``(…)``."""
    codes: NDArray[np.int64] = picture.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    return codes


def _spans(numbers: tuple[int, ...] | range) -> str:
    """Write rising numbers shortly: ``0–18``, or ``7, 8, 11–13``."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ", ".join(f"{low}–{high}" if high > low else f"{low}" for low, high in spans)
