"""Small networks with the habits of real ones: skips, dicts, tuples, in-place and shared modules."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 5


def conv(before: int, after: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, stride=stride, padding=1)


class Residual(nn.Module):
    """A block in the manner of ResNet: one in-place ReLU that runs twice, and an in-place sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = conv(channels, channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, channels), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)


class Skips(nn.Module):
    """An encoder that returns a list and a decoder that joins its parts, in the manner of U-Net."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.relu = conv(3, 8), nn.ReLU(inplace=True)
            self.down = nn.Sequential(
                conv(8, 8, stride=2), nn.BatchNorm2d(8), nn.ReLU(inplace=True), Residual(8)
            )

        def forward(self, x: Tensor) -> list[Tensor]:
            first = self.relu(self.stem(x))
            return [x, first, self.down(first)]

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.merge, self.head = self.Encoder(), conv(16, 8), nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = x / 255 - 0.5
        _, first, deep = self.encoder(x)
        deep = F.interpolate(deep, size=first.shape[-2:], mode="bilinear", align_corners=False)
        merged = self.merge(torch.cat([first, deep], 1))
        merged.relu_()
        return self.head(merged)


class Dicts(nn.Module):
    """A backbone that returns an ordered dict and a network that returns one, as torchvision's do."""

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.high = conv(3, 6, stride=2), conv(6, 8)

        def forward(self, x: Tensor) -> OrderedDict[str, Tensor]:
            low = self.low(x / 255).relu()
            return OrderedDict(low=low, high=self.high(low).relu())

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.side, self.head = self.Backbone(), conv(6, CLASSES), conv(8, CLASSES)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        found = self.backbone(x)
        z = self.head(found["high"]) + self.side(found["low"])
        return {"out": F.interpolate(z, size=x.shape[-2:], mode="bilinear"), "aux": found["low"]}


class Tuples(nn.Module):
    """Modules that return tuples, and one module that runs twice."""

    class Fork(nn.Module):
        def __init__(self, before: int) -> None:
            super().__init__()
            self.left, self.right = conv(before, 6), conv(before, 6)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return self.left(x), self.right(x).sigmoid()

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = self.Fork(3), self.Fork(6)
        self.shared, self.head = conv(6, 6), conv(6, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.first(x / 255)
        c = self.shared(self.shared(a * b).relu())
        d, e = self.second(c)
        return self.head(d * e + a), c


class Classifier(nn.Module):
    """A classifier whose flattening needs contiguous rows, with layer norm and attention."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(conv(3, 8, 2), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.features(x / 255).flatten(2).transpose(1, 2)
        return self.head(self.block(tokens).mean(1))


class SideEffects(nn.Module):
    """A network that replay cannot serve: it uses a module for its in-place effect on another's output."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu, self.middle, self.head = (
            conv(3, 6),
            nn.ReLU(inplace=True),
            conv(6, 6),
            conv(6, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x)
        self.relu(first)
        return self.head(self.middle(first) + first)


class Reversing(nn.Module):
    """A list, one of whose tensors follows from the other, and a decoder that changes it."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = conv(3, 4), conv(4, 4)

        def forward(self, x: Tensor) -> list[Tensor]:
            found = self.first(x).tanh()
            return [found, self.second(found).tanh()]

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.block, self.head = self.Encoder(), nn.Conv2d(4, 4, 1), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.encoder(x)
        parts.reverse()
        return self.head(self.block(parts.pop()) * parts.pop())


class EachAlone(nn.Module):
    """A layer that runs once for each sample, and one that runs on as many prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.prototypes = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("words", torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        found = torch.cat([self.layer(one[None]) for one in x])
        return found @ self.prototypes(self.words).T


class SequenceFirst(nn.Module):
    """A network whose inner layer puts positions before the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Conv2d(3, 6, 1), nn.Linear(6, 6), nn.Conv2d(6, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        positions: Tensor = self.mix(h.flatten(2).permute(2, 0, 1))
        return self.head(positions.permute(1, 2, 0).reshape(h.shape))


# name → (network, layers that can be perturbed)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "skips": (Skips, ["input", "encoder.stem", "encoder", "encoder.down.1", "encoder.down.3", "merge"]),
    "residual": (
        lambda: nn.Sequential(conv(3, 8), Residual(8), Residual(8), conv(8, CLASSES)),
        ["input", "0", "1.bn1", "1.relu@1", "1.relu@2", "1.bn2", "2"],
    ),
    "dicts": (Dicts, ["input", "backbone.low", "backbone", "side", "head"]),
    "tuples": (Tuples, ["input", "first", "shared@1", "shared@2", "second.left", "head"]),
    "classifier": (Classifier, ["input", "features.1", "features", "block.linear1", "block"]),
}


def build(name: str, seed: int = 0) -> nn.Module:
    """Return a network of :data:`NETWORKS` with random, frozen weights, in evaluation mode."""
    torch.manual_seed(seed)
    net = NETWORKS[name][0]().eval().requires_grad_(False)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return net


def batch(
    name: str, samples: int = 2, size: tuple[int, int] = (9, 14), seed: int = 1
) -> tuple[Tensor, Tensor]:
    """Return images in grey levels and a target with void pixels for a network."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(0, 256, (samples, 3, *size), generator=generator).float()
    shape = (samples,) if name == "classifier" else (samples, *size)
    return x, torch.randint(-1, CLASSES, shape, generator=generator)


def output_of(name: str) -> int | None:
    """Return what ``output`` must say for a network."""
    return 0 if name == "tuples" else None


def entering(module: nn.Module) -> list[Tensor]:
    """Collect a copy of what enters a module in every pass to come."""
    seen: list[Tensor] = []
    module.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    return seen


def logits_of(output: Any) -> Tensor:
    """Pick the logits of any of these networks, independently of the package."""
    if isinstance(output, dict):
        return output["out"]
    return output[0] if isinstance(output, tuple) else output


def small(name: str = "skips", seed: int = 0) -> nn.Module:
    """Return a network of :data:`NETWORKS` as ``model=custom model.net=networks.small`` asks for it."""
    return build(name, seed)


class Broken(nn.Module):
    """A network whose logits are not finite for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        z = self.head(x)
        return torch.where(x.amax((1, 2, 3), keepdim=True) > 1.99, torch.nan, z)


class Sigmoid(nn.Module):
    """One logit for two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)


class Viewing(nn.Module):
    """A classifier that flattens by view(), which channels-last activations do not allow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = conv(3, 4), nn.Linear(4 * 12 * 16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).view(x.shape[0], -1))


def not_a_network() -> int:
    """Return no network at all."""
    return 3
