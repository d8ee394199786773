"""The curves as a figure: score over ε, with the base line and the intervals of the gain."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpsweep import results, words
from gpsweep.atomic import save
from gpsweep.report.look import MARKERS, MUTED, PAPER, Look, cleared, folded, look, styled, times_text, unit
from gpsweep.results.findings import Findings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = ("layer", "signal", "step", "refine")  # the curves of one panel share these
FEW = 12  # a curve of so few points shows each
BESIDE = 0.12  # of the axis: two lines' names need so much room
TITLE = 34  # characters of a panel's title on one line
GLYPH = 5.6  # pt; a character's width, on average
CROWDED = 7.5  # pt; the size of names that stand upright, where they have no room side by side
ZOOM = 4  # a close-up pays when the whole picture is this many times as high


def draw(findings: Findings, folder: Path, *, pdf: bool = False) -> tuple[Path, Path]:
    """Write curves.png and curves.svg, one panel a layer × signal × step × refinement.

    Args:
        findings: those of the run.
        folder: where to write.
        pdf: whether to write curves.pdf as well.

    Returns:
        the paths of the first two.
    """
    with styled():
        return saved(figure(findings.rows, look(findings)), folder / "curves", pdf=pdf)


def saved(picture: Figure, path: Path, *, pdf: bool = False) -> tuple[Path, Path]:
    """Write a figure as PNG and SVG.

    Args:
        picture: the figure.
        path: where, without an ending.
        pdf: whether to write it as PDF as well, which takes as long as both.

    Returns:
        the paths of the first two.
    """
    png, page = BytesIO(), BytesIO()
    picture.savefig(png, format="png", dpi=200, facecolor=PAPER)
    paths = (
        save(path.with_name(f"{path.name}.png"), png.getvalue()),
        save(path.with_name(f"{path.name}.svg"), svg(picture).encode()),
    )
    if pdf:
        picture.savefig(page, format="pdf", metadata={"CreationDate": None})
        save(path.with_name(f"{path.name}.pdf"), page.getvalue())
    return paths


def figure(rows: pd.DataFrame, style: Look) -> Figure:
    """Draw all panels with a shared score axis and one legend below them.

    Args:
        rows: the table of results.csv.
        style: how the run's curves look.
    """
    from matplotlib.figure import Figure

    panels = list(split(rows))
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    single = len(panels) == 1
    titles = ["" if single else folded(title, TITLE) for title, _ in panels]
    tallest = max(title.count("\n") for title in titles)
    several_eps = rows["eps"].nunique() > 1
    high = (2.5 if several_eps else 3.2) + 0.16 * tallest  # names of points may stand upright
    size = (6.4, 4.3) if single else (0.5 + 3.0 * columns, 0.8 + high * lines)
    picture = Figure(figsize=size, layout="constrained", facecolor=PAPER)
    grid = picture.subplots(lines, columns, sharey=True, squeeze=False).ravel()
    limits = whole(rows)
    for number, (axes, title, (_, part)) in enumerate(zip(grid, titles, panels, strict=False)):
        right = number % columns == columns - 1 or number == len(panels) - 1
        _panel(axes, part, style, limits, title=title, base=right, ylabel=number % columns == 0)
    for axes in grid[len(panels) :]:
        axes.remove()
    _legend(picture, _handles(style, lines=several_eps), most=2 * columns + 3)
    return picture


def panels(rows: pd.DataFrame, style: Look) -> Iterator[tuple[str, list[str]]]:
    """Draw each panel by itself for a page: its title and SVGs, the whole and where it pays a close-up.

    Args:
        rows: the table of results.csv.
        style: how the run's curves look.
    """
    from matplotlib.figure import Figure

    with styled():
        close = closeup(rows)
        for number, (title, part) in enumerate(split(rows)):
            pictures: list[str] = []
            for limits in [whole(rows)] if close is None else [whole(rows), close]:
                picture = Figure(figsize=(5.0, 3.5), layout="constrained")
                picture.patch.set_alpha(0)
                _panel(picture.subplots(), part, style, limits, base=True, ylabel=True)
                pictures.append(element(svg(picture), f"p{number}{len(pictures)}-"))
            yield title, pictures


def split(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Split the table into panels; a title names what tells them apart."""
    varying = [axis for axis in PANEL if rows[axis].nunique() > 1]
    for key, part in rows.groupby(list(PANEL), sort=False):
        setting = dict(zip(PANEL, key, strict=True))
        yield " · ".join(f"{axis} {setting[axis]}" for axis in varying), part


def whole(rows: pd.DataFrame) -> tuple[float, float]:
    """Return score limits that hold every curve with its band, and the base line."""
    values = [*rows["score"], *rows["base"], *(value for bound in band(rows) for value in bound)]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 1.0
    return float(low - margin), float(high + margin)


def band(rows: pd.DataFrame) -> tuple[pd.Series[float], pd.Series[float]]:
    """Return the interval of the gain around the base, as scores: none lies below 0 or above 100 %."""
    low, high = ((rows["base"] + rows[side]).clip(0.0, 100.0) for side in ("delta_low", "delta_high"))
    return low, high


def closeup(rows: pd.DataFrame) -> tuple[float, float] | None:
    """Return score limits around the base line in which the gains can be seen; None where they can anyway.

    The oracle stays out of it, whose gain would dwarf all others.
    """
    chosen = results.best(rows[rows["label"] != results.ORACLE])
    reach = max([0.0, *chosen["delta"], *chosen["delta_high"]])
    low, high = whole(rows)
    if reach <= 0 or rows["eps"].nunique() < 3 or high - low < ZOOM * 2.8 * reach:
        return None
    base = float(rows["base"].iloc[0])
    return base - 1.5 * reach, base + 1.3 * reach


def svg(picture: Figure) -> str:
    """Return a figure as the content of an SVG file."""
    text = StringIO()
    # No date and no maker: the same run gives the same file.
    picture.savefig(text, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return text.getvalue()


def element(content: str, prefix: str) -> str:
    """Return the content of an SVG file as an element of a page.

    Args:
        content: what :func:`svg` returns.
        prefix: of its ids, which no other figure of the page may have.
    """
    for opening in (' id="', 'href="#', "url(#"):
        content = content.replace(opening, opening + prefix)
    return content[content.index("<svg") :]


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
    cleared(axes)
    _levels(axes, part, limits, base=base)
    if part["eps"].nunique() > 1:
        _lines(axes, part, style, limits)
    else:
        _dots(axes, part, style)
    axes.set_ylim(*limits)
    axes.set_title(title, loc="left")
    axes.set_ylabel(style.score if ylabel else "")


def _levels(axes: Axes, part: pd.DataFrame, limits: tuple[float, float], *, base: bool) -> None:
    """Draw the base, and where it was run the refinement alone, and name them outside the axes."""
    levels = [("base", float(part["base"].iloc[0]), (4, 3))]
    alone = part[(part["eps"] == 0) & (part["refine"] != "none")]
    levels += [(row["refine"], float(row["score"]), (1, 2)) for row in results.records(alone.head(1))]
    for _, level, dash in levels:
        axes.axhline(level, color=MUTED, linewidth=0.9, linestyle=(0, dash), zorder=1.5)
    named = [each for each in levels if limits[0] <= each[1] <= limits[1] and (base or each[0] != "base")]
    named.sort(key=lambda each: each[1])
    # Two names that would lie over each other step aside.
    near = len(named) > 1 and named[1][1] - named[0][1] < BESIDE * (limits[1] - limits[0])
    for number, (name, level, _) in enumerate(named):
        axes.annotate(
            f"{name}\n{level:.2f}",
            (1, level),
            (4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center" if not near else "bottom" if number else "top",
            fontsize=8,
            color=MUTED,
        )


def _lines(axes: Axes, part: pd.DataFrame, style: Look, limits: tuple[float, float]) -> None:
    for row in results.records(results.best(part)):
        mine = (part["label"] == row["label"]) & (part["iterations"] == row["iterations"])
        curve, colour = part[mine].sort_values("eps"), style.colours[row["label"]]
        axes.fill_between(curve["eps"], *band(curve), color=colour, alpha=0.14, linewidth=0)
        line: dict[str, Any] = {"linestyle": style.dashes(row["iterations"])}
        if len(curve) <= FEW:
            line |= {"marker": ".", "markersize": 4}
        axes.plot(curve["eps"], curve["score"], color=colour, **line)
        _mark(axes, row["eps"], row, style)
    axes.set_xlim(*_reach(part, limits))
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlabel(f"ε ({unit(str(part['layer'].iloc[0]), style.layer_scale)})")


def _dots(axes: Axes, part: pd.DataFrame, style: Look) -> None:
    several = len(style.iterations) > 1
    axes.vlines(
        range(len(part)), *band(part), colors=[style.colours[x] for x in part["label"]], linewidth=1.6
    )
    for place, row in enumerate(results.records(part)):
        _mark(axes, place, row, style)
    counts = [times_text(n) for n in part["iterations"]]
    names = [f"{label}\n{n}" if several else label for label, n in zip(part["label"], counts, strict=True)]
    eps = words.eps(part["eps"].iloc[0])
    where = f"at ε = {eps} ({unit(str(part['layer'].iloc[0]), style.layer_scale)})"
    upright: dict[str, Any] = {}
    if _crowded(axes, names):
        upright = {"rotation": "vertical", "fontsize": CROWDED}
        if several:
            names = [f"{row['label']} ×{row['iterations']}" for row in results.records(part)]
            where = f"label × iterations\n{where}"
    axes.set_xticks(range(len(names)), names, **upright)
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_xlabel(where)


def _crowded(axes: Axes, names: Sequence[str]) -> bool:
    """Say whether names below an axis have no room side by side."""
    from matplotlib.figure import Figure

    picture = axes.figure
    assert isinstance(picture, Figure)
    longest = max(len(line) for name in names for line in name.split("\n"))
    room = axes.get_window_extent().width * 72 / picture.dpi
    return (longest + 1) * GLYPH * len(names) > room


def _mark(axes: Axes, place: float, row: dict[str, Any], style: Look) -> None:
    look: dict[str, Any] = {"marker": MARKERS.get(row["label"], "o"), "markersize": 6.5}
    axes.plot(place, row["score"], color=style.colours[row["label"]], markeredgecolor=PAPER, zorder=3, **look)


def _reach(part: pd.DataFrame, limits: tuple[float, float]) -> tuple[float, float]:
    """Return limits for ε: where a curve other than the oracle's is inside the score limits."""
    own = part[part["label"] != results.ORACLE]
    inside = own[own["score"].between(*limits)]
    eps = (inside if inside["eps"].nunique() > 1 else part)["eps"]
    margin = 0.03 * float(eps.max() - eps.min())
    return float(eps.min()) - margin, float(eps.max()) + margin


def _legend(picture: Figure, handles: Sequence[Any], most: int) -> None:
    """Write the legend below the panels in as few rows as the figure has room for, each as long."""
    rows = range(-(-len(handles) // most), len(handles) + 1)
    for columns in [-(-len(handles) // number) for number in rows]:
        legend = picture.legend(
            handles=handles,
            loc="outside lower center",
            ncols=columns,
            fontsize=8.5,
            handlelength=1.8,
            handletextpad=0.6,
            columnspacing=1.4,
        )
        if columns == 1 or legend.get_window_extent().width < picture.bbox.width:
            return
        legend.remove()


def _handles(style: Look, *, lines: bool) -> list[Any]:
    """Return what the legend names; without lines no style tells numbers of iterations apart."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    look: dict[str, Any] = {"linestyle": "-" if lines else "none", "markeredgecolor": PAPER}
    labels = [
        Line2D([], [], color=colour, marker=MARKERS.get(label, "o"), label=label, **look)
        for label, colour in style.colours.items()
    ]
    several = style.iterations if lines and len(style.iterations) > 1 else []
    counts = [Line2D([], [], color=MUTED, linestyle=style.dashes(n), label=times_text(n)) for n in several]
    band = Patch(color=MUTED, alpha=0.25, linewidth=0, label="95 % interval of the gain")
    return [*labels, *counts, band]
