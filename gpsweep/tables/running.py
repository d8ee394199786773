"""Running the rows of a table, leaving out what cannot be run here and saying why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from gpsweep import results
from gpsweep.errors import GpsweepError
from gpsweep.recipe import RECORD, WEIGHTS
from gpsweep.tables.calls import Calls, tell
from gpsweep.tables.commands import Job, comparable
from gpsweep.tables.needs import absent


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Args:
        job: what it was.
        folder: where its results are; None where there are none.
        problem: why there are none.
        failed: whether it was begun; what lacks weights or data is not.
    """

    job: Job
    folder: Path | None = None
    problem: str = ""
    failed: bool = False


def run(jobs: Sequence[Job], at_once: int = 1) -> list[Ended]:
    """Run jobs, one after the other or several at once; what one lacks or fails at does not stop the others.

    Args:
        jobs: the runs; those of a training begin with it.
        at_once: how many of them, which share the processor's threads in equal parts: of a small network two
            processes of one thread each make more than one of two threads. A training's share is the same
            whatever is left to be done, as its weights depend on it in their last bits and so in all.

    Returns:
        how they ended, in their order.

    Raises:
        Stopped: if a run was stopped by a signal.
    """
    at_once = min(at_once, len(jobs))
    rows = _Rows(jobs, at_once)
    with rows.calls.stopping(), ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(rows.run, number) for number in range(len(jobs))]
        try:
            return [future.result() for future in futures]
        except KeyboardInterrupt:
            # The terminal has told the commands as well.
            rows.calls.stopped = True
            raise


class _Rows:
    """Jobs some of which run at once.

    Args:
        jobs: all of them.
        at_once: how many.
    """

    def __init__(self, jobs: Sequence[Job], at_once: int) -> None:
        self.jobs, self.at_once, self.left = jobs, at_once, len(jobs)
        self.calls = Calls(labelled=at_once > 1)

    def run(self, number: int) -> Ended:
        """Run a job if it can be run here; a mistake of the user's is told and kept."""
        job, label = self.jobs[number], f"[{number + 1}/{len(self.jobs)}] {self.jobs[number].name}"
        try:
            missing = absent(job)
            if not missing:
                folder = self._folder(job, label)
                if self.at_once > 1:
                    tell(f"{label}: done")
                return Ended(job, folder)
            ended = Ended(job, problem=f"skipped. {missing}")
        except GpsweepError as error:
            ended = Ended(job, problem=f"failed. {error}", failed=True)
        except BaseException:
            self.calls.stop()
            raise
        finally:
            with self.calls.lock:
                self.left -= 1
        tell(f"{label}: {ended.problem}")
        return ended

    def _folder(self, job: Job, label: str) -> Path:
        """Train a job's network where it is not there yet, run it, and return the folder of its results.

        Raises:
            GpsweepError: if one of the two fails.
        """
        if job.row.fit is not None and not trained(job):
            training = f"{label}: training"
            self.calls(job.training_command(), training, job.fitted, threads=self._threads(self.at_once))
        self.calls(job.command(), label, job.folder, threads=self._threads(self.left))
        if job.row.submit:
            return job.folder
        found = results.runs(job.folder)
        if len(found) != 1:
            raise GpsweepError(f"{job.folder}: expected one run, came {len(found)}")
        return found[0]

    def _threads(self, sharing: int) -> int | None:
        """Return one job's share of the processor's threads; None where it has all of them."""
        sharing = min(self.at_once, sharing)
        return max(1, torch.get_num_threads() // sharing) if self.at_once > 1 else None


def trained(job: Job) -> bool:
    """Say whether the weights of a job's training are there, of the same recipe."""
    try:
        record = json.loads((job.fitted / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (job.fitted / WEIGHTS).is_file() and comparable(record.get("config")) == comparable(job.recipe)
