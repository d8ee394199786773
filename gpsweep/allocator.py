"""What the C library's allocator does with memory that is freed."""

from __future__ import annotations

import ctypes
import os

# glibc's options: from which size on memory comes fresh from the system, and how much may lie idle.
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
LARGEST = (2**30, 2**25)  # bytes; the first that this glibc takes


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
    mallopt(TRIM_THRESHOLD, -1)  # none, where any number is at most 2 GiB
    return any(mallopt(MMAP_THRESHOLD, size) for size in LARGEST)
