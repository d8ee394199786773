from __future__ import annotations

import gc
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import IDS, naive, naive_curve
from networks import CLASSES, NETWORKS, SideEffects, batch, build
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.labels import STRATEGIES, Hints
from gpsweep.memo import Memo
from gpsweep.points import LABELS, SIGNALS, STEPS, Point
from gpsweep.signals import eq5
from gpsweep.steps import by_rms, rms


def output_of(name: str) -> Any:
    return 0 if name == "tuples" else None


# Of the forward passes and of the gradient.
PRECISIONS = [("32", "32"), ("bf16", "32"), ("bf16", "bf16"), ("32", "bf16")]


@pytest.mark.parametrize("precisions", PRECISIONS, ids="-".join)
@pytest.mark.parametrize("name", NETWORKS)
def test_fused_equals_naive_bit_for_bit(name: str, precisions: tuple[str, str]) -> None:
    net, layers = build(name), NETWORKS[name][1]
    x, target = batch(name)
    precision, gradient = precisions
    steps, count = [-2, 0, 0.5], 0
    walk = curve(
        net,
        x,
        eps=steps,
        label=LABELS,
        signal=SIGNALS,
        layer=layers,
        step=STEPS,
        target=target,
        sample_ids=IDS,
        output=output_of(name),
        precision=precision,
        gradient_precision=gradient,
    )
    for own, points in groupby(walk, key=lambda found: found[0].curve()):
        apart = naive_curve(net, x, own, steps, target, precision=precision, gradient=gradient)
        for (point, logits), eps, expected in zip(points, steps, apart, strict=True):
            assert point == replace(own, eps=eps)
            assert logits.equal(expected), (point, (logits - expected).abs().max())
            assert not logits.requires_grad
            count += 1
    assert count == 3 * len(LABELS) * len(SIGNALS) * len(layers) * len(STEPS)


@pytest.mark.parametrize("precisions", PRECISIONS[:3], ids="-".join)
@pytest.mark.parametrize("name", NETWORKS)
def test_trajectories_equal_the_three_steps_repeated(name: str, precisions: tuple[str, str]) -> None:
    net, layers = build(name), NETWORKS[name][1]
    x, target = batch(name)
    seen = set()
    precision, gradient = precisions
    options = {"label": ["argmax", "ground_truth"], "layer": layers, "target": target, "sample_ids": IDS}
    options |= {"precision": precision, "gradient_precision": gradient}
    for most in (1, 2, 3):
        for point, logits in curve(net, x, eps=[0, 1.5], iterations=most, output=output_of(name), **options):
            if point.iterations == most:
                expected = naive(net, x, point, target, precision=precision, gradient=gradient)
                assert logits.equal(expected), point
            seen.add((most, point.iterations))
    assert seen == {(1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)}


@pytest.mark.parametrize("name", NETWORKS)
def test_several_points_in_one_forward_agree_up_to_rounding(name: str) -> None:
    net, layers = build(name), NETWORKS[name][1]
    x, _ = batch(name)
    options = {
        "eps": [-1, 0, 0.5, 1, 2],
        "layer": layers,
        "label": ["argmax", "top2"],
        "output": output_of(name),
    }
    one = dict(curve(net, x, **options))
    three = dict(curve(net, x, **options, points_per_forward=3))
    assert one.keys() == three.keys()
    for point in one:
        torch.testing.assert_close(three[point], one[point], rtol=1e-4, atol=1e-4)


@given(eps=st.floats(-20, 20), seed=st.integers(0, 2**31), step=st.sampled_from(STEPS))
@settings(max_examples=25)
def test_no_pixel_moves_further_than_it_may(eps: float, seed: int, step: str) -> None:
    net = build("skips", seed=seed % 7)
    x, _ = batch("skips", seed=seed)
    seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    [(point, _)] = curve(net, x, eps=eps, step=step)
    moved = (seen[-1] - x).abs()
    if step == "sign":
        assert moved.max() <= abs(point.eps) + 2e-5
    else:
        size = moved.square().mean((1, 2, 3)).sqrt()
        torch.testing.assert_close(size, torch.full_like(size, abs(point.eps)), rtol=1e-2, atol=2e-5)


def test_passes_are_shared() -> None:
    net = build("skips")
    x, _ = batch("skips")
    forwards: list[bool] = []
    net.head.register_forward_hook(lambda *args: forwards.append(torch.is_grad_enabled()))
    list(curve(net, x, eps=[-1, 0, 1, 2], label=["argmax", "uniform"], signal=["eq5", "cross_entropy"]))
    assert sum(forwards) == 1, "one clean forward with gradients"
    assert len(forwards) == 1 + 3 * 4


def test_replay_runs_only_what_follows_the_layer() -> None:
    net = build("skips")
    x, _ = batch("skips")
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


def test_a_network_that_replay_cannot_serve_falls_back_with_one_warning() -> None:
    torch.manual_seed(0)
    net = SideEffects().eval()
    x, target = batch("skips")
    memo = Memo()
    with pytest.warns(UserWarning, match="layer=middle: .* full forward pass") as caught:
        for _ in range(2):
            for point, logits in curve(net, x, eps=[-1, 0, 1], layer="middle", memo=memo):
                assert logits.equal(naive(net, x, point, target))
    assert len(caught) == 1


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
    net = build("skips")
    x, _ = batch("skips")
    for _ in curve(net, x, eps=[-1, 1], label=["argmax", "top2"]):
        pass
    gc.collect()
    graphs = [o for o in gc.get_objects() if type(o) is Tensor and o.grad_fn is not None]
    assert graphs == []


def test_padding_gets_no_signal_and_no_perturbation() -> None:
    net = build("skips")
    x, _ = batch("skips")
    valid = torch.ones(2, 9, 14, dtype=torch.bool)
    valid[1, 7:], valid[1, :, 10:] = False, False
    seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    for step in STEPS:
        list(curve(net, x, eps=[2.0], step=step, valid=valid))
        moved = seen[-1] - x
        assert moved[~valid.unsqueeze(1).expand_as(moved)].abs().max() == 0
        assert moved[valid.unsqueeze(1).expand_as(moved)].abs().max() > 0
    size = moved[1][:, valid[1]].square().mean().sqrt()
    torch.testing.assert_close(size, torch.tensor(2.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("conv", [nn.Conv1d, nn.Conv3d])
def test_padding_of_signals_and_volumes_gets_no_signal(conv: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = conv(2, CLASSES, 3, padding=1).eval()
    sides = (6,) * (net.weight.dim() - 2)
    x, valid = torch.randn(2, 2, *sides), torch.rand(2, *sides) > 0.5
    inside = x.clone().requires_grad_()
    z = net(inside)
    signal = eq5(z.detach().softmax(1), torch.full_like(z, 1 / CLASSES)) * valid.unsqueeze(1)
    (gradient,) = torch.autograd.grad(z, inside, signal)
    [(_, logits)] = curve(net, x, 0.5, "uniform", valid=valid)
    assert logits.equal(net(x + 0.5 * gradient.sign() * valid.unsqueeze(1)))


def test_a_network_of_64_bits_gets_a_signal_of_64() -> None:
    # In 32 bits the softmax of such logits is 1, and the signal at the likelier class 0.
    x = torch.tensor([[20.0, 0.0]], dtype=torch.float64)
    [(_, logits)] = curve(nn.Identity().eval(), x, 1.0, signal="cross_entropy")
    assert logits.tolist() == [[21.0, -1.0]]


def test_the_labels_of_padding_give_no_direction() -> None:
    net = build("skips")
    x, target = batch("skips")
    valid = torch.ones(2, 9, 14, dtype=torch.bool)
    valid[1, 7:], valid[1, :, 10:] = False, False
    other = target.where(valid, (target + 1) % CLASSES)
    options = {"eps": [2.0], "label": "ground_truth", "layer": ["input", "encoder.down.1"], "step": STEPS}
    options |= {"signal": SIGNALS, "iterations": 2}
    one, same = (dict(curve(net, x, target=t, valid=valid, **options)) for t in (target, other))
    assert one.keys() == same.keys()
    assert all(logits.equal(same[point]) for point, logits in one.items())
    one, changed = (dict(curve(net, x, target=t, **options)) for t in (target, other))
    assert not any(logits.equal(changed[point]) for point, logits in one.items()), "they are no padding here"


def test_random_labels_belong_to_the_sample_not_the_batch() -> None:
    net = build("skips")
    x, _ = batch("skips")
    options = {"eps": [3.0], "label": "random_onehot"}
    [(_, together)] = curve(net, x, sample_ids=IDS, **options)
    [(_, alone)] = curve(net, x[1:], sample_ids=["b"], **options)
    [(_, other)] = curve(net, x[1:], sample_ids=["c"], **options)
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)
    assert (together[1:] - other).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(64, 90, 120), (512, 32, 32), (50, 700)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_rms_of_an_image_is_the_same_with_any_number_of_threads(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    h = torch.randn((12, *shape), generator=torch.Generator().manual_seed(0))
    h = h.contiguous(memory_format=memory_format) if h.dim() == 4 else h
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(torch.cat([rms(image) for image in h.split(1)]))
    finally:
        torch.set_num_threads(threads)
    assert found[0].equal(found[1])
    assert found[0].equal(found[2])
    exact = h.double().square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(found[0].flatten().double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("scale", ["rms", "absolute"])
def test_relative_and_absolute_scale_at_inner_layers(scale: Any) -> None:
    net = build("skips")
    x, _ = batch("skips")
    x[1] /= 4  # of another activation than the first
    sizes: list[Tensor] = []
    with net.encoder.down[3].register_forward_hook(
        lambda module, args, output: sizes.append(output.square().mean((1, 2, 3)).sqrt())
    ):
        net(x)
    [size] = sizes
    assert (size[0] - size[1]).abs() > 0.01
    kept: list[Tensor] = []
    net.merge.register_forward_pre_hook(lambda module, args: kept.append(args[0][:, 8:].detach().clone()))
    list(curve(net, x, eps=[0, 0.1], layer="encoder.down.3", layer_scale=scale))
    _trace, clean, *_, moved = kept
    difference = (moved - clean).abs().amax((1, 2, 3))
    expected = 0.1 * (size if scale == "rms" else torch.ones(2))
    torch.testing.assert_close(difference, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layer_scale": "RMS"}, "layer_scale=RMS: unknown. Did you mean rms"),
        ({"random_unit": "images"}, "random_unit=images: unknown. Did you mean image"),
        (
            {"memory_format": "channels-last"},
            "memory_format=channels-last: unknown. Did you mean channels_last",
        ),
        ({"clip": (5,)}, "clip=.*: expected the lowest and the highest value"),
        ({"clip": (255, 0)}, "clip=.*: expected the lowest and the highest value"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], says: str) -> None:
    with pytest.raises(GpsweepError, match=says):
        curve(build("skips"), batch("skips")[0], eps=1, **options)


def test_a_memo_serves_one_network() -> None:
    memo, net, x = Memo(), build("skips"), batch("skips")[0]
    for _ in range(2):
        next(curve(net, x, eps=1, memo=memo))
    with pytest.raises(GpsweepError, match="memo: expected one of this network"):
        curve(build("skips"), x, eps=1, memo=memo)


def test_clip_keeps_the_input_in_range() -> None:
    net = build("skips")
    x, _ = batch("skips")
    seen: list[Tensor] = []
    net.register_forward_pre_hook(lambda module, args: seen.append(args[0].detach().clone()))
    list(curve(net, x, eps=[300.0], clip=(0, 255)))
    assert seen[-1].min() >= 0
    assert seen[-1].max() <= 255


def test_a_guide_gives_the_direction() -> None:
    net = build("skips")
    x, target = batch("skips")

    asking: list[Point] = []

    def both(pull: Any, step: Any, *, logits: Tensor, point: Point, **_: Any) -> list[Tensor]:
        asking.append(point)
        hints = Hints(target)
        parts = [step(pull(STRATEGIES[name](logits, hints))) for name in ("argmax", "argmax")]
        return [0.5 * (a + b) for a, b in zip(*parts, strict=True)]

    options = {"eps": [-1, 0, 2], "layer": ["input", "encoder.down"], "iterations": 2}
    plain = dict(curve(net, x, label="argmax", **options))
    guided = dict(curve(net, x, label="both", guides={"both": both}, **options))
    assert len(plain) == len(guided) == 12
    assert {point.eps for point in asking} == {0}, "curves ask, in every iteration"
    assert {point.layer for point in asking} == {"input", "encoder.down"}
    for point, logits in guided.items():
        twin = replace(point, label="argmax")
        assert logits.equal(plain[twin])


def test_uniform_likelihood_is_the_base() -> None:
    net = build("skips")
    x, _ = batch("skips")
    found = dict(curve(net, x, eps=[0, 5], label="uniform", signal="likelihood", step=["sign", "rms"]))
    first, *rest = found.values()
    assert all(logits.equal(first) for logits in rest)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "encodr"}, r"layer=encodr: unknown\. Did you mean encoder"),
        ({"layer": "encoder.down.3.relu"}, r"runs 2 times in a pass; say which: .*relu@1, .*relu@2"),
        ({"layer": "head@2"}, "runs only 1 times"),
        ({"label": "argmux"}, r"label=argmux: unknown\. Did you mean argmax"),
        ({"signal": "eq4"}, "signal=eq4: unknown"),
        ({"step": "l2"}, "step=l2"),
        ({"eps": []}, r"eps=\[\]: expected"),
        ({"eps": float("nan")}, "eps=nan: expected a finite number"),
        ({"iterations": 0}, "iterations=0"),
        ({"label": "ground_truth"}, "expected a target"),
        ({"sample_ids": ["a"]}, "sample_ids: expected one per sample, 2, came 1"),
        ({"output": "out"}, "model.output=out"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    net = build("skips")
    x, _ = batch("skips")
    with pytest.raises(GpsweepError, match=message):
        list(curve(net, x, **{"eps": [1], **options}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"net": abs}, r"net: expected an nn\.Module, came builtin_function_or_method"),
        ({"x": (torch.zeros(1), torch.zeros(1))}, r"x: expected a tensor .* came tuple; .* several inputs"),
        ({"x": np.zeros((1, 2), np.float32)}, r"x: expected a tensor \(N, …\), came ndarray"),
        ({"target": np.zeros(1)}, "target: expected a tensor, came ndarray"),
        ({"valid": torch.full((1, 2), 255)}, r"valid: expected a tensor of bool, came torch\.int64"),
        ({"valid": torch.ones(1, 2).bool()}, r"valid: expected the size of x, \(1,\), came \(1, 2\)"),
        (
            {"x": torch.zeros(2, 3, 4, 4), "valid": torch.ones(1, 4, 4).bool()},
            r"valid: expected the size of x, \(2, 4, 4\), came \(1, 4, 4\)",
        ),
        ({"clip": 1}, "clip=1: expected the lowest and the highest value"),
        ({"points_per_forward": "all"}, "points_per_forward=all: expected auto or at least 1"),
        ({"precision": 32}, "precision=32: expected the text '32', came int"),
    ],
)
def test_arguments_of_other_kinds_are_named_at_the_call(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GpsweepError, match=message):
        curve(**{"net": nn.Linear(2, 2).eval(), "x": torch.zeros(1, 2), "eps": 1, **options})


def test_training_mode_and_lost_gradients_are_refused() -> None:
    net = build("skips")
    x, _ = batch("skips")
    with pytest.raises(GpsweepError, match=r"net\.eval"):
        curve(net.train(), x, eps=1)
    net.eval()
    with torch.inference_mode(), pytest.raises(GpsweepError, match="inference mode"):
        curve(net, x, eps=1)

    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach()[:, :2]

    with pytest.raises(GpsweepError, match="layer=input: the logits do not depend on it"):
        list(curve(Detached().eval(), x, eps=1))


@pytest.mark.parametrize("layer", ["extra", ["input", "extra"]])
def test_a_layer_without_influence_is_refused(layer: Any) -> None:
    net = build("tuples")

    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.extra = net, nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.extra(x)
            return self.inner(x)[0]

    x, _ = batch("tuples")
    with pytest.raises(GpsweepError, match="layer=extra: the logits do not depend on it"):
        list(curve(Unused().eval(), x, eps=1, layer=layer))


class Reversing(nn.Module):
    """A list, one of whose tensors follows from the other, and a decoder that changes it."""

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

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


class Opposed(nn.Module):
    """A layer that gives a = x and b = −3x, and logits a + 2b."""

    class Layer(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, -3 * x

    def __init__(self) -> None:
        super().__init__()
        self.layer = self.Layer()

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.layer(x)
        return first + 2 * second


@pytest.mark.parametrize("layer", ["layer", ["input", "layer"]])
@pytest.mark.parametrize("iterations", [1, 3])
def test_a_tensor_of_a_layer_moves_by_what_follows_the_layer_alone(layer: Any, iterations: int) -> None:
    # ∂z/∂a = 1 and ∂z/∂b = 2, whatever b is made of; along x it is −5.
    x = torch.tensor([[0.5, -1.0, 2.0]])
    found = dict(
        curve(
            Opposed().eval(), x, 0.25, "uniform", layer=layer, iterations=iterations, layer_scale="absolute"
        )
    )
    label = torch.full_like(x, 1 / 3)

    def three_steps(a: Tensor, b: Tensor, times: int) -> Tensor:
        for _ in range(times):
            direction = eq5((a + 2 * b).softmax(1), label).sign()
            a, b = a + 0.25 * direction, b + 0.25 * direction
        return a + 2 * b

    assert all(
        logits.equal(three_steps(x, -3 * x, point.iterations))
        for point, logits in found.items()
        if point.layer == "layer"
    )


def test_a_decoder_may_change_the_list_that_it_is_given() -> None:
    torch.manual_seed(0)
    net, x = Reversing().eval(), torch.randn(2, 3, 6, 7)
    together = list(curve(net, x, [0.1, 0.2, 0.3], layer="block"))
    for point, logits in together:
        [(_, alone)] = curve(net, x, point.eps, layer="block")
        assert logits.equal(alone)


def test_a_layers_gradient_does_not_depend_on_the_other_layers() -> None:
    torch.manual_seed(0)
    net, x = Reversing().eval(), torch.randn(2, 3, 6, 7)
    [(_, alone)] = curve(net, x, 0.5, layer="encoder")
    both = {point.layer: logits for point, logits in curve(net, x, 0.5, layer=["input", "encoder"])}
    assert alone.equal(both["encoder"])
    assert alone.equal(naive(net, x, Point(layer="encoder", eps=0.5), torch.zeros(2, 6, 7).long()))


class EachAlone(nn.Module):
    """A layer that runs once for each sample, and one that runs on as many prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.prototypes = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("words", torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        found = torch.cat([self.layer(one[None]) for one in x])
        return found @ self.prototypes(self.words).T


def test_a_layer_that_runs_once_a_sample_is_refused() -> None:
    with pytest.raises(GpsweepError, match="the module runs 3 times in a pass; say which"):
        list(curve(EachAlone().eval(), torch.randn(3, 4), 0.5, layer="layer"))


class SequenceFirst(nn.Module):
    """A network whose inner layer puts positions before the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Conv2d(3, 6, 1), nn.Linear(6, 6), nn.Conv2d(6, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        positions: Tensor = self.mix(h.flatten(2).permute(2, 0, 1))
        return self.head(positions.permute(1, 2, 0).reshape(h.shape))


def test_an_image_has_no_rms_where_the_batch_is_not_first() -> None:
    # Where weights ask for gradients, this linear layer rounds otherwise; the engine asks for none.
    net, x = SequenceFirst().eval().requires_grad_(False), torch.randn(2, 3, 4, 4)
    for options in ({}, {"layer_scale": "absolute", "step": "rms"}):
        with pytest.raises(GpsweepError, match=r"layer=mix: gives \(16, 2, 6\) for a batch of 2"):
            list(curve(net, x, 0.5, layer="mix", **options))
    [(point, logits)] = curve(net, x, 0.5, layer="mix", layer_scale="absolute")
    assert logits.equal(naive(net, x, point, torch.zeros(2, 4, 4), scale="absolute"))


def test_logits_do_not_depend_on_the_layers_of_the_grid() -> None:
    net, x = SequenceFirst().eval(), torch.randn(2, 3, 4, 4)
    alone = dict(curve(net, x, [0, 0.5], layer="mix", layer_scale="absolute"))
    beside = dict(curve(net, x, [0, 0.5], layer=["input", "mix"], layer_scale="absolute"))
    assert all(logits.equal(beside[point]) for point, logits in alone.items())
    assert alone[Point(layer="mix", eps=0)].equal(beside[Point(layer="input", eps=0)])


def test_points_that_change_each_other_do_not_ride_together() -> None:
    torch.manual_seed(0)
    net, x = EachAlone().eval(), torch.randn(3, 4)
    with pytest.warns(UserWarning, match="samples of a batch depend on each other after layer=prototypes"):
        together = dict(curve(net, x, [0.1, 0.2, 0.3], layer="prototypes", points_per_forward=2))
    assert all(
        logits.equal(together[point]) for point, logits in curve(net, x, [0.1, 0.2, 0.3], layer="prototypes")
    )


class InPlace(nn.Module):
    """A network that adds up its samples, and changes its input and what its stem gives in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x.add_(1)
        h: Tensor = self.stem(x)
        h.add_(1)
        return self.head(h.square() + h.sum(0, keepdim=True))


@pytest.mark.parametrize("layer", ["input", "stem"])
def test_a_point_that_was_tried_beside_others_is_computed_from_its_own_start(layer: str) -> None:
    torch.manual_seed(0)
    net, x = InPlace().eval(), torch.rand(2, 3, 4, 4)
    with pytest.warns(UserWarning, match=f"samples of a batch depend on each other after layer={layer}"):
        together = dict(curve(net, x, [0.1, 0.2, 0.3], layer=layer, points_per_forward=2))
    assert all(logits.equal(together[point]) for point, logits in curve(net, x, [0.1, 0.2, 0.3], layer=layer))


class Few(nn.Module):
    """A network that takes so many samples at once, and says what it lacks for more."""

    def __init__(self, samples: int, lack: Exception) -> None:
        super().__init__()
        self.samples, self.lack = samples, lack
        self.middle, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.samples:
            raise self.lack
        return self.head(self.middle(x))


def test_points_that_fail_together_are_said_to_and_computed_alone() -> None:
    lack = RuntimeError("output too large\nException raised from kernel")
    net, x = Few(3, lack).eval(), torch.rand(2, 3, 4, 4)
    said = r"^points_per_forward: 2 points in one pass fail \(output too large\) after layer=input; going on"
    with pytest.warns(UserWarning, match=said):
        together = dict(curve(net, x, [0.1, 0.2, 0.3], points_per_forward=2))
    assert all(logits.equal(together[point]) for point, logits in curve(net, x, [0.1, 0.2, 0.3]))


@pytest.mark.parametrize("layer", ["input", "middle"])
@pytest.mark.parametrize(
    "lack",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
    ids=str,
)
def test_a_batch_beyond_memory_is_named_at_every_layer(layer: str, lack: Exception) -> None:
    with pytest.raises(
        GpsweepError, match=r"^data.batch_size=2: the memory of cpu does not hold one pass of"
    ):
        list(curve(Few(1, lack).eval(), torch.rand(2, 3, 4, 4), 0.5, layer=layer))


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.rand(3, CLASSES))

    def forward(self) -> Tensor:
        return self.rows * 1


class Added(nn.Module):
    """A network that adds up what a module gives whatever the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.middle = Table(), nn.Conv2d(3, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        table = self.table().sum(0)
        return self.middle(x) + table.view(1, -1, 1, 1)


def test_a_table_as_long_as_the_last_batch_is_not_taken_for_samples() -> None:
    torch.manual_seed(0)
    net, memo = Added().eval(), Memo()
    options: dict[str, Any] = {"eps": [-1, 0.5, 1], "layer": "middle"}
    list(curve(net, torch.rand(4, 3, 4, 4), points_per_forward=3, memo=memo, **options))
    x = torch.rand(3, 3, 4, 4)
    with pytest.warns(UserWarning, match="points_per_forward: in this network samples"):
        together = dict(curve(net, x, points_per_forward=3, memo=memo, **options))
    assert all(logits.equal(together[point]) for point, logits in curve(net, x, **options))


def test_a_part_in_training_is_noticed() -> None:
    net = nn.Sequential(nn.Conv2d(3, CLASSES, 1), nn.BatchNorm2d(CLASSES)).eval()
    net[1].train()
    with pytest.raises(GpsweepError, match="evaluation mode"):
        curve(net, torch.randn(2, 3, 4, 4), 0.5)
    assert int(net[1].num_batches_tracked) == 0


@pytest.mark.parametrize(
    "eps", [torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 3).numpy(), [torch.tensor(-1), 0, 1]]
)
def test_eps_may_be_an_array(eps: Any) -> None:
    found = curve(nn.Conv2d(3, CLASSES, 1).eval(), torch.randn(2, 3, 4, 4), eps)
    assert [point.eps for point, _ in found] == [-1, 0, 1]


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
        assert found[point].equal(naive(net, x, point, torch.zeros(2, 8, 8).long()))


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
        assert logits.equal(naive(net, x, point, torch.zeros(2, 4, 4).long()))


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


class Argmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1)


def test_a_layer_without_floating_point_numbers_is_named() -> None:
    class Telling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.classes = nn.Conv2d(3, CLASSES, 1), Argmax()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            z = self.head(x)
            return z, self.classes(z)

    net = Telling()
    with pytest.raises(GpsweepError, match=r"layer=classes: expected floating-point tensors.* came Tensor"):
        list(curve(net.eval(), torch.rand(1, 3, 2, 2), [1], layer="classes", output=0))


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (
            nn.Conv2d(3, 2, 1),
            {"x": torch.zeros(2, 3, 4, 4).byte()},
            r"x: expected floating.*came torch\.uint8",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(48, 1), nn.Flatten(0)),
            {},
            r"net: expected logits \(N, C, …\) of two classes at least, came a tensor \(2,\)",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(48, 1)),
            {},
            r"net: expected logits .* of two classes at least, came a tensor \(2, 1\)",
        ),
        (
            nn.Conv2d(3, 2, 1),
            {"x": torch.zeros(3, 4, 4)},
            r"net: expected logits of a batch of 3, came \(2, 4, 4\); .* x\[None\]",
        ),
        (
            nn.Conv1d(3, 2, 3),
            {"x": torch.zeros(2, 3, 4), "valid": torch.ones(2, 4).bool()},
            r"valid: expected the size of the logits, \(2, 2\), came \(2, 4\)",
        ),
        *(
            (
                nn.Conv2d(3, 2, 3),
                {"label": label, "valid": torch.ones(2, 4, 4).bool()},
                r"valid: expected the size of the logits, \(2, 2, 2\), came \(2, 4, 4\)",
            )
            for label in ("argmax", "random_onehot")
        ),
    ],
)
def test_what_does_not_fit_the_network_is_named(
    net: nn.Module, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(GpsweepError, match=message):
        list(curve(net.eval(), **{"x": torch.zeros(2, 3, 4, 4), "eps": [1], **options}))


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 6), (2,)])
@pytest.mark.parametrize("small", [2.0**-30, 2.0**-60, 2.0**-100])
def test_a_small_gradient_has_an_rms(shape: tuple[int, ...], small: float) -> None:
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    gradient[0] = 0
    assert by_rms(gradient * small).equal(by_rms(gradient))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_the_rms_of_16_bits_is_taken_in_32(kind: torch.dtype) -> None:
    # In float16 the squares of the former are 0, and those of the latter infinite.
    normal = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    small, large = (normal * 1e-4).to(kind), (normal * 1e3).to(kind)
    assert by_rms(small).equal(by_rms(small.float()).to(kind))
    assert rms(large).equal(rms(large.float()).to(kind))


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
