"""What ends the batches of a run before their time."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from gpsweep.compute import ended_well
from gpsweep.errors import GpsweepError
from gpsweep.interrupts import Interrupts, StoppedRun
from gpsweep.ranks import Ranks

CFG = OmegaConf.create({"data": {"workers": 2}, "fresh": False})
DEAD: Any = SimpleNamespace(poll=lambda: 1)


def others(tmp_path: Any, *processes: Any) -> Ranks:
    return Ranks(list(processes), tmp_path)


@pytest.mark.parametrize(
    "fault",
    [RuntimeError("DataLoader worker (pid 7) exited"), GpsweepError("process 1"), ConnectionResetError()],
)
def test_ctrl_c_that_kills_another_process_first_is_a_stop(tmp_path: Any, fault: Exception) -> None:
    interrupts = Interrupts()
    interrupts.received = signal.SIGINT
    with (
        pytest.raises(StoppedRun, match="stopped by SIGINT"),
        ended_well(CFG, interrupts, others(tmp_path)),
    ):
        raise fault


@pytest.mark.parametrize(
    ("processes", "fault", "message"),
    [
        (
            (DEAD,),
            RuntimeError("Connection closed by peer"),
            r"trainer.devices: process 1 of 2 ended with code 1",
        ),
        ((), RuntimeError("DataLoader worker (pid 7) exited"), r"data.workers=2: a worker process has died"),
        ((DEAD,), GpsweepError("image 3 is missing"), r"image 3 is missing"),
    ],
)
def test_the_cause_is_named(
    tmp_path: Any, processes: tuple[Any, ...], fault: Exception, message: str
) -> None:
    with (
        pytest.raises(GpsweepError, match=message),
        ended_well(CFG, Interrupts(), others(tmp_path, *processes)),
    ):
        raise fault


def test_any_other_fault_stays_what_it_is(tmp_path: Any) -> None:
    with pytest.raises(RuntimeError, match="shape"), ended_well(CFG, Interrupts(), others(tmp_path)):
        raise RuntimeError("shape mismatch")


def test_a_run_that_computes_afresh_says_how_it_goes_on(tmp_path: Any) -> None:
    lost = "the same command without fresh=true goes on from there"
    with pytest.raises(GpsweepError, match=lost):
        Ranks([DEAD], tmp_path, fresh=True).check()
    cfg = OmegaConf.create({"data": {"workers": 2}, "fresh": True})
    with pytest.raises(GpsweepError, match=lost), ended_well(cfg, Interrupts(), others(tmp_path)):
        raise RuntimeError("DataLoader worker (pid 7) exited")
