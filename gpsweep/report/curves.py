"""The curves as a figure: score over ε, with the base line and the intervals of the gain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpsweep import results
from gpsweep.counts import is_segmentation

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = ("layer", "signal", "step")  # the curves of one panel share these
INK, MUTED, GRID, PAPER = "#1b222c", "#66707c", "#e4e8ec", "#ffffff"
# Told apart with every common kind of colour vision: hue and lightness differ, and so do the markers.
COLOURS = {
    "argmax": "#0b5fa5",
    "random_onehot": "#dd8f00",
    "uniform": "#008f6b",
    "top2": "#b0528e",
    "ground_truth": "#c2410c",
    "knn": "#45a3dc",
}
SPARE = ("#57534e", "#7a6a1f", "#6d5bd0", "#0f766e")
MARKERS = {"argmax": "o", "random_onehot": "s", "uniform": "^", "top2": "D", "ground_truth": "v", "knn": "P"}
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5, 2),
    (1.2, 1.6),
    (6, 2, 1.2, 2),
)  # in line widths; () is solid
ZOOM = 4  # a close-up pays when the whole picture is this many times as high

STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture everywhere
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.7,
    "text.color": INK,
    "text.parse_math": False,  # a layer may well have a $ in its name
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "gpsweep",
}


@dataclass(frozen=True)
class Look:
    """What all panels of a report share.

    Args:
        score: the score's name with its unit.
        units: unit of ε at an inner layer, by ``layer_scale``.
        colours: label → colour.
        iterations: every number of iterations, ascending.
    """

    score: str
    layer_scale: str
    colours: dict[str, str]
    iterations: list[int]

    def dashes(self, iterations: int) -> tuple[float, tuple[float, ...] | None]:
        """Return matplotlib's line style for a number of iterations: solid for the most, then shorter."""
        return 0, self._dashes(iterations) or None

    def dasharray(self, iterations: int) -> str:
        """Return the same as an SVG stroke-dasharray for a line two units wide."""
        return " ".join(f"{2 * length:g}" for length in self._dashes(iterations)) or "none"

    def _dashes(self, iterations: int) -> tuple[float, ...]:
        return DASHES[self.iterations[::-1].index(iterations) % len(DASHES)]


def look(outcome: results.Outcome, rows: pd.DataFrame) -> Look:
    """Choose names, colours and line styles for a run's curves."""
    spare = iter(SPARE * (1 + rows["label"].nunique()))
    return Look(
        score="mean IoU (%)" if is_segmentation(outcome.task) else "top-1 accuracy (%)",
        layer_scale=str(outcome.info.get("layer_scale", "rms")),
        colours={label: COLOURS.get(label) or next(spare) for label in dict.fromkeys(rows["label"])},
        iterations=sorted(set(rows["iterations"])),
    )


def draw(outcome: results.Outcome, rows: pd.DataFrame, folder: Path) -> tuple[Path, Path]:
    """Write curves.png and curves.svg, one panel a layer × signal × step.

    Args:
        rows: the table of results.csv.
        folder: where to write.

    Returns:
        the two paths.
    """
    with _styled():
        picture = figure(rows, look(outcome, rows))
        png = BytesIO()
        picture.savefig(png, format="png", dpi=200)
        return (
            results.save(folder / "curves.png", png.getvalue()),
            results.save(folder / "curves.svg", svg(picture).encode()),
        )


def figure(rows: pd.DataFrame, style: Look) -> Figure:
    """Draw all panels with a shared score axis and one legend below them."""
    from matplotlib.figure import Figure

    panels = list(split(rows))
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    size = (6.4, 4.3) if len(panels) == 1 else (0.5 + 3.0 * columns, 0.8 + 2.5 * lines)
    picture = Figure(figsize=size, layout="constrained", facecolor=PAPER)
    grid = picture.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    limits = whole(rows)
    for number, (axes, (title, part)) in enumerate(zip(grid, panels, strict=False)):
        right = number % columns == columns - 1 or number == len(panels) - 1
        _panel(axes, part, style, limits, title=title, base=right, ylabel=number % columns == 0)
    for axes in grid[len(panels) :]:
        axes.remove()
    handles = _handles(rows, style)
    picture.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(len(handles), 2 * columns + 3),
        fontsize=8.5,
        handlelength=1.8,
        handletextpad=0.6,
        columnspacing=1.4,
    )
    return picture


def panels(rows: pd.DataFrame, style: Look) -> Iterator[tuple[str, list[str]]]:
    """Draw each panel by itself for a page: its title and SVGs, the whole and where it pays a close-up."""
    from matplotlib.figure import Figure

    with _styled():
        close = closeup(rows)
        for number, (title, part) in enumerate(split(rows)):
            pictures = []
            for limits in [whole(rows)] if close is None else [whole(rows), close]:
                picture = Figure(figsize=(5.0, 3.5), layout="constrained")
                picture.patch.set_alpha(0)
                _panel(picture.subplots(), part, style, limits, base=True, ylabel=True)
                pictures.append(svg(picture, prefix=f"p{number}{len(pictures)}-"))
            yield title, pictures


def split(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Split the table into panels; a title names what tells them apart."""
    varying = [axis for axis in PANEL if rows[axis].nunique() > 1]
    for key, part in rows.groupby(list(PANEL), sort=False):
        setting = dict(zip(PANEL, key, strict=True))
        yield " · ".join(f"{axis} {setting[axis]}" for axis in varying), part


def whole(rows: pd.DataFrame) -> tuple[float, float]:
    """Return score limits that hold every curve with its band, and the base line."""
    bounds = (rows["base"] + rows[column] for column in ("delta_low", "delta_high"))
    values = [*rows["score"], *rows["base"], *(value for bound in bounds for value in bound)]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def closeup(rows: pd.DataFrame) -> tuple[float, float] | None:
    """Return score limits around the base line in which the gains can be seen; None where they can anyway.

    The oracle stays out of it, whose gain would dwarf all others.
    """
    chosen = results.best(rows[rows["label"] != results.ORACLE])
    reach = float(chosen[["delta", "delta_high"]].max(axis=None)) if len(chosen) else 0.0
    low, high = whole(rows)
    if reach <= 0 or rows["eps"].nunique() < 3 or high - low < ZOOM * 2.8 * reach:
        return None
    base = float(rows["base"].iloc[0])
    return base - 1.5 * reach, base + 1.3 * reach


def svg(picture: Figure, prefix: str = "") -> str:
    """Return a figure as an SVG element; with a prefix its ids may share a page with other figures."""
    text = StringIO()
    # No date and no maker: the same run gives the same file.
    picture.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    content = text.getvalue()
    if not prefix:
        return content
    for opening in (' id="', 'href="#', "url(#"):
        content = content.replace(opening, opening + prefix)
    return content[content.index("<svg") :]


@contextmanager
def _styled() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


def _panel(
    axes: Axes,
    part: pd.DataFrame,
    style: Look,
    limits: tuple[float, float],
    *,
    title: str = "",
    base: bool,
    ylabel: bool,
) -> None:
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    line = float(part["base"].iloc[0])
    axes.axhline(line, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1.5)
    if base:  # outside the axes, where no curve runs through it
        axes.annotate(
            f"base\n{line:.2f}",
            (1, line),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            fontsize=8,
            color=MUTED,
        )
    (_lines if part["eps"].nunique() > 1 else _dots)(axes, part, style, limits)
    axes.set_ylim(*limits)
    axes.set_title(title, loc="left")
    axes.set_ylabel(style.score if ylabel else "")


def _lines(axes: Axes, part: pd.DataFrame, style: Look, limits: tuple[float, float]) -> None:
    chosen = results.best(part)
    for (label, iterations), curve in part.sort_values("eps").groupby(["label", "iterations"], sort=False):
        colour, eps = style.colours[label], curve["eps"]
        low, high = curve["base"] + curve["delta_low"], curve["base"] + curve["delta_high"]
        axes.fill_between(eps, low, high, color=colour, alpha=0.14, linewidth=0)
        marks = {"marker": ".", "markersize": 4} if len(curve) <= 12 else {}
        axes.plot(eps, curve["score"], color=colour, linestyle=style.dashes(iterations), **marks)
    for row in chosen.itertuples():
        marker = {"marker": MARKERS.get(row.label, "o"), "markeredgecolor": PAPER, "markersize": 6.5}
        axes.plot(row.eps, row.score, color=style.colours[row.label], zorder=3, **marker)
    axes.set_xlim(*_reach(part, limits))
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(f"ε ({unit(str(part['layer'].iloc[0]), style.layer_scale)})")


def _dots(axes: Axes, part: pd.DataFrame, style: Look, limits: tuple[float, float]) -> None:
    names = []
    for place, row in enumerate(part.itertuples()):
        colour, line = style.colours[row.label], row.base
        axes.vlines(place, line + row.delta_low, line + row.delta_high, color=colour, linewidth=1.6)
        marker = {"marker": MARKERS.get(row.label, "o"), "markeredgecolor": PAPER, "markersize": 7.5}
        axes.plot(place, row.score, color=colour, **marker)
        names.append(
            row.label if len(style.iterations) == 1 else f"{row.label}\n{times_text(row.iterations)}"
        )
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.6, len(names) - 0.4)
    eps = results.decimal(part["eps"].iloc[0]).replace("-", "−")
    axes.set_xlabel(f"at ε = {eps} ({unit(str(part['layer'].iloc[0]), style.layer_scale)})")


def unit(layer: str, layer_scale: str) -> str:
    """Return the unit of ε at a layer."""
    if layer == "input":
        return "grey levels"
    return "relative to the activation’s RMS" if layer_scale == "rms" else "units of the activation"


def _reach(part: pd.DataFrame, limits: tuple[float, float]) -> tuple[float, float]:
    """Return limits for ε: where a curve other than the oracle's is inside the score limits."""
    own = part[part["label"] != results.ORACLE]
    inside = own[own["score"].between(*limits)]
    eps = (inside if inside["eps"].nunique() > 1 else part)["eps"]
    margin = 0.03 * float(eps.max() - eps.min())
    return float(eps.min()) - margin, float(eps.max()) + margin


def _handles(rows: pd.DataFrame, style: Look) -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    labels = [
        Line2D([], [], color=colour, marker=MARKERS.get(label, "o"), markeredgecolor=PAPER, label=label)
        for label, colour in style.colours.items()
    ]
    several = style.iterations if len(style.iterations) > 1 else []
    counts = [Line2D([], [], color=MUTED, linestyle=style.dashes(n), label=times_text(n)) for n in several]
    band = Patch(color=MUTED, alpha=0.25, linewidth=0, label="95 % interval of the gain")
    return [*labels, *counts, band]


def times_text(iterations: int) -> str:
    """Write a number of iterations."""
    return "1 iteration" if iterations == 1 else f"{iterations} iterations"
