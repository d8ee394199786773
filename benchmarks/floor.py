"""The bare loops: what a curve costs at least, and what it costs when every point is computed anew."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from gpsweep.labels import STRATEGIES, Hints
from gpsweep.points import Point
from gpsweep.signals import SIGNALS
from gpsweep.steps import STEPS, rms


def floor(net: nn.Module, x: Tensor, points: int) -> None:
    """Run one forward and backward pass, and a forward pass for every other point.

    Args:
        net: the bare network, see :class:`benchmarks.networks.Bare`.
        x: ``(N, 3, H, W)``, normalised.
        points: of the curve, ε = 0 among them.
    """
    leaf = x.detach().requires_grad_()
    z = net(leaf)
    torch.autograd.grad(z, leaf, torch.ones_like(z))
    with torch.no_grad():
        for _ in range(points - 1):
            net(x)


def naive(net: nn.Module, x: Tensor, points: Iterable[Point], ids: Sequence[str]) -> Iterator[Tensor]:
    """Do the three steps of the paper's Fig. 2 anew for each point: forward, backward, forward.

    Args:
        net: network with frozen weights, logits at input size.
        x: ``(N, 3, H, W)`` in grey levels; its memory format is the loop's.
        points: with one iteration.
        ids: the samples' names, which seed ``random_onehot``.

    Yields:
        The classes predicted at each point, ``(N, H, W)``.
    """
    for point in points:
        with torch.enable_grad():
            start, z = _clean(net, x, point.layer)
            label = STRATEGIES[point.label](z.detach(), Hints(sample_ids=ids))
            signal = SIGNALS[point.signal](z.detach().softmax(1), label)
            (gradient,) = torch.autograd.grad(z, start, signal)
        start = start.detach()
        direction = STEPS[point.step](gradient, None)
        if point.layer != "input":
            direction = rms(start) * direction
        moved = start + point.eps * direction
        with torch.no_grad():
            yield _moved(net, x, point.layer, moved).max(1).indices


def _clean(net: nn.Module, x: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Return what is to be moved, and the logits that depend on it."""
    if layer == "input":
        leaf = x.detach().requires_grad_()
        return leaf, net(leaf.clone())
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        kept.append(output.detach().requires_grad_())
        return kept[0].clone()

    with _hooked(net, layer, keep):
        z = net(x)
    return kept[0], z


def _moved(net: nn.Module, x: Tensor, layer: str, moved: Tensor) -> Tensor:
    if layer == "input":
        return net(moved)
    with _hooked(net, layer, lambda module, args, output: moved):
        return net(x)


def _hooked(net: nn.Module, layer: str, hook: Any) -> AbstractContextManager[Any]:
    path = getattr(net, "layer_aliases", {}).get(layer, layer)
    return net.get_submodule(path).register_forward_hook(hook)
