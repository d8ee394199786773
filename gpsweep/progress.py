"""The progress bar of a run, which counts points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


@contextmanager
def bar(wanted: bool | None, total: int, what: str = "points") -> Iterator[Callable[[], None]]:
    """Show how many points of all batches are done, or how much else; yields what is to be called after each.

    Args:
        wanted: True or False; None shows it where standard error is a terminal.
        total: points × batches.
        what: is counted.
    """
    console = Console(stderr=True, force_terminal=wanted)
    shown = console.is_terminal if wanted is None else wanted
    if not shown:
        yield lambda: None
        return
    columns = (
        TextColumn(f"[bold]{what}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("·"),
        TimeElapsedColumn(),
        TextColumn("· left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
