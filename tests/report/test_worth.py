"""The figure of gain against cost shows the marks, and their names do not hide each other."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.text import Text
from outcomes import make
from PIL import Image

from gpsweep import report
from gpsweep.report import worth
from gpsweep.report.look import COLOURS, INK, look, styled
from gpsweep.report.marks import marks
from gpsweep.results.findings import Findings
from gpsweep.results.outcome import Outcome

GRIDS: dict[str, dict[str, Any]] = {
    "one mark": {"label": "argmax"},
    "flip": {"label": ["argmax", "uniform"], "refine": ["none", "flip"]},
    "all": {"label": ["argmax", "uniform"], "refine": ["none", "flip", "multiscale", "crf"]},
    "alone": {"label": "argmax", "refine": ["none", "flip", "crf"], "eps": 0},
    "many": {"layer": ["input", "a$1.b_c^2", "d"], "refine": ["none", "flip"]},
}


def outcome(**axes: Any) -> Outcome:
    return make(images=24, costs={}, **{"eps": [-0.6, -0.3, -0.1, 0, 0.1, 0.3, 0.6]} | axes)


@cache
def found_in(grid: str) -> Findings:
    """Return what is found in a grid, bootstrapped once for all tests that look at it."""
    return Findings(outcome(**GRIDS[grid]))


def drawn(findings: Findings) -> Any:
    with styled():
        return worth.figure(marks(findings), look(findings), held_out=False).axes[0]


@cache
def axes_of(grid: str) -> Any:
    """Return the axes of a grid's figure, drawn once for all tests that look at them."""
    return drawn(found_in(grid))


@pytest.mark.parametrize("grid", GRIDS)
def test_every_grid_can_be_drawn(grid: str, tmp_path: Path) -> None:
    text = worth.draw(found_in(grid), tmp_path)
    assert text == (tmp_path / "cost.svg").read_text(encoding="utf-8")
    pixels = np.asarray(Image.open(tmp_path / "cost.png").convert("L"))
    assert pixels.shape[1] >= 1000
    assert 0.003 < (pixels < 200).mean() < 0.5
    assert float(ElementTree.fromstring(text).attrib["width"].removesuffix("pt")) > 300


def test_nothing_is_drawn_where_there_is_nothing_to_compare(tmp_path: Path) -> None:
    made = make(images=12, label="argmax")
    assert worth.draw(Findings(made), tmp_path) is None
    report.write(Findings(made), tmp_path)
    assert not list(tmp_path.glob("cost.*"))


def test_marks_stand_at_their_gain_and_cost() -> None:
    axes, found = axes_of("flip"), marks(found_in("flip"))
    spots = {
        (float(line.get_xdata()[0]), float(line.get_ydata()[0])): line
        for line in axes.get_lines()
        if len(line.get_xdata()) == 1
    }
    assert set(spots) == {(1.0, 0.0), *((each.cost, each.delta) for each in found)}
    for each in found:
        line = spots[each.cost, each.delta]
        assert line.get_color() == (COLOURS[each.label] if each.label else INK)
        hollow = line.get_markerfacecolor() != line.get_color()
        assert hollow == (each.label is not None and each.refine != "none")
    bars = {tuple(path[:, 1]) for lines in axes.collections for path in lines.get_segments()}
    assert {(each.low, each.high) for each in found} <= bars
    assert axes.get_xscale() == "linear"


@pytest.mark.parametrize("grid", ["flip", "many"])
def test_marks_of_one_cost_stay_near_it(grid: str) -> None:
    axes = axes_of(grid)
    axes.get_figure().draw_without_rendering()
    drawn_at = [line for line in axes.get_lines() if len(line.get_xdata()) == 1]
    for line in drawn_at:
        (x, _), (cost, _) = (
            how.transform(line.get_xydata()[0]) for how in (line.get_transform(), axes.transData)
        )
        assert abs(x - cost) <= worth.WITHIN / 2 * axes.get_figure().dpi / 72 + 1e-6
    assert len(drawn_at) > 3


def test_costs_far_apart_are_drawn_on_a_logarithmic_axis() -> None:
    assert axes_of("all").get_xscale() == "log"


@pytest.mark.parametrize("grid", ["flip", "all", "alone"])
def test_every_mark_is_named_and_no_name_hides_another(grid: str) -> None:
    axes = axes_of(grid)
    names = [text.get_text() for text in axes.texts]
    assert sorted(names) == sorted(["base", *(each.name for each in marks(found_in(grid)))])
    boxes = [text.get_window_extent() for text in axes.texts]
    for one, other in combinations(boxes, 2):
        assert worth._shared(one, other) < 0.1 * min(box.width * box.height for box in (one, other))


def test_there_is_room_for_names_on_the_right() -> None:
    made = outcome(label=["argmax", "uniform"], iterations=3)
    axes = drawn(Findings(made))
    names = {text.get_text(): text for text in axes.texts}
    axes.get_figure().draw_without_rendering()
    inside = axes.get_window_extent()
    for label in ("argmax", "uniform"):
        text = names[f"{label} · 3 iterations"]
        box = Text.get_window_extent(text)
        assert text.get_position()[0] > 0
        assert worth._shared(box, inside) > 0.97 * box.width * box.height


def test_of_many_marks_those_on_the_front_are_named_and_a_legend_tells_the_rest() -> None:
    axes = axes_of("many")
    names = {text.get_text() for text in axes.texts}
    assert {"base", "flip"} < names
    assert len(names) < len(marks(found_in("many")))
    assert {text.get_color() for text in axes.texts} == {INK}, "pale letters cannot be read"
    [legend] = axes.get_figure().legends
    assert {text.get_text() for text in legend.get_texts()} == {"argmax", "uniform", "top2"}


def test_long_names_of_many_marks_can_be_read() -> None:
    layers = ["input", "encoder.layer1.0.conv1", "decoder.blocks.2.conv2.1"]
    many = {"label": ["argmax", "uniform"], "step": ["sign", "rms"], "refine": ["none", "flip"]}
    made = outcome(**many, layer=layers, signal=["eq5", "cross_entropy"], iterations=2)
    axes = drawn(Findings(made))
    axes.get_figure().draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the lines to their marks
    assert len(boxes) >= 5
    for one, other in combinations(boxes, 2):
        assert worth._shared(one, other) < 0.1 * min(box.width * box.height for box in (one, other))
    inside = axes.get_window_extent()
    assert all(worth._shared(box, inside) > 0.9 * box.width * box.height for box in boxes)
    intervals = [path for lines in axes.collections for path in lines.get_segments()]
    assert len(intervals) == len(boxes) - 1


def test_names_of_a_few_marks_that_take_many_lines_do_not_hide_each_other() -> None:
    deep = "backbone_feature_extractor.stage_{}_of_the_encoder.depthwise_separable_convolution_with_a_name"
    made = outcome(label=["argmax", "uniform"], layer=["input", *map(deep.format, ("one", "two", "three"))])
    axes = drawn(Findings(made))
    axes.get_figure().draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert len(boxes) >= 2
    for one, other in combinations(boxes, 2):
        assert worth._shared(one, other) < 0.1 * min(box.width * box.height for box in (one, other))
    [legend] = axes.get_figure().legends
    assert {text.get_text() for text in legend.get_texts()} == {"argmax", "uniform"}


def test_the_axis_says_what_is_held_out() -> None:
    made = outcome(**GRIDS["flip"], info={"select": {"seed": 0}})
    findings = Findings(made)
    [axes] = worth.figure(marks(findings), look(findings), held_out=True).axes
    assert axes.get_ylabel() == "held-out gain (percentage points)"


def test_same_run_same_file(tmp_path: Path) -> None:
    for name, findings in (("a", found_in("flip")), ("b", Findings(outcome(**GRIDS["flip"])))):
        worth.draw(findings, tmp_path / name)
    assert (tmp_path / "a" / "cost.svg").read_bytes() == (tmp_path / "b" / "cost.svg").read_bytes()
