"""A finished run's folder, and its tables read without gpsweep."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from outcomes import make
from written import csv_rows

from gpsweep import results
from gpsweep.atomic import save
from gpsweep.report import curves, worth
from gpsweep.results.outcome import COUNTS, pack

CONFIG = """\
model:
  name: smp-Unet
  net:
    arch: Unet
eps: [0.5, -1.0]
tracker:
  mode: offline
"""
ABSENT = "sign"  # a class that is in neither truth nor prediction at ε = 0.5


@dataclass
class Finished:
    """A run's folder and what its tables hold, read without gpsweep."""

    folder: Path

    def rows(self, name: str = "results.csv") -> list[dict[str, str]]:
        return csv_rows(self.folder / name)

    def expected(self) -> dict[tuple[str, float], dict[str, float]]:
        """Return every number by curve and ε; curves are named as a tracker names them."""
        found: dict[tuple[str, float], dict[str, float]] = {}
        for row in self.rows():
            numbers = ("score", "delta", "delta_low", "delta_high", "pixel_accuracy", "seconds", "cost")
            found[name(row), float(row["eps"])] = {key: float(row[key]) for key in numbers}
        for row in self.rows("per_class.csv"):
            if row["iou"]:
                found[name(row), float(row["eps"])][f"iou/{row['class']}"] = float(row["iou"])
        return found

    def note(self, **info: Any) -> None:
        """Write the counts again, as if the run had known something else besides."""
        outcome = results.read(self.folder)
        save(self.folder / COUNTS, pack(replace(outcome, info={**outcome.info, **info})))


def name(row: dict[str, str]) -> str:
    return f"{row['label']}/{row['layer'].replace('.', '_')}/{row['iterations']}x"


def write(folder: Path, *, drawn: bool = False, **axes: Any) -> Finished:
    """Write the files of a run with made-up counts and costs; figures, which take longest, if asked to."""
    info = {"config": CONFIG, **axes.pop("info", {})}
    outcome = make(images=12, info=info, **{"costs": {}} | axes)
    findings = results.write(outcome, folder)
    if drawn:
        curves.draw(findings, folder)
        worth.draw(findings, folder)
    return Finished(folder)
