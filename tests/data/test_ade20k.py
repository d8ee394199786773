"""ADE20K: its layout, and its numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gpsweep.data.ade20k import CLASSES, ade20k
from gpsweep.data.base import VOID
from gpsweep.errors import GpsweepError

Maker = Callable[..., Path]


@pytest.fixture
def home(tmp_path: Path, picture: Maker, mask: Maker) -> Path:
    base = tmp_path / "ADEChallengeData2016"
    for number in (1, 2):
        picture(base / "images" / "validation" / f"ADE_val_{number:08d}.jpg")
        mask(base / "annotations" / "validation" / f"ADE_val_{number:08d}.png", 0, 1, 150)
    return tmp_path


def test_there_are_150_classes() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 150
    assert all(name == name.strip() and name for name in CLASSES)
    known = {1: "wall", 13: "person", 45: "chest of drawers", 90: "television", 128: "bicycle", 150: "flag"}
    assert {number: CLASSES[number - 1] for number in known} == known


@pytest.mark.parametrize("place", [".", "ADEChallengeData2016"])
def test_samples(home: Path, place: str) -> None:
    source = ade20k(root=str(home / place))
    assert (source.name, source.task, source.classes) == ("ade20k-val", "segmentation", CLASSES)
    assert source.ids == ["ADE_val_00000001", "ADE_val_00000002"]
    assert source[0]["target"][0].tolist() == [VOID, 0, 149] * 2


def test_what_a_mac_adds_is_no_image(home: Path) -> None:
    (home / "ADEChallengeData2016" / "images" / "validation" / "._ADE_val_00000001.jpg").touch()
    assert ade20k(root=str(home)).ids == ["ADE_val_00000001", "ADE_val_00000002"]


def test_what_is_missing_and_where_it_is_published(home: Path) -> None:
    says = r"expected ADEChallengeData2016 .* published at http://sceneparsing\.csail\.mit\.edu$"
    with pytest.raises(GpsweepError, match=rf"^data\.root=nowhere: no such folder; {says}"):
        ade20k(root="nowhere")
    with pytest.raises(GpsweepError, match=rf"^data\.root=.*: no images.training in it; {says}"):
        ade20k(root=str(home), split="train")
    with pytest.raises(GpsweepError, match=r"^data\.split=validation: unknown\. Choices: train, val$"):
        ade20k(root=str(home), split="validation")
    next((home / "ADEChallengeData2016" / "annotations" / "validation").glob("*2.png")).unlink()
    with pytest.raises(
        GpsweepError, match=r"^data\.root: 1 of 2 masks .*: annotations/validation/ADE_val_00000002"
    ):
        ade20k(root=str(home))


def test_foreign_numbers(home: Path, mask: Maker) -> None:
    mask(home / "ADEChallengeData2016" / "annotations" / "validation" / "ADE_val_00000001.png", 1, 151, 255)
    with pytest.raises(GpsweepError, match=r"00001\.png holds 151, 255; expected classes 1–150 or void 0$"):
        ade20k(root=str(home))
