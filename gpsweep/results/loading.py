"""The tables of finished runs, read again: as labelled arrays, or as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gpsweep import metrics
from gpsweep.errors import GpsweepError, listing
from gpsweep.points import AXES, ORACLE
from gpsweep.results.outcome import COUNTS, contents

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

RESULTS, PER_CLASS, SUMMARY = "results.csv", "per_class.csv", "summary.json"
SELECTION = "selection.csv"
SETTINGS = tuple(axis for axis in AXES if axis != "refine")
MEASURES = ("score", "base", "delta", "delta_low", "delta_high", "pixel_accuracy", "seconds", "cost")
ROUNDING = 0.1  # points: by less, devices may differ in the base of one model and data
DESCRIBED = {
    "delta": ("gain over the base", "percentage points"),
    "delta_low": (f"lower end of the gain's {metrics.LEVEL:.0%} interval", "percentage points"),
    "delta_high": (f"upper end of the gain's {metrics.LEVEL:.0%} interval", "percentage points"),
    "pixel_accuracy": ("pixel accuracy", "%"),
    "seconds": ("time of the point's forward passes, of all images", "s"),
    "cost": ("cost of an image alone", "forward passes"),
}
"""What a variable is and its unit, as xarray's plots say it."""
HELD = {"eps": "tune_eps", "delta": "held_delta", "delta_low": "held_low", "delta_high": "held_high"}
ELSE = "Load one of the folders by itself, or see them side by side with results.compare."
WORDS = ("label", "signal", "layer", "step", "refine", "class")


def load(*folders: str | Path) -> xr.Dataset:
    """Return the results of a run as labelled arrays.

    Args:
        folders: a run's folder, or a folder of runs; several runs, of the same model and data, are merged.

    Returns:
        ``score``, ``base``, ``delta``, ``delta_low``, ``delta_high``, ``pixel_accuracy``, ``seconds`` and
        ``cost`` over ``(label, signal, layer, step, iterations, eps)``, with ``refine`` before ``eps`` where
        another than ``none`` was run; ``iou`` (``accuracy`` in classification) and ``class_base`` with
        ``class`` as a further dimension; ε ascending, NaN where no point was run; the summary as attributes,
        of several runs what all of them agree on, and of each variable ``long_name`` and ``units``, which
        plots say.

    Raises:
        GpsweepError: if files are missing, or the runs are not of one model and data, or of other options.
    """
    import pandas as pd

    places = _all_runs(folders)
    found = [tables(run) for run in places]
    summaries = [run[2] for run in found]
    _check_same(places, summaries)
    _check_options(places, summaries)
    names = [str(name) for name in summaries[0]["classes"]]
    column = class_column(summaries[0]["task"])
    each = [run[0].assign(folder=str(place)) for place, run in zip(places, found, strict=True)]
    rows = pd.concat(each, ignore_index=True)
    _check_once(rows)
    axes = AXES if (rows["refine"] != "none").any() else SETTINGS
    by_class = pd.concat([run[1] for run in found]).rename(columns={"base": "class_base"})
    # By number, for two classes may have the same name.
    by_class["class"] = np.tile(np.arange(len(names)), len(rows))

    def spread(table: pd.DataFrame, over: Sequence[str], measures: Sequence[str]) -> xr.Dataset:
        once = table.drop_duplicates([*over], keep="last")
        return once.set_index([*over])[[*measures]].to_xarray()

    data = spread(rows, axes, MEASURES)
    data = data.assign(spread(by_class, (*axes, "class"), (column, "class_base")).data_vars)
    coords: dict[str, list[Any]] = {axis: list(dict.fromkeys(rows[axis])) for axis in axes}
    coords["eps"].sort()
    # pandas sorts the values of an axis, and makes objects of text.
    data = data.reindex(coords).assign_coords({**coords, "class": names}).assign_attrs(_attributes(summaries))
    return _described(data, summaries[0]["task"])


def compare(*folders: str | Path) -> xr.Dataset:
    """Return runs of several models, data sets or options side by side.

    Args:
        folders: runs' folders, or folders of runs.

    Returns:
        what :func:`load` returns of each run, with ``run`` as the first dimension: the model's name, with the
        data set's or else the folder where that does not tell runs apart; NaN where a run has no such point;
        as attributes what the runs agree on.

    Raises:
        GpsweepError: if files are missing, or the runs are not of one task.
    """
    import xarray as xr

    places = _all_runs(folders)
    found = [load(place) for place in places]
    if len({data.attrs["task"] for data in found}) > 1:
        tasks = listing(
            [f"{data.attrs['task']} in {place}" for data, place in zip(found, places, strict=True)]
        )
        raise GpsweepError(f"task: expected runs of one task, came {tasks}")
    names = told_apart(places, [data.attrs for data in found])
    if any("refine" in data.dims for data in found):
        found = [data if "refine" in data.dims else data.expand_dims(refine=["none"]) for data in found]
    axes = [axis for axis in AXES if axis in found[0].dims]
    beside = xr.concat(
        [data.assign_coords(run=name) for data, name in zip(found, names, strict=True)],
        "run",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="outer",
        combine_attrs="drop_conflicts",
    )
    return beside.transpose("run", *axes, "class")


def told_apart(folders: Sequence[Path], summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name runs by their model, with the data set or else by the folder where that does not tell them apart.

    Args:
        folders: the runs'.
        summaries: the content of their summary.json.
    """
    models, sets = ([str(each.get(key)) for each in summaries] for key in ("model", "dataset"))
    on = [f"{model} on {data}" for model, data in zip(models, sets, strict=True)]
    return next(each for each in (models, on, [*map(str, folders)]) if len(set(each)) == len(each))


def _all_runs(folders: Sequence[str | Path]) -> list[Path]:
    odd = [each for each in folders if not isinstance(each, str | Path)]
    if odd or not folders:
        came = type(odd[0]).__name__ if odd else "none"
        raise GpsweepError(f"folders: expected paths, as in load(one, other), came {came}")
    return list(dict.fromkeys(run for each in folders for run in runs(Path(each))))


def _described(data: xr.Dataset, task: str) -> xr.Dataset:
    """Say of each variable what it is and its unit, which is one for all ε only where the input is moved."""
    whole, each = ("mean IoU", "IoU") if metrics.is_segmentation(task) else ("top-1 accuracy", "accuracy")
    shares = {"score": whole, "base": f"{whole} of the base", class_column(task): each}
    shares["class_base"] = f"{each} of the base"
    for name, (long_name, unit) in (DESCRIBED | {key: (text, "%") for key, text in shares.items()}).items():
        data[name].attrs = {"long_name": long_name, "units": unit}
    data["eps"].attrs = {"long_name": "ε"}
    if data["layer"].values.tolist() == ["input"]:
        data["eps"].attrs["units"] = "grey levels"
    return data


def leader(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the best point of a run, or where ε was chosen on some images the chosen one.

    Points with a refinement and those of the oracle, whose gain is not the perturbation's, are passed over.

    Args:
        summary: the content of summary.json.

    Returns:
        its row there, with ``eps``, ``delta``, ``delta_low`` and ``delta_high`` of the images that it is
        judged on, and ``swept``, whether some curve has more than one ε; None where there is no such point.
    """
    held = summary["held_out"]
    columns = HELD if held else {key: key for key in HELD}
    rows = [held["chosen"]] if held else summary["best"]
    own = [row for row in rows if row and row["label"] != ORACLE and row["refine"] == "none"]
    if not own:
        return None
    best = max(own, key=lambda row: float(row[columns["delta"]]))
    swept = summary["points"] > len(summary["best"])
    return {**best, **{key: best[column] for key, column in columns.items()}, "swept": swept}


def runs(folder: Path) -> list[Path]:
    """Return the folders of all finished runs in a folder, in the order of their numbers.

    Raises:
        GpsweepError: if there is none.
    """
    if (folder / RESULTS).is_file():
        return [folder]
    # Copies that a tracker keeps of the tables have no counts.
    found = [p.parent for p in folder.glob(f"**/{RESULTS}") if (p.parent / COUNTS).is_file()]
    if not found:
        raise GpsweepError(
            f"{folder}: expected a run's {RESULTS}, {PER_CLASS} and {SUMMARY}, or sub-folders with them and "
            f"{COUNTS}; came {contents(folder)}"
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
        column = class_column(content["task"])
        float(content["base"])
        rows = _frame(folder / RESULTS, (*AXES, *MEASURES))
        by_class = _frame(folder / PER_CLASS, (*AXES, "class", column, "base"))
        if len(by_class) != len(rows) * len(content["classes"]):
            raise ValueError(f"{PER_CLASS} has {len(by_class)} rows for {len(rows)} points")
    except (KeyError, TypeError, ValueError) as error:
        raise GpsweepError(
            f"{folder}: expected the results of a run, but they cannot be read: {error}"
        ) from None
    return rows, by_class, content


def class_column(task: str) -> str:
    """Return what a single class's score is called."""
    return "iou" if metrics.is_segmentation(task) else "accuracy"


def _frame(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    import pandas as pd

    # All as text first: a class may well be called NA or 1, and Python's float() is exact.
    text = pd.read_csv(path, dtype=str, keep_default_na=False)
    names = [str(name) for name in text if name not in WORDS]
    if absent := [name for name in columns if name not in text]:
        raise ValueError(f"{path.name} has no column {listing(absent)}")
    numbers: dict[str, Any] = {name: [float(cell or "nan") for cell in text[name]] for name in names}
    rows = text.assign(**numbers)
    return rows.astype({"iterations": int})


def _check_same(folders: Sequence[Path], summaries: Sequence[Mapping[str, Any]]) -> None:
    weights = {content.get("weights_sha256") for content in summaries}
    # By its weights a network is known under any name, which a checkpoint's file may have given it.
    called = () if len(weights) == 1 and None not in weights else ("model",)
    # Older runs say nothing of the images but how many they are.
    said = ("data_sha256",) if all(content.get("data_sha256") for content in summaries) else ()
    for key in (*called, "dataset", "task", "weights_sha256", "samples", "classes", *said):
        for folder, content in zip(folders, summaries, strict=True):
            ours, theirs = summaries[0].get(key), content.get(key)
            if ours != theirs:
                came = "others" if key == "classes" else f"{theirs} in {folder}"
                expected = "those" if key == "classes" else ours
                raise GpsweepError(
                    f"{key}: expected runs of one model and data, {expected} as in {folders[0]}; "
                    f"came {came}. {ELSE}"
                )
    # Data of one name may be other images, or of another size.
    for folder, content in zip(folders, summaries, strict=True):
        if abs(content["base"] - summaries[0]["base"]) > ROUNDING:
            raise GpsweepError(
                f"base: expected runs of one model and data, {summaries[0]['base']:.2f} as in {folders[0]}; "
                f"came {content['base']:.2f} in {folder}. {ELSE}"
            )


def _check_options(folders: Sequence[Path], summaries: Sequence[Mapping[str, Any]]) -> None:
    """Refuse points whose scores come of different options, which a curve's axes do not tell."""
    known: dict[str, tuple[Any, Path]] = {}
    for folder, content in zip(folders, summaries, strict=True):
        for key, value in (content.get("options") or {}).items():
            first, at = known.setdefault(key, (value, folder))
            if value != first:
                raise GpsweepError(
                    f"{key}: expected the same in all runs, {first} as in {at}; came {value} in {folder}. "
                    f"{ELSE}"
                )


def _check_once(rows: pd.DataFrame) -> None:
    differing = rows.drop_duplicates([*AXES, "score"])
    double = differing[differing.duplicated(list(AXES), keep=False)]
    if len(double):
        point = double.iloc[0][list(AXES)]
        same = double[(double[list(AXES)] == point).all(axis=1)]
        setting = ", ".join(f"{axis}={point[axis]}" for axis in AXES)
        came = listing([f"{row.score:.2f} in {row.folder}" for row in same.itertuples()], 3)
        raise GpsweepError(
            f"{setting}: expected one score a point, came {came}; their seeds or other options differ. {ELSE}"
        )


def _attributes(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    # Text and numbers only, so that the dataset can be stored as netCDF.
    flat = {
        key: value
        for key, value in summaries[0].items()
        if value is not None
        and key not in ("best", "held_out")
        and all(content.get(key) == value for content in summaries)
    }
    return {
        key: value if isinstance(value, (str, int, float)) else json.dumps(value)
        for key, value in flat.items()
    }
