"""Which settings cost alike, and that what was measured of them is kept, found and told as it is."""

from __future__ import annotations

import json
from math import isnan
from pathlib import Path

import pytest

from gpsweep import cost
from gpsweep.cost import Cost, Setting
from gpsweep.points import Point, grid
from gpsweep.store import Store
from gpsweep.store.__main__ import main

POINTS = grid(
    label=["argmax", "uniform"], layer=["input", "a.b"], iterations=2, refine=["none", "flip"], eps=[-1, 0, 1]
).points()


def test_points_that_cost_alike_are_one_setting() -> None:
    found = cost.settings(POINTS)
    assert [(each.layer, each.iterations, each.refine) for each in found] == [
        ("input", 1, "none"),
        ("a.b", 1, "none"),
        ("input", 2, "none"),
        ("a.b", 2, "none"),
        (None, 0, "flip"),
        ("input", 1, "flip"),
        ("a.b", 1, "flip"),
        ("input", 2, "flip"),
        ("a.b", 2, "flip"),
    ]
    for setting, point in found.items():
        assert cost.setting(point) == setting
    assert cost.settings([Point("top2", refine="flip")]) == {
        Setting(None, None, 0, "flip"): Point(refine="flip"),  # nothing is perturbed by any label
    }
    assert cost.setting(Point("knn", eps=1)).label_kind == "knn"
    assert cost.setting(Point("ground_truth", eps=1)) == cost.setting(Point("top2", signal="eq5", eps=-2))
    assert cost.setting(Point("knn", layer="a", iterations=3)).plain


def test_what_is_kept_is_found_and_told(tmp_path: Path) -> None:
    found = list(cost.settings(POINTS))
    moved, flip = found[0], found[4]
    cost.keep(tmp_path, Cost(flip, 0.021, 0.01, "cpu"))
    cost.keep(tmp_path, Cost(moved, 0.066, 0.02, "cpu"))
    other = cost.keep(tmp_path, Cost(Setting("label", "elsewhere", 1, "none"), 1.0, 0.02))
    told = cost.summary(tmp_path, POINTS)
    assert told is not None
    assert told["forward_seconds"] == 0.015
    assert [entry.pop("passes") for entry in told["settings"]] == pytest.approx([3.3, 2.1])
    assert told["settings"] == [
        {"label_kind": "label", "layer": "input", "iterations": 1, "refine": "none", "seconds": 0.066},
        {"label_kind": None, "layer": None, "iterations": 0, "refine": "flip", "seconds": 0.021},
    ]
    told = cost.summary(tmp_path, POINTS)
    assert "elsewhere" not in str(told)
    assert other.is_file()

    known = dict(zip(POINTS, cost.passes(POINTS, json.loads(json.dumps(told))), strict=True))
    assert known[Point("uniform", layer="a.b", iterations=2)] == 1
    assert known[Point("uniform", refine="flip")] == pytest.approx(2.1)
    assert known[Point("uniform", eps=-1)] == known[Point("argmax", eps=1)] == pytest.approx(3.3)
    assert isnan(known[Point("uniform", layer="a.b", eps=-1)]), "what was not measured is not made up"


def test_nothing_measured_is_nothing_told(tmp_path: Path) -> None:
    assert cost.summary(tmp_path, POINTS) is None
    assert [p for p in cost.passes(POINTS, None) if p == 1] == [
        1.0 for point in POINTS if point.eps == 0 and point.refine == "none"
    ]


@pytest.mark.parametrize(("seconds", "forward"), [(0.0, 0.5), (1.0, 0.0)])
def test_what_took_no_time_was_not_measured(tmp_path: Path, seconds: float, forward: float) -> None:
    cost.keep(tmp_path, Cost(next(iter(cost.settings(POINTS))), seconds, forward))
    assert cost.stored(tmp_path) == {}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"setting": {"a": 1}, "seconds": 1}'])
def test_a_damaged_file_counts_as_none_and_is_measured_again(tmp_path: Path, content: str) -> None:
    setting = next(iter(cost.settings(POINTS)))
    path = cost.keep(tmp_path, Cost(setting, 1.0, 0.5))
    assert list(cost.stored(tmp_path)) == [setting]
    path.write_text(content)
    assert cost.stored(tmp_path) == {}
    assert cost.keep(tmp_path, Cost(setting, 1.0, 0.5)) == path
    assert cost.stored(tmp_path)[setting].passes == 2


def test_the_store_bears_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path, {"data": {"samples": 3}, "batch_size": 2})
    store.describe({"model": "unet", "dataset": "photos"})
    path = cost.keep(store.folder, Cost(next(iter(cost.settings(POINTS))), 1.0, 0.5))
    assert store.missing(POINTS) == {0: POINTS, 1: POINTS}
    assert main(["ls", str(tmp_path)]) == 0
    assert "0 of 2" in capsys.readouterr().out
    assert main(["gc", str(tmp_path)]) == 0
    assert path.is_file()
    assert main(["gc", str(tmp_path), "--key", store.key]) == 0
    assert not store.folder.exists()
