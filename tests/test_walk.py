"""Whither and how far a layer moves: labels, padding, guides, and the unit of ε."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import IDS, naive
from networks import CLASSES, SequenceFirst, batch, build, entering
from torch import Tensor, nn

from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.labels import STRATEGIES, Hints
from gpsweep.points import SIGNALS, STEPS, Point
from gpsweep.signals import eq5


@given(eps=st.floats(-20, 20), seed=st.integers(0, 2**31), step=st.sampled_from(STEPS))
@settings(max_examples=25)
def test_no_pixel_moves_further_than_it_may(eps: float, seed: int, step: str) -> None:
    net = build("skips", seed=seed % 7)
    x, _ = batch("skips", seed=seed)
    seen = entering(net)
    [(point, _)] = curve(net, x, eps=eps, step=step)
    moved = (seen[-1] - x).abs()
    if step == "sign":
        assert moved.max() <= abs(point.eps) + 2e-5
    else:
        size = moved.square().mean((1, 2, 3)).sqrt()
        torch.testing.assert_close(size, torch.full_like(size, abs(point.eps)), rtol=1e-2, atol=2e-5)


def test_clip_keeps_the_input_in_range() -> None:
    net, (x, _) = build("skips"), batch("skips")
    seen = entering(net)
    list(curve(net, x, eps=[300.0], clip=(0, 255)))
    assert seen[-1].min() >= 0
    assert seen[-1].max() <= 255


@pytest.mark.parametrize("scale", ["rms", "absolute"])
def test_relative_and_absolute_scale_at_inner_layers(scale: Any) -> None:
    net, (x, _) = build("skips"), batch("skips")
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


def test_an_image_has_no_rms_where_the_batch_is_not_first() -> None:
    # Where weights ask for gradients, this linear layer rounds otherwise; the engine asks for none.
    net, x = SequenceFirst().eval().requires_grad_(False), torch.randn(2, 3, 4, 4)
    for options in ({}, {"layer_scale": "absolute", "step": "rms"}):
        with pytest.raises(GpsweepError, match=r"layer=mix: gives \(16, 2, 6\) for a batch of 2"):
            list(curve(net, x, 0.5, layer="mix", **options))
    [(point, logits)] = curve(net, x, 0.5, layer="mix", layer_scale="absolute")
    assert logits.equal(naive(net, x, point, scale="absolute"))


class Gated(nn.Module):
    """A network whose channels pass a gate that is made of weights alone."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.weights, self.gate, self.head = nn.Parameter(torch.rand(4)), gate, nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) * self.gate(self.weights).view(1, -1, 1, 1)


class Mean(nn.Module):
    def forward(self, weights: Tensor) -> Tensor:
        return weights.mean()


@pytest.mark.parametrize(("gate", "shape"), [(nn.Linear(4, 4), r"\(4,\)"), (Mean(), r"\(\)")])
def test_a_layer_of_numbers_that_are_no_images_has_no_rms_of_one(gate: nn.Module, shape: str) -> None:
    net, x = Gated(gate).eval().requires_grad_(False), torch.rand(2, 3, 4, 4)
    with pytest.raises(GpsweepError, match=rf"layer=gate: gives {shape} for a batch of 2, expected it first"):
        list(curve(net, x, 0.5, layer="gate"))
    [(point, logits)] = curve(net, x, 0.5, layer="gate", layer_scale="absolute")
    assert logits.equal(naive(net, x, point, scale="absolute"))


def test_a_gradient_over_its_rms_may_be_in_the_layers_own_units() -> None:
    net, (x, _) = build("skips"), batch("skips")
    options: dict[str, Any] = {"layer_scale": "absolute", "step": "rms", "iterations": 2}
    for point, logits in curve(net, x, [-1, 0.5], layer=["encoder.down", "merge"], **options):
        if point.iterations == 2:
            assert logits.equal(naive(net, x, point, scale="absolute"))


@pytest.fixture
def valid() -> Tensor:
    """Two images of a batch, the second smaller than the first."""
    valid = torch.ones(2, 9, 14, dtype=torch.bool)
    valid[1, 7:], valid[1, :, 10:] = False, False
    return valid


def test_padding_gets_no_signal_and_no_perturbation(valid: Tensor) -> None:
    net, (x, _) = build("skips"), batch("skips")
    seen = entering(net)
    for step in STEPS:
        list(curve(net, x, eps=[2.0], step=step, valid=valid))
        moved = seen[-1] - x
        assert moved[~valid.unsqueeze(1).expand_as(moved)].abs().max() == 0
        assert moved[valid.unsqueeze(1).expand_as(moved)].abs().max() > 0
    size = moved[1][:, valid[1]].square().mean().sqrt()
    torch.testing.assert_close(size, torch.tensor(2.0), rtol=1e-4, atol=0)


def test_padding_of_a_classifiers_images_is_left_alone(valid: Tensor) -> None:
    net, (x, _) = build("classifier"), batch("classifier")
    seen = entering(net)
    list(curve(net, x, eps=[2.0], label=["argmax", "random_onehot"], valid=valid))
    for moved in (seen[-2] - x, seen[-1] - x):
        assert moved[~valid.unsqueeze(1).expand_as(moved)].abs().max() == 0
        assert moved[valid.unsqueeze(1).expand_as(moved)].abs().max() == 2


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


def test_the_labels_of_padding_give_no_direction(valid: Tensor) -> None:
    net, (x, target) = build("skips"), batch("skips")
    other = target.where(valid, (target + 1) % CLASSES)
    options = {"eps": [2.0], "label": "ground_truth", "layer": ["input", "encoder.down.1"], "step": STEPS}
    options |= {"signal": SIGNALS, "iterations": 2}
    one, same = (dict(curve(net, x, target=t, valid=valid, **options)) for t in (target, other))
    assert one.keys() == same.keys()
    assert all(logits.equal(same[point]) for point, logits in one.items())
    one, changed = (dict(curve(net, x, target=t, **options)) for t in (target, other))
    assert not any(logits.equal(changed[point]) for point, logits in one.items()), "they are no padding here"


def test_random_labels_belong_to_the_sample_not_the_batch() -> None:
    net, (x, _) = build("skips"), batch("skips")
    options = {"eps": [3.0], "label": "random_onehot"}
    [(_, together)] = curve(net, x, sample_ids=IDS, **options)
    [(_, alone)] = curve(net, x[1:], sample_ids=["b"], **options)
    [(_, other)] = curve(net, x[1:], sample_ids=["c"], **options)
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-4)
    assert (together[1:] - other).abs().max() > 1e-3


def test_a_network_of_64_bits_gets_a_signal_of_64() -> None:
    # In 32 bits the softmax of such logits is 1, and the signal at the likelier class 0.
    x = torch.tensor([[20.0, 0.0]], dtype=torch.float64)
    [(_, logits)] = curve(nn.Identity().eval(), x, 1.0, signal="cross_entropy")
    assert logits.tolist() == [[21.0, -1.0]]


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (lambda pull, x: torch.ones_like(x), r"gives Tensor; expected a list of tensors \(2, 3, 9, 14\)"),
        (lambda pull, x: [torch.ones_like(x)] * 2, r"gives \(2, 3, 9, 14\), \(2, 3, 9, 14\); expected"),
        (lambda pull, x: [torch.ones(1)], r"layer=input, both gives \(1,\); expected"),
        (lambda pull, x: None, "gives NoneType; expected"),
        (lambda pull, x: pull(torch.ones(2, 9, 14)), r"a label \(2, 9, 14\); expected .*, \(2, 5, 9, 14\)"),
    ],
)
def test_what_a_guide_gives_is_of_the_layer(gives: Any, message: str) -> None:
    def both(pull: Any, step: Any, *, x: Tensor, **_: Any) -> Any:
        return gives(pull, x)

    with pytest.raises(GpsweepError, match=f"guides: .*{message}"):
        list(curve(build("skips"), batch("skips")[0], 1.0, "both", guides={"both": both}))


def test_a_guide_gives_the_direction() -> None:
    net, (x, target) = build("skips"), batch("skips")

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


def test_a_guide_may_give_what_it_has_a_gradient_for() -> None:
    net, (x, _) = build("skips"), batch("skips")

    def learnt(pull: Any, step: Any, **_: Any) -> list[Tensor]:
        return [torch.ones_like(x).requires_grad_() * 0.5]

    def plain(pull: Any, step: Any, **_: Any) -> list[Tensor]:
        return [torch.full_like(x, 0.5)]

    options = {"eps": [0.0, 0.5], "iterations": 2, "guides": {"learnt": learnt, "plain": plain}}
    found, expected = (list(curve(net, x, label=name, **options)) for name in ("learnt", "plain"))
    for (_, logits), (_, same) in zip(found, expected, strict=True):
        assert logits.equal(same) and not logits.requires_grad
