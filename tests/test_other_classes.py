"""A network trained on other classes than the data has: guided by its own, judged by the data's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import NET, VARIED, Terminal, pictures
from networks import build
from PIL import Image

from gpsweep import results
from gpsweep.engine import curve
from gpsweep.report.__main__ import main as report
from gpsweep.results.outcome import Outcome
from gpsweep.store import Store

SET = ["data=folder", "data.images=images", "data.masks=masks", "data.classes=[sky,road]", "data.void=255"]
SMALL = [*SET, *NET, *VARIED, "data.batch_size=2"]
MAP = [0, 1, 0, -1, 1]
MAPPED = "model.class_map={0: sky, 1: road, 2: 0, 3: null, 4: road}"


def outcome(terminal: Terminal, *arguments: str) -> Outcome:
    code, _, err = terminal(*SMALL, *arguments, "hydra.run.dir=run")
    assert code == 0, err
    return results.read(terminal.folder / "run")


def by_hand(folder: Path, number: int, **setting: float | str) -> list[list[int]]:
    """Count one image at one point, the classes of the network merged after the prediction."""
    image = np.array(Image.open(folder / "images" / f"{number:02d}.png"))
    mask = np.array(Image.open(folder / "masks" / f"{number:02d}.png"))
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    truth = torch.from_numpy(mask).long()[None]
    [(_, z)] = curve(build("residual"), x, target=truth, class_map=MAP, **setting)  # type: ignore[arg-type]
    claim = np.array(MAP)[z.argmax(1)[0].numpy()]
    return [
        [
            int(((mask == c) & (claim == c)).sum()),
            int(((mask != c) & (mask != 255) & (claim == c)).sum()),
            int(((mask == c) & (claim != c)).sum()),
        ]
        for c in (0, 1)
    ]


def test_counts_are_those_of_merging_by_hand(terminal: Terminal) -> None:
    pictures(terminal.folder, classes=2)
    labels = "label=[argmax,uniform,ground_truth]"
    found = outcome(terminal, MAPPED, "eps=[-4,4]", labels, "data.batch_size=1")
    assert found.classes == ("sky", "road")
    for number in range(5):
        assert found.base[number].tolist() == by_hand(terminal.folder, number, eps=0.0)
        for point, counts in zip(found.points, found.counts, strict=True):
            setting = {"eps": point.eps, "label": point.label}
            assert counts[number].tolist() == by_hand(terminal.folder, number, **setting)
    changed = [
        p.label for p, counts in zip(found.points, found.counts, strict=True) if (counts != found.base).any()
    ]
    assert {"argmax", "ground_truth"} <= {*changed}


SIGMOID = """
from torch import cat, manual_seed, nn, zeros_like

class One(nn.Sequential):
    def __init__(self):
        manual_seed(0)
        super().__init__(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))

class Two(One):
    def forward(self, x):
        z = super().forward(x)
        return cat([zeros_like(z), z], 1)
"""


def test_a_sigmoid_counts_as_two_classes(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures(terminal.folder, classes=2)
    name = f"sigmoid_{terminal.folder.name}"
    (terminal.folder / f"{name}.py").write_text(SIGMOID)
    monkeypatch.syspath_prepend(str(terminal.folder))
    grid = ["eps=[-8,0.5,8]", "label=[argmax,uniform,top2,ground_truth]", "layer=[input,'0']"]
    found = []
    for net in (f"model.net={name}.One model.sigmoid=true", f"model.net={name}.Two"):
        code, _, err = terminal(*SET, "model=custom", *net.split(), *grid, "hydra.run.dir=run")
        assert code == 0, err
        found.append(results.read(terminal.folder / "run"))
    one, two = found
    np.testing.assert_array_equal(one.base, two.base)
    np.testing.assert_array_equal(one.counts, two.counts)
    assert (np.asarray(one.counts) != one.base).any()


def test_a_map_is_part_of_what_is_stored_and_read_again(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(terminal.folder, classes=2)
    twelve = "{" + ", ".join(f"{number}: {number % 2}" for number in range(12)) + "}"
    wide = ["model.net={_target_: torch.nn.Conv2d, in_channels: 3, out_channels: 12, kernel_size: 1}"]
    mapped = [*SET, "model=custom", *wide, f"model.class_map={twelve}", "shards=2", "data.batch_size=2"]
    for shard in (0, 1):
        code, _, err = terminal(*mapped, f"shard={shard}", f"hydra.run.dir=shard{shard}")
        assert code == 0, err
    other = f"model.class_map={twelve.replace('11: 1', '11: 0')}"
    assert terminal(*mapped, other)[0] == 0
    folders = sorted(Path("outputs/store").glob("*/"))
    assert len(folders) == 2
    for folder in folders:
        assert Store.at(folder).identity["model"]["settings"]["class_map"]["11"] in (0, 1)
    assert report(["shard0"]) == 0
    capsys.readouterr()


def test_classes_that_nothing_stands_for_are_named(terminal: Terminal) -> None:
    pictures(terminal.folder, classes=2)
    lonely = "model.class_map={0: sky, 1: null, 2: sky, 3: null, 4: null}"
    with pytest.warns(UserWarning, match=r"model\.class_map: no class of the network stands for road"):
        found = outcome(terminal, lonely, "eps=1")
    assert found.base[:, 1, :2].sum() == 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.class_map={0: raod}", "model.class_map.0=raod: unknown. Did you mean road?"),
        ("model.class_map={0: sky}", "model.class_map: expected a class for each of the network's 5 output"),
        ("+class_map=cityscapes_camvid", "model.class_map.0=Road: unknown. Did you mean road?"),
        (
            "+class_map=cityscapes_camvit",
            "class_map=cityscapes_camvit: unknown. Did you mean cityscapes_camvid?",
        ),
    ],
)
def test_mistakes(terminal: Terminal, override: str, message: str) -> None:
    pictures(terminal.folder, classes=2)
    code, _, err = terminal(*SMALL, override)
    assert code != 0
    assert message in err.replace("\n", " ")
    assert not terminal.results()


@pytest.mark.data
@pytest.mark.filterwarnings("ignore:model.checkpoint=null")
def test_a_network_of_cityscapes_classes_on_camvid(
    terminal: Terminal, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPSWEEP_DATA", str(data_root.resolve()))
    camvid = ["data=camvid", "data.limit=2", "data.size=[90,120]", "+class_map=cityscapes_camvid"]
    random = ["model=scenes", "model.checkpoint=null", "eps=[-1,0,1]", "label=[argmax,ground_truth]"]
    code, out, err = terminal(*camvid, *random, "hydra.run.dir=run")
    assert code == 0, err
    assert "mIoU" in out
    found = results.read(terminal.folder / "run")
    assert len(found.classes) == 11
    assert "classes: 19" in str(found.info["config"])
