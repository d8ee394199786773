"""The table on the terminal: short, whole at 80 columns, the path never broken."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from outcomes import make
from rich.console import Console

from gpsweep import results
from gpsweep.report import classes
from gpsweep.report.terminal import best_table
from gpsweep.results import selection
from gpsweep.results.findings import Findings
from gpsweep.results.outcome import Outcome

FOLDER = Path("outputs") / "a rather [long] name that goes on" / ("x" * 60) / "2026-01-02_03-04-05"


def shown(outcome: Outcome, width: int = 80, encoding: str = "utf-8") -> list[str]:
    class File(StringIO):
        @property
        def encoding(self) -> str:  # type: ignore[override]
            return encoding

    file = File()
    best_table(Findings(outcome), FOLDER, Console(file=file, width=width))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("iterations", [1, 2])
def test_best_points_and_path(iterations: int) -> None:
    outcome = make(images=30, layer=["input", "encoder.layer1"], eps=[-0.5, 0, 0.5], iterations=iterations)
    rows = results.table(outcome)
    text = shown(outcome)
    assert text[-1] == str(FOLDER / "report.html")
    assert all(len(line) <= 80 for line in text[:-1])
    top = rows.loc[rows["score"].idxmax()]
    first = next(line for line in text if line.startswith("argmax") or line.startswith(" argmax"))
    assert f"{top['score']:.2f}" in first
    assert f"{top['delta_low']:+.2f} to {top['delta_high']:+.2f}" in first
    assert f"smp-Unet-resnet18 on camvid: mIoU base {rows['base'][0]:.2f} %" in text


def test_all_is_printed_at_once() -> None:
    class File(StringIO):
        def write(self, text: str) -> int:
            written.append(text)
            return len(text)

    written: list[str] = []
    best_table(Findings(make(images=5, eps=[0, 0.5])), FOLDER, Console(file=File()))
    [whole] = filter(None, written)  # in between, another job's lines would stand
    assert whole.endswith("report.html\n")


def test_short_names_of_labels_stay_whole_in_a_narrow_terminal() -> None:
    outcome = make(images=5, label=["argmax", "uniform"], layer=["input", "encoder.layer1"], iterations=2)
    labels = {line.split(" ")[0] for line in shown(outcome, 30)}
    assert {"argmax", "uniform"} <= labels


@pytest.mark.parametrize("width", [60, 30, 5])
@pytest.mark.parametrize("select", [{}, {"select": {"seed": 0}}])
def test_a_narrow_terminal_is_left_to_wrap_lines_that_lack_nothing(
    width: int, select: dict[str, Any]
) -> None:
    outcome = make(images=30, label=["argmax", "random_onehot"], eps=[-0.5, 0, 0.5], info=select)
    wide, narrow = shown(outcome), shown(outcome, width)
    folded = "".join(line.split(" ")[0] for line in narrow)
    assert "argmax" in folded and "random_onehot" in folded
    for line in wide:
        if line.startswith(("argmax", "random_onehot")):
            cells = line.split()[1:]
            assert any(other.split()[-len(cells) :] == cells for other in narrow)
    assert not any("…" in line for line in narrow)


@pytest.mark.parametrize("width", range(30, 60, 3))
def test_names_stay_however_narrow_a_terminal_is(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rich's least width of a column that does not wrap is that of its longest word."""
    monkeypatch.setattr("gpsweep.report.terminal._interval", lambda low, high: "-10.00 to +10.00")
    outcome = make(images=30, label=["argmax", "random_onehot"], eps=[-0.5, 0, 0.5], costs={})
    lines = shown(outcome, width)
    header = next(line for line in lines if "helps" in line)
    assert header.split()[0] == "label"
    assert all(any(line.startswith(name) for line in lines) for name in ("argmax ", "random"))


@pytest.mark.parametrize("iterations", [1, 2])
def test_held_out_beside_tuned(iterations: int) -> None:
    outcome = make(
        images=31,
        layer=["input", "encoder.layer1"],
        eps=[-0.95, 0, 0.5],
        iterations=iterations,
        info={"select": {"seed": 0}},
    )
    held = selection.held_out(outcome, results.table(outcome))
    assert held is not None
    text = shown(outcome)
    assert all(len(line) <= 80 for line in text[:-1])
    assert "tuned: eps chosen on the same 31 images that it is judged on" in text
    assert "held out: eps chosen on 15 images, judged on the 16 others" in text
    top = held.sort_values("same_delta", ascending=False).iloc[0]
    cells = next(line for line in text if line.startswith("argmax")).split()
    low, high = f"{top['held_low']:+.2f}", f"{top['held_high']:+.2f}"
    tuned = [results.decimal(top["same_eps"]), f"{top['same_delta']:+.2f}"]
    out = [results.decimal(top["tune_eps"]), f"{top['held_delta']:+.2f}", low, "to", high]
    assert cells[-8:] == [*tuned, *out, "yes" if top["helps"] else "no"]
    assert sum("encoder.layer1" in line for line in text) >= 4, "a name was broken"


def test_held_out_in_plain_ascii() -> None:
    outcome = make(images=5, classes=3, eps=[0, 1], info={"select": {"tune": ["image_00001"]}})
    assert "\n".join(shown(outcome, encoding="ascii")).isascii()


def test_not_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = make(images=10, eps=[0, 0.5])
    best_table(Findings(outcome), FOLDER)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert text.splitlines()[-1] == str(FOLDER / "report.html")


def test_a_long_list_is_cut_and_says_so() -> None:
    text = shown(
        make(images=5, classes=3, layer=["input", "a", "b", "c"], signal=["eq5", "likelihood"], eps=[0, 1])
    )
    assert "20 more curves in results.csv" in text
    assert len(text) < 30
    thirteen = [f"layer{number}" for number in range(13)]
    assert "1 more curve in results.csv" in shown(
        make(images=5, classes=3, label="argmax", layer=thirteen, eps=1)
    )


def test_help_no_help_and_oracle() -> None:
    text = "\n".join(shown(make(images=120, label=["argmax", "random_onehot", "ground_truth"])))
    for label, word in [("argmax", "yes"), ("random_onehot", "no"), ("ground_truth", "oracle")]:
        line = next(line for line in text.splitlines() if line.strip().startswith(label))
        assert line.rstrip().endswith(word)
    assert "-0.00" not in text
    assert not re.search(r"[+-]0\.00\b", text), "it would lie on one side of zero"


def test_a_best_point_at_the_edge_is_told() -> None:
    told = "eps 0.25 lies at the edge of the sweep: sweep further."
    assert told in shown(make(images=60, label="argmax", eps=[-0.25, 0, 0.25]))
    assert told not in shown(make(images=60, label="argmax", eps=[0.25]))


@pytest.mark.parametrize(
    ("points", "images", "p_value", "says"),
    [
        (19, 5, 0.01, "Not told from chance: 5 images are too few."),
        (19, 20, 0.116, "Not told from chance: of random_onehot at eps 0.1, an exact test says p = 0.116."),
        (40, 20, 0.01, "Not told from chance: 1 of the 40 intervals lies above zero; chance would put 1"),
    ],
)
def test_what_is_not_told_from_chance_says_why(
    points: int, images: int, p_value: float, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Findings, "p_value", lambda self, place: p_value)
    findings = Findings(
        make(label="random_onehot", eps=[n / 10 for n in range(1, points + 1)], images=images)
    )
    findings.rows["delta_low"] = [0.1] + [-1.0] * (points - 1)
    file = StringIO()
    best_table(findings, FOLDER, Console(file=file, width=80))
    [told] = [line for line in file.getvalue().splitlines() if line.startswith("Not told")]
    assert told.startswith(says)


DEFINED = "helps: the interval lies above zero, and an exact test says p < 0.05"


@pytest.mark.parametrize("select", [None, {"seed": 0}])
def test_an_interval_above_zero_that_does_not_help_is_explained(
    select: dict[str, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid: dict[str, Any] = {"images": 60, "label": "argmax", "info": {"select": select}}
    assert DEFINED not in shown(make(**grid)), "it helps"
    assert DEFINED not in shown(make(**grid | {"label": ["random_onehot", "ground_truth"]}))
    monkeypatch.setattr(Findings, "p_value", lambda self, place: 0.1)
    monkeypatch.setattr(selection, "p_value", lambda *counts: 0.1)
    assert DEFINED in shown(make(**grid))
    [line] = [line for line in shown(make(refine=["none", "flip"], **grid), 200) if line.startswith("helps:")]
    assert line == f"{DEFINED}; of what is refined, for what perturbation adds as well"


def test_a_point_is_named_by_all_that_tells_it_from_others(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = {"step": ["sign", "rms"], "layer": ["input", "a.b"], "iterations": 2, "refine": ["none", "flip"]}
    outcome = make(images=60, label="argmax", eps=[-0.3, 0, 0.3], costs={}, **axes)
    monkeypatch.setattr(Findings, "p_value", lambda self, place: 0.1)
    text = "\n".join(shown(outcome, 200))
    one = r"argmax, (input|a\.b), (sign|rms), (1 iteration|2 iterations) at eps 0\.3"
    assert re.search(rf"Not told from chance: of {one}, an exact test says p = 0\.100\.", text)
    assert re.search(rf"on top of flip: {one} adds", text)


def test_what_adds_no_more_than_chance_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = make(images=60, label="argmax", refine=["none", "flip"], costs={})
    told = [line for line in shown(outcome, 200) if line.startswith("on top of flip")]
    assert "chance" not in told[0]
    monkeypatch.setattr(Findings, "p_value", lambda self, place: 0.1)
    told = [line for line in shown(outcome, 200) if line.startswith("on top of flip")]
    assert "), no gain beyond chance, cost 6.4" in told[0]


def test_an_empty_line_parts_the_report_from_what_stands_above() -> None:
    for axes in ({"eps": [0, 1]}, {"eps": [0, 1], "layer": ["input", "a", "b", "c", "d"]}):
        text = shown(make(images=5, classes=3, **axes))
        assert text[text.index("Report:") - 1] == ""
        assert text[text.index("Report:") - 2] != ""


def test_plain_ascii_where_the_terminal_knows_no_more() -> None:
    text = "\n".join(shown(make(images=5, classes=3, eps=[0, 1]), encoding="ascii"))
    assert text.isascii()


def test_brackets_in_names_are_text() -> None:
    outcome = make(images=5, classes=3, label="argmax", layer=["[red]a", "b"], eps=[0, 1])
    assert "[red]a" in "\n".join(shown(outcome))


@pytest.mark.parametrize("select", [None, {"seed": 0}])
def test_refinements_and_costs(select: dict[str, int] | None) -> None:
    outcome = make(
        images=60,
        refine=["none", "flip"],
        layer=["input", "encoder.layer1"],
        costs={},
        info={"select": select},
    )
    text = shown(outcome, encoding="ascii")
    assert all(len(line) <= 80 for line in text[:-1])
    assert "\n".join(text).isascii()
    assert "cost: of an image alone, in forward passes" in text
    cells = [line.replace("|", " ").split() for line in text]
    last = ["6.4", "yes"] if select is None else ["yes"]  # the table that has more columns has no room
    assert next(line for line in cells if line[:3] == ["argmax", "input", "flip"])[-len(last) :] == last
    last = ["2.0", "alone"] if select is None else ["alone"]
    assert (
        next(line for line in cells if line[:3] == ["random_onehot", "input", "flip"])[-len(last) :] == last
    )
    [flip] = [line for line in text if line.startswith("flip alone: gain +")]
    assert flip.endswith(", cost 2.0")
    [added] = [line for line in text if line.startswith("on top of flip: argmax, input at eps 0.")]
    assert added.endswith(", cost 6.4")


def test_what_is_to_be_done_next_where_a_run_does_not_answer() -> None:
    still = shown(make(images=10, eps=[0]))
    assert "Nothing was perturbed: -m 'eps=range(-1,1,0.05)' in place of eps=0 sweeps." in still
    flipped = "\n".join(shown(make(images=10, eps=0, refine=["none", "flip"])))
    assert "Nothing was perturbed" in flipped and "flip alone: gain" in flipped
    mixed = shown(make(images=10, eps=[0.5], refine=["flip"]), width=120)
    assert any(line.endswith(" unclear") for line in map(str.rstrip, mixed))
    assert "unclear: a run with eps 0 as well tells how much of the gain is the perturbation's." in mixed
    swept = "\n".join(shown(make(images=10, eps=[0, 0.5])))
    assert "Nothing was perturbed" not in swept and "unclear" not in swept


def test_of_a_network_by_itself_the_classes_are_told() -> None:
    outcome = make(images=10, eps=0)
    text = shown(outcome)
    rows = classes.unperturbed(outcome)
    base, right = results.table(outcome)[["base", "pixel_accuracy"]].iloc[0]
    assert f"smp-Unet-resnet18 on camvid: mIoU base {base:.2f} %, pixel accuracy {right:.2f} %" in text
    first = text.index(next(line for line in text if line.startswith(rows[0]["name"])))
    for line, row in zip(text[first:], rows, strict=False):
        numbers = [f"{row['truth']:.2f}", "%", f"{row['predicted']:.2f}", "%", f"{row['score']:.2f}"]
        assert line.split() == [*row["name"].split(), *numbers]
    assert len({len(line.rstrip()) for line in text[first : first + len(rows)]}) == 1, "to the right"
    assert all(len(line) <= 80 for line in text[:-1])
    assert not any("helps" in line or "argmax" in line for line in text)
    many = shown(make(images=5, classes=150, eps=0))
    assert "126 more in per_class.csv" in many and len(many) < 40
    one = "\n".join(shown(make(images=30, eps=0, task="classification")))
    assert "accuracy base" in one and "pixel" not in one


def test_plain_runs_speak_of_no_refinement_and_no_cost() -> None:
    text = "\n".join(shown(make(images=10, eps=[0, 0.5])))
    assert "refine" not in text
    assert "cost" not in text


def test_costs_are_explained_only_where_they_are_told() -> None:
    explained = "cost: of an image alone, in forward passes"
    many = {"signal": ["eq5", "likelihood"], "layer": ["input", "a"], "step": ["sign", "rms"]}
    grid: dict[str, Any] = {"images": 5, "classes": 3, "eps": [0, 1], "costs": {}}
    assert explained in shown(make(**grid))
    assert explained not in shown(make(**grid, **many)), "there is no room for them"
    assert explained in shown(make(**grid, **many, refine=["none", "flip"])), "a flip's is told"


@pytest.mark.parametrize(
    "axes", [{}, {"signal": ["eq5", "likelihood"]}, {"step": ["sign", "rms"], "iterations": 2}]
)
def test_a_long_name_is_folded_before_the_table_grows_beyond_the_terminal(axes: dict[str, Any]) -> None:
    layer = "backbone.stages.3.blocks.17.attention.projection.output.norm1"
    text = shown(make(images=5, classes=3, layer=["input", layer], eps=[0, 0.5], **axes))
    assert all(len(line) <= 80 for line in text[:-1])
    assert any("norm1" in line for line in text)


def test_where_every_axis_varies_a_curve_takes_two_lines_at_most_and_the_oracle_one_row() -> None:
    outcome = make(
        images=12,
        classes=5,
        label=["argmax", "uniform", "ground_truth"],
        signal=["eq5", "cross_entropy"],
        layer=["input", "encoder.layer1.0.conv1"],
        step=["sign", "rms"],
        iterations=2,
        refine=["none", "flip"],
        eps=[-0.5, 0, 0.5],
    )
    text = shown(outcome)
    assert all(len(line) <= 80 for line in text[:-1])
    [rule] = [place for place, line in enumerate(text) if line.startswith("───")]
    table = text[rule + 1 : text.index("", rule)]
    assert len(table) <= 2 * 13
    assert "best point of each curve" in text
    oracles = [place for place, line in enumerate(table) if line.startswith("ground_truth, ")]
    assert len(oracles) == 1
    assert oracles[0] >= len(table) - 2
    assert f"{3 * 2**5 - 13} more curves in results.csv" in text
