"""The command from end to end, on a small set of pictures and networks from the user's own module."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import NET, SET, SMALL, Terminal, pictures
from networks import CLASSES, build
from written import csv_rows

from gpsweep import results
from gpsweep.results import findings


@pytest.mark.drawn
def test_one_point(terminal: Terminal) -> None:
    pictures(terminal.folder)
    code, out, err = terminal(*SMALL, "eps=0.5")
    assert (code, err) == (0, "")
    [path] = terminal.results()
    [row] = csv_rows(path)
    assert list(row) == list(findings.COLUMNS)
    assert (row["label"], row["layer"], row["eps"], row["samples"]) == ("argmax", "input", "0.5", "5")
    assert float(row["delta"]) == pytest.approx(float(row["score"]) - float(row["base"]))
    names = {p.name for p in path.parent.iterdir()}
    assert {"per_class.csv", "summary.json", "curves.png", "curves.svg", "report.html", "counts.npz"} <= names
    assert str(path.parent / "report.html") in out
    summary = json.loads((path.parent / "summary.json").read_text())
    assert len(summary["weights_sha256"]) == 64
    assert len(summary["data_sha256"]) == 32
    assert torch.__version__.startswith(summary["versions"]["torch"])
    assert summary["times"]["test"] > 0


def test_a_sweep_is_one_run_and_equals_one_job_a_point(terminal: Terminal) -> None:
    pictures(terminal.folder)
    axes = ["eps=range(-2,2,1.6)", "label=argmax,random_onehot", "layer=input,encoder.down", "signal=eq5"]
    assert terminal("-m", *SMALL, *axes)[0] == 0
    [fused] = terminal.results()
    basic_dir = terminal.folder / "basic"
    alone = ["store=other", "hydra/sweeper=basic", f"hydra.sweep.dir={basic_dir}"]
    code, _, err = terminal("-m", *alone, *SMALL, *axes)
    assert (code, err) == (0, "")
    jobs = [
        csv_rows(path)[0]
        for path in sorted(basic_dir.glob("*/results.csv"), key=lambda p: int(p.parent.name))
    ]
    assert len(jobs) == 3 * 2 * 2

    def key(row: dict[str, Any]) -> tuple[str, ...]:
        return tuple(row[axis] for axis in ("label", "layer", "eps"))

    whole = {key(row): row for row in csv_rows(fused)}
    assert {row["eps"] for row in whole.values()} == {"-2.0", "-0.4", "1.2"}
    for job in jobs:
        twin = whole[key(job)]
        same = {name: value for name, value in job.items() if name not in ("seconds", "cost")}
        assert same.items() <= twin.items()
    merged = results.load(basic_dir)
    one = results.load(fused.parent)
    np.testing.assert_array_equal(merged.score.values, one.score.values)


def test_a_run_says_which_options_its_scores_depend_on(terminal: Terminal) -> None:
    pictures(terminal.folder)
    common = {"clip": False, "precision.forward": "32", "precision.gradient": "32"}
    drawn = {"seed": 3, "random_unit": "pixel"}
    for label, layer, own in (
        ("argmax", "input", {}),
        ("random_onehot", "input", drawn),
        ("[argmax,random_onehot]", "[input,encoder.down]", drawn | {"layer_scale": "rms"}),
    ):
        setting = ["eps=0.5", "seed=3", f"label={label}", f"layer={layer}", "hydra.run.dir=out"]
        assert terminal(*SMALL, *setting)[0] == 0
        summary = json.loads((terminal.folder / "out" / "summary.json").read_text())
        assert summary["options"] == common | own


def test_other_sweeps_are_jobs_of_their_own(terminal: Terminal) -> None:
    pictures(terminal.folder)
    code, _, _ = terminal("-m", *SET, "model=custom", "model.net=networks.small,networks.Dicts", "eps=-1,1")
    assert code == 0
    assert [len(csv_rows(path)) for path in terminal.results()] == [2, 2]


@pytest.mark.parametrize("sweep", [[], ["-m"]])
def test_paths_are_those_of_the_place_the_command_was_typed_at(terminal: Terminal, sweep: list[str]) -> None:
    """Whether or not Hydra changes to the run's folder; the images' own path is relative here."""
    pictures(terminal.folder)
    code, _, err = terminal(*sweep, *SMALL, "eps=0.5", "hydra.job.chdir=true")
    assert (code, err) == (0, "")
    assert len(terminal.results()) == 1
    assert [*terminal.folder.glob("outputs/store/*/*.counts")]
    assert Path.cwd() == terminal.folder


def test_batches_and_sizes_do_not_change_the_counts_of_images(terminal: Terminal) -> None:
    pictures(terminal.folder)
    found = []
    for size in (1, 2, 5):
        axes = ["eps=-1,0,1", "label=argmax,random_onehot,ground_truth"]
        terminal("-m", *SET, *NET, *axes, f"data.batch_size={size}", f"hydra.sweep.dir=by{size}")
        found.append(results.read(terminal.folder / f"by{size}" / "0"))
    for other in found[1:]:
        assert other.ids == found[0].ids
        # Convolutions may round otherwise for another batch size: a few pixels of 960 may change.
        assert np.abs(np.subtract(other.counts, found[0].counts, dtype=int)).sum() <= 12


def test_images_of_different_sizes_are_counted_without_their_padding(terminal: Terminal) -> None:
    pictures(terminal.folder, sizes=((12, 16), (9, 20), (14, 7)))
    with pytest.warns(UserWarning, match="padded to the largest of their batch"):
        assert terminal("-m", *SMALL, "eps=-1,0,1", "label=argmax,ground_truth", "data.batch_size=3")[0] == 0
    [path] = terminal.results()
    outcome = results.read(path.parent)
    pixels = [12 * 16 - 1, 9 * 20 - 1, 14 * 7 - 1, 12 * 16 - 1, 9 * 20 - 1]
    for counts in [outcome.base, *outcome.counts]:
        assert counts[..., [0, 2]].sum((1, 2)).tolist() == pixels


def test_the_base_is_the_networks_own_prediction(terminal: Terminal) -> None:
    pictures(terminal.folder)
    options = ["model.mean=0", "model.std=1", "model.scale=1"]
    terminal(*SMALL, *options, "eps=1")
    [path] = terminal.results()
    outcome = results.read(path.parent)
    from PIL import Image

    net = build("skips")
    for i, counts in enumerate(outcome.base):
        image = np.array(Image.open(terminal.folder / "images" / f"{i:02d}.png"))
        mask = np.array(Image.open(terminal.folder / "masks" / f"{i:02d}.png"))
        z = net(torch.from_numpy(image).permute(2, 0, 1)[None].float())
        predicted = z.argmax(1)[0].numpy()
        hits = [int(((mask == c) & (predicted == c)).sum()) for c in range(CLASSES)]
        assert counts[:, 0].tolist() == hits


def test_a_network_with_a_channel_for_void_and_classes_of_its_own(terminal: Terminal) -> None:
    pictures(terminal.folder, classes=4)
    smaller = [s if not s.startswith("data.classes") else "data.classes=4" for s in SET]
    assert terminal(*smaller, *NET, "eps=1")[0] == 0
    [path] = terminal.results()
    assert len(results.read(path.parent).classes) == 4


def test_a_classifier_that_needs_contiguous_rows(terminal: Terminal) -> None:
    source = pictures(terminal.folder / "raw", count=6)
    for i, image in enumerate(sorted((source / "images").iterdir())):
        target = terminal.folder / "photos" / f"class{i % CLASSES}" / image.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(image.read_bytes())
    classify = [
        "data=folder",
        "data.images=photos",
        "model=custom",
        "model.net=networks.Viewing",
        "eps=[-3,0,3]",
    ]
    with pytest.warns(UserWarning, match="contiguous activations"):
        code, out, _ = terminal(*classify)
    assert code == 0
    assert "accuracy" in out
    [path] = terminal.results()
    outcome = results.read(path.parent)
    assert outcome.task == "classification"
    assert np.asarray(outcome.counts)[..., [0, 2]].sum((-1, -2)).tolist() == [[1] * 6] * 3
