"""FCN-32s and FCN-8s: published layout, geometry and parameter counts; upsampling; layers by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpsweep.models.crfasrnn import crfasrnn
from gpsweep.models.fcn import FCN, FCN8s, FCN32s, upsampling
from gpsweep.models.pixels import PixelNet

# Entries that tell the published state dicts apart: torchfcn's, and crfasrnn_pytorch's.
VGG = {"conv1_1.weight": (64, 3, 3, 3), "conv5_3.bias": (512,), "fc6.weight": (4096, 512, 7, 7)}
SCORES = {"fc7.weight": (4096, 4096, 1, 1), "score_fr.weight": (21, 4096, 1, 1)}
SKIPS = {
    "score_pool3.weight": (21, 256, 1, 1),
    "score_pool4.bias": (21,),
    "upscore2.weight": (21, 21, 4, 4),
    "upscore_pool4.weight": (21, 21, 4, 4),
    "upscore8.weight": (21, 21, 16, 16),
}
CRF = {
    "upscore2.bias": (21,),
    "crfrnn.spatial_ker_weights": (21, 21),
    "crfrnn.bilateral_ker_weights": (21, 21),
    "crfrnn.compatibility_matrix": (21, 21),
}


@pytest.mark.parametrize(
    ("build", "entries", "some", "parameters"),
    [
        (FCN32s, 33, VGG | SCORES | {"upscore.weight": (21, 21, 64, 64)}, 136_152_917),
        (FCN8s, 39, VGG | SCORES | SKIPS, 134_489_759),
        (crfasrnn, 43, VGG | SCORES | SKIPS | CRF, 134_491_103),
    ],
)
def test_published_layout(
    build: Callable[..., nn.Module], entries: int, some: dict[str, tuple[int, ...]], parameters: int
) -> None:
    """134 million parameters, says Table 1 of the FCN paper; interpolation is not counted there."""
    with torch.device("meta"):
        net = build(classes=21)
    state = net.state_dict()
    assert len(state) == entries
    assert {name: tuple(state[name].shape) for name in some} == some
    assert sum(weight.numel() for weight in net.parameters()) == parameters
    counted = [w.numel() for name, w in net.named_parameters() if not name.startswith(("upscore", "crf"))]
    assert round(sum(counted) / 1e6) == 134


def reference(state: dict[str, Tensor], x: Tensor, factors: tuple[float, float] = (1, 1)) -> Tensor:
    """FCN as its authors' files describe it, written out."""
    h, pools = x, []
    for stage, depth in enumerate((2, 2, 3, 3, 3), 1):
        for k in range(1, depth + 1):
            name = f"conv{stage}_{k}"
            padding = 100 if name == "conv1_1" else 1
            h = F.relu(F.conv2d(h, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding))
        h = F.max_pool2d(h, 2, 2, ceil_mode=True)
        pools.append(h)
    for name in ("fc6", "fc7"):
        h = F.relu(F.conv2d(h, state[f"{name}.weight"], state[f"{name}.bias"]))
    h = F.conv2d(h, state["score_fr.weight"], state["score_fr.bias"])
    height, width = x.shape[2:]
    if "upscore.weight" in state:
        h = F.conv_transpose2d(h, state["upscore.weight"], stride=32)
        return h[:, :, 19 : 19 + height, 19 : 19 + width]
    h = F.conv_transpose2d(h, state["upscore2.weight"], state.get("upscore2.bias"), stride=2)
    skip = F.conv2d(factors[1] * pools[3], state["score_pool4.weight"], state["score_pool4.bias"])
    h = h + skip[:, :, 5 : 5 + h.shape[2], 5 : 5 + h.shape[3]]
    h = F.conv_transpose2d(h, state["upscore_pool4.weight"], stride=2)
    skip = F.conv2d(factors[0] * pools[2], state["score_pool3.weight"], state["score_pool3.bias"])
    h = h + skip[:, :, 9 : 9 + h.shape[2], 9 : 9 + h.shape[3]]
    h = F.conv_transpose2d(h, state["upscore8.weight"], stride=8)
    return h[:, :, 31 : 31 + height, 31 : 31 + width]


def lively(net: nn.Module) -> nn.Module:
    """Weights large enough that the picture still matters in the scores."""
    torch.manual_seed(0)
    for name, weight in net.named_parameters():
        if name.endswith("weight") and not name.startswith("upscore"):
            nn.init.normal_(weight, std=(2 / weight[0].numel()) ** 0.5)
        elif name.endswith("bias"):
            nn.init.normal_(weight, std=0.1)
    return net.eval()


@pytest.mark.parametrize("size", [(1, 1), (33, 50), (64, 47)])
@pytest.mark.parametrize(
    ("net", "factors"),
    [
        (FCN32s(classes=3, width=1), (1, 1)),
        (FCN8s(classes=3, width=1), (1, 1)),
        (FCN8s(classes=3, width=1, at_once=True), (1e-4, 1e-2)),
    ],
    ids=["32s", "8s", "8s-at-once"],
)
def test_geometry_is_that_of_the_original(
    net: nn.Module, factors: tuple[float, float], size: tuple[int, int]
) -> None:
    x = torch.randn(2, 3, *size)
    logits = lively(net)(x)
    assert logits.shape == (2, 3, *size)
    assert torch.allclose(logits, reference(net.state_dict(), x, factors), atol=1e-5)
    assert logits.std() > 1e-3


def test_at_once_scales_the_skips() -> None:
    torch.manual_seed(0)
    plain, scaled = FCN8s(classes=3, width=1), FCN8s(classes=3, width=1, at_once=True)
    lively(plain)
    state = dict(plain.state_dict())
    state["score_pool3.weight"] = state["score_pool3.weight"] * 1e4
    state["score_pool4.weight"] = state["score_pool4.weight"] * 1e2
    scaled.load_state_dict(state)
    x = torch.randn(1, 3, 20, 20)
    assert torch.allclose(plain(x), scaled.eval()(x), atol=1e-4)


def extent(net: FCN) -> tuple[int, int]:
    """Rows and columns of the input that one score depends on."""
    net = net.double().eval()
    for name, weight in net.named_parameters():
        nn.init.constant_(weight, 1 / weight[0].numel() if name.endswith("weight") else 0.1)
    for stage in range(1, 6):  # a maximum would pick one place of each window
        setattr(net, f"pool{stage}", nn.AvgPool2d(2, ceil_mode=True))
    leaf = torch.ones(1, 3, 600, 600, dtype=torch.double, requires_grad=True)
    score = net.score_fr(net.fully(net.pooled(leaf)[-1]))
    middle = score[0, 0, score.shape[2] // 2, score.shape[3] // 2]
    (gradient,) = torch.autograd.grad(middle, leaf)
    reached = gradient[0].sum(0) > 0
    return int(reached.any(1).sum()), int(reached.any(0).sum())


def test_receptive_field() -> None:
    """404 pixels, says Table 1 of the FCN paper for FCN-VGG16."""
    assert extent(FCN32s(classes=1, width=1)) == (404, 404)


def test_upsampling_interpolates() -> None:
    layer = upsampling(2, 4)
    assert layer.weight[0, 1].abs().sum() == 0, "channels stay apart"
    column = torch.arange(6.0).view(1, 1, 1, 6).expand(1, 2, 3, 6)
    row = layer(column)[0, 0, 6]
    inside = row[6:-6]
    assert torch.allclose(inside.diff(), torch.full((len(inside) - 1,), 0.25))
    assert upsampling(2, 2, bias=True).bias is not None
    assert upsampling(1, 2).weight[0, 0, 0].tolist() == [0.0625, 0.1875, 0.1875, 0.0625]


def test_layers_by_name() -> None:
    wrapped = PixelNet(FCN32s(classes=2, width=1), aliases={"score": "score_fr"})
    names = ["pool1", "pool2", "pool3", "pool4", "pool5", "fc6", "fc7", "score"]
    assert {name: wrapped.layer_aliases[name] for name in names} == {
        name: f"net.{'score_fr' if name == 'score' else name}" for name in names
    }
