"""Fully convolutional networks (Long, Shelhamer, Darrell, 2015): FCN-32s and FCN-8s on VGG-16."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from gpsweep.models.vgg import VGG16

PADDING = 100  # around the image, so that any size gives scores that can be aligned with it
AT_ONCE = {3: 1e-4, 4: 1e-2}


class FCN(VGG16):
    """What FCN-32s and FCN-8s share: VGG-16 with fully connected layers made convolutions, and a score.

    Args:
        classes: output channels, 21 in the networks published for VOC.
        width: as in :class:`gpsweep.models.vgg.VGG16`.
    """

    # Names of the layers in older Caffe files, by module.
    caffe_names: Mapping[str, str] = {"score_fr": "score-fr", "upscore": "upsample"}

    def __init__(self, *, classes: int, width: int) -> None:
        pools = [nn.MaxPool2d(2, ceil_mode=True) for _ in range(5)]
        super().__init__(width=width, padding=PADDING, pools=pools)
        hidden = 64 * width
        self.fc6 = nn.Conv2d(self.widths[-1], hidden, 7)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.score_fr = nn.Conv2d(hidden, classes, 1)


class FCN32s(FCN):
    """FCN-32s: scores at stride 32, upsampled at once.

    Args:
        classes: as in :class:`FCN`.
        width: as there.

    Shapes:
        ``(N, 3, H, W)``, BGR less its mean, → logits ``(N, classes, H, W)``.
    """

    def __init__(self, *, classes: int, width: int = 64) -> None:
        super().__init__(classes=classes, width=width)
        self.upscore = upsampling(classes, 32)

    def forward(self, x: Tensor) -> Tensor:
        """Score each class at the input's size."""
        scores = self.upscore(self.score_fr(self.fully(self.pooled(x)[-1])))
        return _cropped(scores, 19, x)


class FCN8s(FCN):
    """FCN-8s: scores at stride 32, refined by those of ``pool4`` and ``pool3``.

    Args:
        classes: as in :class:`FCN`.
        width: as there.
        at_once: whether the skips are scaled, as in the network that was trained all at once.
        bias: whether ``upscore2`` has one, as in CRF-as-RNN's.

    Shapes:
        ``(N, 3, H, W)``, BGR less its mean, → logits ``(N, classes, H, W)``.
    """

    caffe_names: Mapping[str, str] = {
        **FCN.caffe_names,
        "score_pool3": "score-pool3",
        "score_pool4": "score-pool4",
        "upscore2": "score2",
        "upscore_pool4": "score4",
        "upscore8": "upsample",
    }

    def __init__(self, *, classes: int, width: int = 64, at_once: bool = False, bias: bool = False) -> None:
        super().__init__(classes=classes, width=width)
        self.scales = AT_ONCE if at_once else {3: 1.0, 4: 1.0}
        # The scales are constants, which Caffe keeps as weights.
        self.caffe_ignored = ("scale_pool3", "scale_pool4") if at_once else ()
        self.score_pool3 = nn.Conv2d(self.widths[2], classes, 1)
        self.score_pool4 = nn.Conv2d(self.widths[3], classes, 1)
        self.upscore2 = upsampling(classes, 2, bias=bias)
        self.upscore_pool4 = upsampling(classes, 2)
        self.upscore8 = upsampling(classes, 8)

    def forward(self, x: Tensor) -> Tensor:
        """Score each class at the input's size."""
        *_, pool3, pool4, pool5 = self.pooled(x)
        coarse = self.upscore2(self.score_fr(self.fully(pool5)))
        middle = self.score_pool4(pool4 * self.scales[4])
        fused = self.upscore_pool4(coarse + _cropped(middle, 5, coarse))
        fine = self.score_pool3(pool3 * self.scales[3])
        return _cropped(self.upscore8(fused + _cropped(fine, 9, fused)), 31, x)


def upsampling(channels: int, factor: int, *, bias: bool = False) -> nn.ConvTranspose2d:
    """Build a transposed convolution that interpolates each channel bilinearly, by an even factor."""
    layer = nn.ConvTranspose2d(channels, channels, 2 * factor, factor, bias=bias)
    ramp = 1 - (torch.arange(2 * factor, dtype=torch.float32) - (factor - 0.5)).abs() / factor
    with torch.no_grad():
        layer.weight.copy_(torch.eye(channels)[..., None, None] * torch.outer(ramp, ramp))
        if layer.bias is not None:
            layer.bias.zero_()
    return layer


def _cropped(scores: Tensor, offset: int, like: Tensor) -> Tensor:
    height, width = like.shape[-2:]
    return scores[..., offset : offset + height, offset : offset + width]
