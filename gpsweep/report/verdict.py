"""What a run says about guided perturbations: whether they help, what else would, and on top of what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from gpsweep import metrics, results
from gpsweep.report.marks import Mark, marks, rivals
from gpsweep.results import selection
from gpsweep.results.findings import Findings
from gpsweep.results.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd

# What is told of the best perturbation of a refinement, and the columns that it is taken from.
REACHED = {"reached": "score", "added": "delta", "added_low": "delta_low", "added_high": "delta_high"}
HELD_REACHED = {
    "reached": "held_score",
    "added": "held_delta",
    "added_low": "held_low",
    "added_high": "held_high",
}
# With fewer images no exact test of a difference reaches 5 %, whatever the bootstrap's interval.
LEAST = 6


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a run says of guided perturbations.

    Args:
        kind: ``yes``, ``no``, ``chance`` (intervals of gains lie above zero, but no more than chance would
            put there, or the exact test does not bear out the best, or images are too few to tell),
            ``oracle`` (nothing else was run: it sees the answers and never counts as help), ``still``
            (nothing was perturbed) or ``mixed`` (a refinement's part in the gain is not known).
        outcome: the points that it is about, with what they are judged beside as their base.
        row: on all images the best point whose interval lies above zero, or if there is none the best of
            all.
        p_value: of ``row``, where the verdict rests on it.
        highest: the best of all points.
        held: the row of the held-out table that the verdict is about.
        helpful: how many of the points judged have an interval above zero.
        judged: how many points there are, without those of the oracle beside them.
        chance: how many chance would put there if no point did anything; none at ε = 0.
        bound: the oracle's best, beside others.
        lower: whether ``row`` helps though another of its curve, which does not, scores higher.
        over: the refinement that is the base.
    """

    kind: str
    outcome: Outcome
    row: dict[str, Any]
    p_value: float | None
    highest: dict[str, Any]
    held: dict[str, Any] | None
    helpful: int
    judged: int
    chance: int
    bound: dict[str, Any] | None
    lower: bool
    over: str | None = None

    @property
    def index(self) -> int | None:
        """The place of ``row`` in ``outcome`` if it perturbs at all."""
        return int(self.row["index"]) if self.row["eps"] else None

    @property
    def doubt(self) -> str | None:
        """Why a gain is not told from chance: too ``few`` images, the exact ``test``, or the ``count``.

        The last: no more intervals lie above zero than chance would put there. None for another verdict.
        """
        if self.kind != "chance":
            return None
        if len(self.outcome.units.ids) < LEAST:
            return "few"
        return "test" if self.p_value is not None and self.p_value >= metrics.ALPHA else "count"

    @property
    def edge(self) -> float | None:
        """The verdict's ε where it is the first or last of the sweep: more may lie beyond."""
        swept = {point.eps for point in self.outcome.points}
        eps = float((self.held or self.row)["eps"])
        told = self.kind in ("yes", "no", "chance") and len(swept) > 1
        return eps if told and eps and eps in (min(swept), max(swept)) else None

    @property
    def onward(self) -> str:
        """Which way it goes on beyond ``edge``: ``closer to 0`` where the sweep begins with it."""
        swept = [point.eps for point in self.outcome.points]
        begins = min(swept) * max(swept) > 0 and self.edge == min(swept, key=abs)
        return "closer to 0" if begins else "further"


def verdict(findings: Findings) -> Verdict:
    """Say whether guided perturbations help.

    It is told from the points without a refinement. Where there are none, from those of a refinement with
    that refinement alone as their base, so that its gain is not taken for the perturbation's.

    Where ε was chosen on some of the images, the others have the last word. Where there is but one point,
    nothing was chosen and nothing is held out.
    """
    judged_on, over = _base(findings)
    found = replace(_told(judged_on), over=over)
    if not judged_on.rows["eps"].any():
        return replace(found, kind="still", held=None)
    if over is None and judged_on.refined and found.kind != "oracle":
        return replace(found, kind="mixed", held=None)
    return found


def beside(found: Verdict, findings: Findings) -> list[Mark]:
    """Return the refinements alone that gain as much as the verdict's point, at no higher cost.

    Args:
        found: the verdict.
        findings: what it is of.
    """
    known = marks(findings)
    if found.kind == "still":
        return known
    if found.kind not in ("yes", "no", "chance") or found.over:
        return []
    row, delta = found.held or found.row, "held_delta" if found.held else "delta"
    if not row["eps"]:
        return list(rivals(known, 0.0, None))
    return list(rivals(known, row[delta], cost_of(findings.rows, row)))


def additions(findings: Findings, told: str | None = None) -> list[dict[str, Any]]:
    """Return what the best perturbation adds to each refinement that was also run alone.

    Args:
        findings: those of the run.
        told: a refinement that is left out.

    Returns:
        the point's row, with ``eps``, ``refine``, ``cost``, ``reached`` (the score), whether that is
        ``below`` the base, ``added`` with ``added_low`` and ``added_high``, and ``helps``.
    """
    found = []
    for refine, above in findings.above.items():
        own = _told(above)
        if refine == told or own.kind == "oracle" or not above.rows["eps"].any():
            continue
        row, columns = (own.held, HELD_REACHED) if own.held else (own.row, REACHED)
        numbers = {name: row[column] for name, column in columns.items()}
        below = bool(numbers["reached"] < _base_score(findings.outcome, held_out=bool(own.held)))
        cost = cost_of(findings.rows, row)
        found.append({**row, **numbers, "below": below, "helps": own.kind == "yes", "cost": cost})
    return found


def helps(row: dict[str, Any], *, held_out: bool) -> str:
    """Say whether a curve's best point helps, as the tables do.

    Args:
        row: of the table of the best points, or of the held-out one.
        held_out: which of the two it is of.

    Returns:
        ``yes`` or ``no``; ``oracle``, which sees the answers; ``alone``, a refinement without perturbation;
        ``unclear`` where the refinement's part in the gain is not known.
    """
    if row["label"] == results.ORACLE:
        return "oracle"
    if row["refine"] != "none" and not row["tune_eps" if held_out else "eps"]:
        return "alone"
    added = row.get("added_delta", 0.0) if held_out else row["added"]
    if added != added:
        return "unclear"
    return "yes" if row["helps"] else "no"


def cost_of(rows: pd.DataFrame, row: dict[str, Any]) -> float:
    """Return the cost of a point in the table of results.csv; NaN where it was not measured."""
    mine = rows["eps"] == row["eps"]
    for axis in results.CURVE:
        mine &= rows[axis] == row[axis]
    return float(rows.loc[mine, "cost"].iloc[0])


def costs_text(cost: float) -> str:
    """Write a cost.

    >>> costs_text(2.04), costs_text(9.96), costs_text(31.3), costs_text(float("nan"))
    ('2.0', '10', '31', '–')
    """
    return "–" if not isfinite(cost) else f"{cost:.1f}" if cost < 9.95 else f"{cost:.0f}"


def _base(findings: Findings) -> tuple[Findings, str | None]:
    """Return the points that the verdict is about, with what they are judged beside, and its refinement."""
    if (findings.rows["refine"] == "none").any():
        return findings.unrefined, None
    for refine, above in findings.above.items():
        return above, refine
    return findings, None


def _base_score(outcome: Outcome, *, held_out: bool) -> float:
    """Return the score without refinement and perturbation, on all images or those that were held out."""
    base = outcome.base
    if held_out:
        _, others = outcome.halves
        base = base[others]
    return float(metrics.score(metrics.total(base), outcome.task))


def _told(findings: Findings) -> Verdict:
    rows, held = findings.rows, findings.split
    judged = rows[rows["label"] != results.ORACLE]
    above = judged[judged["delta_low"] > 0]
    kind, chosen = ("yes", above) if len(above) else ("no", judged) if len(judged) else ("oracle", rows)
    row, bound = _top(chosen), rows[rows["label"] == results.ORACLE]
    pick = selection.overall(held) if held is not None and len(judged) > 1 else None
    if pick is not None:
        kind, pick = "yes" if pick["helps"] else "no", pick | {"eps": pick["tune_eps"]}
    # At ε = 0 nothing is drawn that chance could put above zero.
    chance = round(int((judged["eps"] != 0).sum()) * (1 - metrics.LEVEL) / 2)
    few = len(findings.outcome.units.ids) < LEAST or len(above) <= chance
    p_value = findings.p_value(row["index"]) if kind == "yes" and pick is None else None
    if p_value is not None and (few or p_value >= metrics.ALPHA):
        kind = "chance"
    curves = selection.choose(findings.outcome.points, rows["score"].tolist())
    return Verdict(
        kind=kind,
        outcome=findings.outcome,
        row=row,
        p_value=p_value,
        highest=_top(judged) if len(judged) else row,
        held=pick,
        helpful=len(above),
        judged=len(judged),
        chance=chance,
        bound=_top(bound) if len(judged) and len(bound) else None,
        lower=kind == "yes" and pick is None and row["index"] not in curves,
    )


def _top(rows: pd.DataFrame) -> dict[str, Any]:
    best = results.best(rows)
    first = best.iloc[selection.ranked(best["score"], best["eps"])[:1]]
    return {"index": int(first.index[0]), **results.records(first)[0]}
