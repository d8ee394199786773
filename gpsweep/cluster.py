"""What submitit's launchers leave open: to wait for all jobs of a sweep, and to say which are lost."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher

from gpsweep.interrupts import INTERRUPT, Stopped

ASK_EVERY = 20.0  # seconds; submitit would ask a cluster every ten minutes whether a job still lives


@dataclass(frozen=True)
class Awaited:
    """A job of submitit's that has a result in any case.

    Args:
        job: the job.
    """

    job: Any

    def results(self) -> list[JobReturn]:
        """Wait for the job and return what its tasks returned; that it failed if it has left nothing."""
        self._wait()
        try:
            returned: list[JobReturn] = self.job.results()
            return returned
        except Exception as error:  # submitit's own, and whatever a file cut short raises
            lost = CompactHydraException(f"gpsweep: {self._lost(error)}")
            return [JobReturn(status=JobStatus.FAILED, _return_value=lost)]

    def _wait(self) -> None:
        asked = time.monotonic()
        while not self.job.done():
            time.sleep(1)
            if time.monotonic() - asked > ASK_EVERY:
                self.job.done(force_check=True)
                asked = time.monotonic()

    def _lost(self, error: Exception) -> str:
        log = Path(self.job.paths.stderr)
        lines = log.read_text(errors="replace").split("\n") if log.is_file() else []
        said = next((line.strip() for line in reversed(lines) if line.strip()), None)
        why = said or next(iter(str(error).splitlines()), type(error).__name__)
        return f"job {self.job.job_id} ended without a result ({self.job.state}): {why} (see {log})"


@contextmanager
def awaiting_all(launcher: Launcher) -> Iterator[None]:
    """Let a launcher of submitit's wait for all its jobs; it would stop at the first that is lost.

    Other launchers are left as they are. Ctrl-C ends the waiting and leaves jobs of a cluster running.
    """
    executor = getattr(launcher, "_EXECUTOR", None)
    if executor is None:
        yield
        return
    from submitit import AutoExecutor

    submit = AutoExecutor.map_array
    submitted: list[Any] = []

    def map_array(auto: AutoExecutor, function: Any, *arguments: Any) -> list[Awaited]:
        submitted.extend(submit(auto, function, *arguments))
        if executor == "slurm":
            print(f"gpsweep: {_said(submitted)}", file=sys.stderr)
        return [Awaited(job) for job in submitted]

    AutoExecutor.map_array = map_array  # type: ignore[assignment, method-assign]
    try:
        yield
    except KeyboardInterrupt:
        if executor != "slurm" or not submitted:
            raise
        ends = f"scancel {_number(submitted)} ends them"
        print(f"gpsweep: the jobs go on by themselves; {ends}", file=sys.stderr)
        raise Stopped(INTERRUPT, told=True) from None
    finally:
        AutoExecutor.map_array = submit  # type: ignore[method-assign]


def _said(jobs: list[Any]) -> str:
    many = f"an array of {len(jobs)}" if len(jobs) > 1 else "one task"
    return f"SLURM job {_number(jobs)}, {many}; what they say goes to {jobs[0].paths.folder.parent}"


def _number(jobs: list[Any]) -> str:
    return str(jobs[0].job_id).split("_")[0]
