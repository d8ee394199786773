"""Convolutions on a CPU whose weights are laid out once for a batch, and not in each of its passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from gpsweep import layers, memory

Met = tuple[str, tuple[int, ...], tuple[int, ...], int]
"""A convolution's path, the shape and the strides of its input, and the number of threads: PyTorch chooses by
them what computes it."""

MANY = 16  # passes of a batch, at least: comparing takes two, and to look for convolutions takes time as well


@dataclass
class Compared:
    """What was found out about a network's convolutions, which a caller keeps from batch to batch.

    Attributes:
        same: whether weights that are laid out give the same.
        steady: per path, whether they do so in a later pass as well. A network may write into its weights
            from pass to pass, and not by way of its parameters, whose versions tell.
    """

    same: dict[Met, bool] = field(default_factory=dict)
    steady: dict[str, bool] = field(default_factory=dict)


class Packed:
    """The convolutions of a network, for the plain passes of one batch.

    oneDNN computes a convolution from weights that lie in blocks, and PyTorch lays them out so anew in each
    pass: a twentieth of the time where weights are many and images few. Here it is done once, by what PyTorch
    has for its own compiler. Mostly the same kernel then gives the same numbers. Whether it does, bit for
    bit, is looked at once for all that a convolution meets, and of each once more in a later pass; where not,
    the convolution stays as it is.

    Args:
        net: any module.
        known: what was found out before; more is added.
        passes: how many are made about; where they are few, all convolutions stay as they are.
    """

    def __init__(self, net: nn.Module, known: Compared, passes: int) -> None:
        self.known = known
        self.weights: dict[Met, tuple[Tensor, int, Tensor]] = {}
        self.earlier: frozenset[Met] = frozenset()
        self.convolutions = {
            path: module
            for path, module in (net.named_modules() if passes >= MANY else ())
            if _plain(module) and not layers.compiled(net, path)
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let the network's convolutions take the weights that are laid out."""
        convolutions = self.convolutions if torch.backends.mkldnn.enabled else {}
        self.earlier = frozenset(self.weights)
        for path, module in convolutions.items():
            # What is the module's own comes before the method of its class.
            module.__dict__["_conv_forward"] = partial(self.convolved, path, module)
        try:
            yield
        finally:
            for module in convolutions.values():
                module.__dict__.pop("_conv_forward", None)

    def convolved(
        self, path: str, module: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        """Return what a convolution gives, ``(N, C', H', W')``.

        Args:
            path: the module's.
            module: the convolution.
            x: what it is given, ``(N, C, H, W)``.
            weight: ``(C', C, K, K')``, the weights as they are.
            bias: ``(C',)`` or None.
        """
        met = path, tuple(x.shape), x.stride(), torch.get_num_threads()
        fit, same, steady = _fit(x, weight, bias), self.known.same, self.known.steady
        if fit and same.get(met) and steady.get(path):
            return self.quickly(met, module, x, weight, bias)
        expected: Tensor = nn.Conv2d._conv_forward(module, x, weight, bias)
        if fit and same.get(met, True) and steady.get(path, True):
            alike = self.compared(met, module, x, weight, bias, expected)
            if met in self.earlier:
                steady[path] = alike
            else:
                same[met] = alike
        return expected

    def compared(
        self, met: Met, module: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None, expected: Tensor
    ) -> bool:
        """Say whether a convolution gives the same, in the same order, with weights that are laid out."""
        try:
            found = self.quickly(met, module, x, weight, bias)
        except (AttributeError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and memory.exhausted(error):
                raise
            return False  # as where this PyTorch or this processor cannot
        alike = found.stride() == expected.stride() and torch.equal(found, expected)
        if not alike:
            self.weights.pop(met, None)
        return alike

    def quickly(self, met: Met, module: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return what a convolution gives with weights that are laid out now or were earlier."""
        how = module.padding, module.stride, module.dilation, module.groups
        known, version, ready = self.weights.get(met, (None, 0, weight))
        # A network may put others in their place, or write into them.
        if known is not weight or version != weight._version:
            ready = torch.ops.mkldnn._reorder_convolution_weight(weight.detach(), *how, x.shape)
            self.weights[met] = weight, weight._version, ready
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(x, ready, bias, *how, "none", [], "")
        return found


def _fit(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Say whether a convolution may take weights that are laid out: no gradient is taken, nor fewer bits."""
    if torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or weight.is_inference():
        return False
    ordinary = all(_ordinary(tensor) for tensor in (x, weight, bias) if tensor is not None)
    return ordinary and x.dtype == weight.dtype and x.dim() == 4 and x.numel() > 0


def _ordinary(tensor: Tensor) -> bool:
    """Say whether a tensor is no subclass's, and has memory, which those that vmap hands out have not."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return False
    return type(tensor) in (Tensor, nn.Parameter)


def _plain(module: nn.Module) -> bool:
    """Say whether a module is a convolution as PyTorch makes it, on a CPU and in 32 bits."""
    if not isinstance(module, nn.Conv2d) or "_conv_forward" in module.__dict__:
        return False
    kind, weight = type(module), module._parameters.get("weight")
    return (
        kind.forward is nn.Conv2d.forward
        and kind._conv_forward is nn.Conv2d._conv_forward
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and type(weight) is nn.Parameter
        and weight.device.type == "cpu"
        and weight.dtype == torch.float32
    )
