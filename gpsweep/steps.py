"""Steps: from a gradient to the direction in which a layer moves for ε = 1 (paper, Eq. 1).

A step is a pure function ``(gradient, valid) -> direction`` in :data:`STEPS`; both tensors are ``(N, …)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Step = Callable[[Tensor, Tensor | None], Tensor]


def sign(gradient: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return sign(g) (paper, Eq. 1).

    Args:
        gradient: ``(N, …)``, any unit.
        valid: ``(N, H, W)`` bool for a gradient ``(N, C, H, W)``, False where a pixel is padding; None if
            nothing was padded.

    Returns:
        ``(N, …)``: −1, 0 or 1; 0 where g is 0 and where a pixel is padding.
    """
    return gradient.sign() if valid is None else gradient.sign() * valid.unsqueeze(1)


def by_rms(gradient: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return g / RMS(g), the RMS taken over each image's own pixels.

    Args:
        gradient: ``(N, …)``, any unit.
        valid: ``(N, H, W)`` bool for a gradient ``(N, C, H, W)``, False where a pixel is padding; None if
            nothing was padded.

    Returns:
        ``(N, …)``, of RMS 1 over each image's own pixels; 0 where a pixel is padding and for an image whose g
        is 0.
    """
    kind, gradient = gradient.dtype, _wide(gradient)
    if valid is not None:
        gradient = gradient * valid.unsqueeze(1)
    # The gradient of a very certain image is so small that its squares would be rounded to 0. A power of two
    # changes none of its digits.
    largest = gradient.abs().amax(tuple(range(1, gradient.dim())), keepdim=True)
    gradient = torch.where(largest < 2.0**-40, gradient * 2.0**80, gradient)
    size = rms(gradient)
    if valid is not None:
        share = valid.flatten(1).float().mean(1)
        size = size / share.sqrt().view(-1, *[1] * (gradient.dim() - 1))
    return torch.where(size > 0, gradient / size, 0).to(kind)


STEPS: dict[str, Step] = {"sign": sign, "rms": by_rms}


def rms(activation: Tensor) -> Tensor:
    """Return the root of the mean square per image.

    Args:
        activation: ``(N, …)``; of ``(N,)`` each number is an image.

    Returns:
        ``(N, 1, …)``, ≥ 0, in the units of the activation and ready to be multiplied with it.
    """
    # One dimension after the other: a mean that is one number is split among threads, and their count would
    # change its last digit.
    squares = _wide(activation).square()
    for dimension in range(activation.dim() - 1, 0, -1):
        squares = squares.mean(dimension, keepdim=True)
    return squares.sqrt().to(activation.dtype)


def _wide(tensor: Tensor) -> Tensor:
    """Return a tensor in 32 bits at least: those of a network in float16 have squares that it cannot hold."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
