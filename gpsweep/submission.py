"""Predictions for PASCAL VOC's evaluation server: indexed PNGs in its folder layout, packed as ``.tgz``."""

from __future__ import annotations

import gzip
import re
import tarfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpsweep.atomic import save
from gpsweep.data.palette import palette
from gpsweep.errors import GpsweepError

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
CLASSES = 21
NAME = re.compile(r"\w+", re.ASCII)


def pack(pictures: Iterable[tuple[str, bytes]], path: Path) -> int:
    """Write a submission for competition 6, segmentation with training data of any kind.

    The file is there as a whole or not at all, and the same predictions give the same bytes.

    Args:
        pictures: id of each image and what :func:`encoded` made of its prediction; read one by one.
        path: the archive to write, ``.tgz``.

    Returns:
        How many images it holds; the test set has 1456.

    Raises:
        GpsweepError: when an image comes twice or none does, or the file cannot be written.
    """
    written: set[str] = set()
    stream = BytesIO()
    with (
        gzip.GzipFile("", "wb", fileobj=stream, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, content in pictures:
            if name in written:
                raise GpsweepError(f"submission: image {name} came more than once")
            member = tarfile.TarInfo(f"{FOLDER}/{name}.png")
            member.size = len(content)
            archive.addfile(member, BytesIO(content))
            written.add(name)
    if not written:
        raise GpsweepError("submission: no predictions came")
    save(path, stream.getvalue())
    return len(written)


def encoded(name: str, classes: NDArray[np.integer[Any]]) -> bytes:
    """Encode one prediction as an indexed PNG in PASCAL VOC's colours.

    Args:
        name: the image's id.
        classes: ``(H, W)``, integers 0–20, 0 the background.

    Returns:
        The content of the file.

    Raises:
        GpsweepError: when the id is no bare name, or the prediction holds anything but classes 0–20.
    """
    from PIL import Image

    if not NAME.fullmatch(name):
        raise GpsweepError(f"submission: image id {name!r}: expected a name like 2008_000006")
    if classes.ndim != 2 or classes.dtype.kind not in "iu" or not classes.size:
        raise GpsweepError(
            f"submission: image {name}: expected integers (H, W), came {classes.dtype} {classes.shape}"
        )
    if classes.min() < 0 or classes.max() >= CLASSES:
        raise GpsweepError(
            f"submission: image {name} holds classes {classes.min()}–{classes.max()}; "
            f"expected 0–{CLASSES - 1}"
        )
    image = Image.fromarray(classes.astype(np.uint8))
    image.putpalette(palette().tobytes())
    stream = BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()
