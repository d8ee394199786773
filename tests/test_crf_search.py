"""The search of a CRF's parameters: on the tuning images alone, and what it finds is what a run gives."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import networks
import numpy as np
import pytest
import torch
from commands import SET, SMALL, VARIED, Terminal, pictures
from omegaconf import DictConfig
from PIL import Image
from torch import Tensor
from written import csv_rows

from gpsweep import crf_pool, crf_search, metrics, results
from gpsweep.crf import Crf
from gpsweep.errors import GpsweepError
from gpsweep.parts import Parts
from gpsweep.points import Point

pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed")

FEW = ["search.appearance_weight=[1,8]", "search.appearance_xy=[4]", "search.appearance_rgb=[10,60]"]
Search = Callable[..., tuple[int, str, str]]


@pytest.fixture
def search(terminal: Terminal) -> Search:
    """Run ``python -m gpsweep.crf_search`` where the terminal is; return its exit code, output and errors."""
    return partial(terminal.run, crf_search.cli, "gpsweep.crf_search")


def table(folder: str) -> list[dict[str, float]]:
    found = csv_rows(Path(folder, crf_search.TABLE))
    return [{key: float(value) for key, value in line.items()} for line in found]


@pytest.mark.filterwarnings("ignore:data.size. images of several sizes")
def test_the_best_is_what_a_run_gives_on_the_tuning_images(terminal: Terminal, search: Search) -> None:
    pictures(terminal.folder, sizes=((12, 16), (10, 18)))
    point = [*VARIED, "eps=30", "label=uniform", "hydra.run.dir=found"]
    code, out, err = search(*SMALL, *FEW, *point, "search.workers=1", "progress=true")
    assert code == 0, err
    found = table("found")
    assert len(found) == 4
    assert [row["score"] for row in found] == sorted((row["score"] for row in found), reverse=True)
    line = next(line for line in out.splitlines() if line.startswith("refine=crf"))
    assert "16/16" in err and "2 images to tune on" in out

    run = [*SMALL, *VARIED, "eps=[0,30]", "label=uniform", "select=half", *line.split()]
    assert terminal(*run, "hydra.run.dir=run")[0] == 0
    outcome = results.read(Path("run"))
    tune, _ = outcome.halves
    clean, there = metrics.score(metrics.total(np.asarray(outcome.counts)[:, tune]), outcome.task)
    assert found[0]["score"] == pytest.approx(there, abs=1e-9)
    assert found[0]["clean_score"] == pytest.approx(clean, abs=1e-9)
    without = metrics.score(metrics.total(outcome.base[tune]), outcome.task)
    assert found[0]["clean_delta"] == pytest.approx(clean - without, abs=1e-9)


def test_a_point_of_several_iterations_is_one_point(terminal: Terminal, search: Search) -> None:
    pictures(terminal.folder)
    point = [*VARIED, "eps=30", "label=uniform", "iterations=2"]
    few = [f"search.{name}_weight=[0.1]" for name in ("smooth", "appearance")] + ["search.workers=1"]
    code, out, err = search(*SMALL, *FEW[1:], *few, *point, "hydra.run.dir=found")
    assert code == 0, err
    assert "iterations=2" in out
    line = next(line for line in out.splitlines() if line.startswith("refine=crf"))
    run = [*SMALL, *point, "eps=[0,30]", "select=half", *line.split()]
    assert terminal(*run, "hydra.run.dir=run")[0] == 0
    outcome = results.read(Path("run"))
    tune, _ = outcome.halves
    scores = metrics.score(metrics.total(np.asarray(outcome.counts)[:, tune]), outcome.task)
    by_point = {
        (point.iterations, point.eps): score for point, score in zip(outcome.points, scores, strict=True)
    }
    assert by_point[1, 30] != by_point[2, 30]
    assert table("found")[0]["score"] == pytest.approx(by_point[2, 30], abs=1e-9)
    assert table("found")[0]["clean_score"] == pytest.approx(by_point[2, 0], abs=1e-9)


def test_the_first_sample_is_tried_as_a_run_tries_it(terminal: Terminal, search: Search) -> None:
    """In few bits on a GPU, which a CPU may lack, it is tried in 32."""
    tried: list[torch.device] = []

    def stopped(cfg: DictConfig, parts: Parts) -> None:
        tried.append(parts.trainer.strategy.root_device)
        raise GpsweepError("seen")

    pictures(terminal.folder)
    terminal.patch.setattr("gpsweep.prepare.prepare", stopped)
    assert search(*SMALL, *FEW, "trainer.accelerator=cpu")[0] == 1
    assert tried == [torch.device("cpu")]


@pytest.mark.slow
def test_several_processes_find_the_same(terminal: Terminal, search: Search) -> None:
    pictures(terminal.folder)
    for workers in (1, 2):
        code, _, err = search(*SMALL, *FEW, f"search.workers={workers}", f"hydra.run.dir=by{workers}")
        assert code == 0, err
    assert table("by1") == table("by2")


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="nobody tells which cores are left")
def test_no_more_processes_than_cores_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3})
    monkeypatch.setattr(crf_pool, "ProcessPoolExecutor", None)
    with crf_pool.processes(None, [Crf(iterations=1)] * 2) as by_each:
        found = list(by_each(np.zeros((4, 4, 3), np.uint8), np.full((2, 4, 4), 0.5, np.float32)))
    assert [each.shape for each in found] == [(4, 4)] * 2


KILLED = """
import os, signal
import numpy as np
from gpsweep.crf import Crf
from gpsweep.crf_pool import processes

if __name__ == "__main__":
    with processes(2, [Crf(iterations=1)] * 2) as by_each:
        found = list(by_each(np.zeros((4, 4, 3), np.uint8), np.full((2, 4, 4), 0.5, np.float32)))
        print(len(found), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_no_process_outlives_the_first(tmp_path: Path) -> None:
    """What they print ends with the last of them."""
    (tmp_path / "killed.py").write_text(KILLED)
    done = subprocess.run([sys.executable, "killed.py"], cwd=tmp_path, stdout=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"2\n")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["search.smooth_xy=[3,0]"], "search.smooth_xy=0.0: expected a number above 0"),
        (["search.iterations=[]"], "search.iterations=[]: expected a list of numbers, came an empty list"),
        (["search.workers=0"], "search.workers=0: expected a whole number of at least 1"),
        (["eps=[0,1]"], "expected one point with refine=crf, came 2 points"),
        (["refine=flip"], "expected one point with refine=crf, came refine=flip"),
        (["data=mnist"], "refine=crf: expected data for segmentation"),
        (["data.limit=1"], "expected at least two images"),
        (["crf.appearance_xy=50"], "crf.appearance_xy=50.0: a search tries what search.appearance_xy lists"),
        (["shards=2"], "shards=2: a search runs in one process, on the tuning images; leave it out"),
        (["tracker=csv"], "gpsweep: tracker=csv: of another command, python -m gpsweep tracker=csv\n"),
        (["select=half"], "select=half: a search runs"),
        (["trainer.devices=2", "trainer.accelerator=cpu"], "trainer.devices=2: a search runs"),
    ],
)
def test_mistakes_are_told_before_any_work(
    terminal: Terminal, search: Search, overrides: list[str], message: str, request: pytest.FixtureRequest
) -> None:
    pictures(terminal.folder)
    arguments = SMALL
    if overrides == ["data=mnist"]:
        terminal.patch.setenv("GPSWEEP_DATA", str(request.getfixturevalue("data_root")))
        arguments = ["model=mnist", "model.checkpoint=null"]
    code, _, err = search(*arguments, *overrides)
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert not list(terminal.folder.glob(f"outputs/**/{crf_search.TABLE}"))


@pytest.mark.parametrize(
    ("file", "chosen", "base"),
    [("own.yaml", "--config-name=own", "crf_search"), ("model/own.yaml", "model=own", "custom")],
)
def test_a_file_of_the_user_s_own_builds_on_ours(
    terminal: Terminal, search: Search, file: str, chosen: str, base: str
) -> None:
    path = terminal.folder / file
    path.parent.mkdir(exist_ok=True)
    path.write_text("eps: 1\n")
    code, _, err = search(f"--config-dir={terminal.folder}", chosen)
    line = f"defaults: [{base}, _self_]"
    assert code == 1
    assert f"gpsweep: {chosen}: expected a file that builds on gpsweep's own, by the line {line}" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("net", "message"),
    [
        ("networks.Broken", "logits: expected finite numbers, came NaN or infinity in batch 2"),
        (
            "networks.small",
            "model: the network fails in batch 2 at 10 × 18 pixels (02): RuntimeError: narrow",
        ),
    ],
)
def test_a_network_that_fails_is_told_of(terminal: Terminal, search: Search, net: str, message: str) -> None:
    def forward(skips: networks.Skips, x: Tensor) -> Tensor:
        if x.shape[2] == 10:
            raise RuntimeError("narrow")
        return whole(skips, x)

    whole = networks.Skips.forward
    terminal.patch.setattr(networks.Skips, "forward", forward)
    pictures(terminal.folder, sizes=((12, 16), (12, 16), (10, 18)))
    code, _, err = search(*SMALL, *FEW, f"model.net={net}", "data.batch_size=1", "search.workers=1")
    assert code == 1
    assert message in err
    assert "Traceback" not in err
    assert not list(terminal.folder.glob(f"outputs/**/{crf_search.TABLE}"))


def test_what_cannot_be_written_is_shown_all_the_same(terminal: Terminal, search: Search) -> None:
    def full(path: Path, content: bytes) -> Path:
        raise GpsweepError(f"{path.parent}: expected a folder that can be written")

    pictures(terminal.folder)
    terminal.patch.setattr(crf_search, "save", full)
    code, out, err = search(*SMALL, *FEW, "search.workers=1", "hydra.run.dir=found")
    assert code == 1
    assert "found: expected a folder that can be written" in err
    assert "refine=crf crf.iterations=" in out


def test_a_gain_is_shown_as_in_other_tables(capsys: pytest.CaptureFixture[str]) -> None:
    """With as many digits as tell its sign, and none is no gain."""
    scores = np.array([[60.0, 60.004, 60.0, 59.9]])
    table = crf_search.ranked([Crf(iterations=count) for count in (1, 2, 3)], scores)
    found = crf_search.Found(table, "net on data", 2, Point(refine="crf"), without=60.0, clean_without=60.0)
    crf_search.show(found, Path("found"))
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    for row in (["1", "60.00", "+0.004"], ["2", "60.00", "0.00"], ["3", "59.90", "-0.10"]):
        assert row in shown


def test_images_without_truth_are_refused(terminal: Terminal, search: Search) -> None:
    base = pictures(terminal.folder, count=2) / "VOC2012"
    (base / "JPEGImages").mkdir(parents=True)
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name in ("00", "01"):
        Image.open(f"images/{name}.png").save(base / "JPEGImages" / f"{name}.jpg")
    (base / "ImageSets" / "Segmentation" / "test.txt").write_text("00\n01\n")
    code, _, err = search(*SMALL[len(SET) :], "data=voc", "data.root=.", "data.split=test")
    assert code == 1
    assert "has no masks to choose by; expected data with a truth" in err
    assert not list(terminal.folder.glob(f"outputs/**/{crf_search.TABLE}"))
