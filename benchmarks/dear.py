"""A network whose backward pass is dear: bottlenecks with PReLUs, like those of ENet (Paszke et al., 2016).

A PReLU takes little time forward and seven times as much backward, since PyTorch computes the gradient of its
slope as well, frozen or not. Each point of the naive loop pays for that, a curve only once.
"""

from __future__ import annotations

from torch import Tensor, nn

DILATIONS = (1, 2, 4, 8, 16)


class Bottleneck(nn.Module):
    """A residual block: 1×1 to a quarter of the channels, 3×3, and 1×1 back, each normalised, with PReLU.

    Args:
        channels: of input and output.
        dilation: of the 3×3 convolution.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        inner = channels // 4
        self.branch = nn.Sequential(
            *_convolution(channels, inner, 1),
            *_convolution(inner, inner, 3, padding=dilation, dilation=dilation),
            nn.Conv2d(inner, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.act = nn.PReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, C, H, W)`` of the same shape."""
        return self.act(x + self.branch(x))


def bottlenecks(*, classes: int) -> nn.Module:
    """Build the network; its logits come out at half the input's size."""
    return nn.Sequential(
        *_convolution(3, 16, 3, stride=2, padding=1),
        *_convolution(16, 64, 3, stride=2, padding=1),
        *(Bottleneck(64, 1) for _ in range(4)),
        *_convolution(64, 128, 3, stride=2, padding=1),
        *(Bottleneck(128, dilation) for _ in range(2) for dilation in DILATIONS),
        nn.ConvTranspose2d(128, 64, 3, stride=2, padding=1, output_padding=1),
        *(Bottleneck(64, 1) for _ in range(2)),
        nn.ConvTranspose2d(64, classes, 3, stride=2, padding=1, output_padding=1),
    )


def _convolution(before: int, after: int, kernel: int, **options: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(before, after, kernel, bias=False, **options), nn.BatchNorm2d(after), nn.PReLU(after)
