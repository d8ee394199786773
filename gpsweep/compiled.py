"""Counting in one pass over the scores, compiled by numba, for a CPU; :mod:`gpsweep.tally` imports it.

PyTorch needs four: the classes of a pixel are put apart, compared, added to where its truth's bins begin, and
counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Where everything is logged, numba would tell of every instruction.
logging.getLogger("numba").setLevel(logging.WARNING)


def histogram(scores: Tensor, first_bin: Tensor, meanings: Tensor, bins: int) -> Tensor:
    """Count how many pixels fall into each bin: the first of their truth's plus their likeliest class.

    Args:
        scores: ``(N, C, H, W)``, 32 or 64 bits, on the CPU; quick where a pixel's classes lie together.
        first_bin: ``(N, H, W)``, where the bins of a pixel's truth begin.
        meanings: ``(C,)``, what is added for each class; the first of several that are equally large counts.
        bins: how many there are.

    Returns:
        ``(bins,)``, int64.
    """
    # Each thread has bins of its own, which must not take longer than their pixels.
    threads = max(1, min(torch.get_num_threads(), first_bin.numel() // bins))
    counts = np.zeros((threads, bins), np.int64)
    pixels = scores.detach().permute(0, 2, 3, 1).numpy(), first_bin.numpy(), meanings.numpy()
    if threads == 1:
        _count(*pixels, counts[0], 0, first_bin.shape[0] * first_bin.shape[1])
    else:
        with _at_most(threads):
            _count_in_parallel(*pixels, counts)
    return torch.from_numpy(counts.sum(0))


@contextmanager
def _at_most(threads: int) -> Iterator[None]:
    """Let numba take no more threads within the block, and leave PyTorch its own."""
    pytorch, before = torch.get_num_threads(), numba.get_num_threads()
    # As numba starts it tells OpenMP how many threads to take, and PyTorch may use the same one.
    if torch.get_num_threads() != pytorch:
        torch.set_num_threads(pytorch)
    numba.set_num_threads(min(threads, before))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _compiled(**options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def compile_(function: Callable[..., None]) -> Callable[..., None]:
        made: Callable[..., None]
        try:
            made = numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:  # nowhere to keep what is compiled
            made = numba.njit(nogil=True, **options)(function)
        return made

    return compile_


@_compiled()
def _count(
    scores: NDArray[Any],
    first_bin: NDArray[Any],
    meanings: NDArray[Any],
    counts: NDArray[Any],
    start: int,
    stop: int,
) -> None:
    """Count some of all images' rows of pixels."""
    height = scores.shape[1]
    for row in range(start, stop):
        line, first = scores[row // height, row % height], first_bin[row // height, row % height]
        for x in range(len(line)):
            largest, place = line[x, 0], 0
            for channel in range(1, line.shape[1]):
                score = line[x, channel]
                # Without a branch, which nobody could foretell.
                larger = score > largest
                largest = score if larger else largest
                place = channel if larger else place
            counts[first[x] + meanings[place]] += 1


@_compiled(parallel=True)
def _count_in_parallel(
    scores: NDArray[Any], first_bin: NDArray[Any], meanings: NDArray[Any], counts: NDArray[Any]
) -> None:
    """Count each thread's part of the rows into bins of its own."""
    threads, rows = len(counts), scores.shape[0] * scores.shape[1]
    for part in numba.prange(threads):
        start, stop = rows * part // threads, rows * (part + 1) // threads
        _count(scores, first_bin, meanings, counts[part], start, stop)
