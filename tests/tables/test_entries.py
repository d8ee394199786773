"""From counts to numbers: the right curve, the right base, and the same numbers as in a run's own files."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from outcomes import make

from gpsweep import metrics, results
from gpsweep.errors import GpsweepError
from gpsweep.results import selection
from gpsweep.results.outcome import Outcome
from gpsweep.tables.definition import Line
from gpsweep.tables.entries import averaged, by_class, curve_of, gains, risen

EPS = [-0.5, 0.0, 0.5, 1.0]
HALF = {"select": {"seed": 0}}


def outcome(**axes: Any) -> Outcome:
    return make(images=20, info={**HALF, "cost": None}, **({"eps": EPS} | axes))


def test_the_numbers_are_those_of_the_runs_own_files() -> None:
    whole = outcome(label=["argmax", "uniform"])
    entry = gains(curve_of(whole, {"label": "uniform"}), Line(base=62.1, gp=64.7, eps=0.5), compared=True)
    rows = results.table(whole)
    fixed = rows[(rows["label"] == "uniform") & (rows["eps"] == 0.5)].iloc[0]
    for key, column in {"score": "score", "gain": "delta", "low": "delta_low", "high": "delta_high"}.items():
        assert entry[f"fixed_{key}"] == pytest.approx(fixed[column])
    held = selection.held_out(whole, rows)
    assert held is not None
    row = held[held["label"] == "uniform"].iloc[0]
    assert entry["same_eps"] == row["same_eps"] and entry["same_gain"] == pytest.approx(row["same_delta"])
    assert (entry["held_eps"], entry["n_held"]) == (row["tune_eps"], 10)
    assert entry["held_gain"] == pytest.approx(row["held_delta"])
    assert entry["held_p"] == pytest.approx(row["p_value"])
    assert entry["difference_gp"] == pytest.approx(entry["fixed_score"] - 64.7)
    assert entry["difference_base"] == pytest.approx(entry["base"] - 62.1)


def test_no_difference_where_networks_or_data_differ() -> None:
    entry = gains(curve_of(outcome(label=["argmax"]), {}), Line(base=62.1, gp=64.7))
    assert not [key for key in entry if key.startswith("difference")]
    assert entry["paper_gp"] == 64.7


def test_a_refinement_is_its_own_base() -> None:
    whole = outcome(label=["argmax"], refine=["none", "crf"])
    crf = [place for place, point in enumerate(whole.points) if point.refine == "crf"]
    better = whole.counts[crf[-1]]
    dense = np.asarray(whole.counts)
    dense[crf[1]] = better  # ε = 0 with a CRF is as good as the best point
    whole = replace(whole, counts=type(whole.counts).of(dense))
    entry = gains(curve_of(whole, {"refine": "crf"}), Line())
    assert entry["base"] == pytest.approx(float(metrics.score(metrics.total(better), "segmentation")))
    assert entry["base"] != pytest.approx(gains(curve_of(whole, {"refine": "none"}), Line())["base"])


@pytest.mark.parametrize(
    ("axes", "where", "message"),
    [
        ({"label": ["argmax", "top2"]}, {}, "one curve for this line, came 2"),
        ({"label": ["argmax"]}, {"label": "top2"}, "one curve for this line, came 0"),
        ({"label": ["argmax"], "refine": ["flip"], "eps": [1]}, {}, "eps: expected 0 among them"),
    ],
)
def test_a_line_is_one_curve(axes: dict[str, Any], where: dict[str, Any], message: str) -> None:
    with pytest.raises(GpsweepError, match=message):
        curve_of(outcome(**axes), where)


def test_the_papers_eps_must_be_among_the_points() -> None:
    with pytest.raises(GpsweepError, match=r"eps: expected 0\.55 among them"):
        gains(curve_of(outcome(label=["argmax"]), {}), Line(eps=0.55))


def test_time_is_that_of_the_curve() -> None:
    measured = {"label_kind": "label", "layer": "input", "iterations": 1, "refine": "none"}
    other = {**measured, "layer": "deep", "seconds": 9.0, "passes": 9.0}
    known = {"forward_seconds": 0.1, "settings": [other, {**measured, "seconds": 0.3, "passes": 3.0}]}
    whole = replace(outcome(label=["argmax"]), info={"cost": known})
    entry = gains(curve_of(whole, {}), Line(seconds=0.33))
    assert (entry["seconds"], entry["passes"], entry["forward_seconds"]) == (0.3, 3.0, 0.1)
    assert entry["paper_seconds"] == 0.33 and "held_eps" not in entry, "without select there is no half"


def test_what_the_neighbours_alone_tell_is_that_of_the_run() -> None:
    whole = outcome(label=["argmax"])
    assert gains(curve_of(whole, {}), Line())["knn_accuracy"] is None
    asked = replace(whole, info={"knn": {"accuracy": 98.2, "k": 5}})
    assert gains(curve_of(asked, {}), Line())["knn_accuracy"] == 98.2


def test_classes_add_up_to_their_mean() -> None:
    whole = outcome(label=["argmax"], classes=5)
    paper = {whole.classes[0]: [50.0, 51.0], whole.classes[1]: [40.0, 39.0], "mean": [45.0, 45.5]}
    entries = by_class(curve_of(whole, {}), Line(eps=0.5), paper)
    *classes, mean = entries
    assert [entry["setting"] for entry in entries] == [*whole.classes, "mean"]
    for key in ("base", "fixed_score", "held_gain"):
        assert np.mean([entry[key] for entry in classes]) == pytest.approx(mean[key])
    assert (classes[0]["paper_gp"], mean["paper_base"]) == (51.0, 45.0)
    assert not any("held_score" in entry for entry in entries), "it would stand beside the base of all images"
    assert "paper_gp" not in classes[2] and "fixed_low" in mean
    gained = sum(entry["fixed_gain"] > 0 for entry in classes)
    assert risen(entries) == f"better: {gained} of 5 classes; the paper: 1 of 2"
    with pytest.raises(GpsweepError, match="unicorn"):
        by_class(curve_of(whole, {}), Line(), {"unicorn": [1.0, 2.0]})


def test_seeds_are_averaged_with_their_spread() -> None:
    entries = [
        {"base": 98.0, "same_gain": 0.1, "knn_accuracy": 97.0, "difference_gp": -1.0, "paper_gp": 99.15},
        {"base": 99.0, "same_gain": 0.3, "difference_gp": 0.0, "paper_gp": 99.15},
    ]
    mean = averaged(entries)
    assert mean["base"] == 98.5 and mean["spread"]["base"] == pytest.approx(0.5**0.5)
    assert mean["same_gain"] == pytest.approx(0.2) and mean["difference_gp"] == -0.5
    assert mean["paper_gp"] == 99.15 and "knn_accuracy" not in mean, "one seed has none"


def test_the_gain_of_new_trainings_has_students_interval() -> None:
    entries = [{"same_gain": gain, "held_gain": 2 * gain} for gain in (0.06, 0.09, 0.11, 0.04, 0.17)]
    mean = averaged(entries)
    # 2.776 is t's 97.5 % quantile with 4 degrees of freedom, as printed tables have it.
    reach = 2.776 * np.std([0.06, 0.09, 0.11, 0.04, 0.17], ddof=1) / 5**0.5
    assert (mean["same_low"], mean["same_high"]) == pytest.approx((0.094 - reach, 0.094 + reach), abs=1e-4)
    assert (mean["held_low"], mean["held_high"]) == pytest.approx(
        (0.188 - 2 * reach, 0.188 + 2 * reach), abs=1e-4
    )
