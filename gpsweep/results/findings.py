"""What an outcome's counts say, as tables: every point, each curve's best, and the gains held out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from gpsweep import cost, metrics
from gpsweep.points import columns
from gpsweep.results import selection
from gpsweep.results.loading import MEASURES, SETTINGS, class_column
from gpsweep.results.outcome import Outcome
from gpsweep.results.significance import p_value

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (*SETTINGS, "samples", *MEASURES[:-1], "refine", "cost")
# What perturbation adds to a refinement, and what it is where there is none.
GAINS = {"added": "delta", "added_low": "delta_low", "added_high": "delta_high", "added_p": "p_value"}
HELD_GAINS = {
    "added_delta": "held_delta",
    "added_low": "held_low",
    "added_high": "held_high",
    "added_p": "p_value",
}


@dataclass(frozen=True, eq=False)
class Findings:
    """The tables of an outcome, each made when it is first asked for and then kept.

    Args:
        outcome: a finished run.
    """

    outcome: Outcome

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The table of results.csv, see :func:`table`."""
        return table(self.outcome)

    @cached_property
    def best(self) -> pd.DataFrame:
        """The best point of each curve and what its perturbation adds.

        ``added``, ``added_low`` and ``added_high`` are its gain over the same refinement at ε = 0, which
        without a refinement is the base, and ``added_p`` its p-value; missing where ε = 0 was not run. A
        refined point helps if its gain lies above zero, and what its perturbation adds does so too.
        """
        return self._with_added(self.clear, GAINS, lambda above: above.clear)

    @cached_property
    def clear(self) -> pd.DataFrame:
        """The best point of each curve; it ``helps`` if the exact test bears out what its interval says.

        Where a handful of images differ, a bootstrap interval is too narrow. ``p_value`` is that of the test,
        NaN where the interval does not lie above zero, and for the oracle: ten thousand draws are spared.
        """
        found = selection.best(self.rows)
        tested = zip(found.index, found["helps"], strict=True)
        found["p_value"] = [self.p_value(place) if helps else np.nan for place, helps in tested]
        return found.assign(helps=found["p_value"] < metrics.ALPHA)

    def p_value(self, place: int) -> float:
        """Return the p-value of a point's gain over the base, see :mod:`gpsweep.results.significance`."""
        if place not in self._p_values:
            units = self.outcome.units
            self._p_values[place] = p_value(units.counts[place], units.base, units.task)
        return self._p_values[place]

    @cached_property
    def _p_values(self) -> dict[int, float]:
        """Those that were asked for: ten thousand draws each."""
        return {}

    @cached_property
    def split(self) -> pd.DataFrame | None:
        """ε chosen on some of the images and judged on the others, see :func:`selection.held_out`."""
        return selection.held_out(self.outcome, self.rows)

    @cached_property
    def held(self) -> pd.DataFrame | None:
        """The table of selection.csv: ``split``, and where there are refinements what perturbation adds.

        ``added_…`` is the held-out gain over the same refinement at ε = 0, which has to lie above zero as
        well for a point to help, see ``best``.
        """
        if self.split is None or not self.refined:
            return self.split
        return self._with_added(self.split, HELD_GAINS, lambda above: above.split)

    @property
    def refined(self) -> bool:
        """Whether any of the points has a refinement."""
        return bool((self.rows["refine"] != "none").any())

    @property
    def bare(self) -> bool:
        """Whether the network was run by itself: nothing was perturbed, nothing refined."""
        return not self.refined and not self.rows["eps"].any()

    @cached_property
    def alone(self) -> dict[str, int]:
        """The place of the first unperturbed point of each refinement but ``none``."""
        still = self.rows[(self.rows["eps"] == 0) & (self.rows["refine"] != "none")]
        return {str(name): int(part.index[0]) for name, part in still.groupby("refine", sort=False)}

    @cached_property
    def unrefined(self) -> Findings:
        """The findings of the points without a refinement, judged beside the base as ever."""
        return Findings(_part(self.outcome, "none")) if self.refined else self

    @cached_property
    def above(self) -> Mapping[str, Findings]:
        """The findings of each refinement's points with that refinement alone as their base.

        A point with ``refine=flip`` gains by the flip and by the perturbation. Where ε = 0 of the same
        refinement is in the grid, that is the flip by itself, and what a point gains over it is the
        perturbation's. A refinement that was not run alone, at ε = 0, is left out.
        """
        return {
            name: Findings(replace(_part(self.outcome, name), base=np.asarray(self.outcome.counts[place])))
            for name, place in self.alone.items()
        }

    def _with_added(
        self,
        chosen: pd.DataFrame,
        names: Mapping[str, str],
        same: Callable[[Findings], pd.DataFrame | None],
    ) -> pd.DataFrame:
        """Add the columns of what perturbation adds, for each refinement from the table of its findings.

        Args:
            chosen: one row a curve.
            names: new columns and those that they are taken from.
            same: returns the table of the same curves above their refinement.
        """
        out = chosen.assign(**{name: chosen[column] for name, column in names.items()})
        for refine in set(chosen["refine"]) - {"none"}:
            mine = out["refine"] == refine
            rows = same(self.above[refine]) if refine in self.above else None
            for name, column in names.items():
                out.loc[mine, name] = np.nan if rows is None else rows[column].to_numpy()
            out.loc[mine, "helps"] &= False if rows is None else rows["helps"].to_numpy()
        return out


def _part(outcome: Outcome, refine: str) -> Outcome:
    """Return the points of one refinement, judged beside the base as ever."""
    places = [place for place, point in enumerate(outcome.points) if point.refine == refine]
    return outcome if len(places) == len(outcome.points) else outcome.at(places)


def table(outcome: Outcome) -> pd.DataFrame:
    """Return the table of results.csv: one row a point, in grid order.

    Args:
        outcome: a finished run.

    Returns:
        ``(points, columns)`` with the columns :data:`COLUMNS`: ``score``, ``base`` and ``pixel_accuracy`` in
        %, ``delta`` with its 95 % interval in percentage points, ``seconds`` of all images, ``cost`` in
        forward passes of an image alone, NaN where it was not measured.
    """
    import pandas as pd

    totals, base = metrics.total(outcome.counts), metrics.total(outcome.base)
    scores, clean = metrics.score(totals, outcome.task), float(metrics.score(base, outcome.task))
    units = outcome.units
    weights = metrics.resample_weights(len(units.ids))
    bounds = metrics.paired_intervals(units.counts, units.base, weights, units.task)
    content = {
        **columns(outcome.points),
        "samples": len(outcome.ids),
        "score": scores,
        "base": clean,
        "delta": scores - clean,
        "delta_low": bounds[:, 0],
        "delta_high": bounds[:, 1],
        "pixel_accuracy": metrics.accuracy(totals),
        "seconds": np.asarray(outcome.seconds, dtype=np.float64),
        "cost": cost.passes(outcome.points, outcome.info.get("cost")),
    }
    return pd.DataFrame(content, columns=list(COLUMNS), index=range(len(outcome.points)))


def per_class(outcome: Outcome) -> pd.DataFrame:
    """Return the table of per_class.csv: one row a point and class.

    Args:
        outcome: a finished run.

    Returns:
        ``(points · classes, columns)``, the classes of a point together: its setting, ``class``, the class's
        score in % (``iou``, NaN where the class is in neither truth nor prediction; in classification
        ``accuracy``, NaN where it is not in the truth), ``base`` likewise, ``delta`` in percentage points,
        and the counts ``tp``, ``fp`` and ``fn``.
    """
    import pandas as pd

    names, points = list(outcome.classes), len(outcome.points)
    totals, base = metrics.total(outcome.counts), metrics.total(outcome.base)
    scores = metrics.class_score(totals, outcome.task)
    clean = np.broadcast_to(metrics.class_score(base, outcome.task), scores.shape)
    values = columns(outcome.points)
    content = {
        **{axis: np.repeat(np.asarray(values[axis]), len(names)) for axis in (*SETTINGS, "refine")},
        "class": names * points,
        class_column(outcome.task): scores.ravel(),
        "base": clean.ravel(),
        "delta": (scores - clean).ravel(),
        "tp": totals[..., metrics.TP].ravel(),
        "fp": totals[..., metrics.FP].ravel(),
        "fn": totals[..., metrics.FN].ravel(),
    }
    return pd.DataFrame(content)
