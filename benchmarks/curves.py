"""The engine against its floor and against the naive loop, on one network after the other (a–d)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks import networks
from benchmarks.clock import Spread, ratios, seconds, side_by_side
from benchmarks.floor import floor, naive
from benchmarks.networks import Bare, Network
from benchmarks.table import Row
from gpsweep.counting import count
from gpsweep.memo import Memo
from gpsweep.passes import Passes
from gpsweep.points import Grid, decimal_range, grid
from gpsweep.walk import Walk

FLOOR, NAIVE, NAIVE_DEAR, NAIVE_GRID, BOOKKEEPING = 1.10, 2.5, 4.0, 5.0, 0.05
LABELS = ("argmax", "random_onehot", "uniform", "top2")


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Args:
        eps: of a curve, 0 among them.
        repeats: of each measurement; of many curves, which take long, a quarter of them.
        sampled: at how many ε the naive loop is measured; all its points cost the same, so that the others
            are extrapolated.
    """

    eps: tuple[float, ...] = tuple(decimal_range(-1, 1.05, 0.05))
    repeats: int = 11
    sampled: int = 4


QUICK = Effort(eps=(-0.5, 0.0, 0.5, 1.0), repeats=2, sampled=2)


class Bench:
    """One network, ready to be measured."""

    def __init__(self, network: Network, effort: Effort) -> None:
        self.network, self.effort = network, effort
        self.net, self.batch = network.build(), network.batch()
        self.other = networks.contiguous(self.net)
        self.x = self.batch["image"]
        self.rows = self.x.contiguous(memory_format=torch.channels_last)

    def fused(self, points: Grid) -> Callable[[], object]:
        """Return the work of one batch, the network examined beforehand as a run does it."""
        memo = Memo()

        def work(some: Grid) -> object:
            # Without gradients around it, as Trainer.test has it.
            with torch.no_grad():
                return count(self.net, self.batch, some.points(), classes=self.network.classes, memo=memo)

        work(grid(layer=points.layer))
        return lambda: work(points)

    def naively(self, points: Grid, *, channels_last: bool = True) -> Callable[[], object]:
        """Return the work of the naive loop at a few of its ε."""
        moving = [eps for eps in points.eps if eps != 0][: self.effort.sampled]
        some = grid(label=points.label, layer=points.layer, eps=moving).points()
        net, x = (self.net, self.rows) if channels_last else (self.other, self.x)
        return lambda: list(naive(net, x, some, self.batch["ids"]))

    def floors(self) -> dict[str, Callable[[int], object]]:
        """Return the floor in either memory format, as a function of how many points there are."""
        x = self.net.preprocess(self.x).contiguous()
        rows = x.contiguous(memory_format=torch.channels_last)
        return {
            "channels_last": lambda points: floor(Bare(self.net), rows, points),
            "contiguous": lambda points: floor(Bare(self.other), x, points),
        }

    def shares(self, points: Grid) -> tuple[float, float]:
        """Return what share of the time passes outside the network's passes, and what of it is no arithmetic.

        The method's arithmetic is softmax, labels, signals, directions and moving the layer.
        """
        work = self.fused(points)
        with (
            timed(self.net, "forward") as forward,
            timed(torch.autograd, "grad") as backward,
            timed(Tensor, "softmax") as softmax,
            timed(Walk, "pulled") as pulled,
            timed(Walk, "direction") as directions,
            timed(Passes, "moved") as moved,
        ):
            total = seconds(work)
        outside = total - sum(forward) - sum(backward)
        arithmetic = sum(softmax) + sum(pulled) - sum(backward) + sum(directions) + sum(moved)
        return outside / total, (outside - arithmetic) / total


def measure(network: Network, effort: Effort) -> Iterator[Row]:
    """Measure (a) to (d) on one network."""
    bench = Bench(network, effort)
    points = grid(eps=effort.eps)
    yield from one_curve(bench, points)
    yield from bookkeeping(bench, points)
    for layers, what in ((network.layers, "input and 3 inner layers"), (network.spread, "4 inner layers")):
        yield many_curves(bench, grid(label=LABELS, layer=layers, eps=effort.eps), what)


def one_curve(bench: Bench, points: Grid) -> Iterator[Row]:
    """Compare the input curve with its floor (a) and with the naive loop in both memory formats (b)."""
    floors = bench.floors()
    short = {name: (lambda work=work: work(4)) for name, work in floors.items()}
    side_by_side(short, 1)  # the first passes of a process are slow
    both = {name: min(times) for name, times in side_by_side(short, 3).items()}
    fastest = min(both, key=lambda name: both[name])
    times = side_by_side(
        {
            "curve": bench.fused(points),
            "floor": lambda: floors[fastest](len(points)),
            "naive": bench.naively(points),
            "naive_contiguous": bench.naively(points, channels_last=False),
        },
        bench.effort.repeats,
    )
    sampled = min(bench.effort.sampled, len(points) - 1)
    for name in ("naive", "naive_contiguous"):
        times[name] = [time * len(points) / sampled for time in times[name]]
    details = medians(times) | {"floor_in": fastest, "points": len(points), "naive_points_measured": sampled}
    title = bench.network.title
    over = Spread.of(ratios(times["curve"], times["floor"]))
    yield Row("a", title, "input curve ÷ floor", over, "×", at_most=FLOOR, details=details)
    bound = NAIVE_DEAR if bench.network.dear else NAIVE
    faster = Spread.of(ratios(times["naive"], times["curve"]))
    yield Row("b", title, "naive loop ÷ input curve", faster, "×", at_least=bound, details=details)
    faster = Spread.of(ratios(times["naive_contiguous"], times["curve"]))
    yield Row("b", title, "contiguous naive loop ÷ input curve", faster, "×", details=details)


def many_curves(bench: Bench, points: Grid, what: str) -> Row:
    """Compare labels × layers × ε with the naive loop (c); ``what`` says which layers they are."""
    loops = {"grid": bench.fused(points), "naive": bench.naively(points)}
    times = side_by_side(loops, -(-bench.effort.repeats // 4))
    sampled = min(bench.effort.sampled, len(points.eps) - 1)
    times["naive"] = [time * len(points.eps) / sampled for time in times["naive"]]
    details = medians(times) | {
        "points": len(points),
        "layers": list(points.layer),
        "naive_points_measured": sampled * len(points.curves()),
    }
    faster = Spread.of(ratios(times["naive"], times["grid"]))
    quantity = f"naive loop ÷ {len(points.label)} labels × {what}"
    return Row("c", bench.network.title, quantity, faster, "×", at_least=NAIVE_GRID, details=details)


def bookkeeping(bench: Bench, points: Grid) -> Iterator[Row]:
    """Measure what counting, checks and calls take of a curve (d), and beside it all outside the network."""
    shares = zip(*[bench.shares(points) for _ in range(bench.effort.repeats)], strict=True)
    outside, own = (Spread.of(values) for values in shares)
    title = bench.network.title
    yield Row("d", title, "share of counting and bookkeeping", own, "%", at_most=BOOKKEEPING)
    yield Row("d", title, "the same with labels, signals and steps", outside, "%")


def medians(times: dict[str, list[float]]) -> dict[str, Any]:
    """Return the median seconds of each loop."""
    return {f"{name}_s": Spread.of(values).median for name, values in times.items()}


@contextmanager
def timed(owner: Any, name: str) -> Iterator[list[float]]:
    """Collect the seconds that each call of an owner's function takes."""
    taken: list[float] = []
    function = getattr(owner, name)

    def run(*args: Any, **kwargs: Any) -> Any:
        start = perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            taken.append(perf_counter() - start)

    with patch.object(owner, name, run):
        yield taken
