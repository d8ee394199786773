"""The user's own folders: masks, class sub-folders, globs and lists."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from gpsweep.data.base import VOID
from gpsweep.data.folder import folder
from gpsweep.data.voc import voc
from gpsweep.errors import GpsweepError

Maker = Callable[..., Path]


@pytest.fixture
def street(tmp_path: Path, picture: Maker, mask: Maker) -> Path:
    """Images with masks, one in a sub-folder, and what ought to be overlooked."""
    for name, suffix in (("b", ".jpg"), ("a", ".PNG"), ("more/c", ".webp")):
        picture(tmp_path / "images" / f"{name}{suffix}")
        mask(tmp_path / "masks" / f"{name}.png", 0, 1, 255)
    (tmp_path / "images" / "._b.jpg").touch()
    (tmp_path / "images" / "notes.md").touch()
    (tmp_path / "images" / ".cache").mkdir()
    (tmp_path / "images" / ".cache" / "z.jpg").touch()
    mask(tmp_path / "masks" / "without_image.png", 0)
    return tmp_path


@pytest.fixture
def pets(tmp_path: Path, picture: Maker) -> Path:
    """Images in class sub-folders, one of them empty."""
    for seed, name in enumerate(("dog/1.jpg", "dog/deep/2.png", "cat/1.jpg")):
        picture(tmp_path / name, seed=seed)
    (tmp_path / "bird").mkdir()
    return tmp_path


def masked(place: Path, **options: Any) -> Any:
    usual = {"root": str(place), "images": "images", "masks": "masks", "classes": 2, "void": 255}
    return folder(**usual | options)


def test_images_pair_with_masks(street: Path) -> None:
    source = masked(street)
    assert (source.name, source.task, source.classes) == ("folder-images", "segmentation", ("0", "1"))
    assert source.ids == ["a", "b", "more/c"]
    assert source[2]["target"][0].tolist() == [0, 1, VOID] * 2


def test_paths_without_root(street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(street)
    assert masked(street, root=None).ids == ["a", "b", "more/c"]
    absolute = {"images": str(street / "images"), "masks": str(street / "masks")}
    assert masked(street, root=None, **absolute).ids == ["a", "b", "more/c"]


@pytest.mark.parametrize("images", ["images", "images/**/*"])
def test_masks_within_the_images_are_no_images(street: Path, images: str) -> None:
    (street / "masks").rename(street / "images" / "masks")
    assert masked(street, images=images, masks="images/masks").ids == ["a", "b", "more/c"]


def test_images_may_lie_below_the_masks(street: Path) -> None:
    (street / "images").rename(street / "masks" / "photos")
    assert masked(street, images="masks/photos").ids == ["a", "b", "more/c"]


def test_linked_folders_are_searched(pets: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "dog").symlink_to(pets / "dog", target_is_directory=True)
    assert folder(root=str(tmp_path / "linked")).ids == ["dog/1.jpg", "dog/deep/2.png"]


def test_two_folders_that_are_one_are_both_searched(pets: Path) -> None:
    (pets / "beagle").symlink_to(pets / "dog", target_is_directory=True)
    linked = ["beagle/1.jpg", "beagle/deep/2.png"]
    assert sorted(folder(root=str(pets)).ids) == [*linked, "cat/1.jpg", "dog/1.jpg", "dog/deep/2.png"]


def test_a_folder_that_cannot_be_searched_is_named(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    search = os.scandir

    def scandir(path: str) -> Any:
        if Path(path).name == "dog":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return search(path)

    monkeypatch.setattr(os, "scandir", scandir)  # whoever runs the tests may be allowed everything
    with pytest.raises(GpsweepError, match=r"^data\.images: .*dog cannot be searched: Permission denied$"):
        folder(root=str(pets))


def test_images_and_masks_side_by_side(street: Path, picture: Maker) -> None:
    for name in ("a", "b", "more/c", "without_image"):
        picture(street / "masks" / f"{name}.jpg")
    source = masked(street, images="masks/**/*.jpg")
    assert source.ids == ["a", "b", "more/c", "without_image"]
    with pytest.raises(GpsweepError, match=r"data\.images: .*more than once: a, b, more/c, without_image"):
        masked(street, images="masks")


def test_names_void_list_size_and_limit(street: Path) -> None:
    names = OmegaConf.create(["road", "sky"])
    source = masked(street, classes=names, void=OmegaConf.create([255, 1]), size=3, limit=2)
    assert source.classes == ("road", "sky")
    assert len(source) == 2
    assert set(source[0]["target"].flatten().tolist()) <= {0, VOID}
    assert source[0]["image"].shape == (3, 3, 3)


def test_images_and_masks_are_cropped_alike(street: Path) -> None:
    whole, cut = masked(street)[0], masked(street, size=OmegaConf.create({"crop": [2, 4]}))[0]
    height, width = whole["target"].shape
    rows = slice((height - 2) // 2, (height - 2) // 2 + 2)
    columns = slice((width - 4) // 2, (width - 4) // 2 + 4)
    assert cut["image"].equal(whole["image"][:, rows, columns])
    assert cut["target"].equal(whole["target"][rows, columns])


def test_masks_may_hold_other_numbers_than_those_of_the_classes(street: Path, mask: Maker) -> None:
    for name in ("a", "b", "more/c"):
        mask(street / "masks" / f"{name}.png", 255, 0, 7)
    assert masked(street, values=[0, 255], void=7)[0]["target"][0].tolist() == [1, 0, VOID] * 2
    with pytest.raises(GpsweepError, match=r"holds 7; expected classes 0, 255 or void \(none set\); see"):
        masked(street, values=[0, 255], void=None)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_masks_may_hold_colours(street: Path, mode: str) -> None:
    row = np.array([[(0, 0, 0), (255, 0, 16), (1, 2, 3)]], dtype=np.uint8)
    for name in ("a", "b", "more/c"):
        picture = Image.fromarray(np.tile(row, (4, 2, 1)))
        picture = picture.quantize(4) if mode == "P" else picture.convert(mode)
        picture.save(street / "masks" / f"{name}.png")
    colours = ["#FF0010", "#000000"]
    source = masked(street, values=colours, void="#010203")
    assert source[2]["target"].tolist() == [[1, 0, VOID] * 2] * 4
    with pytest.raises(GpsweepError, match=r"holds #010203; expected #ff0010, #000000; see data\.values and"):
        masked(street, values=colours, void=None)


def test_masks_of_other_names_may_lie_beside_their_images(street: Path, mask: Maker) -> None:
    for name in ("a", "b", "more/c"):
        mask(street / "images" / f"{name}_mask.png", 1)
    source = masked(street, masks="images/*_mask.png")
    assert source.ids == ["a", "b", "more/c"]
    assert source[2]["target"].unique().tolist() == [1]
    (street / "images" / "b_mask.png").unlink()
    with pytest.raises(GpsweepError, match=r"1 of 3 masks .* missing in .*images: b_mask\.png$"):
        masked(street, masks="images/*_mask.png")


@pytest.mark.parametrize("masks", ["labels/*_mask.png", "labels/*_mask"])
def test_masks_may_be_called_otherwise(street: Path, mask: Maker, masks: str) -> None:
    for name, number in (("a", 0), ("b", 1), ("more/c", 0), ("a", 1)):
        mask(street / "labels" / f"{name}_mask.png", number)
    assert [int(sample["target"][0, 0]) for sample in masked(street, masks=masks)] == [1, 1, 0]
    (street / "labels" / "more" / "c_mask.png").unlink()
    with pytest.raises(GpsweepError, match=r"1 of 3 masks .* missing in .*: labels/more/c_mask\.png$"):
        masked(street, masks=masks)


def test_sixteen_bit_masks(street: Path, mask: Maker) -> None:
    for name in ("a", "b", "more/c"):
        mask(street / "masks" / f"{name}.png", 0, 300, 65535)
    source = masked(street, classes=301, void=65535)
    assert source[0]["target"][0].tolist() == [0, 300, VOID] * 2


@pytest.mark.parametrize("pattern", ["images/*", "images/*.[jP]*", "images/?.*"])
def test_globs(street: Path, pattern: str) -> None:
    assert masked(street, images=pattern).ids == ["a", "b"]


def test_brackets_in_the_name_of_a_folder_are_no_glob(street: Path) -> None:
    place = street / "street [2021]"
    place.mkdir()
    for name in ("images", "masks"):
        (street / name).rename(place / name)
    assert masked(place, images="images/*.jpg").ids == ["b"]
    assert masked(place).ids == ["a", "b", "more/c"]
    with pytest.raises(GpsweepError, match=r"^data\.images=.*image: no such folder"):
        masked(place, images="image")


def test_lists_name_images_with_or_without_suffix(street: Path, listed: Maker) -> None:
    listed(street / "part.txt", ["more/c", f"{street}/images/b.jpg"])
    source = masked(street, split="part")
    assert source.ids == ["more/c", "b"]
    assert masked(street, split=str(street / "part.txt"), limit=1).ids == ["more/c"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            ["a", "x", "y.jpg"],
            r"data\.images: 2 of 3 images named by .*part\.txt are missing in .*: x, y\.jpg$",
        ),
        (["a", "a"], r"data\.split: .*part\.txt holds samples more than once: a$"),
        (["a", "a.PNG"], r"data\.split: .*part\.txt holds samples more than once: a$"),
        (["../images/a"], r"data\.split: .*leaves the data's folder"),
        (["/etc/passwd"], r"data\.images: 1 of 1 images .* missing .*: /etc/passwd$"),
        (
            ["notes.md", ".cache/z.jpg"],
            r"data\.images: 2 of 2 images .* missing .*: notes\.md, \.cache/z\.jpg$",
        ),
        ([], r"data\.split: no samples in .*part\.txt"),
    ],
)
def test_lists_that_are_wrong(street: Path, listed: Maker, lines: list[str], expected: str) -> None:
    listed(street / "part.txt", lines)
    with pytest.raises(GpsweepError, match=expected):
        masked(street, split="part")


def test_a_stem_of_two_images_needs_its_suffix(street: Path, picture: Maker, listed: Maker) -> None:
    picture(street / "images" / "a.jpg")
    listed(street / "part.txt", ["a"])
    with pytest.raises(GpsweepError, match=r"data\.split: .* names a; expected one of a\.PNG, a\.jpg"):
        masked(street, split="part")
    listed(street / "part.txt", ["a.jpg"])
    assert masked(street, split="part").ids == ["a"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"root": "nowhere"}, r"data\.root=nowhere: no such folder"),
        ({"images": "image"}, r"data\.images=.*image: no such folder; expected a folder or a.* images\?$"),
        ({"images": "images/*.gif"}, r"data\.images=images/\*\.gif: no images found; expected .*\.jpg"),
        pytest.param(
            {"images": "images/**.jpg"},
            r"data\.images=images/\*\*\.jpg: ",
            marks=pytest.mark.skipif(sys.version_info >= (3, 13), reason="there it is as images/*.jpg"),
        ),
        ({"images": ["images", "more"]}, r"data\.images=\['images', 'more'\]: no images found"),
        ({"images": 2012}, r"data\.images=.*2012: no such folder; expected a folder or a glob"),
        ({"masks": 2012}, r"data\.masks=.*2012: no such folder; expected a folder of masks"),
        ({"images": None, "root": None}, r"data\.images=null: expected a folder or a glob"),
        ({"masks": "mask"}, r"data\.masks=.*mask: no such folder; expected a folder of masks"),
        ({"classes": None}, r"data\.classes=null: masks need the classes"),
        ({"classes": 0}, r"data\.classes=0: expected how many"),
        ({"classes": True}, r"data\.classes=True: expected how many"),
        ({"classes": "road"}, r"data\.classes=road: expected how many"),
        ({"classes": []}, r"data\.classes=\[\]: expected how many"),
        ({"classes": ["a", "a"]}, r"data\.classes=.*each once"),
        (
            {"classes": 1},
            r"data\.masks: mask .*a\.png holds 1; .* classes 0 or void 255; see data\.classes, data\.val",
        ),
        ({"void": None}, r"mask .*a\.png holds 255; expected classes 0–1 or void \(none set\); see data"),
        (
            {"void": -1},
            r"data\.void=-1: expected null, whole numbers from 0 to 65535, or colours such as '#ff",
        ),
        ({"void": [1.5]}, r"data\.void=\[1\.5\]: expected null"),
        ({"void": "255"}, r"data\.void=255: expected null"),
        ({"void": "#fff"}, r"data\.void=#fff: expected null"),
        ({"void": "#ffffff"}, r"data\.void=#ffffff: expected numbers, as data\.values=null"),
        ({"values": ["#ffffff", "#000000"]}, r"data\.void=255: expected colours, as data\.values=\['#fff"),
        ({"values": [0, "#000000"]}, r"data\.values=\[0, '#000000'\]: expected null"),
        ({"values": [True, False]}, r"data\.values=\[True, False\]: expected null"),
        ({"values": [0, 1, 2]}, r"data\.values=\[0, 1, 2\]: expected one for each of the 2 classes"),
        ({"values": ["#00ff00", "#00FF00"]}, r"data\.values=.*: expected one for each .*, each once"),
        ({"values": []}, r"data\.values=\[\]: expected one for each"),
        ({"split": "part"}, r"data\.split=part: no such list file"),
        ({"size": [1]}, r"data\.size=\[1\]: expected null"),
        ({"limit": 0}, r"data\.limit=0: expected null"),
    ],
)
def test_wrong_options(street: Path, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(GpsweepError, match=expected):
        masked(street, **options)


def test_missing_masks(street: Path) -> None:
    (street / "masks" / "b.png").unlink()
    with pytest.raises(GpsweepError, match=r"data\.masks: 1 of 3 masks .* missing in .*: masks/b\.png$"):
        masked(street)


def test_masks_of_other_names(street: Path, mask: Maker) -> None:
    mask(street / "other" / "a_mask.png", 0)
    with pytest.raises(
        GpsweepError, match=r"data\.masks: .*expected a\.png .* for a\.PNG; it holds a_mask\.png"
    ):
        masked(street, masks="other")


def test_masks_of_other_formats(street: Path) -> None:
    (street / "other").mkdir()
    (street / "other" / "a.gif").touch()
    with pytest.raises(GpsweepError, match=r"data\.masks: .* has no mask .*; it holds none of these$"):
        masked(street, masks="other")


def test_names_that_are_no_text(pets: Path) -> None:
    shutil.copy(os.fsencode(pets / "cat" / "1.jpg"), os.fsencode(pets / "cat") + b"/caf\xe9.jpg")
    with pytest.raises(GpsweepError, match=r"data\.images: .* are no UTF-8: 'cat/caf\\udce9\.jpg'; rename"):
        folder(root=str(pets))


def test_two_masks_for_one_image(street: Path, mask: Maker) -> None:
    mask(street / "masks" / "a.tif", 0)
    with pytest.raises(GpsweepError, match=r"data\.masks: .*masks holds samples more than once: a$"):
        masked(street)


def test_coloured_masks(street: Path, picture: Maker) -> None:
    picture(street / "masks" / "a.png")
    with pytest.raises(GpsweepError, match=r"data\.masks: mask .*a\.png is a picture of mode RGB; expected"):
        masked(street)


def test_the_middle_of_classified_images(pets: Path) -> None:
    source = folder(root=str(pets), size={"shorter": 8, "crop": 7, "interpolation": "bicubic"})
    assert source[0]["image"].shape == (3, 7, 7)


def test_sub_folders_are_classes(pets: Path) -> None:
    source = folder(root=str(pets))
    assert (source.name, source.task) == (f"folder-{pets.name}", "classification")
    assert source.classes == ("bird", "cat", "dog")
    assert source.ids == ["cat/1.jpg", "dog/1.jpg", "dog/deep/2.png"]
    assert [source[index]["target"].item() for index in range(3)] == [1, 2, 2]
    assert source[0]["target"].shape == ()


def test_what_a_mac_adds_is_no_class(pets: Path) -> None:
    (pets / "__MACOSX" / "cat").mkdir(parents=True)
    (pets / "__MACOSX" / "cat" / "1.jpg").touch()
    source = folder(root=str(pets))
    assert source.classes == ("bird", "cat", "dog")
    assert [int(sample["target"]) for sample in source] == [1, 2, 2]
    assert folder(root=str(pets), images="*/*.jpg").ids == ["cat/1.jpg", "dog/1.jpg"]


def test_a_limit_leaves_all_classes(pets: Path, picture: Maker) -> None:
    for name in ("b", "c", "d"):
        picture(pets / "cat" / f"{name}.jpg")
    whole = folder(images=str(pets))
    assert [name.split("/")[0] for name in folder(images=str(pets), limit=2).ids] == ["cat", "dog"]
    assert len(whole.ids) == 6
    assert [name.split("/")[0] for name in whole.ids][-2:] == ["cat", "cat"]


def test_classes_may_be_given(pets: Path) -> None:
    source = folder(images=str(pets), classes=["dog", "fish", "cat", "bird"])
    assert source.classes == ("dog", "fish", "cat", "bird")
    assert [source[index]["target"].item() for index in range(3)] == [2, 0, 0]
    assert folder(images=str(pets), classes=3).classes == ("bird", "cat", "dog")


def test_classes_by_glob_and_list_keep_their_numbers(pets: Path, listed: Maker) -> None:
    source = folder(images=str(pets / "dog*" / "*.jpg"))
    assert source.classes == ("bird", "cat", "dog")
    assert source[0]["target"] == 2
    listed(pets / "part.txt", ["dog/deep/2"])
    assert folder(root=str(pets), split="part")[0]["target"] == 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"classes": 2}, r"data\.classes=2: .* has 3 sub-folders: bird, cat, dog"),
        ({"classes": ["cat", "dogs"]}, r"data\.classes: .*no class: bird, dog; expected cat, dogs$"),
        ({"void": 255}, r"data\.void=255: there are no masks"),
        ({"images": "dog"}, r"data\.images: 1 images lie directly in .*dog: 1\.jpg; .* data\.masks"),
        ({"images": "bird"}, r"data\.images=bird: no images found"),
        ({"split": "val"}, r"data\.split=val: no such list file"),
    ],
)
def test_wrong_options_without_masks(pets: Path, options: dict[str, Any], expected: str) -> None:
    with pytest.raises(GpsweepError, match=expected):
        folder(**{"root": str(pets)} | options)


def test_an_image_that_does_not_decode(pets: Path) -> None:
    (pets / "cat" / "1.jpg").write_bytes(b"broken")
    source = folder(root=str(pets))
    with pytest.raises(GpsweepError, match=r"data\.images: image .*1\.jpg does not decode: not a picture"):
        source[0]


@pytest.mark.data
def test_real_folder_equals_its_family(data_root: Path) -> None:
    listed = voc(root=str(data_root), split="here_all")
    base = data_root / "VOCdevkit" / "VOC2012"
    found = folder(root=str(base), images="JPEGImages", masks="SegmentationClass", classes=21, void=255)
    assert found.ids == sorted(listed.ids)
    same = found[found.ids.index(listed.ids[5])]
    assert (same["target"] == listed[5]["target"]).all()
    with pytest.raises(GpsweepError, match=r"data\.masks: mask .*is a picture of mode RGB"):
        folder(
            images=str(base / "JPEGImages" / "2008_008376.*"), masks=str(data_root / "context59"), classes=60
        )


def test_a_link_that_leads_back_is_followed_once(pets: Path) -> None:
    found = folder(images=str(pets)).ids
    (next(path for path in pets.iterdir() if path.is_dir()) / "loop").symlink_to(pets)
    assert folder(images=str(pets)).ids == found
