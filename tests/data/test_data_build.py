"""Data of the user's own: what it has to have is checked, and the README's class runs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from commands import Terminal, pictures
from omegaconf import OmegaConf

from gpsweep.data.batch import read
from gpsweep.data.build import check_source, source_of
from gpsweep.errors import GpsweepError

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")


class Own:
    """Two images in memory; ``changes`` take the place of members and of a sample's entries."""

    def __init__(self, **changes: Any) -> None:
        self.name, self.task, self.classes, self.ids = "own", "segmentation", ("a", "b"), ["x", "y"]
        self.sample = {"image": torch.zeros(3, 4, 5, dtype=torch.uint8), "target": torch.zeros(4, 5).long()}
        for name, value in changes.items():
            if name in ("image", "target", "id"):
                self.sample[name] = value
            else:
                setattr(self, name, value)

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Any:
        return {"id": self.ids[index]} | self.sample if isinstance(self.sample, dict) else self.sample


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task": "detection"}, r"data\.source: task=detection: unknown.* segmentation, classification"),
        ({"ids": ["x"]}, "expected an id for each of 2 samples, came 1"),
        ({"ids": ["x", "x"]}, "Own holds samples more than once: x"),
        ({"sample": (1, 2)}, "expected samples as dicts of the tensors image and target, .* came tuple"),
        ({"image": 3}, "expected samples as dicts .* came dict of id, image, target, image as int"),
        ({"target": 1}, "expected samples as dicts .* came dict of id, image, target, target as int"),
        ({"id": "z"}, "expected x as id of the sample, as in ids, came z"),
        ({"image": torch.zeros(3, 4, 5)}, r"image as uint8 \(3, H, W\), RGB, came float32 \(3, 4, 5\)"),
        ({"target": torch.zeros(5, 4).long()}, r"target as int64 \(4, 5\), came int64 \(5, 4\)"),
        ({"task": "classification"}, r"target as int64 \(\), came int64 \(4, 5\)"),
        ({"target": torch.zeros(4, 5)}, r"target as int64 \(4, 5\), came float32 \(4, 5\)"),
        ({"target": torch.zeros(4, 5).bool()}, r"target as int64 \(4, 5\), came bool \(4, 5\)"),
        ({"ids": range(2)}, "expected ids as a list of str, came int 0 in it"),
        ({"ids": ["x", Path("y")]}, "expected ids as a list of str, came PosixPath y in it"),
        ({"classes": np.arange(3)}, "expected classes as a list of str, came int64 0 in it"),
        ({"classes": ("a", "b", "a")}, "expected classes each once, came more than once: a"),
        ({"classes": 3}, "expected classes as a list of str, came int 3"),
    ],
)
def test_what_is_no_data_is_named(changes: dict[str, Any], says: str) -> None:
    check_source(Own())
    with pytest.raises(GpsweepError, match=says):
        check_source(Own(**changes))


def test_ids_in_another_order_than_the_samples_are_named() -> None:
    mixed = Own()
    mixed.ids = ["x", "z"]
    mixed.sample = dict(mixed.sample, id="x")
    assert read(mixed, 0)["id"] == "x"
    with pytest.raises(GpsweepError, match="data: z: expected z as id of the sample, as in ids, came x"):
        read(mixed, 1)


def test_names_may_stand_in_an_array() -> None:
    check_source(Own(ids=np.array(["x", "y"]), classes=np.array(["a", "b"])))


def test_what_lacks_members_is_named() -> None:
    with pytest.raises(GpsweepError, match="came list without name, task, classes, ids"):
        check_source([(torch.zeros(3, 4, 4), 1)])


@pytest.mark.parametrize("source", ["???", 3, {"folder": "scans"}])
def test_data_that_is_not_named(source: Any) -> None:
    with pytest.raises(
        GpsweepError, match=r"data\.source: expected the dotted name of what returns your data"
    ):
        source_of(OmegaConf.create({"source": source}))


def test_a_name_alone_is_what_to_call(monkeypatch: pytest.MonkeyPatch) -> None:
    own = ModuleType("own_data")
    own.Own = Own  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "own_data", own)
    cfg = OmegaConf.create({"source": "own_data.Own"})
    OmegaConf.set_readonly(cfg, True)
    assert list(source_of(cfg).ids) == ["x", "y"]
    assert cfg.source == {"_target_": "own_data.Own"}


def test_the_first_samples_alone() -> None:
    node = {"_target_": f"{__name__}.Own"}
    cfg = OmegaConf.create({"source": node, "limit": 1})
    first = source_of(cfg)
    assert (len(first), list(first.ids), first[0]["id"], first.name) == (1, ["x"], "x", "own")
    assert len(source_of(OmegaConf.create({"source": node, "limit": 3}))) == 2
    for limit in (0, "2"):
        with pytest.raises(GpsweepError, match=f"data.limit={limit}: expected null"):
            source_of(OmegaConf.create({"source": node, "limit": limit}))


def test_the_data_of_ones_own_runs(terminal: Terminal) -> None:
    found = re.search(r"```python\n(# my_data\.py\n.*?)```", README, re.DOTALL)
    assert found
    Path("my_data.py").write_text(found[1], encoding="utf-8")
    terminal.patch.syspath_prepend(str(terminal.folder))
    scans = pictures(terminal.folder, classes=2)
    (scans / "images").rename("scans")
    for mask in (scans / "masks").iterdir():
        mask.rename(f"scans/{mask.stem}_mask.png")
    run = ["data=custom", "data.source={_target_: my_data.Scans, folder: scans}", "eps=1", "model=custom"]
    run += ["model.net={_target_: torch.nn.Conv2d, in_channels: 3, out_channels: 2, kernel_size: 1}"]
    code, out, err = terminal(*run)
    assert code == 0, err
    assert "Conv2d on scans: mIoU base" in out
    assert "5 of 5 points × batches are stored" in terminal(*run)[2]
    assert terminal(*run, "data.limit=2", "hydra.run.dir=two")[::2] == (0, "")
    assert json.loads(Path("two/summary.json").read_text())["samples"] == 2
    Path("tune.txt").write_text("00\n03\n")
    assert terminal(*run, "data.limit=2", "select=half", "data.tune_split=tune.txt")[0] == 0
    Path("scans/02.png").rename("scans/04.png")
    Path("scans/02.png").write_bytes(Path("scans/01.png").read_bytes())
    assert terminal(*run)[::2] == (0, "")
    Path("scans/01.png").write_bytes(Path("scans/00.png").read_bytes())
    assert terminal(*run, "data.limit=2")[::2] == (0, "")  # what has changed is counted anew
    for name in ("03", "00"):
        Path(f"scans/{name}.png").write_text("no picture")
        code, _, err = terminal(*run)
        assert code == 1
        assert f"gpsweep: data: {name} cannot be read: UnidentifiedImageError" in err
