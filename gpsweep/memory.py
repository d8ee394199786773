"""Memory: how many points fit into one forward pass of a device, and what becomes of memory that is freed."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable

import torch

# Beyond this many ε in one forward pass a GPU gains nothing more.
MOST = 64
PROBED = 2  # points; with one, nothing that is repeated for each point would be seen
# glibc's options: from which size on memory comes fresh from the system, and how much may lie idle.
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
LARGEST = (2**30, 2**25)  # bytes; the first that this glibc takes
# What the allocators and libraries say that raise no error of their own kind.
COMPLAINTS = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


def exhausted(error: RuntimeError) -> bool:
    """Say whether an error means that the device is out of memory."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(text in str(error) for text in COMPLAINTS)


def fitting(device: torch.device, forward: Callable[[int], object]) -> int:
    """Return how many points fill half of a GPU's free memory, at least 1 and at most :data:`MOST`.

    Args:
        device: where the network is; anything but a GPU of CUDA's kind takes 1 point.
        forward: runs a pass with so many points.
    """
    if device.type != "cuda":
        return 1
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        forward(PROBED)
    except RuntimeError as error:
        if not exhausted(error):
            raise
        return 1
    needed = (torch.cuda.max_memory_allocated(device) - before) / PROBED
    # What PyTorch has reserved and does not use is as good as free.
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - before
    return max(1, min(MOST, int(free / 2 / max(needed, 1))))


def keep_freed() -> bool:
    """Let this process keep memory that tensors free, for the tensors that come after them.

    glibc gives large blocks back at once, and the system clears each page anew before the next tensor has
    it; a forward pass of a small network took a quarter longer. Nothing is done where another C library is in
    use, or where the user has set ``MALLOC_MMAP_THRESHOLD_`` or ``MALLOC_TRIM_THRESHOLD_``.

    Returns:
        whether it was done.
    """
    if {"MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"} & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    mallopt(TRIM_THRESHOLD, 2**31 - 1)
    return any(mallopt(MMAP_THRESHOLD, size) for size in LARGEST)
