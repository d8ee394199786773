"""Marks are the tables' numbers, and the front and the rivals are those that a person would pick."""

from __future__ import annotations

from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from outcomes import make

from gpsweep import metrics, results
from gpsweep.counts import Counts
from gpsweep.report.marks import Mark, front, marks, rivals, worth_drawing
from gpsweep.results.findings import Findings
from gpsweep.results.halves import halves
from gpsweep.results.outcome import Outcome

REFINED: dict[str, Any] = {
    "label": ["argmax", "uniform"],
    "refine": ["none", "flip"],
    "costs": {},
    "images": 40,
}


def mark(cost: float, delta: float, label: str | None = "argmax") -> Mark:
    return Mark(0, "name", label, "none", cost, delta, delta - 1, delta + 1)


def test_each_curves_best_point_and_each_refinement_alone() -> None:
    outcome = make(**REFINED | {"label": ["argmax", "random_onehot", "ground_truth"]})
    rows = results.table(outcome)
    found = marks(Findings(outcome))
    assert [each.name for each in found] == ["argmax", "argmax + flip", "flip"], "no oracle, none best at 0"
    best = results.best(rows).index
    assert {each.place for each in found[:2]} < set(best)
    for each in found:
        row = rows.loc[each.place]
        assert (each.delta, each.low, each.high) == (row["delta"], row["delta_low"], row["delta_high"])
        assert each.cost == row["cost"]
    assert (rows["eps"][found[2].place], found[2].label) == (0, None)


def test_names_tell_what_varies() -> None:
    outcome = make(**REFINED | {"label": "argmax", "layer": ["input", "a.b"], "iterations": 2})
    names = {each.name for each in marks(Findings(outcome))}
    assert {"argmax · a.b · 2 iterations + flip", "argmax · input · 1 iteration", "flip"} < names


def test_names_do_not_tell_what_all_marks_share() -> None:
    outcome = make(
        images=40, label=["argmax", "uniform"], layer=["input", "a.b"], eps=[-0.4, 0, 0.4], costs={}
    )
    dense = np.asarray(outcome.counts)
    for place, point in enumerate(outcome.points):
        if point.layer == "a.b" and point.eps:
            dense[place] = outcome.base - outcome.base // 9 * np.array([1, 0, -1])
    worse = replace(outcome, counts=Counts.of(dense))
    assert [each.name for each in marks(Findings(worse))] == ["argmax", "uniform"], "none at a.b gains"


def test_gains_are_those_of_images_that_had_no_part_in_choosing() -> None:
    outcome = make(**REFINED | {"info": {"select": {"seed": 3}}})
    findings = Findings(outcome)
    held, found = findings.held, marks(findings)
    assert held is not None
    told = {(row["label"], row["refine"]): row for row in results.records(held)}
    for each in found[:-1]:
        assert each.label is not None
        row = told[each.label, each.refine]
        assert (each.delta, each.low, each.high) == (row["held_delta"], row["held_low"], row["held_high"])
        assert outcome.points[each.place].eps == row["tune_eps"]
    flip = found[-1]
    _, others = halves(outcome.ids, seed=3)
    alone = np.asarray(outcome.counts[flip.place])[others]
    after, before = (
        metrics.score(metrics.total(table), outcome.task) for table in (alone, outcome.base[others])
    )
    assert flip.delta == pytest.approx(float(after - before))
    assert flip.delta != findings.rows["delta"][flip.place]


def test_the_front_gains_more_the_more_it_costs() -> None:
    found = [mark(3, 1.0), mark(2, 1.0), mark(2, 0.5), mark(5, 0.9), mark(6, 2), mark(1.5, -1), mark(nan, 9)]
    assert [(each.cost, each.delta) for each in front(found)] == [(2, 1.0), (6, 2)]
    assert front([mark(2, -0.1)]) == [], "the base gains no less at no cost"


def test_rivals_gain_as_much_at_no_higher_cost() -> None:
    flip, crf = mark(2, 1.0, None), mark(30, 3.0, None)
    found = [mark(2, 9.0), flip, crf]
    assert list(rivals(found, 0.8, 3.2)) == [flip]
    assert list(rivals(found, 1.2, 3.2)) == []
    assert list(rivals(found, 0.8, 1.9)) == []
    assert list(rivals(found, 0.0, inf)) == [flip, crf]
    assert list(rivals([mark(2, -0.5, None)], -1.0, inf)) == [], "what loses is no rival"


def test_two_costs_are_worth_a_picture() -> None:
    def drawn(outcome: Outcome) -> bool:
        return worth_drawing(marks(Findings(outcome)))

    assert drawn(make(label="argmax", images=12, costs={}))
    assert not drawn(make(label="argmax", images=12)), "nothing was measured"
    assert not drawn(make(label="random_onehot", images=12, costs={})), "nothing but the base"
    assert not drawn(make(label="ground_truth", images=12, costs={}))
    half = make(**REFINED | {"images": 12})
    known = half.info["cost"] | {"settings": half.info["cost"]["settings"][:1]}
    assert drawn(replace(half, info=dict(half.info) | {"cost": known}))
