"""DeepLab-LargeFOV (Chen et al., 2015): VGG-16 at stride 8, with holes in the convolutions that follow."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gpsweep.models.vgg import VGG16

STRIDE = 8
HOLES = 12


class LargeFOV(VGG16):
    """VGG-16 whose last two pools keep the resolution, and whose ``fc6`` is 3×3 with holes of 12.

    Args:
        classes: output channels, 21 in the networks published for VOC.
        width: as in :class:`gpsweep.models.vgg.VGG16`.
        canvas: images are padded at right and bottom to this height and width at least, as in the published
            evaluation.

    Shapes:
        ``(N, 3, H, W)``, BGR less its mean, → logits ``(N, classes, H, W)``.
    """

    def __init__(self, *, classes: int, width: int = 64, canvas: int = 513) -> None:
        pools = [nn.MaxPool2d(3, stride, 1) for stride in (2, 2, 2, 1, 1)]
        super().__init__(width=width, padding=1, pools=pools, dilation=2)
        self.canvas = canvas
        hidden = 16 * width
        self.pool5a = nn.AvgPool2d(3, 1, 1)
        self.fc6 = nn.Conv2d(self.widths[-1], hidden, 3, padding=HOLES, dilation=HOLES)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.fc8_voc12 = nn.Conv2d(hidden, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Score each class at the input's size."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, self._padded(width) - width, 0, self._padded(height) - height))
        scores = self.fc8_voc12(self.fully(self.pool5a(self.pooled(x)[-1])))
        scores = F.interpolate(scores, size=x.shape[-2:], mode="bilinear", align_corners=True)
        return scores[..., :height, :width]

    def _padded(self, size: int) -> int:
        """Return one pixel more than a multiple of the stride: so scores lie on the picture's corners."""
        size = max(size, self.canvas)
        return size + (1 - size) % STRIDE
