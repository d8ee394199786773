"""The LightningModule: batch → engine → counts, for ``Trainer.test``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gpsweep.data.batch import Batch
from gpsweep.engine import curve
from gpsweep.errors import GpsweepError, listing
from gpsweep.lightning import LightningModule
from gpsweep.passes import Memo
from gpsweep.points import Grid, Point
from gpsweep.tally import Tally

Counts = NDArray[Any]  # int32, or int8 where an image has one class


class GridModule(LightningModule):
    """Applies a grid to every batch and keeps the counts of every point.

    After ``Trainer.test``: :attr:`base` ``(images, classes, 3)`` and :attr:`counts`
    ``(points, images, classes, 3)`` in the order of ``grid.points()``, :attr:`ids`, and :attr:`seconds`.

    Args:
        net: network in pixel space, see :class:`gpsweep.models.pixels.PixelNet`.
        grid: the points.
        classes: how many classes the data has.
        options: further arguments of :func:`gpsweep.engine.curve`.
        on_point: called after every point, for a progress bar.
        memo: what is known of the network already.
    """

    def __init__(
        self,
        net: nn.Module,
        grid: Grid,
        *,
        classes: int,
        options: Mapping[str, Any] | None = None,
        on_point: Callable[[], None] | None = None,
        memo: Memo | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.grid = grid
        self.classes = classes
        self.options = dict(options or {})
        self.on_point = on_point or (lambda: None)
        self.memo = memo or Memo()
        self.points = grid.points()
        self.ids: list[str] = []
        self.seconds = dict.fromkeys(self.points, 0.0)
        self.shared_seconds = 0.0
        self._base: list[Counts] = []
        self._counts: dict[Point, list[Counts]] = {point: [] for point in self.points}

    @property
    def base(self) -> Counts:
        """Counts of the clean prediction, ``(images, classes, 3)``."""
        return np.concatenate(self._base)

    @property
    def counts(self) -> Counts:
        """Counts of every point, ``(points, images, classes, 3)``."""
        return np.stack([np.concatenate(self._counts[point]) for point in self.points])

    def test_step(self, batch: Batch | GpsweepError, batch_idx: int) -> None:
        """Evaluate every point of the grid, and the base, on one batch."""
        if isinstance(batch, GpsweepError):
            raise batch
        x, ids = self._filled(batch), batch["ids"]
        self.ids += ids
        tally: Tally | None = None
        base: Counts | None = None
        # The clean prediction is wanted in any case, and comes at no cost.
        eps = list(dict.fromkeys((0.0, *self.grid.eps)))
        axes: dict[str, Any] = {
            key: list(getattr(self.grid, key)) for key in ("label", "signal", "layer", "step", "iterations")
        }
        dtype = np.int8 if batch["target"].dim() == 1 else np.int32
        start = perf_counter()
        for point, logits in curve(
            self.net,
            x,
            eps,
            target=batch["target"],
            sample_ids=ids,
            valid=batch["valid"],
            memo=self.memo,
            **axes,
            **self.options,
        ):
            if point.eps != 0 or base is None:
                _check_finite(logits, point, batch_idx, ids)
                if tally is None:
                    tally = Tally(batch["target"], classes=self.classes, channels=logits.shape[1])
                # max takes the same class as argmax, in less time.
                counted = tally(logits.max(1).indices).cpu().numpy().astype(dtype)
            if point.eps == 0:
                if base is None:
                    base = counted
                    self._base.append(base)
                counted = base
            spent, start = perf_counter() - start, perf_counter()
            if point.eps == 0 or point not in self.seconds:
                self.shared_seconds += spent
            else:
                self.seconds[point] += spent
            if point in self._counts:
                self._counts[point].append(counted)
                self.on_point()

    def _filled(self, batch: Batch) -> Tensor:
        """Give padding the colour that the network sees as zero."""
        x, valid = batch["image"], batch["valid"]
        fill = getattr(self.net, "fill", None)
        if valid is None or fill is None:
            return x
        return torch.where(valid.unsqueeze(1), x, fill.view(1, -1, 1, 1))


def _check_finite(logits: Tensor, point: Point, batch_idx: int, ids: Sequence[str]) -> None:
    # A sum is cheaper than asking every element, and not finite if one of them is not.
    if torch.isfinite(logits.sum()):
        return
    broken = [name for name, own in zip(ids, logits, strict=True) if not torch.isfinite(own).all()]
    if broken:
        setting = " ".join(f"{key}={value}" for key, value in point.asdict().items())
        raise GpsweepError(
            f"logits: expected finite numbers, came NaN or infinity in batch {batch_idx} at {setting}; "
            f"samples: {listing(broken)}"
        )
