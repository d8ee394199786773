"""DeepLab-LargeFOV and DeepLab-v2: published layouts and counts, geometry, the maximum of scales."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpsweep.models.deeplab import deeplab_v2_resnet101
from gpsweep.models.largefov import LargeFOV


def test_published_layout_of_largefov() -> None:
    """20.5 million parameters, says Table 1 of the DeepLab-LargeFOV paper."""
    with torch.device("meta"):
        net = LargeFOV(classes=21)
    shapes = {name: tuple(weight.shape) for name, weight in net.state_dict().items()}
    assert len(shapes) == 32
    assert shapes["fc6.weight"] == (1024, 512, 3, 3)
    assert shapes["fc7.weight"] == (1024, 1024, 1, 1)
    assert shapes["fc8_voc12.weight"] == (21, 1024, 1, 1)
    assert sum(weight.numel() for weight in net.parameters()) == 20_505_429


def test_published_layout_of_deeplab_v2() -> None:
    with torch.device("meta"):
        net = deeplab_v2_resnet101(classes=21)
    shapes = {name: tuple(weight.shape) for name, weight in net.state_dict().items()}
    some = {
        "base.layer1.conv1.conv.weight": (64, 3, 7, 7),
        "base.layer1.conv1.bn.num_batches_tracked": (),
        "base.layer2.block1.shortcut.conv.weight": (256, 64, 1, 1),
        "base.layer3.block4.increase.bn.running_var": (512,),
        "base.layer4.block23.conv3x3.conv.weight": (256, 256, 3, 3),
        "base.layer5.block3.reduce.conv.weight": (512, 2048, 1, 1),
        "base.aspp.c3.weight": (21, 2048, 3, 3),
        "base.aspp.c0.bias": (21,),
    }
    assert len(shapes) == 632
    assert {name: shapes[name] for name in some} == some
    assert sum(weight.numel() for weight in net.parameters()) == 44_048_532


@pytest.mark.parametrize("size", [(1, 1), (8, 9), (33, 50)])
def test_logits_of_largefov_have_the_size_of_the_image(size: tuple[int, int]) -> None:
    assert LargeFOV(classes=3, width=1, canvas=1)(torch.randn(1, 3, *size)).shape == (1, 3, *size)


def test_scores_of_largefov_lie_on_the_corners_of_the_canvas() -> None:
    """For 17×25 pixels, one more than a multiple of 8, scores lie at each eighth pixel, as in Caffe."""
    torch.manual_seed(0)
    net = LargeFOV(classes=3, width=1, canvas=1).eval()
    x = 20 * torch.randn(1, 3, 17, 25)
    scores = net.fc8_voc12(net.fully(net.pool5a(net.pooled(x)[-1])))
    assert scores.shape == (1, 3, 3, 4)
    assert torch.allclose(net(x)[..., ::8, ::8], scores, atol=1e-6)


def test_the_canvas_of_largefov() -> None:
    torch.manual_seed(0)
    x = 20 * torch.randn(1, 3, 17, 17)
    net, wide = (LargeFOV(classes=2, width=1, canvas=canvas).eval() for canvas in (1, 33))
    wide.load_state_dict(net.state_dict())
    assert torch.equal(wide(x), net(F.pad(x, (0, 16, 0, 16)))[..., :17, :17])


def reach(net: LargeFOV, until: str) -> int:
    """Columns of the input that the middle of a layer's output depends on."""
    net = net.double().eval()
    for name, weight in net.named_parameters():
        nn.init.constant_(weight, 1 / weight[0].numel() if name.endswith("weight") else 0.1)
    for stage, stride in enumerate((2, 2, 2, 1, 1), 1):  # a maximum would pick one place of each window
        setattr(net, f"pool{stage}", nn.AvgPool2d(3, stride, 1))
    leaf = torch.ones(1, 3, 521, 521, dtype=torch.double, requires_grad=True)
    output = net.pool5a(net.pooled(leaf)[-1])
    if until == "fc6":
        output = net.fc6(output)
    middle = output.shape[2] // 2
    (gradient,) = torch.autograd.grad(output[0, 0, middle, middle], leaf)
    return int((gradient[0].sum((0, 1)) > 0).sum())


def test_field_of_view() -> None:
    """The paper's 224 pixels are the 24 · 8 that fc6 adds, and 32 for one place of VGG-16's pool5."""
    before, after = (reach(LargeFOV(classes=1, width=1), layer) for layer in ("pool5a", "fc6"))
    assert (before, after) == (243, 435)
    assert after - before + 32 == 224


@pytest.fixture
def thin() -> nn.Module:
    torch.manual_seed(0)
    return deeplab_v2_resnet101(classes=3, width=4, blocks=(1, 1, 1, 1)).eval()


@pytest.mark.parametrize(("size", "scores"), [(65, 9), (64, 9), (97, 13)])
def test_stride_of_deeplab_v2_is_8(thin: nn.Module, size: int, scores: int) -> None:
    assert thin(torch.randn(1, 3, size, size)).shape == (1, 3, scores, scores)


def test_maximum_of_three_scales(thin: nn.Module) -> None:
    x = torch.randn(2, 3, 65, 80)
    full: Tensor = thin.base(x)
    size = full.shape[2:]
    scores = [full]
    for scale in (0.5, 0.75):
        small = F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
        again = F.interpolate(thin.base(small), size=size, mode="bilinear", align_corners=False)
        scores.append(again)
    assert torch.equal(thin(x), torch.stack(scores).amax(0))
    assert not torch.equal(thin(x), full)


def test_holes_and_strides_of_deeplab_v2(thin: nn.Module) -> None:
    convolutions = {name: m for name, m in thin.named_modules() if isinstance(m, nn.Conv2d)}
    holes = [convolutions[f"base.layer{k}.block1.conv3x3.conv"].dilation[0] for k in (2, 3, 4, 5)]
    assert holes == [1, 1, 2, 4]
    assert [convolutions[f"base.layer{k}.block1.reduce.conv"].stride[0] for k in (2, 3, 4, 5)] == [1, 2, 1, 1]
    assert [convolutions[f"base.aspp.c{k}"].dilation[0] for k in range(4)] == [6, 12, 18, 24]
