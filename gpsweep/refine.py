"""Refinements of a prediction: the mean softmax over views of an image, or a dense CRF on the softmax.

Each view is perturbed by itself, by the same point; at ε = 0 that is plain test-time augmentation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from gpsweep.crf import Crf, installed, refined
from gpsweep.data.base import SEGMENTATION
from gpsweep.data.batch import Batch
from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.failures import failures_named
from gpsweep.memo import Memo
from gpsweep.views import IDENTITY, View, colours, sizes_of

SCALES = (0.75, 1.25)


@dataclass(eq=False)
class Refinement:
    """The refinements of a run. Make one with :func:`refinement`.

    Args:
        names: names of :data:`gpsweep.points.REFINES`.
        scales: those of ``multiscale`` besides 1.
        crf: parameters of ``crf``.
        memos: what is known of the network at views other than the identity.
    """

    names: Sequence[str] = ("none",)
    scales: Sequence[float] = SCALES
    crf: Crf = field(default_factory=Crf)
    memos: dict[View, Memo] = field(default_factory=dict)

    def views(self, name: str) -> list[View]:
        """Return the views that a refinement looks at, the identity first."""
        if name == "flip":
            return [IDENTITY, View(mirrored=True)]
        return [IDENTITY, *(View(scale=s) for s in self.scales if name == "multiscale")]

    def memo(self, view: View) -> Memo:
        """Return what is known of the network at a view."""
        return self.memos.setdefault(view, Memo())

    def scores(
        self, names: Sequence[str], logits: Mapping[View, Tensor], batch: Batch
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the scores by which each refinement predicts, ``(N, C, H, W)`` or ``(N, C)``.

        Args:
            names: which refinements.
            logits: of their views, ``(N, C, H', W')`` or ``(N, C)``.
            batch: as the identity sees it.
        """
        softmax: dict[View, Tensor] = {}
        for name in names:
            views = self.views(name)
            for view in views if name != "none" else ():
                if view not in softmax:
                    softmax[view] = view.back(logits[view].softmax(1), batch)
            if name == "none":
                yield name, logits[IDENTITY]
            elif name == "crf":
                yield name, crf_of(softmax[IDENTITY], batch, self.crf)
            else:
                yield name, sum((softmax[view] for view in views[1:]), softmax[IDENTITY]) / len(views)

    def identity(self) -> dict[str, Any]:
        """Return what could change a number of the refinements that are asked for."""
        known: dict[str, Any] = {}
        if "multiscale" in self.names:
            known["multiscale"] = {"scales": list(self.scales)}
        if "crf" in self.names:
            known["crf"] = self.crf.identity()
        return known

    def check(self, net: nn.Module, sample: Batch, layers: Sequence[str], options: Mapping[str, Any]) -> None:
        """Let a network see a sample in every view, but for the identity, before all others.

        Args:
            net: network in pixel space.
            sample: a batch.
            layers: those that are to be perturbed.
            options: further arguments of :func:`gpsweep.engine.curve`.

        Raises:
            GpsweepError: if the network fails on one.
        """
        for view in dict.fromkeys(view for name in self.names for view in self.views(name)[1:]):
            seen = view.of(sample)
            with failures_named(seen, "on the first sample", key=f"refine={view.refine}"):
                next(curve(net, seen["image"], 0.0, layer=layers, **options))


def refinement(
    names: Sequence[str], *, task: str, scales: Sequence[float] = SCALES, crf: Crf | None = None
) -> Refinement:
    """Check the parameters of the refinements asked for, and make them.

    Args:
        names: names of :data:`gpsweep.points.REFINES`.
        task: ``segmentation`` or ``classification``.
        scales: those of ``multiscale``; 1 is always among them.
        crf: parameters of ``crf``.

    Raises:
        GpsweepError: naming the key.
    """
    made = Refinement(names, tuple(dict.fromkeys(s for s in scales if s != 1)), crf or Crf())
    if "multiscale" in names:
        wrong = [s for s in made.scales if not (isfinite(s) and s > 0)]
        if wrong or not made.scales:
            came = wrong[0] if wrong else "none besides 1"
            raise GpsweepError(f"multiscale.scales={list(scales)}: expected numbers above 0, came {came}")
    if "crf" in names:
        if task != SEGMENTATION:
            raise GpsweepError(
                f"refine=crf: expected data for segmentation, came {task}, which has no pixels"
            )
        made.crf.check()
        installed()
    return made


def crf_of(softmax: Tensor, batch: Batch, crf: Crf) -> Tensor:
    """Put a dense CRF on the softmax of each image; padding takes no part in it.

    Args:
        softmax: ``(N, C, H, W)``.
        batch: the images, unperturbed.
        crf: parameters.

    Returns:
        ``(N, C, H, W)``, the softmax itself where padded.
    """
    out = softmax.cpu().clone()
    for marginals, image, (height, width) in zip(out, colours(batch), sizes_of(batch), strict=True):
        box = marginals[:, :height, :width]
        box.copy_(torch.from_numpy(refined(image[:height, :width], box.numpy(), crf)))
    return out.to(softmax.device)
