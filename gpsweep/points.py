"""Points, curves and grids: what a run evaluates, with exact decimals and no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from typing import Any, TypeVar

from gpsweep.errors import GpsweepError, unknown

AXES = ("label", "signal", "layer", "step", "iterations", "refine", "eps")
ORACLE = "ground_truth"  # the label that sees the answers: a bound, never a gain
LABELS = ("argmax", "random_onehot", "uniform", "top2", ORACLE)
GUIDES = ("knn",)  # labels that are more than a distribution made of the prediction
SIGNALS = ("eq5", "cross_entropy", "likelihood")
STEPS = ("sign", "rms")
REFINES = ("none", "flip", "multiscale", "crf")

T = TypeVar("T")

# Finer than any sweep, and coarse enough to make 0 of the 5.6e-17 and -0.8 of the -0.7999999999999999 that
# float ranges produce.
DIGITS = 12
SMALLEST = 1e-12

# More of them is a slip of the keyboard, which would end in want of time or memory and without a word.
MOST = 1_000_000  # points of a grid
LONGEST = 10_000  # values of a range


@dataclass(frozen=True, order=True)
class Point:
    """One setting of the perturbation.

    Args:
        label: label strategy, a name of :data:`LABELS` or of a guide.
        signal: error signal at the logits, a name of :data:`SIGNALS`.
        layer: ``input``, a module path of the network or an alias of the model.
        step: ``sign`` or ``rms``.
        iterations: how often the three steps are repeated, ≥ 1.
        refine: what is made of the softmax, a name of :data:`REFINES`.
        eps: step length; grey levels at the input, see ``layer_scale`` for inner layers.
    """

    label: str = "argmax"
    signal: str = "eq5"
    layer: str = "input"
    step: str = "sign"
    iterations: int = 1
    refine: str = "none"
    eps: float = 0.0

    def curve(self) -> Point:
        """Return the point that stands for this point's curve: the same setting with ε = 0."""
        return replace(self, eps=0.0)

    def asdict(self) -> dict[str, Any]:
        """Return the setting as a plain dictionary, keys in the order of :data:`AXES`."""
        return asdict(self)


@dataclass(frozen=True)
class Grid:
    """All points of one run; the axes multiply. Build one with :func:`grid`, which says what each holds."""

    label: tuple[str, ...]
    signal: tuple[str, ...]
    layer: tuple[str, ...]
    step: tuple[str, ...]
    iterations: tuple[int, ...]
    refine: tuple[str, ...]
    eps: tuple[float, ...]

    def curves(self) -> list[Point]:
        """Return one point with ε = 0 per curve, in the order in which curves are computed."""
        return [
            Point(label, signal, layer, step, count, refine)
            for label in self.label
            for signal in self.signal
            for layer in self.layer
            for step in self.step
            for count in self.iterations
            for refine in self.refine
        ]

    def points(self) -> list[Point]:
        """Return every point, curve by curve, ε in the order given."""
        return [replace(curve, eps=eps) for curve in self.curves() for eps in self.eps]

    def __len__(self) -> int:
        return math.prod(len(getattr(self, axis)) for axis in AXES)


def columns(points: Sequence[Point]) -> dict[str, list[Any]]:
    """Return points as columns, one an axis."""
    return {axis: [getattr(point, axis) for point in points] for axis in AXES}


def from_columns(values: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Return the points that :func:`columns` took apart."""
    return [Point(*setting) for setting in zip(*(values[axis] for axis in AXES), strict=True)]


def cover(points: Iterable[Point]) -> list[Grid]:
    """Return few grids that together hold exactly the given points, each once.

    What a run still has to compute is seldom one grid: more ε for the labels of before, all ε for a new one.

    >>> [len(grid) for grid in cover([Point("argmax", eps=1), Point("top2", eps=1), Point("top2", eps=2)])]
    [1, 2]
    """
    curves: dict[Point, list[float]] = {}
    for point in points:
        curves.setdefault(point.curve(), []).append(point.eps)
    boxes: list[tuple[tuple[Any, ...], ...]] = [
        (*((getattr(curve, axis),) for axis in AXES[:-1]), tuple(eps)) for curve, eps in curves.items()
    ]
    for axis in reversed(range(len(AXES) - 1)):
        merged: dict[tuple[Any, ...], list[Any]] = {}
        for box in boxes:
            merged.setdefault((box[:axis], box[axis + 1 :]), []).extend(box[axis])
        boxes = [(*before, tuple(values), *after) for (before, after), values in merged.items()]
    return [Grid(*box) for box in boxes]


def decimal_range(start: float, stop: float, step: float) -> list[float]:
    """Return start, start+step, … below stop (above it for a negative step) as exact decimals.

    >>> decimal_range(-1, 1, 0.5)
    [-1.0, -0.5, 0.0, 0.5]

    Args:
        start: the first value.
        stop: the end, which is left out.
        step: from one value to the next, of either sign.

    Raises:
        GpsweepError: if ``step`` is zero, a bound is not finite, or there are more than :data:`LONGEST`.
    """
    if not all(math.isfinite(v) for v in (start, stop, step)):
        raise GpsweepError(f"range({start},{stop},{step}): expected finite bounds and step")
    first, last, by = (Decimal(str(v)) for v in (start, stop, step))
    if by == 0:
        raise GpsweepError(f"range({start},{stop},{step}): the step must not be 0")
    count = max(0, math.ceil((last - first) / by))
    if count > LONGEST:
        raise GpsweepError(f"range({start},{stop},{step}): expected at most {LONGEST} values, came {count}")
    return [float(first + i * by) + 0.0 for i in range(count)]


def grid(
    *,
    label: Any = "argmax",
    signal: Any = "eq5",
    layer: Any = "input",
    step: Any = "sign",
    iterations: Any = 1,
    refine: Any = "none",
    eps: Any = 0.0,
    labels: Iterable[str] = LABELS,
) -> Grid:
    """Check the axes, each a value or a list, and make a grid of them.

    Doubles are dropped; the first occurrence keeps its place.

    Args:
        label: names out of ``labels``.
        signal: names of :data:`SIGNALS`.
        layer: ``input``, module paths or aliases; whether a network has them is not known here.
        step: names of :data:`STEPS`.
        iterations: whole numbers ≥ 1. The trajectory of 3 passes through 1 and 2, so the grid has all three.
        refine: names of :data:`REFINES`; ``none`` alone with a label of :data:`GUIDES`.
        eps: finite numbers, kept to :data:`DIGITS` digits; below :data:`SMALLEST` they are 0.
        labels: the valid label names; guides (:mod:`gpsweep.engine`) add theirs.

    Returns:
        The grid, each axis a tuple in the order given; ``len`` of it is the number of points.

    Raises:
        GpsweepError: naming the axis, for an empty list, an unknown name, a number that is none, or a guide
            with a refinement; for more than :data:`MOST` points.
    """
    most = max(_count(v) for v in _values("iterations", iterations))
    made = Grid(
        label=_names("label", label, tuple(labels)),
        signal=_names("signal", signal, SIGNALS),
        layer=_names("layer", layer, None),
        step=_names("step", step, STEPS),
        iterations=tuple(range(1, min(most, MOST) + 1)),
        refine=_names("refine", refine, REFINES),
        eps=_unique([_eps(v) for v in _values("eps", eps)]),
    )
    count = most * math.prod(len(getattr(made, axis)) for axis in AXES if axis != "iterations")
    if count > MOST:
        raise GpsweepError(f"iterations={most}, eps, label, …: expected at most {MOST} points, came {count}")
    guides = [name for name in made.label if name in GUIDES]
    if guides and made.refine != ("none",):
        raise GpsweepError(
            f"refine={','.join(made.refine)}: expected none with label={guides[0]}, "
            "whose directions are made for the images as they are"
        )
    return made


def _values(key: str, value: Any) -> list[Any]:
    if getattr(value, "ndim", None) == 0:  # a number of NumPy's or torch's
        return [value.item()]
    if isinstance(value, Mapping):
        raise GpsweepError(f"{key}={value}: expected a value or a list of values, came a dict")
    if isinstance(value, str) or not isinstance(value, Iterable):
        return [value]
    values = [inner for item in value for inner in _values(key, item)]
    if not values:
        raise GpsweepError(f"{key}=[]: expected a value or a list of values, came an empty list")
    return values


def _unique(values: Sequence[T]) -> tuple[T, ...]:
    return tuple(dict.fromkeys(values))


def _names(key: str, value: Any, choices: tuple[str, ...] | None) -> tuple[str, ...]:
    names = _unique([str(v) for v in _values(key, value)])
    for name in names:
        if choices is not None and name not in choices:
            raise unknown(key, name, choices)
        if not name or name == "None":
            raise GpsweepError(f"{key}={name}: expected a name, came nothing")
    return names


def _eps(value: Any) -> float:
    number = _number("eps", value)
    if not math.isfinite(number):
        raise GpsweepError(f"eps={value}: expected a finite number or a list of them, came {value}")
    return float(f"{number:.{DIGITS}g}") if abs(number) >= SMALLEST else 0.0


def _count(value: Any) -> int:
    number = _number("iterations", value)
    if not math.isfinite(number) or number != int(number) or number < 1:
        raise GpsweepError(f"iterations={value}: expected a whole number of at least 1, came {value}")
    return int(number)


def _number(key: str, value: Any) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise GpsweepError(f"{key}={value}: expected a number or a list of numbers, came {value!r}") from None
