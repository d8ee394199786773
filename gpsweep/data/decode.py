"""Reading one image or one mask: the file becomes RGB grey levels or class numbers, or one clear error."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from gpsweep.data.base import Size
from gpsweep.data.legend import Colours, Mask, voc_colours
from gpsweep.errors import GpsweepError

Picture = NDArray[np.uint8]

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
MASKS = frozenset({".png", ".bmp", ".tif", ".tiff"})  # those that keep numbers exactly

FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF")  # a file of any other is not opened, whatever its suffix
ORIENTATION = 0x0112
TURNED = frozenset({5, 6, 7, 8})  # EXIF orientations that exchange height and width


def read_image(path: Path | str, *, key: str, content: bytes | None = None) -> Picture:
    """Decode an image to RGB, as a viewer shows it.

    EXIF orientation is applied, grey and palette colours become RGB, an alpha channel is dropped,
    16-bit grey (0–65535) becomes 0–255.

    Args:
        path: the file, or what to call it where its content is known.
        key: the configuration key that led to it (``data.root``).
        content: what is in the file, where that is known, as from an archive.

    Returns:
        uint8 ``(H, W, 3)``.

    Raises:
        GpsweepError: when the file does not decode or is a decompression bomb.
    """
    return _decoded(path, key=key, what="image", content=content)


def _decoded(path: Path | str, *, key: str, what: str, content: bytes | None = None) -> Picture:
    with _opened(path, key=key, what=what, content=content) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith("I"):
            return _from_16_bit(image, path, key=key)
        if image.mode == "F":
            raise GpsweepError(f"{key}: {what} {path} holds floating point numbers; expected grey levels")
        if image.mode == "P":
            image = image.convert("RGBA")  # PIL warns when a palette with transparency goes to RGB at once
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def read_mask(path: Path, *, key: str, coloured: bool = False) -> Mask:
    """Decode a mask to the numbers in the file.

    Args:
        path: the file, of mode ``1``, ``P``, ``L`` or 16-bit grey.
        key: the configuration key that led to it.
        coloured: whether an RGB mask in PASCAL VOC's colours is one too.

    Returns:
        integers ``(H, W)``, from 0 to 65535.

    Raises:
        GpsweepError: when the file does not decode, or is no picture of class numbers.
    """
    with _opened(path, key=key, what="mask") as image:
        if coloured and image.mode == "RGB":
            return voc_colours().numbers(np.asarray(ImageOps.exif_transpose(image)), path, key=key)
        if image.mode not in {"1", "P", "L"} and not image.mode.startswith("I"):
            raise GpsweepError(
                f"{key}: mask {path} is a picture of mode {image.mode}; expected class numbers: "
                "an indexed (P), 8-bit (L) or 16-bit grey PNG whose pixels are the numbers of the classes; "
                "data=folder reads colours as well, which data.values names"
            )
        spread = _spread(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        mask = np.asarray(image)
        if spread > 1:
            mask = mask // spread
    return mask.astype(np.uint8) if mask.dtype == np.bool_ else mask


def read_coloured(path: Path, *, key: str, colours: Colours) -> Mask:
    """Decode a mask whose colours, not numbers, tell classes; an alpha channel is dropped.

    Args:
        path: the file, of any mode.
        key: the configuration key that led to it.
        colours: what they mean.

    Returns:
        integers ``(H, W)``.

    Raises:
        GpsweepError: when the file does not decode, or holds another colour.
    """
    return colours.numbers(_decoded(path, key=key, what="mask"), path, key=key)


def _spread(image: Image.Image) -> int:
    """Return by how much Pillow will multiply numbers of 2 or 4 bits, to reach 255, as it loads a picture."""
    tiles = getattr(image, "tile", ())
    mode = tiles[0][3] if tiles else ""
    raw = mode if isinstance(mode, str) else next(iter(mode or ()), "")
    return {"L;2": 85, "L;4": 17}.get(raw, 1)


def extent(path: Path, *, key: str) -> Size:
    """Read height and width of an image as `read_image` returns it, from its header where that suffices.

    Raises:
        GpsweepError: when the file does not open.
    """
    with _opened(path, key=key, what="image") as image:
        turned = image.getexif().get(ORIENTATION) in TURNED
        if turned and image.format == "TIFF":  # Pillow turns it itself, as it loads it
            image.load()
            turned = False
        width, height = image.size
    return (width, height) if turned else (height, width)


def to_tensor(image: Picture) -> Tensor:
    """Turn ``(H, W, 3)`` into a tensor ``(3, H, W)``, uint8."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


def _from_16_bit(image: Image.Image, path: Path | str, *, key: str) -> Picture:
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise GpsweepError(
            f"{key}: image {path} has grey levels outside 0–65535; expected 8 or 16 bits a pixel"
        )
    grey = np.rint(levels / 257).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


@contextmanager
def _opened(path: Path | str, *, key: str, what: str, content: bytes | None = None) -> Iterator[Image.Image]:
    """Open a picture; whatever goes wrong with it becomes one error that names it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # From a path, Pillow maps uncompressed pixels into memory, and garbles those of a turned TIFF.
            with (
                Path(path).open("rb") if content is None else BytesIO(content) as stream,
                Image.open(stream, formats=FORMATS) as image,
            ):
                yield image
    except GpsweepError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise GpsweepError(
            f"{key}: {what} {path} was not opened: it has more than {Image.MAX_IMAGE_PIXELS} pixels, "
            "as decompression bombs have"
        ) from error
    except Exception as error:  # decoders raise almost anything on a broken file
        reason = "not a picture" if isinstance(error, UnidentifiedImageError) else error
        raise GpsweepError(f"{key}: {what} {path} does not decode: {reason}") from error
