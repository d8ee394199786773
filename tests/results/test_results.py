"""The files of a run: what they say, that they read back exactly, and the words when they do not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib.figure import Figure
from outcomes import INFO, interval, make
from written import csv_rows

from gpsweep import metrics, results
from gpsweep.atomic import save
from gpsweep.counts import Counts
from gpsweep.errors import GpsweepError
from gpsweep.points import AXES
from gpsweep.results import selection
from gpsweep.results.findings import Findings
from gpsweep.results.loading import WORDS
from gpsweep.results.outcome import Outcome, plain, read
from gpsweep.results.significance import p_value

SMALL = {"images": 9, "classes": 4}
COLUMNS = [
    *("label", "signal", "layer", "step", "iterations", "eps", "samples"),
    *("score", "base", "delta", "delta_low", "delta_high", "pixel_accuracy", "seconds", "refine", "cost"),
]
PLAIN = tuple(axis for axis in AXES if axis != "refine")


@pytest.fixture
def outcome() -> Outcome:
    return make(
        label=["argmax", "uniform"],
        eps=[-0.95, 0.0, 0.1, 1e-5],
        layer=["input", "a.b"],
        iterations=2,
        **SMALL,
    )


def same(one: Outcome, other: Outcome) -> None:
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.base, other.base)
    for name in ("points", "task", "classes", "ids", "seconds", "info"):
        assert getattr(one, name) == getattr(other, name)


def test_results_csv_has_one_row_a_point_in_grid_order(outcome: Outcome, tmp_path: Path) -> None:
    rows = results.write(outcome, tmp_path).rows
    found = csv_rows(tmp_path / "results.csv")
    assert list(found[0]) == COLUMNS == list(rows.columns)
    assert len(found) == len(outcome.points)
    for line, point in zip(found, outcome.points, strict=True):
        assert [line[axis] for axis in AXES[:4]] == [point.label, point.signal, point.layer, point.step]
        assert (int(line["iterations"]), float(line["eps"])) == (point.iterations, point.eps)
    assert {line["eps"] for line in found} == {"-0.95", "0.0", "0.1", "0.00001"}
    assert {line["samples"] for line in found} == {"9"}


def exact(path: Path) -> pd.DataFrame:
    """Read a table by Python's own float(); that of older pandas may be off in the last bit."""
    rows = pd.read_csv(path, dtype=str)
    return rows.apply(lambda cells: cells if cells.name in WORDS else cells.map(float))


def test_every_number_comes_from_the_counts_and_reads_back_exactly(outcome: Outcome, tmp_path: Path) -> None:
    results.write(outcome, tmp_path)
    rows = exact(tmp_path / "results.csv")
    base = float(metrics.miou(metrics.total(outcome.base)))
    weights = metrics.resample_weights(9, 1000, 0)
    for place, row in rows.iterrows():
        totals = metrics.total(outcome.counts[place])
        bounds = interval(outcome.counts[place], outcome.base, weights, "segmentation")
        assert row["score"] == float(metrics.miou(totals))
        assert (row["base"], row["delta"]) == (base, row["score"] - base)
        assert (row["delta_low"], row["delta_high"]) == bounds
        assert row["pixel_accuracy"] == float(metrics.accuracy(totals))
        assert row["seconds"] == outcome.seconds[place]
    at_zero = rows[rows["eps"] == 0]
    assert (at_zero[["delta", "delta_low", "delta_high"]] == 0).all(axis=None)


def test_per_class(outcome: Outcome, tmp_path: Path) -> None:
    results.write(outcome, tmp_path)
    rows = exact(tmp_path / "per_class.csv")
    assert list(rows.columns) == [*PLAIN, "refine", "class", "iou", "base", "delta", "tp", "fp", "fn"]
    assert len(rows) == len(outcome.points) * 4
    third = rows.iloc[2 * 4 : 3 * 4]
    totals = metrics.total(outcome.counts[2])
    assert list(third["class"]) == list(outcome.classes)
    assert (third["eps"] == outcome.points[2].eps).all()
    np.testing.assert_array_equal(third["iou"], metrics.iou(totals))
    np.testing.assert_array_equal(third[["tp", "fp", "fn"]], totals)
    np.testing.assert_array_equal(third["base"], metrics.iou(metrics.total(outcome.base)))
    np.testing.assert_array_equal(third["delta"], third["iou"] - third["base"])


def test_classification_speaks_of_accuracy(tmp_path: Path) -> None:
    outcome = make(task="classification", images=50, classes=5, label="argmax", eps=[0, 4])
    rows = results.write(outcome, tmp_path).rows
    assert "accuracy" in pd.read_csv(tmp_path / "per_class.csv").columns
    right = outcome.counts[1][:, :, 0].sum()
    assert rows["score"].iloc[1] == pytest.approx(100 * right / 50)
    assert (rows["score"] == rows["pixel_accuracy"]).all()
    assert results.load(tmp_path)["accuracy"].sizes["class"] == 5


def test_best_point_of_each_curve() -> None:
    rows = results.table(make(label=["argmax", "uniform"], eps=[-2, -1, 0, 1, 2], **SMALL))
    rows["score"] = [1.0, 5, 2, 5, 5, 0, 0, 0, 0, 0]  # ties: the smallest |ε|, then grid order
    rows["delta_low"] = [0.0, 0.1, 0, 0, 0, 0, 0, 0, 0, 0]
    best = results.best(rows)
    assert list(best["label"]) == ["argmax", "uniform"]
    assert list(best["eps"]) == [-1, 0]
    assert list(best["helps"]) == [True, False]


def test_summary(outcome: Outcome, tmp_path: Path) -> None:
    rows = results.write(outcome, tmp_path).rows
    content = json.loads((tmp_path / "summary.json").read_text())
    for key in ("dataset", "model", "weights_sha256", "versions", "git_commit", "times", "command"):
        assert content[key] == outcome.info[key]
    assert (content["task"], content["samples"], content["points"]) == ("segmentation", 9, 32)
    assert content["base"] == rows["base"].iloc[0]
    assert len(content["best"]) == 8
    first = content["best"][0]
    assert set(first) >= {*AXES, "score", "delta", "delta_low", "delta_high", "p_value", "helps"}
    assert first["helps"] is (first["delta_low"] > 0)
    findings = Findings(outcome)
    for place, best in zip(selection.best(rows).index, content["best"], strict=True):
        tested = best["delta_low"] > 0
        assert best["p_value"] == (findings.p_value(place) if tested else None)
        assert best["helps"] is (tested and best["p_value"] < metrics.ALPHA)
    assert {best["p_value"] is None for best in content["best"]} == {True, False}


def test_what_is_held_out_is_kept_beside_what_is_not(tmp_path: Path) -> None:
    axes = {"label": ["argmax", "ground_truth"], "eps": [-0.95, 1e-5, 0.1], **SMALL}
    results.write(make(**axes), tmp_path / "none")
    assert not (tmp_path / "none" / "selection.csv").exists()
    assert json.loads((tmp_path / "none" / "summary.json").read_text())["held_out"] is None

    outcome = make(**axes, info={"select": {"seed": 4}})
    rows = results.write(outcome, tmp_path / "half").rows
    held = selection.held_out(outcome, rows)
    assert held is not None
    found = csv_rows(tmp_path / "half" / "selection.csv")
    assert [*found[0]][:11] == [*AXES[:6], "samples", "same_eps", "same_delta", "same_low", "same_high"]
    assert [line["same_eps"] for line in found] == [format(eps, "f").rstrip("0") for eps in held["same_eps"]]
    for name in ("tune_eps", "tune_delta", "held_delta", "held_low", "held_high", "p_value"):
        assert [float(line[name]) for line in found] == held[name].tolist()
    assert {(line["n_tune"], line["n_held"]) for line in found} == {("4", "5")}

    content = json.loads((tmp_path / "half" / "summary.json").read_text())["held_out"]
    assert content["split"] == "at random, seed 4"
    assert content["test"] == "paired permutation test over images"
    assert content["curves"] == results.records(held)
    assert content["chosen"] == content["curves"][0]
    results.load(tmp_path / "half")
    same(read(tmp_path / "half"), outcome)


def test_json_never_says_nan(tmp_path: Path) -> None:
    outcome = make(label="argmax", eps=0.5, info={"times": {"clean": float("nan")}, "device": None}, **SMALL)
    outcome = replace(outcome, seconds=[float("nan")])
    results.write(outcome, tmp_path)
    text = (tmp_path / "summary.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["times"] == {"clean": None}
    assert json.loads(text)["best"][0]["seconds"] is None
    assert plain({1: (np.float32(0.5), np.int8(2), np.bool_(True), Path("a"))}) == {"1": [0.5, 2, True, "a"]}


def test_what_is_written_reads_back_whole(outcome: Outcome, tmp_path: Path) -> None:
    results.write(outcome, tmp_path)
    again = read(tmp_path)
    same(again, outcome)
    pd.testing.assert_frame_equal(results.table(again), results.table(outcome))
    with np.load(tmp_path / "counts.npz") as arrays:
        assert arrays["counts_values"].dtype == arrays["base"].dtype == np.uint16
    results.write(make(task="classification", images=20, classes=3, eps=0.5), tmp_path)
    with np.load(tmp_path / "counts.npz") as arrays:
        assert arrays["counts_values"].dtype == np.uint8


def test_nothing_but_the_files_is_left(outcome: Outcome, tmp_path: Path) -> None:
    results.write(outcome, tmp_path / "new" / "folder")
    names = sorted(path.name for path in (tmp_path / "new" / "folder").iterdir())
    assert names == ["counts.npz", "per_class.csv", "results.csv", "summary.json"]


def test_a_failing_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.csv", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gpsweep.atomic.os.fsync", full)
    with pytest.raises(GpsweepError, match=r"a\.csv.*No space left"):
        save(path, b"new")
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]


def test_a_folder_that_is_a_file_cannot_be_written(outcome: Outcome, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(GpsweepError, match=r"run: expected a folder that can be written"):
        results.write(outcome, tmp_path / "run")


def test_shapes_must_agree(outcome: Outcome) -> None:
    with pytest.raises(ValueError, match="counts"):
        replace(outcome, ids=outcome.ids[1:])
    with pytest.raises(ValueError, match="seconds"):
        replace(outcome, seconds=[])


def test_load_labels_every_axis(outcome: Outcome, tmp_path: Path) -> None:
    rows = results.write(outcome, tmp_path).rows
    data = results.load(tmp_path)
    assert data["score"].dims == PLAIN
    assert data["iou"].dims == (*PLAIN, "class")
    assert list(data["eps"].values) == [-0.95, 0.0, 1e-5, 0.1]
    assert list(data["class"].values) == list(outcome.classes)
    assert data.attrs["model"] == "smp-Unet-resnet18"
    assert json.loads(data.attrs["versions"])["gpsweep"] == "0.1.0"
    for place, point in enumerate(outcome.points):
        at = data.sel({axis: getattr(point, axis) for axis in PLAIN})
        for name in (*COLUMNS[7:-2], "cost"):
            np.testing.assert_equal(float(at[name]), rows[name].iloc[place])
        np.testing.assert_array_equal(at["iou"], metrics.iou(metrics.total(outcome.counts[place])))
    np.testing.assert_array_equal(
        data["class_base"].isel(dict.fromkeys(PLAIN, 0)), metrics.iou(metrics.total(outcome.base))
    )


@pytest.mark.parametrize(
    ("axes", "score", "each", "eps"),
    [
        ({}, "mean IoU [%]", "IoU", "ε [grey levels]"),
        ({"layer": ["input", "a.b"]}, "mean IoU [%]", "IoU", "ε"),
        ({"task": "classification"}, "top-1 accuracy [%]", "accuracy", "ε [grey levels]"),
    ],
)
def test_plots_of_loaded_results_say_units(
    axes: dict[str, Any], score: str, each: str, eps: str, tmp_path: Path
) -> None:
    outcome = make(label="argmax", eps=[-1, 0, 1], **SMALL, **axes)
    results.write(outcome, tmp_path)
    data = results.load(tmp_path)
    figure = Figure()
    data["score"].isel(layer=0).squeeze().plot(ax=figure.subplots())
    [drawn] = figure.axes
    assert (drawn.get_ylabel(), drawn.get_xlabel()) == (score, eps)
    assert all(variable.attrs["units"] for variable in data.data_vars.values())
    assert data["accuracy" if "task" in axes else "iou"].attrs["long_name"] == each
    assert data["delta_high"].attrs == {
        "long_name": "upper end of the gain's 95% interval",
        "units": "percentage points",
    }
    data.to_netcdf(tmp_path / "run.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "run.nc", engine="scipy") as kept:
        xr.testing.assert_identical(kept.load(), data)


def test_load_merges_a_job_a_point(tmp_path: Path) -> None:
    outcome = make(label=["argmax", "uniform"], eps=[-1, 0, 1], **SMALL)
    results.write(outcome, tmp_path / "one")
    for place in range(5):  # the sixth is missing
        results.write(outcome.at([place]), tmp_path / "many" / str(place))
    whole, merged = results.load(tmp_path / "one"), results.load(tmp_path / "many")
    assert merged["score"].shape == whole["score"].shape
    last = {axis: getattr(outcome.points[5], axis) for axis in PLAIN}
    assert np.isnan(merged["score"].sel(**last))
    assert np.isnan(merged["iou"].sel(**last)).all()
    for name in ("score", "delta_low", "iou", "seconds"):
        np.testing.assert_array_equal(merged[name].sel(label="argmax"), whole[name].sel(label="argmax"))


def test_jobs_of_a_multirun_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number, label in (("10", "argmax"), ("2", "uniform")):
        results.write(make(label=label, eps=0.5, **SMALL), tmp_path / number)
    assert results.load(tmp_path)["label"].values.tolist() == ["uniform", "argmax"]


def test_attributes_of_several_runs_are_those_that_they_agree_on(tmp_path: Path) -> None:
    for name, times in (("a", 1.5), ("b", 2.5)):
        info = {"command": name, "times": {"test": times}}
        results.write(make(label="argmax", eps=times, info=info, **SMALL), tmp_path / name)
    one, both = results.load(tmp_path / "a").attrs, results.load(tmp_path).attrs
    assert (one["command"], json.loads(one["times"])) == ("a", {"test": 1.5})
    assert both == {key: value for key, value in one.items() if key not in ("command", "times")}
    assert both["model"] == "smp-Unet-resnet18"


@pytest.mark.parametrize("weights", [("1f", "2e"), ("1f", None), (None, None)])
def test_load_refuses_runs_of_different_models(weights: tuple[str | None, ...], tmp_path: Path) -> None:
    for name, known in zip(("a", "b"), weights, strict=True):
        info = {"model": name, "weights_sha256": known}
        results.write(make(eps=0, info=info, **SMALL), tmp_path / name)
    with pytest.raises(GpsweepError, match=r"model: expected runs of one model and data, a .*came b"):
        results.load(tmp_path)


@pytest.mark.parametrize("images", [("1f", "2e"), ("1f", "1f"), ("1f", None)])
def test_load_refuses_runs_of_other_images_though_their_bases_are_near(
    images: tuple[str | None, ...], tmp_path: Path
) -> None:
    for eps, (folder, known) in enumerate(zip("ab", images, strict=True)):
        info = {"data_sha256": known}
        results.write(make(label="argmax", eps=eps, info=info, **SMALL), tmp_path / folder)
    if images[0] == images[1] or None in images:
        assert results.load(tmp_path)["score"].size == 2
        return
    with pytest.raises(
        GpsweepError, match=r"^data_sha256: expected runs of one model and data, 1f .*came 2e"
    ):
        results.load(tmp_path)


def test_load_knows_a_model_of_two_names_by_its_weights(tmp_path: Path) -> None:
    for name, eps in (("a", 0.25), ("b", 0.5)):
        results.write(make(label="argmax", eps=eps, info={"model": name}, **SMALL), tmp_path / name)
    both = results.load(tmp_path)
    assert both["score"].size == 2
    assert "model" not in both.attrs
    assert both.attrs["weights_sha256"] == INFO["weights_sha256"]


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        ({"clip": False, "seed": 0}, {"clip": False, "seed": 5}, True),
        ({"crf": {"iterations": 10}}, {"crf": {"iterations": 5}}, True),
        ({"clip": False}, {"clip": False, "seed": 5}, False),
        ({"clip": False}, None, False),
    ],
)
def test_load_refuses_points_of_other_options(
    one: dict[str, Any], other: dict[str, Any] | None, refused: bool, tmp_path: Path
) -> None:
    for name, options, eps in (("a", one, 0.25), ("b", other, 0.5)):
        results.write(make(label="argmax", eps=eps, info={"options": options}, **SMALL), tmp_path / name)
    if refused:
        with pytest.raises(GpsweepError, match=r"^(seed|crf): expected the same in all runs, .* came .*5"):
            results.load(tmp_path)
    else:
        assert results.load(tmp_path)["score"].size == 2


@pytest.mark.parametrize(("pixels", "refused"), [(0, False), (1, False), (2000, True)])
def test_load_refuses_runs_of_other_images_of_the_same_name(
    pixels: int, refused: bool, tmp_path: Path
) -> None:
    first, second = (make(label="argmax", eps=eps, **SMALL) for eps in (0.25, 0.5))
    second.base[0, 0, metrics.FP] += pixels
    for number, outcome in enumerate((first, second)):
        results.write(outcome, tmp_path / str(number))
    if refused:
        with pytest.raises(GpsweepError, match=r"^base: expected runs of one model and data, .*came "):
            results.load(tmp_path)
    else:
        assert results.load(tmp_path)["score"].size == 2


def test_runs_of_several_folders_are_loaded_together(tmp_path: Path) -> None:
    for name, eps in (("a", 0.25), ("b/0", 0.5), ("b/1", 1.0)):
        results.write(make(label="argmax", eps=eps, **SMALL), tmp_path / name)
    found = results.load(tmp_path / "a", str(tmp_path / "b"), tmp_path / "b" / "1")
    assert found["score"].squeeze().sizes == {"eps": 3}
    for odd in ([[tmp_path / "a"]], [tmp_path / "a", 3], []):
        with pytest.raises(GpsweepError, match=r"folders: expected paths, .* came (list|int|none)"):
            results.load(*odd)


def write(folder: Path, model: str = "a", dataset: str = "d", **axes: Any) -> xr.Dataset:
    outcome = make(**SMALL | {"label": "argmax", "eps": [0, 0.5]} | axes)
    results.write(replace(outcome, info={**INFO, "model": model, "dataset": dataset}), folder)
    return results.load(folder)


def test_runs_of_several_networks_stand_side_by_side(tmp_path: Path) -> None:
    one = write(tmp_path / "0", "b", label=["argmax", "uniform"], eps=[-0.5, 0, 0.5])
    other = write(tmp_path / "1", "a", images=12, layer=["input", "x"], classes=5, refine=["none", "flip"])
    with pytest.raises(GpsweepError, match=r"results\.compare\.$"):
        results.load(tmp_path)
    both = results.compare(tmp_path)
    assert both.run.values.tolist() == ["b", "a"]
    assert both.score.dims == ("run", "label", "signal", "layer", "step", "iterations", "refine", "eps")
    assert both.iou.dims == (*both.score.dims, "class") and both.sizes["class"] == 5
    assert both.eps.values.tolist() == [-0.5, 0, 0.5]
    assert both.attrs["dataset"] == "d" and "model" not in both.attrs
    assert both.delta.attrs["units"] == "percentage points"
    for name, alone in (("b", one.expand_dims(refine=["none"])), ("a", other)):
        own = both.sel(run=name).sel({axis: alone[axis] for axis in (*AXES, "class")})
        for variable in ("score", "delta_low", "iou", "class_base"):
            xr.testing.assert_equal(
                own[variable].drop_vars("run").transpose(*alone[variable].dims), alone[variable]
            )
        assert both.score.sel(run=name).notnull().sum() == alone.score.notnull().sum()


def test_runs_side_by_side_are_named_by_what_tells_them_apart(tmp_path: Path) -> None:
    for folder, names in (("0", ("a", "d")), ("1", ("a", "e")), ("2", ("a", "e"))):
        write(tmp_path / folder, *names)
    assert results.compare(tmp_path / "0", tmp_path / "1").run.values.tolist() == ["a on d", "a on e"]
    folders = [str(tmp_path / name) for name in "012"]
    assert results.compare(tmp_path).run.values.tolist() == folders
    assert results.compare(*folders, tmp_path).run.values.tolist() == folders, "each once"
    write(tmp_path / "2", task="classification")
    with pytest.raises(GpsweepError, match=r"^task: expected runs of one task, came segmentation in .*0, "):
        results.compare(tmp_path)
    with pytest.raises(GpsweepError, match=r"expected paths, as in .*came none"):
        results.compare()


def test_load_refuses_two_scores_for_one_point(tmp_path: Path) -> None:
    outcome = make(label="argmax", eps=[0.5, 1], **SMALL)
    results.write(outcome.at([0]), tmp_path / "a")
    results.write(outcome.at([0]), tmp_path / "b")
    assert results.load(tmp_path)["score"].size == 1
    results.write(replace(outcome.at([0]), counts=outcome.counts.take([1])), tmp_path / "b")
    with pytest.raises(GpsweepError, match=r"eps=0\.5.*one score a point, came .* in .*a, .* in .*b; "):
        results.load(tmp_path)


@pytest.mark.parametrize("names", [("NA", "1", "null", ""), ("crane", "crane", "<b>", 'a,"b"')])
def test_odd_and_doubled_class_names_survive(names: tuple[str, ...], tmp_path: Path) -> None:
    outcome = replace(make(label="argmax", eps=[0, 1], **SMALL), classes=names)
    results.write(outcome, tmp_path)
    assert tuple(results.load(tmp_path)["class"].values) == names
    assert read(tmp_path).classes == names


def test_an_absent_class_is_empty_not_zero(tmp_path: Path) -> None:
    outcome = make(label="argmax", eps=[0, 1], **SMALL)
    dense = np.asarray(outcome.counts)
    dense[:, :, 2] = outcome.base[:, 2] = 0
    outcome = replace(outcome, counts=Counts.of(dense))
    results.write(outcome, tmp_path)
    assert results.load(tmp_path)["iou"].isel({"class": 2}).isnull().all()
    assert results.load(tmp_path)["score"].notnull().all()


def test_missing_files_are_named(outcome: Outcome, tmp_path: Path) -> None:
    with pytest.raises(GpsweepError, match=r"nowhere: expected a run's results\.csv.*no such folder"):
        results.load(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(GpsweepError, match=r"expected.*results\.csv.*came notes\.txt"):
        results.load(tmp_path)
    with pytest.raises(GpsweepError, match=r"counts\.npz, came notes\.txt"):
        read(tmp_path)
    results.write(outcome, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    with pytest.raises(GpsweepError, match=r"run: expected.*missing summary\.json"):
        results.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 torn"])
def test_a_torn_archive_is_an_error_for_people(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "counts.npz").write_bytes(content)
    with pytest.raises(GpsweepError, match=r"counts\.npz: expected the counts of a run, (?!.*pickle)"):
        read(tmp_path)


def test_torn_tables_are_an_error_for_people(outcome: Outcome, tmp_path: Path) -> None:
    results.write(outcome, tmp_path)
    for name, content in [("summary.json", "{"), ("summary.json", "{}"), ("results.csv", "")]:
        results.write(outcome, tmp_path)
        (tmp_path / name).write_text(content)
        with pytest.raises(GpsweepError, match="cannot be read"):
            results.load(tmp_path)
    results.write(outcome, tmp_path)
    whole = (tmp_path / "per_class.csv").read_text().splitlines(keepends=True)
    (tmp_path / "per_class.csv").write_text("".join(whole[:-1]))
    with pytest.raises(GpsweepError, match=r"per_class\.csv"):
        results.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("results.csv", "refine"),
        ("results.csv", "score"),
        ("per_class.csv", "iou"),
        ("per_class.csv", "class"),
    ],
)
def test_a_table_of_another_program_is_named(
    outcome: Outcome, tmp_path: Path, name: str, column: str
) -> None:
    results.write(outcome, tmp_path)
    table = pd.read_csv(tmp_path / name).drop(columns=column)
    table.to_csv(tmp_path / name, index=False)
    with pytest.raises(GpsweepError, match=rf"cannot be read: {name} has no column {column}"):
        results.load(tmp_path)


@pytest.fixture
def refined() -> Outcome:
    return make(label=["argmax", "uniform"], refine=["none", "flip"], eps=[-0.3, 0, 0.4], costs={}, images=40)


def test_refinements_and_costs_are_columns_at_the_end(refined: Outcome, tmp_path: Path) -> None:
    results.write(refined, tmp_path)
    rows = pd.read_csv(tmp_path / "results.csv")
    assert list(rows.columns) == COLUMNS
    assert rows["refine"].tolist() == [point.refine for point in refined.points]
    expected = {("none", True): 1.0, ("flip", True): 2.05, ("none", False): 3.2, ("flip", False): 6.4}
    kinds = zip(rows["refine"], rows["eps"] == 0, strict=True)
    assert [expected[kind] for kind in kinds] == rows["cost"].tolist()
    assert (rows["delta"][(rows["refine"] == "flip") & (rows["eps"] == 0)] > 0).all(), "beside the bare base"
    content = json.loads((tmp_path / "summary.json").read_text())
    assert content["cost"] == refined.info["cost"]


def test_what_was_not_measured_is_empty_and_the_bare_network_costs_one(tmp_path: Path) -> None:
    results.write(make(label="argmax", refine=["none", "flip"], eps=[0, 1], **SMALL), tmp_path)
    assert [line["cost"] for line in csv_rows(tmp_path / "results.csv")] == ["1.0", "", "", ""]
    assert json.loads((tmp_path / "summary.json").read_text())["cost"] is None


def test_load_has_a_dimension_for_refinements_where_there_are_any(refined: Outcome, tmp_path: Path) -> None:
    rows = results.write(refined, tmp_path).rows
    data = results.load(tmp_path)
    assert data["score"].dims == AXES
    assert data["iou"].dims == (*AXES, "class")
    for place, point in enumerate(refined.points):
        at = data.sel(**point.asdict())
        assert (float(at["score"]), float(at["cost"])) == (rows["score"][place], rows["cost"][place])
        np.testing.assert_array_equal(at["iou"], metrics.iou(metrics.total(refined.counts[place])))


def test_what_helps_a_refined_point_is_what_perturbation_adds(refined: Outcome) -> None:
    rows = results.table(refined)
    best = Findings(refined).best
    flipped = refined.points.index(replace(refined.points[1], refine="flip", eps=0.0))
    base = refined.counts[flipped]
    weights = metrics.resample_weights(40, 1000, 0)
    for place, row in best[best["refine"] == "flip"].iterrows():
        bounds = interval(refined.counts[place], base, weights, "segmentation")
        assert (row["added_low"], row["added_high"]) == bounds
        assert row["added"] == pytest.approx(row["delta"] - rows["delta"][flipped])
        assert row["added_p"] == p_value(refined.counts[place], base, "segmentation") < metrics.ALPHA
        assert row["helps"] == (min(bounds[0], row["delta_low"]) > 0)
    plain = best[best["refine"] == "none"]
    assert plain["added"].tolist() == plain["delta"].tolist()

    alone = make(label="random_onehot", refine="flip", eps=[-0.5, 0], images=40)
    [row] = results.records(Findings(alone).best)
    assert (row["eps"], row["added"], row["helps"]) == (0, 0, False)
    assert row["delta_low"] > 0, "the flip gains, and no perturbation does"
    unknown = make(label="argmax", refine="flip", eps=0.4, images=40)
    [row] = results.records(Findings(unknown).best)
    assert np.isnan(row["added"])
    assert not row["helps"]


def test_held_out_gains_over_a_refinement_are_those_of_that_base(refined: Outcome, tmp_path: Path) -> None:
    outcome = replace(refined, info=dict(refined.info) | {"select": {"seed": 1}})
    findings = results.write(outcome, tmp_path)
    rows, held = findings.rows, findings.held
    assert held is not None
    flipped = outcome.points.index(replace(outcome.points[1], refine="flip", eps=0.0))
    places = [place for place, point in enumerate(outcome.points) if point.refine == "flip"]
    above = replace(outcome.at(places), base=outcome.counts[flipped])
    own = selection.held_out(above, results.table(above))
    assert own is not None
    mine = held[held["refine"] == "flip"]
    for added, column in {"added_delta": "held_delta", "added_low": "held_low", "added_p": "p_value"}.items():
        assert mine[added].tolist() == own[column].tolist()
    over_base = selection.held_out(outcome, rows)
    assert over_base is not None
    both = own["helps"].to_numpy() & over_base["helps"][over_base["refine"] == "flip"].to_numpy()
    assert mine["helps"].tolist() == both.tolist()
    columns = list(pd.read_csv(tmp_path / "selection.csv").columns)
    assert columns[-4:] == ["added_delta", "added_low", "added_high", "added_p"]


def test_what_makes_up_for_a_refinement_that_harms_does_not_help() -> None:
    outcome = make(label="argmax", refine="flip", eps=[0, 0.4], images=40)
    better = Counts.of(np.stack([np.asarray(outcome.counts[0]), np.asarray(outcome.counts[1])]))
    harmed = replace(outcome, counts=better, base=np.asarray(outcome.counts[1]) + np.array([30, 0, -30]))
    [row] = results.records(Findings(harmed).best)
    assert row["added_low"] > 0
    assert row["delta"] < 0
    assert not row["helps"]
