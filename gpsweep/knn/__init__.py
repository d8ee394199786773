"""kNN-guided perturbation of classifiers (paper, Sec. "Image Classification").

A classifier has no context within the image; its context is the classes of the training images that are
nearest in the space of its features:

    X_per = X + ε Σ_i w_i sign(∇_X J(θ, X_i, Y_nn_i)),  i = 1 … k,  Σ_i w_i = 1

The paper speaks of a "weighted average of gradients", so that weights sum to 1 and ε is the most that a pixel
moves, as everywhere else. ε > 0 follows the class's likelihood upwards, as everywhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpsweep.errors import GpsweepError, unknown
from gpsweep.knn.gallery import Gallery
from gpsweep.knn.gradients import Gradients, of_each
from gpsweep.knn.neighbours import WEIGHTS, nearest, vote
from gpsweep.points import Point
from gpsweep.walk import Pull, Step

AT = ("neighbour", "input")
COMBINE = ("sum_of_signs", "sign_of_sum")

DENSE = 3
"""From how many neighbours for each block of the gallery on hardly a block has none (e⁻³ of them)."""


@dataclass(frozen=True)
class Found:
    """The neighbours of a batch.

    Args:
        x: the batch they were found for.
        sample_ids: its names.
        rows: ``(N, k)``, numbers of training images, nearest first.
        classes: ``(N, k)``, their classes.
        weights: ``(N, k)``, float64, each row's sum 1.
    """

    x: Tensor
    sample_ids: Sequence[str] | None
    rows: Tensor
    classes: Tensor
    weights: Tensor


class KnnGuide:
    """Moves a layer along the gradients of its nearest training images' classes; an engine's ``Guide``.

    Neighbours are those of the clean image, in every iteration.

    Args:
        gallery: the training images.
        k: how many neighbours.
        weights: ``equal``: 1/k; ``distance``: ∝ 1/d; ``softmax``: ∝ exp(−d).
        at: where the gradient is taken: at the ``neighbour`` with its class, as the paper prints it, or at
            the ``input``, the image itself in its present state, with the neighbour's class.
        combine: ``sum_of_signs``: Σ w_i step(g_i), as printed; ``sign_of_sum``: step(Σ w_i g_i).
        images: how many images are judged, as far as known: where their neighbours will be of nearly every
            block of the gallery, gradients are taken in the passes that compute the features.
        leave_out: whether the images judged are of the gallery's source, so that none is its own neighbour;
            they are known by their ids.

    Raises:
        GpsweepError: for an unknown choice, or more neighbours than there are training images.
    """

    def __init__(
        self,
        gallery: Gallery,
        *,
        k: int = 3,
        weights: str = "equal",
        at: str = "neighbour",
        combine: str = "sum_of_signs",
        images: int = 0,
        leave_out: bool = False,
    ) -> None:
        for key, value, choices in (
            ("weights", weights, tuple(WEIGHTS)),
            ("at", at, AT),
            ("combine", combine, COMBINE),
        ):
            if value not in choices:
                raise unknown(f"knn.{key}", value, choices)
        most = len(gallery) - leave_out
        if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= most:
            raise GpsweepError(f"knn.k={k}: expected a whole number from 1 to {most}, the training images")
        self.gallery, self.gradients, self.k = gallery, Gradients(gallery), k
        self.weights, self.at, self.combine = weights, at, combine
        self.everywhere = images * k * gallery.block_size >= DENSE * len(gallery)
        self.numbers = {name: row for row, name in enumerate(gallery.source.ids)} if leave_out else None
        self._last: Found | None = None

    def __call__(
        self,
        pull: Pull,
        step: Step,
        *,
        x: Tensor,
        logits: Tensor,
        point: Point,
        sample_ids: Sequence[str] | None,
    ) -> list[Tensor]:
        """Return the direction in which to move a layer, see :class:`gpsweep.walk.Guide`.

        Raises:
            GpsweepError: if gradients are taken at the neighbours and these are of another size, or the
                layer's first dimension is not the batch's.
        """
        signs = point.step == "sign" and self.combine == "sum_of_signs"
        if self.at == "neighbour":
            self._check_size(x)
            if self.everywhere:
                self.gradients.prepare(x.device, signal=point.signal, layer=point.layer, signs=signs)
        found = self.neighbours(x, sample_ids)
        if self.at == "input":
            one_hot = torch.zeros_like(logits, dtype=torch.float32)
            pulled = (pull(one_hot.scatter(1, classes.unsqueeze(1), 1)) for classes in found.classes.T)
            gradients = (of_each(each, len(x), point.layer) for each in pulled)
        else:
            gradients = (
                self.gradients(rows, signal=point.signal, layer=point.layer, signs=signs)
                for rows in found.rows.T
            )
        if self.combine == "sum_of_signs":
            return _weighted((step(gradient) for gradient in gradients), found.weights)
        return step(_weighted(gradients, found.weights))

    def identity(self, device: str) -> dict[str, Any]:
        """Return all that its directions depend on.

        Args:
            device: the kind of device, ``cpu`` or ``cuda``.
        """
        choices = {"k": self.k, "weights": self.weights, "at": self.at, "combine": self.combine}
        return {**choices, "leave_out": self.numbers is not None, **self.gallery.identity(device)}

    def about(self) -> dict[str, Any]:
        """Return what a person wants to know of it."""
        return {
            "k": self.k,
            "weights": self.weights,
            "features": self.gallery.layer,
            "training_images": len(self.gallery),
        }

    def save(self) -> None:
        """Keep for the next run what was computed of the training images."""
        self.gradients.save()

    def vote(self, x: Tensor, sample_ids: Sequence[str] | None = None) -> Tensor:
        """Return what the neighbours alone predict: the plain k-NN classifier with the same k and weights.

        Args:
            x: ``(N, 3, H, W)``, RGB, grey levels 0–255; those guided last cost nothing.
            sample_ids: N names.

        Returns:
            classes ``(N,)``.
        """
        found = self.neighbours(x, sample_ids)
        return vote(found.classes, found.weights)

    def forget(self) -> None:
        """Forget the neighbours of the images that came last: finding them is part of a prediction's cost."""
        self._last = None

    def neighbours(self, x: Tensor, sample_ids: Sequence[str] | None = None) -> Found:
        """Return the neighbours of images, which are kept for the next call with the same ones.

        Args:
            x: ``(N, 3, H, W)``, RGB, grey levels 0–255.
            sample_ids: N names, needed where none is to be its own neighbour.

        Raises:
            GpsweepError: for images of another size, by whose features none can be found, and for names that
                are wanted and not there.
        """
        last = self._last
        if last and last.sample_ids == sample_ids and last.x.device == x.device and last.x.equal(x):
            return last
        self.gallery.prepare(x.device)
        features, index = self.gallery.describe(x), self.gallery.index
        if features.shape[1] != index.shape[1]:
            raise GpsweepError(
                f"data.size: expected {index.shape[1]} features, as of the training images, "
                f"came {features.shape[1]}"
            )
        distances, rows = nearest(features, index, self.k, own=self._own(x, sample_ids))
        weights = WEIGHTS[self.weights](distances)
        # Of the images a copy: the caller may fill the same memory with others.
        self._last = Found(x.clone(), sample_ids, rows, self.gallery.classes[rows], weights)
        return self._last

    def _own(self, x: Tensor, sample_ids: Sequence[str] | None) -> Tensor | None:
        if self.numbers is None:
            return None
        if sample_ids is None:
            raise GpsweepError("sample_ids: expected names, by which images are kept from finding themselves")
        return torch.tensor([self.numbers.get(name, -1) for name in sample_ids], device=x.device)

    def _check_size(self, x: Tensor) -> None:
        came, expected = tuple(x.shape[1:]), self.gallery.shape
        if came != expected:
            raise GpsweepError(
                f"knn.at=neighbour: expected images of the training images' size {expected}, came {came}; "
                "set data.size, or knn.at=input"
            )


def _weighted(parts: Iterable[list[Tensor]], weights: Tensor) -> list[Tensor]:
    """Return Σ_i w_i · parts_i for each tensor, the i-th part weighted by column i of ``(N, k)``."""
    total: list[Tensor] = []
    for part, column in zip(parts, weights.T, strict=True):
        scaled = [tensor * column.to(tensor.dtype).view(-1, *[1] * (tensor.dim() - 1)) for tensor in part]
        total = [a + b for a, b in zip(total, scaled, strict=True)] if total else scaled
    return total
