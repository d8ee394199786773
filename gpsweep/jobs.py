"""The jobs of a sweep, seen from the command that starts them: all run, and it says how each has ended."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from gpsweep import cluster, config, interrupts
from gpsweep.atomic import from_here
from gpsweep.command import signals_in_a_line, stays, though_unread
from gpsweep.errors import GpsweepError, one_line
from gpsweep.quoting import distinct

LOG, REPORT, SUMMARY = "gpsweep.log", "report.html", "summary.json"
SHOWN = 20
EXTRAS = {"joblib": "joblib", "submitit_local": "slurm", "submitit_slurm": "slurm"}

# Jobs on a cluster begin with this module, and compose their configuration anew.
config.register()


@dataclass(frozen=True)
class Noted:
    """A job's task, which notes in the job's folder why it failed: the one who started it may be gone.

    Args:
        task: what a job runs.
        command: the command line of the sweep, which a job on a cluster would not know.
        sweep: its process; joblib's would go on without it, beside the same command that is typed again.
        failed: the errors of jobs of this process, which the sweep keeps to its end.
    """

    task: Callable[[DictConfig], Any]
    command: list[str] = field(default_factory=lambda: list(sys.argv))
    sweep: int = field(default_factory=os.getpid)
    failed: list[BaseException] = field(default_factory=list)

    def __call__(self, cfg: DictConfig) -> Any:
        """Run the task."""
        self._free()
        sys.argv = list(self.command)
        if os.getppid() == self.sweep:
            interrupts.end_with(self.sweep)
        if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            signal.signal(interrupts.TERMINATE, interrupts.leave)  # submitit would not listen
        try:
            return self.task(cfg)
        except Exception as error:
            expected = isinstance(error, CompactHydraException)
            folder = Path(HydraConfig.get().runtime.output_dir)
            # On a full disk, where this may fail as well, the reason itself is still told.
            with suppress(OSError), (folder / LOG).open("a", encoding="utf-8") as log:
                log.write(f"{error}\n" if expected else traceback.format_exc())
            self.failed.append(error)
            raise

    def _free(self) -> None:
        """Free what this process's earlier jobs held: an error keeps all that led to it."""
        while self.failed:
            error = self.failed.pop()
            error.__traceback__ = None
            chain = (error.__cause__, error.__context__)
            self.failed.extend(each for each in chain if each is not None and each.__traceback__ is not None)
        gc.collect()  # a network and its Trainer refer to each other


class EveryJob(Launcher):
    """Another launcher, whose jobs all run, whichever of them fail.

    Args:
        launcher: what runs the jobs.
        fresh: whether they compute all again.
    """

    def __init__(self, launcher: Launcher, *, fresh: bool = False) -> None:
        self.launcher, self.fresh = launcher, fresh
        self.overrides: list[Sequence[str]] = []
        self.ended: list[JobReturn] = []

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Do nothing: the launcher has been set up already."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Run jobs and return those that are done; Hydra would end the sweep at one that failed.

        Raises:
            CompactHydraException: if the launcher itself fails.
        """
        try:
            with signals_in_a_line(stays(fresh=self.fresh)), cluster.awaiting_all(self.launcher):
                ended = self.launched(job_overrides, initial_job_idx)
        except (RuntimeError, ValueError) as error:  # a submission refused
            raise CompactHydraException(f"gpsweep: hydra/launcher: {one_line(error)}") from error
        except OSError as error:  # such as a full disk, on which Hydra cannot write down what a job is
            if error.errno == errno.ENAMETOOLONG:
                raise CompactHydraException(
                    f"gpsweep: hydra.sweep.subdir: {error.strerror}, as with all values of a sweep in it; "
                    "expected a shorter one, such as ${hydra.job.num}"
                ) from error
            raise CompactHydraException(
                f"gpsweep: a job could not be started: {error}; {stays(fresh=self.fresh)} from there"
            ) from error
        self.overrides += job_overrides
        self.ended += ended
        return [job for job in ended if done(job)]

    def launched(self, job_overrides: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        """Let the launcher run jobs; where a process dies, joblib ends all, and they go on one at a time."""
        try:
            return list(self.launcher.launch(job_overrides, initial_job_idx=first))
        except BrokenExecutor:
            if len(job_overrides) == 1:
                died = CompactHydraException(
                    "gpsweep: the job's process has died, for want of memory perhaps"
                )
                return [JobReturn(status=JobStatus.FAILED, _return_value=died)]
        print(
            "gpsweep: a process has died, for want of memory perhaps; the jobs go on one at a time"
            + ("" if self.fresh else " from what is stored"),
            file=sys.stderr,
        )
        return [job for n, own in enumerate(job_overrides, first) for job in self.launched([own], n)]

    def conclude(self) -> None:
        """Say how the jobs ended, where there are several.

        Raises:
            CompactHydraException: naming the jobs that failed.
        """
        if not self.ended:
            raise CompactHydraException("gpsweep: the sweep has no jobs; expected a value for each axis")
        failed = [job for job in self.ended if not done(job)]
        if len(self.ended) == 1:
            if failed:
                error = failed[0]._return_value
                # What comes from another process brings no traceback.
                raise error if error.__traceback__ else CompactHydraException(f"gpsweep: {reason(failed[0])}")
            return
        named = [f"  {number}  {name}" for number, name in enumerate(distinct(self.overrides))]
        good = [f"{name}: {result(job)}" for name, job in zip(named, self.ended, strict=True) if done(job)]
        bad = [f"{name}: {reason(job)}" for name, job in zip(named, self.ended, strict=True) if not done(job)]
        with though_unread():
            print(f"\n{len(good)} of {len(self.ended)} jobs are done", *shown(good), *self.beside(), sep="\n")
        if bad:
            raise CompactHydraException(
                "\n".join([f"gpsweep: {len(bad)} of {len(self.ended)} jobs failed", *shown(bad)])
                + f"\n{stays(fresh=self.fresh).capitalize()} from there."
            )

    def beside(self) -> list[str]:
        """Write the page that lays runs with results side by side, where there are several, and name it."""
        from gpsweep.report import sweep
        from gpsweep.trackers import sweep_of

        every = (folder_of(job) for job in self.ended if done(job))
        runs = [folder for folder in every if (folder / REPORT).is_file()]
        sweeps = {sweep_of(run) for run in runs}
        folder = sweeps.pop() if len(sweeps) == 1 else None  # each job may have one of its own
        if folder is None or len(runs) == 1:
            return []
        try:
            return [f"Side by side: {sweep.write_page(from_here(folder), runs)}"]
        except (OSError, GpsweepError) as error:
            return [f"Not side by side: {one_line(error)}"]


def not_made(launcher: str, error: Exception) -> str:
    """Say why there is no such launcher: for want of a library, or for a value that does not fit."""
    if isinstance(error, RuntimeError) and launcher in EXTRAS:
        extra = EXTRAS[launcher]
        return f"hydra/launcher={launcher}: needs a library: pip install '.[{extra}]' in the checkout"
    return f"hydra/launcher={launcher}: {one_line(error)}"


def done(job: JobReturn) -> bool:
    """Say whether a job has come to its end."""
    return job.status == JobStatus.COMPLETED


def result(job: JobReturn) -> str:
    """Say where a job's results are, and what they come to."""
    folder = folder_of(job)
    return f"{folder / REPORT}{gain(folder)}" if (folder / REPORT).is_file() else f"stored; {folder}"


def gain(folder: Path) -> str:
    """Say what a run's summary tells: the base, and what the best point gains, or the chosen one held out."""
    from gpsweep import results

    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        told = f"  base {summary['base']:.2f} %"
        if best := results.leader(summary):
            eps, delta, low, high = (best[key] for key in ("eps", "delta", "delta_low", "delta_high"))
            how = "held out" if summary["held_out"] else "at best"
            none = ", no gain" if best["swept"] else ""
            told += f", {how} {delta:+.2f} ({low:+.2f} to {high:+.2f})" if eps else none
        return told
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # it is said in the report as well


def reason(job: JobReturn) -> str:
    """Say in a line why a job failed, and where more is said."""
    error = job._return_value
    if isinstance(error, CompactHydraException):
        return str(error).removeprefix("gpsweep: ")
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first} (see {folder_of(job) / LOG})"


def folder_of(job: JobReturn) -> Path:
    """Return a job's folder, as seen from here."""
    assert job.hydra_cfg is not None
    return from_here(Path(job.hydra_cfg.hydra.runtime.output_dir))


def shown(lines: list[str]) -> list[str]:
    """Return the first of many lines, and how many there are more."""
    more = len(lines) - SHOWN
    return [*lines[:SHOWN], f"  … and {more} more"] if more > 0 else lines
