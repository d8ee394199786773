"""The LightningModule: batch → what is kept of it, for ``Trainer.test``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from gpsweep.data.batch import Batch
from gpsweep.errors import GpsweepError
from gpsweep.failures import failures_named
from gpsweep.interrupts import Interrupts
from gpsweep.lightning import LightningModule
from gpsweep.points import Point


@dataclass(frozen=True)
class Task:
    """A batch of the data and the points that are to be computed on it."""

    batch: int
    points: list[Point]


class GridModule(LightningModule):
    """Computes points on batches and hands on what comes of every batch as soon as it is done.

    Args:
        net: network in pixel space, see :class:`gpsweep.models.pixels.PixelNet`; it comes to the device.
        tasks: what is to be done, by all devices together.
        loader: makes the loader of batches, from their numbers.
        evaluate: makes what is kept of a batch and points, as :func:`gpsweep.counting.count` does; it is told
            the batch's ``number``, and what to call after every point as ``on_point``.
        keep: is given what comes of every batch.
        interrupts: signals that may end the run.
        on_point: called after every point, for a progress bar.
        on_batch: called after every batch.
    """

    def __init__(
        self,
        net: nn.Module,
        tasks: Sequence[Task],
        *,
        loader: Callable[[Sequence[int]], Any],
        evaluate: Callable[..., Any],
        keep: Callable[[Any], object],
        interrupts: Interrupts,
        on_point: Callable[[], None],
        on_batch: Callable[[], None],
    ) -> None:
        super().__init__()
        # Fewer batches than devices leave some without any.
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.net, self.tasks = net, list(tasks)
        self.loader, self.evaluate, self.keep = loader, evaluate, keep
        self.interrupts, self.on_point, self.on_batch = interrupts, on_point, on_batch
        self.padded = False  # whether it was said

    def test_dataloader(self) -> Any:
        """Return this process's batches: every n-th of what was missing when the first process looked."""
        tasks = self.trainer.strategy.broadcast(self.tasks)
        self.tasks = tasks[self.global_rank :: self.trainer.world_size]
        return self.loader([task.batch for task in self.tasks])

    def on_test_start(self) -> None:
        """Take the signals over from Lightning, which would end the run within a batch."""
        self.interrupts.listen()

    def test_step(self, batch: Batch | GpsweepError, batch_idx: int) -> None:
        """Evaluate the points that are missing on one batch, and the base.

        Args:
            batch: the batch, or what is wrong with it.
            batch_idx: its place among those of this process.

        Raises:
            GpsweepError: if it cannot be read, evaluated or kept, or a process is lost.
            StoppedRun: if a signal asked for it.
        """
        if isinstance(batch, GpsweepError):
            raise batch
        self._say_padded(batch)
        task = self.tasks[batch_idx]
        with failures_named(batch, f"in batch {task.batch}", net=self.net):
            found = self.evaluate(batch, task.points, number=task.batch, on_point=self._point_done)
        self.keep(found)
        self.on_batch()
        self.interrupts.at_batch()

    def teardown(self, stage: str) -> None:
        """Wait for the other processes, whose counts the first one is about to read."""
        self.trainer.strategy.barrier()

    def _say_padded(self, batch: Batch) -> None:
        """Warn once where a batch holds padding, which changes what the network makes of its images."""
        if self.padded or batch["valid"] is None:
            return
        self.padded = True
        what = "a classifier predicts" if batch["target"].dim() == 1 else "a network sees at their border"
        warnings.warn(
            "data.size: images of several sizes are padded to the largest of their batch, which changes what "
            f"{what}; set data.size, or data.batch_size=1",
            stacklevel=2,
        )

    def _point_done(self) -> None:
        self.on_point()
        self.interrupts.at_point()
