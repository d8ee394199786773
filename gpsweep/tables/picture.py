"""The figures of a table: the curves of each run, or the networks beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpsweep import results
from gpsweep.report.curves import figure, saved
from gpsweep.report.look import COLOURS, MUTED, PAPER, cleared, look, styled
from gpsweep.results.findings import Findings
from gpsweep.results.outcome import Outcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Panel = tuple[str, Outcome]
"""A row's name with its run."""

COLUMNS = 3
SMALLEST = 0.1  # of a panel's height, in percentage points


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
            return [*saved(networks([panel for _, panel in panels]), folder / name)]
        paths: list[Path] = []
        for key, (_, outcome) in panels:
            findings = Findings(outcome)
            paths += saved(figure(findings.rows, look(findings)), folder / f"{name}-{key}")
        return paths


def networks(panels: Sequence[Panel]) -> Figure:
    """Draw the gain over ε, one panel a network, each with its own scales."""
    from matplotlib.figure import Figure

    columns = min(len(panels), COLUMNS)
    lines = -(-len(panels) // columns)
    picture = Figure(figsize=(0.6 + 3.0 * columns, 0.4 + 2.6 * lines), layout="constrained", facecolor=PAPER)
    grid = picture.subplots(lines, columns, squeeze=False).ravel()
    for number, (axes, (title, outcome)) in enumerate(zip(grid, panels, strict=False)):
        _panel(axes, title, outcome)
        axes.set_ylabel("gain (percentage points)" if number % columns == 0 else "")
    for axes in grid[len(panels) :]:
        axes.remove()
    picture.supxlabel("ε (grey levels); band: 95 % interval of the gain", fontsize=8.5, color=MUTED)
    return picture


def _panel(axes: Axes, title: str, outcome: Outcome) -> None:
    findings = Findings(outcome)
    rows, best = findings.rows.sort_values("eps"), results.records(findings.best)[0]
    colour = COLOURS[best["label"]]
    cleared(axes)
    axes.axhline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.fill_between(
        rows["eps"], rows["delta_low"], rows["delta_high"], color=colour, alpha=0.14, linewidth=0
    )
    axes.plot(rows["eps"], rows["delta"], color=colour)
    mark: dict[str, Any] = {"marker": "o", "markersize": 6.5, "markeredgecolor": PAPER}
    axes.plot(best["eps"], best["delta"], color=colour, **mark)
    # What matters is where the curve is above the base, not how deep it falls.
    reach = max(best["delta"], best["delta_high"], SMALLEST)
    depth = max(-2 * reach, min(-0.15 * reach, 1.1 * rows["delta_low"].min()))
    axes.set_ylim(depth, 1.3 * reach)
    axes.set_title(f"{title}\nbase {best['base']:.2f}, best {best['score']:.2f}", loc="left", fontsize=9)
