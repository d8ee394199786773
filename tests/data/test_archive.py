"""Archives: read without extracting, and bombs not at all."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gpsweep.data import archive
from gpsweep.data.archive import from_tar, from_zip, opened, opened_zip
from gpsweep.errors import GpsweepError

KEY = "data.root"


@pytest.fixture
def modest(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Bound what may be inflated to a hundred thousand bytes, and see that no more is held."""
    monkeypatch.setattr(archive, "LARGEST", 100_000)
    tracemalloc.start()
    yield 100_000
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4_000_000


def tarred(path: Path, **members: bytes) -> Path:
    with tarfile.open(path, "w:gz") as target:
        for name, content in members.items():
            member = tarfile.TarInfo(f"folder/{name}")
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    return path


def bomb(path: Path, head: bytes = b"", size: int = 50_000_000) -> Path:
    """Write a small gzip file that comes to ``size`` zeros."""
    with gzip.open(path, "wb") as target:
        target.write(head)
        for _ in range(size // 1_000_000):
            target.write(bytes(1_000_000))
    assert path.stat().st_size < size // 500
    return path


@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_files_are_read_gzipped_or_not(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"hello") if name.endswith("gz") else b"hello")
    with opened(tmp_path / name, key=KEY) as stream:
        assert (stream.read(2), stream.read(), stream.read()) == (b"he", b"llo", b"")


@pytest.mark.parametrize("size", [-1, 10**12])
def test_what_inflates_too_far_is_not_read(tmp_path: Path, modest: int, size: int) -> None:
    path = bomb(tmp_path / "a.gz")
    says = rf"^data\.root: .*a\.gz was not read: .* more than {modest} bytes"
    with pytest.raises(GpsweepError, match=says), opened(path, key=KEY) as stream:
        stream.read(size)


def test_many_small_reads_are_bounded_too(tmp_path: Path, modest: int) -> None:
    with opened(bomb(tmp_path / "a.gz"), key=KEY) as stream:
        for _ in range(modest // 1000):
            assert len(stream.read(1000)) == 1000
        with pytest.raises(GpsweepError, match="was not read"):
            stream.read(1000)


def test_members_of_a_tar_by_name(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar.gz", one=b"1", two=b"22", three=b"333")
    assert from_tar(path, {"one", "three", "four"}, key=KEY) == {"one": b"1", "three": b"333"}
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar.gz"]


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as target:
        member = tarfile.TarInfo("test_batch")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        target.addfile(member)
    assert from_tar(path, {"test_batch"}, key=KEY) == {}


def with_long_header(path: Path) -> Path:
    """Write a tar whose extended header claims to be long, so that it would be read into memory."""
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 50_000_000
    return bomb(path, member.tobuf())


def with_a_long_member(path: Path) -> Path:
    member = tarfile.TarInfo("wanted")
    member.size = 50_000_000
    return bomb(path, member.tobuf())


@pytest.mark.parametrize("write", [with_long_header, with_a_long_member])
def test_tar_bombs(tmp_path: Path, modest: int, write: Callable[[Path], Path]) -> None:
    with pytest.raises(GpsweepError, match=r"a\.tar\.gz was not read"):
        from_tar(write(tmp_path / "a.tar.gz"), {"wanted"}, key=KEY)


@pytest.mark.parametrize("content", [b"", b"no archive", gzip.compress(b"no tar", mtime=0), bytes(2000)])
def test_what_is_no_tar(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar.gz").write_bytes(content)
    with pytest.raises(GpsweepError, match=r"^data\.root: .*a\.tar\.gz cannot be read: "):
        from_tar(tmp_path / "a.tar.gz", {"x"}, key=KEY)


def test_a_tar_cut_short(tmp_path: Path) -> None:
    path = tarred(tmp_path / "a.tar.gz", x=bytes(range(256)) * 400)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(GpsweepError, match=r"a\.tar\.gz cannot be read: "):
        from_tar(path, {"x", "y"}, key=KEY)


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in members.items():
            target.writestr(name, content)
    return path


def test_members_of_a_zip(tmp_path: Path) -> None:
    with opened_zip(zipped(tmp_path / "a.zip", one=b"1", two=b"22"), key=KEY) as source:
        assert from_zip(source, ["two", "one"], tmp_path, key=KEY) == [b"22", b"1"]


def test_zip_bombs_are_refused_before_anything_is_inflated(
    tmp_path: Path, modest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = zipped(tmp_path / "a.zip", one=bytes(60_000), two=bytes(60_000))
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    says = rf"a\.zip was not read: .* more than {modest} bytes"
    with pytest.raises(GpsweepError, match=says), opened_zip(path, key=KEY) as source:
        from_zip(source, source.namelist(), path, key=KEY)


def test_a_zip_that_lies_about_sizes_gives_no_more(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", one=bytes(60_000))
    directory = path.read_bytes()
    size = (60_000).to_bytes(4, "little")
    assert directory.count(size) == 2
    path.write_bytes(directory.replace(size, (10).to_bytes(4, "little")))
    says = r"a\.zip cannot be read: Bad CRC"
    with pytest.raises(GpsweepError, match=says), opened_zip(path, key=KEY) as source:
        from_zip(source, ["one"], path, key=KEY)


@pytest.mark.parametrize("cut", [0, 30, -4])
def test_a_zip_cut_short(tmp_path: Path, cut: int) -> None:
    path = zipped(tmp_path / "a.zip", one=bytes(range(256)))
    path.write_bytes(path.read_bytes()[:cut])
    says = r"^data\.root: .*a\.zip cannot be read: File is not a zip file"
    with pytest.raises(GpsweepError, match=says), opened_zip(path, key=KEY):
        pass


def test_holes_of_a_tar_are_not_filled(tmp_path: Path, modest: int) -> None:
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as target:
        member = tarfile.TarInfo("folder/wanted")
        member.pax_headers = {"GNU.sparse.map": "0,0", "GNU.sparse.size": "50000000"}
        target.addfile(member)
    with tarfile.open(path) as source:
        assert source.getmembers()[0].size == 50_000_000
    with pytest.raises(GpsweepError, match=r"a\.tar\.gz was not read"):
        from_tar(path, {"wanted"}, key=KEY)
