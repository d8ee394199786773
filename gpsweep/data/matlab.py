"""Label maps in MATLAB's version 5 files."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np

from gpsweep.data.archive import told
from gpsweep.data.legend import Mask
from gpsweep.errors import GpsweepError

VARIABLE = "LabelMap"
MAGIC = b"MATLAB 5.0"
HEADER = 128  # bytes, of which the last two tell the byte order
MATRIX, COMPRESSED = 14, 15  # the types of an element that holds elements, and of one that is deflated
KINDS = {*range(1, 8), 9, *range(12, 19)}  # all types there are
LARGEST = 2**26  # bytes once inflated; a photograph of 500×500 as doubles is 2**21


def read_label_map(path: Path, *, key: str) -> Mask:
    """Read the variable ``LabelMap`` of a ``.mat`` file.

    Args:
        path: the file.
        key: the configuration key that led to it.

    Returns:
        integers ``(H, W)``, from 0 to 65535.

    Raises:
        GpsweepError: when there is no such variable, it holds something else, or the file is damaged.
    """
    from scipy.io import loadmat

    with told(path, key=key):
        content = path.read_bytes()
        if not content.startswith(MAGIC) or len(content) < HEADER:
            raise GpsweepError(f"{key}: {path} begins with {content[:10]!r}; expected {MAGIC!r}, a .mat file")
        _check_elements(content, path, key=key)
        labels = loadmat(BytesIO(content), variable_names=[VARIABLE]).get(VARIABLE)
    if labels is None:
        raise GpsweepError(f"{key}: {path} has no variable {VARIABLE}")
    if labels.ndim != 2 or labels.dtype.kind not in "uif" or not labels.size:
        raise GpsweepError(
            f"{key}: {VARIABLE} of {path} is {labels.dtype} {labels.shape}; expected class numbers (H, W)"
        )
    if labels.min() < 0 or labels.max() > 65535 or (labels != np.floor(labels)).any():
        raise GpsweepError(f"{key}: {VARIABLE} of {path} holds numbers that are no class numbers")
    numbers: Mask = labels.astype(np.uint16)
    return numbers


def _check_elements(content: bytes, path: Path, *, key: str) -> None:
    """Refuse elements that come to too much once inflated, inflating no more than that, or are damaged.

    scipy's reader can end the process over a damaged element, which its checksum or type would have told.
    """
    order = "<" if content[HEADER - 2 : HEADER] == b"IM" else ">"
    place, total = HEADER, 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}2I", content, place)
        element = content[place : place + 8 + size]
        if kind == COMPRESSED:
            inflating = zlib.decompressobj()
            element = inflating.decompress(element[8:], LARGEST + 1)
            if len(element) <= LARGEST and not inflating.eof:
                raise EOFError("a compressed element is cut short")
        total += len(element)
        if total > LARGEST:
            raise GpsweepError(f"{key}: {path} was not read: it comes to more than {LARGEST} bytes")
        _check_kinds(element, order)
        place += 8 + size


def _check_kinds(content: bytes, order: str) -> None:
    """Refuse elements of types that there are not, and those within them.

    Raises:
        ValueError: naming the type.
    """
    place = 0
    while place + 8 <= len(content):
        kind, size = struct.unpack_from(f"{order}2I", content, place)
        if small := kind >> 16:  # its size and at most 4 bytes share the 8 of others' type and size
            kind, size = kind & 0xFFFF, 0
        if kind not in KINDS:
            raise ValueError(f"no element is of type {kind}")
        if kind == MATRIX and not small:
            _check_kinds(content[place + 8 : place + 8 + size], order)
        place += 8 + size + -size % 8
