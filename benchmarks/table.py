"""What was measured, as a table for people and as JSON for programs."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.clock import Spread


@dataclass(frozen=True)
class Row:
    """One measured quantity and its bound.

    Args:
        item: its letter, see README.md.
        network: what it was measured on.
        quantity: what it is.
        value: its median and spread.
        unit: ``×``, ``s``, ``GiB``, or ``%`` for a share.
        at_most, at_least: the bound, if there is one.
        details: what it was computed from.
    """

    item: str
    network: str
    quantity: str
    value: Spread
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the bound; None where there is none."""
        if self.at_most is not None:
            return self.value.median <= self.at_most
        return None if self.at_least is None else self.value.median >= self.at_least

    def asdict(self) -> dict[str, Any]:
        """Return the row as a plain dictionary."""
        return asdict(self) | {"met": self.met}

    def cells(self) -> tuple[str, ...]:
        """Return what the table shows."""
        value, bound = self.value, ""
        if self.at_most is not None:
            bound = f"≤ {self._text(self.at_most)}"
        elif self.at_least is not None:
            bound = f"≥ {self._text(self.at_least)}"
        spread = f"{self._text(value.low)} – {self._text(value.high)}" if value.low != value.high else ""
        verdict = {True: "[green]✓[/]", False: "[red]✗[/]", None: ""}[self.met]
        return (
            self.item, self.network, self.quantity, self._text(value.median), spread, bound, verdict,
        )  # fmt: skip

    def _text(self, number: float) -> str:
        if self.unit == "%":
            return f"{100 * number:.1f} %"
        return f"{number:.2f}×" if self.unit == "×" else f"{number:.1f} {self.unit}"


def machine() -> dict[str, Any]:
    """Describe the machine by what decides its speed, and by nothing that names it."""
    import torch

    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "date": date.today().isoformat(),
    }


def show(rows: Sequence[Row], about: Mapping[str, Any], console: Console) -> None:
    """Print the table."""
    title = f"{about['cpu']}, {about['threads']} threads, torch {about['torch']}, {about['date']}"
    table = Table(title=title, title_style="dim")
    for heading in ("", "network", "quantity", "median", "min – max", "bound", ""):
        table.add_column(heading, justify="right" if heading in ("median", "min – max", "bound") else "left")
    for row in rows:
        table.add_row(*row.cells())
    console.print(table)


def store(rows: Sequence[Row], about: Mapping[str, Any], path: Path) -> None:
    """Write the table as JSON; rows of before that were not measured now keep their place and their date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = [row.asdict() | {"date": about["date"]} for row in rows]
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else []
    places = {_what(row): row for row in before} | {_what(row): row for row in new}
    document = {"machine": dict(about), "rows": sorted(places.values(), key=lambda row: row["item"])}
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _what(row: Mapping[str, Any]) -> tuple[str, str, str]:
    return row["item"], row["network"], row["quantity"]


def _cpu() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
