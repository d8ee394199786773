"""The networks that are measured, with weights drawn at random: their values do not change the speed."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

from gpsweep.config import conf_folder
from gpsweep.data.batch import Batch
from gpsweep.logits import pick
from gpsweep.models.build import build
from gpsweep.models.pixels import PixelNet


@dataclass(frozen=True)
class Network:
    """A network, and the batch with which it is measured.

    Args:
        title: what the table calls it.
        model: its file in ``conf/model``.
        size: of the images, height and width.
        samples: how many of them are in a batch.
        classes: of the data.
        layers: the input and three inner layers, which a grid perturbs.
        spread: four inner layers that another perturbs, in the middle of the first to the last quarter of the
            network's time: 7/8, 5/8, 3/8 and 1/8 of a pass depend on them, or as near to that as can be.
        options: what is changed in the file, as on the command line.
        dear: whether its backward pass is dear, see README.md.
    """

    title: str
    model: str
    size: tuple[int, int]
    samples: int
    classes: int
    layers: tuple[str, ...]
    spread: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    dear: bool = False

    def build(self) -> PixelNet:
        """Return the network in pixel space, its weights in channels-last."""
        torch.manual_seed(0)
        cfg = OmegaConf.merge(
            OmegaConf.load(Path(conf_folder(), "model", f"{self.model}.yaml")), dict(self.options)
        )
        assert isinstance(cfg, DictConfig)
        cfg.checkpoint = None
        net = build(cfg, classes=self.classes).to(memory_format=torch.channels_last)
        _settle(net, self.batch()["image"])
        return net

    def batch(self) -> Batch:
        """Return one batch of noise, its truth drawn at random."""
        generator = torch.Generator().manual_seed(1)
        image = torch.randint(0, 256, (self.samples, 3, *self.size), generator=generator).float()
        target = torch.randint(0, self.classes, (self.samples, *self.size), generator=generator)
        ids = [str(i) for i in range(self.samples)]
        return Batch(image=image, target=target, valid=None, ids=ids, content="")


def networks() -> dict[str, Network]:
    """Return what is measured, by name."""
    return {
        "unet": Network(
            title="smp Unet-resnet18, 4 × 256²",
            model="smp",
            size=(256, 256),
            samples=4,
            classes=11,
            layers=("input", "encoder.layer1", "encoder.layer3", "decoder.blocks.2"),
            spread=("encoder.layer1", "encoder.layer4.0", "decoder.blocks.1", "decoder.blocks.3"),
        ),
        "fcn": Network(
            title="torchvision FCN-ResNet50, 1 × 256²",
            model="torchvision",
            size=(256, 256),
            samples=1,
            classes=21,
            layers=("input", "backbone.layer1", "backbone.layer3", "backbone.layer4"),
            spread=("backbone.layer2", "backbone.layer3", "backbone.layer4.1", "classifier.0"),
        ),
        "camvid": Network(
            title="CamVid network, 2 × 360×480",
            model="camvid",
            size=(360, 480),
            samples=2,
            classes=11,
            layers=("input", "stages.0", "stages.1", "stages.2"),
            spread=("stages.0", "stages.1", "stages.2.5", "stages.3.8"),
        ),
        "dear": Network(
            title="ENet-like bottlenecks, 2 × 360×480",
            model="custom",
            size=(360, 480),
            samples=2,
            classes=11,
            layers=("input", "7", "13", "19"),
            spread=("6", "10", "18", "24"),
            options={
                "net": {"_target_": "benchmarks.dear.bottlenecks", "classes": "${..classes}"},
                "divisor": 8,
            },
            dear=True,
        ),
    }


def tiny() -> Network:
    """Return a network of milliseconds, to see that the benchmarks run."""
    return Network(
        title="tiny",
        model="scenes",
        size=(24, 32),
        samples=2,
        classes=11,
        layers=("input", "stages.0", "stages.1", "stages.2"),
        spread=("stages.0", "stages.1", "stages.2", "scores.0"),
        options={"stages": [[4], [4], [8]]},
    )


class Bare(nn.Module):
    """A network as its author wrote it: normalised images of a size it takes → logits at input size.

    What :class:`PixelNet` does besides, normalising, padding and cropping, is left out, so that it counts as
    gpsweep's.
    """

    def __init__(self, net: PixelNet) -> None:
        super().__init__()
        self.net, self.output = net.net, net.output

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, C, H, W)`` of images ``(N, 3, H, W)``."""
        z = pick(self.net(x), self.output)
        return z if z.shape[-2:] == x.shape[-2:] else F.interpolate(z, size=x.shape[-2:], mode="bilinear")


def contiguous(net: PixelNet) -> PixelNet:
    """Return a copy whose weights are contiguous."""
    return deepcopy(net).to(memory_format=torch.contiguous_format)


def _settle(net: nn.Module, x: Tensor) -> None:
    """Set batch norms to the statistics of one batch: activations become as large as in trained networks."""
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = None  # the mean over all batches seen, here one
        norm.train()
    with torch.no_grad():
        net(x.repeat(2, 1, 1, 1))  # a pooled branch of one image has no variance
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
        norm.eval()
