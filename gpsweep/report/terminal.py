"""The short table that a run leaves on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpsweep import metrics, results, words
from gpsweep.console import standard_output
from gpsweep.metrics import ALPHA, is_segmentation
from gpsweep.report import classes
from gpsweep.report.marks import marks, named
from gpsweep.report.verdict import Verdict, additions, costs_text, helps, verdict
from gpsweep.results import selection
from gpsweep.results.findings import Findings
from gpsweep.results.outcome import Outcome

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    Content = tuple[list[str], Callable[[], Table], list[str]]
    """The lines above a table, what makes it, and the lines below."""

HEADING = "Report:"  # of the path below the table
SHOWN = 12
LISTED = 24  # classes
ROOMY = 7  # more columns than these stand closer, to find room in 80 characters
FULL = 9  # with more, costs are left to the report
LEGIBLE = 7  # characters of a name in a line, at least, of those that are longer: uniform
WIDEST = 10_000  # characters; wider than any table
SEVERAL = 3  # more axes than these share one column


def best_table(findings: Findings, folder: Path, console: Console | None = None) -> None:
    """Print the best point of each curve, the best curves first, and where the report lies.

    The oracle's curves, which would fill a table, come last, and of them only the best. Where the network was
    run by itself, its classes stand in their place.
    Where ε was chosen on some of the images, what its gain is on the others stands beside it.

    Args:
        findings: those of the run.
        folder: the run's folder, printed as it comes.
        console: where to print; standard output if left out.
    """
    with console or standard_output() as at_once:  # jobs of a sweep may print at the same time
        _print(findings, folder, at_once)


def _print(findings: Findings, folder: Path, console: Console) -> None:
    from rich.measure import Measurement

    above, table, notes = _of_classes(findings) if findings.bare else _of_curves(findings)
    console.print()
    for line in above:
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    whole, folded = table(), table()
    # Names are folded first. In a terminal narrower than that lines run on in the next one; nothing is left
    # out.
    for column in folded.columns:
        column.max_width = None if column.no_wrap else LEGIBLE
    narrowest = Measurement.get(console, console.options.update_width(WIDEST), folded).maximum
    whole.width = narrowest if narrowest > console.width else None
    console.print(whole, crop=False)
    console.print()
    for line in notes:
        console.print(line, markup=False)
    if notes:
        console.print()
    console.print(HEADING)
    console.print(str(folder / "report.html"), markup=False, soft_wrap=True)


def _of_curves(findings: Findings) -> Content:
    """Return what is told of the best points."""
    held = findings.held
    varying = [axis for axis in results.CURVE if axis == "label" or findings.best[axis].nunique() > 1]
    if held is None:
        chosen = _few(findings.best, "score")
        cells = _plain_cells(chosen)
        headings = ["eps", _score(findings.outcome), "gain", "95 % interval", "cost", "helps"]
    else:
        chosen = _few(held, "same_delta")
        cells = _held_cells(chosen, findings.rows)
        headings = ["tuned\neps", "\ngain", "held\neps", "out\ngain", "\n95 % interval", "\ncost", "\nhelps"]
    costly = bool(findings.outcome.info.get("cost")) and len(varying) + len(headings) <= FULL
    if not costly:  # it is the last but one
        headings, cells = headings[:-2] + headings[-1:], [cell[:-2] + cell[-1:] for cell in cells]
    above = _above(findings, _fixed(chosen, varying), costly=costly)
    names = ["iter" if axis == "iterations" else axis for axis in varying]
    rows = [[str(row[axis]) for axis in varying] for row in results.records(chosen)]
    return above, partial(_table, names, rows, headings, cells), _notes(findings, chosen)


def _of_classes(findings: Findings) -> Content:
    """Return what is told of each class where nothing was perturbed."""
    outcome = findings.outcome
    every = classes.unperturbed(outcome)
    rows = every[:LISTED]
    segmented = is_segmentation(outcome.task)
    right = f", pixel accuracy {metrics.accuracy(metrics.total(outcome.base)):.2f} %" if segmented else ""
    above = [_headline(findings) + right, "share of each class in truth and predictions, and its score in %"]
    headings = ["truth", "predicted", "IoU" if segmented else "accuracy"]
    cells = [(f"{row['truth']:.2f} %", f"{row['predicted']:.2f} %", f"{row['score']:.2f}") for row in rows]
    notes = [f"{len(every) - LISTED} more in {results.PER_CLASS}"] * (len(every) > LISTED)
    notes.append("Nothing was perturbed: -m 'eps=range(-1,1,0.05)' in place of eps=0 sweeps.")
    return above, partial(_table, ["class"], [[row["name"]] for row in rows], headings, cells), notes


def _few(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return the curves to be shown: the best, and after them the best of the oracle's."""
    import pandas as pd

    ranked = selection.leading(table, by)
    oracle = ranked["label"] == results.ORACLE
    return pd.concat([ranked[~oracle].head(SHOWN), ranked[oracle].head(1)])


def _score(outcome: Outcome) -> str:
    return "mIoU" if is_segmentation(outcome.task) else "accuracy"


def _above(findings: Findings, shared: str, *, costly: bool) -> list[str]:
    """Return the lines above the table.

    Args:
        findings: those of the run.
        shared: what all curves share.
        costly: whether the table tells costs.
    """
    outcome, held = findings.outcome, findings.held
    told = costly or (outcome.info.get("cost") and findings.alone)  # what refines is told below the table
    return [
        _headline(findings),
        shared,
        *([] if held is None else _explained(held)),
        *_grouped(outcome),
        *(["cost: of an image alone, in forward passes"] if told else []),
    ]


def _headline(findings: Findings) -> str:
    """Say which network reaches what by itself."""
    outcome = findings.outcome
    base = f"base {findings.rows['base'].iloc[0]:.2f} %"
    if (outcome.info.get("knn") or {}).get("accuracy") is not None:
        base += f", plain k-NN {outcome.info['knn']['accuracy']:.2f} %"
    return f"{_name(outcome, 'model')} on {_name(outcome, 'dataset')}: {_score(outcome)} {base}"


def _table(
    names: Sequence[str],
    rows: Sequence[Sequence[str]],
    headings: Sequence[str],
    cells: Sequence[Sequence[str]],
) -> Table:
    """Put what tells rows apart in front of their cells."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    gap = 0 if len(names) + len(headings) > ROOMY else 1
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap, 0, 0))
    above = "\n" * headings[-1].count("\n")
    if len(names) > SEVERAL:
        names, rows = [", ".join(names)], [[", ".join(row)] for row in rows]
    for name, *told in zip(names, *rows, strict=True):
        least = min(LEGIBLE, max(map(len, (name, *told))))
        table.add_column(above + name, overflow="fold", min_width=least)
    for heading in headings:
        table.add_column(heading, justify="left" if heading.endswith("helps") else "right", no_wrap=True)
    for row, numbers in zip(rows, cells, strict=True):
        table.add_row(*map(escape, row), *numbers)
    return table


def _plain_cells(chosen: pd.DataFrame) -> list[tuple[str, ...]]:
    return [
        (
            results.decimal(row["eps"]),
            f"{row['score']:.2f}",
            _signed(row["delta"]),
            _interval(row["delta_low"], row["delta_high"]),
            _cost(row["cost"]),
            helps(row, held_out=False),
        )
        for row in results.records(chosen)
    ]


def _held_cells(held: pd.DataFrame, rows: pd.DataFrame) -> list[tuple[str, ...]]:
    return [
        (
            results.decimal(row["same_eps"]),
            _signed(row["same_delta"]),
            results.decimal(row["tune_eps"]),
            _signed(row["held_delta"]),
            _interval(row["held_low"], row["held_high"]),
            _cost(rows["cost"][place]),
            helps(row, held_out=True),
        )
        for place, row in zip(held.index, results.records(held), strict=True)
    ]


def _grouped(outcome: Outcome) -> list[str]:
    groups = len(outcome.units.ids)
    over = f"intervals: over {groups} group{'s' if groups > 1 else ''} of images"
    return [] if outcome.units is outcome else [over]


def _explained(held: pd.DataFrame) -> list[str]:
    tune, rest, samples = (held[key].iloc[0] for key in ("n_tune", "n_held", "samples"))
    return [
        f"tuned: eps chosen on the same {samples} images that it is judged on",
        f"held out: eps chosen on {tune} images, judged on the {rest} others",
    ]


def _notes(findings: Findings, chosen: pd.DataFrame) -> list[str]:
    """Say what a table of the curves ``chosen`` leaves open."""
    held, found = findings.held, verdict(findings)
    lines = []
    if more := len(findings.best) - len(chosen):
        noun = "curve" if more == 1 else "curves"
        lines.append(f"{more} more {noun} in {results.RESULTS if held is None else results.SELECTION}")
    if found.lower:
        gain = f"{_signed(found.row['delta'])} ({_interval(found.row['delta_low'], found.row['delta_high'])})"
        lines.append(f"{_point(findings.rows, found.row)} helps: {gain}; the best of its curve does not.")
    if found.kind == "still":
        lines.append("Nothing was perturbed: -m 'eps=range(-1,1,0.05)' in place of eps=0 sweeps.")
    if found.kind == "mixed":
        lines.append("unclear: a run with eps 0 as well tells how much of the gain is the perturbation's.")
    if found.edge is not None:
        eps = results.decimal(found.edge)
        lines.append(f"eps {eps} lies at the edge of the sweep: sweep {found.onward}.")
    if found.doubt is not None:
        lines.append(f"Not told from chance: {_doubt(found, findings.rows)}.")
    if _unexplained(chosen, held_out=held is not None):
        refined = "; of what is refined, for what perturbation adds as well" if findings.refined else ""
        lines.append(f"helps: the interval lies above zero, and an exact test says p < {ALPHA:g}{refined}")
    return lines + _refined(findings)


def _doubt(found: Verdict, rows: pd.DataFrame) -> str:
    """Say why a gain is not told from chance."""
    units = found.outcome.units
    word, few = "image" if units is found.outcome else "group", len(units.ids)
    if found.doubt == "few":
        return f"{few} {word}{'s are' if few > 1 else ' is'} too few"
    if found.doubt == "test" and found.p_value is not None:
        return f"of {_point(rows, found.row)}, an exact test says p = {words.p(found.p_value)}"
    lies = "lies" if found.helpful == 1 else "lie"
    return (
        f"{found.helpful} of the {found.judged} intervals {lies} above zero; chance would put {found.chance} "
        "there"
    )


def _point(rows: pd.DataFrame, row: dict[str, Any]) -> str:
    return f"{', '.join(named(rows, row))} at eps {results.decimal(row['eps'])}"


def _unexplained(chosen: pd.DataFrame, *, held_out: bool) -> bool:
    """Say whether a point is said not to help although its interval lies above zero."""
    above = chosen[chosen["held_low" if held_out else "delta_low"] > 0]
    return any(helps(row, held_out=held_out) == "no" for row in results.records(above))


def _refined(findings: Findings) -> list[str]:
    """Say what each refinement gains alone, and what the best perturbation adds to it."""
    alone = [mark for mark in marks(findings) if mark.label is None]
    lines = [
        f"{mark.refine} alone: gain {_signed(mark.delta)} ({_interval(mark.low, mark.high)}), "
        f"cost {_cost(mark.cost)}"
        for mark in alone
    ]
    for row in additions(findings):
        adds = f"{_point(findings.rows, row)} adds {_signed(row['added'])}"
        interval = _interval(row["added_low"], row["added_high"])
        chance = "" if row["helps"] else ", no gain beyond chance"
        tuned = f" on the {row['n_tune']} images to choose on" if "n_tune" in row else ""
        told = (
            f"{adds} ({interval}){chance}, cost {_cost(row['cost'])}"
            if row["eps"]
            else f"no perturbation adds anything{tuned}"
        )
        lines.append(f"on top of {row['refine']}: {told}")
    return lines


def _cost(cost: float) -> str:
    return costs_text(cost).replace("–", "-")  # a terminal may know no more than ASCII


def _interval(low: float, high: float) -> str:
    return f"{_signed(low)} to {_signed(high)}"


def _signed(number: float) -> str:
    return words.signed(number, minus="-")  # a terminal may know no more than ASCII


def _name(outcome: Outcome, key: str) -> str:
    return str(outcome.info.get(key) or f"unnamed {key}")


def _fixed(chosen: pd.DataFrame, varying: list[str]) -> str:
    """Say once what all curves share."""
    shared = {axis: chosen[axis].iloc[0] for axis in results.CURVE if axis not in varying}
    told = ", ".join(f"{axis} {value}" for axis, value in shared.items() if value != "none")
    return "best point of each curve" + f"; {told}" * bool(told)
