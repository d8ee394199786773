"""From predictions to counts: true positives, false positives and false negatives per image and class."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from gpsweep.errors import GpsweepError
from gpsweep.labels import likeliest


def meanings(class_map: Sequence[int], *, classes: int, none: int) -> Tensor:
    """Return the class of the data that each channel of a network stands for, ``(channels,)``.

    Args:
        class_map: as the configuration has it.
        classes: how many classes the data has; numbers outside 0 … C−1 are no class of it.
        none: what stands for those.
    """
    numbers = torch.tensor(class_map)
    return numbers.where((numbers >= 0) & (numbers < classes), none)


class Tally:
    """Counts the predictions for one batch whose truth does not change from point to point.

    A prediction in a channel beyond the data's classes (a network's own void) is a false negative of the true
    class and forms no class of its own. Void pixels, those with a target outside 0 … C−1, count nowhere.

    Args:
        target: classes ``(N, H, W)`` or ``(N,)``.
        classes: how many classes the data has, C.
        channels: how many the network has, at least C where there is no ``class_map``.
        class_map: the class of the data that each channel stands for; one outside 0 … C−1 is none, and
            predicting it is an error of the true class. None: channel c stands for class c.

    Raises:
        GpsweepError: if the network has fewer channels than the data has classes, or other than are mapped.
    """

    def __init__(
        self, target: Tensor, *, classes: int, channels: int, class_map: Sequence[int] | None = None
    ) -> None:
        self.lookup: Tensor | None = None
        if class_map is not None:
            if channels != len(class_map):
                raise GpsweepError(
                    f"model.class_map: expected a class of the data for each of the network's {channels} "
                    f"channels, came {len(class_map)}"
                )
            # One channel more than there are classes, for what is none of them.
            self.lookup = meanings(class_map, classes=classes, none=classes).to(target.device)
            channels = classes + 1
        if channels < classes:
            raise GpsweepError(
                f"model.classes: expected at least the data's {classes} classes, the network gives {channels}"
            )
        self.target, self.classes, self.channels = target, classes, channels
        self.meanings = torch.arange(channels) if self.lookup is None else self.lookup
        self.known = (target >= 0) & (target < classes)
        image = torch.arange(len(target), device=target.device).view(-1, *[1] * (target.dim() - 1))
        # One bin per image, true class and predicted channel, so that a prediction needs one addition and
        # one histogram; void pixels fall into the bins behind the last image's.
        row = torch.where(self.known, image * classes + target, len(target) * classes)
        self.bins = (len(target) * classes + 1) * channels
        self.first_bin = (row * channels).int()

    def of(self, scores: Tensor) -> Tensor:
        """Count the prediction of the likeliest classes.

        Args:
            scores: ``(N, C, H, W)`` or ``(N, C)``, one for each channel.

        Returns:
            ``(N, C, 3)``: tp, fp, fn, int32, or int8 where an image has one class.

        Raises:
            GpsweepError: if the scores are of another size than the target, or of other channels.
        """
        quick = scores.dim() == 4 and scores.stride(1) == 1 and scores.dtype in (torch.float32, torch.float64)
        compiled = _compiled() if quick and scores.device.type == "cpu" else None
        if compiled is None:
            return self(likeliest(scores))
        self._check((len(scores), *scores.shape[2:]))
        if scores.shape[1] != len(self.meanings):  # what is compiled would write beyond its bins
            raise GpsweepError(
                f"model: expected scores of {len(self.meanings)} channels, came {scores.shape[1]}"
            )
        found: Tensor = compiled.counts(
            scores, self.first_bin, self.meanings, classes=self.classes, channels=self.channels
        )
        return found

    def __call__(self, predicted: Tensor) -> Tensor:
        """Count one prediction.

        Args:
            predicted: channels ``(N, H, W)`` or ``(N,)``, of the target's shape.

        Returns:
            ``(N, C, 3)``: tp, fp, fn, int32, or int8 where an image has one class.

        Raises:
            GpsweepError: if the prediction has another shape than the target.
        """
        self._check(tuple(predicted.shape))
        if self.lookup is not None:
            predicted = self.lookup[predicted]
        if predicted.dim() == 1:
            return self._single(predicted)
        return self._counts(self._histogram(predicted))

    def _check(self, shape: tuple[int, ...]) -> None:
        if shape != self.target.shape:
            raise GpsweepError(
                f"model: expected predictions of the target's shape {tuple(self.target.shape)}, came {shape}"
            )

    def _histogram(self, predicted: Tensor) -> Tensor:
        """Return how many pixels fall into each bin."""
        if predicted.device.type == "cpu":
            bins = predicted.to(torch.int32, copy=True).add_(self.first_bin)
            return torch.bincount(bins.flatten(), minlength=self.bins)
        # bincount would wait for a GPU at each point.
        places = (self.first_bin + predicted).flatten()
        return places.new_zeros(self.bins).scatter_add_(0, places, places.new_ones(()).expand_as(places))

    def _counts(self, joint: Tensor) -> Tensor:
        """Return tp, fp and fn from how many pixels fell into each bin."""
        joint = joint[: -self.channels].view(-1, self.classes, self.channels)
        tp = joint.diagonal(dim1=1, dim2=2)
        return torch.stack([tp, joint[..., : self.classes].sum(1) - tp, joint.sum(2) - tp], dim=-1).int()

    def _single(self, predicted: Tensor) -> Tensor:
        """Count one class per image, without a bin for each pair of many classes."""
        truth = one_hot(self.target.where(self.known, 0), self.classes) * self.known.unsqueeze(1)
        claim = one_hot(predicted, self.channels)[:, : self.classes] * self.known.unsqueeze(1)
        tp = truth * claim
        return torch.stack([tp, claim - tp, truth - tp], dim=-1).char()


@cache
def _compiled() -> Any:
    """Return what numba compiles, None where it is not installed."""
    try:
        return import_module("gpsweep.compiled")
    except ImportError:
        return None
