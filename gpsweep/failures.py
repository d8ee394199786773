"""What is said where a network fails, and which memory format it bears."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypedDict, TypeVar

import torch
from torch import Tensor, nn

from gpsweep.engine import MemoryFormat
from gpsweep.errors import GpsweepError, listing

Result = TypeVar("Result")
ROWS = "view size is not compatible"  # what a view() after a convolution says of channels-last activations
MISFITS = (RuntimeError, ValueError, AssertionError)  # what an image or a batch of another size leads to
USUAL = 32  # by which many networks want sides to be divisible


class Images(TypedDict):
    """What is said of a batch: the size of its images ``(N, C, H, W)``, and their names."""

    image: Tensor
    ids: list[str]


@contextmanager
def failures_named(
    batch: Images, where: str, *, key: str = "model", net: nn.Module | None = None
) -> Iterator[None]:
    """Make of any error of a network, which may be the user's own, one that says where it fails.

    Args:
        batch: what it fails on.
        where: in words.
        key: of the configuration.
        net: the network, where errors may be others' as well, as in runs; None: all errors are the network's.

    Raises:
        GpsweepError: for an error of the network.
    """
    try:
        yield
    except GpsweepError:
        raise
    except Exception as error:
        if worker_lost(error) or (net is not None and not _within(net, error)):
            raise
        height, width = batch["image"].shape[-2:]
        at = f"at {height} × {width} pixels ({listing(batch['ids'], 3)})"
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, MISFITS) and (height % USUAL or width % USUAL):
            reason += f"; if it wants sides that {USUAL} divides: model.divisor={USUAL}, or data.size"
        if isinstance(error, MISFITS) and len(batch["ids"]) > 1 and net is not None:
            reason += "; if it takes one image at a time: data.batch_size=1"
        raise GpsweepError(f"{key}: the network fails {where} {at}: {reason}") from error


def worker_lost(error: BaseException) -> bool:
    """Say whether an error means that a process that reads data has died; PyTorch raises it at any moment."""
    return "DataLoader worker" in str(error)


def in_a_format_it_bears(
    net: nn.Module, memory_format: MemoryFormat, work: Callable[[MemoryFormat], Result]
) -> tuple[Result, MemoryFormat]:
    """Run a network's first pass, in contiguous memory where it does not bear channels-last.

    Args:
        net: the network; its weights are put into the format.
        memory_format: that is asked for.
        work: the pass, given the format of its input.

    Returns:
        what the pass returns, and its format.
    """
    if memory_format == "contiguous":
        return work(memory_format), memory_format
    net.to(memory_format=torch.channels_last)
    try:
        return work(memory_format), memory_format
    except RuntimeError as error:
        if ROWS not in str(error):
            raise
    # A view() after a convolution assumes rows in memory order, which channels-last does not have.
    net.to(memory_format=torch.contiguous_format)
    result = work("contiguous")
    warnings.warn("memory_format=channels_last: the network needs contiguous activations", stacklevel=2)
    return result, "contiguous"


def _within(net: nn.Module, error: BaseException) -> bool:
    """Say whether an error was raised within a pass of a network."""
    trace: Any = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_locals.get("self") is net:
            return True
        trace = trace.tb_next
    return False
