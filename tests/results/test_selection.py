"""Choosing ε on one half: the choice, and that a choice among nothings gains nothing held out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from outcomes import make

from gpsweep import metrics, results
from gpsweep.counts import Counts
from gpsweep.points import Point, grid
from gpsweep.results.halves import halves
from gpsweep.results.outcome import Outcome
from gpsweep.results.selection import best, choose, held_out, leading, overall, top
from gpsweep.results.significance import p_value

HALF: dict[str, Any] = {"select": {"seed": 0}}


def table(outcome: Outcome) -> pd.DataFrame:
    held = held_out(outcome, results.table(outcome))
    assert held is not None
    return held


def of(points: list[Point], dense: np.ndarray, base: np.ndarray, task: str, **info: Any) -> Outcome:
    names = tuple(f"class {number}" for number in range(base.shape[1]))
    ids = [f"image_{number:05d}" for number in range(len(base))]
    return Outcome(points, Counts.of(dense), base, task, names, ids, [1.0] * len(points), HALF | info)


def test_a_refinement_alone_is_no_help_of_a_perturbation() -> None:
    """What flipping gains at ε = 0 is the flip's, however certain."""
    rows = results.table(make(images=20, label="argmax", refine=["none", "flip"], eps=[0, 0.5]))
    for eps, helps in ((0, False), (0.5, True)):
        best_here = rows.assign(score=(rows["eps"] == eps) * 1.0, delta_low=1.0)
        assert best(best_here)["helps"].tolist() == [helps, helps]
    held = table(make(images=200, label="argmax", refine="flip", eps=0, info=HALF)).iloc[0]
    assert held["held_low"] > 0 and held["p_value"] < metrics.ALPHA
    assert not held["helps"]


def test_the_best_point_is_the_highest_of_equals_the_nearest_then_the_first() -> None:
    points = grid(label=["argmax", "uniform"], eps=[-2, -1, 1, 2]).points()
    assert choose(points, [1, 5, 5, 5, 0, 0, 0, 0]) == [1, 5]
    mixed = [points[place] for place in (4, 0, 5, 1)]  # of each curve two, in turn
    assert choose(mixed, [0.0, 1.0, 2.0, 0.5]) == [2, 1]


def test_the_top_point_is_the_best_that_does_not_see_the_answers() -> None:
    points = grid(label=["ground_truth", "argmax"], eps=[1, 2]).points()
    assert top(points, [9, 8, 3, 2]) == 2
    assert top(points[:2], [8, 9]) == 1


def test_curves_that_are_equally_high_keep_their_order_and_the_oracles_come_last() -> None:
    labels, scores = ["ground_truth", "argmax"] * 50, [1.0, 2.0, 2.0, 1.0] * 25
    order = sorted(range(100), key=lambda row: (labels[row] == "ground_truth", -scores[row]))
    assert leading(pd.DataFrame({"label": labels, "score": scores}), "score").index.tolist() == order


def test_the_oracle_never_helps() -> None:
    outcome = make(label=["ground_truth", "argmax"], eps=[0, 0.2, 0.4], info=HALF)
    held, chosen = table(outcome), best(results.table(outcome))
    assert list(held["helps"]) == list(chosen["helps"]) == [False, True]
    assert (held["held_low"] > 0).all()
    found = overall(held)
    assert found is not None
    assert found["label"] == "argmax"
    assert overall(held[held["label"] == "ground_truth"]) is None


def test_nothing_is_held_out_unless_asked() -> None:
    outcome = make(images=10, eps=[0, 1])
    assert held_out(outcome, results.table(outcome)) is None
    assert held_out(replace(outcome, info={"select": None}), results.table(outcome)) is None


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_every_number_is_that_of_the_two_parts_by_themselves(task: str) -> None:
    outcome = make(task=task, images=90, classes=5, eps=[-0.5, -0.2, 0, 0.3, 0.6], info=HALF)
    held, rows = table(outcome), results.table(outcome)
    parts = halves(outcome.ids, seed=0)
    alone = [outcome.of(part) for part in parts]
    tuned, judged = (results.table(part) for part in alone)
    same, chosen = best(rows), best(tuned)
    for place, (whole, tune) in enumerate(zip(same.index, chosen.index, strict=True)):
        row, truth = held.iloc[place], judged.iloc[tune]
        assert (row["label"], row["same_eps"]) == (rows["label"][whole], rows["eps"][whole])
        for name, column in (("delta", "delta"), ("low", "delta_low"), ("high", "delta_high")):
            assert row[f"same_{name}"] == rows[column][whole]
            assert row[f"held_{name}"] == truth[column]
        assert (row["held_base"], row["held_score"]) == (truth["base"], truth["score"])
        assert (row["tune_eps"], row["tune_delta"]) == (tuned["eps"][tune], tuned["delta"][tune])
        assert row["p_value"] == p_value(alone[1].counts[tune], alone[1].base, task)
    assert rows.loc[held.index, "label"].tolist() == held["label"].tolist()
    assert rows.loc[held.index, "eps"].tolist() == held["tune_eps"].tolist()
    assert (set(held["samples"]), set(held["n_tune"]), set(held["n_held"])) == ({90}, {45}, {45})


def test_images_are_taken_in_their_order() -> None:
    outcome = make(images=7, classes=3, label="argmax", eps=[0, 0.5])
    places = np.array([5, 0, 3])
    taken = outcome.of(places)
    np.testing.assert_array_equal(np.asarray(taken.counts), np.asarray(outcome.counts)[:, places])
    np.testing.assert_array_equal(taken.base, outcome.base[places])
    assert taken.ids == [outcome.ids[place] for place in places]


def test_the_images_to_tune_on_decide() -> None:
    """ε = 1 helps the first half of the images, ε = 2 the others."""
    base = np.tile(np.array([[50, 25, 25], [50, 25, 25]]), (20, 1, 1))
    gain = np.array([10, -5, -5])
    point = np.stack([base, base])
    point[0, :10] += gain
    point[1, 10:] += 2 * gain
    outcome = of(grid(eps=[1, 2]).points(), point, base, "segmentation")
    first = table(replace(outcome, info={"select": {"tune": outcome.ids[:10]}})).iloc[0]
    assert (first["same_eps"], first["tune_eps"], first["held_delta"], first["p_value"]) == (2, 1, 0, 1)
    assert first["same_delta"] > 0
    last = table(replace(outcome, info={"select": {"tune": outcome.ids[10:]}})).iloc[0]
    assert (last["tune_eps"], last["held_delta"]) == (2, 0)


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_outcomes_with_little_in_them(task: str) -> None:
    """Two images, one ε, points equal to the base, halves of nothing but void: numbers, and no evidence."""
    two = table(make(task=task, images=2, classes=3, label="argmax", eps=[0, 1], info=HALF))
    one = table(make(task=task, images=30, classes=3, label="argmax", eps=0.4, info=HALF))
    assert (two["n_tune"] == 1).all()
    assert (one["same_eps"] == one["tune_eps"]).all()
    outcome = make(task=task, images=8, classes=3, label="argmax", eps=[-1, 1], info=HALF)
    equal = replace(outcome, counts=Counts.of(np.stack([outcome.base] * 2)))
    void = replace(outcome, counts=Counts.of(np.zeros((2, 8, 3, 3), int)), base=np.zeros((8, 3, 3), int))
    for outcome in (equal, void):
        held = table(outcome)
        assert not best(results.table(outcome))["helps"].any()
        assert (held[["same_delta", "tune_delta", "held_delta", "held_low", "held_high"]] == 0).all(axis=None)
        assert (held["p_value"] == 1).all()
        assert not held["helps"].any()
        assert list(held["tune_eps"]) == [-1]
    for held in (two, one):
        assert held.notna().all(axis=None)
        assert held["p_value"].between(0, 1).all()


def test_a_handful_of_images_is_no_help_however_narrow_the_bootstrap() -> None:
    """Four images won and none lost in 5000: the interval lies above zero, but p is 1/8."""
    right = np.ones(10_000, dtype=bool)
    tune, held = halves([str(n) for n in range(10_000)])
    right[held[:4]] = right[tune[:4]] = False
    base = np.zeros((10_000, 1, 3), dtype=np.uint8)
    base[right, 0, metrics.TP] = base[~right, 0, metrics.FN] = 1
    point = np.zeros((1, 10_000, 1, 3), dtype=np.uint8)
    point[..., metrics.TP] = 1
    row = table(of(grid(eps=1).points(), point, base, "classification")).iloc[0]
    assert row["held_low"] > 0
    assert row["p_value"] == 1 / 8
    assert not row["helps"]


def nothing(task: str, trial: int, points: list[Point]) -> Outcome:
    """Return an outcome whose points and base are drawn alike, so that no point has an effect."""
    rng, images, both = np.random.default_rng(trial), 32, len(points) + 1
    if task == "segmentation":
        dense = rng.poisson(rng.integers(5, 60, (images, 3, 1)), (both, images, 3, 3))
    else:
        right = rng.random((both, images)) < rng.uniform(0.2, 1, images)
        dense = np.zeros((both, images, 1, 3), dtype=np.int64)
        dense[..., 0, metrics.TP], dense[..., 0, metrics.FN] = right, ~right
    return of(points, dense[1:], dense[0], task, select={"seed": trial})


@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_a_choice_among_nothings_gains_on_its_own_images_and_nothing_held_out(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpsweep.results.selection.p_value", lambda *given: p_value(*given, draws=400))
    monkeypatch.setattr(metrics, "resample_weights", lambda images, *_: np.ones((1, images)))  # not looked at
    points, trials = grid(eps=np.arange(1, 11).tolist()).points(), 150
    found = pd.concat([table(nothing(task, trial, points)) for trial in range(trials)])
    same, held = found["same_delta"], found["held_delta"]
    assert same.mean() > 8 * same.sem()
    assert (same > 0).mean() > 0.8
    assert abs(held.mean()) < 3 * held.sem()
    assert held.mean() + 3 * held.sem() < same.mean()
    for level in (0.1, 0.25, 0.5):
        share, error = (found["p_value"] <= level).mean(), 3.5 * np.sqrt(level * (1 - level) / trials)
        assert share < level + error
        if task == "segmentation":  # McNemar's p is discrete, and on the careful side
            assert share > level - error
