"""Table 6 of the paper for one seed, training included, in processes and folders of their own (o)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import command
from benchmarks.clock import Spread
from benchmarks.table import Row

SECONDS = 300.0
SETS = ("mnist", "cifar*")


def at_hand() -> bool:
    """Say whether the data sets lie under ``$GPSWEEP_DATA``; without them the table would skip its rows."""
    root = Path(os.environ.get("GPSWEEP_DATA", ""))
    return root.is_absolute() and all(any(root.glob(name)) for name in SETS)


def measure() -> Iterator[Row]:
    """Measure the row of MNIST, and both rows."""
    for title, more in (("MNIST", ["small=true"]), ("MNIST and CIFAR-10", [])):
        line = ["-m", "gpsweep.tables", "table6", "seeds=0", *more]
        wall, memory = command.run([sys.executable, *line])
        details = {"command": ["python", *line], "GiB": memory}
        yield Row("o", title, "Table 6, one seed", Spread.of([wall]), "s", at_most=SECONDS, details=details)
