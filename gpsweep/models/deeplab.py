"""DeepLab-v2 (Chen et al., 2018): ResNet-101 at stride 8, atrous spatial pyramid pooling, three scales."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpsweep.models.caffe import Source

BLOCKS = (3, 4, 23, 3)
STRIDES = (1, 2, 1, 1)
DILATIONS = (1, 1, 2, 4)
RATES = (6, 12, 18, 24)
SCALES = (0.5, 0.75)
BRANCHES = {"reduce": "branch2a", "conv3x3": "branch2b", "increase": "branch2c", "shortcut": "branch1"}


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: the sum of 3×3 convolutions with holes of several sizes.

    Args:
        inputs: channels that come in.
        classes: output channels.
    """

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        for number, rate in enumerate(RATES):
            self.add_module(f"c{number}", nn.Conv2d(inputs, classes, 3, padding=rate, dilation=rate))

    def forward(self, x: Tensor) -> Tensor:
        """Score each class, ``(N, classes, H, W)``."""
        return torch.stack([branch(x) for branch in self.children()]).sum(0)


class Bottleneck(nn.Module):
    """A residual block whose stride lies in the first 1×1 convolution, as in Caffe's ResNets.

    Args:
        inputs: channels that come in.
        outputs: channels that go out, four times those within.
        stride: of the first convolution and the shortcut.
        dilation: of the 3×3 convolution.
        shortcut: whether what comes in is convolved, too, before it is added.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, dilation: int, shortcut: bool) -> None:
        super().__init__()
        inner = outputs // 4
        self.reduce = _convolution(inputs, inner, 1, stride=stride)
        self.conv3x3 = _convolution(inner, inner, 3, dilation=dilation)
        self.increase = _convolution(inner, outputs, 1, relu=False)
        self.shortcut = (
            _convolution(inputs, outputs, 1, stride=stride, relu=False) if shortcut else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(N, outputs, H / stride, W / stride)``."""
        return F.relu(self.increase(self.conv3x3(self.reduce(x))) + self.shortcut(x))


class MultiScale(nn.Module):
    """A network run on an image at several scales, and the maximum of its scores.

    Args:
        base: the network, run at full scale first and then at each of ``SCALES``.

    Shapes:
        ``(N, 3, H, W)``, BGR in grey levels less their mean, → logits ``(N, classes, ~H / 8, ~W / 8)``.
    """

    # A snapshot repeats the weights that its scales share.
    caffe_ignored = ("*_res05", "*_res075")

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        """Score each class, at the resolution of the full scale's scores."""
        scores: Tensor = self.base(x)
        for scale in SCALES:
            small = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
            again = F.interpolate(
                self.base(small), size=scores.shape[-2:], mode="bilinear", align_corners=False
            )
            scores = torch.maximum(scores, again)
        return scores

    def caffe_sources(self) -> Mapping[str, Source]:
        """Say where each weight lies in a Caffe file."""
        found: dict[str, Source] = {}
        for path, module in self.base.named_modules(prefix="base"):
            if isinstance(module, nn.Conv2d):
                kinds = ("weight", "bias")[: 1 if module.bias is None else 2]
                layer = (_caffe_layer(path),)
                found |= {f"{path}.{kind}": Source(layer, blob) for blob, kind in enumerate(kinds)}
            elif isinstance(module, nn.BatchNorm2d):
                norm, scale = ((_caffe_layer(path, kind),) for kind in ("bn", "scale"))
                found |= {
                    f"{path}.weight": Source(scale, 0),
                    f"{path}.bias": Source(scale, 1),
                    f"{path}.running_mean": Source(norm, 0, over=2),
                    f"{path}.running_var": Source(norm, 1, over=2),
                }
        return found


def deeplab_v2_resnet101(*, classes: int, width: int = 64, blocks: Sequence[int] = BLOCKS) -> MultiScale:
    """Build DeepLab-v2 on ResNet-101 with its multi-scale maximum, weights drawn at random.

    Args:
        classes: output channels, 21 in the networks published for VOC.
        width: channels of the first stage; fewer than 64 make a thin network of the same geometry.
        blocks: residual blocks of the four stages.
    """
    stem = nn.Sequential(
        OrderedDict(conv1=_convolution(3, width, 7, stride=2), pool=nn.MaxPool2d(3, 2, 1, ceil_mode=True))
    )
    base = nn.Sequential(OrderedDict(layer1=stem))
    before = width
    for stage, (count, stride, dilation) in enumerate(zip(blocks, STRIDES, DILATIONS, strict=True)):
        after = width * 4 * 2**stage
        layer = nn.Sequential()
        for number in range(count):
            first = number == 0
            block = Bottleneck(
                before, after, stride=stride if first else 1, dilation=dilation, shortcut=first
            )
            layer.add_module(f"block{number + 1}", block)
            before = after
        base.add_module(f"layer{stage + 2}", layer)
    base.add_module("aspp", ASPP(before, classes))
    return MultiScale(base)


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, dilation: int = 1, relu: bool = True
) -> nn.Sequential:
    padding = dilation * (kernel // 2)
    parts: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False),
        bn=nn.BatchNorm2d(outputs),
    )
    if relu:
        parts["relu"] = nn.ReLU()
    return nn.Sequential(parts)


def _caffe_layer(path: str, kind: str = "res") -> str:
    """Name a layer as Caffe does: ``base.layer4.block3.reduce.conv`` is ``res4b2_branch2a``."""
    _, layer, *rest = path.split(".")
    if layer == "aspp":
        return f"fc1_voc12_{rest[0]}"
    if layer == "layer1":
        return "conv1" if kind == "res" else f"{kind}_conv1"
    stage, block = int(layer.removeprefix("layer")), int(rest[0].removeprefix("block"))
    # Only the long stages are numbered.
    letters = "abc"[block - 1] if stage in (2, 5) else "a" if block == 1 else f"b{block - 1}"
    return f"{kind}{stage}{letters}_{BRANCHES[rest[1]]}"
