"""A small fully convolutional network for segmentation, trained in minutes on a CPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from gpsweep.errors import GpsweepError

FIRST_KERNEL = 5


class SmallFCN(nn.Module):
    """Stages of convolutions; the scores of the last are added from coarse to fine, as FCN-8s adds them.

    Args:
        classes: output channels.
        stages: widths of the convolutions, stage by stage; the first one of a stage halves the resolution.
        scored: how many of the last stages give scores, ≥ 1.

    Shapes:
        ``(N, 3, H, W)``, normalised, → logits ``(N, classes, H / s, W / s)``, s the stride of the first
        scored stage.
    """

    def __init__(self, *, classes: int, stages: Sequence[Sequence[int]], scored: int) -> None:
        super().__init__()
        ends = [3, *(widths[-1] for widths in stages)]
        self.stages = nn.ModuleList(
            nn.Sequential(*_convolutions(before, widths))
            for before, widths in zip(ends, stages, strict=False)
        )
        self.scores = nn.ModuleList(nn.Conv2d(width, classes, 1) for width in ends[-scored:])

    def forward(self, x: Tensor) -> Tensor:
        """Score each class at the resolution of the first scored stage."""
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        scored = zip(self.scores, features[-len(self.scores) :], strict=True)
        scores: list[Tensor] = [score(one) for score, one in scored]
        logits = scores.pop()
        for skip in reversed(scores):
            logits = skip + F.interpolate(logits, size=skip.shape[-2:], mode="bilinear", align_corners=False)
        return logits


def small(*, classes: int, stages: Sequence[Sequence[int]], scored: int = 1) -> SmallFCN:
    """Build a small network for segmentation, weights drawn at random.

    Args:
        classes: output channels.
        stages: widths of the convolutions, stage by stage, such as ``[[24], [48], [64, 96]]``; stage k
            works at 1/2ᵏ of the input's resolution.
        scored: how many of the last stages give scores; 1: the last one alone.

    Raises:
        GpsweepError: ``stages`` or ``scored`` do not make a network.
    """
    if not stages or not all(widths and all(width >= 1 for width in widths) for widths in stages):
        raise GpsweepError(
            f"model.stages={stages}: expected widths ≥ 1 in each stage, such as [[24], [48, 64]]"
        )
    if not 1 <= scored <= len(stages):
        raise GpsweepError(f"model.scored={scored}: expected 1 to {len(stages)}, the number of stages")
    return SmallFCN(classes=classes, stages=stages, scored=scored)


def _convolutions(inputs: int, widths: Sequence[int]) -> Iterator[nn.Module]:
    for number, (before, width) in enumerate(pairwise((inputs, *widths))):
        kernel = FIRST_KERNEL if before == 3 else 3
        stride = 1 if number else 2
        yield nn.Conv2d(before, width, kernel, stride, kernel // 2, bias=False)
        yield nn.BatchNorm2d(width)
        yield nn.ReLU(inplace=True)
