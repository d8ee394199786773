"""Plain supervised training: loss and schedule. Nothing here knows of perturbations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpsweep.augment import varied
from gpsweep.counting import filled
from gpsweep.data.base import VOID, Sample
from gpsweep.data.batch import Batch, padded
from gpsweep.engine import MemoryFormat, formatted
from gpsweep.errors import GpsweepError
from gpsweep.failures import failures_named
from gpsweep.lightning import LightningModule
from gpsweep.precision import Precision, computing, fastest, widened
from gpsweep.recipe import Augment
from gpsweep.tally import Tally

TRAINING = "in training"


class Lesson(TypedDict):
    """Samples to learn from: what it names of a :class:`gpsweep.data.batch.Batch`."""

    image: Tensor
    target: Tensor
    ids: list[str]


def lesson(samples: Sequence[Sample]) -> Lesson:
    """Put samples together; what a run needs to know of them besides takes time at every step."""
    image, target, _ = padded(samples)
    return Lesson(image=image, target=target, ids=[sample["id"] for sample in samples])


class TrainingModule(LightningModule):
    """Cross-entropy, AdamW and one cycle of the learning rate; counts on what it is tested on.

    After ``Trainer.fit``: :attr:`precision`, the one it trained in. After ``Trainer.test``: :attr:`totals`,
    int64 ``(classes, 3)``.

    Args:
        net: network in pixel space, its weights to be trained.
        classes: how many classes the data has.
        augment: what varies the training images.
        rate: AdamW's highest learning rate.
        decay: AdamW's weight decay.
        autocast: ``bf16``: forward and backward passes in training are in bfloat16; weights, loss and test
            stay in 32 bits. ``auto``: where the device has instructions for it. ``none``: never.
        memory_format: that of the network's weights, and of the images it is given.
        class_weights: ``(C,)``, one weight a channel of the logits, or None for the same for all.
    """

    at_hand: Lesson
    class_weights: Tensor | None

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int,
        augment: Augment,
        rate: float,
        decay: float,
        autocast: Literal["none", "bf16", "auto"] = "none",
        memory_format: MemoryFormat = "channels_last",
        class_weights: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.classes = classes
        self.augment = augment
        self.rate = rate
        self.decay = decay
        self.autocast = autocast
        self.memory_format: MemoryFormat = memory_format
        self.precision: Precision = "32"
        self.totals = torch.zeros(classes, 3, dtype=torch.int64)
        self.register_buffer("class_weights", class_weights, persistent=False)

    def on_fit_start(self) -> None:
        """Choose the precision, now that the device is known."""
        choices: dict[str, Precision] = {"none": "32", "bf16": "bf16", "auto": fastest(self.device)}
        self.precision = choices[self.autocast]

    def training_step(self, batch: Lesson, batch_idx: int) -> Tensor | None:
        """Loss of one batch; void is ignored, and a batch that is nothing else teaches nothing.

        Raises:
            GpsweepError: if the network fails, or the loss is no number.
        """
        image, target = varied(self.augment, batch["image"], batch["target"])
        if bool((target == VOID).all()):
            return None
        self.at_hand = Lesson(image=image, target=target, ids=batch["ids"])
        with failures_named(self.at_hand, TRAINING), computing(self.precision, image.device, "autocast"):
            logits = widened(self.net(formatted(image, self.memory_format)))
        loss = F.cross_entropy(logits, target, weight=self.class_weights, ignore_index=VOID)
        if not torch.isfinite(loss):
            raise GpsweepError(
                f"rate={self.rate}: the training diverged in epoch {self.current_epoch}; lower it"
            )
        self.log("loss", loss.detach(), prog_bar=True)
        return loss

    def backward(self, loss: Tensor, *args: Any, **options: Any) -> None:
        """Compute the gradient.

        Raises:
            GpsweepError: if the network fails.
        """
        with failures_named(self.at_hand, TRAINING):
            super().backward(loss, *args, **options)

    def test_step(self, batch: Batch | GpsweepError, batch_idx: int) -> None:
        """Count the predictions for one batch.

        Raises:
            GpsweepError: if the batch cannot be read, the network fails, or the logits are no numbers.
        """
        if isinstance(batch, GpsweepError):
            raise batch
        with failures_named(batch, f"on held-out batch {batch_idx}"):
            logits = self.net(formatted(filled(self.net, batch), self.memory_format))
        if not torch.isfinite(logits.sum()):  # of the weights that the last step left there is no loss
            raise GpsweepError(f"rate={self.rate}: the training diverged in its last step; lower it")
        tally = Tally(batch["target"], classes=self.classes, channels=logits.shape[1])
        self.totals += tally.of(logits).sum(0).cpu()

    def configure_optimizers(self) -> Any:
        """AdamW, its rate rising and falling once over the whole training."""
        weights = self.net.parameters()
        optimiser = torch.optim.AdamW(weights, lr=self.rate, weight_decay=self.decay, fused=True)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.rate, total_steps=max(steps, 2))
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def class_weights(targets: Sequence[Tensor], channels: int, balance: float) -> Tensor | None:
    """Weights that make up for rare classes: frequency to the power of −balance, 1 on average over pixels.

    Args:
        targets: masks or classes; void is not counted.
        channels: of the logits, C.
        balance: 0: none; 1: every class counts the same.

    Returns:
        ``(C,)``, or None for ``balance`` 0.

    Raises:
        GpsweepError: if there is nothing but void.
    """
    if balance == 0:
        return None
    counts = sum(torch.bincount(one[one != VOID].flatten(), minlength=channels) for one in targets)
    assert isinstance(counts, Tensor)
    if not counts.any():
        raise GpsweepError("train: all masks are void throughout; there is nothing to learn")
    share = counts / counts.sum()
    weights = share.clamp(min=1e-6) ** -balance
    return weights / (weights * share).sum()
