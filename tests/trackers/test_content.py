"""What every tracker is given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from finished import ABSENT, Finished, name, write
from hypothesis import given
from hypothesis import strategies as st

from gpsweep import pictures
from gpsweep.errors import GpsweepError
from gpsweep.points import Point
from gpsweep.trackers import content, sweep_of
from gpsweep.trackers.content import tracked, unique, word


def test_curves_are_named_by_label_and_by_what_differs(tmp_path: Path, finished: Finished) -> None:
    rows = finished.rows()
    assert tracked(finished.folder).names == [name(row) for row in rows]
    one = tracked(write(tmp_path / "one", label="argmax", eps=[0, 1]).folder)
    assert one.names == ["argmax", "argmax"]
    steps = tracked(write(tmp_path / "steps", label="argmax", step=["sign", "rms"], eps=[1]).folder)
    assert steps.names == ["argmax/sign", "argmax/rms"]
    flip = tracked(write(tmp_path / "flip", label="argmax", refine=["none", "flip"], eps=[1]).folder)
    assert flip.names == ["argmax/none", "argmax/flip"]


def test_layers_that_read_the_same_stay_apart(tmp_path: Path) -> None:
    run = tracked(write(tmp_path / "run", label="argmax", layer=["a.b", "a_b"], eps=[0, 1]).folder)
    assert sorted(run.curves()) == ["argmax/a_b", "argmax/a_b 2"]
    assert len(next(run.rows())) == 2 + 2 * (7 + 11)


def test_a_row_an_eps_ascending(finished: Finished) -> None:
    rows = list(tracked(finished.folder).rows())
    assert [row["eps"] for row in rows] == [-1, 0, 0.25, 0.5]
    assert len(rows[3]) == len(rows[0]) - 12, "the missing class"
    assert f"argmax/input/1x/iou/{ABSENT}" in rows[0]


def test_the_configuration_is_what_the_run_kept_without_the_tracker(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another machine would resolve what Hydra keeps in its own way, and merged shards have no such file.
    (finished.folder / ".hydra").mkdir()
    (finished.folder / ".hydra" / "config.yaml").write_text("model: {name: '${oc.env:HERE}'}\n")
    monkeypatch.setenv("HERE", "elsewhere")
    config = tracked(finished.folder).config
    assert config["model"]["name"] == "smp-Unet"
    assert "tracker" not in config
    assert config["provenance"]["samples"] == 12
    finished.note(config="data: ${oc.env:NOT_THERE_AT_ALL}\n")
    assert tracked(finished.folder).config["data"] == "${oc.env:NOT_THERE_AT_ALL}"
    finished.note(config="")
    assert set(tracked(finished.folder).config) == {"provenance"}


def test_steps_are_whole_and_in_the_order_of_eps(tmp_path: Path) -> None:
    run = tracked(write(tmp_path / "run", label="argmax", eps=[0.25, -1, 0]).folder)
    assert run.steps() == {0.25: 250, -1.0: -1000, 0.0: 0}
    fine = tracked(write(tmp_path / "fine", label="argmax", eps=[0.00001, 2]).folder)
    assert fine.steps() == {0.00001: 1, 2.0: 200000}


def test_the_oracle_is_never_the_best(finished: Finished) -> None:
    run = tracked(finished.folder)
    assert max(run.points, key=lambda point: point["score"])["label"] == "ground_truth"
    assert run.headline()["best/label"] == "argmax"


def test_costs_are_those_of_the_table(tmp_path: Path, finished: Finished) -> None:
    run = tracked(finished.folder)
    costs = [float(row["cost"]) for row in finished.rows()]
    assert [point["cost"] for point in run.points] == costs
    assert len(set(costs)) > 2
    assert run.headline()["best/cost"] == run.top["cost"]
    unknown = tracked(write(tmp_path / "unknown", label="argmax", eps=[0, 1], costs=None).folder)
    assert [point.get("cost") for point in unknown.points] == [1.0, None]


def test_a_refinement_that_gains_alone_does_not_help(tmp_path: Path) -> None:
    folder = write(tmp_path / "run", label="random_onehot", refine=["none", "flip"], eps=[-0.5, 0]).folder
    best = tracked(folder).best["random_onehot/flip"]
    assert (best["eps"], best["refine"], best["helps"]) == (0, "flip", False)
    assert best["delta_low"] > 0


def test_a_gain_on_held_out_images_is_told(tmp_path: Path, finished: Finished) -> None:
    axes = {"label": ["argmax", "uniform", "ground_truth"], "eps": [-0.5, 0.25, 0.5]}
    half = write(tmp_path / "half", info={"select": {"seed": 0}}, **axes)
    run = tracked(half.folder)
    chosen = [row for row in half.rows("selection.csv") if row["label"] != "ground_truth"]
    row = max(chosen, key=lambda row: float(row["tune_delta"]))
    assert run.headline()["held/label"] == row["label"]
    for key, column in {
        "eps": "tune_eps",
        "delta": "held_delta",
        "low": "held_low",
        "high": "held_high",
    }.items():
        assert run.headline()[f"held/{key}"] == float(row[column])
    assert run.headline()["held/p_value"] == float(row["p_value"])
    assert str(run.headline()["held/helps"]) == row["helps"]
    assert [path.name for path in run.files] == [
        *("results.csv", "per_class.csv", "summary.json", "selection.csv")
    ]
    whole = tracked(finished.folder)
    assert not [key for key in whole.headline() if key.startswith("held/")]
    assert "selection.csv" not in {path.name for path in whole.files}
    bound = write(tmp_path / "bound", info={"select": {"seed": 0}}, label="ground_truth", eps=[0, 1])
    assert tracked(bound.folder).held == {}


def test_all_pictures_are_found(finished: Finished) -> None:
    (finished.folder / "pictures").mkdir()
    for path in ("pictures/b.png", "pictures/a.png"):
        (finished.folder / path).write_bytes((finished.folder / "curves.png").read_bytes())
    assert list(tracked(finished.folder).pictures) == ["cost", "curves", "pictures/a", "pictures/b"]


def test_pictures_of_images_say_what_they_show(finished: Finished) -> None:
    shown = [pictures.Picture("changes-1.png", "street", 120, 30)]
    pictures.note(finished.folder, Point(layer="encoder.down", iterations=2, eps=0.25), shown)
    assert tracked(finished.folder).captions == {
        "pictures/changes-1": "street: image, truth, base, point, changes; the point is "
        "argmax/encoder_down/2x eps=0.25; 120 pixels set right, 30 wrong"
    }
    shown = [pictures.Picture("changes-1.png", "7.png", 0, 1, "7", "1")]
    pictures.note(finished.folder, Point(eps=0.25), shown)
    assert list(tracked(finished.folder).captions.values()) == [
        "7.png: 7 → 1, wrong, at argmax/input/1x eps=0.25"
    ]
    for task, caption in (
        (("7", "7", "1"), "7.png: 7, wrong: 1, without perturbation"),
        ((), "7.png: image, truth, base, errors; 5 pixels right, 2 wrong"),
    ):
        right, wrong = (0, 1) if task else (5, 2)
        pictures.note(
            finished.folder, Point(eps=0), [pictures.Picture("base-1.png", "7.png", right, wrong, *task)]
        )
        assert tracked(finished.folder).captions == {"pictures/base-1": caption}
    pictures.note(finished.folder, Point(eps=8), shown)
    assert not tracked(finished.folder).captions, "of another run"


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(GpsweepError, match=r"missing results\.csv"):
        tracked(tmp_path)


def test_a_run_knows_its_sweep(sweep: Path, finished: Finished) -> None:
    assert sweep_of(sweep / "1") == sweep
    assert sweep_of(finished.folder) is None


@given(st.lists(st.text(max_size=4), max_size=8))
def test_names_stay_apart_and_plain(names: list[str]) -> None:
    found = unique([word(each) for each in names])
    assert len(set(found)) == len(names)
    assert not [each for each in found if "." in each or "/" in each]


def test_jobs_of_one_name_are_told_apart_by_where_they_lie(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    assert content.below(sweep / "a" / "val", sweep) == Path("a/val")
    assert content.below(sweep / "0", sweep) == Path("0")
    assert content.below(sweep, None) == content.below(sweep, sweep) == Path("sweep")
    assert content.below(tmp_path / "elsewhere", sweep) == Path("elsewhere")


def test_sweeps_of_one_folder_are_told_apart_by_where_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = tmp_path / "2026-01-02"
    assert content.place(day / "03-04-05" / "0", day / "03-04-05") == Path("2026-01-02/03-04-05/0")
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path)
    assert content.place(tmp_path / "a" / "0", tmp_path / "a") == Path("a/0")
    assert content.place(Path("x/a/0"), Path("x/a")) == Path("x/a/0")
    monkeypatch.chdir(tmp_path / "x")
    assert content.place(Path("a/0"), Path("a")) == Path("a/0")
    elsewhere = [content.group_name(tmp_path / folder / "a") for folder in ("y", "z")]
    assert len(set(elsewhere)) == 2
    assert all(re.fullmatch(r"a-[0-9a-f]{8}", each) for each in elsewhere)
    assert content.place(day / "03-04-05", None) == Path("2026-01-02/03-04-05")
