"""The passes of a batch: nothing outlives them, and a network may run otherwise from one to the next."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from naive import naive
from networks import CLASSES, batch, build
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.memo import Memo


def state_of(net: nn.Module) -> list[Any]:
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), "forward" in m.__dict__) for m in net.modules()
    ]
    return [hooks, [(p.requires_grad, p.grad, p._version) for p in net.parameters()]]


def test_nothing_is_left_behind_between_points_after_the_end_or_an_exception() -> None:
    net = build("skips")
    net.requires_grad_(True)
    next(net.parameters()).requires_grad_(False)
    before = state_of(net)
    x, target = batch("skips")
    original = x.clone()
    options = {"layer": ["input", "encoder.down", "merge"], "iterations": 2, "target": target}
    for _ in curve(net, x, eps=[-1, 0, 1], **options):
        assert state_of(net) == before
    assert state_of(net) == before
    walk = curve(net, x, eps=[-1, 0, 1], **options)
    next(walk)
    walk.close()
    assert state_of(net) == before

    def fail(module: nn.Module, args: Any) -> None:
        if not torch.is_grad_enabled():
            raise RuntimeError("broken")

    with net.head.register_forward_pre_hook(fail), pytest.raises(RuntimeError, match="broken"):
        list(curve(net, x, eps=[0.5], layer="input"))
    with net.merge.register_forward_pre_hook(fail), pytest.raises(RuntimeError, match="broken"):
        list(curve(net, x, eps=[0.5], layer="encoder.down"))
    assert state_of(net) == before
    assert x.equal(original)
    assert torch.backends.mha.get_fastpath_enabled()


def test_the_graph_is_freed() -> None:
    net, (x, _) = build("skips"), batch("skips")
    for _ in curve(net, x, eps=[-1, 1], label=["argmax", "top2"]):
        pass
    gc.collect()
    graphs = [o for o in gc.get_objects() if type(o) is Tensor and o.grad_fn is not None]
    assert graphs == []


class Brightening(nn.Module):
    """A network that changes its input in place, and uses it beside its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x.add_(1)
        return self.head(self.stem(x)) * x


def test_what_a_network_does_to_its_input_is_done_to_the_batch_at_each_point_anew() -> None:
    torch.manual_seed(0)
    net, x = Brightening().eval().requires_grad_(False), torch.rand(2, 3, 4, 4)
    original = x.clone()
    for point, logits in curve(net, x, [0, 0.5, 1], layer=["input", "stem"], iterations=2):
        if point.iterations == 2:
            assert logits.equal(naive(net, original, point))
    assert x.equal(original)


class EachAround(nn.Module):
    """A network that runs one module once a sample, before and after another."""

    def __init__(self) -> None:
        super().__init__()
        self.each, self.middle = nn.Conv2d(CLASSES, CLASSES, 1), nn.Conv2d(CLASSES, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        middle = self.middle(torch.cat([self.each(sample) for sample in x.split(1)]))
        return torch.cat([self.each(sample).tanh() for sample in middle.split(1)])


@pytest.mark.parametrize("sizes", [(4, 2), (4, 3), (2, 4)])
def test_a_module_may_run_more_or_less_often_in_another_batch(sizes: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net, memo = EachAround().eval(), Memo()
    for size in sizes:
        x = torch.rand(size, CLASSES, 4, 4)
        found = list(curve(net, x, [0.5], layer="middle", memo=memo))
        [(_, alone)] = curve(net, x, [0.5], layer="middle")
        assert found[0][1].equal(alone)


def test_what_is_known_of_a_layer_is_of_batches_that_run_alike() -> None:
    torch.manual_seed(0)
    net, memo, (more, fewer) = EachAround().eval(), Memo(), torch.rand(6, CLASSES, 4, 4).split([4, 2])
    options: dict[str, Any] = {"eps": 0.5, "layer_scale": "absolute", "memo": memo}
    list(curve(net, more, layer="middle", **options))
    list(curve(net, fewer, layer="each@1", **options))
    [(point, logits)] = curve(net, fewer, layer="middle", **options)
    assert logits.equal(naive(net, fewer, point, scale="absolute"))


def test_curves_of_batches_that_run_otherwise_may_be_begun_before_they_are_asked() -> None:
    torch.manual_seed(0)
    net, memo, batches = EachAround().eval(), Memo(), torch.rand(6, CLASSES, 4, 4).split([4, 2])
    begun = [
        curve(net, x, 0.5, layer=layer, layer_scale="absolute", memo=memo)
        for x, layer in zip(batches, ("middle", "each@1"), strict=True)
    ]
    for x, walk in zip(batches, begun, strict=True):
        [(point, logits)] = walk
        assert logits.equal(naive(net, x, point, scale="absolute"))


def test_a_run_that_another_batch_lacks_is_named() -> None:
    net, memo = EachAround().eval(), Memo()
    options: dict[str, Any] = {"layer": "each@7", "layer_scale": "absolute", "memo": memo}
    list(curve(net, torch.rand(4, CLASSES, 4, 4), [0.5], **options))
    with pytest.raises(GpsweepError, match="layer=each@7: the module runs only 4 times in a pass"):
        list(curve(net, torch.rand(2, CLASSES, 4, 4), [0.5], **options))


class Moody(nn.Module):
    """A network that runs a module otherwise where gradients are taken: more often at each pass, or never."""

    def __init__(self, *, more: bool) -> None:
        super().__init__()
        self.each, self.middle = nn.Conv2d(3, 3, 1), nn.Conv2d(3, CLASSES, 1)
        self.more, self.passes = more, 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += self.more
        for _ in range(self.passes if torch.is_grad_enabled() else 1):
            x = self.each(x)
        return self.middle(x)


def test_a_network_that_never_runs_alike_is_no_endless_matter() -> None:
    x = torch.rand(1, 3, 4, 4)
    assert len(list(curve(Moody(more=True).eval(), x, [0.5], layer=["each", "middle"]))) == 2
    with pytest.raises(GpsweepError, match="layer=each: expected to run alike in every forward pass"):
        list(curve(Moody(more=False).eval(), x, [0.5], layer=["each", "middle"]))


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_scripted_part_runs_as_it_is() -> None:
    plain = build("residual")
    x, _ = batch("residual")
    layers = ["input", "1", "1.bn1"]
    expected = dict(curve(plain, x, [0.5], layer=layers))
    plain[2] = torch.jit.script(plain[2])
    for point, logits in curve(plain, x, [0.5], layer=layers):
        torch.testing.assert_close(logits, expected[point])
    with pytest.raises(GpsweepError, match=r"layer=2\.bn1: .* only within TorchScript"):
        curve(plain, x, [0.5], layer="2.bn1")
    with pytest.raises(GpsweepError, match="layer=1: expected input, as a TorchScript"):
        curve(torch.jit.script(plain), x, [0.5], layer="1")
    [(point, logits)] = curve(torch.jit.freeze(torch.jit.script(plain)), x, [0.5])
    torch.testing.assert_close(logits, expected[point])


class Checkpointed(nn.Module):
    """A network that forgets what is within its block, and computes it again for the backward pass."""

    def __init__(self, *, forgets: bool) -> None:
        super().__init__()
        self.forgets = forgets
        self.a, self.b, self.c = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3)
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).tanh()
        return self.head(checkpoint(self.block, h, use_reentrant=False) if self.forgets else self.block(h))

    def block(self, h: Tensor) -> Tensor:
        return self.c(self.b(h).tanh()).tanh()


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("layer", ["input", "a", "b", "c", "head"])
def test_a_block_that_is_computed_again_gives_the_same_or_is_refused(layer: str, frozen: bool) -> None:
    torch.manual_seed(0)
    plain, forgetful = (Checkpointed(forgets=forgets).eval() for forgets in (False, True))
    forgetful.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 9, 9)
    for iterations in (1, 3):
        options: dict[str, Any] = {"eps": [0.3], "label": "uniform", "layer": layer, "iterations": iterations}
        expected = dict(curve(plain.requires_grad_(not frozen), x, **options))
        walk = curve(forgetful.requires_grad_(not frozen), x, **options)
        if iterations > 1 and layer in ("b", "c"):
            message = f"layer={layer}: the network computes b again .*; switch that off for iterations > 1"
            with pytest.raises(GpsweepError, match=message):
                list(walk)
        else:
            assert all(logits.equal(expected[point]) for point, logits in walk)
