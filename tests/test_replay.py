"""At a layer only what depends on it runs, and where that is not exact, the whole network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from naive import naive
from networks import CLASSES, Reversing, SideEffects, batch, build
from torch import Tensor, nn

from gpsweep.engine import curve
from gpsweep.memo import Memo


def test_replay_runs_only_what_follows_the_layer() -> None:
    net, (x, _) = build("skips"), batch("skips")
    runs: list[str] = []
    for name, module in net.named_modules():
        if name in {"encoder.stem", "merge", "head"}:
            forward = module.forward
            module.forward = lambda value, f=forward, n=name: (runs.append(n), f(value))[1]
    memo = Memo()
    list(curve(net, x, eps=[0], layer="encoder.down", memo=memo))
    runs.clear()
    list(curve(net, x, eps=[-1, 1], layer="encoder.down", memo=memo))
    assert runs.count("encoder.stem") == 1
    assert runs.count("head") == 3


class Thrice(nn.Module):
    """A block that runs three times, its convolution with it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, CLASSES, 1)
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x / 255)
        for _ in range(3):
            x = x + self.block(x)
        return self.head(x)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("layer", ["block.0@1", "block.0@2", "block.0@3", "block.1@2", "block@3"])
def test_a_layer_within_a_module_that_runs_several_times_is_replayed(layer: str) -> None:
    torch.manual_seed(0)
    net, (x, target) = Thrice().eval(), batch("skips")
    for point, logits in curve(net, x, eps=[-1, 0, 1], layer=layer, iterations=2):
        if point.iterations == 2:
            assert logits.equal(naive(net, x, point, target))


@pytest.mark.parametrize("precision", ["32", "bf16"])
def test_a_network_that_replay_cannot_serve_falls_back_with_one_warning(precision: Any) -> None:
    torch.manual_seed(0)
    net = SideEffects().eval()
    x, target = batch("skips")
    memo = Memo()
    with pytest.warns(UserWarning, match="layer=middle: .* full forward pass") as caught:
        for _ in range(2):
            for point, logits in curve(net, x, [-1, 0, 1], layer="middle", precision=precision, memo=memo):
                assert logits.equal(naive(net, x, point, target, precision=precision, gradient="32"))
    assert len(caught) == 1
    assert memo.trusted == {"middle": False}
    assert not memo.replays["middle"].unmoved, "nothing is kept for a replay that never comes"


def test_a_decoder_may_change_the_list_that_it_is_given() -> None:
    torch.manual_seed(0)
    net, x = Reversing().eval(), torch.randn(2, 3, 6, 7)
    together = list(curve(net, x, [0.1, 0.2, 0.3], layer="block"))
    for point, logits in together:
        [(_, alone)] = curve(net, x, point.eps, layer="block")
        assert logits.equal(alone)


class Keeping(nn.Module):
    """A network that hands features on beside the outputs of its modules, by a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
        self.middle, self.head = nn.Conv2d(4, 4, 1), nn.Conv2d(8, CLASSES, 1)
        self.kept: list[Tensor] = []
        self.encoder[0].register_forward_hook(self.keep)

    def keep(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.kept[:] = [output]

    def forward(self, x: Tensor) -> Tensor:
        found = self.middle(self.encoder(x))
        return self.head(torch.cat([found, *self.kept], 1))


class Unpooling(nn.Module):
    """A network in the manner of SegNet that keeps beside its outputs which pixels pooling took."""

    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 4, 1), nn.MaxPool2d(2, return_indices=True)

        def forward(self, x: Tensor) -> Tensor:
            pooled, self.taken = self.pool(self.conv(x))
            return pooled

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.middle = self.Pooled(), nn.Conv2d(4, 4, 1)
        self.unpool, self.head = nn.MaxUnpool2d(2), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.unpool(self.middle(self.encoder(x)), self.encoder.taken))


@pytest.mark.parametrize("make", [Keeping, Unpooling])
def test_what_a_network_keeps_of_another_pass_does_not_enter_a_point(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net, x = make().eval(), torch.rand(2, 3, 8, 8)
    with pytest.warns(UserWarning, match="layer=middle: what depends on it cannot be computed alone"):
        found = {point: z for point, z in curve(net, x, [0.5, 1], layer=["input", "middle"])}
    for point in [point for point in found if point.layer == "middle"]:
        assert found[point].equal(naive(net, x, point))


class Fused(nn.Module):
    """A module that rounds otherwise where no gradient is wanted, as fused attention does."""

    def forward(self, x: Tensor) -> Tensor:
        return x if torch.is_grad_enabled() else x.nextafter(x + 1)


class Attending(nn.Module):
    """A network that uses such a module before and beside a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fused = nn.Conv2d(3, 4, 1), Fused()
        self.middle, self.head = nn.Conv2d(4, 4, 1), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = self.fused(self.stem(x))
        return self.head(self.middle(found) * found)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1, 1e-6])
def test_what_rounds_otherwise_without_gradients_is_replayed_as_it_is_without_them(size: float) -> None:
    torch.manual_seed(0)
    net, memo = Attending().eval().requires_grad_(False), Memo()
    net.head.weight *= size
    net.head.bias *= 0
    for x in torch.rand(2, 2, 3, 8, 8):
        for point, logits in curve(net, x, [0.5, 1], layer="middle", memo=memo):
            assert logits.equal(naive(net, x, point))
    assert memo.trusted == {"middle": True}


@pytest.mark.filterwarnings("error")
def test_logits_that_are_no_numbers_are_those_of_the_replay_as_well() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, CLASSES, 1)).eval().requires_grad_(False)
    net[1].bias[0] = torch.nan
    [(_, logits)] = curve(net, torch.rand(2, 3, 4, 4), 0.5, layer="0")
    assert logits[:, 0].isnan().all()


class Features(nn.Module):
    """A network whose decoder takes an inner layer's features, kept by a hook or returned."""

    def __init__(self, *, hooked: bool) -> None:
        super().__init__()
        self.stem, self.middle = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
        self.head = nn.Conv2d(8, CLASSES, 1)
        self.kept: list[Tensor] = []
        if hooked:
            self.stem.register_forward_hook(
                lambda module, args, output: self.kept.__setitem__(slice(1), [output])
            )

    def forward(self, x: Tensor) -> Tensor:
        features = self.stem(x)
        [kept] = self.kept or [features]
        return self.head(torch.cat([self.middle(features), kept], 1))


@pytest.mark.filterwarnings("error")
def test_a_layer_that_a_hook_of_the_network_looks_at_is_perturbed_for_the_hook_as_well() -> None:
    hooked, returned = (Features(hooked=hooks).eval() for hooks in (True, False))
    returned.load_state_dict(hooked.state_dict())
    options: dict[str, Any] = {"eps": [-1, 0.5], "layer": ["input", "stem"], "iterations": 2}
    x = torch.rand(2, 3, 4, 4)
    expected = dict(curve(returned, x, **options))
    assert all(logits.equal(expected[point]) for point, logits in curve(hooked, x, **options))


class Writing(nn.Module):
    """A network one module of which writes into the dict that it is given."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)

        def forward(self, found: dict[str, Tensor]) -> None:
            found["deep"] = self.conv(found["image"])

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.middle, self.head = self.Encoder(), nn.Conv2d(4, 4, 1), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = {"image": x}
        self.encoder(found)
        return self.head(self.middle(found["deep"]))


def test_what_fails_without_the_modules_before_a_layer_takes_full_passes() -> None:
    torch.manual_seed(0)
    net, x = Writing().eval(), torch.rand(2, 3, 4, 4)
    with pytest.warns(UserWarning, match="layer=middle: what depends on it cannot be computed alone"):
        found = list(curve(net, x, [0.5, 1], layer="middle"))
    for point, logits in found:
        assert logits.equal(naive(net, x, point))
