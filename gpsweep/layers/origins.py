"""What each tensor of a forward pass was computed from: branches beside a layer need not run again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch._ops import OpOverload
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from gpsweep.layers.tensors import tensors_in

# Operations that read values, or whose result has a size that depends on them.
READING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
MASKS = (torch.bool, torch.uint8)
# Methods that let values out without an operation; by its address, kernels of others' read and write memory.
OPENING = {Tensor.tolist, Tensor.numpy, Tensor.__array__, Tensor.__dlpack__, Tensor.data_ptr}
# What certainly holds no tensor, of what a call may give.
PLAIN = (bool, int, float, complex, str, bytes, torch.Size, torch.dtype, torch.device, type(None))
FROM_INPUT, FROM_ALL = 1, -1


class Origins:
    """Follows the input and the outputs of calls through every operation, into what is computed from them.

    A set of them is an int: bit 0 is the input, bit k the k-th call to finish. Memory is followed rather than
    tensors, so that views and in-place operations are. In doubt the input and all calls that have finished
    count: for memory that no operation made, such as NumPy's, and for objects that may hold any. What follows
    after values have been read may have been chosen by them, and counts as computed from what they were; of
    values of the input from all, as for another input it may be chosen otherwise.

    Args:
        inputs: the network's.
        weights: tensors that are computed from neither input nor calls.
    """

    def __init__(self, inputs: Iterable[Tensor], weights: Iterable[Tensor]) -> None:
        # Memory is freed as in any pass, yet none is taken for a later one in its place: a weak reference
        # keeps the place of what stood there.
        self._of: dict[int, tuple[StorageWeakRef, int]] = {}
        self._used = [0]  # per running call, outermost first
        self._read = 0
        self._finished = 0
        self.made(weights, 0)
        self.made(inputs, FROM_INPUT)

    @contextmanager
    def followed(self) -> Iterator[None]:
        """Follow what is computed within the block."""
        with _Operations(self), _Openings(self):
            yield

    def enter(self) -> None:
        """Note that a call begins."""
        self._used.append(0)

    def leave(self, output: Any) -> int:
        """Note that the innermost call ends.

        Args:
            output: what it gives.

        Returns:
            what something in it was computed from, or its output.
        """
        used = self._used.pop() | self.within(output)
        self._used[-1] |= used
        self._finished += 1
        self.made(tensors_in(output), 1 << self._finished)
        return used

    def within(self, output: Any) -> int:
        """Return what the tensors that an object holds were computed from."""
        leaves = tree_flatten(output)[0]
        known = all(isinstance(leaf, (Tensor, *PLAIN)) for leaf in leaves)
        return self.of(tensors_in(leaves)) if known else self._all()

    def of(self, tensors: Iterable[Tensor]) -> int:
        """Return what tensors were computed from."""
        if self._read & FROM_INPUT:
            return self._all()
        origins = self._read
        for tensor in tensors:
            storage = _storage(tensor)
            found = storage is not None and self._of.get(storage._cdata)
            origins |= found[1] if found else self._all()
        return origins

    def operate(self, given: Iterable[Tensor], *, reading: bool) -> int:
        """Note that an operation uses tensors, and return what its outcome is computed from.

        Args:
            given: the tensors.
            reading: whether it lets their values out, which what follows may have been chosen by.
        """
        origins = self.of(given)
        self._used[-1] |= origins
        if reading:
            self._read = origins
        return origins

    def made(self, tensors: Iterable[Tensor], origins: int) -> None:
        """Note what an operation or a call gave or wrote to."""
        for tensor in tensors:
            storage = _storage(tensor)
            if storage is not None:
                known = self._of.get(storage._cdata)
                place, before = known or (StorageWeakRef(storage), 0)  # type: ignore[no-untyped-call]
                self._of[storage._cdata] = place, before | origins

    def _all(self) -> int:
        return (2 << self._finished) - 1


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
        origins = self.origins.operate(tensors_in((args, kwargs)), reading=_reads(func, args))
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


def _storage(tensor: Tensor) -> UntypedStorage | None:
    try:
        return tensor.untyped_storage()
    except (NotImplementedError, RuntimeError, ValueError):
        return None  # of a sparse or opaque tensor, or a weight still without a shape


def _reads(func: OpOverload[..., Any], args: tuple[Any, ...]) -> bool:
    """Say whether an operation reads values, or gives as many as they say."""
    if func is torch.ops.aten.index.Tensor:
        # So it is tagged, but of positions it gives as many as there are.
        return any(index.dtype in MASKS for index in tensors_in(args[1]))
    return not READING.isdisjoint(func.tags)


def _written(
    func: OpOverload[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Iterator[Tensor]:
    """Yield the arguments that an operation writes to."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield from tensors_in(args[place] if place < len(args) else kwargs.get(argument.name))
