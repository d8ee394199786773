"""The two published forms of CIFAR-10's batches: Python's pickle, read without running it, and binary."""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gpsweep.data.archive import told
from gpsweep.errors import GpsweepError

CLASSES = 10
RECORDS = 10000  # in each batch
SIDE = 32
PIXELS = 3 * SIDE * SIDE


class Labelled(NamedTuple):
    """Images ``(n, 32, 32, 3)``, RGB, and the numbers of their classes ``(n,)``."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


def python_batch(content: bytes, path: Path, *, key: str) -> Labelled:
    """Read a batch of ``cifar-10-batches-py``: a pickled dict with ``data`` and ``labels``.

    Nothing that the pickle names is imported or called: it may hold an array, which is taken apart here,
    lists, dicts, strings and numbers.

    Args:
        content: of the file.
        path: the file, for the message.
        key: the configuration key that led to it.

    Raises:
        GpsweepError: when it is cut short, names anything else, or is no batch of CIFAR-10.
    """
    with told(path, key=key):
        batch = _unpickled(content, path, key=key)
    fields = {str(name, "latin1") if isinstance(name, bytes) else name: batch[name] for name in batch}
    data, labels = fields.get("data"), fields.get("labels")
    if not isinstance(data, _Array) or not isinstance(labels, list):
        raise GpsweepError(f"{key}: {path} holds {', '.join(map(str, fields))}; expected data and labels")
    if data.shape != (RECORDS, PIXELS) or data.kind != "u1" or len(data.raw) != RECORDS * PIXELS:
        raise GpsweepError(
            f"{key}: the images of {path} are {data.kind} {data.shape}; expected u1 {(RECORDS, PIXELS)}"
        )
    if len(labels) != RECORDS or not all(type(label) is int and 0 <= label < CLASSES for label in labels):
        raise GpsweepError(f"{key}: {path} has other labels than 0–{CLASSES - 1}, one for each of {RECORDS}")
    pixels = np.frombuffer(data.raw, dtype=np.uint8)
    return Labelled(_images(pixels), np.array(labels, dtype=np.uint8))


def binary_batch(content: bytes, path: Path, *, key: str) -> Labelled:
    """Read a batch of ``cifar-10-batches-bin``: for each image its class and its pixels, a byte each.

    Args:
        content: of the file.
        path: the file, for the message.
        key: the configuration key that led to it.

    Raises:
        GpsweepError: when it is cut short or holds other classes.
    """
    if len(content) != RECORDS * (1 + PIXELS):
        raise GpsweepError(
            f"{key}: {path} has {len(content)} bytes; expected {RECORDS * (1 + PIXELS)}, a batch of CIFAR-10"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(RECORDS, 1 + PIXELS)
    labels = records[:, 0]
    if labels.max() >= CLASSES:
        raise GpsweepError(f"{key}: {path} holds the label {labels.max()}; expected 0–{CLASSES - 1}")
    return Labelled(_images(records[:, 1:]), labels)


def _images(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)


class _Kind:
    """Stands for ``numpy.dtype``: the name alone is kept; bytes have no order."""

    def __init__(self, name: str | bytes, *flags: object) -> None:
        self.name = name if isinstance(name, str) else name.decode("latin1")

    def __setstate__(self, state: object) -> None: ...


class _Array:
    """Stands for ``numpy.ndarray``: takes an array's state apart instead of trusting it."""

    shape: tuple[int, ...] = ()
    kind = ""
    raw = b""

    def __setstate__(self, state: Any) -> None:
        _, self.shape, kind, by_column, raw = state
        self.kind = kind.name if isinstance(kind, _Kind) and not by_column else ""
        self.raw = raw if isinstance(raw, bytes) else b""


def _array(*arguments: object) -> _Array:
    return _Array()


def _encoded(text: str, encoding: str) -> bytes:
    """Stand for ``codecs.encode``, through which Python 3 writes bytes for Python 2."""
    return text.encode("latin1")


ADMITTED: dict[tuple[str, str], Callable[..., object]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Kind,
    ("numpy.core.multiarray", "_reconstruct"): _array,
    ("numpy._core.multiarray", "_reconstruct"): _array,
    ("_codecs", "encode"): _encoded,
}


class _Unpickler(pickle.Unpickler):
    """Knows arrays and nothing else; what a pickle names is never looked up."""

    def find_class(self, module: str, name: str, /) -> Any:
        if (module, name) not in ADMITTED:
            raise pickle.UnpicklingError(
                f"it names {module}.{name}, which is neither an array nor a list; "
                "reading that could run code from the file, which is never done"
            )
        return ADMITTED[module, name]


def _unpickled(content: bytes, path: Path, *, key: str) -> dict[Any, Any]:
    for opcode, argument, _ in pickletools.genops(content):
        # the unpickler makes room for as many notes as the highest number asks for
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"it keeps note {argument}, as no batch of CIFAR-10 does")
    batch = _Unpickler(BytesIO(content), encoding="bytes").load()
    if not isinstance(batch, dict):
        raise GpsweepError(
            f"{key}: {path} holds a {type(batch).__name__}; expected a batch of CIFAR-10, a dict"
        )
    return batch
