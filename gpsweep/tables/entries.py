"""From a run's counts to the numbers of a table's lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import isfinite, sqrt
from statistics import mean, stdev
from typing import Any

from gpsweep import cost, metrics, results
from gpsweep.errors import GpsweepError, listing
from gpsweep.points import Point
from gpsweep.results import selection
from gpsweep.results.findings import Findings
from gpsweep.results.outcome import Outcome
from gpsweep.tables.definition import Line

Entry = dict[str, Any]
"""One line's numbers by name; what is not known is left out."""

SPREAD = "spread"
AVERAGED = ("base", "knn_accuracy", "same_eps", "same_score", "same_gain", "held_eps", "held_gain")


def curve_of(outcome: Outcome, where: Mapping[str, Any]) -> Outcome:
    """Return the one curve of an outcome that has these values on its axes.

    Where a refinement is part of the curve, its own ε = 0 is its base: what the perturbation adds to it.

    Raises:
        GpsweepError: if there is none or several, or no ε = 0 where it is needed.
    """
    chosen, zero = places_of(outcome.points, where)
    base = outcome.base if zero is None else outcome.counts[zero]
    return replace(outcome.at(chosen), base=base)


def places_of(points: Sequence[Point], where: Mapping[str, Any]) -> tuple[list[int], int | None]:
    """Return the places of the one curve that has these values on its axes, and of its base.

    Returns:
        The places of its points, and that of its refinement's ε = 0; None for a curve without a refinement.

    Raises:
        GpsweepError: if there is none or several, or no ε = 0 where it is needed.
    """
    chosen = [
        place
        for place, point in enumerate(points)
        if all(str(getattr(point, axis)) == str(value) for axis, value in where.items())
    ]
    curves = {points[place].curve() for place in chosen}
    if len(curves) != 1:
        names = [" ".join(f"{k}={v}" for k, v in asdict(curve).items() if k != "eps") for curve in curves]
        came = f": {listing(sorted(names))}" if names else ""
        raise GpsweepError(f"expected one curve for this line, came {len(curves)}{came}")
    [curve] = curves
    if curve.refine == "none":
        return chosen, None
    zero = [place for place in chosen if points[place].eps == 0]
    if not zero:
        raise GpsweepError(f"eps: expected 0 among them, the base of refine={curve.refine}")
    return chosen, zero[0]


def gains(outcome: Outcome, line: Line, *, compared: bool = False) -> Entry:
    """Return the numbers of one curve.

    Args:
        outcome: one curve, see :func:`curve_of`.
        line: what the paper says of it.
        compared: whether network and data are the paper's, so that differences to it mean something.
    """
    findings = Findings(outcome)
    rows = findings.rows
    entry: Entry = {"paper_base": line.base, "paper_gp": line.gp, "paper_seconds": line.seconds}
    entry |= {"images": len(outcome.ids), "base": float(rows["base"].iloc[0])}
    if line.eps is not None:
        place = place_at(outcome.points, line.eps)
        entry |= _at(outcome, rows, "fixed", place) | {"fixed_p": findings.p_value(place)}
    same = selection.choose(outcome.points, rows["score"].tolist())[0]
    entry |= _at(outcome, rows, "same", same)
    if findings.split is not None:
        [row] = results.records(findings.split)
        entry |= {"n_tune": row["n_tune"], "n_held": row["n_held"], "held_eps": row["tune_eps"]}
        entry |= {f"held_{key}": row[f"held_{name}"] for key, name in GAIN.items()}
        entry["held_p"] = row["p_value"]
    if compared and line.base is not None and line.gp is not None:
        ours = entry["same_score"] if line.eps is None else entry["fixed_score"]
        entry |= {"difference_base": entry["base"] - line.base, "difference_gp": ours - line.gp}
    knn = outcome.info.get("knn") or {}
    return entry | {"knn_accuracy": knn.get("accuracy")} | _times(outcome)


GAIN = {"gain": "delta", "low": "low", "high": "high"}


def _at(outcome: Outcome, rows: Any, name: str, place: int) -> Entry:
    row = results.records(rows)[place]
    found = {"eps": outcome.points[place].eps, "score": row["score"], "gain": row["delta"]}
    found |= {"low": row["delta_low"], "high": row["delta_high"]}
    return {f"{name}_{key}": value for key, value in found.items()}


def place_at(points: Sequence[Point], eps: float) -> int:
    """Return the place of the first point at an ε.

    Raises:
        GpsweepError: if there is none.
    """
    places = [place for place, point in enumerate(points) if point.eps == eps]
    if not places:
        raise GpsweepError(f"eps: expected {eps} among them, the paper's")
    return places[0]


def _times(outcome: Outcome) -> Entry:
    """Return what an image costs on the curve, and a plain forward pass, as far as it was measured."""
    known = outcome.info.get("cost") or {}
    away = [point for point in outcome.points if point.eps != 0]
    if not known or not away:
        return {}
    wanted = asdict(cost.setting(away[0]))
    for setting in known["settings"]:
        if all(setting[key] == value for key, value in wanted.items()):
            own = {"seconds": setting["seconds"], "passes": setting["passes"]}
            return {"forward_seconds": known["forward_seconds"], **own}
    return {}


def averaged(entries: Sequence[Entry]) -> Entry:
    """Return the mean over training seeds, two at least.

    The standard deviations are under ``spread``; the bounds of a gain are those of its mean, as new trainings
    would give it, see :func:`t_interval`.
    """
    known = [key for key in AVERAGED if all(entry.get(key) is not None for entry in entries)]
    paper = {key: entries[0].get(key) for key in ("paper_base", "paper_gp")}
    means = {key: mean(entry[key] for entry in entries) for key in known}
    spread = {key: stdev(entry[key] for entry in entries) for key in known}
    bounds: Entry = {}
    for name in ("same", "held"):
        if f"{name}_gain" in spread:
            low, high = t_interval([entry[f"{name}_gain"] for entry in entries])
            bounds |= {f"{name}_low": low, f"{name}_high": high}
    # Differences are linear in what was measured.
    keys = [key for key in ("difference_base", "difference_gp") if all(key in entry for entry in entries)]
    differences = {key: mean(entry[key] for entry in entries) for key in keys}
    return {**paper, **means, **bounds, **differences, SPREAD: spread}


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return Student's 95 % interval of the mean: mean ± t · s / √n, t with n − 1 degrees of freedom.

    Args:
        values: one a training, two at least.
    """
    from scipy.stats import t

    quantile = float(t.ppf((1 + metrics.LEVEL) / 2, len(values) - 1))
    reach = quantile * stdev(values) / sqrt(len(values))
    return mean(values) - reach, mean(values) + reach


def by_class(outcome: Outcome, line: Line, paper: Mapping[str, Sequence[float]]) -> list[Entry]:
    """Return the numbers of every class, and of their mean last.

    Args:
        outcome: one curve, see :func:`curve_of`.
        line: what the paper says of it; at its ε the classes are scored, else at the best one.
        paper: class → base and GP.

    Raises:
        GpsweepError: where the paper has classes that the data has not.
    """
    missing = [name for name in paper if name not in (*outcome.classes, "mean")]
    if missing:
        raise GpsweepError(f"expected the classes {listing(outcome.classes)}; {listing(missing)} is none")
    whole = gains(outcome, line)
    name = "same" if line.eps is None else "fixed"
    entries: list[Entry] = [{"setting": title} for title in outcome.classes]
    for entry in entries:
        entry |= dict(zip(("paper_base", "paper_gp"), paper.get(entry["setting"], ()), strict=False))
    before, after = _by_class(outcome, whole[f"{name}_eps"])
    for entry, base, score in zip(entries, before, after, strict=True):
        scores = {"base": base, f"{name}_score": score}
        entry |= {key: value for key, value in scores.items() if isfinite(value)}
    _add(entries, before, after, name, whole[f"{name}_eps"])
    if "held_eps" in whole:
        # The gain alone: a score of the held-out images is nothing beside the base of all.
        _, held = outcome.halves
        _add(entries, *_by_class(outcome.of(held), whole["held_eps"]), "held", whole["held_eps"])
    mean = dict(zip(("paper_base", "paper_gp"), paper.get("mean", ()), strict=False))
    return [*entries, {**whole, "setting": "mean", **mean}]


def risen(entries: Sequence[Entry]) -> str:
    """Say for how many classes the score has risen, here and in the paper."""
    classes = [entry for entry in entries if entry["setting"] != "mean"]
    ours = [entry[key] for entry in classes for key in ("fixed_gain", "same_gain") if key in entry]
    papers = [entry["paper_gp"] - entry["paper_base"] for entry in classes if entry.get("paper_gp")]
    text = f"better: {sum(gain > 0 for gain in ours)} of {len(ours)} classes"
    return f"{text}; the paper: {sum(gain > 0 for gain in papers)} of {len(papers)}" if papers else text


def _by_class(outcome: Outcome, eps: float) -> tuple[list[float], list[float]]:
    """Return the score of each class in %, of the base and at an ε."""
    both = (outcome.base, outcome.counts[place_at(outcome.points, eps)])
    before, after = (metrics.class_score(metrics.total(counts), outcome.task).tolist() for counts in both)
    return before, after


def _add(
    entries: Sequence[Entry], before: Sequence[float], after: Sequence[float], name: str, eps: float
) -> None:
    """Add what each class gains; one in neither truth nor prediction has no score, and gains nothing."""
    for entry, base, score in zip(entries, before, after, strict=True):
        if isfinite(base) and isfinite(score):
            entry |= {f"{name}_eps": eps, f"{name}_gain": score - base}
