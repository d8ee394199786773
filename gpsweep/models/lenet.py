"""The classifier of handwritten digits in the paper's Table 6: 20-50-500-10."""

from __future__ import annotations

from torch import Tensor, nn

from gpsweep.errors import GpsweepError

SIDE = 28
KERNEL = 5
WIDTHS = (20, 50, 500)


class LeNet(nn.Sequential):
    """Two convolutions, each with max-pooling, and two fully connected layers, as Caffe's LeNet has them.

    ``features``, the 500 activations before the last layer, are what neighbours are found by.

    Args:
        classes: output channels, 10 for digits.

    Shapes:
        ``(N, 1, 28, 28)``, normalised, → logits ``(N, classes)``.
    """

    def __init__(self, *, classes: int) -> None:
        first, second, hidden = WIDTHS
        side = ((SIDE - KERNEL + 1) // 2 - KERNEL + 1) // 2
        super().__init__()
        self.conv1 = nn.Conv2d(1, first, KERNEL)
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(first, second, KERNEL)
        self.pool2 = nn.MaxPool2d(2)
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(second * side * side, hidden)
        self.features = nn.ReLU()
        self.scores = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Score each class; only digits of 28×28 pixels, one channel, fit.

        Raises:
            GpsweepError: for any others.
        """
        if x.shape[1:] != (1, SIDE, SIDE):
            raise GpsweepError(
                f"data.size: expected grey images of {SIDE}×{SIDE} pixels for the 20-50-500-10 network, "
                f"came {x.shape[2]}×{x.shape[3]} and {x.shape[1]} channels"
            )
        for layer in self:
            x = layer(x)
        return x
