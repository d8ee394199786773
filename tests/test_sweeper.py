from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import networks
import pandas as pd
import pytest
from commands import PYTHONPATH, SET, Terminal, pictures, same
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf
from outcomes import make

from gpsweep import config, jobs, results
from gpsweep.cluster import Awaited
from gpsweep.errors import GpsweepError
from gpsweep.interrupts import WARNINGS, leave
from gpsweep.quoting import distinct
from hydra_plugins.gpsweep_sweeper.fused import fuse

SMALL = [*SET, "model=custom", "eps=-1,1", "hydra.sweep.dir=out"]
ONE_BAD = [*SMALL, "model.net=networks.small,networks.not_a_network,networks.Skips"]


def fused(*lines: str) -> list[str]:
    return fuse(OverridesParser.create().parse_overrides(list(lines)))


def test_hydra_finds_the_plugin() -> None:
    names = [plugin.__name__ for plugin in Plugins.instance().discover(Sweeper)]
    assert "FusedSweeper" in names


def test_axes_become_lists_with_exact_decimals_and_the_rest_is_left() -> None:
    got = fused(
        "eps=range(-1,1,0.05)", "label=argmax,uniform", "model=a,b", "data.limit=3", "iterations=range(1,4)"
    )
    decimals = ",".join(str(round(-1 + i / 20, 2) + 0.0) for i in range(40))
    assert got == [
        f"eps=[{decimals}]",
        "label=[argmax,uniform]",
        "model=a,b",
        "data.limit=3",
        "iterations=[1,2,3]",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("eps=0.5", "eps=0.5"),
        ("eps=[-1,0,1]", "eps=[-1,0,1]"),
        ("eps=-1,0,1", "eps=[-1,0,1]"),
        ("eps=choice(-1,0.5)", "eps=[-1,0.5]"),
        ("eps=range(1,-1,-0.5)", "eps=[1.0,0.5,0.0,-0.5]"),
        ("eps=range(3)", "eps=[0,1,2]"),
        ("eps=range(-1,1,0.5),5", "eps=[-1.0,-0.5,0.0,0.5,5]"),
        ("iterations=1,range(2,4)", "iterations=[1,2,3]"),
        ("refine=none,flip", "refine=[none,flip]"),
        ("eps=[-1,0],[1,2]", "eps=[[-1,0],[1,2]]"),
        ("layer=input,features.3,'odd name'", "layer=[input,features.3,'odd name']"),
        ("layer=input,0", "layer=[input,0]"),
        ("seed=1,2", "seed=1,2"),
    ],
)
def test_forms(line: str, expected: str) -> None:
    assert fused(line) == [expected]


def test_an_interval_has_no_points() -> None:
    with pytest.raises(GpsweepError, match=r"eps=interval\(0,1\): expected points"):
        fused("eps=interval(0,1)")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("eps=range(1,0,0.1)", r"eps=range\(1,0,0.1\): expected values, came none"),
        ("shard=range(0,99999999999)", r"shard=range\(0,99999999999,1\): expected at most 10000 values"),
        ("eps=range(0,1,0)", r"eps=range\(0,1,0\): the step must not be 0"),
        ("eps=5,range(0,inf)", r"eps=range\(0,inf,1\): expected finite bounds"),
    ],
)
def test_ranges_without_values_are_named(line: str, says: str) -> None:
    with pytest.raises(GpsweepError, match=says):
        fused(line)


def test_a_glob_finds_choices_that_look_like_numbers(terminal: Terminal) -> None:
    pictures(terminal.folder)
    net = ["model=custom", "model.net=networks.small"]
    code, _, err = terminal("-m", *SET, *net, "eps=0", "precision=glob(*,exclude=bf*)")
    assert (code, err) == (0, "")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("hydra.sweep.subdir='${sed}'", "gpsweep: hydra.sweep.subdir: Interpolation key 'sed' not found"),
        ("hydra.sweeper.max_batch_size=0", "gpsweep: hydra.sweeper.max_batch_size=0: expected at least 1"),
        (
            "label=glob(*)",
            "gpsweep: label=glob(*): expected values, as in label=a,b; glob finds the files of a group alone",
        ),
    ],
)
def test_a_sweep_that_cannot_begin_is_one_message(terminal: Terminal, override: str, says: str) -> None:
    code, _, err = terminal("-m", "seed=0,1", override)
    assert code == 1
    assert err.startswith(says)
    assert "Traceback" not in err


def test_files_that_are_sweeps_themselves_are_not_swept_over(terminal: Terminal) -> None:
    code, _, err = terminal("-m", "+sweeps=fig8,fig10")
    assert code == 1
    assert "gpsweep: +sweeps=fig8: is itself a sweep, by hydra.sweeper.params; expected a command for" in err


def test_a_list_of_ranges_is_the_sweep_that_is_meant(terminal: Terminal) -> None:
    pictures(terminal.folder)
    swept = ["eps=[-1,range(1,3)]", "model.net=networks.small", *SET, "model=custom"]
    assert terminal("-m", *swept, "hydra.sweep.dir=out")[0] == 0
    assert pd.read_csv("out/0/results.csv")["eps"].tolist() == [-1, 1, 2]
    code, _, err = terminal(*swept)
    assert code == 1
    assert "eps=-1,range(1,3): expected one value; several are a sweep, by -m in front" in err


def test_parameters_of_the_sweeper_from_the_command_line(terminal: Terminal) -> None:
    pictures(terminal.folder)
    net = ["model=custom", "model.net=networks.small"]
    code, _, err = terminal("-m", *SET, *net, "+hydra.sweeper.params.eps='range(0,1,0.5)'")
    assert (code, err) == (0, "")
    (rows,) = terminal.results()
    assert pd.read_csv(rows).eps.tolist() == [0, 0.5]


@pytest.mark.parametrize("more", [[], ["hydra.sweeper.max_batch_size=1"]], ids=["at once", "in batches"])
def test_jobs_that_would_share_a_folder_are_refused(terminal: Terminal, more: list[str]) -> None:
    code, _, err = terminal("-m", "hydra.sweep.subdir=one", "seed=0,1", "label=random_onehot", *more)
    assert code == 1
    assert "hydra.sweep.subdir=one: expected a folder for each of 2 jobs, such as ${hydra.job.num}" in err
    assert terminal.results() == []


def test_a_folder_whose_name_is_too_long_is_named_by_its_key(terminal: Terminal) -> None:
    code, _, err = terminal(
        "-m", "eps=range(-5,5,0.1)", "hydra.sweep.dir=out", "hydra.sweep.subdir=${hydra.job.override_dirname}"
    )
    assert code == 1
    assert "gpsweep: hydra.sweep.subdir: File name too long" in err
    assert "Traceback" not in err


def test_folders_may_bear_what_a_launcher_calls_a_job(terminal: Terminal) -> None:
    pictures(terminal.folder)
    net = ["model=custom", "model.net=networks.small"]
    drawn = ["label=random_onehot", "eps=0", "seed=0,1"]
    code, _, err = terminal("-m", *SET, *net, *drawn, "hydra.sweep.subdir=job ${hydra.job.id}")
    assert (code, err) == (0, "")
    assert len(terminal.results()) == 2


def test_jobs_may_have_a_sweeps_folder_each(terminal: Terminal) -> None:
    pictures(terminal.folder)
    net = ["model=custom", "model.net=networks.small"]
    folders = ["hydra.sweep.dir='out/${seed}'", "hydra.sweep.subdir=."]
    code, _, err = terminal("-m", *SET, *net, "label=random_onehot", "eps=0", "seed=0,1", *folders)
    assert (code, err) == (0, "")
    assert all(Path("out", seed, "results.csv").is_file() for seed in ("0", "1"))


def test_a_sweep_of_nothing_is_one_message(terminal: Terminal) -> None:
    code, _, err = terminal("-m", "seed=range(0,0)", "eps=1")
    assert code == 1
    assert "the sweep has no jobs" in err


def told(folder: Path) -> tuple[float, list[float]]:
    """Return a run's base, and the gain of its best point with its interval."""
    rows = results.tables(folder)[0]
    best = rows.loc[rows["score"].idxmax()]
    return float(best["base"]), [float(best[key]) for key in ("delta", "delta_low", "delta_high")]


def test_a_job_is_told_with_what_it_comes_to(tmp_path: Path) -> None:
    def said(**axes: Any) -> str:
        results.write(make(**{"images": 40, "label": "argmax", "eps": [0, 0.5]} | axes), tmp_path)
        return jobs.gain(tmp_path)

    whole = said()
    number, [gain, low, high] = told(tmp_path)
    base = f"  base {number:.2f} %"
    assert whole == f"{base}, at best {gain:+.2f} ({low:+.2f} to {high:+.2f})"
    assert said(label=["argmax", "ground_truth"], refine=["none", "flip"]).startswith(base + ", at best +")
    assert said(label=["random_onehot", "ground_truth"], refine=["none", "flip"]) == f"{base}, no gain"
    assert said(label="random_onehot", info={"select": {"seed": 0}}) == f"{base}, no gain"
    assert {
        said(eps=0),
        said(eps=0, label=["argmax", "uniform"]),
        said(label="ground_truth"),
        said(refine="flip"),
    } == {base}
    held = said(info={"select": {"seed": 0}})
    row = pd.read_csv(tmp_path / "selection.csv").iloc[0]
    gain, low, high = (row[f"held_{key}"] for key in ("delta", "low", "high"))
    assert held == f"{base}, held out {gain:+.2f} ({low:+.2f} to {high:+.2f})"
    for damaged in ("{", "[]", "{}"):
        (tmp_path / "summary.json").write_text(damaged)
        assert jobs.gain(tmp_path) == ""


@pytest.mark.parametrize("more", [[], ["hydra.sweeper.max_batch_size=1"]], ids=["at once", "in batches"])
def test_a_job_that_fails_does_not_keep_others_from_running(terminal: Terminal, more: list[str]) -> None:
    pictures(terminal.folder)
    code, out, err = terminal("-m", *ONE_BAD, *more)
    assert code == 1
    last = out.split("jobs are done")[1]
    assert "2 of 3 jobs are done" in out
    assert "0  model.net=networks.small: out/0/report.html" in last
    assert "2  model.net=networks.Skips: out/2/report.html" in last
    base, [gain, low, high] = told(Path("out/0"))
    end = f"out/0/report.html  base {base:.2f} %, at best {gain:+.2f} ({low:+.2f} to {high:+.2f})"
    assert last.splitlines()[1].endswith(end)
    assert last.splitlines()[3] == "Side by side: out/sweep.html"
    beside = Path("out/sweep.html").read_text(encoding="utf-8")
    assert re.findall(r'<a href="([^"]*)"', beside) == ["0/report.html", "2/report.html"]
    assert "1 of 3 jobs failed" in err
    assert (
        "1  model.net=networks.not_a_network: model.net=networks.not_a_network: expected an nn.Module" in err
    )
    assert "Traceback" not in err
    assert "expected an nn.Module" in Path("out/1/gpsweep.log").read_text()


def test_what_a_scheduler_says_is_heard_between_jobs_as_well(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[object] = []
    monkeypatch.setattr(jobs.EveryJob, "conclude", lambda _: heard.extend(map(signal.getsignal, WARNINGS)))
    assert terminal("-m", "layer=nowhere", "seed=0,1")[0] == 0
    assert heard == [leave] * len(WARNINGS)


def test_a_fault_of_our_own_is_named_and_its_traceback_kept(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(terminal.folder)
    write = results.write

    def faulty(outcome: Any, folder: Path) -> Any:
        if folder.name == "0":
            raise KeyError("lost")
        return write(outcome, folder)

    monkeypatch.setattr(results, "write", faulty)
    code, out, err = terminal("-m", *SMALL, "model.net=networks.small", "seed=0,1")
    assert (code, "1 of 2 jobs are done" in out) == (1, True)
    assert "0  seed=0: KeyError: 'lost' (see out/0/gpsweep.log)" in err
    assert "Traceback" in Path("out/0/gpsweep.log").read_text()
    assert Path("out/1/report.html").is_file()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no file that is always full")
def test_where_the_disk_is_full_the_reason_is_still_told(terminal: Terminal) -> None:
    """What cannot be written is what Hydra and the sweep keep of a job: its log, its configuration."""
    pictures(terminal.folder)
    Path("out/0").mkdir(parents=True)
    Path("out/0/gpsweep.log").symlink_to("/dev/full")
    code, _, err = terminal("-m", *SMALL, "model.net=networks.not_a_network")
    assert code == 1
    assert err.startswith("gpsweep: model.net=networks.not_a_network: expected an nn.Module")
    Path("out/0/.hydra/config.yaml").unlink()
    Path("out/0/.hydra/config.yaml").symlink_to("/dev/full")
    code, _, err = terminal("-m", *SMALL, "model.net=networks.small")
    assert code == 1
    assert err.startswith("gpsweep: a job could not be started: [Errno 28] No space left on device; what is")
    assert "Traceback" not in err


@pytest.mark.parametrize("fails", [False, True])
def test_a_job_does_not_hold_the_memory_of_those_before(terminal: Terminal, fails: bool) -> None:
    """Nor where they have failed: the sweep keeps their errors, and these all that was at hand."""
    pictures(terminal.folder)
    made: list[weakref.ref[Any]] = []
    alive = []

    def small() -> Any:
        alive.append(sum(net() is not None for net in made))
        net = networks.Skips()
        net.forward = (lambda x: 1 / 0) if fails else net.forward  # type: ignore[method-assign,assignment,misc]
        made.append(weakref.ref(net))
        return net

    terminal.patch.setattr("networks.small", small)
    assert terminal("-m", *SMALL, "model.net=networks.small", "seed=0,1,2")[0] == int(fails)
    assert alive == [0, 0, 0]


def test_a_single_job_says_only_what_is_wrong(terminal: Terminal) -> None:
    pictures(terminal.folder)
    code, out, err = terminal("-m", *SMALL, "model.net=networks.not_a_network")
    assert (code, out) == (1, "")
    assert err.startswith("gpsweep: model.net=networks.not_a_network: expected an nn.Module")


def test_shards_that_wait_for_others_are_done(terminal: Terminal) -> None:
    pictures(terminal.folder)
    code, out, _ = terminal(
        "-m", *SMALL, "model.net=networks.small", "data.batch_size=2", "shards=2", "shard=0,1"
    )
    assert code == 0
    assert "0  shard=0: stored; out/0" in out
    assert "1  shard=1: out/1/report.html" in out


@pytest.fixture
def joblib() -> Iterator[None]:
    """Processes of joblib's own for a test; it would keep those of another, and their folder."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    loky = pytest.importorskip("joblib.externals.loky")
    loky.get_reusable_executor().shutdown(wait=True)
    yield
    loky.get_reusable_executor().shutdown(wait=True)


@pytest.mark.slow
def test_joblib_runs_every_job_and_gives_the_same_numbers(terminal: Terminal, joblib: None) -> None:
    pictures(terminal.folder)
    sweep = ["-m", *ONE_BAD, "label=argmax,uniform"]
    code, out, err = terminal(*sweep, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert (code, "2 of 3 jobs are done" in out) == (1, True)
    assert "1  model.net=networks.not_a_network: " in err
    assert "Traceback" not in err
    terminal(*sweep, "store=other", "hydra.sweep.dir=plain")
    for job in ("0", "2"):
        same(Path("out", job), Path("plain", job))


@pytest.mark.slow
def test_a_process_of_joblib_that_dies_is_one_job_that_failed(
    terminal: Terminal, joblib: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    pictures(terminal.folder)
    code, out, err = terminal(
        "-m", *SMALL, "hydra/launcher=joblib", "model.net=slow.deadly,slow.skips,slow.dicts"
    )
    assert code == 1
    assert "2 of 3 jobs are done" in out
    assert "0  model.net=slow.deadly: the job's process has died" in err
    assert "the same command goes on" in err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_no_process_of_joblib_outlives_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would compute what the same command computes again; what they print ends with the last of them."""
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    monkeypatch.setenv("SLOW_SECONDS", "120")
    monkeypatch.setenv("SLOW_LOG", str(tmp_path / "log"))
    pictures(tmp_path)
    jobs = ["-m", *SMALL, "hydra/launcher=joblib", "model.net=slow.skips,slow.dicts"]
    sweep = subprocess.Popen([sys.executable, "-m", "gpsweep", *jobs], cwd=tmp_path, stdout=subprocess.PIPE)
    until = time.monotonic() + 60
    while not (tmp_path / "log").is_file() and time.monotonic() < until:
        time.sleep(0.1)
    sweep.kill()
    sweep.communicate(timeout=30)
    assert (tmp_path / "log").is_file()


@pytest.mark.slow
def test_a_process_of_submitit_that_dies_is_one_job_that_failed(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)
    pictures(terminal.folder)
    local = ["hydra/launcher=submitit_local", "trainer.accelerator=cpu"]
    code, out, err = terminal("-m", *SMALL, *local, "model.net=slow.deadly,slow.skips")
    assert code == 1
    assert "1  model.net=slow.skips: out/1/report.html" in out
    assert "0  model.net=slow.deadly: job" in err
    assert "ended without a result" in err
    assert "Traceback" not in err
    summary = Path("out/1/summary.json").read_text()
    assert "python -m gpsweep -m data=folder" in summary, "the report knows the sweep's command"


@dataclass
class Killed:
    """A job of submitit's that has left no result."""

    paths: SimpleNamespace
    job_id: str = "7_1"
    state: str = "FAILED"

    def done(self, force_check: bool = False) -> bool:
        return True

    def results(self) -> list[Any]:
        raise RuntimeError("no output\nand more")


def test_a_lost_job_is_told_by_the_last_line_it_left(tmp_path: Path) -> None:
    log = tmp_path / "7_1_log.err"
    job = Awaited(Killed(SimpleNamespace(stderr=log)))
    [lost] = job.results()
    assert lost.status == JobStatus.FAILED
    assert f"job 7_1 ended without a result (FAILED): no output (see {log})" in str(lost._return_value)
    log.write_text("first\nsrun: error: n1: task 0: Killed\n\n")
    [lost] = job.results()
    assert "(FAILED): srun: error: n1: task 0: Killed (see" in str(lost._return_value)


@dataclass
class Raising:
    """A launcher that fails."""

    error: BaseException

    def launch(self, *arguments: Any, **options: Any) -> list[JobReturn]:
        raise self.error


@dataclass
class Fragile:
    """A launcher whose processes all end where one of them does, as joblib's."""

    deadly: str
    launched: list[list[str]] = field(default_factory=list)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        names = [own[0] for own in job_overrides]
        self.launched.append([f"{n} {name}" for n, name in enumerate(names, initial_job_idx)])
        if self.deadly in names:
            raise BrokenProcessPool("A worker process was unexpectedly terminated.")
        return [JobReturn(status=JobStatus.COMPLETED, overrides=[name]) for name in names]


def test_where_a_process_dies_the_other_jobs_still_come_to_their_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    launcher = jobs.EveryJob(fragile := Fragile("b"))
    finished = launcher.launch([["a"], ["b"], ["c"]], 4)
    assert [job.overrides for job in finished] == [["a"], ["c"]]
    assert fragile.launched == [["4 a", "5 b", "6 c"], ["4 a"], ["5 b"], ["6 c"]]
    assert capsys.readouterr().err.count("the jobs go on one at a time") == 1
    [lost] = [job for job in launcher.ended if not jobs.done(job)]
    assert "the job's process has died" in jobs.reason(lost)
    alone = jobs.EveryJob(Fragile("a"))
    assert alone.launch([["a"]], 0) == []
    with pytest.raises(CompactHydraException, match="the job's process has died"):
        alone.conclude()


def test_what_a_launcher_refuses_is_one_message() -> None:
    launcher = jobs.EveryJob(Raising(RuntimeError("sbatch: error: no such\npartition")))
    with pytest.raises(CompactHydraException) as refused:
        launcher.launch([["a=1"]], 0)
    assert str(refused.value) == "gpsweep: hydra/launcher: sbatch: error: no such partition"


def test_ctrl_c_while_jobs_run_elsewhere_is_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        jobs.EveryJob(Raising(KeyboardInterrupt())).launch([["a=1"]], 0)
    assert stopped.value.code == 130
    assert "stopped; what is stored stays" in capsys.readouterr().err


def test_of_a_sweep_that_computes_afresh_it_is_said_how_it_goes_on(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = terminal("-m", "fresh=true", "layer=nowhere", "data.limit=1,2")
    assert code == 1
    assert "What is stored stays, and the same command without fresh=true goes on from there." in err
    launcher = jobs.EveryJob(Fragile("b"), fresh=True)
    launcher.launch([["a"], ["b"]], 0)
    assert "the jobs go on one at a time\n" in capsys.readouterr().err


def test_a_launcher_that_is_not_installed_names_its_extra(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in Plugins.instance().class_name_to_class if "submitit" in name]:
        monkeypatch.delitem(Plugins.instance().class_name_to_class, name)
    code, _, err = terminal("-m", "eps=1", "hydra/launcher=submitit_slurm")
    assert code == 1
    assert "hydra/launcher=submitit_slurm: needs a library: pip install '.[slurm]' in the checkout" in err


@pytest.mark.parametrize(
    ("name", "module", "node"),
    [
        ("submitit_slurm", "hydra_submitit_launcher.config", "SlurmQueueConf"),
        ("submitit_local", "hydra_submitit_launcher.config", "LocalQueueConf"),
        ("joblib", "hydra_joblib_launcher.config", "JobLibLauncherConf"),
    ],
)
def test_the_launchers_values_cover_the_plugins_keys(name: str, module: str, node: str) -> None:
    pytest.importorskip(f"hydra_plugins.{module}")
    theirs = getattr(import_module(f"hydra_plugins.{module}"), node)
    ours = OmegaConf.load(Path(config.conf_folder()) / "hydra" / "launcher" / f"{name}.yaml")
    assert set(ours) == set(OmegaConf.structured(theirs))


def test_jobs_are_named_by_what_sets_them_apart_and_many_are_cut_short() -> None:
    assert distinct([["a=1", "b=[1,2]"], ["a=2", "b=[1,2]"]]) == ["a=1", "a=2"]
    assert jobs.shown(["x"] * 20) == ["x"] * 20
    assert jobs.shown(["x"] * 23)[-2:] == ["x", "  … and 3 more"]
