"""Where tables are printed: as wide as the terminal, or, into a pipe or file, as wide as they want to be."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

UNBOUNDED = 10_000


def standard_output() -> Console:
    """Return standard output for tables.

    Where that is no terminal nothing is folded: a name that is to be searched for, or pasted into a command,
    stays whole. ``COLUMNS`` is heeded in either case.
    """
    from rich.console import Console

    free = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return Console(highlight=False, width=UNBOUNDED if free else None)
