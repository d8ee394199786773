"""PASCAL VOC 2012: where it may lie, its lists, its masks."""

from __future__ import annotations

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


@pytest.mark.parametrize("line", ["JPEGImages/2007_000033", "/etc/passwd", "2007_000033 1"])
def test_lines_are_bare_names(home: Path, tmp_path: Path, listed: Maker, line: str) -> None:
    path = listed(tmp_path / "mine.txt", [line])
    with pytest.raises(
        GpsweepError, match=rf"data\.split: .*mine\.txt has the line '{line}'; expected one name"
    ):
        voc(root=str(home), split=str(path))


@pytest.mark.parametrize(("folder", "what"), [("JPEGImages", "images"), ("SegmentationClass", "masks")])
def test_missing_files(home: Path, folder: str, what: str) -> None:
    next((home / "VOCdevkit" / "VOC2012" / folder).glob("2007_000042.*")).unlink()
    with pytest.raises(GpsweepError, match=rf"data\.root: 1 of 2 {what} .*: {folder}/2007_000042\.\w+$"):
        voc(root=str(home))


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
