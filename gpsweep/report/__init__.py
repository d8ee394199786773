"""What a person reads of a run: the curves, the page and the table on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpsweep import results
from gpsweep.outcome import Outcome, read

if TYPE_CHECKING:
    import pandas as pd


def write(outcome: Outcome, rows: pd.DataFrame, folder: Path) -> Path:
    """Write curves.png, curves.svg and report.html into a run's folder.

    Args:
        rows: the table of results.csv, as :func:`gpsweep.results.write` returns it.

    Returns:
        the path of report.html.
    """
    from gpsweep.report import curves, page

    curves.draw(outcome, rows, folder)
    return page.write_page(outcome, rows, folder)


def render(folder: Path) -> Path:
    """Make the curves and the page again from the counts that a run left in its folder.

    Returns:
        the path of report.html.

    Raises:
        GpsweepError: if the folder has no whole counts.npz.
    """
    outcome = read(folder)
    return write(outcome, results.table(outcome), folder)
