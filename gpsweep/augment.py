"""What varies training images, without which so few would be learnt by heart."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from gpsweep.recipe import Augment


def varied(augment: Augment, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Vary a batch of images, and with them their masks.

    Args:
        augment: how.
        image: ``(N, 3, H, W)``, 0–255.
        target: masks ``(N, H, W)``, or classes ``(N,)``, which stay as they are.

    Returns:
        images ``(N, 3, H', W')``, not clamped, and targets, of one size.
    """
    if target.ndim == 3:
        image, target = _cropped(augment, *_flipped(augment, *_scaled(augment, image, target)))
    elif augment.flip:
        image = _mirrored(image, _half(image))
    gain = 1 + augment.contrast * _symmetric(image, 1)
    shift = augment.brightness * _symmetric(image, 3)
    middle = image.mean(dim=(2, 3), keepdim=True)
    return torch.addcmul(middle + shift, image - middle, gain), target


def _scaled(augment: Augment, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    size = torch.tensor(image.shape[2:])
    low, high = augment.scale
    factor = low + (high - low) * torch.rand(())
    wanted = (size * factor).round().int()
    wanted = wanted.maximum(torch.tensor(augment.crop or (1, 1)))
    if torch.equal(wanted, size):
        return image, target
    shape = wanted.tolist()
    masks = F.interpolate(target[:, None].float(), size=shape, mode="nearest-exact")
    return F.interpolate(image, size=shape, mode="bilinear", antialias=True), masks[:, 0].long()


def _flipped(augment: Augment, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if not augment.flip:
        return image, target
    chosen = _half(image)
    return _mirrored(image, chosen), _mirrored(target, chosen)


def _cropped(augment: Augment, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if augment.crop is None:
        return image, target
    height, width = augment.crop
    tops = torch.randint(image.shape[2] - height + 1, (len(image),)).tolist()
    lefts = torch.randint(image.shape[3] - width + 1, (len(image),)).tolist()
    corners = zip(tops, lefts, strict=True)
    boxes = [(slice(top, top + height), slice(left, left + width)) for top, left in corners]
    images = [one[:, rows, columns] for one, (rows, columns) in zip(image, boxes, strict=True)]
    targets = [one[box] for one, box in zip(target, boxes, strict=True)]
    return torch.stack(images), torch.stack(targets)


def _half(image: Tensor) -> Tensor:
    """Draw which images of a batch are mirrored, bool ``(N,)``."""
    return torch.rand(len(image), device=image.device) < 0.5


def _mirrored(pictures: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen pictures of ``(N, …, W)`` left to right."""
    return torch.where(chosen.view(-1, *[1] * (pictures.ndim - 1)), pictures.flip(-1), pictures)


def _symmetric(image: Tensor, channels: int) -> Tensor:
    """Draw numbers from −1 to 1, ``(N, channels, 1, 1)``."""
    return 2 * torch.rand(len(image), channels, 1, 1, device=image.device) - 1
