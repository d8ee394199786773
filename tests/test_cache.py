from __future__ import annotations

import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from gpsweep.cache import Cache
from gpsweep.errors import GpsweepError

KEY = {"weights": "abc", "data": "digits"}
ARRAYS = {"features": np.arange(3000, dtype=np.float32).reshape(300, 10), "classes": np.arange(300)}


def kept(folder: Path) -> tuple[Cache, Path]:
    cache = Cache(folder / "made" / "here")
    cache.write("index", KEY, ARRAYS)
    [path] = (folder / "made" / "here").iterdir()
    return cache, path


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    cache, path = kept(tmp_path)
    assert path.name.startswith("index-")
    found = cache.read("index", dict(reversed(KEY.items())))
    assert found is not None
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


@pytest.mark.parametrize(("name", "key"), [("signs", KEY), ("index", KEY | {"weights": "abd"})])
def test_another_key_finds_nothing(tmp_path: Path, name: str, key: dict[str, str]) -> None:
    cache, _ = kept(tmp_path)
    assert cache.read(name, key) is None


@pytest.mark.parametrize("damage", ["bit", "cut", "empty", "text", "other"])
def test_a_damaged_file_is_set_aside_with_one_message(tmp_path: Path, damage: str) -> None:
    cache, path = kept(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "other":
        cache.write("index", KEY | {"weights": "abd"}, ARRAYS)
        [other] = set(path.parent.iterdir()) - {path}
        content = bytearray(other.read_bytes())
        other.unlink()
    content[len(content) // 3] ^= 4 if damage == "bit" else 0
    parts = {"cut": content[: len(content) // 2], "empty": b"", "text": b"no archive at all"}
    path.write_bytes(parts.get(damage, content))
    with pytest.warns(UserWarning, match=r"damaged, made anew; set aside as index-\w+\.npz\.damaged") as said:
        assert cache.read("index", KEY) is None
    assert len(said) == 1
    assert [file.name for file in path.parent.iterdir()] == [f"{path.name}.damaged"]
    assert cache.read("index", KEY) is None
    cache.write("index", KEY, ARRAYS)
    assert cache.read("index", KEY) is not None


def test_no_bit_that_flips_is_believed_or_ends_the_run(tmp_path: Path) -> None:
    """Within the archive's directory it may hide an array, or seem to encrypt one."""
    cache = Cache(tmp_path)
    small = {"features": np.arange(2, dtype=np.float32), "classes": np.arange(1)}
    cache.write("index", KEY, small)
    [path] = tmp_path.iterdir()
    whole = path.read_bytes()
    directory = whole.index(b"PK\x01\x02")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for bit in range(8 * directory, 8 * len(whole)):
            content = bytearray(whole)
            content[bit // 8] ^= 1 << bit % 8
            path.write_bytes(content)
            found = cache.read("index", KEY)
            if found is not None:
                assert found.keys() == small.keys()
                assert all(np.array_equal(found[name], array) for name, array in small.items())


def test_without_a_folder_nothing_is_kept() -> None:
    cache = Cache(None)
    cache.write("index", KEY, ARRAYS)
    assert cache.read("index", KEY) is None


@pytest.mark.parametrize("optional", [False, True])
def test_a_folder_that_cannot_be_written_is_named_unless_it_is_optional(
    tmp_path: Path, optional: bool
) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file" / "folder", optional=optional)
    says = pytest.raises(GpsweepError, match=r"file/folder: expected a folder")
    with nullcontext() if optional else says:
        cache.write("index", KEY, ARRAYS)
    assert cache.read("index", KEY) is None
