"""The colours that classes have, in masks of PASCAL VOC and in pictures of a run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def palette() -> NDArray[np.uint8]:
    """Return the colours of PASCAL VOC's indexed PNGs: ``(256, 3)``, RGB.

    The bits of a number, three at a time from the lowest, become the bits of red, green and blue from the
    highest (``VOClabelcolormap`` of the VOC development kit).
    """
    numbers = np.arange(256)[:, None]
    channels = np.arange(3)
    colours = np.zeros((len(numbers), 3), dtype=np.int64)
    for place in range(8):
        colours |= ((numbers >> (3 * place + channels)) & 1) << (7 - place)
    return colours.astype(np.uint8)
