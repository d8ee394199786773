"""Counting in one pass over the scores, compiled by numba, for a CPU; :mod:`gpsweep.tally` imports it.

PyTorch needs four: the classes of a pixel are put apart, compared, added to where its truth's bins begin, and
counted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Where everything is logged, numba would tell of every instruction.
logging.getLogger("numba").setLevel(logging.WARNING)


def counts(scores: Tensor, first_bin: Tensor, meanings: Tensor, *, classes: int, channels: int) -> Tensor:
    """Count the prediction of the likeliest classes.

    Args:
        scores: ``(N, C', H, W)``, 32 or 64 bits, on the CPU; quick where a pixel's classes lie together.
        first_bin: int32 ``(N, H, W)``, where the bins of a pixel's truth begin, one for each channel: image
            by image and class by class, and those of void behind the last image's.
        meanings: ``(C',)``, the channel as which each class of the scores counts, 0 … ``channels`` − 1; the
            first of several that are equally large counts.
        classes: how many classes the data has, C.
        channels: how many bins a truth has, at least C.

    Returns:
        int32 ``(N, C, 3)``: tp, fp, fn.
    """
    size = (len(scores) * classes + 1) * channels
    # Each thread has bins of its own, which must not take longer than their pixels.
    threads = max(1, min(torch.get_num_threads(), first_bin.numel() // size))
    bins = np.zeros((threads, size), np.int64)
    pixels = scores.detach().permute(0, 2, 3, 1).numpy(), first_bin.numpy(), meanings.numpy()
    if threads == 1:
        _histogram(*pixels, bins[0], 0, first_bin.shape[0] * first_bin.shape[1])
    else:
        _start()
        before = numba.get_num_threads()
        numba.set_num_threads(min(threads, before))
        try:
            _in_parallel(*pixels, bins)
        finally:
            numba.set_num_threads(before)
    found = np.zeros((len(scores), classes, 3), np.int32)
    _add(bins, channels, found)
    return torch.from_numpy(found)


@cache
def _start() -> None:
    """Let numba start its threads, and leave PyTorch its own."""
    before = torch.get_num_threads()
    numba.get_num_threads()
    # As numba starts it tells OpenMP how many threads to take, and PyTorch may use the same one.
    if torch.get_num_threads() != before:
        torch.set_num_threads(before)


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
def _histogram(
    scores: NDArray[Any],
    first_bin: NDArray[Any],
    meanings: NDArray[Any],
    bins: NDArray[Any],
    start: int,
    stop: int,
) -> None:
    """Count how many pixels of some of all images' rows fall into each bin."""
    height = scores.shape[1]
    for row in range(start, stop):
        line, first = scores[row // height, row % height], first_bin[row // height, row % height]
        for x in range(len(line)):
            largest, place = line[x, 0], np.uint32(0)
            for channel in range(1, line.shape[1]):
                score = line[x, channel]
                # Without a branch, which nobody could foretell.
                larger = score > largest
                largest = score if larger else largest
                place = np.uint32(channel) if larger else place
            # Without a sign, which would be looked at: numbers below 0 count from the end.
            bins[np.uint64(first[x] + meanings[place])] += 1


@_compiled()
def _add(bins: NDArray[Any], channels: int, found: NDArray[Any]) -> None:
    """Add to tp, fp and fn what the bins of all threads hold."""
    images, classes = found.shape[:2]
    for place in range(images * classes * channels):
        row, claim = place // channels, place % channels
        image, truth = row // classes, row % classes
        number = bins[:, place].sum()
        if claim == truth:
            found[image, truth, 0] += number
            continue
        found[image, truth, 2] += number
        if claim < classes:
            found[image, claim, 1] += number


@_compiled(parallel=True)
def _in_parallel(
    scores: NDArray[Any], first_bin: NDArray[Any], meanings: NDArray[Any], bins: NDArray[Any]
) -> None:
    """Count each thread's part of the rows into bins of its own."""
    threads, rows = len(bins), scores.shape[0] * scores.shape[1]
    for part in numba.prange(threads):
        start, stop = rows * part // threads, rows * (part + 1) // threads
        _histogram(scores, first_bin, meanings, bins[part], start, stop)
