"""Networks that take their time and write down whatever they are given, and one that ends its process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from networks import build, logits_of
from torch import Tensor, nn


class Slow(nn.Module):
    """A network that sleeps as long as ``SLOW_SECONDS`` says, and adds a line to ``SLOW_LOG``, each time."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = build(name)

    def forward(self, x: Tensor) -> Tensor:
        log = os.environ.get("SLOW_LOG")
        if log:
            job = f"{os.environ.get('SLURM_ARRAY_JOB_ID')}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
            with Path(log).open("a") as file:
                file.write(f"{job} {x.shape[0]} {x.double().sum().item()!r}\n")
        time.sleep(float(os.environ.get("SLOW_SECONDS", "0")))
        return logits_of(self.net(x))


def skips() -> nn.Module:
    """Return a slow network, as ``model.net=slow.skips`` asks for it."""
    return Slow("skips")


def dicts() -> nn.Module:
    """Return another one."""
    return Slow("dicts")


def deadly() -> nn.Module:
    """End the process, as a kernel does that runs out of memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError
