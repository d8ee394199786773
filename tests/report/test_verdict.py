"""What is said of guided perturbations is never what a refinement has done."""

from __future__ import annotations

import re
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcomes import make
from rich.console import Console

from gpsweep import metrics, results
from gpsweep.counts import Counts
from gpsweep.report.marks import marks, worth_drawing
from gpsweep.report.page import page
from gpsweep.report.terminal import best_table
from gpsweep.report.verdict import Verdict, additions, beside, cost_of, helps, verdict
from gpsweep.results.findings import Findings
from gpsweep.results.outcome import Outcome

pytestmark = pytest.mark.usefixtures("undrawn")

BOTH: dict[str, Any] = {"images": 60, "refine": ["none", "flip"], "costs": {}}


def told(outcome: Outcome) -> tuple[Verdict, list[str], list[dict[str, Any]], str]:
    """Return the verdict, the rivals' refinements, what is added, and the page's text."""
    findings = Findings(outcome)
    found = verdict(findings)
    drawing = '<svg xmlns="http://www.w3.org/2000/svg"/>' if worth_drawing(marks(findings)) else None
    text = " ".join(page(findings, drawing).replace("&nbsp;", " ").replace("\xa0", " ").split())
    return found, [each.refine for each in beside(found, findings)], additions(findings), text


def test_a_flip_that_gains_is_no_guided_perturbation() -> None:
    found, rivals, added, text = told(make(label="random_onehot", **BOTH))
    assert (found.kind, found.row["refine"]) == ("no", "none")
    assert rivals == ["flip"]
    assert [row["helps"] for row in added] == [False]
    assert "A flip alone gains +0.98 (95 % interval +0.43 to +1.58) at 2.0 forward passes" in text
    assert "On top of a flip, no perturbation adds anything." in text
    assert "help:" not in text


def test_a_flip_that_gains_as_much_at_lower_cost_is_told_beside_a_gain() -> None:
    found, rivals, [added], text = told(make(label="uniform", **BOTH))
    assert (found.kind, found.row["refine"]) == ("yes", "none")
    assert rivals == ["flip"]
    assert "Guided perturbations help:" in text
    assert "A flip alone gains" in text
    assert added["helps"]
    assert f"adds +{added['added']:.2f}" in text
    assert f"reaches {added['reached']:.2f} % at 6.4 forward passes" in text


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"label": "ground_truth", "refine": "flip", "eps": 0, "added": 0.0, "helps": False}, "oracle"),
        ({"refine": "none", "eps": 0, "added": 0.0, "helps": False}, "no"),
        ({"refine": "flip", "eps": 0, "added": 0.0, "helps": False}, "alone"),
        ({"refine": "flip", "eps": 0.4, "added": float("nan"), "helps": False}, "unclear"),
        ({"refine": "flip", "eps": 0.4, "added": 0.1, "helps": False}, "no"),
        ({"refine": "flip", "eps": 0.4, "added": 0.1, "helps": True}, "yes"),
    ],
)
def test_what_is_said_of_a_curves_best_point(row: dict[str, Any], word: str) -> None:
    row = {"label": "argmax", **row}
    held = {**row, "tune_eps": row["eps"], "added_delta": row["added"]}
    assert helps(row, held_out=False) == helps(held, held_out=True) == word


@pytest.mark.parametrize(("label", "kind"), [("argmax", "yes"), ("random_onehot", "no")])
def test_images_held_out_have_the_last_word(label: str, kind: str) -> None:
    half: dict[str, Any] = {"eps": [0.3, 0.4], "images": 120, "info": {"select": {"seed": 0}}}
    found = verdict(Findings(make(label=[label, "ground_truth"], **half)))
    assert found.held is not None and found.held["label"] == label
    assert (found.kind, found.held["helps"]) == (kind, kind == "yes")
    assert found.bound is not None and found.bound["label"] == "ground_truth"
    assert verdict(Findings(make(label="ground_truth", **half))).bound is None


def test_what_is_reached_on_images_held_out_is_compared_with_the_base_there() -> None:
    outcome = make(
        label="argmax", images=40, refine=["none", "flip"], eps=[0, 0.4], info={"select": {"seed": 0}}
    )
    _, held = outcome.halves
    dense, base = np.asarray(outcome.counts), outcome.base.copy()
    base[held, :, 0] = 0  # nothing is right there
    dense[:, held, :, 0] //= 4
    [added] = additions(Findings(replace(outcome, counts=Counts.of(dense), base=base)))
    assert 0 < added["reached"] < metrics.score(metrics.total(base), "segmentation")
    assert not added["below"]


def test_refinements_are_told_in_the_order_of_the_grid() -> None:
    findings = Findings(make(label="argmax", refine=["none", "multiscale", "flip"], eps=[0, 0.4], images=20))
    assert list(findings.alone) == [row["refine"] for row in additions(findings)] == ["multiscale", "flip"]


def test_a_best_point_at_the_edge_is_told() -> None:
    edge = "ε = 0.25 lies at the edge of the sweep"
    short = make(label="argmax", images=60, eps=[-0.25, 0, 0.25])
    assert told(short)[0].edge == 0.25
    assert edge in told(short)[3]
    assert (
        edge in told(make(label="argmax", images=60, eps=[-0.25, 0, 0.25], info={"select": {"seed": 0}}))[3]
    )
    for axes in ({}, {"eps": [0.25]}, {"label": "random_onehot", "eps": [-0.5, 0, 0.5]}):
        found, _, _, text = told(make(**{"label": "argmax", "images": 60} | axes))
        assert found.edge is None
        assert "at the edge" not in text


@pytest.mark.parametrize(
    ("eps", "best", "way"),
    [
        ([0.25, 0.5], 0, "closer to 0"),
        ([0.25, 0.5], 1, "further"),
        ([-0.5, -0.25], 1, "closer to 0"),
        ([-0.25, 0.25], 1, "further"),
        ([-0.25, 0.5], 0, "further"),
        ([-0.25, 0], 0, "further"),
        ([0, 0.25], 1, "further"),
    ],
)
def test_beyond_an_edge_lies_what_was_not_swept(eps: list[float], best: int, way: str) -> None:
    findings = Findings(make(label="random_onehot", images=20, eps=eps))
    findings.rows["score"] = [float(place == best) for place in range(len(eps))]
    found = verdict(findings)
    assert (found.edge, found.onward) == (eps[best], way)


def test_a_flip_that_gains_less_or_costs_more_is_no_rival() -> None:
    assert told(make(label="argmax", **BOTH))[1] == []
    dear = make(label="uniform", **BOTH | {"costs": {"flip": 4.0}})
    assert told(dear)[1] == []
    assert told(make(label="uniform", images=60, refine=["none", "flip"]))[1] == [], "costs are not known"


def test_where_all_is_refined_the_refinement_is_the_base() -> None:
    outcome = make(label="argmax", images=60, refine="flip", costs={})
    found, rivals, [added], text = told(outcome)
    rows = results.table(outcome)
    flip = rows[rows["eps"] == 0].iloc[0]
    assert (found.kind, found.over, rivals) == ("yes", "flip", [])
    assert found.row["base"] == flip["score"]
    assert found.row["delta"] == pytest.approx(rows["score"].max() - flip["score"])
    assert f"from {flip['score']:.2f} % (a flip alone) to <b>{rows['score'].max():.2f} %" in text
    assert "On top of" not in text, "it is said already"
    assert added["added"] == found.row["delta"]
    assert told(make(label="random_onehot", images=60, refine="flip"))[0].kind == "no"


def test_what_cannot_be_told_apart_is_not_told_apart() -> None:
    found, _, added, text = told(make(label="argmax", images=60, refine="flip", eps=0.4))
    assert (found.kind, added) == ("mixed", [])
    assert "Together with a flip:" in text
    assert "How much of it is the perturbation’s is not known" in text
    assert "unclear" in text
    assert "help:" not in text


@pytest.mark.parametrize("eps", [0.4, [-0.4, 0.4], 0, [0, 0.4]])
@pytest.mark.parametrize("select", [None, {"seed": 0}])
@pytest.mark.parametrize("label", ["ground_truth", "argmax"])
def test_page_and_terminal_say_the_same_of_a_curve(
    label: str, eps: Any, select: dict[str, int] | None, tmp_path: Path
) -> None:
    outcome = make(label=[label, "uniform"], images=60, refine="flip", eps=eps, info={"select": select})
    file = StringIO()
    best_table(Findings(outcome), tmp_path, Console(file=file, width=200))
    words = [line.split()[-1] for line in file.getvalue().splitlines() if line.startswith(label)]
    text = told(outcome)[3].replace("<wbr>", "")
    rows = [row for row in text.split("<tr>") if f"</svg>{label}</span>" in row]
    # Of the page's tables the last is the terminal's.
    *_, tag = re.findall(r'class="tag[^"]*">(\w+)<', "".join(rows))
    assert words == ["yes" if tag == "helps" else tag]
    assert (tag == "oracle") == (label == "ground_truth")


def test_nothing_perturbed() -> None:
    found, rivals, added, text = told(make(label="argmax", eps=0, **BOTH))
    assert (found.kind, rivals, added) == ("still", ["flip"], [])
    assert "Nothing was perturbed:" in text
    assert "A flip alone gains" in text
    assert '<span class="tag">alone</span>' in text
    assert told(make(label="argmax", eps=0, images=20))[0].kind == "still"


def test_held_out_gains_are_compared_with_held_out_gains() -> None:
    outcome = make(label=["uniform", "ground_truth"], info={"select": {"seed": 0}}, **BOTH)
    rows, held = Findings(outcome).rows, Findings(outcome).held
    assert held is not None
    found, rivals, [added], text = told(outcome)
    assert found.held["refine"] == "none"
    assert rivals == ["flip"]
    row = held[(held["label"] == "uniform") & (held["refine"] == "flip")].iloc[0]
    assert (added["added"], added["added_low"]) == (row["added_delta"], row["added_low"])
    assert added["cost"] == cost_of(rows, {**row, "eps": row["tune_eps"]}) == 6.4
    assert f"adds +{row['added_delta']:.2f}" in text
    assert "Gains are held out" in text


def test_what_adds_nothing_where_it_is_chosen_may_add_elsewhere(tmp_path: Path) -> None:
    outcome = make(label="random_onehot", info={"select": {"seed": 0}}, **BOTH)
    says = "no perturbation adds anything on the 30 images to choose on"
    assert f"On top of a flip, {says}." in told(outcome)[3]
    file = StringIO()
    best_table(Findings(outcome), tmp_path, Console(file=file, width=100))
    assert f"on top of flip: {says}" in file.getvalue()


def test_plain_runs_speak_of_no_refinement() -> None:
    text = told(make(images=30))[3]
    for word in ("refine", "flip", "On top", "Gain against cost", "× forward"):
        assert word not in text.partition("<main>")[2], word
    costly = told(make(images=30, costs={}))[3]
    assert "Gain against cost" in costly
    assert "cost: × forward" in costly
    assert "plain forward pass</dt><dd>4 ms" in costly
    assert "<dt>Perturbed at input</dt><dd>12.8 ms, 3.2 × forward</dd>" in costly


@pytest.mark.parametrize(
    ("points", "images", "kind", "says"),
    [
        (19, 20, "yes", "Guided perturbations help:"),
        (40, 20, "chance", "1 of the 40 points has an interval above zero; if no point did anything"),
        (19, 6, "yes", "Guided perturbations help:"),
        (40, 6, "chance", "1 of the 40 points has an interval above zero; if no point did anything"),
        (19, 5, "chance", "5 images are too few to tell a gain from chance"),
        (1, 5, "chance", "5 images are too few to tell a gain from chance"),
    ],
)
def test_no_more_gains_than_chance_would_give_are_no_help(
    points: int, images: int, kind: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Findings, "p_value", lambda self, place: 0.01)  # as the made-up interval
    eps = [n / 10 for n in range(1, points + 1)]
    findings = Findings(make(label="random_onehot", eps=eps, images=images))
    findings.rows["delta_low"] = [0.1] + [-1.0] * (points - 1)
    assert verdict(findings).kind == kind
    assert says in " ".join(page(findings, None).split())
    assert ("Not told from chance" in page(findings, None)) == (kind == "chance")


def test_what_cannot_be_told_apart_has_no_held_out_verdict() -> None:
    outcome = make(label="argmax", images=60, refine="flip", eps=[0.2, 0.4], info={"select": {"seed": 0}})
    found, _, _, text = told(outcome)
    assert (found.kind, found.held) == ("mixed", None)
    assert "Together with a flip:" in text
    assert "No:" not in text


def test_an_interval_that_the_exact_test_does_not_bear_out_is_no_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    findings = Findings(make(label="argmax", images=60))
    assert verdict(findings).kind == "yes"
    assert findings.clear["helps"].all()
    assert 0 < verdict(findings).p_value < 0.05
    monkeypatch.setattr(Findings, "p_value", lambda self, place: 0.125)
    findings = Findings(findings.outcome)
    assert verdict(findings).kind == "chance"
    assert not findings.clear["helps"].any()
    assert "The exact test says p = 0.125" in page(findings, None).replace("&nbsp;", " ")


def test_the_best_of_those_above_zero_need_not_be_the_best_of_all() -> None:
    findings = Findings(make(label="argmax", eps=[0.2, 0.4, 0.6], images=60))
    rows = findings.rows
    rows["delta_low"], rows["score"] = [0.4, 0.3, -0.1], rows["base"] + [0.5, 0.4, 0.9]
    assert findings.p_value(0) < 0.05
    found = verdict(findings)
    assert (found.kind, found.row["eps"], found.highest["eps"]) == ("yes", 0.2, 0.6)
    assert "the best of the 2 whose interval lies above zero" in page(findings, None)


def test_a_point_that_helps_beside_the_best_of_its_curve_is_told_on_page_and_terminal() -> None:
    """A table of the best points alone says no, where the first sentence says that one helps."""
    findings = Findings(make(label="argmax", eps=[0.2, 0.4, 0.6], images=60))
    note = "argmax at eps 0.2 helps: +0.50 (+0.40 to +0.60); the best of its curve does not."
    here = "The point of the first sentence helps, though the best of its curve, shown here, does not."

    def said() -> tuple[bool, bool]:
        file = StringIO()
        best_table(findings, Path("run"), Console(file=file, width=120))
        return note in file.getvalue().splitlines(), here in page(findings, None)

    assert said() == (False, False)
    findings = Findings(findings.outcome)
    rows = findings.rows
    rows["delta"], rows["delta_low"], rows["delta_high"] = [0.5, 0.4, 0.9], [0.4, 0.3, -0.1], [0.6, 0.5, 1.9]
    rows["score"] = rows["base"] + rows["delta"]
    assert said() == (True, True)


def test_an_oracle_that_gains_nothing_lifts_nothing() -> None:
    text = told(make(label="ground_truth", eps=[-0.6, -0.3, 0], images=20))[3]
    assert "At no ε that was run does it score higher than the base." in text
    assert "bounds" not in text
    for eps in (-0.3, [-0.6, -0.3]):
        text = told(make(label="ground_truth", eps=eps, images=20))[3]
        assert "At no ε that was run does it score higher than the base." in text
        assert "lifts" not in text
    text = told(make(label="ground_truth", eps=[-0.6, 0], refine="flip", images=20))[3]
    assert "At no ε that was run does it score higher than a flip alone." in text


def test_chance_puts_no_interval_above_zero_where_nothing_is_perturbed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Findings, "p_value", lambda self, place: 0.01)  # as the made-up intervals
    layers = [f"layer{number}" for number in range(30)]
    findings = Findings(make(label="random_onehot", eps=[0, 0.5], layer=layers, images=20))
    findings.rows["delta_low"] = [-1.0, 0.1, -1.0, 0.1, *[-1.0] * 56]
    found = verdict(findings)
    assert (found.kind, found.helpful, found.judged, found.chance) == ("yes", 2, 60, 1)


def test_an_interval_without_width_is_not_to_be_narrowed() -> None:
    wide = make(label="top2", eps=0.1, images=20)
    assert "More images would narrow the interval." in told(wide)[3]
    same = replace(wide, counts=Counts.of(wide.base[None]))
    assert "0.00 percentage points, interval 0.00 to 0.00" in told(same)[3]
    assert "narrow" not in told(same)[3].partition("<main>")[2]


def test_a_refinement_of_unknown_cost_is_a_rival_of_no_perturbation() -> None:
    found, rivals, _, _ = told(make(label="random_onehot", images=60, refine=["none", "flip"]))
    assert (found.kind, found.row["eps"], rivals) == ("no", 0, ["flip"])
