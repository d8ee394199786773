"""The figures of a table: the curves of each run, or the networks beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpsweep import results
from gpsweep.report import gains
from gpsweep.report.curves import figure, saved
from gpsweep.report.look import look, styled
from gpsweep.results.findings import Findings
from gpsweep.results.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd

Panel = tuple[str, Outcome]
"""A row's name with its run."""


def draw(kind: str, panels: Sequence[tuple[str, Panel]], name: str, folder: Path) -> list[Path]:
    """Write the figures of a table as PNG and SVG.

    Args:
        kind: ``labels``: one figure a run, ``NAME-KEY``; ``networks``: one figure for all, ``NAME``.
        panels: the rows' keys, each with its name and run.
        name: of the table.
        folder: where to write.

    Returns:
        the paths.
    """
    with styled():
        if kind == "networks":
            return [*saved(gains.figure([_panel(*panel) for _, panel in panels]), folder / name)]
        paths: list[Path] = []
        for key, (_, outcome) in panels:
            findings = Findings(outcome)
            paths += saved(figure(findings.rows, look(findings)), folder / f"{name}-{key}")
        return paths


def _panel(title: str, outcome: Outcome) -> tuple[str, pd.DataFrame]:
    """Return a network's title and table, see :func:`gpsweep.report.gains.figure`."""
    findings = Findings(outcome)
    best = results.records(findings.best)[0]
    return f"{title}\nbase {best['base']:.2f}, best {best['score']:.2f}", findings.rows
