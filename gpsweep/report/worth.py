"""Gain against cost as a figure: what each curve's best point and each refinement alone is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpsweep.report.curves import saved
from gpsweep.report.look import INK, MARKERS, MUTED, PAPER, Look, cleared, folded, look, styled
from gpsweep.report.marks import Mark, front, marks, worth_drawing
from gpsweep.results.findings import Findings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

SIZE = (5.2, 3.4)  # inches
WIDE = 12  # costs that differ by a larger factor are drawn on a logarithmic axis
TICKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 300, 500, 1000)
NAMED = 12  # lines; where names are more, only marks on the front have names and intervals
LONG = 30  # characters of a name on one line
ROOM = (0.22, 0.36)  # share of the width that is kept for names on the right, at least and at most
GLYPH = 6.5  # pt; a character's width, with what stands beside the axes
OUTSIDE = 5.0  # how much worse it is for a name to leave the axes than to hide something
APART = 7.0  # pt between marks of one cost
WITHIN = 28.0  # pt that they take together at most: further aside they would be read at another cost
STEP = 5.0  # pt by which names are moved up and down
STEPS = sorted(range(-20, 21), key=abs)
AWAY = 3.0  # pt² that a name may hide rather than be moved a step away
FAR = 35.0  # pt from its mark: a line leads to a name
Line = tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Spot:
    """Where a mark stands: so many pt beside its cost, and in which colour."""

    mark: Mark
    aside: float
    colour: str


def draw(findings: Findings, folder: Path, *, pdf: bool = False) -> str | None:
    """Write cost.png and cost.svg, unless there is nothing to compare.

    Args:
        findings: those of the run.
        folder: where to write.
        pdf: whether to write cost.pdf as well.

    Returns:
        the content of cost.svg; None where there is nothing to compare.
    """
    found = marks(findings)
    if not worth_drawing(found):
        return None
    with styled():
        picture = figure(found, look(findings), held_out=findings.split is not None)
        _, path = saved(picture, folder / "cost", pdf=pdf)
    return path.read_text(encoding="utf-8")


def figure(found: Sequence[Mark], style: Look, *, held_out: bool) -> Figure:
    """Draw gains with their intervals over costs, the base, and the most that each cost has given.

    Args:
        found: the marks.
        style: how the run's curves look.
        held_out: whether their gains are those of images that had no part in choosing ε.
    """
    from matplotlib.figure import Figure

    picture = Figure(figsize=SIZE, layout="constrained")
    picture.patch.set_alpha(0)
    axes = picture.subplots()
    cleared(axes)
    axes.axhline(0, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)
    known = sorted((mark for mark in found if isfinite(mark.cost)), key=lambda mark: (mark.cost, mark.delta))
    best, few = front(known), sum(1 + _folded(mark).count("\n") for mark in known) <= NAMED
    base = Mark(-1, "base", None, "none", 1.0, 0.0, 0.0, 0.0)
    named = [base, *(mark for mark in known if few or mark.label is None or mark in best)]
    _limits(axes, known, named)
    lines = _front(axes, best)
    axes.plot(1, 0, marker="o", markersize=5.5, color=MUTED, markeredgecolor=PAPER, zorder=3)
    spots = [Spot(base, 0.0, MUTED), *_spread(axes, known, style, named)]
    axes.set_xlabel("cost of an image (forward passes of the bare network)")
    axes.set_ylabel(f"{'held-out ' if held_out else ''}gain (percentage points)")
    if not few:
        labels = [label for label in style.colours if any(mark.label == label for mark in known)]
        picture.legend(
            handles=[_handle(label, style) for label in labels],
            loc="outside lower center",
            ncols=len(labels),
            fontsize=8,
            handletextpad=0.2,
            columnspacing=1.4,
        )
    lines.append(((axes.get_xlim()[0], 0.0), (axes.get_xlim()[1], 0.0)))
    _names(axes, spots, lines, named)
    return picture


def _handle(label: str, style: Look) -> Any:
    from matplotlib.lines import Line2D

    marker, colour = MARKERS.get(label, "o"), style.colours[label]
    return Line2D([], [], linestyle="none", label=label, marker=marker, color=colour, markeredgecolor=PAPER)


def _folded(mark: Mark) -> str:
    return folded(mark.name, LONG)


def _limits(axes: Axes, known: Sequence[Mark], named: Sequence[Mark]) -> None:
    """Set the scale and limits of both axes, with room for names on the right."""
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    dearest = max(mark.cost for mark in known)
    if dearest > WIDE:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(TICKS))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.set_xlim(0.85, dearest**1.25)
    else:
        longest = max(len(line) for mark in named for line in _folded(mark).split("\n"))
        share = min(max(ROOM[0], GLYPH * longest / (72 * SIZE[0])), ROOM[1])
        axes.set_xlim(0.6, 0.6 + (dearest - 0.6) / (1 - share))
        axes.locator_params(axis="x", integer=True)
    values = [0.0, *(bound for mark in known for bound in (mark.low, mark.high))]
    margin = 0.07 * (max(values) - min(values)) or 1.0
    axes.set_ylim(min(values) - margin, max(values) + margin)


def _front(axes: Axes, best: Sequence[Mark]) -> list[Line]:
    """Draw the most that each cost has given, and return the pieces of the line."""
    ends = [*(mark.cost for mark in best), axes.get_xlim()[1]]
    pieces: list[Line] = []
    x = y = 0.0
    for mark, end in zip([None, *best], ends, strict=True):
        before, (x, y) = y, (mark.cost, mark.delta) if mark else (1.0, 0.0)
        pieces += [((x, before), (x, y)), ((x, y), (end, y))]
    for start, stop in pieces:
        axes.plot(*zip(start, stop, strict=True), color=MUTED, linewidth=0.8, alpha=0.5, zorder=1.6)
    return pieces


def _spread(axes: Axes, known: Sequence[Mark], style: Look, named: Sequence[Mark]) -> list[Spot]:
    """Draw the marks, those of one cost side by side; those without a name are pale and have no interval."""
    from matplotlib.transforms import ScaledTranslation

    picture, spots = axes.get_figure(), []
    assert picture is not None
    for number, mark in enumerate(known):
        same = [place for place, other in enumerate(known) if other.cost == mark.cost]
        apart = min(APART, WITHIN / max(len(same) - 1, 1))
        aside = apart * (number - (same[0] + same[-1]) / 2)
        where = axes.transData + ScaledTranslation(aside / 72, 0, picture.dpi_scale_trans)
        colour = style.colours[mark.label] if mark.label else INK
        if mark in named:
            interval: dict[str, Any] = {"color": colour, "linewidth": 1.2, "alpha": 0.6}
            axes.vlines(mark.cost, mark.low, mark.high, transform=where, zorder=2.5, **interval)
        axes.plot(
            mark.cost,
            mark.delta,
            marker=MARKERS.get(mark.label, "o") if mark.label else "X",
            markersize=6.5 if mark.label else 8,
            color=colour,
            markerfacecolor=PAPER if mark.label and mark.refine != "none" else colour,
            markeredgecolor=colour if mark.label and mark.refine != "none" else PAPER,
            transform=where,
            alpha=1.0 if mark in named else 0.35,
            zorder=3 if mark in named else 2,
        )
        spots.append(Spot(mark, aside, colour))
    return spots


def _names(axes: Axes, spots: Sequence[Spot], lines: Sequence[Line], named: Sequence[Mark]) -> None:
    """Write names beside their marks, where they hide least."""
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

    picture = axes.figure
    assert isinstance(picture, Figure)
    picture.draw_without_rendering()  # now it is known where everything lies
    point = picture.dpi / 72
    taken: list[Bbox] = []
    for spot in spots:
        (x, y), (_, low), (_, high) = (
            axes.transData.transform((spot.mark.cost, value))
            for value in (spot.mark.delta, spot.mark.low, spot.mark.high)
        )
        x += spot.aside * point
        taken.append(Bbox([[x - 4 * point, y - 4 * point], [x + 4 * point, y + 4 * point]]))
        if spot.mark in named:
            taken.append(Bbox([[x - point, low], [x + point, high]]))
    for line in lines:
        (left, low), (right, high) = sorted(map(axes.transData.transform, line), key=tuple)
        taken.append(Bbox([[left - point, low - point], [right + point, high + point]]))
    inside = axes.get_window_extent()
    for spot in sorted(spots, key=lambda spot: -spot.mark.delta):
        if spot.mark not in named:
            continue
        text = _name(axes, spot, (0, 0), "left")
        start = text.get_window_extent()  # laid out once; elsewhere it is the same box
        text.remove()
        tried: list[tuple[float, Bbox, tuple[float, float], str]] = []
        for side, ha in ((1, "left"), (-1, "right")):
            for step in STEPS:
                at = (7.0 * side, step * STEP)
                box = start.translated(at[0] * point - (side < 0) * start.width, at[1] * point)
                hidden = sum(_shared(box, other) for other in taken)
                hidden += OUTSIDE * (box.width * box.height - _shared(box, inside))
                tried.append((hidden + AWAY * point**2 * (abs(step) + (side < 0)), box, at, ha))
        hidden, box, at, ha = min(tried, key=lambda each: each[0])
        _name(axes, spot, at, ha).set_in_layout(False)
        taken.append(box)


def _name(axes: Axes, spot: Spot, at: tuple[float, float], ha: str) -> Annotation:
    """Write a mark's name so many pt from it, with a line to it where that is far."""
    from matplotlib.figure import Figure
    from matplotlib.transforms import ScaledTranslation

    picture = axes.figure
    assert isinstance(picture, Figure)
    # A colour that is seen as a mark may be too pale to be read as small letters.
    style: dict[str, Any] = {"fontsize": 8, "color": INK, "va": "center", "ha": ha}
    if abs(at[1]) > FAR:
        end = (0 if ha == "left" else 1, 0.5)
        line = {"linewidth": 0.5, "shrinkA": 0, "shrinkB": 4, "relpos": end}
        style["arrowprops"] = {"arrowstyle": "-", "color": spot.colour, **line}
    return axes.annotate(
        _folded(spot.mark),
        (spot.mark.cost, spot.mark.delta),
        at,
        xycoords=axes.transData + ScaledTranslation(spot.aside / 72, 0, picture.dpi_scale_trans),
        textcoords="offset points",
        **style,
    )


def _shared(one: Bbox, other: Bbox) -> float:
    """Return the area that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(width, 0) * max(height, 0))
