"""The classifier of small photographs in the paper's Table 6: 64-64-128-128-128-128-10."""

from __future__ import annotations

from torch import Tensor, nn

from gpsweep.errors import GpsweepError

SIDE = 32
CONVOLUTIONS = (64, 64, 128, 128, 128)
POOLED = (1, 2, 3)  # after which convolutions
HIDDEN = 128


class CifarNet(nn.Sequential):
    """Five convolutions and two fully connected layers.

    The paper gives the widths alone. Kernels are 3×3; each convolution is batch-normalised, with which two
    epochs of training reach the paper's accuracy; the first three are followed by max-pooling: early, since
    the wide images of the first layers are what takes time. ``features``, the 128 activations before the last
    layer, are what neighbours are found by.

    Args:
        classes: output channels, 10 for CIFAR-10.

    Shapes:
        ``(N, 3, 32, 32)``, normalised, → logits ``(N, classes)``.
    """

    def __init__(self, *, classes: int) -> None:
        super().__init__()
        before = 3
        for number, after in enumerate(CONVOLUTIONS, 1):
            self.add_module(f"conv{number}", nn.Conv2d(before, after, 3, padding=1, bias=False))
            if number in POOLED:
                # Pooled first, there is less left to normalise and rectify.
                self.add_module(f"pool{POOLED.index(number) + 1}", nn.MaxPool2d(2))
            self.add_module(f"norm{number}", nn.BatchNorm2d(after))
            self.add_module(f"relu{number}", nn.ReLU())
            before = after
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(before * (SIDE // 2 ** len(POOLED)) ** 2, HIDDEN)
        self.features = nn.ReLU()
        self.scores = nn.Linear(HIDDEN, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Score each class; only images of 32×32 pixels fit.

        Raises:
            GpsweepError: for any others.
        """
        if x.shape[1:] != (3, SIDE, SIDE):
            raise GpsweepError(
                f"data.size: expected colour images of {SIDE}×{SIDE} pixels for the "
                f"64-64-128-128-128-128-10 network, came {x.shape[2]}×{x.shape[3]} and {x.shape[1]} channels"
            )
        for layer in self:
            x = layer(x)
        return x
