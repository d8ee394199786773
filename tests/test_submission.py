"""What goes to PASCAL VOC's evaluation server."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gpsweep.errors import GpsweepError
from gpsweep.submission import encoded, pack

FOLDER = "results/VOC2012/Segmentation/comp6_test_cls"
NAMES = ["2008_000006", "2008_000008"]


def predictions() -> Iterator[tuple[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    for name in NAMES:
        yield name, generator.integers(0, 21, (5, 7))


def write(predicted: Iterable[tuple[str, Any]], path: Path) -> int:
    return pack(((name, encoded(name, classes)) for name, classes in predicted), path)


def test_layout_numbers_and_colours(tmp_path: Path) -> None:
    path = tmp_path / "new" / "results.tgz"
    assert write(predictions(), path) == 2
    with tarfile.open(path, "r:gz") as archive:
        assert archive.getnames() == [f"{FOLDER}/{name}.png" for name in NAMES]
        for member, (_, classes) in zip(archive, predictions(), strict=True):
            assert member.isreg()
            content = archive.extractfile(member)
            assert content is not None
            image = Image.open(io.BytesIO(content.read()))
            assert image.mode == "P"
            assert np.array_equal(np.asarray(image), classes)
            assert image.getpalette()[3 * 15 : 3 * 16] == [192, 128, 128]  # a person
    assert [file.name for file in path.parent.iterdir()] == ["results.tgz"]


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    write(predictions(), tmp_path / "a.tgz")
    write(predictions(), tmp_path / "b.tgz")
    assert (tmp_path / "a.tgz").read_bytes() == (tmp_path / "b.tgz").read_bytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_any_integers_do(dtype: type) -> None:
    assert np.asarray(Image.open(io.BytesIO(encoded("a", np.array([[0, 20]], dtype=dtype))))).tolist() == [
        [0, 20]
    ]


@pytest.mark.parametrize(
    ("name", "classes", "says"),
    [
        ("../../x", np.zeros((2, 2), dtype=int), r"image id '\.\./\.\./x': expected a name like"),
        ("/etc/x", np.zeros((2, 2), dtype=int), "image id '/etc/x'"),
        ("", np.zeros((2, 2), dtype=int), "image id ''"),
        ("a", np.zeros((2, 2)), r"image a: expected integers \(H, W\), came float64 \(2, 2\)"),
        ("a", np.zeros((1, 2, 2), dtype=int), r"image a: expected .* came int64 \(1, 2, 2\)"),
        ("a", np.array([[0, 21]]), "image a holds classes 0–21; expected 0–20"),
        ("a", np.array([[-1, 0]]), "image a holds classes -1–0"),
        (NAMES[0], np.zeros((2, 2), dtype=int), f"image {NAMES[0]} came more than once"),
    ],
)
def test_what_does_not_fit_leaves_nothing(tmp_path: Path, name: str, classes: Any, says: str) -> None:
    (tmp_path / "a.tgz").write_bytes(b"the one before")
    with pytest.raises(GpsweepError, match=f"^submission: {says}"):
        write([*predictions(), (name, classes)], tmp_path / "a.tgz")
    assert (tmp_path / "a.tgz").read_bytes() == b"the one before"
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_no_submission(tmp_path: Path) -> None:
    with pytest.raises(GpsweepError, match="no predictions came"):
        write([], tmp_path / "a.tgz")
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(GpsweepError, match=r"expected a folder that can be written, but a\.tgz could not be"):
        write(predictions(), tmp_path / "file" / "a.tgz")
