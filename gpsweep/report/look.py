"""How curves look: colours, markers, line styles and words, the same in every picture of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from gpsweep.metrics import is_segmentation
from gpsweep.results.findings import Findings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, MUTED, GRID, PAPER = "#1b222c", "#66707c", "#e4e8ec", "#ffffff"
# Told apart with every common kind of colour vision: hue and lightness differ, and so do the markers.
COLOURS = {
    "argmax": "#0b5fa5",
    "random_onehot": "#cc8400",
    "uniform": "#008f6b",
    "top2": "#b0528e",
    "ground_truth": "#c2410c",
    "knn": "#3f9ad1",
}
SPARE = ("#57534e", "#7a6a1f", "#6d5bd0", "#0f766e")
MARKERS = {"argmax": "o", "random_onehot": "s", "uniform": "^", "top2": "D", "ground_truth": "v", "knn": "P"}
# The same in a box of 10 × 10, as an SVG path.
SHAPES = {
    "o": "M5 .5a4.5 4.5 0 1 0 0 9a4.5 4.5 0 1 0 0-9Z",
    "s": "M1 1H9V9H1Z",
    "^": "M5 .6L9.8 9.2H.2Z",
    "v": "M5 9.4L.2 .8H9.8Z",
    "D": "M5 0L10 5L5 10L0 5Z",
    "P": "M3.3 .4H6.7V3.3H9.6V6.7H6.7V9.6H3.3V6.7H.4V3.3H3.3Z",
}
DASHES: tuple[tuple[float, ...], ...] = (
    (),
    (5, 2),
    (1.2, 1.6),
    (6, 2, 1.2, 2),
)  # in line widths; () is solid
DOT = (1.2, 2.0)  # one more for each further number of iterations

STYLE: Any = {
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
    "pdf.fonttype": 42,  # TrueType: conferences refuse Type 3
    "svg.hashsalt": "gpsweep",
}


@dataclass(frozen=True)
class Look:
    """What all panels of a report share.

    Args:
        score: the score's name with its unit.
        layer_scale: what ε is relative to at an inner layer, ``rms`` or ``absolute``; see :func:`unit`.
        colours: label → colour.
        iterations: every number of iterations, ascending.
    """

    score: str
    layer_scale: str
    colours: dict[str, str]
    iterations: list[int]

    def dashes(self, iterations: int) -> Any:
        """Return matplotlib's line style for a number of iterations: solid for the most, then shorter."""
        return 0, self._dashes(iterations) or None

    def dasharray(self, iterations: int) -> str:
        """Return the same as an SVG stroke-dasharray for a line two units wide."""
        return " ".join(f"{2 * length:g}" for length in self._dashes(iterations)) or "none"

    def _dashes(self, iterations: int) -> tuple[float, ...]:
        rank = self.iterations[::-1].index(iterations)
        more = rank + 1 - len(DASHES)
        return DASHES[-1] + more * DOT if more > 0 else DASHES[rank]


def look(findings: Findings) -> Look:
    """Choose names, colours and line styles for a run's curves."""
    outcome, rows = findings.outcome, findings.rows
    return Look(
        score="mean IoU (%)" if is_segmentation(outcome.task) else "top-1 accuracy (%)",
        layer_scale=str(outcome.info.get("layer_scale", "rms")),
        colours=colours(rows["label"]),
        iterations=sorted(set(rows["iterations"])),
    )


def colours(labels: Iterable[str]) -> dict[str, str]:
    """Return a colour for each label, in their order."""
    every = list(dict.fromkeys(labels))
    spare = iter(SPARE * (1 + len(every)))
    return {label: COLOURS.get(label) or next(spare) for label in every}


def unit(layer: str, layer_scale: str) -> str:
    """Return the unit of ε at a layer."""
    if layer == "input":
        return "grey levels"
    return "relative to the activation’s RMS" if layer_scale == "rms" else "units of the activation"


def times_text(iterations: int) -> str:
    """Write a number of iterations."""
    return "1 iteration" if iterations == 1 else f"{iterations} iterations"


def folded(name: str, longest: int) -> str:
    r"""Break a long name between its parts, and a part that is too long for a line at a dot if it can be.

    >>> folded("layer a.b · step rms", 12), folded("encoder.layer1.conv", 16)
    ('layer a.b\nstep rms', 'encoder.layer1.\nconv')
    """
    lines = [""]
    for part in name.split(" · "):
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(joined) <= longest:
            lines[-1] = joined
        else:
            broken = wrap(part.replace(".", ". "), longest, break_on_hyphens=False)
            lines += [line.replace(". ", ".") for line in broken]
    return "\n".join(line for line in lines if line)


def cleared(axes: Axes) -> None:
    """Leave of axes what a curve needs: the lines on the left and below, and a pale grid of heights."""
    axes.set_facecolor("none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


@contextmanager
def styled() -> Iterator[None]:
    """Draw in our style inside a ``with``; what was set before returns after it."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield
