"""Refinements by themselves, without perturbation, and what perturbation adds to them.

A point with ``refine=flip`` gains by the flip and by the perturbation. Where ε = 0 of the same refinement is
in the grid, that is the flip by itself, and what a point gains over it is the perturbation's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from gpsweep.results.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd


def alone(rows: pd.DataFrame) -> dict[str, int]:
    """Return the place of the first unperturbed point of each refinement but ``none``.

    Args:
        rows: the table of results.csv.
    """
    still = rows[(rows["eps"] == 0) & (rows["refine"] != "none")]
    return {str(name): int(part.index[0]) for name, part in still.groupby("refine", sort=False)}


def part(outcome: Outcome, refine: str) -> Outcome:
    """Return the points of one refinement, judged beside the base as ever."""
    places = [place for place, point in enumerate(outcome.points) if point.refine == refine]
    return outcome if len(places) == len(outcome.points) else outcome.at(places)


def on_top(outcome: Outcome, refine: str, place: int) -> Outcome:
    """Return the points of one refinement with that refinement alone as their base.

    Args:
        place: of the refinement's unperturbed point in the grid, see :func:`alone`.
    """
    return replace(part(outcome, refine), base=np.asarray(outcome.counts[place]))
