"""From predictions to counts: true positives, false positives and false negatives per image and class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gpsweep.errors import GpsweepError


class Tally:
    """Counts the predictions for one batch whose truth does not change from point to point.

    A prediction in a channel beyond the data's classes (a network's own void) is a false negative of the true
    class and forms no class of its own. Void pixels, those with a target outside 0 … C−1, count nowhere.

    Args:
        target: classes ``(N, H, W)`` or ``(N,)``.
        classes: how many classes the data has, C.
        channels: how many the network has, at least C.

    Raises:
        GpsweepError: if the network has fewer channels than the data has classes.
    """

    def __init__(self, target: Tensor, *, classes: int, channels: int) -> None:
        if channels < classes:
            raise GpsweepError(
                f"model.classes: expected at least the data's {classes} classes, the network gives {channels}"
            )
        self.target, self.classes, self.channels = target, classes, channels
        self.known = (target >= 0) & (target < classes)
        image = torch.arange(len(target), device=target.device).view(-1, *[1] * (target.dim() - 1))
        # One bin per image, true class and predicted channel, so that a prediction needs one addition and
        # one histogram; void pixels fall into the bins behind the last image's.
        row = torch.where(self.known, image * classes + target, len(target) * classes)
        self.first_bin = (row * channels).flatten()
        self.one = torch.ones((), dtype=torch.long, device=target.device)

    def __call__(self, predicted: Tensor) -> Tensor:
        """Count one prediction.

        Args:
            predicted: channels ``(N, H, W)`` or ``(N,)``, of the target's shape.

        Returns:
            int64 ``(N, C, 3)``: tp, fp, fn.

        Raises:
            GpsweepError: if the prediction has another shape than the target.
        """
        if predicted.shape != self.target.shape:
            raise GpsweepError(
                f"model: expected predictions of the target's shape {tuple(self.target.shape)}, "
                f"came {tuple(predicted.shape)}"
            )
        if predicted.dim() == 1:
            return self._single(predicted)
        bins = self.first_bin + predicted.flatten()
        joint = self.first_bin.new_zeros((len(self.target) * self.classes + 1) * self.channels)
        joint.scatter_add_(0, bins, self.one.expand_as(bins))
        joint = joint[: -self.channels].view(-1, self.classes, self.channels)
        tp = joint.diagonal(dim1=1, dim2=2)
        return torch.stack([tp, joint[..., : self.classes].sum(1) - tp, joint.sum(2) - tp], dim=-1)

    def _single(self, predicted: Tensor) -> Tensor:
        """Count one class per image, without a bin for each pair of many classes."""
        truth = one_hot(self.target.where(self.known, 0), self.classes) * self.known.unsqueeze(1)
        claim = one_hot(predicted, self.channels)[:, : self.classes] * self.known.unsqueeze(1)
        tp = truth * claim
        return torch.stack([tp, claim - tp, truth - tp], dim=-1)
