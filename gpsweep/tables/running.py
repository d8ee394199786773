"""Running the rows of a table one after the other, leaving out what cannot be run here and saying why."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpsweep import results
from gpsweep.errors import GpsweepError
from gpsweep.fit import RECORD, WEIGHTS
from gpsweep.tables.calls import call, tell
from gpsweep.tables.commands import Job, comparable
from gpsweep.tables.needs import absent


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Args:
        job: what it was.
        folder: where its results are; None where there are none.
        problem: why there are none.
    """

    job: Job
    folder: Path | None = None
    problem: str = ""


def run(jobs: Sequence[Job]) -> Iterator[Ended]:
    """Run one job after the other; what one lacks or fails at does not stop the others.

    Raises:
        StoppedError: if a run was stopped by a signal.
    """
    for number, job in enumerate(jobs, 1):
        label = f"[{number}/{len(jobs)}] {job.name}"
        problem = absent(job)
        if problem:
            tell(f"{label}: skipped. {problem}")
            yield Ended(job, problem=f"skipped. {problem}")
            continue
        try:
            yield Ended(job, _run(job, label))
        except GpsweepError as error:
            tell(f"{label}: failed. {error}")
            yield Ended(job, problem=f"failed. {error}")


def _run(job: Job, label: str) -> Path:
    """Train a job's network where it is not there yet, run it, and return the folder of its results.

    Raises:
        GpsweepError: if one of the two fails.
    """
    if job.row.fit is not None and not trained(job):
        call(job.training_command(), f"{label}: training", job.fitted)
    call(job.command(), label, job.folder)
    if job.row.submit:
        return job.folder
    found = results.runs(job.folder)
    if len(found) != 1:
        raise GpsweepError(f"{job.folder}: expected one run, came {len(found)}")
    return found[0]


def trained(job: Job) -> bool:
    """Say whether the weights of a job's training are there, of the same recipe."""
    try:
        record = json.loads((job.fitted / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return (job.fitted / WEIGHTS).is_file() and comparable(record.get("config")) == comparable(job.recipe)
