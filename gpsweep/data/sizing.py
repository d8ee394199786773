"""How pictures and masks come to the size that the network is given: stretched, or resized and cropped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gpsweep.data.base import LONGEST, Size, check_choice, checked_size
from gpsweep.data.decode import Picture
from gpsweep.data.legend import Targets
from gpsweep.errors import GpsweepError, listing

KEY = "data.size"
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Wanted = int | Sequence[int] | Mapping[str, Any] | None
"""What ``data.size`` may be, see :func:`sizing`."""


@dataclass(frozen=True)
class Sizing:
    """One way to resize and crop pictures.

    Args:
        stretch: (height, width) that a picture is resized to, whatever its shape.
        shorter: pixels that its shorter side is resized to, its shape being kept.
        crop: (height, width) that is cut out of its middle afterwards.
        interpolation: ``bilinear`` or ``bicubic``, both with antialiasing.
    """

    stretch: Size | None = None
    shorter: int | None = None
    crop: Size | None = None
    interpolation: str = "bilinear"

    def image(self, image: Picture, name: object) -> Picture:
        """Resize and crop a picture.

        Args:
            image: ``(H, W, 3)``.
            name: what to call it where it is too small.

        Raises:
            GpsweepError: if what is to be cut out is larger.
        """
        resized, box = self._plan(image.shape[:2], name)
        if image.shape[:2] != resized:
            kind = INTERPOLATIONS[self.interpolation]
            image = np.asarray(Image.fromarray(image).resize(resized[::-1], kind))
        return image[box]

    def mask(self, mask: Targets, name: object) -> Targets:
        """Resize and crop a mask ``(H, W)`` likewise, each pixel taking the nearest one."""
        resized, box = self._plan(mask.shape, name)
        if mask.shape != resized:
            rows, columns = (_nearest(old, new) for old, new in zip(mask.shape, resized, strict=True))
            mask = mask[np.ix_(rows, columns)]
        return mask[box]

    def _plan(self, native: tuple[int, ...], name: object) -> tuple[Size, tuple[slice, slice]]:
        """Return the size to resize to, and what is cut out of it."""
        height, width = native
        if self.stretch is not None:
            height, width = self.stretch
        elif self.shorter is not None:
            # As torchvision and timm round it.
            least = min(height, width)
            height, width = (self.shorter * side // least for side in (height, width))
        if self.crop is None:
            return (height, width), (slice(None), slice(None))
        if height < self.crop[0] or width < self.crop[1]:
            raise GpsweepError(
                f"{KEY}: crop expects pictures of at least {self.crop[1]}×{self.crop[0]} pixels, {name} has "
                f"{width}×{height}; set shorter, or a smaller crop"
            )
        return (height, width), (_middle(height, self.crop[0]), _middle(width, self.crop[1]))


def sizing(size: Wanted) -> Sizing:
    """Turn ``data.size`` into a way to resize pictures.

    Args:
        size: ``None`` for native sizes; ``S`` or ``[H, W]`` in pixels, to which pictures are stretched; or
            some of the arguments of :class:`Sizing` by name. Classifiers of ImageNet are judged on the middle
            of pictures whose shorter side was resized.

    Raises:
        GpsweepError: for anything else.
    """
    if not isinstance(size, Mapping):
        return Sizing(stretch=checked_size(size))
    given = dict(size)
    for key in given:
        check_choice(KEY, key, Sizing.__dataclass_fields__)
    shorter, interpolation = given.get("shorter"), given.get("interpolation", "bilinear")
    stretch, crop = (checked_size(given.get(key), f"{KEY}.{key}") for key in ("stretch", "crop"))
    if shorter is not None and not (type(shorter) is int and 1 <= shorter <= LONGEST):
        raise GpsweepError(f"{KEY}.shorter={shorter}: expected whole pixels from 1 to {LONGEST}")
    if shorter is not None and stretch is not None:
        raise GpsweepError(f"{KEY}={_written(given)}: expected one of stretch and shorter, came both")
    check_choice(f"{KEY}.interpolation", interpolation, INTERPOLATIONS)
    return Sizing(stretch, shorter, crop, interpolation)


def _written(given: Mapping[str, Any]) -> str:
    return "{" + listing([f"{key}: {value}" for key, value in given.items()]) + "}"


def _middle(whole: int, part: int) -> slice:
    """Return the middle of a side, rounded as torchvision and timm round it."""
    start = round((whole - part) / 2)
    return slice(start, start + part)


def _nearest(old: int, new: int) -> NDArray[np.intp]:
    """Index, for each of ``new`` pixels, the one of ``old`` whose area its centre lies in."""
    return ((np.arange(new) + 0.5) * old / new).astype(np.intp)
