"""Which class of the data each class of a network stands for: what is understood, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from gpsweep.data import camvid, context59, voc
from gpsweep.errors import GpsweepError
from gpsweep.models.class_map import NONE, class_map

READY = Path(__file__).resolve().parents[2] / "conf" / "class_map"
CONTEXT = ("background", *context59.CLASSES)
# name → classes of the network, names of the data's classes
SETS: dict[str, tuple[int, tuple[str, ...]]] = {
    "cityscapes_camvid": (19, camvid.CLASSES),
    "context59_voc": (60, voc.CLASSES),
    "voc_context59": (21, CONTEXT),
    "context60_context59": (60, CONTEXT[1:]),
}


def read(mapping: Any, classes: tuple[str, ...] = ("sky", "road", "car"), own: int | None = None) -> Any:
    return class_map(OmegaConf.create({"class_map": mapping, "classes": own}), classes=classes)


def test_names_numbers_and_null() -> None:
    assert read({0: "road", 1: 2, 3: "road", 2: None}) == (1, 2, NONE, 1)
    assert read({0: "road", 1: 0}, own=2) == (1, 0)
    assert read(None) is None
    assert class_map(OmegaConf.create({"classes": 3}), classes=("a",)) is None


def test_a_name_that_looks_like_a_number_is_a_name_where_it_is_quoted() -> None:
    assert read({0: "2", 1: 2}, classes=("2", "1", "0")) == (0, 2)


def test_entries_that_the_command_line_adds_one_by_one() -> None:
    assert read({"0": "road", "1": 2}, own=2) == (1, 2)
    assert read({0: "road", 1: "sky", "1": "car"}) == (1, 2), "the later one replaces a ready-made map's"


@pytest.mark.parametrize(
    ("mapping", "own", "says"),
    [
        (
            {0: "raod"},
            None,
            r"^model\.class_map\.0=raod: unknown\. Did you mean road\? Choices: sky",
        ),
        ({0: 3}, None, r"^model\.class_map\.0=3: expected a class of the data, 0 to 2, its name, or null"),
        ({0: -1}, None, r"^model\.class_map\.0=-1: expected a class of the data"),
        ({0: True}, None, r"^model\.class_map\.0=True: unknown"),
        ({0: "sky", 2: "sky"}, None, r"^model\.class_map: expected .* came 0, 2, without 1$"),
        ({"sky": "sky"}, None, r"^model\.class_map: expected .* by its number from 0 up; came sky"),
        ({0: "sky", 1: "sky"}, 1, r"^model\.class_map: 1: no class of the network; expected 0 to 0"),
        ({0: "sky"}, 3, r"^model\.class_map: expected .* came 0, without 1, 2$"),
        ({0: None, 1: None}, None, r"^model\.class_map: expected .* for some class .* came none$"),
        ({}, None, r"^model\.class_map=\{\}: expected number of the network's class"),
        ("cityscapes", None, r"^model\.class_map=cityscapes: expected .* named by \+class_map=NAME"),
        (["sky"], None, r"^model\.class_map=\['sky'\]: expected"),
        ({0: "sky", 1: "sky"}, "2", r"^model\.classes=2: expected a whole number from 1 up, or null"),
    ],
)
def test_what_is_refused(mapping: Any, own: Any, says: str) -> None:
    with pytest.raises(GpsweepError, match=says):
        read(mapping, own=own)


@pytest.mark.parametrize("name", [path.stem for path in sorted(READY.glob("*.yaml"))])
def test_ready_made_ones_fit_both_sides(name: str) -> None:
    count, classes = SETS[name]
    found = read(OmegaConf.load(READY / f"{name}.yaml"), classes, own=count)
    assert len(found) == count


def test_choices_of_the_ready_made_ones() -> None:
    def names(name: str) -> list[str | None]:
        count, classes = SETS[name]
        found = read(OmegaConf.load(READY / f"{name}.yaml"), classes, own=count)
        return [None if number == NONE else classes[number] for number in found]

    streets = names("cityscapes_camvid")
    assert set(streets) == set(camvid.CLASSES)
    assert (streets[0], streets[12], streets[18]) == ("Road", "Bicyclist", "Bicyclist")
    objects = names("context59_voc")
    assert objects[: len(voc.CLASSES)] == list(voc.CLASSES)
    assert set(objects[len(voc.CLASSES) :]) == {"background"}
    assert names("voc_context59") == [None, *voc.CLASSES[1:]]
    assert names("context60_context59") == [None, *CONTEXT[1:]]
