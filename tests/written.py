"""Tables as a run has written them."""

from __future__ import annotations

import csv
from pathlib import Path


def csv_rows(path: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file, each cell as text below its column's name."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
