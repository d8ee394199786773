"""The figure shows what the table says, for every shape of grid."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from outcomes import make
from PIL import Image

from gpsweep import results
from gpsweep.report import curves
from gpsweep.report.look import COLOURS, look, styled, unit
from gpsweep.results.findings import Findings

EVERY = ["argmax", "random_onehot", "uniform", "top2", "ground_truth"]
GRIDS: dict[str, dict[str, Any]] = {
    "point": {"label": "argmax", "eps": 0.25},
    "zero": {"label": "argmax", "eps": 0.0},
    "one eps": {"eps": 0.25},
    "two eps": {"eps": [-0.25, 0.25]},
    "main": {},
    "oracle": {"label": ["argmax", "ground_truth"]},
    "guide": {
        "label": ["argmax"],
        "layer": ["input", "encoder$1.a_b^2"],
        "step": ["sign", "rms"],
        "iterations": 3,
    },
}


def lines(axes: Any) -> list[Any]:
    return [line for line in axes.get_lines() if len(line.get_xdata()) > 2]


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
def test_every_grid_can_be_drawn(grid: dict[str, Any], tmp_path: Path) -> None:
    outcome = make(images=12, classes=5, **grid)
    rows = results.table(outcome)
    png, svg = curves.draw(Findings(outcome), tmp_path)
    pixels = np.asarray(Image.open(png).convert("L"))
    assert pixels.shape[1] >= 1000
    assert 0.01 < (pixels < 200).mean() < 0.5
    assert float(ElementTree.parse(svg).getroot().attrib["width"].removesuffix("pt")) > 300
    with styled():
        picture = curves.figure(rows, look(Findings(outcome)))
        picture.draw_without_rendering()
        box = picture.get_tightbbox()
        assert box.x0 >= 0
        assert box.x1 <= picture.get_figwidth() + 1e-6, "something is cut off on the right"


def test_lines_bands_and_markers_are_the_tables() -> None:
    outcome = make(images=12, classes=5, label=["argmax", "uniform"])
    rows = results.table(outcome)
    axes = curves.figure(rows, look(Findings(outcome))).axes[0]
    for label, line in zip(["argmax", "uniform"], lines(axes), strict=True):
        mine = rows[rows["label"] == label]
        np.testing.assert_array_equal(line.get_xdata(), mine["eps"])
        np.testing.assert_array_equal(line.get_ydata(), mine["score"])
        assert line.get_color() == COLOURS[label]
    heights = axes.collections[0].get_paths()[0].vertices[:, 1]
    first = rows[rows["label"] == "argmax"]
    assert heights.min() == pytest.approx((first["base"] + first["delta_low"]).min())
    assert heights.max() == pytest.approx((first["base"] + first["delta_high"]).max())
    marked = {
        (line.get_xdata()[0], line.get_ydata()[0]) for line in axes.get_lines() if len(line.get_xdata()) == 1
    }
    best = results.best(rows)
    assert marked == set(zip(best["eps"], best["score"], strict=True))
    assert f"base\n{rows['base'].iloc[0]:.2f}" in [text.get_text() for text in axes.texts]


def test_bands_are_scores() -> None:
    rows = results.table(make(images=12, classes=5))
    rows["delta_low"], rows["delta_high"] = -200.0, 200.0
    low, high = curves.band(rows)
    assert (set(low), set(high)) == ({0.0}, {100.0})
    assert curves.whole(rows) == (-5.0, 105.0)


def test_panels_share_the_score_axis_and_say_their_unit() -> None:
    outcome = make(images=12, classes=5, label="argmax", layer=["input", "a.b"], signal=["eq5", "likelihood"])
    rows = results.table(outcome)
    panels = curves.figure(rows, look(Findings(outcome))).axes
    assert len(panels) == 4
    assert len({axes.get_ylim() for axes in panels}) == 1
    titles = {axes.get_title(loc="left"): axes.get_xlabel() for axes in panels}
    assert titles["layer input · signal eq5"] == "ε (grey levels)"
    assert titles["layer a.b · signal likelihood"] == "ε (relative to the activation’s RMS)"
    assert unit("a.b", "absolute") == "units of the activation"


def test_refinements_have_panels_of_their_own_with_a_line_for_them_alone() -> None:
    outcome = make(images=12, classes=5, label="argmax", refine=["none", "flip"])
    rows = results.table(outcome)
    plain, flipped = curves.figure(rows, look(Findings(outcome))).axes
    assert [axes.get_title(loc="left") for axes in (plain, flipped)] == ["refine none", "refine flip"]
    mine = rows[rows["refine"] == "flip"]
    np.testing.assert_array_equal(lines(flipped)[0].get_ydata(), mine["score"])
    alone = float(mine["score"][mine["eps"] == 0].iloc[0])
    levels = [line.get_ydata()[0] for line in flipped.get_lines() if list(line.get_xdata()) == [0, 1]]
    assert levels == [rows["base"].iloc[0], alone]
    assert f"flip\n{alone:.2f}" in [text.get_text() for text in flipped.texts]
    assert not [text for text in plain.texts if "flip" in text.get_text()]


def test_iterations_differ_in_line_style() -> None:
    outcome = make(images=12, classes=5, label="argmax", iterations=3)
    rows = results.table(outcome)
    style = look(Findings(outcome))
    axes = curves.figure(rows, style).axes[0]
    assert len({str(line._dash_pattern) for line in lines(axes)}) == 3
    assert style.dasharray(3) == "none"
    assert len({style.dasharray(count) for count in (1, 2, 3)}) == 3


def test_no_two_of_many_iterations_share_a_line_style() -> None:
    style = look(Findings(make(images=4, classes=3, label="argmax", eps=[0, 1], iterations=7)))
    assert len({style.dasharray(count) for count in range(1, 8)}) == 7


LONG = ["input", "backbone.stages.3.blocks.17.attention.projection.output", "encoder.layer1.0.conv1"]
WIDE: dict[str, dict[str, Any]] = {
    "labels": {"label": EVERY, "eps": [0, 1]},
    "iterations": {"label": EVERY, "eps": [0, 1], "iterations": 4},
    "layers": {"label": EVERY, "layer": LONG, "step": ["sign", "rms"], "eps": [0, 1], "iterations": 3},
    "points": {"label": EVERY, "eps": 0.5},
    "points of layers": {"label": EVERY, "layer": LONG, "eps": 0.5},
    "points of iterations": {"label": EVERY, "layer": LONG[:2], "eps": 0.5, "iterations": 3},
}


@pytest.mark.parametrize("grid", WIDE.values(), ids=WIDE)
def test_no_text_is_cut_or_lies_over_another(grid: dict[str, Any]) -> None:
    outcome = make(images=6, classes=3, **grid)
    with styled():
        picture = curves.figure(results.table(outcome), look(Findings(outcome)))
        picture.draw_without_rendering()
    boxes = [("the legend", legend.get_window_extent()) for legend in picture.legends]
    for axes in picture.axes:
        low, high = axes.get_xlim()
        ticks = [text for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]
        texts = [axes.xaxis.label, *axes.texts, *ticks, axes._left_title]  # type: ignore[attr-defined]
        boxes += [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    for place, (name, box) in enumerate(boxes):
        assert box.x0 >= 0 and box.x1 <= picture.bbox.x1, f"{name} is cut"
        for other, taken in boxes[:place]:
            assert not box.overlaps(taken), f"{name} lies over {other}"


@pytest.mark.parametrize(
    "grid",
    [{"label": ["argmax", "uniform", "top2"], "iterations": 2, "eps": [0, 1]}, {"label": EVERY, "eps": 0.5}],
)
def test_rows_of_the_legend_are_equally_long(grid: dict[str, Any]) -> None:
    outcome = make(images=6, classes=3, layer=["input", "encoder.layer1"], **grid)
    with styled():
        picture = curves.figure(results.table(outcome), look(Findings(outcome)))
        picture.draw_without_rendering()
    [legend] = picture.legends
    rows = Counter(text.get_window_extent().y0 // 10 for text in legend.get_texts())  # baselines differ
    assert [*rows.values()] == [3, 3]


def test_points_without_lines_have_no_line_styles_in_the_legend() -> None:
    outcome = make(images=6, classes=3, label=["argmax", "top2"], eps=0.5, iterations=2)
    [legend] = curves.figure(results.table(outcome), look(Findings(outcome))).legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "argmax",
        "top2",
        "95 % interval of the gain",
    ]


def test_unknown_labels_get_colours_of_their_own() -> None:
    outcome = make(images=4, classes=3, label=["argmax", "uniform", "top2", "ground_truth"], eps=1)
    points = [replace(point, label=f"guide {place}") for place, point in enumerate(outcome.points)]
    style = look(Findings(replace(outcome, points=[outcome.points[0], *points[1:]])))
    assert len(set(style.colours.values())) == 4


def test_closeup_holds_the_gains_and_not_the_oracle() -> None:
    rows = results.table(make(label=["argmax", "ground_truth"]))
    limits = curves.closeup(rows)
    assert limits is not None
    own = rows[rows["label"] == "argmax"]
    top = own.loc[own["score"].idxmax()]
    assert limits[0] < top["base"] < top["base"] + top["delta_high"] < limits[1]
    assert limits[1] < rows["score"].max()
    assert curves.closeup(rows[rows["label"] == "ground_truth"]) is None
    assert curves.closeup(results.table(make(label="random_onehot", images=9))) is None


def test_same_run_same_file(tmp_path: Path) -> None:
    outcome = make(images=5, classes=3, eps=[0, 1])
    for name in ("a", "b"):
        curves.draw(Findings(outcome), tmp_path / name, pdf=True)
    for kind in ("svg", "pdf"):
        one, other = (tmp_path / name / f"curves.{kind}" for name in ("a", "b"))
        assert one.read_bytes() == other.read_bytes()


def test_a_pdf_is_drawn_where_it_is_asked_for_in_fonts_that_conferences_take(tmp_path: Path) -> None:
    findings = Findings(make(images=5, classes=3, eps=[0, 1]))
    curves.draw(findings, tmp_path)
    assert not (tmp_path / "curves.pdf").exists()
    curves.draw(findings, tmp_path, pdf=True)
    pdf = (tmp_path / "curves.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/FontFile2" in pdf  # a TrueType font
    assert b"/Type3" not in pdf


def test_drawing_leaves_no_trace(tmp_path: Path) -> None:
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    outcome = make(images=5, classes=3, eps=[0, 1])
    curves.draw(Findings(outcome), tmp_path)
    assert dict(mpl.rcParams) == before
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
