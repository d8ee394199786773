"""What a person reads of a run: the curves, the page and the table on the terminal."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from gpsweep import record, results
from gpsweep.errors import GpsweepError
from gpsweep.results.findings import Findings
from gpsweep.results.outcome import COUNTS, read

MERGED = "merged"


def write(findings: Findings, folder: Path, *, pdf: bool = False) -> Path:
    """Write report.html, curves.png and curves.svg, and where costs are known cost.png and cost.svg.

    Args:
        findings: as :func:`gpsweep.results.write` returns them.
        folder: the run's.
        pdf: whether to write the figures as PDF as well.

    Returns:
        the path of report.html.
    """
    from gpsweep.report import curves, page, worth

    curves.draw(findings, folder, pdf=pdf)
    return page.write_page(findings, worth.draw(findings, folder, pdf=pdf), folder)


def render(folder: Path) -> list[Path]:
    """Make the curves, also as PDF, and the page again from counts that runs left in a folder, or the store.

    Shards whose batches are all stored are put together first; where the folder holds more than the one run,
    what comes of that lands in its sub-folder ``merged``. Several runs are laid side by side in sweep.html.

    Returns:
        the paths of the reports, and of sweep.html as the last.

    Warns:
        UserWarning: of runs whose batches are not all there or cannot be read; the others go on. And of those
            whose counts.npz is lost, where the store still has all.

    Raises:
        GpsweepError: if there are no counts, or those of no run can be read.
    """
    if (folder / COUNTS).is_file():
        return [_again(folder)]
    found = record.noted(folder)
    if not found:
        read(folder)  # says what is missing
    reports, missing = [], []
    for each, place in zip(found, places(folder, found), strict=True):
        try:
            if each.finished:
                reports.append(_again(each.folder))
                continue
            outcome = record.outcome(each.store, each.points, each.info)
        except GpsweepError as error:
            missing.append(error)
            continue
        # With its note it stands for the shards, also where the store is gone.
        record.note(place, each.store, each.points, each.info)
        reports.append(write(results.write(outcome, place), place, pdf=True))
    if missing and not reports:
        raise missing[0]
    for incomplete in missing:
        warnings.warn(str(incomplete), stacklevel=2)
    reports = list(dict.fromkeys(reports))  # what was merged of other points before has made room
    if len(reports) > 1:
        from gpsweep.report import sweep

        reports.append(sweep.write_page(folder, [report.parent for report in reports]))
    return reports


def _again(folder: Path) -> Path:
    """Make the report of a finished run again, all its results where the store alone has its counts."""
    try:
        findings = Findings(read(folder))
    except GpsweepError as lost:
        try:
            run = record.read(folder / record.RECORD)
            outcome = record.outcome(run.store, run.points, run.info)
        except GpsweepError as error:
            raise GpsweepError(f"{lost}; nor are they to be had from the store: {error}") from None
        warnings.warn(f"{lost}; all results are made again from those in {run.place}", stacklevel=3)
        findings = results.write(outcome, folder)
    return write(findings, folder, pdf=True)


def places(folder: Path, found: Sequence[record.Record]) -> list[Path]:
    """Return where the results of each run go: its own folder if that is the one asked for.

    Args:
        folder: the one asked for.
        found: the runs' notes in it.
    """
    if [each.folder for each in found] == [folder]:
        return [folder]
    names: list[str] = []
    for each in found:
        name = re.sub(r"[^\w.-]+", "-", f"{each.info.get('model')}-{each.info.get('dataset')}")
        same = sum(other.partition("~")[0] == name for other in names)
        names.append(f"{name}~{same + 1}" if same else name)
    return [folder / MERGED / name for name in names]
