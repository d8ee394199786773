"""Choosing ε on the images that data.tune_split names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import NET, SET, Terminal, pictures
from omegaconf import OmegaConf

from gpsweep.config import instance
from gpsweep.errors import GpsweepError
from gpsweep.tuning import tune_ids

SMALL = [*SET, *NET, "eps=[-2,2]", "select=half", "hydra.run.dir=run"]
NODE = {
    "source": {
        "_target_": "gpsweep.data.folder.folder",
        "images": "images",
        "masks": "masks",
        "classes": 5,
        "void": 255,
        "split": None,
        "limit": None,
    }
}


def named(tune_split: str | None, **source: Any) -> list[str] | None:
    cfg = OmegaConf.merge(NODE, {"tune_split": tune_split, "source": source})
    assert OmegaConf.is_dict(cfg)
    return tune_ids(cfg, instance(cfg.source, "data.source"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(pictures(tmp_path))
    return tmp_path


def test_a_split_a_list_of_ids_and_nothing(here: Path) -> None:
    (here / "images" / "tune.txt").write_text("01.png\n03.png\n")  # as data.split has them, with suffixes
    (here / "mine.list").write_text("\n04\n02\n")
    assert named(None) is None
    assert named("tune") == ["01", "03"]
    assert named("mine.list") == ["04", "02"]


def test_a_limit_may_cut_some_off(here: Path) -> None:
    (here / "mine.txt").write_text("01\n03\n04\n")
    assert named("mine.txt", limit=3) == ["01", "03", "04"]
    (here / "mine.txt").write_text("03\n04\n")
    with pytest.raises(GpsweepError, match=r"tune_split=mine\.txt: 2 of its 2 images are not among the 2 of"):
        named("mine.txt", limit=2)


@pytest.mark.parametrize(
    ("lines", "split", "says"),
    [
        (
            "01\n09\n",
            "mine.txt",
            r"^data\.tune_split=mine\.txt: 1 of its 2 images are not among the 5 .*: 09; ",
        ),
        ("01\n", "other", r"^data\.tune_split=other: no such list file"),
        ("01\n", "~of nobody/mine.txt", r"^data\.tune_split=~of nobody/mine\.txt: no such list file"),
        ("", "mine.txt", r"^data\.tune_split: no samples in .*mine\.txt"),
        ("01\n01\n09.png\n", "mine.txt", r"tune_split=mine\.txt: 1 of its 3 images"),
    ],
)
def test_mistakes(here: Path, lines: str, split: str, says: str) -> None:
    (here / "mine.txt").write_text(lines)
    with pytest.raises(GpsweepError, match=says):
        named(split)


def test_a_source_without_splits_is_told_by_the_key() -> None:
    cfg = OmegaConf.create({"source": {"_target_": "digits.digits"}, "tune_split": "train"})
    with pytest.raises(GpsweepError, match=r"^data\.tune_split=train: this data has no splits; expected"):
        tune_ids(cfg, instance(cfg.source, "data.source"))


def test_the_command_chooses_on_them_and_judges_on_the_others(terminal: Terminal) -> None:
    Path("mine.txt").write_text("00\n03\n")
    code, out, err = terminal(*SMALL, "data.tune_split=mine.txt")
    assert code == 0, err
    assert "eps chosen on 2 images, judged on the 3 others" in out
    assert json.loads(Path("run/run.json").read_text())["info"]["select"] == {"tune": ["00", "03"]}
    # The split is no part of what is stored: nothing is computed for another one.
    Path("mine.txt").write_text("04\n")
    code, _, err = terminal(*SMALL, "data.tune_split=mine.txt")
    assert "0 to go" in err
    # Without select=half nobody asks for it.
    with pytest.warns(UserWarning, match=r"data\.tune_split=absent: has no effect.*; add select=half"):
        assert terminal(*SMALL, "data.tune_split=absent", "select=none")[0] == 0
    assert terminal(*SMALL, "select=none")[0] == 0


def test_the_command_names_the_key(terminal: Terminal) -> None:
    code, _, err = terminal(*SMALL, "data.tune_split=absent")
    assert code != 0
    assert "data.tune_split=absent: " in err
    assert "Traceback" not in err
    Path("mine.txt").write_text("00\n01\n02\n03\n04\n")
    code, _, err = terminal(*SMALL, "data.tune_split=mine.txt")
    assert code != 0
    assert "data.tune_split: expected the names of some of the images, came those of 5 of 5" in err


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:model.checkpoint=null")
def test_a_list_of_voc_as_its_own_split(terminal: Terminal, data_root: Path) -> None:
    root = f"data.root={data_root.resolve()}/VOCdevkit"
    small = ["data=voc", root, "data.split=here_all", "data.size=64", "model=scenes", "model.classes=21"]
    more = ["model.checkpoint=null", "eps=1", "select=half", "data.tune_split=here_val", "hydra.run.dir=run"]
    code, out, err = terminal(*small, *more)
    assert code == 0, err
    assert "eps chosen on 9 images, judged on the 15 others" in out
