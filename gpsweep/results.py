"""A finished run as files: counts in, results.csv, per_class.csv, summary.json and counts.npz out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpsweep import counts as metrics
from gpsweep import selection
from gpsweep.atomic import save
from gpsweep.errors import GpsweepError, listing
from gpsweep.outcome import COUNTS, Outcome, contents, pack, plain, read
from gpsweep.points import AXES, columns
from gpsweep.selection import CURVE, ORACLE, best
from gpsweep.significance import TESTS

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

__all__ = [
    "CURVE",
    "ORACLE",
    "Outcome",
    "best",
    "load",
    "per_class",
    "read",
    "records",
    "summary",
    "table",
    "write",
]

RESULTS, PER_CLASS, SELECTION, SUMMARY = "results.csv", "per_class.csv", "selection.csv", "summary.json"
COLUMNS = (
    *AXES,
    "samples",
    "score",
    "base",
    "delta",
    "delta_low",
    "delta_high",
    "pixel_accuracy",
    "seconds",
)
WORDS = ("label", "signal", "layer", "step", "class")
KEPT = (
    "dataset",
    "model",
    "weights_sha256",
    "versions",
    "git_commit",
    "command",
    "device",
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
    held = selection.held_out(outcome, rows)
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
    settings = {axis: np.repeat(np.asarray(v), len(names)) for axis, v in columns(outcome.points).items()}
    content = {
        **settings,
        "class": names * points,
        class_column(outcome.task): scores.ravel(),
        "base": clean.ravel(),
        "delta": (scores - clean).ravel(),
        "tp": totals[..., metrics.TP].ravel(),
        "fp": totals[..., metrics.FP].ravel(),
        "fn": totals[..., metrics.FN].ravel(),
    }
    return pd.DataFrame(content)


def class_column(task: str) -> str:
    """Return what a single class's score is called."""
    return "iou" if metrics.is_segmentation(task) else "accuracy"


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
    content = {
        "task": outcome.task,
        **known,
        "samples": len(outcome.ids),
        "points": len(outcome.points),
        "classes": list(outcome.classes),
        "base": float(metrics.score(metrics.total(outcome.base), outcome.task)),
        "interval": {"level": metrics.LEVEL, "draws": metrics.DRAWS, "over": "images, paired"},
        "best": records(best(rows).drop(columns=["samples", "base"])),
        "held_out": None if held is None else _held_out(outcome, held),
    }
    document: dict[str, Any] = plain(content)
    return document


def _held_out(outcome: Outcome, held: pd.DataFrame) -> dict[str, Any]:
    return {
        "split": selection.split_text(outcome),
        "test": TESTS[outcome.task],
        "chosen": selection.overall(held),
        "curves": records(held),
    }


def load(folder: str | Path) -> xr.Dataset:
    """Return the results of a run as labelled arrays.

    Args:
        folder: a run's folder, or a folder of runs of the same model and data, which are merged.

    Returns:
        ``score``, ``base``, ``delta``, ``delta_low``, ``delta_high``, ``pixel_accuracy`` and ``seconds`` over
        ``(label, signal, layer, step, iterations, eps)``; ``iou`` (``accuracy`` in classification) and
        ``class_base`` with ``class`` as a seventh dimension; ε ascending, NaN where no point was run; the
        summary as attributes.

    Raises:
        GpsweepError: if files are missing, or the runs are not of one model and data.
    """
    import pandas as pd
    import xarray as xr

    folders = runs(Path(folder))
    found = [tables(run) for run in folders]
    first = found[0][2]
    _check_same(folders, [run[2] for run in found])
    names = [str(name) for name in first["classes"]]
    rows = pd.concat([run[0] for run in found], ignore_index=True)
    column = class_column(first["task"])
    by_class = {
        key: np.concatenate([run[1][key].to_numpy().reshape(-1, len(names)) for run in found])
        for key in (column, "base")
    }
    _check_once(rows)
    coords = {axis: list(dict.fromkeys(rows[axis])) for axis in CURVE} | {"eps": sorted(set(rows["eps"]))}
    where = tuple(
        np.asarray([coords[axis].index(value) for value in rows[axis]], dtype=np.intp) for axis in AXES
    )
    shape = tuple(len(coords[axis]) for axis in AXES)

    def spread(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        array = np.full((*shape, *values.shape[1:]), np.nan)
        array[where] = values
        return array

    variables: dict[str, Any] = {
        key: (AXES, spread(rows[key].to_numpy())) for key in COLUMNS[len(AXES) + 1 :]
    }
    variables[column] = ((*AXES, "class"), spread(by_class[column]))
    variables["class_base"] = ((*AXES, "class"), spread(by_class["base"]))
    return xr.Dataset(variables, coords={**coords, "class": names}, attrs=_attributes(first))


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


def runs(folder: Path) -> list[Path]:
    """Return the folders of all finished runs in a folder, in the order of their numbers.

    Raises:
        GpsweepError: if there is none.
    """
    if (folder / RESULTS).is_file():
        return [folder]
    found = [path.parent for path in folder.glob(f"**/{RESULTS}")] if folder.is_dir() else []
    if not found:
        raise GpsweepError(
            f"{folder}: expected a run's {RESULTS}, {PER_CLASS} and {SUMMARY}, or sub-folders with them; "
            f"came {contents(folder)}"
        )
    # 2 before 10: the jobs of a multirun are numbered folders
    return sorted(found, key=lambda path: [(len(part), part) for part in path.parts])


def tables(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return results.csv, per_class.csv and summary.json of a run's folder.

    Raises:
        GpsweepError: if they are missing or cannot be read.
    """
    missing = [name for name in (RESULTS, PER_CLASS, SUMMARY) if not (folder / name).is_file()]
    if missing:
        raise GpsweepError(
            f"{folder}: expected {RESULTS}, {PER_CLASS} and {SUMMARY}; missing {listing(missing)}"
        )
    try:
        content = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
        class_column(content["task"])
        rows, by_class = _frame(folder / RESULTS), _frame(folder / PER_CLASS)
        if len(by_class) != len(rows) * len(content["classes"]):
            raise ValueError(f"{PER_CLASS} has {len(by_class)} rows for {len(rows)} points")
    except (KeyError, TypeError, ValueError) as error:
        raise GpsweepError(
            f"{folder}: expected the results of a run, but they cannot be read: {error}"
        ) from None
    return rows, by_class, content


def _frame(path: Path) -> pd.DataFrame:
    import pandas as pd

    # All as text first: a class may well be called NA or 1, and Python's float() is exact.
    text = pd.read_csv(path, dtype=str, keep_default_na=False)
    names = [str(name) for name in text if name not in WORDS]
    numbers: dict[str, Any] = {name: [float(cell or "nan") for cell in text[name]] for name in names}
    rows = text.assign(**numbers)
    return rows.astype({"iterations": int})


def _check_same(folders: Sequence[Path], summaries: Sequence[Mapping[str, Any]]) -> None:
    for key in ("model", "dataset", "task", "weights_sha256", "samples", "classes"):
        for folder, content in zip(folders, summaries, strict=True):
            ours, theirs = summaries[0].get(key), content.get(key)
            if ours != theirs:
                came = "others" if key == "classes" else f"{theirs} in {folder}"
                expected = "those" if key == "classes" else ours
                raise GpsweepError(
                    f"{key}: expected runs of one model and data, {expected} as in {folders[0]}; "
                    f"came {came}. Load one of the folders by itself."
                )


def _check_once(rows: pd.DataFrame) -> None:
    differing = rows.drop_duplicates([*AXES, "score"])
    double = differing[differing.duplicated(list(AXES))]
    if len(double):
        setting = ", ".join(f"{axis}={double.iloc[0][axis]}" for axis in AXES)
        raise GpsweepError(f"{setting}: expected one score a point, came several from different runs")


def _attributes(content: Mapping[str, Any]) -> dict[str, Any]:
    # Text and numbers only, so that the dataset can be stored as netCDF.
    flat = {
        key: value for key, value in content.items() if value is not None and key not in ("best", "held_out")
    }
    return {
        key: value if isinstance(value, (str, int, float)) else json.dumps(value)
        for key, value in flat.items()
    }
