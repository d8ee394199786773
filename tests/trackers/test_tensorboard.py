"""The event files, read back with TensorBoard's own accumulator."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished import Finished, write
from PIL import Image

from gpsweep.errors import GpsweepError
from gpsweep.trackers.tensorboard import TensorBoard

pytest.importorskip("tensorboard")


def read(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return accumulator


def test_every_number_of_the_tables(finished: Finished) -> None:
    line = TensorBoard().log(finished.folder)
    assert line == f"TensorBoard: tensorboard --logdir {finished.folder / 'tensorboard'}"
    events = read(finished.folder / "tensorboard" / "run")
    seen = 0
    for (curve, eps), numbers in finished.expected().items():
        for key, number in numbers.items():
            tag = f"{curve}/{key}"
            values = {event.step: event.value for event in events.Scalars(tag)}
            assert values[round(1000 * eps)] == np.float32(number)
            seen += 1
    logged = [tag for tag in events.Tags()["scalars"] if "x/" in tag and not tag.startswith("best/")]
    assert sum(len(events.Scalars(tag)) for tag in logged) == seen
    assert [event.step for event in events.Scalars("argmax/input/1x/score")] == [-1000, 0, 250, 500]


def test_best_points_configuration_and_pictures(finished: Finished) -> None:
    TensorBoard().log(finished.folder)
    folder = finished.folder / "tensorboard" / "run"
    events = read(folder)
    mine = [row for row in finished.rows() if (row["label"], row["layer"]) == ("argmax", "input")]
    best = max((row for row in mine if row["iterations"] == "1"), key=lambda row: float(row["score"]))
    [event] = events.Scalars("best/argmax/input/1x/score")
    assert event.value == np.float32(best["score"])
    [picture] = events.Images("curves")
    with Image.open(finished.folder / "curves.png") as image:
        assert (picture.width, picture.height) == image.size
    [table] = [tag for tag in events.Tags()["tensors"] if tag.startswith("best points")]
    text = events.Tensors(table)[0].tensor_proto.string_val[0].decode()
    assert len(text.splitlines()) == 2 + 12
    assert "model.net.arch: Unet" in (folder / "hparams.yaml").read_text()


def test_sent_again_a_run_takes_the_place_of_itself_and_jobs_stay_apart(sweep: Path) -> None:
    for number in ("0", "1", "1"):
        TensorBoard().log(sweep / number, sweep=sweep)
    for number in ("0", "1"):
        assert len(read(sweep / "tensorboard" / number).Scalars("base")) == 5


def test_sent_again_the_configuration_is_that_of_the_run_as_it_is_now(finished: Finished) -> None:
    TensorBoard().log(finished.folder)
    finished.note(config="model: {name: another}\n")
    TensorBoard().log(finished.folder)
    text = (finished.folder / "tensorboard" / "run" / "hparams.yaml").read_text()
    assert "model.name: another" in text
    assert "model.net.arch" not in text


def test_a_folder_below_the_users_own(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        line = TensorBoard(dir="~/tb").log(finished.folder)
    assert line == "TensorBoard: tensorboard --logdir home/tb"
    assert len(read(tmp_path / "home" / "tb" / "run").Scalars("base")) == 5


def test_sweeps_that_share_a_folder_stay_apart(
    two_sweeps: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = TensorBoard(dir=str(tmp_path / "tb"))
    for sweep in two_sweeps:
        assert tracker.log(sweep / "0", sweep=sweep).endswith("--logdir tb")
    tracker.log(two_sweeps[0] / "0")  # by itself it takes the place of itself
    places = ("argmax/labels/0", "uniform/labels/0")
    for place, label in zip(places, ("argmax", "uniform"), strict=True):
        [tag] = [t for t in read(tmp_path / "tb" / place).Tags()["scalars"] if re.fullmatch(r"\w+/score", t)]
        assert tag == f"{label}/score"


def test_a_gain_on_held_out_images(tmp_path: Path) -> None:
    half = write(tmp_path / "half", info={"select": {"seed": 0}}, label="argmax", eps=[-0.5, 0.5])
    TensorBoard().log(half.folder)
    [row] = half.rows("selection.csv")
    [event] = read(half.folder / "tensorboard" / "half").Scalars("held/delta")
    assert event.value == np.float32(row["held_delta"])


def test_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(GpsweepError, match=r"pip install '\.\[tensorboard\]' in the checkout"):
        TensorBoard().check()
