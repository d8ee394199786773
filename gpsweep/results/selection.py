"""Choosing ε honestly: on one half of the images, with the gain reported on the other.

A gain at an ε that was chosen on the same images is flattered by the choice, the more the more points there
were to choose from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpsweep import metrics
from gpsweep.points import AXES, ORACLE, Point, from_columns
from gpsweep.results.outcome import Outcome
from gpsweep.results.significance import p_value

if TYPE_CHECKING:
    import pandas as pd

CURVE = AXES[:-1]  # what a curve's points share
SAME = {"same_eps": "eps", "same_delta": "delta", "same_low": "delta_low", "same_high": "delta_high"}


def ranked(scores: ArrayLike, eps: ArrayLike) -> list[int]:
    """Return the places of scores, the best first: the highest, of equals the smallest |ε|, then the first.

    >>> ranked([1, 5, 5, 5], [-2, -1, 1, 0])
    [3, 1, 2, 0]
    """
    places: list[int] = np.lexsort((np.abs(eps), np.negative(scores))).tolist()
    return places


def choose(points: Sequence[Point], scores: Sequence[float] | NDArray[np.float64]) -> list[int]:
    """Return the place of each curve's best point: see :func:`ranked`.

    Args:
        points: the points.
        scores: a score for each.

    Returns:
        One place a curve, in the order in which the curves first appear.
    """
    rising = reversed(ranked(scores, [point.eps for point in points]))
    last = {points[place].curve(): place for place in rising}
    return [last[curve] for curve in dict.fromkeys(point.curve() for point in points)]


def top(points: Sequence[Point], scores: Sequence[float] | NDArray[np.float64]) -> int:
    """Return the place of the best point, the oracle aside where there is another; see :func:`ranked`."""
    rank = ranked(scores, [point.eps for point in points])
    return next((place for place in rank if points[place].label != ORACLE), rank[0])


def best(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the best point of each curve, see :func:`choose`.

    ``helps`` says whether its interval lies above zero, which the oracle's never counts as, nor
    what a refinement gains at ε = 0.

    Args:
        rows: the table of results.csv, or some of its rows.
    """
    points = from_columns({axis: rows[axis].tolist() for axis in AXES})
    chosen = rows.iloc[choose(points, rows["score"].tolist())]
    judged = (chosen["label"] != ORACLE) & (chosen["eps"] != 0)
    return chosen.assign(helps=(chosen["delta_low"] > 0) & judged)


def leading(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return the curves of a table, the highest first, those of the oracle after all others.

    Args:
        table: one row a curve.
        by: the column that they are compared in.
    """
    ranked = table.sort_values(by, ascending=False, kind="stable")
    return ranked.sort_values("label", key=lambda label: label == ORACLE, kind="stable")


def held_out(outcome: Outcome, rows: pd.DataFrame) -> pd.DataFrame | None:
    """Return the table of selection.csv, one row a curve; None if the outcome's ε is not to be chosen so.

    Its index holds the places of the points chosen on some of the images, as that of :func:`best` does.

    Two answers beside each other, deltas in percentage points with their 95 % intervals:

    - ``same_…``: ε chosen on all images, and judged on the same ones, as the paper does;
    - ``held_…``: ε (``tune_eps``) chosen on ``n_tune`` of the images, judged on the ``n_held`` others.

    ``p_value`` is that of the held-out delta, see :mod:`gpsweep.results.significance`. ``helps`` says whether
    the delta's interval lies above zero and p is below 0.05: where a handful of images differ, a bootstrap
    interval is too narrow. The oracle never helps.

    Args:
        outcome: a finished run.
        rows: its table of results.csv.
    """
    if not outcome.info.get("select"):
        return None
    import pandas as pd

    tune, held = outcome.halves
    tuned = outcome.of(tune)
    scores = metrics.score(metrics.total(tuned.counts), outcome.task)
    clean = float(metrics.score(metrics.total(tuned.base), outcome.task))
    same, chosen = choose(outcome.points, rows["score"].tolist()), choose(outcome.points, scores)

    judged = outcome.at(chosen).of(held).units
    points, base = judged.counts, judged.base
    after, before = (metrics.score(metrics.total(part), outcome.task) for part in (points, base))
    weights = metrics.resample_weights(len(base))
    bounds = metrics.paired_intervals(points, base, weights, outcome.task)
    content = {
        **{axis: rows[axis].iloc[same].tolist() for axis in CURVE},
        "samples": len(outcome.ids),
        **{name: rows[column].iloc[same].tolist() for name, column in SAME.items()},
        "n_tune": len(tune),
        "tune_eps": [outcome.points[place].eps for place in chosen],
        "tune_delta": scores[chosen] - clean,
        "n_held": len(held),
        "held_base": float(before),
        "held_score": after,
        "held_delta": after - before,
        "held_low": bounds[:, 0],
        "held_high": bounds[:, 1],
        "p_value": [p_value(point, base, outcome.task) for point in points],
    }
    table = pd.DataFrame(content, index=chosen)
    clear = (table["held_low"] > 0) & (table["p_value"] < metrics.ALPHA)
    return table.assign(helps=clear & (table["label"] != ORACLE) & (table["tune_eps"] != 0))


def overall(held: pd.DataFrame) -> dict[str, Any] | None:
    """Return the row of the curve that one would take: the best on the images that ε was chosen on.

    The oracle's is no choice; None where there is no other.

    Args:
        held: :func:`held_out`.
    """
    own = held[held["label"] != ORACLE]
    rows = own.iloc[ranked(own["tune_delta"], own["tune_eps"])].to_dict("records")
    return {str(key): value for key, value in rows[0].items()} if rows else None


def split_text(outcome: Outcome) -> str:
    """Say how the images of an outcome with ``info["select"]`` were split."""
    select = outcome.info["select"]
    return "data.tune_split" if "tune" in select else f"at random, seed {select['seed']}"
