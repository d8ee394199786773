"""In how many bits a network computes: forward passes under autocast, with weights and steps in 32 bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from gpsweep.errors import GpsweepError, unknown

Precision = Literal["32", "bf16", "16"]

DTYPES: dict[str, torch.dtype] = {"32": torch.float32, "bf16": torch.bfloat16, "16": torch.float16}
HALVES = (torch.bfloat16, torch.float16)
# What PyTorch says of an operation or a device that does not know a type.
REFUSALS = ("not implemented for", "does not support bfloat16")


def check_precision(key: str, precision: str) -> None:
    """Check the name of a precision.

    Raises:
        GpsweepError: if there is none of that name.
    """
    if precision not in DTYPES:
        raise unknown(key, precision, DTYPES)


def fastest(device: torch.device) -> Precision:
    """Return ``bf16`` where a device computes in it by instructions of its own, ``32`` elsewhere."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
    # Another processor takes several instructions for each of them, and longer than in 32 bits.
    capable = (
        torch.cpu.get_capabilities()
        if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities")
        else {}
    )
    return "bf16" if capable.get("avx512_bf16") or capable.get("amx_bf16") else "32"


@contextmanager
def computing(precision: Precision, device: torch.device, key: str = "precision") -> Iterator[None]:
    """Let a network compute in a precision, whatever autocast the caller is in.

    Args:
        precision: 32 bits, or the 16 of bfloat16 or float16 where autocast knows them to suffice.
        device: where the network is.
        key: what the user calls the precision, for the message.

    Raises:
        GpsweepError: if the network has an operation that the device does not have in this precision.
    """
    if precision == "32" and not torch.is_autocast_enabled(device.type):
        yield  # so it does already, and this is asked at every point
        return
    lower = DTYPES[precision] if precision != "32" else None
    with (
        refusals_named(precision, device, key),
        torch.autocast(device.type, lower, enabled=lower is not None),
    ):
        yield


@contextmanager
def refusals_named(precision: Precision, device: torch.device, key: str) -> Iterator[None]:
    """Name the precision in the error of an operation that the device does not have in it.

    Args:
        precision: that of the block.
        device: where the network is.
        key: what the user calls the precision, for the message.

    Raises:
        GpsweepError: for such an error.
    """
    try:
        yield
    except RuntimeError as error:
        if precision == "32" or not any(refusal in str(error) for refusal in REFUSALS):
            raise
        raise GpsweepError(
            f"{key}={precision}: the network has an operation that {device.type} does not have in it: {error}"
        ) from error


def widened(tensor: Tensor) -> Tensor:
    """Return a tensor of 16 bits in 32, any other as it is."""
    return tensor.float() if tensor.dtype in HALVES else tensor
