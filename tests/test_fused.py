"""Fused curves equal the three steps done anew for each point, and make fewer passes."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest
import torch
from naive import IDS, naive, naive_curve
from networks import NETWORKS, Reversing, SequenceFirst, batch, build, output_of
from torch import Tensor, nn

from gpsweep.engine import curve
from gpsweep.points import LABELS, SIGNALS, STEPS, Point
from gpsweep.signals import eq5

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


def test_passes_are_shared() -> None:
    net, (x, _) = build("skips"), batch("skips")
    forwards: list[bool] = []
    net.head.register_forward_hook(lambda *args: forwards.append(torch.is_grad_enabled()))
    list(curve(net, x, eps=[-1, 0, 1, 2], label=["argmax", "uniform"], signal=["eq5", "cross_entropy"]))
    assert sum(forwards) == 1, "one clean forward with gradients"
    assert len(forwards) == 1 + 3 * 4
    forwards.clear()
    list(curve(net, x, eps=[1, 2], iterations=3))
    assert forwards == [True, *[True, True, False] * 2], "of no step's last logits a gradient is wanted"


def test_uniform_likelihood_is_the_base() -> None:
    net, (x, _) = build("skips"), batch("skips")
    found = dict(curve(net, x, eps=[0, 5], label="uniform", signal="likelihood", step=["sign", "rms"]))
    first, *rest = found.values()
    assert all(logits.equal(first) for logits in rest)


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
    options = {"layer": layer, "layer_scale": "absolute", "iterations": iterations}
    found = dict(curve(Opposed().eval(), x, 0.25, "uniform", **options))
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


def test_a_layers_gradient_does_not_depend_on_the_other_layers() -> None:
    torch.manual_seed(0)
    net, x = Reversing().eval(), torch.randn(2, 3, 6, 7)
    [(_, alone)] = curve(net, x, 0.5, layer="encoder")
    both = {point.layer: logits for point, logits in curve(net, x, 0.5, layer=["input", "encoder"])}
    assert alone.equal(both["encoder"])
    assert alone.equal(naive(net, x, Point(layer="encoder", eps=0.5)))


def test_logits_do_not_depend_on_the_layers_of_the_grid() -> None:
    net, x = SequenceFirst().eval(), torch.randn(2, 3, 4, 4)
    alone = dict(curve(net, x, [0, 0.5], layer="mix", layer_scale="absolute"))
    beside = dict(curve(net, x, [0, 0.5], layer=["input", "mix"], layer_scale="absolute"))
    assert all(logits.equal(beside[point]) for point, logits in alone.items())
    assert alone[Point(layer="mix", eps=0)].equal(beside[Point(layer="input", eps=0)])
