"""A finished run as files: counts in, results.csv, per_class.csv, summary.json and counts.npz out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpsweep import alone, cost, selection
from gpsweep import counts as metrics
from gpsweep.atomic import save
from gpsweep.loading import MEASURES, PER_CLASS, RESULTS, SETTINGS, SUMMARY, class_column, load, runs, tables
from gpsweep.outcome import COUNTS, Outcome, pack, plain, read
from gpsweep.points import columns
from gpsweep.selection import CURVE, ORACLE, best
from gpsweep.significance import TESTS

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CURVE",
    "ORACLE",
    "PER_CLASS",
    "RESULTS",
    "SUMMARY",
    "Outcome",
    "best",
    "class_column",
    "held_out",
    "judged",
    "load",
    "per_class",
    "read",
    "records",
    "runs",
    "summary",
    "table",
    "tables",
    "write",
]

SELECTION = "selection.csv"
COLUMNS = (*SETTINGS, "samples", *MEASURES[:-1], "refine", "cost")
# What perturbation adds to a refinement, and what it is where there is none.
GAINS = {"added": "delta", "added_low": "delta_low", "added_high": "delta_high"}
HELD_GAINS = {
    "added_delta": "held_delta",
    "added_low": "held_low",
    "added_high": "held_high",
    "added_p": "p_value",
}
KEPT = (
    "dataset",
    "model",
    "weights_sha256",
    "versions",
    "git_commit",
    "command",
    "device",
    "knn",
    "finished",
    "times",
)


def write(outcome: Outcome, folder: Path) -> pd.DataFrame:
    """Write counts.npz, results.csv, per_class.csv and summary.json, each whole or not at all.

    Where the outcome's ``info["select"]`` asks for it, selection.csv as well.

    Returns:
        the table of results.csv.

    Raises:
        GpsweepError: if the folder cannot be written.
    """
    rows = table(outcome)
    held = held_out(outcome, rows)
    save(folder / COUNTS, pack(outcome))
    save(folder / RESULTS, _csv(rows))
    save(folder / PER_CLASS, _csv(per_class(outcome)))
    if held is not None:
        save(folder / SELECTION, _csv(held))
    content = summary(outcome, rows, held)
    save(folder / SUMMARY, json.dumps(content, indent=2, allow_nan=False).encode() + b"\n")
    return rows


def table(outcome: Outcome, draws: int = metrics.DRAWS, seed: int = 0) -> pd.DataFrame:
    """Return the table of results.csv: one row a point, in grid order, scores in %.

    Args:
        draws: bootstrap draws over images behind ``delta_low`` and ``delta_high``.
        seed: of the draws.
    """
    import pandas as pd

    totals, base = metrics.total(outcome.counts), metrics.total(outcome.base)
    scores, clean = metrics.score(totals, outcome.task), float(metrics.score(base, outcome.task))
    weights = metrics.resample_weights(len(outcome.ids), draws, seed)
    bounds = metrics.paired_intervals(outcome.counts, outcome.base, weights, outcome.task)
    content = {
        **columns(outcome.points),
        "samples": len(outcome.ids),
        "score": scores,
        "base": clean,
        "delta": scores - clean,
        "delta_low": bounds[:, 0],
        "delta_high": bounds[:, 1],
        "pixel_accuracy": metrics.accuracy(totals),
        "seconds": np.asarray(outcome.seconds, dtype=np.float64),
        "cost": cost.passes(outcome.points, outcome.info.get("cost")),
    }
    return pd.DataFrame(content, columns=list(COLUMNS), index=range(len(outcome.points)))


def per_class(outcome: Outcome) -> pd.DataFrame:
    """Return the table of per_class.csv: one row a point and class.

    The class's own score in % is ``iou``, or ``accuracy`` in classification; it is missing where the class is
    in neither truth nor prediction.
    """
    import pandas as pd

    names, points = list(outcome.classes), len(outcome.points)
    totals, base = metrics.total(outcome.counts), metrics.total(outcome.base)
    scores = metrics.class_score(totals, outcome.task)
    clean = np.broadcast_to(metrics.class_score(base, outcome.task), scores.shape)
    values = columns(outcome.points)
    content = {
        **{axis: np.repeat(np.asarray(values[axis]), len(names)) for axis in (*SETTINGS, "refine")},
        "class": names * points,
        class_column(outcome.task): scores.ravel(),
        "base": clean.ravel(),
        "delta": (scores - clean).ravel(),
        "tp": totals[..., metrics.TP].ravel(),
        "fp": totals[..., metrics.FP].ravel(),
        "fn": totals[..., metrics.FN].ravel(),
    }
    return pd.DataFrame(content)


def records(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries."""
    return [{str(key): value for key, value in row.items()} for row in rows.to_dict("records")]


def summary(outcome: Outcome, rows: pd.DataFrame, held: pd.DataFrame | None = None) -> dict[str, Any]:
    """Return what summary.json says: the best point of each curve and where the numbers come from.

    Args:
        rows: the table of results.csv.
        held: the table of selection.csv, if there is one.
    """
    known = {key: outcome.info.get(key) for key in KEPT}
    left_out = ["samples", "base", *(GAINS if (rows["refine"] == "none").all() else ())]
    content = {
        "task": outcome.task,
        **known,
        "samples": len(outcome.ids),
        "points": len(outcome.points),
        "classes": list(outcome.classes),
        "base": float(metrics.score(metrics.total(outcome.base), outcome.task)),
        "interval": {"level": metrics.LEVEL, "draws": metrics.DRAWS, "over": "images, paired"},
        "cost": outcome.info.get("cost"),
        "best": records(judged(outcome, rows).drop(columns=left_out)),
        "held_out": None if held is None else _held_out(outcome, held),
    }
    document: dict[str, Any] = plain(content)
    return document


def judged(outcome: Outcome, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the best point of each curve and what its perturbation adds.

    ``added``, ``added_low`` and ``added_high`` are its gain over the same refinement at ε = 0, which without
    a refinement is the base; missing where ε = 0 was not run. A refined point helps if its gain lies above
    zero, and what its perturbation adds does so too.

    Args:
        rows: the table of results.csv.
    """
    tables = {refine: best(table(above)) for refine, above in _above(outcome, rows).items()}
    return _with_added(best(rows), GAINS, tables)


def held_out(outcome: Outcome, rows: pd.DataFrame) -> pd.DataFrame | None:
    """Return the table of selection.csv, see :func:`gpsweep.selection.held_out`, None if there is none.

    Where there are refinements, ``added_…`` is the held-out gain over the same refinement at ε = 0, which
    has to lie above zero as well for a point to help, see :func:`judged`.

    Args:
        rows: the table of results.csv.
    """
    held = selection.held_out(outcome, rows)
    if held is None or (rows["refine"] == "none").all():
        return held
    tables = {
        refine: split
        for refine, above in _above(outcome, rows).items()
        if (split := selection.held_out(above, table(above))) is not None
    }
    return _with_added(held, HELD_GAINS, tables)


def _above(outcome: Outcome, rows: pd.DataFrame) -> dict[str, Outcome]:
    found = {refine: alone.on_top(outcome, rows, refine) for refine in set(rows["refine"]) - {"none"}}
    return {refine: above for refine, above in found.items() if above is not None}


def _with_added(
    chosen: pd.DataFrame, names: Mapping[str, str], above: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Add the columns of what perturbation adds, for each refinement from the table that has it for a base.

    Args:
        chosen: one row a curve.
        names: new columns and those that they are taken from.
        above: by refinement, the same curves with the refinement itself as their base.
    """
    out = chosen.assign(**{name: chosen[column] for name, column in names.items()})
    for refine in set(chosen["refine"]) - {"none"}:
        mine, rows = out["refine"] == refine, above.get(refine)
        for name, column in names.items():
            out.loc[mine, name] = np.nan if rows is None else rows[column].to_numpy()
        out.loc[mine, "helps"] &= False if rows is None else rows["helps"].to_numpy()
    return out


def _held_out(outcome: Outcome, held: pd.DataFrame) -> dict[str, Any]:
    return {
        "split": selection.split_text(outcome),
        "test": TESTS[outcome.task],
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
