"""Gains over ε, one panel a run, each with its own scales: where curves lie above the base."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gpsweep import results
from gpsweep.report.curves import TITLE
from gpsweep.report.look import MARKERS, MUTED, PAPER, cleared, colours, folded
from gpsweep.results import selection

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 3
SMALLEST = 0.1  # of a panel's height, in percentage points


def own(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose gain is the perturbation's alone: no refinement, and not the oracle."""
    return rows[(rows["label"] != results.ORACLE) & (rows["refine"] == "none")]


def figure(panels: Sequence[tuple[str, pd.DataFrame]]) -> Figure:
    """Draw the best curve of each label, one panel a run.

    Args:
        panels: the title of each run, and its table of results.csv with several ε.
    """
    from matplotlib.figure import Figure

    columns = min(len(panels), COLUMNS)
    lines = -(-len(panels) // columns)
    titles = ["\n".join(folded(line, TITLE) for line in title.split("\n")) for title, _ in panels]
    tallest = max(title.count("\n") for title in titles)
    size = 0.6 + 3.0 * columns, 0.4 + (2.45 + 0.15 * tallest) * lines
    picture = Figure(figsize=size, layout="constrained", facecolor=PAPER)
    grid = picture.subplots(lines, columns, squeeze=False).ravel()
    every = [own(rows) for _, rows in panels]
    hues = colours(label for rows in every for label in rows["label"])
    for number, (axes, title, rows) in enumerate(zip(grid, titles, every, strict=False)):
        _panel(axes, rows, hues)
        axes.set_title(title, loc="left", fontsize=9)
        axes.set_ylabel("gain (percentage points)" if number % columns == 0 else "")
    for axes in grid[len(panels) :]:
        axes.remove()
    unit = " (grey levels)" if all((rows["layer"] == "input").all() for rows in every) else ""
    picture.supxlabel(f"ε{unit}; band: 95 % interval of the gain", fontsize=8.5, color=MUTED)
    return picture


def _panel(axes: Axes, rows: pd.DataFrame, hues: Mapping[str, str]) -> None:
    chosen = selection.leading(results.best(rows), "delta").drop_duplicates("label")
    cleared(axes)
    axes.axhline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)))
    deepest = 0.0
    for best in results.records(chosen):
        mine = (rows[list(results.CURVE)] == [best[axis] for axis in results.CURVE]).all(axis=1)
        curve, colour = rows[mine].sort_values("eps"), hues[best["label"]]
        deepest = min(deepest, float(curve["delta_low"].min()))
        axes.fill_between(
            curve["eps"], curve["delta_low"], curve["delta_high"], color=colour, alpha=0.14, linewidth=0
        )
        axes.plot(curve["eps"], curve["delta"], color=colour)
        mark: dict[str, Any] = {"marker": MARKERS.get(best["label"], "o"), "markersize": 6.5}
        axes.plot(best["eps"], best["delta"], color=colour, markeredgecolor=PAPER, **mark)
    # What matters is where the curves are above the base, not how deep they fall.
    reach = max(*chosen["delta"], *chosen["delta_high"], SMALLEST)
    axes.set_ylim(max(-2 * reach, min(-0.15 * reach, 1.1 * deepest)), 1.3 * reach)
