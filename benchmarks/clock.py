"""Times that can be compared: measured side by side in one process, repetition by repetition."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter


@dataclass(frozen=True)
class Spread:
    """The median of several measurements, and the lowest and highest of them."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise at least one value."""
        return cls(median(values), min(values), max(values))


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call."""
    start = perf_counter()
    work()
    return perf_counter() - start


def side_by_side(loops: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Time loops in turn, ``repeats`` times.

    The order turns round each time, so that a machine that slows down favours none of them.

    Returns:
        per loop its wall times in seconds, one a repetition; those with the same index lie side by side.
    """
    times: dict[str, list[float]] = {name: [] for name in loops}
    for repetition in range(repeats):
        names = list(loops) if repetition % 2 == 0 else list(reversed(loops))
        for name in names:
            times[name].append(seconds(loops[name]))
    return times


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Divide times that were measured side by side."""
    return [a / b for a, b in zip(above, below, strict=True)]
