"""Pictures of what a point changes: which images, what they show, and what is kept of them."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest
import torch
from commands import NET, SET, VARIED, Terminal, pictures
from hypothesis import given
from hypothesis import strategies as st
from networks import build
from PIL import Image

from gpsweep import results
from gpsweep.data.palette import palette
from gpsweep.drawing import (
    BLANK,
    NO_CLASS,
    NONE,
    RIGHT,
    WRONG,
    choose,
    compared,
    marked,
    painted,
    predicted,
    strip,
    throughout,
)
from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.metrics import FN, FP, TP
from gpsweep.pictures import read
from gpsweep.points import Point

RUN = [*SET, *NET, *VARIED, "label=[argmax,uniform]", "eps=[-6,6]", "hydra.run.dir=run"]


@given(st.lists(st.integers(-9, 9), max_size=8), st.integers(1, 6))
def test_the_largest_gains_and_losses_are_chosen(gains: list[int], most: int) -> None:
    base = np.full((len(gains), 2, 3), 50, dtype=np.int64)
    counts = base.copy()
    counts[:, 1, TP] += np.array(gains, dtype=np.int64)
    counts[:, 0, 1:] += 7  # what is no true positive does not matter
    chosen = [gains[place] for place in choose(counts, base, most)]
    up, down = sorted((g for g in gains if g > 0), reverse=True), sorted(g for g in gains if g < 0)
    gained = [g for g in chosen if g > 0]
    assert chosen == gained + [g for g in chosen if g < 0]
    assert gained == up[: len(gained)] and chosen[len(gained) :] == down[: len(chosen) - len(gained)]
    assert len(chosen) == min(most, len(up) + len(down))
    assert len(gained) >= min(len(up), most - most // 2)
    assert len(chosen) - len(gained) >= min(len(down), most // 2)


@pytest.mark.parametrize(
    ("most", "chosen"),
    [
        (1, [39]),
        (2, [39, 41]),  # a gain and a loss are not alike
        (4, [39, 20, 41, 60]),
        (6, [39, 33, 20, 41, 60, 43]),  # there are no others any more
    ],
)
def test_images_are_not_neighbours_as_long_as_there_are_others(most: int, chosen: list[int]) -> None:
    """Neighbours may be frames of a video: nearly the same image, and nearly the same changes."""
    gains = np.zeros(80, dtype=np.int64)
    gains[32:40], gains[20] = range(92, 100), 3
    gains[41], gains[43], gains[60] = -50, -5, -4
    base = np.full((80, 2, 3), 100, dtype=np.int64)
    counts = base.copy()
    counts[:, 1, TP] += gains
    assert choose(counts, base, most) == chosen


def test_colours_tell_classes_and_changes() -> None:
    classes = np.array([[0, 15, NONE, 256]])
    assert painted(classes)[0].tolist() == [[0, 0, 0], [192, 128, 128], [*BLANK], [0, 0, 0]]
    image = np.full((1, 3, 3), 100, dtype=np.uint8)
    right, wrong = np.array([[True, False, False]]), np.array([[False, False, True]])
    assert marked(image, right, wrong)[0].tolist() == [[*RIGHT], [205] * 3, [*WRONG]]


@pytest.mark.parametrize(("side", "panel"), [(10, 160), (60, 120), (320, 320), (700, 320)])
def test_panels_of_any_size_stand_beside_each_other(side: int, panel: int) -> None:
    white, black = (np.full((side, side // 2, 3), level, dtype=np.uint8) for level in (255, 0))
    image = Image.open(BytesIO(strip([white, black, white])))
    assert image.size == (3 * (panel // 2) + 8, panel)
    middle = np.asarray(image)[panel // 2]
    assert middle[panel // 4].tolist() == [255] * 4
    assert middle[panel // 2 + 1].tolist() == [0] * 4  # nothing, in a light and in a dark page
    assert middle[panel // 2 + 4 + panel // 4].tolist() == [0, 0, 0, 255]


def run(terminal: Terminal, *arguments: str) -> dict[str, Any]:
    code, _, err = terminal(*RUN, *arguments)
    assert (code, [line for line in err.splitlines() if "stored in" not in line]) == (0, [])
    index = terminal.folder / "run" / "pictures" / "pictures.json"
    return json.loads(index.read_text()) if index.is_file() else {}


@pytest.mark.drawn
@pytest.mark.filterwarnings("ignore:data.size", "ignore:model.class_map")
@pytest.mark.parametrize("extra", [[], ["model.class_map={0: 0, 1: 1, 2: 2, 3: null, 4: 4}"]])
@pytest.mark.parametrize("sizes", [((12, 16),), ((12, 16), (9, 20))])
def test_pictures_agree_with_the_counts(
    terminal: Terminal, sizes: tuple[tuple[int, int], ...], extra: list[str]
) -> None:
    pictures(terminal.folder, sizes=sizes)
    code, _, err = terminal(*RUN, *extra, "data.batch_size=2", "pictures=3")
    assert code == 0, err
    shown = json.loads((terminal.folder / "run" / "pictures" / "pictures.json").read_text())
    found = results.read(terminal.folder / "run")
    rows = results.tables(terminal.folder / "run")[0]
    point = Point(**shown["point"])
    assert float(rows["score"].max()) == pytest.approx(float(rows["score"][found.points.index(point)]))
    counts = np.asarray(found.counts[found.points.index(point)])
    gain = (counts[..., TP] - found.base[..., TP]).sum(1)
    assert 1 <= len(shown["pictures"]) <= 3
    for picture in shown["pictures"]:
        assert picture["right"] - picture["wrong"] == gain[found.ids.index(picture["id"])] != 0
        assert max(picture["right"], picture["wrong"]) > 0
    page = (terminal.folder / "run" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(shown["pictures"])
    swatches = dict(re.findall(r'style="background:(#\w{6})"></span>([^<]+)</th>', page))
    assert len(swatches) > 1 and "Classes have the colours of the table above." in page
    for colour, name in swatches.items():
        assert colour == "#" + bytes(palette()[found.classes.index(name)]).hex()
    _, read_again = read(terminal.folder / "run", found.points, found.ids)
    height, width = sizes[found.ids.index(shown["pictures"][0]["id"]) % len(sizes)]
    image = Image.open(BytesIO(b64decode(next(iter(read_again)).partition(",")[2])))
    assert image.size == (5 * (160 // width) * width + 16, (160 // width) * height)


@pytest.mark.drawn
def test_predictions_are_kept_and_none_is_made_for_none(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(terminal.folder)
    first = run(terminal)
    assert first["pictures"]

    asked = []

    def counted(net: Any, source: Any, row: int, *arguments: Any, **options: Any) -> Any:
        asked.append(source.ids[row])
        return predicted(net, source, row, *arguments, **options)

    monkeypatch.setattr("gpsweep.drawing.predicted", counted)
    assert run(terminal) == first and not asked
    one, *_ = (terminal.folder / "outputs" / "store").glob("*/pictures/*.npz")
    one.write_bytes(one.read_bytes()[:-9])
    with pytest.warns(UserWarning, match="damaged, made anew"):
        assert run(terminal) == first and len(asked) == 1
    assert run(terminal, "fresh=true") == first and len(asked) == 1 + len(first["pictures"])
    own = terminal.folder / "run" / "pictures" / "1.png"
    own.write_bytes(b"of somebody else")
    assert run(terminal, "pictures=0") == {}
    assert own.read_bytes() == b"of somebody else"
    own.unlink()
    assert not [*(terminal.folder / "run" / "pictures").glob("*.png")]
    assert "data:image/png" not in (terminal.folder / "run" / "report.html").read_text()


@pytest.mark.drawn
@pytest.mark.parametrize("kept", [True, False])
def test_a_store_that_cannot_be_written_takes_no_picture_along(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    """It may be another user's: all that the run asks for is there, and what is kept for pictures is read."""
    pictures(terminal.folder)
    first = run(terminal)
    [folder] = (terminal.folder / "outputs" / "store").glob("*/pictures")

    def refuse(folder: Path, *_: Any, **__: Any) -> None:
        raise GpsweepError(f"{folder}: expected a folder that can be written")

    monkeypatch.setattr("gpsweep.cache.save", refuse)
    if kept:
        monkeypatch.setattr("gpsweep.drawing.predicted", None)
    else:
        rmtree(folder)
    assert run(terminal) == first


@pytest.mark.drawn
@pytest.mark.filterwarnings("ignore:model.class_map")
@pytest.mark.parametrize("void", [None, 1])
def test_images_of_a_classification_are_named_as_the_engine_predicts(
    terminal: Terminal, void: int | None
) -> None:
    names, generator = ["ant", "bee", "cat", "dog", "elk"], np.random.default_rng(0)
    for number in range(25):
        path = terminal.folder / "images" / names[number % 5] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (9, 14, 3), dtype=np.uint8)).save(path)
    ours = "{0: 0, 1: 1, 2: 2, 3: 3, 4: 4}".replace(f"{void}: {void}", f"{void}: null")
    net = [
        "model=custom",
        "model.net={_target_: networks.small, name: classifier}",
        f"model.class_map={ours}",
    ]
    plain = ["model.mean=0", "model.std=1", "model.scale=1", "data=folder", "data.images=images"]
    code, _, err = terminal(*net, *plain, "eps=-99", "pictures=6", RUN[-1])
    assert code == 0, err
    shown = json.loads((terminal.folder / "run" / "pictures" / "pictures.json").read_text())
    point = Point(**shown["point"])
    kept = [name if place != void else NO_CLASS for place, name in enumerate(names)]
    assert shown["pictures"]
    for picture in shown["pictures"]:
        path = terminal.folder / "images" / picture["id"]
        x = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None].float()
        found = dict(curve(build("classifier"), x, eps=[0, point.eps], label=point.label))
        predicted = [kept[int(logits.argmax())] for logits in found.values()]
        assert predicted == [picture["base"], picture["point"]]
        truth = path.parent.name
        assert [picture["wrong"], picture["right"]] == [int(each == truth) for each in predicted]
    page = (terminal.folder / "run" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(shown["pictures"])
    assert f"{picture['base']} → {picture['point']}" in page
    assert 'class="swatch"' not in page, "an image has no colours of classes"
    assert all(picture["truth"] == picture["id"].partition("/")[0] for picture in shown["pictures"])

    code, _, err = terminal(*net, *plain, "eps=0", "pictures=6", RUN[-1])
    assert code == 0, err
    alone = json.loads((terminal.folder / "run" / "pictures" / "pictures.json").read_text())["pictures"]
    assert len(alone) == 6
    page = (terminal.folder / "run" / "report.html").read_text()
    for picture in alone:
        assert picture["truth"] == picture["id"].partition("/")[0]
        fits = picture["base"] == picture["truth"]
        assert (picture["right"], picture["wrong"]) == (int(fits), int(not fits))
        word = "right" if fits else f"wrong: {picture['truth']}"
        assert f'{picture["base"]}, <b class="{word.partition(":")[0]}">{word}</b><br>{picture["id"]}' in page


@pytest.mark.drawn
def test_what_fails_takes_no_result_along(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(terminal.folder)

    def fail(*arguments: Any, **options: Any) -> None:
        raise GpsweepError("data: it is gone")

    monkeypatch.setattr("gpsweep.drawing.predicted", fail)
    with pytest.warns(UserWarning, match="pictures=4: not all were drawn: data: it is gone"):
        code, out, _ = terminal(*RUN)
    assert code == 0 and "report.html" in out


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 6))
def test_images_of_the_base_lie_throughout_the_data(known: list[bool], most: int) -> None:
    base = np.zeros((len(known), 2, 3), dtype=np.int64)
    base[:, 1, FP] = 3
    base[known, 0, FN] = 5
    able = np.flatnonzero(known).tolist()
    chosen = [able.index(place) for place in throughout(base, most)]
    assert len(chosen) == min(most, len(able)) == len(set(chosen)) and chosen == sorted(chosen)
    apart = np.diff([-chosen[0] - 1, *chosen, 2 * len(able) - 1 - chosen[-1]]) if chosen else np.ones(1)
    assert apart.max() - apart.min() <= 2


@pytest.mark.drawn
def test_of_a_network_by_itself_pictures_show_what_is_right(terminal: Terminal) -> None:
    pictures(terminal.folder)
    shown = run(terminal, "eps=0", "pictures=3")
    found = results.read(terminal.folder / "run")
    assert Point(**shown["point"]).eps == 0
    assert len(shown["pictures"]) == 3
    for picture in shown["pictures"]:
        own = found.base[found.ids.index(picture["id"])].sum(0)
        assert (picture["right"], picture["wrong"]) == (own[TP], own[FN])
    page = (terminal.folder / "run" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert f"{own[TP]:,} pixels right, {own[FN]:,} wrong" in page
    assert "image, truth, base, errors of " in page and "set right" not in page
    file = next(iter(read(terminal.folder / "run", found.points, found.ids)[0:2][1]))
    image = Image.open(BytesIO(b64decode(file.partition(",")[2])))
    assert image.size == (4 * 160 + 12, 120), "panels of 12 × 16"


def test_errors_are_marked_where_there_is_a_truth() -> None:
    target = torch.tensor([[0, 1, 2, 1, 255]])
    sample = {"image": torch.full((3, 1, 5), 100, dtype=torch.uint8), "target": target, "id": "a"}
    base = np.array([[0, 1, NONE, 0, 0]])
    panels, right, wrong = compared(sample, base, None, classes=3)
    assert (right, wrong) == (2, 2)
    assert panels[3][0].tolist() == [[205] * 3, [205] * 3, [*WRONG], [*WRONG], [205] * 3]
    assert panels[1][0, 4].tolist() == panels[2][0, 2].tolist() == [*BLANK]


@pytest.mark.drawn
def test_no_refinement_alone_is_shown(terminal: Terminal) -> None:
    pictures(terminal.folder)
    assert run(terminal, "eps=0", "refine=flip") == {}


def test_pictures_of_another_run_are_none(tmp_path: Path) -> None:
    point = Point(eps=1.0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "1.png").write_bytes(strip([np.zeros((4, 4, 3), dtype=np.uint8)]))
    content = {"point": point.asdict(), "pictures": [{"file": "1.png", "id": "a", "right": 2, "wrong": 1}]}
    (folder / "pictures.json").write_text(json.dumps(content))
    assert [each.right for each in read(tmp_path, [point], ["a", "b"])[1].values()] == [2]
    assert not read(tmp_path, [Point(eps=2.0)], ["a"])[1]
    assert not read(tmp_path, [point], ["b"])[1]
    (folder / "1.png").unlink()
    assert not read(tmp_path, [point], ["a"])[1]
    (folder / "pictures.json").write_text("{")
    assert not read(tmp_path, [point], ["a"])[1]
    assert not read(tmp_path / "elsewhere", [point], ["a"])[1]
