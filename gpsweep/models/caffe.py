"""Weights of Caffe: ``.caffemodel`` files read as they are, without Caffe and without protobuf.

A file is one message ``NetParameter`` in protobuf's wire format; of its fields, only those that lead to
weights matter here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from math import prod
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gpsweep.errors import listing
from gpsweep.models.reading import faulty

SUFFIX = ".caffemodel"
# Field of a NetParameter → fields of its layers' name and blobs, in the old layout and in the new one.
LAYERS = {2: (4, 6), 100: (1, 7)}
# Fields of a BlobProto.
EXTENTS, DATA, SHAPE, DOUBLE_DATA = (1, 2, 3, 4), 5, 7, 8
# Wire types.
VARINT, BITS_64, BYTES, BITS_32 = 0, 1, 2, 5

Blobs = dict[str, list[Tensor]]


@dataclass(frozen=True)
class Source:
    """Where a weight lies in a Caffe file.

    Args:
        layers: names that its layer goes by; the first that the file has is taken.
        blob: which of the layer's blobs it is.
        factor: what it is multiplied with.
        over: the layer's blob of one number that it is divided by, as Caffe keeps running sums.
    """

    layers: tuple[str, ...]
    blob: int
    factor: float = 1
    over: int | None = None

    def among(self, blobs: Blobs) -> str | None:
        """Return the layer that holds it, or None."""
        needed = max(self.blob, self.over or 0)
        return next((layer for layer in self.layers if len(blobs.get(layer, ())) > needed), None)

    def weight(self, layer: list[Tensor]) -> Tensor:
        """Take it from the blobs of its layer."""
        tensor = layer[self.blob]
        if self.over is not None:
            divisor = layer[self.over].flatten()
            tensor = tensor / divisor if divisor.any() else torch.zeros_like(tensor)
        return tensor if self.factor == 1 else tensor * self.factor


def sources(net: nn.Module) -> dict[str, Source]:
    """Say where weights and biases lie in a file whose layers are called like the network's modules.

    Args:
        net: where it has ``caffe_names``, module → another name of the layer, that is looked for as well.
    """
    other: Mapping[str, str] = getattr(net, "caffe_names", {})
    return {
        f"{name}.{kind}": Source((name, other[name]) if name in other else (name,), blob)
        for name, module in net.named_modules()
        if not isinstance(module, nn.BatchNorm2d)  # Caffe's is two layers
        for blob, kind in enumerate(("weight", "bias"))
        if isinstance(getattr(module, kind, None), Tensor)
    }


def translate(net: nn.Module, path: Path, keys: Collection[str]) -> dict[str, Tensor]:
    """Read a Caffe file as a state dict of ``net``; shapes are the file's, without needless axes of one.

    Args:
        net: it may say where its weights lie as ``caffe_sources()``, else :func:`sources` does, and name
            layers that are of no use to it as ``caffe_ignored``.
        path: the file.
        keys: the entries of the state dict that are wanted.

    Raises:
        GpsweepError: as in :func:`read`; or layers are missing, or not used.
    """
    own_sources: Callable[[], Mapping[str, Source]] = getattr(net, "caffe_sources", partial(sources, net))
    known = own_sources()
    if unknown := [key for key in keys if key not in known]:
        raise faulty(path, f"this network has no Caffe layout (nothing is known of {listing(unknown, 3)}).")
    blobs = read(path)
    homes = {key: known[key].among(blobs) for key in keys}
    missing = [f"{known[key].layers[0]}[{known[key].blob}]" for key, layer in homes.items() if layer is None]
    used = {(layer, n) for key, layer in homes.items() for n in (known[key].blob, known[key].over)}
    ignored = getattr(net, "caffe_ignored", ())
    unused = [
        f"{layer}[{number}]"
        for layer, own in blobs.items()
        for number in range(len(own))
        if (layer, number) not in used and not any(fnmatch(layer, pattern) for pattern in ignored)
    ]
    if missing or unused:
        kinds = (("missing", missing), ("unused", unused))
        parts = [f"{len(names)} {kind} ({listing(names, 5)})" for kind, names in kinds if names]
        raise faulty(path, f"its blobs, as layer[number], do not fit the network: {', '.join(parts)}.")
    own = net.state_dict()
    return {
        key: _reshaped(known[key].weight(blobs[layer]), own[key].shape)
        for key, layer in homes.items()
        if layer is not None
    }


def read(path: Path) -> Blobs:
    """Read the weights of a Caffe file, in the old layout or the new one, or a mixture of both.

    Returns:
        The name of each layer that has weights → its blobs, float32.

    Raises:
        GpsweepError: no Caffe file, cut short, or without weights.
    """
    try:
        with path.open("rb") as stream:
            blobs = _layers(memoryview(mmap(stream.fileno(), 0, access=ACCESS_READ)))
    except OSError as error:
        raise faulty(path, f"cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        size = path.stat().st_size
        raise faulty(path, f"not a {SUFFIX} file, or cut short ({size} bytes): {error}.") from error
    if not blobs:
        raise faulty(path, f"not a {SUFFIX} file, or one without weights: no layer has blobs.")
    return blobs


def _reshaped(tensor: Tensor, wanted: torch.Size) -> Tensor:
    """Drop leading axes of one, which old files fill shapes up with to four."""
    spare = tensor.ndim - len(wanted)
    return tensor.reshape(wanted) if spare > 0 and tensor.shape == (1,) * spare + wanted else tensor


def _layers(file: memoryview) -> Blobs:
    found: Blobs = {}
    for number, _, layer in _fields(file):
        if number not in LAYERS or not isinstance(layer, memoryview):
            continue
        name_field, blob_field = LAYERS[number]
        name, blobs = "", []
        for field, wire, value in _fields(layer):
            if wire != BYTES or not isinstance(value, memoryview):
                continue
            if field == name_field:
                name = str(value, "utf-8")
            elif field == blob_field:
                blobs.append(_blob(value, name))
        if not name.isprintable():
            raise ValueError("a layer's name is not text")
        if blobs and name in found:
            raise ValueError(f"two layers are called {name}")
        if blobs:
            found[name] = blobs
    return found


def _blob(message: memoryview, layer: str) -> Tensor:
    """Read a ``BlobProto``: floats or doubles, packed or one by one, and their shape."""
    parts: dict[int, list[memoryview]] = {DATA: [], DOUBLE_DATA: []}
    legacy: dict[int, int] = {}
    shape: list[int] | None = None
    for field, wire, value in _fields(message):
        if isinstance(value, int):
            if field in EXTENTS:
                legacy[field] = value
        elif field in parts:
            parts[field].append(value)
        elif field == SHAPE and wire == BYTES:
            shape = [extent for number, *_, dim in _fields(value) if number == 1 for extent in _integers(dim)]
    if shape is None:
        shape = [legacy.get(field, 0) for field in EXTENTS] if legacy else []
    field, kind = (DOUBLE_DATA, "<f8") if parts[DOUBLE_DATA] else (DATA, "<f4")
    joined = parts[field][0] if len(parts[field]) == 1 else b"".join(parts[field])
    values = np.frombuffer(joined, kind).astype(np.float32)
    if values.size != prod(shape) or not all(0 <= extent < 2**31 for extent in shape):
        raise ValueError(f"layer {layer} has {values.size} values for a blob of shape {tuple(shape)}")
    return torch.from_numpy(values).reshape(shape)


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield number, wire type and value of a message's fields: an integer, or the bytes.

    Raises:
        ValueError: this is no message, or it is cut short.
    """
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise ValueError("a field of number 0")
        if wire == VARINT:
            value, at = _varint(message, at)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, at = _varint(message, at)
        elif wire in (BITS_32, BITS_64):
            size = 4 if wire == BITS_32 else 8
        else:
            raise ValueError(f"wire type {wire} is none of protobuf's in use")
        if at + size > len(message):
            raise ValueError("a field reaches beyond the end")
        yield number, wire, message[at : at + size]
        at += size


def _integers(value: int | memoryview) -> Iterator[int]:
    """Yield the numbers of a repeated field, packed or not."""
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        number, at = _varint(value, at)
        yield number


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read the number that begins at ``at``, seven bits a byte; and say where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            raise ValueError("a number reaches beyond the end")
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
    raise ValueError("a number of more than ten bytes")
