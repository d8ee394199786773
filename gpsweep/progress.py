"""The progress bar of a run, which counts points."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

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
    progress = Progress(*columns, console=console, transient=True)
    task, begun = progress.add_task(what, total=total), False
    with suppress(OSError):  # such as of a terminal that has been closed
        progress.start()
        begun = True
    try:
        yield lambda: progress.advance(task)
    finally:
        with suppress(OSError):
            if begun:
                progress.stop()
