"""What each tensor of a forward pass was computed from: branches beside a layer need not run again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch._ops import OpOverload
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

# Operations that read values, or whose result has a size that depends on them.
READING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
# Methods that let values out without an operation.
OPENING = {Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__}


class Origins:
    """Follows the outputs of calls through every operation, into whatever is computed from them.

    Calls are numbered as they finish, and a set of them is an int, bit k for the k-th. Memory is followed
    rather than tensors, so that views and in-place operations are. In doubt all calls that have finished
    count: for memory that no operation made, such as NumPy's. What follows after values have been read may
    have been chosen by them, and counts as computed from what they were.

    Args:
        known: tensors that are computed from no call, such as weights.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        # Storages are kept, so that none is taken for a later one in its place.
        self._of: dict[int, tuple[UntypedStorage, int]] = {}
        self._used = [0]  # per running call, outermost first
        self._read = 0
        self._finished = 0
        for tensor in known:
            self._add(tensor, 0)

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow what is computed within the block."""
        with _Operations(self), _Openings(self):
            yield

    def enter(self) -> None:
        """Note that a call begins."""
        self._used.append(0)

    def leave(self, output: Sequence[Tensor]) -> int:
        """Note that the innermost call ends.

        Args:
            output: its tensors.

        Returns:
            the calls that something in it was computed from, or its output.
        """
        used = self._used.pop() | self.of(output)
        self._used[-1] |= used
        for tensor in output:
            self._add(tensor, 1 << self._finished)
        self._finished += 1
        return used

    def of(self, tensors: Iterable[Tensor]) -> int:
        """Return the calls that tensors were computed from."""
        origins = 0
        for tensor in tensors:
            storage = _storage(tensor)
            found = storage is not None and self._of.get(storage._cdata)
            origins |= found[1] if found else (1 << self._finished) - 1
        return origins

    def operate(self, given: Iterable[Tensor], *, reading: bool) -> int:
        """Note that an operation uses tensors, and return the calls that its outcome is computed from."""
        origins = self._read | self.of(given)
        self._used[-1] |= origins
        if reading:
            self._read = origins
        return origins

    def made(self, tensors: Iterable[Tensor], origins: int) -> None:
        """Note what an operation gave or wrote to."""
        for tensor in tensors:
            self._add(tensor, origins)

    def _add(self, tensor: Tensor, origins: int) -> None:
        storage = _storage(tensor)
        if storage is not None:
            _, before = self._of.get(storage._cdata, (storage, 0))
            self._of[storage._cdata] = storage, before | origins


class _Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees every operation, also those inside PyTorch's own functions."""

    def __init__(self, origins: Origins) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.origins = origins

    def __torch_dispatch__(
        self,
        func: OpOverload[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        reading = not READING.isdisjoint(func.tags)
        origins = self.origins.operate(tensors_in((args, kwargs)), reading=reading)
        result = func(*args, **kwargs)
        self.origins.made(tensors_in(result), origins)
        self.origins.made(_written(func, args, kwargs), origins)
        return result


class _Openings(TorchFunctionMode):
    """Sees the methods that are no operations."""

    def __init__(self, origins: Origins) -> None:
        super().__init__()
        self.origins = origins

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func in OPENING:
            self.origins.operate(tensors_in(args), reading=True)
        return func(*args, **(kwargs or {}))


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts."""
    return [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, Tensor)]


def _storage(tensor: Tensor) -> UntypedStorage | None:
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return None  # of a sparse or opaque tensor


def _written(
    func: OpOverload[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[Tensor]:
    """Yield the arguments that an operation writes to."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors_in(args[place] if place < len(args) else kwargs.get(argument.name))
