"""PASCAL VOC 2012: where it may lie, its lists, its masks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from gpsweep.data.base import VOID
from gpsweep.data.batch import collate
from gpsweep.data.voc import voc
from gpsweep.errors import GpsweepError

Maker = Callable[..., Path]


@pytest.fixture
def home(tmp_path: Path, picture: Maker, mask: Maker, listed: Maker) -> Path:
    base = tmp_path / "VOCdevkit" / "VOC2012"
    for name, height in (("2007_000033", 4), ("2007_000042", 5)):
        picture(base / "JPEGImages" / f"{name}.jpg", height=height)
        mask(base / "SegmentationClass" / f"{name}.png", 0, 20, 255, height=height)
    listed(base / "ImageSets" / "Segmentation" / "val.txt", ["2007_000033", "2007_000042"])
    listed(base / "ImageSets" / "Segmentation" / "train.txt", ["2007_000032"])
    return tmp_path


@pytest.mark.parametrize("root", [".", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_of_three(home: Path, root: str) -> None:
    source = voc(root=str(home / root))
    assert (source.name, source.task, len(source.classes)) == ("voc-val", "segmentation", 21)
    assert source.ids == ["2007_000033", "2007_000042"]
    assert source[0]["target"][0].tolist() == [0, 20, VOID] * 2
    batch = collate([source[0], source[1]])
    assert not isinstance(batch, GpsweepError)
    assert batch["target"].shape == (2, 5, 6)


def test_a_list_elsewhere(home: Path, tmp_path: Path, listed: Maker) -> None:
    path = listed(tmp_path / "mine.txt", ["2007_000042"])
    source = voc(root=str(home), split=str(path))
    assert (source.name, source.ids) == ("voc-mine", ["2007_000042"])


def test_unknown_split_offers_the_nearest(home: Path) -> None:
    with pytest.raises(
        GpsweepError, match=r"data\.split=trian: unknown\. Did you mean train.*\? Choices: .*val"
    ):
        voc(root=str(home), split="trian")


def test_a_root_of_something_else(home: Path) -> None:
    with pytest.raises(
        GpsweepError, match=r"data\.root=.*: no ImageSets.Segmentation in it; expected VOC2012"
    ):
        voc(root=str(home / "VOCdevkit" / "VOC2012" / "JPEGImages"))
    with pytest.raises(GpsweepError, match=r"data\.root=.*: no such folder; expected VOC2012"):
        voc(root=str(home / "nowhere"))


@pytest.mark.parametrize("line", ["JPEGImages/2007_000033", "/etc/passwd", "2007_000033 1", "a\\\\b"])
def test_lines_are_bare_names(home: Path, tmp_path: Path, listed: Maker, line: str) -> None:
    path = listed(tmp_path / "mine.txt", [line])
    with pytest.raises(
        GpsweepError, match=rf"data\.split: .*mine\.txt has the line '{re.escape(line)}'; expected one name"
    ):
        voc(root=str(home), split=str(path))


@pytest.mark.parametrize(("folder", "what"), [("JPEGImages", "images"), ("SegmentationClass", "masks")])
def test_missing_files(home: Path, folder: str, what: str) -> None:
    next((home / "VOCdevkit" / "VOC2012" / folder).glob("2007_000042.*")).unlink()
    with pytest.raises(GpsweepError, match=rf"data\.root: 1 of 2 {what} .*: {folder}/2007_000042\.\w+$"):
        voc(root=str(home))


@pytest.mark.parametrize("split", ["test", "test.txt"])
def test_the_test_set_has_no_masks(home: Path, listed: Maker, picture: Maker, split: str) -> None:
    base = home / "VOCdevkit" / "VOC2012"
    picture(base / "JPEGImages" / "2008_000006.jpg", height=5, width=7)
    listed(base / "ImageSets" / "Segmentation" / "test.txt", ["2008_000006"])
    source = voc(root=str(home), split=split)
    assert (source.name, source.task, source.ids) == ("voc-test", "segmentation", ["2008_000006"])
    target = source[0]["target"]
    assert (target.dtype, tuple(target.shape), target.unique().tolist()) == (torch.int64, (5, 7), [VOID])
    assert voc(root=str(home), split="test", size=[3, 4])[0]["target"].shape == (3, 4)
    (base / "JPEGImages" / "2008_000006.jpg").unlink()
    with pytest.raises(GpsweepError, match=r"^data\.root: 1 of 1 images .*: JPEGImages/2008_000006\.jpg$"):
        voc(root=str(home), split="test")


@pytest.fixture
def reducible(home: Path, listed: Maker) -> Path:
    """VOC with 346 + 4 validation images, of which SBD's two lists name 4."""
    base = home / "VOCdevkit" / "VOC2012"
    names = [f"2009_{number:06d}" for number in range(350)]
    for name in names:  # the same picture under many names
        for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
            (base / folder / f"{name}.{suffix}").hardlink_to(base / folder / f"2007_000033.{suffix}")
    listed(base / "ImageSets" / "Segmentation" / "val.txt", names)
    listed(home / "sbd" / "train.txt", ["2009_000007", "2008_000001", "2009_000009"])
    listed(home / "sbd" / "val.txt", ["2009_000000", "2009_000349", "2009_000007"])
    return home


def test_reduced346_leaves_out_what_sbd_trains_on(reducible: Path) -> None:
    source = voc(root=str(reducible), split="reduced346", sbd=str(reducible / "sbd"))
    assert (source.name, len(source)) == ("voc-reduced346", 346)
    assert {"2009_000000", "2009_000007", "2009_000009", "2009_000349"}.isdisjoint(source.ids)
    assert list(source.ids) == sorted(source.ids)
    assert (
        voc(root=str(reducible), split="reduced346", sbd=str(reducible / "sbd"), limit=2).ids
        == source.ids[:2]
    )


def test_reduced346_has_346_or_is_refused(reducible: Path, listed: Maker) -> None:
    listed(reducible / "sbd" / "val.txt", ["2009_000000"])
    says = r"^data\.sbd=.*sbd: val without SBD's lists is 347 of 350 images; expected 346, of the 1449"
    with pytest.raises(GpsweepError, match=says):
        voc(root=str(reducible), split="reduced346", sbd=str(reducible / "sbd"))


@pytest.mark.parametrize("sbd", [None, "nowhere", "partly"])
def test_reduced346_without_the_lists(reducible: Path, listed: Maker, sbd: str | None) -> None:
    listed(reducible / "partly" / "train.txt", ["2009_000000"])
    folder = None if sbd is None else str(reducible / sbd)
    says = (
        rf"^data\.sbd=({folder or 'null'}): data\.split=reduced346 needs SBD's train\.txt and val\.txt there"
    )
    with pytest.raises(GpsweepError, match=says + r" .*published at http://home\.bharathh\.info"):
        voc(root=str(reducible), split="reduced346", sbd=folder)


def test_a_list_of_one_s_own_by_that_name_is_taken(reducible: Path, listed: Maker) -> None:
    lists = reducible / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation"
    listed(lists / "reduced346.txt", ["2009_000001"])
    assert voc(root=str(reducible), split="reduced346").ids == ["2009_000001"]


@pytest.mark.data
@pytest.mark.parametrize(("split", "count"), [("here_all", 24), ("here_val", 9)])
def test_real_lists(data_root: Path, split: str, count: int) -> None:
    source = voc(root=str(data_root), split=split)
    assert len(source) == len(set(source.ids)) == count
    counts = torch.zeros(22, dtype=torch.int64)
    for index in range(count):
        sample = source[index]
        assert sample["image"].shape[1:] == sample["target"].shape
        counts += torch.bincount(sample["target"].flatten() + 1, minlength=22)
    shares = counts / counts.sum()
    assert shares.argmax() == 1  # background
    assert 0.4 < shares[1] < 0.9
    assert 0 < shares[0] < 0.15


@pytest.mark.data
def test_real_list_of_absent_photographs(data_root: Path) -> None:
    with pytest.raises(GpsweepError) as caught:
        voc(root=str(data_root / "VOCdevkit"), split="val")
    message = str(caught.value)
    assert message.startswith("data.root: 1440 of 1449 images named by ")
    assert message.count(".jpg") == 10
    assert message.endswith("… and 1430 more")
