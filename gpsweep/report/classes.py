"""What a run says of each class: its share and score, and what a point changes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpsweep import metrics
from gpsweep.errors import listing
from gpsweep.results.outcome import Outcome

SHOWN = 40  # more than these are folded between the largest gains and the largest losses


def changes(outcome: Outcome, index: int | None) -> list[dict[str, Any]]:
    """Return what happens to each class at a point, the largest gain first, absent classes left out.

    Args:
        outcome: the run, or a part of it.
        index: the point's place in the grid; None gives an empty list.
    """
    if index is None:
        return []
    before, after = metrics.total(outcome.base), metrics.total(outcome.counts[index])
    clean, scores = (metrics.class_score(totals, outcome.task) for totals in (before, after))
    shares, _ = _shares(outcome)
    deltas = scores - clean
    lowest, highest = (float(bound(deltas, initial=0)) for bound in (np.nanmin, np.nanmax))
    span = highest - lowest or 1.0
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "place": place,
            "base": float(clean[place]),
            "score": float(scores[place]),
            "delta": float(deltas[place]),
            "width": float(100 * abs(deltas[place]) / span),
            "left": float(100 * (min(deltas[place], 0) - lowest) / span),
            "share": float(shares[place]),
        }
        for place, name in enumerate(outcome.classes)
        if np.isfinite(deltas[place])
    ]
    rows.sort(key=lambda row: float(row["delta"]), reverse=True)
    kept = SHOWN // 2
    for place, row in enumerate(rows):
        row["folded"] = len(rows) > SHOWN and kept <= place < len(rows) - kept
    return rows


def unperturbed(outcome: Outcome) -> list[dict[str, Any]]:
    """Return the share and score of each class without perturbation, in the data's order.

    Absent classes are left out. A class that is predicted far more or less often than there is truth of it
    may be another one to the network.
    """
    scores = metrics.class_score(metrics.total(outcome.base), outcome.task)
    truth, predicted = _shares(outcome)
    return [
        {
            "name": name,
            "place": place,
            "truth": float(truth[place]),
            "predicted": float(predicted[place]),
            "score": float(scores[place]),
        }
        for place, name in enumerate(outcome.classes)
        if np.isfinite(scores[place])
    ]


def _shares(outcome: Outcome) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how much of all that has a truth is of each class, and is predicted as it, in %."""
    base = metrics.total(outcome.base)
    truth, predicted = (base[:, metrics.TP] + base[:, missed] for missed in (metrics.FN, metrics.FP))
    return 100 * truth / max(truth.sum(), 1), 100 * predicted / max(truth.sum(), 1)


def absent(outcome: Outcome) -> int:
    """Return how many classes have no truth."""
    truth = metrics.total(outcome.base)[:, [metrics.TP, metrics.FN]]
    return int((~truth.any(axis=1)).sum())


def strays(outcome: Outcome, index: int | None) -> list[tuple[str, str]]:
    """Return who alone predicts classes of no truth, and which: they count 0 in that one's mean IoU only.

    Args:
        outcome: the run, or a part of it.
        index: the point's place in the grid; None gives an empty list.
    """
    if index is None:
        return []
    both = (metrics.total(outcome.base), metrics.total(outcome.counts[index]))
    base, point = (np.isfinite(metrics.class_score(totals, outcome.task)) for totals in both)
    found = (("the base", base & ~point), ("the point", point & ~base))
    names = [(who, [outcome.classes[place] for place in np.flatnonzero(alone)]) for who, alone in found]
    return [(who, listing(own, 3)) for who, own in names if own]
