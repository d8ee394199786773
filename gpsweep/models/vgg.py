"""The convolutions of VGG-16 (Simonyan and Zisserman, 2015), which the paper's older networks share."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

DEPTHS = (2, 2, 3, 3, 3)
GROWTH = (1, 2, 4, 8, 8)


class VGG16(nn.Module):
    """Five stages of convolutions, named and stacked as in Caffe: ``conv1_1``, …, ``conv5_3``, ``pool5``.

    ``fc6`` and ``fc7`` are convolutions, too, and are added by the network that has them.

    Args:
        width: channels of the first stage, 64 in all published networks; the others follow.
        padding: of the very first convolution.
        pools: what ends each stage.
        dilation: of the last stage.
    """

    fc6: nn.Conv2d
    fc7: nn.Conv2d

    def __init__(self, *, width: int, padding: int, pools: Sequence[nn.Module], dilation: int = 1) -> None:
        super().__init__()
        before = 3
        self.widths = [width * growth for growth in GROWTH]
        for stage, (depth, after) in enumerate(zip(DEPTHS, self.widths, strict=True), 1):
            spread = dilation if stage == len(DEPTHS) else 1
            for number in range(1, depth + 1):
                around = padding if stage == number == 1 else spread
                self.add_module(f"conv{stage}_{number}", nn.Conv2d(before, after, 3, 1, around, spread))
                before = after
            self.add_module(f"pool{stage}", pools[stage - 1])

    def pooled(self, x: Tensor) -> list[Tensor]:
        """Run the convolutions; the outputs of ``pool1`` to ``pool5``."""
        outputs = []
        for stage, depth in enumerate(DEPTHS, 1):
            for number in range(1, depth + 1):
                x = F.relu(self.get_submodule(f"conv{stage}_{number}")(x))
            x = self.get_submodule(f"pool{stage}")(x)
            outputs.append(x)
        return outputs

    def fully(self, x: Tensor) -> Tensor:
        """Run ``fc6`` and ``fc7``, each with dropout, which is off in evaluation."""
        for layer in (self.fc6, self.fc7):
            x = F.dropout(F.relu(layer(x)), training=self.training)
        return x
