"""report.html: one self-contained page about a run, for a person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from gpsweep import metrics, pictures, results, words
from gpsweep.atomic import save
from gpsweep.data.palette import palette
from gpsweep.report import classes, curves
from gpsweep.report import look as looks
from gpsweep.report.marks import REFINEMENTS
from gpsweep.report.verdict import LEAST, additions, beside, costs_text, helps, verdict
from gpsweep.results import selection
from gpsweep.results.findings import Findings
from gpsweep.results.outcome import Outcome
from gpsweep.results.significance import name_of

TEMPLATES = Path(__file__).parent
SHOWN = (*results.KEPT, "config")  # what the page shows of the run's info, where it is known
CURVES_SHOWN = 24
# The same hues, light enough for a dark page.
DARK = {
    "#0b5fa5": "#6fb4f2",
    "#cc8400": "#f2b23e",
    "#008f6b": "#3fcba4",
    "#b0528e": "#e491c4",
    "#c2410c": "#ff8f66",
    "#3f9ad1": "#8ad0ff",
    "#57534e": "#c9c4bd",
    "#7a6a1f": "#d6c46a",
    "#6d5bd0": "#aea1ff",
    "#0f766e": "#5cc9bf",
}
TIMES = {
    "start": "Preparation",
    "shared": "Clean forward and backward passes",
    "points": "Forward passes of the points",
    "test": "Batches that this command computed",
}


def write_page(findings: Findings, worth: str | None, folder: Path) -> Path:
    """Write report.html, which needs no other file and no network.

    Args:
        findings: those of the run.
        worth: the content of cost.svg, if there is one.
        folder: where to write.

    Returns:
        its path.
    """
    html = page(findings, worth, folder)
    return save(folder / "report.html", html.encode(errors="backslashreplace"))


def page(findings: Findings, worth: str | None = None, folder: Path | None = None) -> str:
    """Return the page as HTML; every name in it is escaped.

    Args:
        findings: those of the run.
        worth: the content of cost.svg, if there is one.
        folder: where the run's pictures are, if there are any.
    """
    outcome, rows, held = findings.outcome, findings.rows, findings.held
    style = looks.look(findings)
    best = selection.leading(findings.best, "score")
    found, seen = verdict(findings), shown(outcome, folder)
    several_eps = rows["eps"].nunique() > 1
    html: str = template("page.html.j2").render(
        info={**dict.fromkeys(SHOWN), **outcome.info},
        images=len(outcome.ids),
        units=len(outcome.units.ids),
        grouped=outcome.units is not outcome,
        over=outcome.over,
        points=len(rows),
        classes=len(outcome.classes),
        segmentation=metrics.is_segmentation(outcome.task),
        score="mean IoU" if metrics.is_segmentation(outcome.task) else "top-1 accuracy",
        base=float(metrics.score(metrics.total(outcome.base), outcome.task)),
        verdict=found,
        alpha=metrics.ALPHA,
        least=LEAST,
        held_units=_held_units(outcome),
        relative=style.layer_scale == "rms",
        colours=style.colours,
        shapes={label: looks.SHAPES[looks.MARKERS.get(label, "o")] for label in style.colours},
        dark=DARK,
        line_styles=_line_styles(style) if several_eps else [],
        several_eps=several_eps,
        bare=findings.bare,
        panels=[] if findings.bare else _panels(findings, style),
        worth=coloured(curves.element(worth, "cost-")) if worth else "",
        beside=beside(found, findings),
        added=additions(findings, found.over),
        refinements=REFINEMENTS,
        refined=findings.refined,
        costly=bool(outcome.info.get("cost")),
        best=results.records(best),
        held=[] if held is None else results.records(selection.leading(held, "same_delta")),
        split="" if held is None else selection.split_text(outcome),
        test=name_of(outcome),
        curves_shown=CURVES_SHOWN,
        shared=[a for a in results.CURVE[1:] if best[a].nunique() == 1 and best[a].iloc[0] != "none"],
        varying=[axis for axis in results.CURVE[1:] if best[axis].nunique() > 1],
        changes=classes.changes(found.outcome, found.index),
        unperturbed=[] if found.index is not None or found.over else classes.unperturbed(found.outcome),
        classes_shown=classes.SHOWN,
        pixel_accuracy=float(metrics.accuracy(metrics.total(found.outcome.base))),
        absent=classes.absent(found.outcome),
        strays=classes.strays(found.outcome, found.index),
        shown=seen,
        palette=_palette() if seen["pictures"] and metrics.is_segmentation(outcome.task) else [],
        times=times(outcome),
        cost=cost(outcome),
    )
    return html


@cache
def template(name: str) -> Template:
    """Return a page without its content; to compile it takes as long as to draw a figure."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        signed=words.signed,
        eps=words.eps,
        p=words.p,
        seconds=words.seconds,
        passes=costs_text,
        helps=helps,
        breakable=_breakable,
        count=_count,
        kinds=_kinds,
    )
    return environment.get_template(name)


def shown(outcome: Outcome, folder: Path | None) -> dict[str, Any]:
    """Return the point that the run's pictures show, as a row of the table, and the pictures."""
    if folder is None:
        return {"panels": pictures.PANELS, "pictures": []}
    point, found = pictures.read(folder, outcome.points, outcome.ids)
    return {
        "row": point.asdict(),
        "panels": pictures.panels(point),
        "pictures": [
            {**asdict(each), "better": each.right > each.wrong, "png": png} for png, each in found.items()
        ],
    }


def _palette() -> list[str]:
    """Return the colours that classes have in pictures."""
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in palette().tolist()]


def _held_units(outcome: Outcome) -> int:
    """Return how many images, or groups of them, ε is judged on where it was chosen on others."""
    if not outcome.info.get("select"):
        return 0
    _, others = outcome.halves
    return len(outcome.of(others).units.ids)


def times(outcome: Outcome) -> list[tuple[str, float]]:
    """Return the run's times in seconds under names for people."""
    known = outcome.info.get("times") or {}
    return [
        (TIMES.get(key, key.replace("_", " ").capitalize()), float(value))
        for key, value in known.items()
        if isinstance(value, (int, float))
    ]


def cost(outcome: Outcome) -> dict[str, Any]:
    """Return seconds an image: ``each`` point in this run, ``forward`` alone, and every measured setting."""
    spent, images, known = sum(outcome.seconds), len(outcome.ids), outcome.info.get("cost") or {}
    return {
        "each": spent / images / len(outcome.points) if spent and images else None,
        "forward": known.get("forward_seconds"),
        "alone": [(_alone(entry), entry["seconds"], entry["passes"]) for entry in known.get("settings", ())],
    }


def _alone(entry: Mapping[str, Any]) -> str:
    """Name a setting whose cost was measured."""
    parts = [REFINEMENTS[entry["refine"]]] if entry["refine"] != "none" else []
    if entry["iterations"]:
        guide = "" if entry["label_kind"] == "label" else f", {entry['label_kind']}"
        several = f", {looks.times_text(entry['iterations'])}" if entry["iterations"] > 1 else ""
        parts.insert(0, f"perturbed at {entry['layer']}{guide}{several}")
    text = " with ".join(parts)
    return text[0].upper() + text[1:]


def _line_styles(style: looks.Look) -> list[tuple[str, str]]:
    several = style.iterations if len(style.iterations) > 1 else []
    return [(looks.times_text(n), style.dasharray(n)) for n in several]


def _panels(findings: Findings, style: looks.Look) -> list[tuple[str, list[Markup]]]:
    return [(title, [coloured(svg) for svg in svgs]) for title, svgs in curves.panels(findings.rows, style)]


def coloured(svg: str) -> Markup:
    """Let the page choose the colours, so that one drawing suits a light and a dark page."""
    names = {looks.INK: "ink", looks.MUTED: "muted", looks.GRID: "grid", looks.PAPER: "paper"}
    names |= {colour: f"series-{colour[1:]}" for colour in DARK}
    for colour, name in names.items():
        svg = svg.replace(colour, f"var(--{name})")
    return Markup(svg)  # made by us: names in it are shapes, not text


def _breakable(name: object) -> Markup:
    """Let a line end within a name, at a dot or an underscore."""
    return Markup(re.sub(r"([._])", r"\1<wbr>", str(escape(name))))  # no entity has either


def _kinds(changes: Sequence[Mapping[str, Any]], gains: str, losses: str) -> str:
    """Say which of the two are among the changes of some classes; what does not change is no loss."""
    gained, lost = (any(sign * row["delta"] > 0 for row in changes) for sign in (1, -1))
    return " and ".join([gains] * (gained or not lost) + [losses] * lost)


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("ss") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
