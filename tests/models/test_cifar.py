"""The classifier of CIFAR-10: its widths, the layer that neighbours are found by, and its messages."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gpsweep.errors import GpsweepError
from gpsweep.models.cifar import CifarNet


def test_it_is_64_64_128_128_128_128_10() -> None:
    net = CifarNet(classes=10)
    layers = [m for m in net if isinstance(m, nn.Conv2d | nn.Linear)]
    assert [m.weight.shape[0] for m in layers] == [64, 64, 128, 128, 128, 128, 10]
    assert [isinstance(m, nn.Conv2d) for m in layers] == [True] * 5 + [False] * 2
    assert sum(weight.numel() for weight in net.parameters()) == 671_818
    assert net(torch.rand(2, 3, 32, 32)).shape == (2, 10)


def test_features_are_128_activations() -> None:
    net = CifarNet(classes=10)
    kept = []
    net.features.register_forward_hook(lambda module, args, output: kept.append(output))
    net(torch.rand(2, 3, 32, 32))
    assert kept[0].shape == (2, 128)
    assert kept[0].min() >= 0


def test_other_sizes_are_refused() -> None:
    with pytest.raises(GpsweepError, match=r"data.size: expected colour images of 32×32.*came 28×28"):
        CifarNet(classes=10)(torch.rand(1, 3, 28, 28))
