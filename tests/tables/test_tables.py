"""The command: what it runs, what it leaves out and says, and the table it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Barrier
from time import perf_counter, sleep
from typing import Any

import pytest
from commands import Terminal
from outcomes import make
from written import csv_rows

from gpsweep import results
from gpsweep.errors import GpsweepError
from gpsweep.interrupts import Stopped
from gpsweep.tables import definition, running
from gpsweep.tables.__main__ import asked, main
from gpsweep.tables.calls import Calls
from gpsweep.tables.commands import Job, jobs

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run ``python -m gpsweep.tables`` in an empty folder; return its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPSWEEP_DATA", str(tmp_path / "nothing"))
    monkeypatch.setenv("GPSWEEP_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("COLUMNS", "150")

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Leave the files of runs with made-up counts in place of running them; return their commands."""
    commands: list[Sequence[str]] = []

    def call(calls: Calls, command: Sequence[str], label: str, folder: Path, *, threads: int | None) -> None:
        commands.append(command)
        if "gpsweep.fit" in command:
            folder.mkdir(parents=True)
            (folder / "weights.safetensors").write_bytes(b"")
            return
        given = dict(part.split("=", 1) for part in command if "=" in part)
        if given["model"] == "camvid":
            raise GpsweepError("the network fails on the first sample")
        eps = json.loads(given["eps"])
        label_names = given["label"].strip("[]").split(",")
        info = {"select": {"seed": 0}, "dataset": "scenes", "cost": None}
        classifies = given["label"] == "knn"
        task = "classification" if classifies else "segmentation"
        outcome = make(task=task, images=30, eps=eps, label=label_names, info=info, **_labels(classifies))
        results.write(outcome, folder / "0")

    monkeypatch.setattr(Calls, "__call__", call)
    monkeypatch.setattr(running, "absent", lambda job: "")
    return commands


def _labels(classifies: bool) -> dict[str, Any]:
    return {"labels": ("knn",)} if classifies else {}


def test_a_table_of_what_has_run(tables: Command, pretended: list[Sequence[str]], tmp_path: Path) -> None:
    code, out, err = tables("fig8", "small=true", "out=here", "data.limit=30")
    assert (code, err.splitlines()[-1]) == (1, "gpsweep: 1 of 2 runs failed: small network, CamVid val"), err
    assert "failed. the network fails on the first sample" in err
    assert "failed. the network fails" in out, "below the table as well"
    found = csv_rows(tmp_path / "here" / "fig8.csv")
    assert [row["setting"] for row in found] == [
        f"embedded default, scenes, {label}" for label in ("argmax", "random_onehot", "uniform", "top2")
    ]
    outcome = results.read(tmp_path / "here" / "scenes" / "0")
    best = results.best(results.table(outcome))
    assert [float(row["same_score"]) for row in found] == pytest.approx(best["score"].tolist())
    assert found[0]["paper_gp"] == "64.7" and "difference_gp" not in found[0]
    names = {path.name for path in (tmp_path / "here").iterdir() if path.is_file()}
    assert names == {"fig8.csv", "fig8.md", "fig8.tex", "fig8-scenes.png", "fig8-scenes.svg"}
    assert all(str(Path("here", name)) in out for name in names)
    assert all("data.limit=30" in command for command in pretended)


def test_networks_beside_each_other(
    tables: Command, pretended: list[Sequence[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = definition.read("fig10")
    del shown.small.rows["mnist"]
    shown.small.rows["again"] = shown.small.rows["scenes"]
    monkeypatch.setattr(definition, "read", lambda name: shown)
    monkeypatch.setattr(running, "absent", lambda job: "" if job.key != "camvid" else "no such file")
    code, _, err = tables("fig10", "small=true", "out=here")
    assert code == 0, err
    assert "skipped. no such file" in err, "what is skipped is no failure"
    assert (tmp_path / "here" / "fig10.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "here" / "fig10.svg").read_text()


def test_what_is_missing_is_skipped_and_named(tables: Command) -> None:
    code, _, err = tables("table1")
    assert code == 1
    lines = [line for line in err.splitlines() if "skipped" in line]
    assert len(lines) == 6
    assert "weights/fcn32s_from_caffe.pth: no such file. It is published at https://drive" in lines[0]
    assert "Note: the file of DeepLab-COCO-LargeFOV" in lines[4]
    assert err.splitlines()[-1] == "gpsweep: nothing of this table could be run here"


def test_data_that_are_missing_say_so_themselves(tables: Command, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "fcn32s_from_caffe.pth").write_bytes(b"")
    code, _, err = tables("fig10")
    assert code == 1
    assert "VOCdevkit" in err and "published at http://host.robots.ox.ac.uk" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table7"], "table=table7: unknown. Did you mean table"),
        (["tabel4"], "Did you mean table4"),
        (["table4", "small=maybe"], "small=maybe: expected true or false"),
        (["table4", "small"], "small: expected KEY=VALUE"),
        (["table4", "--config-dir=mine"], "--config-dir=mine: expected KEY=VALUE"),
        (["table6", "seeds=a"], "seeds=a: expected whole numbers"),
        (["table6", "at_once=0"], "at_once=0: expected a whole number ≥ 1"),
        (["table4", "model=scenes"], "model=scenes: the rows of a table name their own"),
        (["table4", "data.limt=4"], "gpsweep: data.limt: no such key. Did you mean data.limit"),
        (["table4", "epss=3"], "gpsweep: epss: no such key. Did you mean eps?"),
        (["table6", "fit.epoch=1"], "epoch"),
        (["table6", "fit.seed=5"], "fit.seed=5: the rows of a table name their own; expected seeds=5"),
        (["table6", "++fit.seed=5"], "++fit.seed=5: the rows of a table name their own; expected seeds=5"),
        (["table1", "seeds=0,1"], "seeds=0,1: expected a table that trains its networks, came table1"),
        (["table4", "small=true", "fit.epochs=4"], "fit.epochs=4: expected a table that trains its networks"),
        (["table4", "data.split=train,val"], "data.split"),
        (["fig10", "label=[argmax,top2]"], "FCN-32s: expected one curve for this line, came 2: label=argmax"),
        (["fig10", "iterations=2"], "FCN-32s: expected one curve for this line, came 2"),
        (["fig8", "label=argmax"], "FCN-32s, random_onehot: expected one curve for this line, came 0"),
        (["table5", "eps=[0.5,1]"], "FCN-8s-coco, with CRF: eps: expected 0 among them"),
        (["table1", "eps=[0,1]"], "FCN-32s: eps: expected 0.55 among them, the paper's"),
        (["table1", "label=argmx"], "Did you mean argmax"),
    ],
)
def test_mistakes_end_in_one_message_before_anything_is_run(
    arguments: list[str], message: str, tables: Command, tmp_path: Path
) -> None:
    code, out, err = tables(*arguments)
    assert code == 1 and not out
    assert message in err and "Traceback" not in err
    assert "skipped" not in err and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tables: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, _, err = tables("table4", "small=true", "out=file/inside")
    assert code == 1 and "out=file/inside: expected a folder that can be written" in err


def test_a_folder_below_the_user_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert asked(["fig8", "out=~/mine"]).out == tmp_path / "mine"


def test_all_tables_are_listed(tables: Command) -> None:
    code, out, _ = tables()
    assert code == 0
    assert all(name in out for name in definition.names())
    assert "0 of 6" in out and "trains its own" in out and "small=true" in out


def test_help_is_at_hand_behind_a_name_as_well(tables: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = tables("table4", "--help")
    assert (code, err) == (0, "")
    assert (0, out, "") == tables()
    assert all(len(line) <= 80 for line in out.splitlines())


def test_seeds_are_trained_once(tables: Command, pretended: list[Sequence[str]], tmp_path: Path) -> None:
    assert tables("table6", "small=true", "seeds=0,3", "at_once=1")[0] == 0
    folder = tmp_path / "outputs" / "tables" / "table6-small"
    found = csv_rows(folder / "table6.csv")
    assert [row["setting"] for row in found] == [
        "MNIST, seed 0",
        "MNIST, seed 3",
        "MNIST, mean of 2 seeds",
        "MNIST, mean of 2 seeds: standard deviation",
    ]
    assert [command[2] for command in pretended] == ["gpsweep.fit", "gpsweep"] * 2
    assert "seed=3" in pretended[2]


def test_commands_that_run_at_once_say_whose_lines_are(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    says = "import os, sys; print('threads:', os.environ['OMP_NUM_THREADS'], file=sys.stderr)"
    Calls(labelled=True)([sys.executable, "-c", says], "[1/2] MNIST", tmp_path, threads=3)
    assert capfd.readouterr().err.splitlines()[1:] == ["[1/2] MNIST: threads: 3"]


def test_what_a_tracker_says_is_passed_on(terminal: Terminal) -> None:
    code, out, err = terminal("tracker=csv", "data.limit=2", "hydra.run.dir=run")
    assert code == 0, err
    assert out.splitlines()[-1] == f"CSV: {terminal.folder / 'run' / 'csv' / 'metrics.csv'}"
    (terminal.folder / "out").write_text(out)
    says = [sys.executable, "-c", "print(open('out').read(), end='')"]
    for labelled in (False, True):
        Calls(labelled=labelled)(says, "[1/2] scenes", terminal.folder)
        shown, told = terminal.capture.readouterr()
        assert shown == ""
        assert told.splitlines()[1:] == [f"[1/2] scenes: {out.splitlines()[-1]}"]
    (terminal.folder / "out").write_text(out[: out.index("CSV: ")])
    Calls()(says, "[1/2] scenes", terminal.folder)
    assert len(terminal.capture.readouterr().err.splitlines()) == 1


def test_jobs_run_at_once_and_share_the_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one has all of them for its run, but a training has the same share at any time."""
    both, shares = Barrier(2, timeout=30), {}

    def call(calls: Calls, command: Sequence[str], label: str, folder: Path, *, threads: int | None) -> None:
        shares[label] = threads
        if "training" not in label:
            (folder / "0").mkdir(parents=True)
            (folder / "0" / "summary.json").write_text("{}")
        if "seed 2" not in label:
            both.wait()
        elif "training" in label:
            sleep(0.5)  # until both have ended

    monkeypatch.setattr(Calls, "__call__", call)
    monkeypatch.setattr(running, "absent", lambda job: "")
    monkeypatch.setattr(results, "runs", lambda folder: [folder / "0"])
    monkeypatch.setattr(running.torch, "get_num_threads", lambda: 5)
    three = jobs(definition.read("table6").small, tmp_path, [], [0, 1, 2])
    ended = running.run(three, at_once=2)
    assert [(each.job, each.folder) for each in ended] == [(job, job.folder / "0") for job in three]
    assert shares == {
        "[1/3] MNIST, seed 0: training": 2,
        "[2/3] MNIST, seed 1: training": 2,
        "[3/3] MNIST, seed 2: training": 2,
        "[1/3] MNIST, seed 0": 2,
        "[2/3] MNIST, seed 1": 2,
        "[3/3] MNIST, seed 2": 5,
    }


def test_one_that_is_killed_ends_the_others_and_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that run are told to end, and none begins."""
    begun = tmp_path / "begun"
    waits = f"import time; open({str(begun)!r}, 'w').close(); time.sleep(60)"
    dies = (
        f"import os, time\nwhile not os.path.exists({str(begun)!r}): time.sleep(0.01)\n"
        "os.kill(os.getpid(), 9)"
    )
    never = f"open({str(tmp_path / 'never')!r}, 'w').close()"
    codes = {0: waits, 1: dies, 2: never}
    monkeypatch.setattr(running, "absent", lambda job: "")
    monkeypatch.setattr(running, "trained", lambda job: True)
    monkeypatch.setattr(Job, "command", lambda job: [sys.executable, "-c", codes[job.seed]])
    three = jobs(definition.read("table6").small, tmp_path, [], [0, 1, 2])
    start = perf_counter()
    with pytest.raises(Stopped):
        running.run(three, at_once=2)
    assert perf_counter() - start < 40
    assert begun.exists() and not (tmp_path / "never").exists()


def test_times_of_runs_that_shared_the_processor_are_marked(
    tables: Command, pretended: list[Sequence[str]]
) -> None:
    code, out, err = tables("table6", "small=true", "seeds=0,3")
    assert code == 0, err
    assert "2 runs shared the processor" in out
    assert "[1/2] MNIST, seed 0: done" in err.splitlines()
    assert "shared" not in tables("table6", "small=true", "seeds=0,3", "at_once=1", "out=alone")[1]


def test_weights_of_another_recipe_are_trained_again(tmp_path: Path) -> None:
    variant = definition.read("table6").small
    [job] = jobs(variant, tmp_path, ["data.root=/here"])
    assert not running.trained(job)
    job.fitted.mkdir()
    (job.fitted / "weights.safetensors").write_bytes(b"")
    from omegaconf import OmegaConf

    config = OmegaConf.to_container(job.recipe, resolve=True)
    (job.fitted / "fit.json").write_text(json.dumps({"config": config}))
    assert running.trained(job)
    [elsewhere] = jobs(variant, tmp_path, ["data.root=/there"])
    assert running.trained(elsewhere), "where the data lie does not matter"
    [longer] = jobs(variant, tmp_path, ["fit.epochs=9"])
    assert not running.trained(longer)
    [tuned] = jobs(variant, tmp_path, ["fit.model.checkpoint=mine.pth"])
    assert not running.trained(tuned), "weights to begin with make other weights"
    [watched] = jobs(variant, tmp_path, ["fit.progress=true", "fit.accelerator=cpu", "fit.eps=1"])
    assert running.trained(watched)
    (job.fitted / "fit.json").write_text("{")
    assert not running.trained(job)


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    log = tmp_path / "0" / "gpsweep.log"
    log.write_text("gpsweep: of yesterday\n")

    def failing(said: str, code: int = 1) -> list[str]:
        return [sys.executable, "-c", f"open({str(log)!r}, 'a').write({said!r}); raise SystemExit({code})"]

    with pytest.raises(GpsweepError, match=r"^of today$"):
        Calls()(failing("gpsweep: of today\n"), "a", tmp_path)
    with pytest.raises(GpsweepError, match=r"^KeyError: 'x' \(see .*gpsweep\.log\)$"):
        Calls()(failing("Traceback (most recent call last):\n  …\nKeyError: 'x'\n"), "a", tmp_path)
    with pytest.raises(GpsweepError, match="code 3"):
        Calls()(failing("", 3), "a", tmp_path)
    with pytest.raises(Stopped):
        Calls()(failing("", 130), "a", tmp_path)


@pytest.mark.slow
def test_the_whole_way(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "gpsweep.tables",
        "table2",
        "small=true",
        "data.limit=4",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    [row] = csv_rows(tmp_path / "outputs" / "tables" / "table2-small" / "table2.csv")
    assert row["images"] == "4" and row["fixed_eps"] == "0.75" and float(row["fixed_p"]) <= 1
    assert "Table 2" in done.stdout


@pytest.mark.parametrize("first", ["", "import signal, sys; signal.signal(15, lambda *_: sys.exit(0)); "])
def test_a_table_that_is_ended_ends_what_it_runs(first: str, tmp_path: Path) -> None:
    """And nothing follows it, even where what it runs has come to its end by then."""
    waits = [
        sys.executable,
        "-c",
        f"{first}import time; from pathlib import Path; Path('begun').touch(); time.sleep(60)",
    ]
    code = (
        "import os, signal, threading, time; from pathlib import Path\n"
        "from gpsweep.tables.calls import Calls\n"
        "calls = Calls()\n"
        "def end():\n"
        "    while not (Path('begun').exists() and callable(signal.getsignal(signal.SIGTERM))):\n"
        "        time.sleep(0.01)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "threading.Thread(target=end, daemon=True).start()\n"
        f"with calls.stopping(): calls({waits!r}, 'a', Path('.'))"
    )
    start = perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 143
    assert (tmp_path / "begun").exists()
    assert perf_counter() - start < 40
