"""CamVid: the published lists, classes and their shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from gpsweep.data.base import VOID
from gpsweep.data.camvid import CLASSES, camvid
from gpsweep.errors import GpsweepError

Maker = Callable[..., Path]
LINES = ["/SegNet/CamVid/val/a.jpg /SegNet/CamVid/valannot/a.png", "val/b.jpg valannot/b.png"]


@pytest.fixture
def root(tmp_path: Path, picture: Maker, mask: Maker, listed: Maker) -> Path:
    for name in "ab":
        picture(tmp_path / "val" / f"{name}.jpg")
        mask(tmp_path / "valannot" / f"{name}.png", 0, 10, 11)
    listed(tmp_path / "val.txt", LINES)
    return tmp_path


def test_lists_of_other_machines_are_read_below_root(root: Path) -> None:
    source = camvid(root=str(root))
    assert (source.name, source.task, len(source.classes)) == ("camvid-val", "segmentation", 11)
    assert source.ids == ["val/a", "val/b"]
    assert source[0]["target"][0].tolist() == [0, 10, VOID] * 2


def test_paths_that_stand_as_given_come_first(root: Path, picture: Maker, mask: Maker, listed: Maker) -> None:
    picture(root / "deep" / "val" / "c.jpg")
    mask(root / "deep" / "valannot" / "c.png", 1)
    lines = ["deep/val/c.jpg deep/valannot/c.png", f"{root}/val/a.jpg {root}/valannot/a.png"]
    listed(root / "mine.txt", lines)
    source = camvid(root=str(root), split="mine")
    assert source.ids == ["deep/val/c", "val/a"]
    assert source[0]["target"].unique().tolist() == [1]


def test_absolute_paths_outside_are_never_opened(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "x.jpg"
    outside.touch()
    (root / "mine.txt").write_text(f"{outside} {outside}\n/x.jpg //x.png\n")
    with pytest.raises(GpsweepError, match=r"2 of 2 images .* missing .*: outside\d+/x\.jpg, x\.jpg$"):
        camvid(root=str(root), split="mine")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([*LINES, "/SegNet/CamVid/val/a.jpg valannot/a.png"], "more than once: val/a$"),
        (["val/a.jpg"], "has the line 'val/a.jpg'; expected 'IMAGE MASK'"),
        (["val/a.jpg ../valannot/a.png"], "leaves the data's folder"),
        ([], "the data set is empty"),
    ],
)
def test_lists_that_are_wrong(root: Path, listed: Maker, lines: list[str], expected: str) -> None:
    listed(root / "wrong.txt", lines)
    with pytest.raises(GpsweepError, match=rf"^data\.split: .*wrong\.txt.*{expected}"):
        camvid(root=str(root), split="wrong")


def test_missing_root_and_unknown_split(root: Path) -> None:
    with pytest.raises(GpsweepError, match=r"data\.root=nowhere: no such folder; expected CamVid"):
        camvid(root="nowhere")
    with pytest.raises(GpsweepError, match=r"data\.split=vl: unknown\. Did you mean val\?"):
        camvid(root=str(root), split="vl")


def test_numbers_beyond_void(root: Path, mask: Maker) -> None:
    mask(root / "valannot" / "b.png", 12)
    with pytest.raises(GpsweepError, match=r"b\.png holds 12; expected classes 0–10 or void 11$"):
        camvid(root=str(root))


@pytest.mark.data
@pytest.mark.parametrize(("split", "count"), [("val", 101), ("train", 367)])
def test_real_lists(data_root: Path, split: str, count: int) -> None:
    source = camvid(root=str(data_root / "camvid"), split=split)
    assert len(source) == len(set(source.ids)) == count
    sample = source[count - 1]
    assert sample["image"].shape == (3, 360, 480)
    assert sample["target"].shape == (360, 480)


@pytest.mark.data
def test_real_classes_have_the_shares_of_a_street(data_root: Path) -> None:
    source = camvid(root=str(data_root / "camvid"))
    targets = torch.stack([source[index]["target"] for index in range(len(source))])
    counts = torch.bincount(targets.flatten() + 1, minlength=12)
    shares = dict(zip(CLASSES, (counts[1:] / counts[1:].sum()).tolist(), strict=True))
    assert set(sorted(shares, key=shares.__getitem__)[-4:]) == {"Sky", "Building", "Road", "Tree"}
    assert shares["Pole"] < 0.02
    assert counts[0] / counts.sum() < 0.1
    height = {
        name: np.mean(np.nonzero((targets == number).numpy())[1]) for number, name in enumerate(CLASSES)
    }
    assert min(height, key=height.__getitem__) == "Sky"  # rows count from the top
    assert max(height, key=height.__getitem__) == "Road"
