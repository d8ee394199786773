"""MNIST: idx files, whole or broken."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gpsweep.data.mnist import mnist
from gpsweep.errors import GpsweepError

IMAGES = "t10k-images-idx3-ubyte"
LABELS = "t10k-labels-idx1-ubyte"


def idx(magic: int, array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", magic, *array.shape) + array.astype(np.uint8).tobytes()


def digits(count: int, side: int = 28) -> bytes:
    return idx(2051, np.arange(count * side * side).reshape(count, side, side) % 256)


def labels(*numbers: int) -> bytes:
    return idx(2049, np.array(numbers))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / IMAGES).write_bytes(digits(3))
    (tmp_path / f"{LABELS}.gz").write_bytes(gzip.compress(labels(7, 0, 9)))
    return tmp_path


def test_samples_gzipped_or_not(root: Path) -> None:
    source = mnist(root=str(root))
    assert (source.name, source.task, source.classes) == ("mnist-test", "classification", tuple("0123456789"))
    assert source.ids == ["test/00000", "test/00001", "test/00002"]
    sample = source[2]
    assert sample["id"] == "test/00002"
    assert sample["target"].shape == ()
    assert sample["target"].dtype == torch.int64
    assert sample["target"] == 9
    expected = torch.arange(2 * 784, 3 * 784).reshape(28, 28) % 256
    assert torch.equal(sample["image"], expected.expand(3, 28, 28).to(torch.uint8))


def test_size_and_limit(root: Path) -> None:
    source = mnist(root=str(root), size=32, limit=2)
    assert len(source) == len(source.ids) == 2
    assert source[1]["image"].shape == (3, 32, 32)
    with pytest.raises(IndexError):
        source[2]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (IMAGES, b"", "is cut short: 0 bytes; expected an idx header of 16"),
        (IMAGES, labels(1, 2, 3) + bytes(20), "begins with the magic number 2049; expected 2051"),
        (IMAGES, digits(3)[:-1], r"has 2367 bytes; its header says 2368 for \[3, 28, 28\]"),
        (IMAGES, digits(3) + b"x", "has 2369 bytes or more; its header says 2368"),
        (IMAGES, struct.pack(">4I", 2051, 2**32 - 1, 2**32 - 1, 2**32 - 1), "has 16 bytes; its header says"),
        (IMAGES, digits(3, side=20), r"holds images of \(20, 20\) pixels; expected 28×28"),
        (IMAGES, digits(2), "holds 2 images and .* 3 labels"),
        (f"{LABELS}.gz", gzip.compress(labels(1, 10, 2), mtime=0), "holds the label 10; expected 0–9"),
        (f"{LABELS}.gz", gzip.compress(labels(1, 1, 2), mtime=0)[:-9], r"ubyte\.gz cannot be read"),
        (f"{LABELS}.gz", b"no gzip", r"ubyte\.gz cannot be read"),
    ],
)
def test_broken_files(root: Path, name: str, content: bytes, expected: str) -> None:
    (root / name).write_bytes(content)
    with pytest.raises(GpsweepError, match=rf"^data\.root: .*{expected}"):
        mnist(root=str(root))


def test_no_digits(root: Path) -> None:
    (root / IMAGES).write_bytes(digits(0))
    (root / f"{LABELS}.gz").write_bytes(gzip.compress(labels()))
    with pytest.raises(GpsweepError, match=r"holds 0 images .* at least one"):
        mnist(root=str(root))


def test_missing_root_file_and_split(root: Path) -> None:
    with pytest.raises(
        GpsweepError, match=r"data\.root=nowhere: no such folder; expected the four idx files"
    ):
        mnist(root="nowhere")
    with pytest.raises(GpsweepError, match=r"data\.root: train-images-idx3-ubyte is missing in .*gzipped"):
        mnist(root=str(root), split="train")
    with pytest.raises(GpsweepError, match=r"data\.split=tests: unknown\. Did you mean test\?"):
        mnist(root=str(root), split="tests")


@pytest.mark.parametrize(("option", "value"), [("size", [28]), ("limit", -1)])
def test_nonsense(root: Path, option: str, value: object) -> None:
    build: Callable[..., object] = mnist
    with pytest.raises(GpsweepError, match=rf"data\.{option}="):
        build(root=str(root), **{option: value})


@pytest.mark.data
@pytest.mark.parametrize(("split", "count"), [("test", 10000), ("train", 60000)])
def test_real_digits(data_root: Path, split: str, count: int) -> None:
    source = mnist(root=str(data_root / "mnist"), split=split)
    assert len(source) == len(source.ids) == count
    assert source.ids[42] == f"{split}/00042"
    drawn = [source[index] for index in range(0, count, count // 500)]
    numbers = torch.bincount(torch.stack([sample["target"] for sample in drawn]), minlength=10)
    assert (numbers > 25).all()
    ink = {number: [] for number in (0, 1)}
    for sample in drawn:
        if int(sample["target"]) in ink:
            ink[int(sample["target"])].append(sample["image"].float().mean().item())
    assert np.mean(ink[0]) > 1.7 * np.mean(ink[1])  # a nought takes more ink than a one
