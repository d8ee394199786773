"""The three steps anew for each point, with a hook and nothing shared: what fused curves must equal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from networks import logits_of
from torch import Tensor, nn

from gpsweep.labels import STRATEGIES, Hints
from gpsweep.points import Point
from gpsweep.steps import rms

IDS = ["a", "b"]


def autocast(precision: str) -> Any:
    lower = {"32": None, "bf16": torch.bfloat16, "16": torch.float16}[precision]
    return torch.autocast("cpu", lower, enabled=lower is not None)


def naive(
    net: nn.Module,
    x: Tensor,
    point: Point,
    target: Tensor | None = None,
    scale: str = "rms",
    precision: str = "32",
    gradient: str | None = None,
) -> Tensor:
    """Do the three steps for one point with a hook and nothing shared (paper, Fig. 2)."""
    [logits] = naive_curve(net, x, point, [point.eps], target, scale, precision, gradient)
    return logits


def naive_curve(
    net: nn.Module,
    x: Tensor,
    curve: Point,
    several: Sequence[float],
    target: Tensor | None = None,
    scale: str = "rms",
    precision: str = "32",
    gradient: str | None = None,
) -> list[Tensor]:
    """Do the three steps for some ε of one curve, which share the first prediction and pull alone."""
    gradient = gradient or precision
    path, _, number = curve.layer.partition("@")
    moved: list[Tensor] | None = None
    x = x.contiguous(memory_format=torch.channels_last)

    def run(*, grad: bool = True) -> tuple[Tensor, list[Tensor]]:
        kept: list[Tensor] = []
        count = 0

        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            nonlocal count
            count += 1
            if count != int(number or 1):
                return None
            parts = output if isinstance(output, (tuple, list)) else [output]
            keys = list(output) if isinstance(output, dict) else None
            parts = list(output.values()) if keys else parts
            parts = [t.detach() for t in moved] if moved is not None else parts
            # Copies: tensors of the layer that are made of others are moved by themselves.
            kept.extend(t.clone() if t.requires_grad else t.detach().requires_grad_() for t in parts)
            copies = [t.clone() for t in kept]
            if keys:
                return dict(zip(keys, copies, strict=True))
            return type(output)(copies) if isinstance(output, (tuple, list)) else copies[0]

        if curve.layer == "input":
            kept.append((moved[0] if moved is not None else x).detach().requires_grad_())
            with torch.set_grad_enabled(grad), autocast(gradient if grad else precision):
                return logits_of(net(kept[0].clone())), kept
        with (
            net.get_submodule(path).register_forward_hook(hook),
            torch.set_grad_enabled(grad),
            autocast(gradient if grad else precision),
        ):
            return logits_of(net(x.detach().requires_grad_().clone())), kept

    def pull(z: Tensor, here: list[Tensor]) -> list[Tensor]:
        wide = z.detach().float()
        y, label = wide.softmax(1), STRATEGIES[curve.label](wide, Hints(target, IDS))
        dot = (label * y).sum(1, keepdim=True)
        signal = {
            "eq5": dot * (label - y),
            "cross_entropy": label - label.sum(1, keepdim=True) * y,
            "likelihood": y
            * (
                label
                - label.amin(1, keepdim=True)
                - ((label - label.amin(1, keepdim=True)) * y).sum(1, keepdim=True)
            ),
        }[curve.signal]
        gradients = torch.autograd.grad(z, here, signal.to(z.dtype), allow_unused=True)
        directions = []
        for g, h, first in zip(gradients, here, start, strict=True):
            g = torch.zeros_like(h).float() if g is None else g.float()
            size = rms(g)
            d = g.sign() if curve.step == "sign" else torch.where(size > 0, g / size, 0)
            if curve.layer != "input" and scale == "rms":
                d = rms(first) * d
            directions.append(d)
        return directions

    torch.backends.mha.set_fastpath_enabled(False)
    z, here = run()
    # Where the points are computed in another precision, so are the base and what is moved.
    base, start = run(grad=False) if gradient != precision else (z, here)
    base, start = base.detach().float(), [t.detach().float() for t in start]
    first = pull(z, here) if any(several) else []
    found = []
    for eps in several:
        logits, now, directions = base, start, first
        for i in range(curve.iterations if eps else 0):
            now = moved = [h + eps * d for h, d in zip(now, directions, strict=True)]
            z, here = run(grad=i + 1 < curve.iterations)
            logits = z.detach().float()
            directions = pull(z, here) if i + 1 < curve.iterations else []
        found.append(logits)
    torch.backends.mha.set_fastpath_enabled(True)
    return found
