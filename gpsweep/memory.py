"""How many points fit into one forward pass of a device's memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gpsweep.errors import GpsweepError

# Beyond this many ε in one forward pass a GPU gains nothing more.
MOST = 64
PROBED = 2  # points; with one, nothing that is repeated for each point would be seen
# What the allocators and libraries say that raise no error of their own kind.
COMPLAINTS = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "HOST_ALLOCATION_FAILED",  # cuDNN 9's
    "DEVICE_ALLOCATION_FAILED",
)
INDEXED = 2**31 - 1  # elements of a tensor; kernels of some versions refuse more


def exhausted(error: Exception) -> bool:
    """Say whether an error means that the device is out of memory."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(text in str(error) for text in COMPLAINTS)


def lacking(x: Tensor) -> GpsweepError:
    """Return the error for a batch of which memory does not hold one pass."""
    return GpsweepError(
        f"data.batch_size={len(x)}: the memory of {x.device} does not hold one pass of a batch "
        f"{tuple(x.shape)}; lower data.batch_size or data.size"
    )


def fitting(device: torch.device, forward: Callable[[int], Tensor]) -> int:
    """Return how many points fill half of a GPU's free memory, at least 1 and at most :data:`MOST`.

    Args:
        device: where the network is; anything but a GPU of CUDA's kind takes 1 point.
        forward: runs a pass with so many points, and returns their logits; where it fails for want of
            anything but memory, several may be tried.
    """
    if device.type != "cuda":
        return 1
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        elements = forward(PROBED).numel() / PROBED
    except Exception as error:  # of the network's own code; where points share a pass, it is told of
        return 1 if exhausted(error) else PROBED
    needed = (torch.cuda.max_memory_allocated(device) - before) / PROBED
    # What PyTorch has reserved and does not use is as good as free.
    free = torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device) - before
    return max(1, min(MOST, int(free / 2 / max(needed, 1)), int(INDEXED / max(elements, 1))))
