"""What a stopped run tells the scheduler; the signals themselves are tried on real processes elsewhere."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from gpsweep.interrupts import hand_on


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in [key for key in os.environ if key.startswith(("SLURM_", "SUBMITIT_"))]:
        monkeypatch.delenv(key)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What ``scontrol`` was asked."""
    command, said = tmp_path / "scontrol", tmp_path / "said"
    command.write_text(f'#!/bin/sh\necho "$@" >{said}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return said


def test_a_warned_job_is_requeued(asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_on(signal.SIGUSR1)
    assert not asked.exists(), "outside SLURM there is nobody to tell"
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    hand_on(signal.SIGTERM)
    hand_on(signal.SIGINT)
    assert not asked.exists(), "SLURM itself decides, or the person at the keyboard"
    hand_on(signal.SIGUSR1)
    assert asked.read_text() == "requeue 12\n"


@pytest.mark.parametrize("executor", ["slurm", "local"])
def test_submitit_requeues_its_own_jobs(executor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda signum, frame: heard.append(signum))
    try:
        hand_on(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert heard == [signal.SIGUSR2]


def test_only_the_first_process_requeues_and_the_others_end_without_an_error(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(SystemExit) as end:
        hand_on(signal.SIGUSR2)
    assert end.value.code == 0
    assert not asked.exists()
