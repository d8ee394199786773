"""Pixel space in closed form, on networks of one layer or none."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gpsweep import layers
from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.memo import Memo
from gpsweep.models.pixels import PixelNet, Preprocess

Pair = namedtuple("Pair", "masks labels")


@dataclass
class Output:
    logits: Any
    loss: Any


class Returns(nn.Module):
    """Hands its input to ``make`` and remembers it."""

    def __init__(self, make: Any = lambda x: x) -> None:
        super().__init__()
        self.make = make
        self.seen: Tensor

    def forward(self, x: Tensor) -> Any:
        self.seen = x
        return self.make(x)


def images(height: int = 6, width: int = 5, number: int = 2) -> Tensor:
    return torch.rand(number, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255


def test_rgb_is_scaled_then_normalised() -> None:
    x, mean, std = images(), (0.1, 0.2, 0.3), (0.5, 1.0, 2.0)
    expected = (x / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(PixelNet(Returns(), mean=mean, std=std)(x), expected)


def test_bgr_takes_mean_and_std_in_the_order_of_the_network() -> None:
    x, mean, std = images(), (104.0, 117.0, 123.0), (1.0, 2.0, 4.0)
    z = PixelNet(Returns(), mean=mean, std=std, scale=1.0, channels="BGR")(x)
    for channel in range(3):
        torch.testing.assert_close(z[:, channel], (x[:, 2 - channel] - mean[channel]) / std[channel])


def test_luma_is_itu_601_and_gives_grey_images_back() -> None:
    net = PixelNet(Returns(), mean=0.5, std=0.25, channels="L")
    x = images()
    luma = 0.299 * x[:, 0] + 0.587 * x[:, 1] + 0.114 * x[:, 2]
    torch.testing.assert_close(net(x), ((luma / 255 - 0.5) / 0.25)[:, None])
    grey = x[:, :1]
    torch.testing.assert_close(net(grey.expand(-1, 3, -1, -1)), (grey / 255 - 0.5) / 0.25)


def test_a_convolution_sees_the_normalised_image() -> None:
    conv = nn.Conv2d(3, 2, 1)
    x = images()
    z = PixelNet(conv, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))(x)
    weight = conv.weight.view(2, 3)
    expected = torch.einsum("kc,nchw->nkhw", weight, x / 127.5 - 1) + conv.bias.view(2, 1, 1)
    torch.testing.assert_close(z, expected)


@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
def test_fill_normalises_to_zero(channels: str) -> None:
    many = channels != "L"
    mean = (0.1, 0.2, 0.3) if many else 0.4
    net = PixelNet(Returns(), mean=mean, std=(0.2, 0.3, 0.4) if many else 0.2, channels=channels)
    z = net(net.fill.view(1, 3, 1, 1).expand(1, 3, 4, 4))
    assert z.abs().max() < 1e-5


@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
@pytest.mark.parametrize("divisor", [1, 4])
def test_the_input_is_left_alone_and_gets_a_gradient(channels: str, divisor: int) -> None:
    x = images().requires_grad_()
    before = x.detach().clone()
    z = PixelNet(Returns(), std=0.5, channels=channels, divisor=divisor)(x)
    (gradient,) = torch.autograd.grad(z.sum(), x)
    assert torch.equal(x, before)
    share = torch.tensor([0.299, 0.587, 0.114]) if channels == "L" else torch.ones(3)
    torch.testing.assert_close(gradient, (share / 255 / 0.5).view(1, 3, 1, 1).expand_as(x))


def test_padding_is_zero_after_normalisation_at_right_and_bottom_and_cropped_again() -> None:
    inner = Returns()
    x = images(6, 5)
    z = PixelNet(inner, mean=0.5, divisor=4)(x)
    assert inner.seen.shape == (2, 3, 8, 8)
    assert not inner.seen[..., 6:, :].any() and not inner.seen[..., 5:].any()
    torch.testing.assert_close(z, x / 255 - 0.5)


@pytest.mark.parametrize("divisor", [1, 4])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_the_memory_format_survives(divisor: int, channels: str, layout: torch.memory_format) -> None:
    inner = Returns()
    PixelNet(inner, channels=channels, divisor=divisor)(images().contiguous(memory_format=layout))
    assert inner.seen.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("channels", ["RGB", "BGR", "L"])
def test_the_memory_format_changes_no_number(channels: str) -> None:
    each = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 1.0, 2.0)} if channels != "L" else {"mean": 0.1, "std": 0.5}
    net, x = PixelNet(Returns(), channels=channels, **each), images()
    rows = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    z = net(rows)
    assert z.equal(net(x))
    (gradient,) = torch.autograd.grad(z.sum(), rows)
    assert gradient.shape == x.shape and bool((gradient > 0).all())


def test_small_logits_are_enlarged_bilinearly_before_the_crop() -> None:
    x = images(6, 5)
    z = PixelNet(Returns(lambda x: nn.functional.avg_pool2d(x, 4)), scale=1.0, divisor=4)(x)
    padded = nn.functional.pad(x, (0, 3, 0, 2))
    small = nn.functional.avg_pool2d(padded, 4)
    expected = nn.functional.interpolate(small, (8, 8), mode="bilinear", align_corners=False)[..., :6, :5]
    torch.testing.assert_close(z, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[:, :1],
        lambda x: x[:, 0],
        lambda x: {"out": x[:, :1]},
        lambda x: x[:, :1].mean((2, 3)),
        lambda x: x[:, 0].mean((1, 2)),
    ],
)
def test_one_logit_becomes_two_whose_softmax_is_the_sigmoid(make: Any) -> None:
    net = PixelNet(Returns(make), sigmoid=True)
    raw = make(net.eval().preprocess(images()))
    logit = (raw["out"] if isinstance(raw, dict) else raw).reshape(len(images()), -1)
    z = net(images())
    assert z.shape[1] == 2 and z.dim() in (2, 4)
    torch.testing.assert_close(z.softmax(1)[:, 1].reshape(len(z), -1), logit.sigmoid())
    assert z.argmax(1).reshape(len(z), -1).equal((logit.sigmoid() > 0.5).long())


def test_a_sigmoid_wants_one_logit() -> None:
    with pytest.raises(
        GpsweepError, match=r"model\.sigmoid=true: expected one output channel, came .*\(2, 3,"
    ):
        PixelNet(Returns(), sigmoid=True)(images())


def test_a_classifier_leaves_one_row_an_image() -> None:
    assert PixelNet(Returns(lambda x: x.mean((2, 3))), divisor=4)(images()).shape == (2, 3)


@pytest.mark.parametrize(
    ("make", "output"),
    [
        (lambda x: {"out": x, "aux": 2 * x}, None),
        (lambda x: OrderedDict(loss=None, logits=x, hidden=[x]), None),
        (lambda x: {"scores": x, "names": ["a"]}, None),
        (lambda x: (x,), None),
        (lambda x: [x, None], None),
        (lambda x: (2 * x, x), 1),
        (lambda x: (2 * x, x), -1),
        (lambda x: {"aux": 2 * x, "main": x}, "main"),
        (lambda x: {"out": 2 * x, "aux": x}, "aux"),
        (lambda x: {0: 2 * x, 1: x}, 1),
        (lambda x: Pair(x, x.mean((2, 3))), "masks"),
        (lambda x: Output(x, None), None),
        (lambda x: Output(2 * x, x), "loss"),
    ],
)
def test_logits_are_picked(make: Any, output: str | int | None) -> None:
    x = images()
    torch.testing.assert_close(PixelNet(Returns(make), scale=1.0, output=output)(x), x)


@pytest.mark.parametrize(
    ("make", "output", "says"),
    [
        (lambda x: {"a": x, "b": 2 * x}, None, r"model\.output=null: .*keys: a \(2, 3, 6, 5\), b"),
        (lambda x: (x, 2 * x), None, r"model\.output=null: .*indices: 0 \(2, 3, 6, 5\), 1"),
        (lambda x: {"a": x, "b": "text"}, "c", r"model\.output=c: .*keys: a \(2, 3, 6, 5\), b \(str\)"),
        (lambda x: (x, None), 2, r"model\.output=2: .*indices: 0 .*, 1 \(NoneType\)"),
        (lambda x: (x, None), -3, r"model\.output=-3: "),
        (lambda x: {"a": [x]}, "a", r"model\.output=a: expected logits .* came list"),
        (lambda x: x, "out", r"model\.output=out: .* came Tensor; .*model\.output=null"),
        (lambda x: x[0], None, r"model\.output=null: expected logits .* came a tensor \(3, 6, 5\)"),
        (lambda x: 3, None, r"model\.output=null: expected .* came int\.$"),
        (
            lambda x: Output(x, 3),
            "nothing",
            r"model\.output=nothing: .*keys: logits \(2, 3, 6, 5\), loss \(int",
        ),
        (lambda x: {}, None, r"model\.output=null"),
    ],
)
def test_logits_that_cannot_be_picked(make: Any, output: str | int | None, says: str) -> None:
    with pytest.raises(GpsweepError, match=says):
        PixelNet(Returns(make), output=output)(images())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"channels": "rgb"}, r"model\.channels=rgb: .*RGB"),
        ({"mean": (0.5, 0.5)}, r"model\.mean=\(0\.5, 0\.5\): .*3, came 2"),
        ({"mean": (0.5,) * 3, "channels": "L"}, r"model\.mean=.* 1, came 3"),
        ({"mean": "abc"}, r"model\.mean=abc: .*numbers"),
        ({"mean": float("nan")}, r"model\.mean=nan: .*finite"),
        ({"std": (1.0, 0.0, 1.0)}, r"model\.std=.*: must not be 0"),
        ({"std": (1.0, True, 1.0)}, r"model\.std=.*numbers"),
        ({"std": None}, r"model\.std=None"),
        ({"scale": 0}, r"model\.scale=0: must not be 0"),
        ({"scale": float("inf")}, r"model\.scale=inf: .*finite"),
        ({"scale": 1e300}, r"model\.scale=1e\+300, model\.mean=0\.0, model\.std=1\.0: expected numbers by"),
        ({"mean": 1e20, "std": 1e-30}, r"model\.mean=1e\+20, model\.std=1e-30: expected numbers by"),
        ({"divisor": 0}, r"model\.divisor=0"),
        ({"divisor": 10**20}, r"model\.divisor=10+: expected a whole number from 1 to 4096"),
        ({"divisor": 1.5}, r"model\.divisor=1\.5"),
        ({"aliases": {"a": "layer9"}}, r"model\.aliases\.a=layer9: unknown"),
        ({"aliases": {"input": "make"}}, r"model\.aliases\.input"),
    ],
)
def test_values_that_do_not_fit_name_their_key(change: dict[str, Any], says: str) -> None:
    with pytest.raises(GpsweepError, match=says):
        PixelNet(Returns(), **change)


def test_arrays_are_numbers() -> None:
    mean, std = np.array([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.25, 1.0])
    one = PixelNet(Returns(), mean=mean, std=std).preprocess
    other = PixelNet(Returns(), mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 1.0)).preprocess
    assert one.bias.equal(other.bias) and one.gain.equal(other.gain)


@pytest.mark.parametrize("shape", [(2, 1, 6, 5), (2, 6, 5, 3), (3, 6, 5)])
def test_what_is_no_batch_of_rgb_images_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(GpsweepError, match=r"x: expected images \(N, 3, H, W\), RGB, came a tensor"):
        PixelNet(Returns())(torch.zeros(shape))


def test_layers_go_by_the_names_of_the_raw_network() -> None:
    inner = nn.Sequential(OrderedDict(body=nn.Sequential(nn.Conv2d(3, 4, 1)), head=nn.Conv2d(4, 2, 1)))
    net = PixelNet(inner, aliases={"fc6": "body.0"})
    assert net.layer_aliases == {"body": "net.body", "body.0": "net.body.0", "head": "net.head"} | {
        "fc6": "net.body.0"
    }
    assert all(net.get_submodule(path) for path in net.layer_aliases.values())


def test_a_module_in_several_places_goes_by_each_of_its_names() -> None:
    inner = nn.Sequential(OrderedDict(body=nn.Conv2d(3, 4, 1), head=nn.Conv2d(4, 2, 1)))
    inner.stages = nn.ModuleList([inner.body, inner.head])
    net = PixelNet(inner, aliases={"first": "stages.0"})
    assert {net.layer_aliases[name] for name in ("body", "stages.0", "first")} == {"net.body"}
    assert layers.find(net, "stages.1") == layers.find(net, "head")


@pytest.mark.parametrize("alias", ["head", "input"])
def test_an_alias_does_not_hide_another_layer(alias: str) -> None:
    inner = nn.Sequential(OrderedDict(body=nn.Conv2d(3, 4, 1), head=nn.Conv2d(4, 2, 1)))
    with pytest.raises(GpsweepError, match=rf"model\.aliases\.{alias}=body"):
        PixelNet(inner, aliases={alias: "body"})


def test_an_inner_layer_is_replayed_without_preprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    net, memo = PixelNet(inner, divisor=8).eval(), Memo()
    found = list(curve(net, images(), [-1, 0, 1], layer=["net.0", "input"], memo=memo))
    shapes, preprocess = [], Preprocess.forward

    def counted(self: Preprocess, x: Tensor) -> Tensor:
        shapes.append(tuple(x.shape))
        return preprocess(self, x)

    monkeypatch.setattr(Preprocess, "forward", counted)
    for layer, passes in (("net.0", 1), ("input", 3)):  # the clean one; at the input one a point besides
        again = list(curve(net, images(), [-1, 0, 1], layer=layer, memo=memo))
        assert all(z.equal(dict(found)[point]) for point, z in again)
        assert shapes == [(2, 3, 6, 5)] * passes
        shapes.clear()


def test_the_wrapper_adds_no_weights() -> None:
    inner = nn.Conv2d(3, 2, 1)
    assert set(PixelNet(inner).state_dict()) == {"net.weight", "net.bias"}
