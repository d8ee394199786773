"""One batch → the counts of the points asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from gpsweep.data.batch import Batch
from gpsweep.engine import curve
from gpsweep.errors import GpsweepError, listing
from gpsweep.passes import Memo
from gpsweep.points import AXES, Point, cover
from gpsweep.sparse import Counts
from gpsweep.store.chunk import Chunk
from gpsweep.tally import Tally


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
        options: further arguments of :func:`gpsweep.engine.curve`.
        memo: what is known of the network.
        on_point: called after every point.
        device: what computes, in words.

    Returns:
        the counts of the points, in their order.

    Raises:
        GpsweepError: where logits are not finite, naming the batch and its samples.
    """
    memo = memo or Memo()
    x, ids = _filled(net, batch), batch["ids"]
    place = {point: row for row, point in enumerate(points)}
    found: list[Tensor | None] = [None] * len(points)
    base: Tensor | None = None
    tally: Tally | None = None
    finite: list[tuple[Point, Tensor]] = []
    kind = torch.int8 if batch["target"].dim() == 1 else torch.int32
    stamps = _Stamps(x.device)
    spans: list[Point | None] = []
    for grid in cover(points):
        # The clean prediction is wanted in any case, and comes at no cost.
        axes: dict[str, Any] = {axis: list(getattr(grid, axis)) for axis in AXES}
        axes["eps"] = list(dict.fromkeys((0.0, *grid.eps)))
        known: dict[str, Any] = {"target": batch["target"], "sample_ids": ids, "valid": batch["valid"]}
        for point, logits in curve(net, x, memo=memo, **axes, **known, **(options or {})):
            counted = base
            if point.eps != 0 or counted is None:
                tally = tally or Tally(batch["target"], classes=classes, channels=logits.shape[1])
                finite.append((point, _sums(logits).isfinite()))
                # max takes the same class as argmax, in less time.
                counted = tally(logits.max(1).indices).to(kind)
            if point.eps == 0:
                base = counted
            row = place.get(point)
            stamps.mark()
            spans.append(None if point.eps == 0 else point)
            if row is not None:
                found[row] = counted
                (on_point or _nothing)()
    _check_finite(finite, number, ids)
    assert base is not None
    seconds = dict.fromkeys(points, 0.0)
    shared = 0.0
    for point_or_none, second in zip(spans, stamps.seconds(), strict=True):
        if point_or_none in seconds:
            seconds[point_or_none] += second
        else:
            shared += second
    dense = torch.stack([rows for rows in found if rows is not None]).cpu().numpy()
    return Chunk(
        batch=number,
        ids=list(ids),
        points=list(points),
        counts=Counts.of(dense),
        base=base.cpu().numpy(),
        seconds=list(seconds.values()),
        shared=shared,
        content=batch["content"],
        device=device,
        points_per_forward=memo.points_per_forward or 1,
    )


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


def _nothing() -> None:
    pass


def _filled(net: nn.Module, batch: Batch) -> Tensor:
    """Give padding the colour that the network sees as zero."""
    x, valid = batch["image"], batch["valid"]
    fill = getattr(net, "fill", None)
    if valid is None or fill is None:
        return x
    return torch.where(valid.unsqueeze(1), x, fill.view(1, -1, 1, 1))


def _sums(logits: Tensor) -> Tensor:
    # A sum is cheaper than asking every element, and not finite if one of them is not.
    return logits.sum(tuple(range(1, logits.dim())), dtype=torch.float32)


def _check_finite(found: Sequence[tuple[Point, Tensor]], number: int, ids: Sequence[str]) -> None:
    whole = torch.stack([finite for _, finite in found]).cpu()
    for (point, _), finite in zip(found, whole, strict=True):
        if not finite.all():
            broken = [name for name, good in zip(ids, finite.tolist(), strict=True) if not good]
            setting = " ".join(f"{key}={value}" for key, value in point.asdict().items())
            raise GpsweepError(
                f"logits: expected finite numbers, came NaN or infinity in batch {number} at {setting}; "
                f"samples: {listing(broken)}"
            )
