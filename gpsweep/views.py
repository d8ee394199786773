"""Views of a batch: mirrored or at another scale, and predictions carried back from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from gpsweep.data.base import VOID
from gpsweep.data.batch import Batch

Size = tuple[int, int]


@dataclass(frozen=True)
class View:
    """A way of looking at a batch. Each image is transformed by itself, whatever padding it has.

    Args:
        mirrored: whether left and right are swapped.
        scale: factor of height and width.
    """

    mirrored: bool = False
    scale: float = 1.0

    @property
    def refine(self) -> str:
        """The refinement that looks this way."""
        return "flip" if self.mirrored else "none" if self.scale == 1 else "multiscale"

    def of(self, batch: Batch) -> Batch:
        """Return the batch as it is seen, truth and padding transformed with the images."""
        if self == IDENTITY:
            return batch
        sizes = sizes_of(batch)
        image, target, valid = batch["image"], batch["target"], batch["valid"]
        dense = target.dim() == 3
        if self.mirrored:
            image = mirrored(image, sizes)
            target = mirrored(target.unsqueeze(1), sizes).squeeze(1) if dense else target
        if self.scale != 1:
            after = [self._scaled(size) for size in sizes]
            image = resized(image, sizes, after, antialias=True)
            if dense:
                # Padding is filled with zeros, which are to become void.
                shifted = (target - VOID).unsqueeze(1)
                target = resized(shifted.float(), sizes, after, mode="nearest-exact").squeeze(1).long() + VOID
            valid = None if valid is None else inside(after, image)
        return Batch(image=image, target=target, valid=valid, ids=batch["ids"], content=batch["content"])

    def back(self, softmax: Tensor, batch: Batch) -> Tensor:
        """Carry what a network gives for the view back to the batch.

        Args:
            softmax: ``(N, C, H', W')``, or ``(N, C)``, which stays as it is.
            batch: as it was before :meth:`of`.

        Returns:
            ``(N, C, H, W)``, 0 where padded at another scale, or ``(N, C)``.
        """
        if self == IDENTITY or softmax.dim() == 2:
            return softmax
        sizes = sizes_of(batch)
        if self.scale != 1:
            softmax = resized(softmax, [self._scaled(size) for size in sizes], sizes)
        return mirrored(softmax, sizes) if self.mirrored else softmax

    def _scaled(self, size: Size) -> Size:
        height, width = (max(1, round(side * self.scale)) for side in size)
        return height, width


IDENTITY = View()


def sizes_of(batch: Batch) -> list[Size]:
    """Return height and width of each image of a batch, without its padding."""
    image, valid = batch["image"], batch["valid"]
    if valid is None:
        return [(image.shape[-2], image.shape[-1])] * len(image)
    rows, columns = valid.any(2).sum(1).tolist(), valid.any(1).sum(1).tolist()
    return list(zip(rows, columns, strict=True))


def colours(batch: Batch) -> NDArray[np.uint8]:
    """Return the images of a batch as bytes: ``(N, H, W, 3)``, RGB."""
    return batch["image"].to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def mirrored(x: Tensor, sizes: Sequence[Size]) -> Tensor:
    """Swap left and right of each image; padding, which is at the right of an image, stays there.

    Args:
        x: ``(N, C, H, W)``.
        sizes: of the N images.

    Returns:
        ``(N, C, H, W)``.
    """
    if all(width == x.shape[-1] for _, width in sizes):
        return x.flip(-1)
    columns = torch.arange(x.shape[-1], device=x.device)
    widths = torch.tensor([width for _, width in sizes], device=x.device).unsqueeze(1)
    source = torch.where(columns < widths, widths - 1 - columns, columns)
    return x.gather(-1, source.view(len(x), 1, 1, -1).expand_as(x))


def resized(
    x: Tensor,
    before: Sequence[Size],
    after: Sequence[Size],
    *,
    mode: str = "bilinear",
    antialias: bool = False,
) -> Tensor:
    """Resize each image by itself; smaller ones stand at the top left, with zeros around.

    Args:
        x: ``(N, C, H, W)``, float.
        before: sizes of the N images in ``x``.
        after: sizes that they get.
        mode: ``bilinear`` or ``nearest-exact``.
        antialias: whether to smooth what gets smaller.

    Returns:
        ``(N, C, H', W')``, H' and W' being the largest.
    """

    def each(part: Tensor, size: Size) -> Tensor:
        return F.interpolate(part, size, mode=mode, antialias=antialias)

    if len(set(before)) == len(set(after)) == 1 and before[0] == x.shape[-2:]:
        return each(x, after[0])
    height, width = (max(sides) for sides in zip(*after, strict=True))
    out = x.new_zeros(*x.shape[:2], height, width)
    for place, (old, new) in enumerate(zip(before, after, strict=True)):
        part = x[place : place + 1, :, : old[0], : old[1]]
        out[place : place + 1, :, : new[0], : new[1]] = each(part, new)
    return out


def inside(sizes: Sequence[Size], image: Tensor) -> Tensor:
    """Return which pixels of a batch ``(N, C, H, W)`` lie within images of some sizes: bool ``(N, H, W)``."""
    height, width = (torch.tensor(sides, device=image.device) for sides in zip(*sizes, strict=True))
    rows = torch.arange(image.shape[-2], device=image.device) < height.unsqueeze(1)
    columns = torch.arange(image.shape[-1], device=image.device) < width.unsqueeze(1)
    return rows.unsqueeze(2) & columns.unsqueeze(1)
