"""Writing Caffe files: protobuf's wire format, in the old layout of layers and in the new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

Layers = Mapping[str, Sequence[Tensor]]


def varint(number: int) -> bytes:
    low = [number & 0x7F]
    while number := number >> 7:
        low.append(number & 0x7F)
    return bytes([byte | 0x80 for byte in low[:-1]] + low[-1:])


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def blob(tensor: Tensor, *, old: bool = False, packed: bool = True, double: bool = False) -> bytes:
    """A BlobProto: four extents if ``old``, else a shape; floats or doubles, packed or one by one."""
    values = tensor.numpy().astype("<f8" if double else "<f4")
    number, wire = (8, 1) if double else (5, 5)
    if packed:
        data = field(number, values.tobytes())
    else:
        data = b"".join(varint(number << 3 | wire) + value.tobytes() for value in values.flatten())
    if old:
        extents = (1,) * (4 - tensor.ndim) + tuple(tensor.shape)
        return b"".join(field(k, size) for k, size in enumerate(extents, 1)) + data
    return data + field(7, field(1, b"".join(varint(size) for size in tensor.shape)))


def caffemodel(layers: Layers, *, old: bool = False, packed: bool = True, double: bool = False) -> bytes:
    """A NetParameter; among its layers is one without weights, and there are fields that do not matter."""
    number, named, typed, held = (2, 4, 5, 6) if old else (100, 1, 2, 7)
    kind: bytes | int = 4 if old else b"Convolution"
    parts = [field(1, b"net"), field(5, 1), field(number, field(named, b"relu"))]
    for name, blobs in layers.items():
        body = field(named, name.encode()) + field(typed, kind)
        body += b"".join(field(held, blob(one, old=old, packed=packed, double=double)) for one in blobs)
        parts.append(field(number, body))
    return b"".join(parts)
