"""sweep.html: the runs of a sweep side by side, each with its best point, its curves and its report."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml  # type: ignore[import-untyped]

from gpsweep import metrics, results
from gpsweep.atomic import save
from gpsweep.quoting import distinct
from gpsweep.report import gains
from gpsweep.report.curves import element, svg
from gpsweep.report.look import MARKERS, SHAPES, colours, styled
from gpsweep.report.page import DARK, coloured, template

if TYPE_CHECKING:
    import pandas as pd

PAGE = "sweep.html"
LONGEST = 80  # characters of a name made of overrides
PANELS = 24  # curves of more runs are left to their reports
SCORES = {True: "Mean IoU", False: "Top-1 accuracy"}
AXES = ("layer", "signal", "step", "iterations")  # of the best point, besides label and ε


def write_page(folder: Path, runs: Sequence[Path]) -> Path:
    """Write sweep.html, which needs no other file but the reports that it leads to.

    Args:
        folder: the sweep's.
        runs: the folders of finished runs.

    Returns:
        its path.

    Raises:
        GpsweepError: if the results of a run are missing or cannot be read.
    """
    html = page(folder, runs)
    return save(folder / PAGE, html.encode(errors="backslashreplace"))


def page(folder: Path, runs: Sequence[Path]) -> str:
    """Return the page as HTML; every name in it is escaped.

    Args:
        folder: from which it is read.
        runs: the folders of finished runs.
    """
    found = [results.tables(run) for run in runs]
    summaries = [summary for _, _, summary in found]
    names = named(runs, summaries)
    rows = [_row(*each, folder) for each in zip(runs, names, summaries, strict=True)]
    panels = [(name, table) for name, (table, _, _) in zip(names, found, strict=True) if _is_curve(table)]
    best = [row["best"] for row in rows if row["best"]]
    drawn = [label for _, table in panels for label in gains.own(table)["label"]]
    hues = colours([*drawn, *(point["label"] for point in best)])
    found_at = {axis: list(dict.fromkeys(point[axis] for point in best if point["eps"])) for axis in AXES}
    html: str = template("sweep.html.j2").render(
        name=folder.resolve().name,
        rows=rows,
        shared={key: _shared(summaries, key) for key in ("model", "dataset", "samples", "command")},
        scores=" or ".join(
            dict.fromkeys(SCORES[metrics.is_segmentation(each["task"])] for each in summaries)
        ),
        held={bool(summary["held_out"]) for summary in summaries},
        varying=[axis for axis, values in found_at.items() if len(values) > 1],
        same={axis: values[0] for axis, values in found_at.items() if len(values) == 1},
        colours=hues,
        shapes={label: SHAPES[MARKERS.get(label, "o")] for label in hues},
        dark=DARK,
        figure=_figure(panels[:PANELS]),
        columns=min(len(panels), gains.COLUMNS),
        more=len(panels[PANELS:]),
        alpha=metrics.ALPHA,
    )
    return html


def named(runs: Sequence[Path], summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name runs by those of their overrides that set them apart, else by what they are of."""
    given = [_overrides(run) for run in runs]
    names = distinct(given) if all(given) else []
    if all(0 < len(name) <= LONGEST for name in names) and len(set(names)) == len(runs):
        return names
    return results.told_apart(runs, summaries)


def _overrides(run: Path) -> list[str]:
    """Return what a run was given on its command line, as far as that is known; shards are of one run."""
    try:
        content = yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return []
    every = map(str, content if isinstance(content, list) else ())
    return [each for each in every if not each.startswith("shard=")]


def _row(run: Path, name: str, summary: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return what the table says of a run."""
    report = run / "report.html"
    link = quote(Path(os.path.relpath(report, folder)).as_posix()) if report.is_file() else None
    return {
        "name": name,
        "link": link,
        "base": summary["base"],
        "samples": summary["samples"],
        "best": results.leader(summary),
    }


def _shared(summaries: Sequence[Mapping[str, Any]], key: str) -> Any:
    """Return what the runs agree on; None if they do not."""
    values = [summary.get(key) for summary in summaries]
    return values[0] if all(value == values[0] for value in values) else None


def _is_curve(table: pd.DataFrame) -> bool:
    return bool(gains.own(table)["eps"].nunique() > 1)


def _figure(panels: Sequence[tuple[str, pd.DataFrame]]) -> Any:
    """Draw the runs' curves, for a page."""
    if not panels:
        return ""
    with styled():
        picture = gains.figure(panels)
        picture.patch.set_alpha(0)
        return coloured(element(svg(picture), "gains-"))
