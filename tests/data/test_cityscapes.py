"""Cityscapes: its layout, and its numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gpsweep.data.base import VOID
from gpsweep.data.cityscapes import NUMBERS, VOID_NUMBERS, cityscapes
from gpsweep.errors import GpsweepError

Maker = Callable[..., Path]
NAMES = ["frankfurt_000000_000294", "lindau_000000_000019"]


@pytest.fixture
def home(tmp_path: Path, picture: Maker, mask: Maker) -> Path:
    for name in NAMES:
        city = name.split("_")[0]
        picture(tmp_path / "leftImg8bit" / "val" / city / f"{name}_leftImg8bit.png")
        mask(tmp_path / "gtFine" / "val" / city / f"{name}_gtFine_labelIds.png", 7, 33, 0, 29, 31, 23)
    (tmp_path / "leftImg8bit" / "train").mkdir()
    return tmp_path


def test_every_number_has_one_meaning() -> None:
    assert len(NUMBERS) == 19
    assert sorted([*NUMBERS.values(), *VOID_NUMBERS]) == list(range(34))


def test_samples(home: Path) -> None:
    source = cityscapes(root=str(home))
    assert (source.name, source.task, len(source.classes)) == ("cityscapes-val", "segmentation", 19)
    assert source.ids == NAMES
    assert source[1]["target"][0].tolist() == [0, 18, VOID, VOID, 16, 10]
    assert [source.classes[number] for number in (0, 18, 16, 10)] == ["road", "bicycle", "train", "sky"]


def test_what_a_mac_adds_is_no_image(home: Path) -> None:
    (home / "leftImg8bit" / "val" / "lindau" / f"._{NAMES[1]}_leftImg8bit.png").touch()
    assert cityscapes(root=str(home)).ids == NAMES


def test_splits(home: Path) -> None:
    with pytest.raises(
        GpsweepError, match=r"^data\.split=vall: unknown\. Did you mean val\? Choices: train, val"
    ):
        cityscapes(root=str(home), split="vall")
    with pytest.raises(GpsweepError, match=r"^data\.split: no samples in .*train: the data set is empty"):
        cityscapes(root=str(home), split="train")
    with pytest.raises(GpsweepError, match=r"^data\.split=\.\./val: unknown"):
        cityscapes(root=str(home), split="../val")


def test_what_is_missing_and_where_it_is_published(home: Path) -> None:
    says = r"expected the folder with leftImg8bit/ .* published at https://www\.cityscapes-dataset\.com$"
    with pytest.raises(GpsweepError, match=rf"^data\.root=nowhere: no such folder; {says}"):
        cityscapes(root="nowhere")
    with pytest.raises(GpsweepError, match=rf"^data\.root=.*: no leftImg8bit in it; {says}"):
        cityscapes(root=str(home / "gtFine"))
    next((home / "gtFine" / "val" / "lindau").iterdir()).unlink()
    with pytest.raises(
        GpsweepError, match=r"^data\.root: 1 of 2 masks .*: gtFine/val/lindau/lindau_000000_000019_gt"
    ):
        cityscapes(root=str(home))


def test_foreign_numbers(home: Path, mask: Maker) -> None:
    mask(home / "gtFine" / "val" / "lindau" / f"{NAMES[1]}_gtFine_labelIds.png", 7, 34, 255)
    with pytest.raises(
        GpsweepError, match=r"lindau.*\.png holds 34, 255; expected classes 7–8, 11–13, 17, 19–28, 31–33"
    ):
        cityscapes(root=str(home))
