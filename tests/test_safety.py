"""Files of others run no code, lead nowhere, do not fill the memory, and do nothing in a page."""

from __future__ import annotations

import gzip
import os
import pickle
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from outcomes import make
from PIL import Image, ImageFile
from torch import nn
from traps import Runs

from gpsweep import report
from gpsweep.data import archive
from gpsweep.data.base import Source
from gpsweep.data.camvid import camvid
from gpsweep.data.cifar10 import CLASSES, cifar10
from gpsweep.data.context59 import context59
from gpsweep.data.folder import folder
from gpsweep.data.mnist import mnist
from gpsweep.data.voc import voc
from gpsweep.errors import GpsweepError
from gpsweep.models.checkpoint import restore
from gpsweep.results.findings import Findings


def bare(path: Path, content: dict[Any, Any]) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


def in_tar(path: Path, content: dict[Any, Any]) -> None:
    bare(path.with_name("test_batch"), content)
    with tarfile.open(path, "w:gz") as target:
        target.add(path.with_name("test_batch"), arcname="cifar-10-batches-py/test_batch")
    path.with_name("test_batch").unlink()


@pytest.mark.parametrize(
    ("name", "save", "read"),
    [
        (
            "a.pt",
            lambda path, content: torch.save(content, path),
            lambda path: restore(nn.Linear(1, 1), path),
        ),
        ("a.ckpt", bare, lambda path: restore(nn.Linear(1, 1), path)),
        ("test_batch", bare, lambda path: cifar10(root=str(path.parent))),
        ("cifar-10-python.tar.gz", in_tar, lambda path: cifar10(root=str(path))),
    ],
)
def test_nothing_that_is_read_runs_code(
    tmp_path: Path, name: str, save: Callable[[Path, Any], None], read: Callable[[Path], Any]
) -> None:
    trap = tmp_path / "trap"
    made = Runs(os.makedirs, str(trap), 0o777, True)
    content = {"state_dict": {"weight": made}, b"data": made, b"labels": [0]}
    save(tmp_path / name, content)
    with pytest.raises(GpsweepError, match="could run code"):
        read(tmp_path / name)
    assert not trap.exists()
    pickle.loads(pickle.dumps(content))
    assert trap.exists(), "the trap itself does not work"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Write a data set beside a picture and a mask that are no part of it."""
    base = tmp_path / "home" / "VOC2012"
    for file in ("JPEGImages/a.jpg", "images/a.jpg", "SegmentationClass/a.png", "masks/a.png"):
        (base / file).parent.mkdir(parents=True)
        Image.new("L", (4, 3)).save(base / file)
    for file in ("secret.jpg", "secret.png"):
        Image.new("L", (4, 3)).save(tmp_path / file)
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    return base


LOADERS: dict[str, Callable[[Path, str], Source]] = {
    "voc": lambda base, split: voc(root=str(base), split=split),
    "camvid": lambda base, split: camvid(root=str(base), split=split),
    "context59": lambda base, split: context59(
        root=str(base), images="JPEGImages", masks="SegmentationClass", split=split
    ),
    "folder": lambda base, split: folder(
        root=str(base), images="images", masks="masks", classes=2, split=split
    ),
}


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("way", ["../../{name}", "{top}/{name}", "a/../../../{name}", "..\\..\\{name}"])
def test_lists_do_not_lead_out_of_the_data(home: Path, loader: str, way: str) -> None:
    top = home.parents[1]
    places = [way.format(top=top, name=name) for name in ("secret", "secret.jpg", "secret.png")]
    fine, line = (
        ("a", places[0]) if loader != "camvid" else ("images/a.jpg masks/a.png", " ".join(places[1:]))
    )
    (top / "list.txt").write_text(fine)
    assert len(LOADERS[loader](home, str(top / "list.txt"))) == 1
    (top / "list.txt").write_text(line)
    with pytest.raises(GpsweepError) as caught:
        LOADERS[loader](home, str(top / "list.txt"))
    assert re.search(r"leaves the data's folder|has the line|are missing in", str(caught.value))


def test_a_data_folder_may_be_a_link(home: Path) -> None:
    (home.parent / "link").symlink_to(home)
    (home / "JPEGImages" / "b.jpg").symlink_to(
        home.parents[1] / "secret.jpg"
    )  # data sets are kept so on clusters
    (home / "SegmentationClass" / "b.png").symlink_to(home.parents[1] / "secret.png")
    (home / "ImageSets" / "Segmentation" / "val.txt").write_text("a\nb\n")
    assert len(voc(root=str(home.parent / "link"))) == 2


def test_archives_are_not_extracted(tmp_path: Path) -> None:
    path = tmp_path / "data" / "a.zip"
    path.parent.mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "x.jpg")
    picture = (tmp_path / "x.jpg").read_bytes()
    (tmp_path / "x.jpg").unlink()
    with zipfile.ZipFile(path, "w") as target:
        for name in CLASSES:
            target.writestr(f"../../test/{name}/0.jpg", picture)
        target.writestr("/tmp/test/cat/1.jpg", picture)
    source = cifar10(root=str(path))
    assert len(source) == 11
    assert source[0]["image"].shape == (3, 32, 32)
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a.zip", "data"]


def png(width: int, height: int) -> bytes:
    """Write a small PNG that claims to be large; it would inflate to zeros."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("part", ["images", "masks"])
def test_pictures_are_refused_by_their_number_of_pixels(
    home: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    next((home / part).iterdir()).write_bytes(png(60_000, 60_000))
    monkeypatch.setattr(ImageFile.ImageFile, "load", None)
    with pytest.raises(GpsweepError, match=r"was not opened: it has more than \d+ pixels"):
        folder(root=str(home), images="images", masks="masks", classes=2)[0]


def test_only_pictures_are_opened_whatever_a_file_is_called(home: Path) -> None:
    """A PostScript file, which is a program, would be run by its interpreter."""
    script = (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 3\n%%EndComments\n(trap) (w) file closefile\n%%EOF\n"
    )
    (home / "images" / "a.jpg").write_bytes(script)
    with pytest.raises(GpsweepError, match=r"a\.jpg does not decode: not a picture"):
        folder(root=str(home), images="images", masks="masks", classes=2)[0]


def test_compressed_archives_are_refused_by_what_they_come_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "LARGEST", 10**6)
    zeros = gzip.compress(struct.pack(">4I", 2051, 60000, 28, 28) + bytes(60000 * 784))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(zeros)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">2I", 2049, 1) + b"1"))
    with pytest.raises(
        GpsweepError, match=r"images-idx3-ubyte\.gz was not read: .* as decompression bombs do"
    ):
        mnist(root=str(tmp_path))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as target:
        for name in CLASSES:
            target.writestr(f"test/{name}/0.jpg", bytes(200_000))
    with pytest.raises(GpsweepError, match=r"a\.zip was not read"):
        cifar10(root=str(tmp_path / "a.zip"))


EVIL = "--><script>alert('x')</script><img src=x onerror=alert(1)>]]>\"'&"


def test_no_name_acts_in_the_report(tmp_path: Path) -> None:
    """Class names, ids, layers and everything that tells where a run came from are text, not markup."""
    info: dict[str, Any] = {
        key: EVIL
        for key in ("dataset", "model", "weights_sha256", "git_commit", "command", "config", "device")
    }
    info["versions"] = {EVIL: EVIL}
    info["times"] = {EVIL: 1.0, "test": 2.0}
    made = make(
        images=6, classes=3, info=info, label=["argmax", "uniform"], eps=[-0.5, 0.5], layer=["input", EVIL]
    )
    outcome = replace(
        made,
        classes=tuple(f"{number}{EVIL}" for number in range(3)),
        ids=[f"{number}{EVIL}" for number in range(6)],
    )
    path = report.write(Findings(outcome), tmp_path)
    page = path.read_text(encoding="utf-8")
    assert page.count("alert(") > 5, "the names should be there, as text"
    assert "<script>alert" not in page
    assert "<img" not in page
    assert "onerror=alert(1)>" not in page
    assert not re.search(r"=\"[^\"]*<", page)
    drawing = (tmp_path / "curves.svg").read_text(encoding="utf-8")
    assert "<script" not in drawing
    assert "<img" not in drawing


def test_a_checkpoint_that_inflates_too_far_is_not_read(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(500_000)}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as plain,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for member in plain.infolist():
            bomb.writestr(member.filename, plain.read(member))
    with pytest.raises(GpsweepError, match=r"b\.pt: was not read: .* decompression bombs"):
        restore(nn.Linear(1, 1), tmp_path / "b.pt")
