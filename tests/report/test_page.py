"""What the page says and that nothing in it is live."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcomes import INFO, make

from gpsweep import metrics, report, results, words
from gpsweep.counts import Counts
from gpsweep.points import Point
from gpsweep.report import classes, page
from gpsweep.report.__main__ import main
from gpsweep.report.verdict import Verdict
from gpsweep.results import selection
from gpsweep.results.findings import Findings
from gpsweep.results.outcome import Outcome

pytestmark = pytest.mark.usefixtures("undrawn")


class Reader(HTMLParser):
    """Collect the tags, the attributes and the text of a page, and check that its tags are closed."""

    VOID = frozenset({"meta", "link", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words).replace("\xa0", " "))


def read(outcome: Outcome) -> Reader:
    return Reader(page.page(Findings(outcome)))


def verdict(outcome: Outcome) -> Verdict:
    return page.verdict(Findings(outcome))


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return make(images=60)


@pytest.fixture(scope="module")
def html(outcome: Outcome) -> str:
    return page.page(Findings(outcome))


def test_a_gain_is_told_with_its_interval_and_its_caveat(outcome: Outcome, html: str) -> None:
    rows = results.table(outcome)
    top = rows.loc[rows["score"].idxmax()]
    text = Reader(html).text
    assert "smp-Unet-resnet18 on camvid" in text
    assert f"Guided perturbations help: argmax at ε = {top['eps']} grey levels raises the mean IoU" in text
    assert f"a gain of {words.signed(top['delta'])} percentage points (95 % interval" in text
    assert f"{words.signed(top['delta_low'])} to {words.signed(top['delta_high'])}" in text
    assert "chosen as the best of 160 on the same 60 images, so its gain is optimistic, " in text
    assert "and neither interval nor p is corrected for that; confirm it on images" in text


def test_intervals_and_tests_are_said_to_be_of_single_points(html: str) -> None:
    text = Reader(html).text
    assert "bootstrap interval of the gain over images, for each ε by itself" in text
    assert "the paired permutation test over images then gives p below 0.05, each by itself." in text
    single = read(make(images=5, classes=3, label="argmax", eps=0.5)).text
    assert "by itself" not in single


def test_a_best_point_stands_beside_the_p_value_of_its_test() -> None:
    axes: dict[str, Any] = {"images": 40, "label": ["argmax", "random_onehot"], "eps": [0.1, 0.3]}
    findings = Findings(make(**axes))
    table = page.page(findings).partition("Best point of each curve</h2>")[2].partition("</table>")[0]
    gain, loss = table.split("<tr>")[2:]
    best = findings.best.set_index("label")
    assert f'<td class="number extra">{words.p(best["p_value"]["argmax"])}</td>' in gain
    assert best["p_value"]["argmax"] == findings.p_value(findings.best.index[0])
    assert '<td class="number extra">–</td>' in loss, "its interval does not lie above zero"


def test_no_gain_is_told_plainly() -> None:
    outcome = make(images=30, label="random_onehot", eps=[-0.5, 0, 0.5])
    text = read(outcome).text
    assert "No: no point’s 95 % interval lies above zero." in text
    assert "no perturbation scores higher" in text
    assert "help:" not in text
    assert "What changes for each class" not in text


def test_a_higher_score_whose_interval_holds_zero_is_no_gain() -> None:
    outcome = make(images=20, label="argmax", eps=[0.5])
    base = outcome.base.copy()
    point = base.copy()
    point[0, 0] += [50, 0, -50]  # one image alone gains
    outcome = replace(outcome, counts=Counts.of(point[None]), base=base)
    found = verdict(outcome)
    assert found.row["delta"] > 0
    assert found.kind == "no"
    assert "the point’s 95 % interval does not lie above zero" in read(outcome).text


def test_a_single_point_was_not_chosen() -> None:
    text = read(make(images=40, label="argmax", eps=0.3)).text
    assert "One point was run and none chosen" in text
    assert "optimistic" not in text


def held_out(**axes: Any) -> tuple[dict[str, Any], str]:
    """Return the row that one would take on the tuning half, and the page's text."""
    outcome = make(**axes)
    held = selection.held_out(outcome, results.table(outcome))
    assert held is not None
    row = selection.overall(held)
    assert row is not None
    return row, read(outcome).text


def test_held_out_has_the_last_word() -> None:
    row, text = held_out(info={"select": {"seed": 0}})
    assert f"help: argmax at ε = {row['tune_eps']} grey levels, chosen on 60 images, raises the mean" in text
    assert f"of the 60 others from {row['held_base']:.2f} to {row['held_score']:.2f} %" in text
    low, high = words.signed(row["held_low"]), words.signed(row["held_high"])
    gain = f"{words.signed(row['held_delta'])} percentage points"
    assert f"gain of {gain} (95 % interval {low} to {high}, p = {row['p_value']:.3f})" in text
    assert f"gains {words.signed(row['same_delta'])} (95 % interval" in text
    assert "as the best of 160 points it is flattered by the choice" in text
    assert "“Held out”: ε is the best on 60 images (split: at random, seed 0)" in text
    assert "p is that of the paired permutation test over images" in text
    assert "selection.csv" in text


def test_held_out_may_say_no_where_the_same_images_say_yes() -> None:
    tune = {"select": {"tune": [f"image_{number:05d}" for number in range(3, 120)]}}
    row, text = held_out(label=["argmax", "uniform"], info=tune)
    assert not row["helps"]
    assert "No: argmax" in text
    assert "chosen on 117 images, takes the mean IoU of the 3 others" in text
    assert "no gain beyond chance" in text
    assert "help:" not in text
    assert "(split: data.tune_split)" in text
    _, nothing = held_out(images=30, label="random_onehot", eps=[-0.5, 0, 0.5], info={"select": {"seed": 0}})
    assert "No: on the 15 images to choose on, no perturbation scores higher than the base." in nothing
    assert "that it is judged on, no perturbation scores higher than the base." in nothing


def test_what_is_not_held_out_says_of_which_images_it_is() -> None:
    grid: dict[str, Any] = {"label": ["argmax", "ground_truth"], "images": 40}
    _, text = held_out(**grid, info={"select": {"seed": 0}})
    assert re.search(r"The oracle ground_truth .* reaches [\d.]+ % on all 40 images at ε", text)
    assert "the largest gain first, on all 40 images" in text
    assert "on all 40 images" not in read(make(**grid)).text


def test_held_out_of_a_classifier_or_of_one_point() -> None:
    task = {"task": "classification", "images": 300, "classes": 4, "info": {"select": {"seed": 0}}}
    assert "exact McNemar test over images" in held_out(**task)[1]
    _, single = held_out(images=40, label="argmax", eps=0.3, info={"select": {"seed": 0}})
    assert "One point was run and none chosen" in single
    assert "“Held out”" in single


def test_nothing_held_out_is_not_spoken_of(html: str) -> None:
    text = Reader(html).text
    assert "eld out" not in text
    assert "selection.csv" not in text


def test_the_oracle_is_a_bound_and_never_help() -> None:
    only = make(images=30, label="ground_truth", eps=[0.1, 0.2])
    assert verdict(only).kind == "oracle"
    assert "A bound, not a gain" in read(only).text
    with_others = make(images=30, label=["ground_truth", "random_onehot"], eps=[0.1, 0.2])
    assert verdict(with_others).kind == "no"
    assert "which sees the answers, reaches" in read(with_others).text
    alone = read(replace(only, info={"select": {"seed": 0}})).text
    assert "A bound, not a gain" in alone
    assert "help:" not in alone
    assert verdict(make(images=120, label=["ground_truth", "argmax"], eps=[0, 0.4])).row["label"] == "argmax"


def test_inner_layers_and_iterations_are_named() -> None:
    grid: dict[str, Any] = {
        "images": 30,
        "label": "argmax",
        "layer": "a.b",
        "eps": [0.2, 0.4],
        "iterations": 2,
    }
    assert re.search(
        r"argmax with \d iterations? at ε = 0\.\d times the activation’s RMS in layer a\.b",
        read(make(**grid)).text,
    )
    several = grid | {"label": ["argmax", "ground_truth"], "step": ["sign", "rms"], "layer": ["input", "a.b"]}
    text = read(make(**several)).text
    assert re.search(r"argmax with \d iterations? and step (sign|rms) at ε = 0\.\d ", text)
    assert re.search(
        r"ground_truth with \d iterations? and step \w+, which .* at ε = 0\.\d grey levels", text
    )
    absolute = read(make(**grid, info={"layer_scale": "absolute"})).text
    assert re.search(r"at ε = 0\.\d in layer a\.b", absolute)


@pytest.mark.drawn
def test_everything_asked_for_is_on_the_page() -> None:
    outcome = make(images=30, layer=["input", "a.b"], eps=[-0.5, 0, 0.5], iterations=2)
    text = read(outcome).text
    for axis in (
        "label",
        "signal",
        "layer",
        "step",
        "iterations",
        "best ε",
        "score",
        "base",
        "95 % interval",
        "time",
    ):
        assert axis in text
    for name in (
        *outcome.classes,
        INFO["command"],
        INFO["weights_sha256"],
        INFO["git_commit"],
        INFO["device"],
    ):
        assert name in text
    assert "name: smp-Unet-resnet18" in text
    assert "torch 2.15.0" in text
    assert "Preparation 6.1 s" in text
    assert "Clean forward and backward passes 9.4 s" in text


def test_the_plain_neighbours_are_told_beside_guided_perturbations() -> None:
    known = {"accuracy": 98.214, "k": 5, "weights": "equal", "features": "fc", "training_images": 60000}
    task = {"task": "classification", "images": 50, "classes": 4, "label": "argmax", "eps": [0, 4]}
    text = read(make(**task, info={"knn": known})).text
    assert "a plain k-NN on the 60,000 training images (k = 5) reaches 98.21 %" in text
    assert "k-NN" not in read(make(**task, info={"knn": {"k": 5}})).text
    rival = "A plain k-NN on the training images reaches 98.21 %"
    assert rival not in text, "the verdict is about another label"
    task |= {"label": "knn", "eps": 4, "labels": ("knn",)}
    assert f"{rival}, without any perturbation." in read(make(**task, info={"knn": known})).text
    halves = {"knn": known, "select": {"seed": 0}}
    held = read(make(**task | {"eps": [2, 4]}, info=halves)).text
    assert f"{rival} on all 50 images, without any perturbation." in held


@pytest.mark.drawn
def test_a_bare_outcome_makes_a_page() -> None:
    text = read(replace(make(images=5, classes=3, eps=[0, 1]), info={})).text
    assert "network on data" in text
    assert "Run it again" not in text
    assert "None" not in text


@pytest.mark.usefixtures("undrawn")
def test_a_folder_whose_name_is_no_text_may_be_in_the_command(tmp_path: Path) -> None:
    command = {"command": "python -m gpsweep hydra.run.dir=r\udcff"}
    findings = Findings(replace(make(images=5, classes=3, eps=[0, 1]), info=command))
    path = report.write(findings, tmp_path)
    assert r"hydra.run.dir=r\udcff" in path.read_text(encoding="utf-8")


def test_the_legend_shows_the_shapes_and_lines_that_are_drawn() -> None:
    labels = ["argmax", "random_onehot", "uniform", "top2", "ground_truth"]
    html = page.page(Findings(make(images=5, classes=3, label=labels, eps=[0, 1], iterations=2)))
    legend = html[html.index('<div class="legend">') :].partition("</div>")[0]
    shapes = re.findall(r'class="chip".*?d="([^"]+)"', legend)
    assert len(set(shapes)) == len(labels)
    assert legend.count('class="dash"') == 2
    points = page.page(Findings(make(images=5, classes=3, label=labels, eps=1, iterations=2)))
    assert 'class="dash"' not in points


@pytest.mark.drawn
def test_names_are_inert() -> None:
    evil = "<script>alert(1)</script>"
    info = {key: evil for key in ("dataset", "model", "command", "config", "device", "git_commit")}
    info |= {"versions": {evil: evil}, "times": {evil: 1.0}}  # type: ignore[dict-item]
    outcome = make(images=30, label=["argmax"], layer=["input", f"a{evil}\"'--&"], eps=[0.2, 0.4], info=info)
    outcome = replace(outcome, classes=(evil, '"><img src=x onerror=alert(1)>', *outcome.classes[2:]))
    seen = read(outcome)
    assert "script" not in seen.tags
    assert "img" not in seen.tags
    assert not any(name.startswith("on") for name, _ in seen.attributes)
    assert evil in seen.text


def test_nothing_is_fetched(html: str) -> None:
    seen = Reader(html)
    for name, value in seen.attributes:
        if name in ("src", "href", "xlink:href", "data", "action", "srcset"):
            assert value is not None
            assert value.startswith(("#", "data:")), f"{name}={value}"
    assert "@import" not in html
    assert not re.search(r"url\((?!#)", html)
    assert not {"script", "iframe", "img", "object"} & set(seen.tags)
    assert len(html) < 1_000_000


@pytest.mark.drawn
def test_two_drawings_share_no_id() -> None:
    seen = read(make(images=30, layer=["input", "a.b"], eps=[-0.5, 0, 0.5]))
    ids = [value for name, value in seen.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = {value[1:] for name, value in seen.attributes if name == "xlink:href" and value}
    assert used
    assert used <= set(ids)


def test_drawings_take_their_colours_from_the_page(html: str) -> None:
    drawing = html[html.index("<figure>") : html.index("</figure>")]
    assert "var(--ink)" in drawing
    assert "var(--series-0b5fa5)" in drawing
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawing)) <= {"#000000"}
    names = set(re.findall(r"var\(--([\w-]+)\)", html))
    light, dark = html.split("prefers-color-scheme: dark", 1)
    for name in names:
        assert f"--{name}:" in light
        assert f"--{name}:" in dark


def test_bars_and_tags_are_printed_though_browsers_leave_out_backgrounds(html: str) -> None:
    printed = html.partition("@media print")[2].partition("</style>")[0]
    assert re.search(r"\.bar, \.tag \{[^}]*[ ;]print-color-adjust: exact", printed)


def test_paper_keeps_together_what_belongs_together(html: str) -> None:
    printed = html.partition("@media print")[2].partition("</style>")[0]
    assert re.search(r"[^{}]*\.note[^{}]*\{ break-inside: avoid", printed)
    assert re.search(r"h2,[^{}]*\.note[^{}]*\{ break-after: avoid", printed)
    assert re.search(r"details pre \{ columns: 3", printed), "settings take pages, a number a line"


def test_tables_are_named_and_scroll_by_keyboard() -> None:
    html = page.page(Findings(make(images=20, label="argmax", info={"select": {"seed": 0}})))
    scrolled = re.findall(r'<div class="scroll"([^>]*)>', html)
    assert len(scrolled) == 3
    assert all('role="group" aria-label="' in each and 'tabindex="0"' in each for each in scrolled)
    assert not re.search(r"<th[^>]*></th>", html), "a heading of nothing"


def test_class_changes() -> None:
    outcome = make(images=30, label="argmax", eps=[0, 0.5])
    dense = np.asarray(outcome.counts)
    dense[:, :, 3] = outcome.base[:, 3] = 0
    outcome = replace(outcome, counts=Counts.of(dense))
    rows = classes.changes(outcome, 1)
    assert classes.changes(outcome, None) == []
    assert len(rows) == 10
    assert outcome.classes[3] not in [row["name"] for row in rows]
    changes = [row["delta"] for row in rows]
    assert changes == sorted(changes, reverse=True)
    per_class = metrics.iou(metrics.total(outcome.counts[1])) - metrics.iou(metrics.total(outcome.base))
    assert changes[0] == pytest.approx(np.nanmax(per_class))
    assert sum(row["share"] for row in rows) == pytest.approx(100)
    assert all(row["left"] >= 0 and row["left"] + row["width"] <= 100.001 for row in rows)
    assert "1 class is absent" in read(outcome).text
    dense[:, 0, 3, metrics.FP] = outcome.base[0, 3, metrics.FP] = 1
    both = replace(outcome, counts=Counts.of(dense))
    assert outcome.classes[3] in [row["name"] for row in classes.changes(both, 1)], "both predict it"
    assert "1 class is absent" in read(both).text


def test_of_a_network_by_itself_the_classes_are_shown_in_place_of_curves() -> None:
    outcome = make(images=30, label="argmax", eps=0)
    base = outcome.base
    base[:, 2, metrics.FP] += base[:, 2, metrics.TP]  # one class is predicted twice as often
    base[:, 3] = 0
    outcome = replace(outcome, counts=Counts.of(base[None].copy()))
    rows = classes.unperturbed(outcome)
    names = [name for place, name in enumerate(outcome.classes) if place != 3]
    assert [row["name"] for row in rows] == names, "in the order of the data"
    totals = metrics.total(base)
    tp, fp, fn = totals[:, metrics.TP], totals[:, metrics.FP], totals[:, metrics.FN]
    iou = {row["place"]: row["score"] for row in rows}
    assert iou[2] == pytest.approx(100 * tp[2] / (tp + fp + fn)[2])
    told = (tp + fn).sum()
    assert [row["truth"] for row in rows] == pytest.approx((100 * (tp + fn) / told)[[*iou]])
    assert [row["predicted"] for row in rows] == pytest.approx((100 * (tp + fp) / told)[[*iou]])
    found = read(outcome)
    assert f"of which {100 * tp.sum() / told:.2f} % are right" in found.text
    assert f"{rows[2]['truth']:.2f} % {rows[2]['predicted']:.2f} % {rows[2]['score']:.2f}" in found.text
    assert "1 class is absent" in found.text
    html = page.page(Findings(outcome))
    assert html.count("<table") == 1 and "best point" not in html.lower() and 'role="img"' not in html
    assert page.page(Findings(make(images=20, classes=60, eps=0))).count("20 more classes</summary>") == 1


def test_where_no_perturbation_is_better_the_classes_of_the_base_are_shown() -> None:
    assert "Each class" in read(make(images=30, label="random_onehot", eps=[-0.5, 0, 0.5])).text
    assert "Each class" not in read(make(images=30, label="argmax", eps=[0, 0.5])).text
    assert "Each class" not in read(make(images=30, eps=0, refine=["flip"])).text, "it is not the base"


def test_the_classes_stand_below_the_point_that_they_are_of() -> None:
    # The highest point gains on one image alone; the classes are those of the other, whose gain is sure.
    gained = np.stack([np.full(40, 2), np.where(np.arange(40) == 39, 400, -5)])[..., None]
    base = np.tile([500, 0, 500], (40, 1, 1))
    points = [Point(eps=0.5), Point(eps=1.0)]
    dense = base + gained[..., None] * np.array([1, 0, -1])
    outcome = Outcome(
        points=points,
        counts=Counts.of(dense),
        base=base,
        task="segmentation",
        classes=("road",),
        ids=[str(number) for number in range(40)],
        seconds=[1.0, 1.0],
        info={"select": {"seed": 0}},
    )
    text = read(outcome).text
    assert "argmax at ε = 1.0 grey levels gains +0.51" in text
    assert "IoU in % at argmax at ε = 0.5 grey levels, the largest gain first" in text
    assert "50.00 50.20 +0.20" in text


@pytest.mark.parametrize("who", ["the base", "the point"])
def test_a_class_of_no_truth_that_one_side_predicts_is_named(who: str) -> None:
    outcome = make(images=30, label="argmax", eps=[0.5])
    dense = np.asarray(outcome.counts)
    dense[:, :, 3] = outcome.base[:, 3] = 0
    outcome = replace(outcome, counts=Counts.of(dense))
    assert "which there is none" not in read(outcome).text
    (outcome.base if who == "the base" else dense[0])[0, 3, metrics.FP] = 1
    found = classes.strays(replace(outcome, counts=Counts.of(dense)), 0)
    assert found == [(who, outcome.classes[3])]
    text = read(replace(outcome, counts=Counts.of(dense))).text
    assert f"Only {who} predicts {outcome.classes[3]}, of which there is none" in text


def test_a_thousand_classes_are_folded() -> None:
    outcome = make(images=20, classes=1000, label="argmax", eps=[0, 0.5])
    html = page.page(Findings(outcome))
    shown, folded = html.split("classes between</summary>")
    assert shown.count('<td class="bars">') == 40
    assert folded.count('<td class="bars">') == 960
    assert len(html) < 1_000_000


@pytest.mark.parametrize(
    ("losses", "first", "last"),
    [
        (0, "The largest gains", "The smallest gains"),
        (3, "The largest gains", "The smallest gains and largest losses"),
        (20, "The largest gains", "The largest losses"),
        (45, "The largest gains and smallest losses", "The largest losses"),
        (50, "The smallest losses", "The largest losses"),
    ],
)
def test_the_ends_of_the_list_of_classes_are_called_what_they_are(losses: int, first: str, last: str) -> None:
    base = np.tile([500, 0, 500], (10, 50, 1))
    gained = np.where(np.arange(50) < 50 - losses, 9, -9)
    dense = base + gained[:, None] * np.array([1, 0, -1])
    outcome = replace(
        make(images=10, classes=50, label="argmax", eps=[0.5]), counts=Counts.of(dense[None]), base=base
    )
    assert re.findall("<h3>(.*)</h3>", page.page(Findings(outcome))) == [first, last]


def test_more_images_are_advised_only_where_they_could_tell() -> None:
    advice = "More images would narrow the interval"
    unsure = make(images=20, label="argmax", eps=[0.5], classes=5)
    assert verdict(unsure).row["delta_low"] < 0 < verdict(unsure).row["delta_high"]
    assert advice in read(unsure).text
    still = make(images=30, label="random_onehot", eps=[-0.5, 0, 0.5])
    assert verdict(still).row["eps"] == 0
    assert advice not in read(still).text
    worse = make(images=30, label="random_onehot", eps=[-0.9, 0.8])
    assert verdict(worse).row["delta_high"] < 0
    assert advice not in read(worse).text
    assert "Even the best point’s interval lies below zero." in read(worse).text


def test_a_loss_on_the_images_held_out_is_called_one() -> None:
    axes = {"images": 40, "label": "random_onehot", "eps": [-0.9, 0.8]}
    row, text = held_out(**axes, info={"select": {"seed": 0}})
    assert row["held_high"] < 0 and row["p_value"] < 0.05
    assert "): a loss beyond chance." in text
    assert "no gain beyond chance" not in text


def test_so_few_images_held_out_cannot_tell_a_gain() -> None:
    says = "no gain beyond chance; so few images cannot tell one."
    axes: dict[str, Any] = {
        "label": "argmax",
        "eps": [0.3, 0.45],
        "classes": 3,
        "info": {"select": {"seed": 0}},
    }
    for images in (10, 12):
        row, text = held_out(images=images, **axes)
        assert row["p_value"] >= 0.05
        assert (says in text) == (row["n_held"] < 6)


def test_one_epsilon_is_no_choice() -> None:
    flatters = "which flatters the gain"
    drawing = "<svg/>"
    assert flatters in page.page(Findings(make(images=20, label="argmax", costs={})), drawing)
    alone = make(images=20, label="argmax", eps=0.5, costs={})
    assert flatters not in page.page(Findings(alone), drawing)
    assert "Mean IoU of each point." in page.page(Findings(alone)), "there is no axis of ε"
    assert "over ε" not in page.page(Findings(alone))


def test_the_time_of_one_command_is_not_that_of_all_batches() -> None:
    stored = {"start": 0.6, "test": 0.0, "shared": 9.4, "points": 171.0}  # all of it by an earlier one
    text = read(make(images=5, classes=3, label="argmax", eps=1, info={"times": stored})).text
    assert "All batches" not in text
    assert "Batches that this command computed 0 ms" in " ".join(text.split())


def test_what_takes_no_pass_of_its_own_has_no_time() -> None:
    outcome = make(images=5, classes=3, label="random_onehot", eps=[0, 0.5])
    table = page.page(Findings(replace(outcome, seconds=[0.0, 1.5]))).partition('<table class="best')[2]
    last = re.findall(r"<td[^>]*>([^<]*)</td>", table.partition("</table>")[0])[-1]
    assert (verdict(outcome).row["eps"], last) == (0, "–")


def test_the_oracles_curves_stand_below_all_others() -> None:
    outcome = make(images=20, label=["ground_truth", "argmax", "uniform"], info={"select": {"seed": 0}})
    tables = page.page(Findings(outcome)).split('<table class="best')[1:]
    for table in tables:
        assert re.findall("</svg>(.*?)</span>", table)[-1] == "ground_<wbr>truth"
    assert len(tables) == 2


def test_a_loss_is_not_said_to_be_gained() -> None:
    axes: dict[str, Any] = {"images": 40, "label": "random_onehot", "eps": [0.2, 0.4]}
    text = read(make(**axes, info={"select": {"seed": 0}})).text
    assert re.search(r"random_onehot at ε = 0\.2 grey levels loses \d\.\d\d \(", text)
    assert "sweep closer to 0 to see whether anything is gained there" in text


def test_many_curves_are_folded() -> None:
    outcome = make(
        images=5, classes=3, layer=["input", "a", "b", "c"], signal=["eq5", "likelihood"], eps=[0, 1]
    )
    assert "8 more curves" in read(outcome).text


@pytest.mark.drawn
@pytest.mark.parametrize("select", [None, {"tune": ["image_00003"]}])
def test_the_report_can_be_made_again(
    select: dict[str, Any] | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = make(images=10, classes=4, eps=[-1, 0, 1], info={"select": select})
    first = report.write(results.write(outcome, tmp_path), tmp_path).read_text()
    assert not (tmp_path / "curves.pdf").exists()
    for name in ("report.html", "curves.svg", "curves.png"):
        (tmp_path / name).unlink()
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text() == first
    assert (tmp_path / "curves.png").is_file() and (tmp_path / "curves.pdf").is_file()


def test_making_it_again_needs_the_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert "counts.npz, came an empty folder" in shown.err
    assert shown.out == ""
