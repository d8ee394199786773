"""Weights that are laid out once for a batch: the same numbers, and nothing left on the network."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from gpsweep.engine import curve
from gpsweep.memo import Memo
from gpsweep.packed import MANY, Compared, Met, Packed

lays_out = hasattr(torch.ops.mkldnn, "_reorder_convolution_weight") and torch.backends.mkldnn.is_available()
needs_onednn = pytest.mark.skipif(not lays_out, reason="this PyTorch lays out no weights")


def image(*shape: int, channels_last: bool = True) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


def small() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 5, 3)
    return nn.Sequential(*layers).eval().to(memory_format=torch.channels_last)


def plainly(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = net(x)
        return result


def once(ways: Packed, net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad(), ways.running():
        result: Tensor = net(x)
        return result


def packed(net: nn.Module, x: Tensor, known: Compared) -> tuple[Tensor, Packed]:
    """What a network gives the third time, when nothing is compared any more."""
    ways = Packed(net, known, MANY)
    return [once(ways, net, x) for _ in range(3)][-1], ways


@given(
    inputs=st.sampled_from([1, 3, 8, 32]),
    outputs=st.sampled_from([1, 5, 16, 40]),
    kernel=st.sampled_from([1, 2, 3, (1, 5), 7]),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 3]),
    padding=st.sampled_from([0, 1, 4]),
    bias=st.booleans(),
    depthwise=st.booleans(),
    weights_last=st.booleans(),
    sizes=st.lists(st.tuples(st.integers(1, 3), st.integers(19, 40), st.integers(19, 40), st.booleans())),
)
def test_every_convolution_gives_the_same_bits_at_every_size(
    inputs: int,
    outputs: int,
    kernel: Any,
    stride: int,
    dilation: int,
    padding: int,
    bias: bool,
    depthwise: bool,
    weights_last: bool,
    sizes: list[tuple[int, int, int, bool]],
) -> None:
    groups, outputs = (inputs, inputs * 2) if depthwise else (1, outputs)
    net = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, groups, bias)
    net = net.to(memory_format=torch.channels_last) if weights_last else net
    known = Compared()
    for samples, height, width, channels_last in [(2, 24, 32, True), *sizes]:
        x = image(samples, inputs, height, width, channels_last=channels_last)
        found, _ = packed(net, x, known)
        expected = plainly(net, x)
        assert found.equal(expected)
        assert found.stride() == expected.stride()


@needs_onednn
def test_weights_are_laid_out_once_for_a_batch_and_compared_once_for_a_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net, known, x = small(), Compared(), image(2, 3, 24, 32)
    _, first = packed(net, x, known)
    assert list(known.same.values()) == [True, True]
    assert known.steady == {"0": True, "2": True}
    laid_out = dict(first.weights)
    once(first, net, x)
    assert len(laid_out) == 2
    assert all(first.weights[met][-1] is weights[-1] for met, weights in laid_out.items())
    _, second = packed(net, x, known)
    assert len(second.weights) == 2
    assert len(known.same) == 2
    other, third = image(1, 3, 80, 90), Packed(net, known, MANY)
    once(third, net, other)
    assert list(known.same.values()) == [True] * 4
    monkeypatch.setattr(Packed, "compared", None)  # a convolution that was found steady is so at every size
    assert once(third, net, other).equal(plainly(net, other))


@needs_onednn
def test_a_curve_of_many_points_predicts_with_weights_that_are_laid_out() -> None:
    net, memo, x = small(), Memo(), image(2, 3, 24, 32)
    few = [0.1 * n for n in range(1, MANY)]
    list(curve(net, x, eps=few, memo=memo))
    assert not memo.packed.same
    list(curve(net, x, eps=[*few, 2], layer="1", memo=memo))
    assert {met[0]: same for met, same in memo.packed.same.items()} == {"0": True, "2": True}
    assert memo.packed.steady["2"]


class Several(nn.Module):
    """Several networks' weights for one structure, one after the other, as ensembles have."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()
        self.weights = [{k: v + n for k, v in self.net.state_dict().items()} for n in range(3)]

    def forward(self, x: Tensor) -> Tensor:
        results: list[Tensor] = [functional_call(self.net, weights, x) for weights in self.weights]
        return sum(results, torch.zeros(()))


class Writing(nn.Module):
    """A network that writes into its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.net[2].weight.copy_(x[0, 0, :1, :1].expand_as(self.net[2].weight))
        result: Tensor = self.net(x)
        return result


class Hiding(Writing):
    """One that does so behind its parameters' backs, and runs each of its convolutions twice."""

    def forward(self, x: Tensor) -> Tensor:
        self.net[2].weight.data.copy_(x[0, 0, :1, :1].expand_as(self.net[2].weight))
        result: Tensor = self.net(x) + self.net(x.flip(-1))
        return result


class Mapped(nn.Module):
    """An ensemble as one network whose weights are stacked, and a network that sees one image at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.last = small(), nn.Conv2d(5, 4, 3, padding=1)
        self.stacked = {k: torch.stack([v, v + 1]) for k, v in self.net.state_dict().items()}

    def forward(self, x: Tensor) -> Tensor:
        several: Tensor = vmap(lambda weights: functional_call(self.net, weights, x))(self.stacked)
        single: Tensor = vmap(lambda image: self.last(image[None])[0])(several.mean(0))
        return single


def test_what_vmap_maps_is_left_alone() -> None:
    net, known, x = Mapped(), Compared(), image(2, 3, 24, 32)
    found, ways = packed(net, x, known)
    assert len(ways.convolutions) == 3
    assert not known.same
    assert found.equal(plainly(net, x))


@pytest.mark.parametrize("kind", [Several, Writing, Hiding])
def test_weights_that_change_from_pass_to_pass_are_the_present_ones(kind: type[nn.Module]) -> None:
    net = kind()
    ways, batches = Packed(net, Compared(), MANY), [image(2, 3, 24, 32) * factor for factor in (1, 2, 3)]
    expected = [plainly(net, x) for x in batches]
    for x, wanted in [*zip(batches, expected, strict=True)] * 2:
        assert once(ways, net, x).equal(wanted)


@needs_onednn
def test_a_network_that_hides_what_it_writes_is_found_out() -> None:
    net, known = Hiding(), Compared()
    ways = Packed(net, known, MANY)
    for factor in (1, 2):
        once(ways, net, image(2, 3, 24, 32) * factor)
    assert known.steady == {"net.0": True, "net.2": False}
    assert {path for path, *_ in ways.weights} == {"net.0"}


@needs_onednn
def test_what_is_steady_is_found_out_in_any_batch() -> None:
    net, known, x = small(), Compared(), image(2, 3, 24, 32)
    once(Packed(net, known, MANY), net, x)
    assert not known.steady
    packed(net, x, known)
    assert known.steady == {"0": True, "2": True}


@needs_onednn
def test_few_passes_are_pytorchs_whatever_others_found_out() -> None:
    net, known, x = small(), Compared(), image(2, 3, 24, 32)
    packed(net, x, known)
    few = Packed(net, known, MANY - 1)
    with torch.no_grad(), few.running():
        assert net(x).equal(plainly(net, x))
    assert not few.convolutions
    assert not few.weights


def test_nothing_is_left_on_the_network() -> None:
    net = small()
    before = [dict(module.__dict__) for module in net.modules()]
    ways = Packed(net, Compared(), MANY)
    with pytest.raises(ZeroDivisionError), ways.running():
        assert "_conv_forward" in net[0].__dict__
        raise ZeroDivisionError
    assert [dict(module.__dict__) for module in net.modules()] == before


def test_weights_of_a_batch_go_with_its_curve() -> None:
    made: list[weakref.ref[Packed]] = []

    class Watched(Packed):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(weakref.ref(self))

    gc.collect()
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("gpsweep.passes.Packed", Watched)
            eps = [0.1 * n for n in range(MANY)]
            list(curve(small(), image(2, 3, 24, 32), eps=eps, layer=["input", "1"], iterations=2))
        assert [ref() for ref in made] == [None]
    finally:
        gc.enable()


def beside(_: Packed, met: Met, module: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.nextafter(F.conv2d(x, weight, bias, padding=module.padding), torch.tensor(torch.inf))


def turned(_: Packed, met: Met, module: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=module.padding).contiguous()


def lacking(*_: Any) -> Tensor:
    raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_convolution_weight'")


def refusing(*_: Any) -> Tensor:
    raise RuntimeError("mkldnn_reorder_conv2d_weight: MKL-DNN build is disabled")


@pytest.mark.parametrize("way", [beside, turned, lacking, refusing])
def test_where_it_would_not_be_the_same_convolutions_stay_as_they_are(
    way: Callable[..., Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, known, x = small(), Compared(), image(2, 3, 24, 32)
    monkeypatch.setattr(Packed, "quickly", way)
    found, _ = packed(net, x, known)
    assert found.equal(plainly(net, x))
    assert list(known.same.values()) == [False, False]


def test_memory_that_runs_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(Packed, "quickly", full)
    known = Compared()
    with pytest.raises(RuntimeError, match="allocate memory"):
        packed(small(), image(2, 3, 24, 32), known)
    assert not known.same


class Doubling(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Own(nn.Conv2d):
    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return -super()._conv_forward(x, weight, bias)


@pytest.mark.parametrize(
    "net",
    [
        Doubling(3, 4, 3),
        Own(3, 4, 3),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Conv2d(3, 4, 3).double(),
        nn.ConvTranspose2d(3, 4, 3),
        parametrizations.weight_norm(nn.Conv2d(3, 4, 3)),
    ],
    ids=["forward", "_conv_forward", "reflect", "same", "double", "transposed", "weight_norm"],
)
def test_other_convolutions_are_left_alone(net: nn.Module) -> None:
    assert not Packed(net, Compared(), MANY).convolutions


def test_a_pass_for_a_gradient_or_in_fewer_bits_is_pytorchs() -> None:
    net, known, x = small(), Compared(), image(2, 3, 24, 32)
    with Packed(net, known, MANY).running():
        net(x).sum().backward()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            net(x)
        with torch.no_grad():
            net[0](x[0])  # one image without its batch
            net[0](x[:0])
    assert net[0].weight.grad is not None
    assert not known.same


def test_where_onednn_is_switched_off_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    net, known = small(), Compared()
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        packed(net, image(2, 3, 24, 32), known)
    finally:
        torch._C._set_mkldnn_enabled(before)
    assert not known.same
