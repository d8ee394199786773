"""The tensors of an activation, which may be one, or a tuple, list or dict of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    return [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor)]


def tensors_of(activation: Any) -> list[Tensor]:
    """Return the floating-point tensors of an activation, which may be a tuple, list or dict of tensors."""
    return [tensor for tensor in tensors_in(activation) if tensor.is_floating_point()]


def with_tensors(activation: Any, tensors: Sequence[Tensor]) -> Any:
    """Return ``activation`` with its floating-point tensors replaced, in the order of :func:`tensors_of`."""
    leaves, spec = tree_flatten(activation)
    new = iter(tensors)
    swapped = [next(new) if isinstance(v, Tensor) and v.is_floating_point() else v for v in leaves]
    return tree_unflatten(swapped, spec)
