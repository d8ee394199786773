"""The short table that a run leaves on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gpsweep import results
from gpsweep.counts import is_segmentation
from gpsweep.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

SHOWN = 12


def best_table(outcome: Outcome, rows: pd.DataFrame, folder: Path, console: Console | None = None) -> None:
    """Print the best point of each curve, the best curves first, and where the report lies.

    Args:
        rows: the table of results.csv.
        folder: the run's folder, printed as it comes.
        console: where to print; standard output if left out.
    """
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console(highlight=False)
    chosen = results.best(rows).sort_values("score", ascending=False, kind="stable")
    varying = [axis for axis in results.CURVE if axis == "label" or chosen[axis].nunique() > 1]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for axis in varying:
        table.add_column("iter" if axis == "iterations" else axis, overflow="fold")
    score = "mIoU" if is_segmentation(outcome.task) else "accuracy"
    for heading in ("eps", score, "gain", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("helps")
    for row in results.records(chosen.head(SHOWN)):
        numbers = (results.decimal(row["eps"]), f"{row['score']:.2f}", _signed(row["delta"]))
        interval = f"{_signed(row['delta_low'])} to {_signed(row['delta_high'])}"
        table.add_row(*(escape(str(row[axis])) for axis in varying), *numbers, interval, _helps(row))

    base = f"base {rows['base'].iloc[0]:.2f}"
    console.print()
    for line in (
        f"{_name(outcome, 'model')} on {_name(outcome, 'dataset')}: {score} {base}",
        _fixed(chosen, varying),
    ):
        console.print(line, markup=False, soft_wrap=True)
    console.print(table)
    if len(chosen) > SHOWN:
        console.print(f"{len(chosen) - SHOWN} more curves in {results.RESULTS}")
    console.print("Report:")
    console.print(str(folder / "report.html"), markup=False, soft_wrap=True)


def _helps(row: dict[str, object]) -> str:
    if row["label"] == results.ORACLE:
        return "oracle"
    return "yes" if row["helps"] else "no"


def _signed(number: float) -> str:
    return f"{round(number, 2) + 0.0:+.2f}"  # + 0.0: no -0.00


def _name(outcome: Outcome, key: str) -> str:
    return str(outcome.info.get(key) or f"unnamed {key}")


def _fixed(chosen: pd.DataFrame, varying: list[str]) -> str:
    """Say once what all curves share."""
    shared = [axis for axis in results.CURVE if axis not in varying]
    return "best point of each curve; " + ", ".join(f"{axis} {chosen[axis].iloc[0]}" for axis in shared)
