"""One batch → the counts of the points asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from gpsweep.counts import Counts
from gpsweep.data.batch import Batch
from gpsweep.engine import curve
from gpsweep.errors import GpsweepError, listing
from gpsweep.memo import Memo
from gpsweep.points import AXES, Grid, Point, cover
from gpsweep.refine import Refinement
from gpsweep.store.chunk import Chunk
from gpsweep.tally import Tally
from gpsweep.views import IDENTITY, View

Judge = Callable[[Tensor], Tensor]
"""Makes of a prediction's scores ``(N, C, …)`` what is kept of a point."""


def count(
    net: nn.Module,
    batch: Batch,
    points: Sequence[Point],
    *,
    classes: int,
    number: int = 0,
    options: Mapping[str, Any] | None = None,
    memo: Memo | None = None,
    on_point: Callable[[], None] | None = None,
    device: str = "",
) -> Chunk:
    """Evaluate points, and the clean prediction, on one batch.

    Args:
        net: network in pixel space, see :class:`gpsweep.models.pixels.PixelNet`.
        batch: the samples.
        points: which points.
        classes: how many classes the data has.
        number: the batch's number within the data.
        options: further arguments of :func:`gpsweep.engine.curve`, and ``refinement``, a
            :class:`gpsweep.refine.Refinement`, for points that are refined.
        memo: what is known of the network.
        on_point: called after every point.
        device: what computes, in words.

    Returns:
        the counts of the points, in their order.

    Raises:
        GpsweepError: where logits are not finite, naming the batch and its samples.
    """
    memo, tally = memo or Memo(), None

    def judge(scores: Tensor) -> Tensor:
        nonlocal tally
        if tally is None:
            class_map = (options or {}).get("class_map")
            channels = scores.shape[1]
            tally = Tally(batch["target"], classes=classes, channels=channels, class_map=class_map)
        return tally.of(scores)

    done = evaluate(
        net, batch, points, judge=judge, number=number, options=options, memo=memo, on_point=on_point
    )
    seconds, shared = done.times()
    return Chunk(
        batch=number,
        ids=list(batch["ids"]),
        points=list(points),
        counts=Counts.of(torch.stack(done.results()).cpu().numpy()),
        base=done.clean["none"].cpu().numpy(),
        seconds=seconds,
        shared=shared,
        content=batch["content"],
        device=device,
        points_per_forward=memo.points_per_forward or 1,
    )


def evaluate(
    net: nn.Module,
    batch: Batch,
    points: Sequence[Point],
    *,
    judge: Judge,
    number: int = 0,
    options: Mapping[str, Any] | None = None,
    memo: Memo | None = None,
    on_point: Callable[[], None] | None = None,
) -> Evaluation:
    """Let a judge see the predictions of points, and the clean one, on one batch.

    All arguments but ``judge`` are those of :func:`count`. What the judge, see :data:`Judge`, makes of the
    clean prediction serves every curve.

    Returns:
        what the judge made of each point, what it made of the clean prediction, and the time it all took.

    Raises:
        GpsweepError: where logits are not finite, naming the batch and its samples.
    """
    settings, memo = dict(options or {}), memo or Memo()
    refinement: Refinement = settings.pop("refinement", None) or Refinement()
    done = Evaluation(batch, points, refinement, judge=judge, on_point=on_point)
    for grid, views in done.grids():
        # The clean prediction is wanted in any case, and comes at no cost.
        axes: dict[str, Any] = {axis: list(getattr(grid, axis)) for axis in AXES if axis != "refine"}
        axes["eps"] = list(dict.fromkeys((0.0, *grid.eps)))
        walks = {}
        for view in views:
            known = memo if view == IDENTITY else refinement.memo(view)
            known.settle = memo.settle
            walks[view] = walk(net, view.of(batch), memo=known, **axes, **settings)
        done.follow(grid, walks)
    check_finite(done.sums, number, batch["ids"])
    return done


def walk(net: nn.Module, batch: Batch, **options: Any) -> Iterator[tuple[Point, Tensor]]:
    """Start on the curves of a batch, its padding filled; see :func:`gpsweep.engine.curve`."""
    known: dict[str, Any] = {"target": batch["target"], "sample_ids": batch["ids"], "valid": batch["valid"]}
    return curve(net, filled(net, batch), **known, **options)


class Evaluation:
    """What a judge makes of one batch's predictions, as its points come.

    Args:
        batch: the samples.
        points: which points.
        refinement: for points that are refined.
        judge: see :data:`Judge`.
        on_point: called after every point.

    Attributes:
        clean: what it makes of those at ε = 0, by refinement.
        sums: points, and the :func:`sums` of their logits.
    """

    def __init__(
        self,
        batch: Batch,
        points: Sequence[Point],
        refinement: Refinement,
        *,
        judge: Judge,
        on_point: Callable[[], None] | None,
    ) -> None:
        self.batch, self.refinement, self.judge, self.on_point = batch, refinement, judge, on_point
        self.points = points
        self.names: dict[Point, list[str]] = {}
        for point in points:
            self.names.setdefault(replace(point, refine="none"), []).append(point.refine)
        self.found: dict[Point, Tensor] = {}
        self.clean: dict[str, Tensor] = {}
        self.sums: list[tuple[Point, Tensor]] = []
        self.room, self.room_for_sums = Room(len(points)), Room(64)
        self.stamps = _Stamps(batch["image"].device)
        self.spans: list[Sequence[Point]] = []

    def grids(self) -> Iterator[tuple[Grid, tuple[View, ...]]]:
        """Yield few grids without refinements that hold every point, and the views each is wanted of."""
        groups: dict[tuple[View, ...], list[Point]] = {}
        for point, names in self.names.items():
            views = dict.fromkeys(view for name in names for view in self.refinement.views(name))
            groups.setdefault(tuple(views), []).append(point)
        for seen, points in groups.items():
            for grid in cover(points):
                yield grid, seen

    def follow(self, grid: Grid, walks: Mapping[View, Iterator[tuple[Point, Tensor]]]) -> None:
        """Judge what the views' curves give; they walk in step, so that each serves several refinements.

        Points come along that the grid does not have, ε = 0 and fewer iterations; another may have them.
        """
        for point, first in walks[IDENTITY]:
            asked = point.eps in grid.eps and point.iterations in grid.iterations
            names = self.names[point] if asked else []
            logits = {IDENTITY: first}
            self.passed(point, names, IDENTITY)
            for view, walk in walks.items():
                if view != IDENTITY:
                    logits[view] = next(walk)[1]
                    self.passed(point, names, view)
            self.take(point, names, logits)

    def take(self, point: Point, names: Sequence[str], logits: Mapping[View, Tensor]) -> None:
        """Judge the predictions that some refinements make of a point's logits.

        Args:
            point: the point, unrefined.
            names: the refinements that are wanted of it.
            logits: those of each view that one of them looks at.
        """
        at_base = point.eps == 0
        # What is clean is the same on every curve, and the base is wanted in any case.
        new = [n for n in dict.fromkeys(("none", *names)) if n not in self.clean] if at_base else names
        for view, z in logits.items() if new else ():
            self.sums.append((replace(point, refine=view.refine), self.room_for_sums.kept(sums(z))))
        for name, scores in self.refinement.scores(new, logits, self.batch):
            counted = self.judge(scores)
            if at_base:
                self.clean[name] = counted
                self.mark([replace(point, refine=name)] if name in names and name != "none" else [])
            else:
                self.keep(replace(point, refine=name), counted)
        for name in names if at_base else ():
            self.keep(replace(point, refine=name), self.clean[name])

    def results(self) -> list[Tensor]:
        """Return what the judge made of each point."""
        return [self.found[point] for point in self.points]

    def keep(self, point: Point, counted: Tensor) -> None:
        """Keep what was made of a point."""
        self.found[point] = self.room.kept(counted)
        self.mark([] if point.eps == 0 else [point])
        if self.on_point:
            self.on_point()

    def passed(self, point: Point, names: Sequence[str], view: View) -> None:
        """Note that a view's logits are there; with one refinement its time is not told from the rest."""
        if len(names) != 1:
            users = [replace(point, refine=n) for n in names if view in self.refinement.views(n)]
            self.mark(users if point.eps else [])

    def mark(self, points: Sequence[Point]) -> None:
        """Note the moment; the time since the last one belongs to some points in equal parts, or to all."""
        self.stamps.mark()
        self.spans.append(points)

    def times(self) -> tuple[list[float], float]:
        """Return the seconds of each point, and those that the points share."""
        own, shared = dict.fromkeys(self.points, 0.0), 0.0
        for points, second in zip(self.spans, self.stamps.seconds(), strict=True):
            for point in points:
                own[point] += second / len(points)
            shared += 0.0 if points else second
        return list(own.values()), shared


class Room:
    """Memory for tensors of one shape, taken for many of them at once.

    A small one for itself would take its place in what a large one has just left free, where the next point's
    large one then has no room: memory grew by one of them with every point.

    Args:
        size: for how many.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.free: list[Tensor] = []

    def kept(self, tensor: Tensor) -> Tensor:
        """Return a copy of a tensor."""
        if not self.free:
            self.free.extend(tensor.new_empty((self.size, *tensor.shape)))
        return self.free.pop().copy_(tensor)


class _Stamps:
    """Moments of a device's work: a GPU is behind the program, and must not be waited for at each point."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.moments: list[Any] = []
        self.mark()

    def mark(self) -> None:
        """Note the moment."""
        if self.cuda:
            self.moments.append(torch.cuda.Event(enable_timing=True))  # type: ignore[no-untyped-call]
            self.moments[-1].record()
        else:
            self.moments.append(perf_counter())

    def seconds(self) -> list[float]:
        """Return the seconds between each two moments."""
        if self.cuda:
            self.moments[-1].synchronize()
            return [start.elapsed_time(stop) / 1000 for start, stop in pairwise(self.moments)]
        return [stop - start for start, stop in pairwise(self.moments)]


def filled(net: nn.Module, batch: Batch) -> Tensor:
    """Return a batch's images ``(N, 3, H, W)``, their padding of the colour that the network sees as zero."""
    x, valid = batch["image"], batch["valid"]
    fill = getattr(net, "fill", None)
    if valid is None or fill is None:
        return x
    return torch.where(valid.unsqueeze(1), x, fill.view(1, -1, 1, 1))


def sums(logits: Tensor) -> Tensor:
    """Return the sum of each sample's logits ``(N, …)``: ``(N,)``, not finite if one of them is not."""
    return logits.sum(tuple(range(1, logits.dim())), dtype=torch.float32)


def check_finite(found: Sequence[tuple[Point, Tensor]], number: int, ids: Sequence[str]) -> None:
    """Refuse logits that are no numbers.

    Args:
        found: points, and the :func:`sums` of their logits, ``(N,)``.
        number: of the batch.
        ids: the samples'.

    Raises:
        GpsweepError: naming the batch, the first such point and its samples.
    """
    every = torch.stack([summed for _, summed in found]).isfinite().cpu()
    for (point, _), finite in zip(found, every, strict=True):
        if not finite.all():
            broken = [name for name, good in zip(ids, finite.tolist(), strict=True) if not good]
            setting = " ".join(f"{key}={value}" for key, value in point.asdict().items())
            raise GpsweepError(
                f"logits: expected finite numbers, came NaN or infinity in batch {number} at {setting}; "
                f"samples: {listing(broken)}"
            )
