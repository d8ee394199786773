"""PASCAL-Context: .mat files mapped by name, and PNGs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from gpsweep.data.base import VOID, Source
from gpsweep.data.context59 import CALLED, CLASSES, context59
from gpsweep.data.files import Files
from gpsweep.data.palette import palette
from gpsweep.errors import GpsweepError

Maker = Callable[..., Path]
IMAGES = "VOCdevkit/VOC2010/JPEGImages"
NAMES = ["2008_000002", "2008_000003"]


def label_names() -> list[str]:
    """Make a list of 459 names with the 59 among them, in another order and as labels.txt calls them."""
    names = [f"thing {number}" for number in range(459)]
    for place, name in enumerate(reversed(CLASSES)):
        names[7 * place + 3] = CALLED.get(name, name)
    return names


def number_of(name: str) -> int:
    return label_names().index(CALLED.get(name, name)) + 1


@pytest.fixture
def home(tmp_path: Path, picture: Maker, listed: Maker) -> Path:
    for name in NAMES:
        picture(tmp_path / IMAGES / f"{name}.jpg", height=2, width=3)
    listed(tmp_path / IMAGES / ".." / "ImageSets" / "Main" / "val.txt", NAMES)
    listed(
        tmp_path / "context59" / "labels.txt",
        [f"{place}: {name}" for place, name in enumerate(label_names(), 1)],
    )
    chosen = [[number_of("sky"), 1, 0], [number_of("clothes"), number_of("aeroplane"), number_of("wood")]]
    (tmp_path / "context59" / "trainval").mkdir()
    for name in NAMES:
        savemat(
            tmp_path / "context59" / "trainval" / f"{name}.mat",
            {"LabelMap": np.array(chosen, dtype=np.uint16)},
        )
    return tmp_path


def shown(source: Source, index: int = 0) -> list[list[str]]:
    names = (*source.classes, "void")
    return [[names[number] for number in row] for row in source[index]["target"].tolist()]


def test_there_are_59_classes() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == 59
    assert (CLASSES[0], CLASSES[27], CLASSES[49], CLASSES[58]) == ("aeroplane", "clothes", "sky", "wood")


@pytest.mark.parametrize("background", [True, False])
def test_labels_are_mapped_by_name(home: Path, background: bool) -> None:
    source = context59(root=str(home), background=background)
    assert (source.name, source.task, len(source.classes)) == (
        "context59-val",
        "segmentation",
        59 + background,
    )
    assert source.ids == NAMES
    none = "background" if background else "void"
    assert shown(source) == [["sky", none, none], ["clothes", "aeroplane", "wood"]]
    assert source[0]["target"].min() == (0 if background else VOID)


def as_pngs(home: Path, kind: str) -> Path:
    """Write PNGs with the numbers 50, 0, 3 and 1, 59, 28, as numbers or in VOC's colours."""
    numbers = np.array([[50, 0, 3], [1, 59, 28]], dtype=np.uint8)
    folder = home / "pngs"
    folder.mkdir()
    for name in NAMES:
        image = Image.fromarray(palette()[numbers] if kind == "colours" else numbers)
        if kind == "indexed":
            image.putpalette(palette().tobytes())
        image.save(folder / f"{name}.png")
    return folder


@pytest.mark.parametrize("kind", ["numbers", "indexed", "colours"])
def test_pngs_in_numbers_or_colours(home: Path, kind: str) -> None:
    as_pngs(home, kind)
    source = context59(root=str(home), masks="pngs")
    assert shown(source) == [["sky", "background", "bird"], ["aeroplane", "wood", "clothes"]]
    without = context59(root=str(home), masks="pngs", background=False)
    assert shown(without) == [["sky", "void", "bird"], ["aeroplane", "wood", "clothes"]]


def test_pngs_numbered_by_the_alphabet(home: Path) -> None:
    # background aeroplane bag bed bedclothes … cat ceiling chair cloth … sofa table … window wood
    numbers = np.array([[2, 0, 18], [4, 59, 50]], dtype=np.uint8)
    folder = home / "SegmentationClassContext"
    folder.mkdir()
    for name in NAMES:
        Image.fromarray(numbers).save(folder / f"{name}.png")
    source = context59(root=str(home), masks=folder.name, order="alphabetical")
    assert source.classes[1:] == CLASSES
    assert shown(source) == [["bag", "background", "clothes"], ["bedcloth", "wood", "diningtable"]]
    without = context59(root=str(home), masks=folder.name, order="alphabetical", background=False)
    assert shown(without) == [["bag", "void", "clothes"], ["bedcloth", "wood", "diningtable"]]
    with pytest.raises(GpsweepError, match=r"^data\.order=null: .* expected data\.order=alphabetical"):
        context59(root=str(home), masks=folder.name)
    published = context59(root=str(home), masks=folder.name, order="published")
    assert shown(published)[0][0] == "bicycle"
    with pytest.raises(GpsweepError, match=r"^data\.order=alphabetic: unknown\. Did you mean alphabetical"):
        context59(root=str(home), masks=folder.name, order="alphabetic")
    # The .mat files are mapped by name, whatever is said of PNGs.
    assert shown(context59(root=str(home), order="alphabetical")) == shown(context59(root=str(home)))


def test_what_a_mac_adds_is_no_mask(home: Path) -> None:
    as_pngs(home, "numbers")
    (home / "pngs" / f"._{NAMES[0]}.png").touch()
    (home / "pngs" / f"._{NAMES[0]}.mat").touch()
    assert context59(root=str(home), masks="pngs", split=None).ids == NAMES


def test_lists(home: Path, listed: Maker) -> None:
    mine = listed(home / "mine.txt", NAMES[1:])
    assert context59(root=str(home), split=str(mine)).ids == NAMES[1:]
    everything = context59(root=str(home), split=None)
    assert (everything.name, everything.ids) == ("context59-all", NAMES)
    with pytest.raises(GpsweepError, match=r"^data\.split=vla: unknown\. Did you mean val\?"):
        context59(root=str(home), split="vla")
    with pytest.raises(
        GpsweepError, match=r"^data\.split: .* has the line '\S*x/2008_000002'; expected one name"
    ):
        context59(root=str(home), split=str(listed(home / "mine.txt", ["x/2008_000002"])))
    listed(home / IMAGES / ".." / "ImageSets" / "SegmentationContext" / "val.txt", NAMES[:1])
    assert context59(root=str(home)).ids == NAMES[:1]


def test_what_is_missing_and_where_it_is_published(home: Path) -> None:
    with pytest.raises(
        GpsweepError, match=r"^data\.images=.*: no such folder; expected JPEGImages of VOC2010, publ"
    ):
        context59(root=str(home), images="x")
    with pytest.raises(
        GpsweepError, match=r"^data\.masks=.*: no such folder; .* published at https://cs\.stanford"
    ):
        context59(root=str(home), masks="x")
    (home / "context59" / "labels.txt").unlink()
    with pytest.raises(
        GpsweepError, match=r"^data\.labels: .*labels\.txt is missing; .* published at https://cs"
    ):
        context59(root=str(home))
    next((home / IMAGES).iterdir()).unlink()
    as_pngs(home, "numbers")
    with pytest.raises(GpsweepError, match=r"^data\.images: 1 of 2 images named by .* are missing in"):
        context59(root=str(home), masks="pngs")


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "names 0 labels, without aeroplane, bicycle, .* and 49 more; expected 459"),
        (["1 aeroplane"], "has the line '1 aeroplane'; expected 'NUMBER: NAME', 1–459"),
        (["460: aeroplane"], "has the line '460: aeroplane'"),
        (["1: aeroplane"], "names 1 labels, without bicycle"),
    ],
)
def test_labels_of_something_else(home: Path, listed: Maker, lines: list[str], says: str) -> None:
    listed(home / "labels.txt", lines)
    with pytest.raises(GpsweepError, match=rf"^data\.labels: .*labels\.txt {says}"):
        context59(root=str(home), labels="labels.txt")


def test_a_missing_class_and_a_missing_label(home: Path, listed: Maker) -> None:
    lines = (home / "context59" / "labels.txt").read_text().splitlines()
    renamed = [line.replace(": cloth", ": coat") for line in lines]
    with pytest.raises(GpsweepError, match=r"names 459 labels, without clothes; expected 459$"):
        context59(root=str(home), labels=str(listed(home / "labels.txt", renamed)))
    with pytest.raises(GpsweepError, match="names 458 labels; expected 459"):
        context59(root=str(home), labels=str(listed(home / "labels.txt", lines[1:])))


def test_a_corrected_list_of_labels_changes_the_stamp(home: Path, listed: Maker) -> None:
    def stamp(**changes: str) -> str:
        source = context59(root=str(home), **changes)
        assert isinstance(source, Files)
        return source.stamp()

    lines = (home / "context59" / "labels.txt").read_text().splitlines()
    before = stamp()
    assert stamp(labels=str(listed(home / "labels.txt", [*reversed(lines)]))) == before
    sky, wood = number_of("sky"), number_of("wood")
    swapped = [*lines]
    swapped[sky - 1], swapped[wood - 1] = f"{sky}: wood", f"{wood}: sky"
    listed(home / "context59" / "labels.txt", swapped)
    assert stamp() != before
    as_pngs(home, "numbers")
    pngs = stamp(masks="pngs")
    listed(home / "context59" / "labels.txt", lines)
    assert stamp(masks="pngs") == pngs


def test_foreign_numbers(home: Path) -> None:
    path = home / "context59" / "trainval" / f"{NAMES[1]}.mat"
    savemat(path, {"LabelMap": np.full((2, 3), 460)})
    with pytest.raises(
        GpsweepError, match=rf"^data\.masks: mask .*{NAMES[1]}\.mat holds 460; expected labels 0–459"
    ):
        context59(root=str(home))
    folder = as_pngs(home, "numbers")
    Image.fromarray(np.full((2, 3), 60, dtype=np.uint8)).save(folder / f"{NAMES[0]}.png")
    with pytest.raises(GpsweepError, match=r"holds 60; expected classes 0–59 or void \(none set\)"):
        context59(root=str(home), masks="pngs")
    Image.new("RGB", (3, 2), (1, 2, 3)).save(folder / f"{NAMES[0]}.png")
    with pytest.raises(GpsweepError, match=r"holds #010203; expected the colours of PASCAL VOC"):
        context59(root=str(home), masks="pngs")


@pytest.mark.data
def test_real_colours(data_root: Path) -> None:
    source = context59(
        root=str(data_root),
        images="VOCdevkit/VOC2012/JPEGImages",
        masks="context59",
        split=None,
        background=True,
    )
    assert len(source) == 4
    seen = [{name for row in shown(source, index) for name in row} for index in range(4)]
    assert seen[0] >= {"bird", "grass", "ground"}
    assert seen[1] >= {"motorbike", "person", "sky"}
    assert seen[2] >= {"bus", "car", "road", "building"}
    assert seen[3] == {"diningtable", "dog", "person", "clothes", "floor", "wall"}
