"""A finished run as files: counts in, results.csv, per_class.csv, summary.json and counts.npz out."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpsweep import metrics
from gpsweep.atomic import save
from gpsweep.points import ORACLE
from gpsweep.results import selection
from gpsweep.results.findings import GAINS, Findings, per_class, table
from gpsweep.results.loading import (
    PER_CLASS,
    RESULTS,
    SELECTION,
    SUMMARY,
    class_column,
    compare,
    leader,
    load,
    runs,
    tables,
    told_apart,
)
from gpsweep.results.outcome import COUNTS, Outcome, pack, plain, read
from gpsweep.results.selection import CURVE, best
from gpsweep.results.significance import name_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CURVE",
    "ORACLE",
    "PER_CLASS",
    "RESULTS",
    "SELECTION",
    "SUMMARY",
    "Findings",
    "Outcome",
    "best",
    "class_column",
    "compare",
    "leader",
    "load",
    "per_class",
    "read",
    "records",
    "runs",
    "summary",
    "table",
    "tables",
    "told_apart",
    "write",
]

KEPT = (
    "dataset",
    "model",
    "weights_sha256",
    "data_sha256",
    "options",
    "versions",
    "git_commit",
    "command",
    "device",
    "knn",
    "finished",
    "times",
)


def write(outcome: Outcome, folder: Path) -> Findings:
    """Write counts.npz, results.csv, per_class.csv and summary.json, each whole or not at all.

    Where the outcome's ``info["select"]`` asks for it, selection.csv as well.

    Returns:
        the findings, whose ``rows`` are results.csv.

    Raises:
        GpsweepError: if the folder cannot be written.
    """
    findings = Findings(outcome)
    save(folder / COUNTS, pack(outcome))
    save(folder / RESULTS, _csv(findings.rows))
    save(folder / PER_CLASS, _csv(per_class(outcome)))
    if findings.held is not None:
        save(folder / SELECTION, _csv(findings.held))
    save(folder / SUMMARY, json.dumps(summary(findings), indent=2, allow_nan=False).encode() + b"\n")
    return findings


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]


def summary(findings: Findings) -> dict[str, Any]:
    """Return what summary.json says: the best point of each curve and where the numbers come from."""
    outcome, held = findings.outcome, findings.held
    known = {key: outcome.info.get(key) for key in KEPT}
    left_out = ["samples", "base", *(() if findings.refined else GAINS)]
    content = {
        "task": outcome.task,
        **known,
        "samples": len(outcome.ids),
        "groups": None if outcome.units is outcome else len(outcome.units.ids),
        "points": len(outcome.points),
        "classes": list(outcome.classes),
        "base": float(metrics.score(metrics.total(outcome.base), outcome.task)),
        "interval": {"level": metrics.LEVEL, "draws": metrics.DRAWS, "over": f"{outcome.over}, paired"},
        "cost": outcome.info.get("cost"),
        "best": records(findings.best.drop(columns=left_out)),
        "held_out": None if held is None else _held_out(outcome, held),
    }
    document: dict[str, Any] = plain(content)
    return document


def _held_out(outcome: Outcome, held: pd.DataFrame) -> dict[str, Any]:
    return {
        "split": selection.split_text(outcome),
        "test": name_of(outcome),
        "chosen": selection.overall(held),
        "curves": records(held),
    }


def _csv(rows: pd.DataFrame) -> bytes:
    names = [str(name) for name in rows if str(name).endswith("eps")]
    exact: dict[str, Any] = {name: [decimal(eps) for eps in rows[name]] for name in names}
    text: str = rows.assign(**exact).to_csv(index=False, lineterminator="\n")
    return text.encode()


def decimal(number: float) -> str:
    """Write a number as the shortest decimal that reads back as itself, never with an exponent.

    >>> decimal(-0.95), decimal(1e-05)
    ('-0.95', '0.00001')
    """
    return format(Decimal(repr(float(number) + 0.0)), "f")
