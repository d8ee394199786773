"""Small handwritten digits, a network trained on them in a moment, and the training data as a source."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from gpsweep.data.base import Sample
from gpsweep.models.pixels import PixelNet

TRAINED_ON = 700


@dataclass
class Digits:
    """Images ``(n, 3, 8, 8)``, uint8, and classes ``(n,)`` as a source, which counts what is read of it."""

    images: Tensor
    targets: Tensor
    name: str = "digits"
    task: str = "classification"
    classes: tuple[str, ...] = tuple("0123456789")
    reads: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ids = [f"{number:04d}" for number in range(len(self.images))]

    def stamp(self) -> str:
        """Return what changes with the data, so that they are not read to see whether they have changed."""
        return str([part.double().sum().item() for part in (self.images, self.targets)])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        self.reads.append(index)
        return Sample(image=self.images[index], target=self.targets[index], id=self.ids[index])


class Net(nn.Module):
    """Two convolutions and two layers, ``hidden`` the features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.pool, self.conv2 = nn.Conv2d(1, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3)
        self.hidden, self.scores = nn.Sequential(nn.Linear(16, 24), nn.ReLU()), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv2(self.pool(self.conv1(x).relu())).relu()
        return self.scores(self.hidden(x.flatten(1)))


def digits(first: int = 0, last: int = TRAINED_ON) -> Digits:
    """Return some of scikit-learn's digits, 8×8 pixels of 17 grey levels spread over 0–255."""
    from sklearn.datasets import load_digits

    found = load_digits()
    grey = torch.from_numpy(found.images[first:last] * 15.9375).round().to(torch.uint8)
    return Digits(grey[:, None].repeat(1, 3, 1, 1), torch.from_numpy(found.target[first:last]))


def save(data: Digits, folder: Path) -> None:
    """Write digits as grey pictures, a sub-folder a class."""
    for number in range(len(data)):
        sample = data[number]
        path = folder / str(int(sample["target"])) / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sample["image"][0].numpy()).save(path)


def wrapped(net: nn.Module, **options: object) -> PixelNet:
    """Return a network in pixel space, ready to be evaluated."""
    return PixelNet(net, channels="L", **options).eval().requires_grad_(False)  # type: ignore[arg-type]


@cache
def trained() -> PixelNet:
    """Train the network on the first digits, until it has learnt most of them."""
    torch.manual_seed(0)
    net, data = Net(), digits()
    x, target = data.images.float().mean(1, keepdim=True) / 255, data.targets
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(6):
        for some in torch.randperm(len(x)).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x[some]), target[some]).backward()
            optimizer.step()
    optimizer.zero_grad()
    return wrapped(net)
