"""Finding, checking and reading the files of a data set."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from gpsweep.data import files as files_module
from gpsweep.data.base import VOID
from gpsweep.data.decode import ORIENTATION
from gpsweep.data.files import (
    Files,
    Item,
    check_present,
    existing_folder,
    home,
    is_file,
    list_file,
    read_lines,
)
from gpsweep.data.legend import Legend
from gpsweep.errors import GpsweepError

Maker = Callable[..., Path]


def few(folder: Path, items: Sequence[Item], **options: Any) -> Files:
    """Build a data set of three classes whose files lie in a folder."""
    usual = {"name": "few", "classes": "abc", "root": folder, "where": folder, "legend": Legend(3)}
    return Files(**usual | {"items": items} | options)


@pytest.fixture
def build(tmp_path: Path, picture: Maker, mask: Maker) -> Callable[..., Files]:
    """Build a data set of pictures with masks of the numbers given."""

    def make(*truths: tuple[int, ...], **options: Any) -> Files:
        items = [
            Item(f"{number}", picture(tmp_path / f"{number}.jpg"), mask(tmp_path / f"{number}.png", *numbers))
            for number, numbers in enumerate(truths)
        ]
        return few(tmp_path, items, where=tmp_path / "list.txt", **{"legend": Legend(3, (255,))} | options)

    return make


def test_samples(build: Callable[..., Files]) -> None:
    source = build((0, 1, 2), (1, 255))
    assert (source.name, source.task, source.classes) == ("few", "segmentation", ("a", "b", "c"))
    assert source.ids == ["0", "1"]
    sample = source[1]
    assert sample["id"] == "1"
    assert sample["image"].shape == (3, 4, 6)
    assert sample["image"].dtype == torch.uint8
    assert sample["target"].dtype == torch.int64
    assert sample["target"][0].tolist() == [1, VOID] * 3
    with pytest.raises(IndexError):
        source[2]


def test_size_and_limit(build: Callable[..., Files]) -> None:
    source = build((0,), (1,), (2,), size=[8, 9], limit=2)
    assert len(source) == len(source.ids) == 2
    assert source[0]["image"].shape == (3, 8, 9)
    assert source[1]["target"].unique().tolist() == [1]
    assert source[1]["target"].shape == (8, 9)
    assert len(build((0,), limit=50)) == 1


@pytest.mark.parametrize(("option", "value"), [("size", 0), ("limit", 0)])
def test_nonsense_is_refused(build: Callable[..., Files], option: str, value: int) -> None:
    with pytest.raises(GpsweepError, match=rf"data\.{option}=0"):
        build((0,), **{option: value})


def test_empty_is_refused(build: Callable[..., Files]) -> None:
    with pytest.raises(GpsweepError, match=r"data\.split: no samples in .*list\.txt"):
        build()


def test_ill_fitting_masks_are_found_at_construction(build: Callable[..., Files]) -> None:
    with pytest.raises(GpsweepError, match=r"data\.root: mask .*1\.png holds 3, 9; expected classes 0–2"):
        build((0,), (3, 9))


def test_only_the_first_masks_are_read_at_construction(
    build: Callable[..., Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "PROBED", 1)
    source = build((0,), (9,))
    source[0]
    with pytest.raises(GpsweepError, match=r"1\.png holds 9"):
        source[1]


def test_large_masks_are_not_read_at_construction(
    build: Callable[..., Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "PROBED_PIXELS", 23)
    assert len(build((9,))) == 1


def test_image_and_mask_differ_in_size(tmp_path: Path, build: Callable[..., Files], mask: Maker) -> None:
    source = build((0,))
    mask(tmp_path / "0.png", 0, height=6, width=4)
    expected = r"data\.root: mask .*0\.png has 4×6 pixels and its image .*0\.jpg 6×4; expected the same"
    with pytest.raises(GpsweepError, match=expected):
        source[0]
    with pytest.raises(GpsweepError, match=expected):
        few(tmp_path, source.items, legend=source.legend)


def test_turned_images_fit_masks_as_seen(tmp_path: Path, picture: Maker, mask: Maker) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    item = Item("a", picture(tmp_path / "a.jpg", exif=exif), mask(tmp_path / "a.png", 1, height=6, width=4))
    source = few(tmp_path, [item])
    assert source[0]["image"].shape == (3, 6, 4)
    assert source[0]["target"].shape == (6, 4)


def test_missing_files_are_counted_and_ten_named(tmp_path: Path) -> None:
    paths = [tmp_path / "images" / f"{number:02d}.jpg" for number in range(14)]
    paths[3].parent.mkdir()
    paths[3].touch()
    with pytest.raises(GpsweepError) as caught:
        check_present("images", paths, root=tmp_path, where=Path("val.txt"), key="data.root")
    message = str(caught.value)
    assert message.startswith(f"data.root: 13 of 14 images named by val.txt are missing in {tmp_path}: ")
    assert "images/00.jpg, images/01.jpg, images/02.jpg, images/04.jpg" in message
    assert message.endswith("images/10.jpg … and 3 more")


def test_missing_masks_come_with_their_key(tmp_path: Path, build: Callable[..., Files]) -> None:
    source = build((0,), (1,))
    (tmp_path / "1.png").unlink()
    with pytest.raises(GpsweepError, match=r"^data\.masks: 1 of 2 masks .* are missing .*: 1\.png$"):
        few(tmp_path, source.items, legend=source.legend, mask_key="data.masks")


def test_limit_spares_what_is_not_read(tmp_path: Path, build: Callable[..., Files]) -> None:
    items = [*build((0,)).items, Item("gone", tmp_path / "gone.jpg", tmp_path / "gone.png")]
    source = few(tmp_path, items, limit=1)
    assert source.ids == ["0"]


def test_a_file_that_vanished_since(tmp_path: Path, build: Callable[..., Files]) -> None:
    source = build((0,))
    (tmp_path / "0.jpg").unlink()
    with pytest.raises(GpsweepError, match=r"data\.root: image .*0\.jpg does not decode: .*No such file"):
        source[0]


def test_truth_that_nobody_tells_is_void(tmp_path: Path, picture: Maker) -> None:
    item = Item("a", picture(tmp_path / "a.jpg"), None)
    target = few(tmp_path, [item])[0]["target"]
    assert (target.dtype, tuple(target.shape), target.unique().tolist()) == (torch.int64, (4, 6), [VOID])
    assert few(tmp_path, [item], size=5)[0]["target"].shape == (5, 5)


def test_masks_are_read_as_told(build: Callable[..., Files]) -> None:
    def reader(path: Path, *, key: str) -> Any:
        assert (path.suffix, key) == (".png", "data.root")
        return np.full((4, 6), 2)

    assert build((0,), reader=reader)[0]["target"].unique().tolist() == [2]


def test_stamp_follows_sizes_and_ids_not_the_place(
    tmp_path: Path, build: Callable[..., Files], mask: Maker
) -> None:
    source = build((0, 1), (2,))
    moved = [item._replace(image=tmp_path / "b" / item.image.name) for item in source.items]
    shutil.copytree(tmp_path, tmp_path / "b")
    (tmp_path / "0.jpg").touch()
    before = source.stamp()
    assert re.fullmatch("[0-9a-f]{16}", before)
    assert few(tmp_path, moved).stamp() == before
    assert few(tmp_path, moved[::-1]).stamp() != before
    assert few(tmp_path, [moved[0], moved[1]._replace(id="x")]).stamp() != before
    size = (tmp_path / "1.png").stat().st_size
    mask(tmp_path / "1.png", 2, 1, 0, 2, 2, 1)
    assert (tmp_path / "1.png").stat().st_size != size
    assert source.stamp() != before
    (tmp_path / "1.png").unlink()
    with pytest.raises(GpsweepError, match=r"^data\.root: .*1\.png cannot be looked at: No such file"):
        source.stamp()


def test_stamps_of_many_files_are_quick(tmp_path: Path, build: Callable[..., Files]) -> None:
    hundred = build(*[(0,)] * 100).items
    source = few(tmp_path, [hundred[number % 100]._replace(id=f"{number}") for number in range(5000)])
    start = perf_counter()
    source.stamp()
    assert perf_counter() - start < 1  # ten thousand files


def test_home_is_the_folder_or_a_place_in_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "images").mkdir(parents=True)
    for root in (tmp_path, tmp_path / "a", tmp_path / "a" / "b"):
        assert home(root, ("x", "b", "a/b"), marker="images", expected="pictures") == tmp_path / "a" / "b"
    with pytest.raises(GpsweepError, match=r"^data\.root=.*: no images in it; expected pictures$"):
        home(tmp_path, ("x",), marker="images", expected="pictures")


def test_existing_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert existing_folder("~", key="data.root", expected="x") == tmp_path
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2012").mkdir()
    assert existing_folder(2012, key="data.root", expected="x") == tmp_path / "2012"
    (tmp_path / "file").touch()
    for path in ("nowhere", tmp_path / "file", "~of nobody/x", "long" * 100, ["a", "b"], 0):
        with pytest.raises(GpsweepError, match=r"data\.root=.*: no such folder; expected the four files"):
            existing_folder(path, key="data.root", expected="the four files")
    with pytest.raises(GpsweepError, match=r"data\.root=null: not set; expected the four files"):
        existing_folder(None, key="data.root", expected="the four files")


def test_list_file_by_name_or_path(tmp_path: Path, listed: Maker) -> None:
    lists = tmp_path / "lists"
    path = listed(lists / "val.txt", ["a"])
    assert list_file(lists, "val") == list_file(lists, "val.txt") == list_file(lists, str(path)) == path
    with pytest.raises(GpsweepError, match=r"^data\.split=vall: unknown\. Did you mean val\?"):
        list_file(lists, "vall")
    with pytest.raises(GpsweepError, match=r"^data\.split=val: no such list file, and no \.txt list in"):
        list_file(tmp_path, "val")


def test_lines_are_stripped_and_blank_ones_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffeins \r\n\r\n zwei/drei..x\n".encode())
    assert read_lines(path) == ["eins", "zwei/drei..x"]


@pytest.mark.parametrize("line", ["../a.jpg", "a/../../b", "a ../b", "..\\a", ".."])
def test_lists_stay_in_their_folder(tmp_path: Path, listed: Maker, line: str) -> None:
    with pytest.raises(GpsweepError, match=r"data\.split: .*leaves the data's folder with '\.\.'"):
        read_lines(listed(tmp_path / "a.txt", ["fine", line]))


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(GpsweepError, match=r"data\.split: list file .*a\.txt cannot be read as text"):
        read_lines(tmp_path / "a.txt")


def test_names_too_long_are_no_files(tmp_path: Path) -> None:
    assert not is_file(tmp_path / ("a" * 5000))
