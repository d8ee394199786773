"""CIFAR-10's batches: what is in them, and that reading one runs nothing."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from traps import Runs

from gpsweep.data import cifar_batches
from gpsweep.data.cifar_batches import PIXELS, binary_batch, python_batch
from gpsweep.errors import GpsweepError

PATH = Path("cifar/test_batch")
KEY = "data.root"
COUNT = 6
LABELS = [3, 8, 0, 9, 1, 1]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar_batches, "RECORDS", COUNT)


def pixels(count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, PIXELS), dtype=np.uint8)


def python3(**fields: Any) -> bytes:
    return pickle.dumps({b"data": pixels(), b"labels": LABELS} | fields, protocol=2)


def python2(data: np.ndarray, labels: list[int]) -> bytes:
    """Assemble a batch as Python 2 pickled it, which is how CIFAR-10 was published."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"J" + struct.pack("<i", value)

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        + number(0)
        + b"\x85"
        + text(b"b")
        + b"\x87R"
    )
    kind = b"cnumpy\ndtype\n" + text(b"u1") + number(0) + number(1) + b"\x87R("
    kind += number(3) + text(b"|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    shape = b"".join(map(number, data.shape)) + b"\x86"
    raw = b"T" + struct.pack("<i", data.size) + data.tobytes()
    state = b"(" + number(1) + shape + kind + b"\x89" + raw + b"tb"
    listed = b"](" + b"".join(map(number, labels)) + b"e"
    name = text(b"batch_label") + text(b"testing batch 1 of 1")
    return b"\x80\x02}q\x01(" + text(b"data") + array + state + text(b"labels") + listed + name + b"u."


@pytest.mark.parametrize("content", [python3(), python2(pixels(), LABELS)], ids=["Python 3", "Python 2"])
def test_python_batch(content: bytes) -> None:
    batch = python_batch(content, PATH, key=KEY)
    assert batch.labels.tolist() == LABELS
    assert batch.images.shape == (COUNT, 32, 32, 3)
    planes = pixels()[2].reshape(3, 32, 32)  # all red, then all green, then all blue
    assert np.array_equal(batch.images[2], planes.transpose(1, 2, 0))


def test_binary_batch_is_the_same() -> None:
    records = np.concatenate([np.array(LABELS, dtype=np.uint8)[:, None], pixels()], axis=1)
    came, expected = binary_batch(records.tobytes(), PATH, key=KEY), python_batch(python3(), PATH, key=KEY)
    assert np.array_equal(came.images, expected.images)
    assert np.array_equal(came.labels, expected.labels)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has 0 bytes; expected 18438, a batch of CIFAR-10"),
        (bytes(COUNT * (1 + PIXELS) - 1), "has 18437 bytes"),
        (bytes([10]) + bytes(COUNT * (1 + PIXELS) - 1), "holds the label 10; expected 0–9"),
    ],
)
def test_broken_binary_batches(content: bytes, says: str) -> None:
    with pytest.raises(GpsweepError, match=rf"^data\.root: cifar/test_batch {says}"):
        binary_batch(content, PATH, key=KEY)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "cannot be read"),
        (b"no pickle at all", "cannot be read"),
        (python3()[:-2000], "cannot be read"),
        (python2(pixels(), LABELS)[:-40], "cannot be read"),
        (pickle.dumps([1, 2], protocol=2), "holds a list; expected a batch of CIFAR-10, a dict"),
        (pickle.dumps({b"fine_labels": [1]}, protocol=2), "holds fine_labels; expected data and labels"),
        (python3(labels=3), r"holds data, labels.*; expected data and labels"),
        (python3(**{"data": [1]}), "expected data and labels"),
        (python3(data=pixels(5)), r"images of .*test_batch are u1 \(5, 3072\); expected u1 \(6, 3072\)"),
        (python3(data=pixels().astype(np.float32)), r"are f4 \(6, 3072\)"),
        (python3(data=np.asfortranarray(pixels())), r"expected u1 \(6, 3072\)"),
        (python3(labels=LABELS[1:]), "other labels than 0–9, one for each of 6"),
        (python3(labels=[0, 1, 2, 3, 4, 10]), "other labels than 0–9"),
        (python3(labels=[0, 1, 2, 3, 4, True]), "other labels than 0–9"),
    ],
)
def test_broken_python_batches(content: bytes, says: str) -> None:
    with pytest.raises(GpsweepError, match=rf"^data\.root: .*{says}"):
        python_batch(content, PATH, key=KEY)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_code_in_a_batch_is_never_run(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "made"
    content = pickle.dumps({b"data": Runs(os.mkdir, str(trap)), b"labels": LABELS}, protocol=protocol)
    with pytest.raises(GpsweepError, match=r"it names posix\.mkdir, which .* could run code .* never done"):
        python_batch(content, PATH, key=KEY)
    assert not trap.exists()
    pickle.loads(content)
    assert trap.exists(), "the trap itself does not work"


@pytest.mark.parametrize(
    "named",
    ["builtins\neval", "numpy\nload", "numpy\nndarray.tofile", "_codecs\nlookup", "copyreg\n_reconstructor"],
)
def test_only_arrays_may_be_named(named: str) -> None:
    with pytest.raises(GpsweepError, match=f"it names {named}".replace("\n", r"\.")):
        python_batch(b"\x80\x02c" + named.encode() + b"\n.", PATH, key=KEY)


def test_a_batch_cannot_ask_for_memory() -> None:
    content = (
        b"\x80\x02}r" + struct.pack("<I", 2**31) + b"."
    )  # stored under a number that needs 16 GiB of room
    with pytest.raises(GpsweepError, match="it keeps note 2147483648"):
        python_batch(content, PATH, key=KEY)
