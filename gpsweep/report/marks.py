"""What gains cost: one mark a curve and one a refinement alone, and which of them are worth their cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from gpsweep import results
from gpsweep.report.look import times_text
from gpsweep.results.findings import Findings

if TYPE_CHECKING:
    import pandas as pd

NAMED = ("layer", "signal", "step", "iterations")  # what a curve's name says besides label and refinement
REFINEMENTS = {"flip": "a flip", "multiscale": "averaging over scales", "crf": "a dense CRF"}


@dataclass(frozen=True)
class Mark:
    """A point's gain and cost.

    Args:
        place: in the grid.
        name: for people, of what tells it from the other marks.
        label: of the perturbation; None where there is none.
        refine: of the point.
        cost: in forward passes; NaN where it was not measured.
        delta: gain over the base in percentage points.
        low, high: its 95 % interval.
    """

    place: int
    name: str
    label: str | None
    refine: str
    cost: float
    delta: float
    low: float
    high: float


def marks(findings: Findings) -> list[Mark]:
    """Return the best perturbed point of each curve, and each refinement alone.

    The oracle is left out, whose gain nobody can have, and so are curves that are best at ε = 0. Where ε is
    chosen on some of the images, gains are those of the others.
    """
    rows = findings.rows
    chosen = rows.loc[(findings.best if findings.split is None else findings.split).index]
    moved = (chosen["eps"] != 0) & (chosen["label"] != results.ORACLE)
    perturbed = chosen[moved]
    places = [*perturbed.index, *findings.alone.values()]
    deltas, bounds = _gains(findings, places)
    return [
        Mark(
            place,
            _name(perturbed, results.records(rows.loc[[place]])[0]),
            str(rows["label"][place]) if rows["eps"][place] else None,
            str(rows["refine"][place]),
            float(rows["cost"][place]),
            float(delta),
            float(low),
            float(high),
        )
        for place, delta, (low, high) in zip(places, deltas, bounds, strict=True)
    ]


def front(found: Sequence[Mark]) -> list[Mark]:
    """Return the marks that gain more than all that cost as much or less, the base among them, by cost."""
    best, kept = 0.0, []
    for mark in sorted(found, key=lambda mark: (mark.cost, -mark.delta)):
        if isfinite(mark.cost) and mark.delta > best:
            best = mark.delta
            kept.append(mark)
    return kept


def rivals(found: Sequence[Mark], delta: float, cost: float | None) -> Iterator[Mark]:
    """Yield the refinements alone that gain at least so much at no higher cost; None: at any."""
    able = (m for m in found if m.label is None and m.delta >= max(delta, 0))
    yield from (m for m in able if cost is None or m.cost <= cost)


def named(rows: pd.DataFrame, row: Mapping[str, Any]) -> list[str]:
    """Return what names a curve: its label, and of the rest but its refinement what is not always the same.

    Args:
        rows: the table of results.csv.
        row: of one of the curve's points, in any table.
    """
    told = [axis for axis in NAMED if rows[axis].nunique() > 1]
    return [row["label"], *(times_text(row[a]) if a == "iterations" else str(row[a]) for a in told)]


def worth_drawing(found: Sequence[Mark]) -> bool:
    """Say whether gain against cost tells anything: at least two costs are known, the base's 1 among them."""
    return bool({round(mark.cost, 6) for mark in found if isfinite(mark.cost)} - {1.0})


def _gains(findings: Findings, places: list[int]) -> tuple[Sequence[float], Sequence[tuple[float, float]]]:
    """Return gains and their intervals, on the images that were held out where some were."""
    some = findings.rows.loc[places]
    if findings.split is not None:
        outcome = findings.outcome
        _, others = outcome.halves
        some = results.table(outcome.at(places).of(others))
    return some["delta"].tolist(), list(zip(some["delta_low"], some["delta_high"], strict=True))


def _name(rows: pd.DataFrame, row: Mapping[str, Any]) -> str:
    if not row["eps"]:
        return str(row["refine"])
    name = " · ".join(named(rows, row))
    return name if row["refine"] == "none" else f"{name} + {row['refine']}"
