"""What a stopped run tells the scheduler; the signals themselves are tried on real processes elsewhere."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Terminal
from readers import left, reading

from gpsweep.command import signals_in_a_line
from gpsweep.interrupts import WARNINGS, Stopped, StoppedRun, hand_on, leave, left_at_once

STATES = {
    "running": "JobState=RUNNING Reason=None PreemptTime=None",
    "preempted": "JobState=RUNNING Reason=None PreemptTime=2026-01-01T00:00:00",
    "cancelled": "JobState=COMPLETING Reason=None PreemptTime=None",
}


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for key in [key for key in os.environ if key.startswith(("SLURM_", "SUBMITIT_"))]:
        monkeypatch.delenv(key)
    before = {name: signal.getsignal(name) for name in (signal.SIGTERM, signal.SIGCONT, *WARNINGS)}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``scontrol`` was asked to do; what it says of a job is in ``STATE``."""
    command, said = tmp_path / "scontrol", tmp_path / "said"
    command.write_text(f'#!/bin/sh\n[ "$2" = show ] && echo "JobId=$4 $STATE" || echo "$@" >{said}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("STATE", STATES["running"])
    return said


def test_a_warned_job_is_requeued(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_on(signal.SIGUSR1)
    assert not asked.exists(), "outside SLURM there is nobody to tell"
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    hand_on(signal.SIGINT)
    assert not asked.exists(), "a person at the keyboard"
    hand_on(signal.SIGUSR1)
    assert asked.read_text() == "requeue 12\n"


def test_of_an_array_only_the_task_itself_is_asked_about_and_requeued(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of the task that starts last is the array's, by which SLURM understands all tasks."""
    asked.with_name("scontrol").write_text(
        "#!/bin/sh\n"
        f'[ "$2" = show ] || exec echo "$@" >{asked}\n'
        '[ "$4" = 12_3 ] || echo "JobId=11 JobState=COMPLETED"\n'
        'echo "JobId=12 $STATE"\n'
        '[ "$4" = 12_3 ] || echo "JobId=13 JobState=PENDING"\n'
    )
    monkeypatch.setenv("STATE", STATES["preempted"])
    for key, value in (("JOB_ID", "12"), ("ARRAY_JOB_ID", "12"), ("ARRAY_TASK_ID", "3")):
        monkeypatch.setenv(f"SLURM_{key}", value)
    with pytest.raises(SystemExit):
        leave(signal.SIGTERM, None)
    assert asked.read_text() == "requeue 12_3\n"


@pytest.mark.parametrize(
    ("state", "own", "requeued"),
    [
        ("running", True, True),
        ("preempted", True, True),
        ("cancelled", True, False),
        ("running", False, False),
        ("preempted", False, True),
        ("cancelled", False, False),
    ],
)
def test_sigterm_requeues_what_slurm_has_not_ended_itself(
    asked: Path, monkeypatch: pytest.MonkeyPatch, state: str, own: bool, requeued: bool
) -> None:
    """Within a script of the user's, another command may have sent it: there it must be a preemption."""
    heard: list[int] = []
    signal.signal(signal.SIGUSR2, lambda signum, frame: heard.append(signum))
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("STATE", STATES[state])
    if own:
        monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    with pytest.raises(SystemExit) as end:
        leave(signal.SIGTERM, None)
    assert end.value.code == 128 + signal.SIGTERM
    assert (heard == [signal.SIGUSR2]) == (own and requeued)
    assert asked.exists() == (requeued and not own)


def test_sigterm_only_ends_what_cannot_ask_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGUSR2, lambda signum, frame: heard.append(signum))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    hand_on(signal.SIGTERM)
    assert not heard, "nothing is requeued"


def test_a_warning_only_ends_what_cannot_ask_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever started the run, outside its container perhaps, can requeue it by its exit code."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with pytest.raises(SystemExit) as end:
        leave(signal.SIGUSR1, None)
    assert end.value.code == 128 + signal.SIGUSR1


@pytest.mark.parametrize("executor", ["slurm", "local"])
def test_submitit_requeues_its_own_jobs(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
    heard: list[int] = []
    signal.signal(signal.SIGUSR2, lambda signum, frame: heard.append(signum))
    hand_on(signal.SIGUSR1)
    assert heard == [signal.SIGUSR2]


@pytest.mark.parametrize("signum", [signal.SIGUSR2, signal.SIGTERM])
def test_only_the_first_process_requeues_and_the_others_end_without_an_error(
    asked: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    monkeypatch.setenv("STATE", STATES["preempted"])
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(SystemExit) as end:
        hand_on(signum)
    assert end.value.code == 0
    assert not asked.exists()


def test_signals_are_whose_they_were_after_a_run(terminal: Terminal) -> None:
    heard = (signal.SIGINT, signal.SIGTERM, *WARNINGS)
    before = {signum: signal.getsignal(signum) for signum in heard}
    assert terminal("data.limit=2", "eps=1", "progress=false")[0] == 0
    assert {signum: signal.getsignal(signum) for signum in heard} == before


def test_ctrl_c_that_is_typed_twice_ends_a_run_at_once(terminal: Terminal) -> None:
    """Lightning would make an exit of it that says nothing."""

    def within_a_batch(*_: object, **__: object) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    terminal.patch.setattr("gpsweep.compute.count", within_a_batch)
    before = signal.getsignal(signal.SIGINT)
    code, _, err = terminal("eps=1", "progress=false", "data.limit=2", "fresh=true")
    assert signal.getsignal(signal.SIGINT) is before
    said = "what is stored stays, and the same command without fresh=true goes on"
    assert (code, err) == (130, f"gpsweep: stopped; {said}\n")


@pytest.mark.parametrize("kind", [Stopped, StoppedRun])
def test_a_signal_that_ends_another_process_is_said_once(
    kind: type[Stopped], capsys: pytest.CaptureFixture[str]
) -> None:
    """As joblib hands on what ends its processes."""
    stop = kind(signal.SIGTERM)
    for said in (1, 0):
        stop = pickle.loads(pickle.dumps(stop))
        with pytest.raises(kind) as end, signals_in_a_line("all is kept"):
            raise stop
        assert end.value.code == 143
        assert capsys.readouterr().err.count("; all is kept\n") == said


def test_what_a_scheduler_says_ends_a_process_unless_another_hears_it(asked: Path) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # submitit's way with it
    own = {signum: signal.getsignal(signum) for signum in (signal.SIGTERM, signal.SIGUSR1)}
    signal.signal(signal.SIGUSR2, lambda *_: None)
    submitits = signal.getsignal(signal.SIGUSR2)
    with left_at_once(signal.SIGTERM, *WARNINGS):
        assert signal.getsignal(signal.SIGTERM) is signal.getsignal(signal.SIGUSR1) is leave
        assert signal.getsignal(signal.SIGUSR2) is submitits
    assert {signum: signal.getsignal(signum) for signum in own} == own


def test_what_a_requeue_sends_is_ignored_to_the_end(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    with pytest.raises(SystemExit), left_at_once(signal.SIGTERM, *WARNINGS):
        signal.raise_signal(signal.SIGUSR1)
    assert asked.read_text() == "requeue 12\n"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


@pytest.mark.parametrize(
    ("failure", "told"), [(ConnectionResetError, False), (EOFError, False), (ValueError, True)]
)
def test_a_process_that_reads_data_says_nothing_of_the_end_of_the_one_it_reads_for(
    failure: type[BaseException], told: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    reader = multiprocessing.get_context("spawn").Process(target=left, args=[failure])
    reader.start()
    reader.join(60)
    assert reader.exitcode == 0
    assert (failure.__name__ in capfd.readouterr().err) == told


def test_a_process_that_reads_data_leaves_signals_to_the_one_it_reads_for() -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    reader = context.Process(target=reading, args=[ready], daemon=True)
    reader.start()
    assert reader.pid is not None
    assert ready.wait(60)
    for signum in (signal.SIGINT, *WARNINGS):
        os.kill(reader.pid, signum)
    subprocess.run(["kill", "-TERM", str(reader.pid)], check=True)
    reader.join(1)
    assert reader.is_alive()
    reader.terminate()
    reader.join(10)
    assert reader.exitcode == 0, "by its parent it is ended at once, without a word"


KILLED = """
import os, signal, subprocess, sys
child = "import os, time; from gpsweep.interrupts import end_with; end_with(os.getppid()); "
child += "print('ready', flush=True); time.sleep(60)"
started = subprocess.Popen([sys.executable, "-c", child], stdout=subprocess.PIPE)
started.stdout.readline()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_ends_whose_starter_has_ended_before_it_looks() -> None:
    """Its parent is then another, such as this one here."""
    child = "import time; from gpsweep.interrupts import end_with; end_with(1); time.sleep(60)"
    done = subprocess.run([sys.executable, "-c", child], stderr=subprocess.PIPE, timeout=30)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="Windows has no such signal")
def test_a_process_ends_with_the_one_that_has_started_it() -> None:
    """What they may print ends with the last of them."""
    done = subprocess.run([sys.executable, "-c", KILLED], stderr=subprocess.PIPE, timeout=30)
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, b"")
