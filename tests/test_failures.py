"""Where a network fails, the message says on what; the memory format is one that it bears."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import SET, Terminal, pictures
from networks import CLASSES
from PIL import Image
from torch import Tensor, nn

from gpsweep.data.base import Source
from gpsweep.failures import in_a_format_it_bears
from gpsweep.layers.__main__ import main as list_layers
from gpsweep.models.pixels import PixelNet
from gpsweep.prepare import check_logits, check_statistics

NETS = f"""
import torch
from torch import nn
from torch.nn import functional as F

class Skip(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.head = nn.Conv2d(3, 4, 3, stride=4, padding=1), nn.Conv2d(7, {CLASSES}, 1)
    def forward(self, x):
        return self.head(torch.cat([x, F.interpolate(self.down(x), scale_factor=4)], 1))

class Alone(nn.Conv2d):
    def __init__(self):
        super().__init__(3, {CLASSES}, 1)
    def forward(self, x):
        assert len(x) == 1, "one image, please"
        return super().forward(x)

class Asking(Alone):
    def forward(self, x, mask):
        return super().forward(x * mask)

class Viewed(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, {CLASSES}, 1)
    def forward(self, x):
        y = self.body(x)
        return self.head(y.view(y.size(0), -1).view(y.shape))

class Noisy(nn.Conv2d):
    def forward(self, x):
        return super().forward(F.dropout(x, 0.1, training=True))

class Keeping(nn.Conv2d):
    before = 0
    def forward(self, x):
        x, self.before = x + self.before, x.detach() / 2
        return super().forward(x)

def keeping():
    return Keeping(3, {CLASSES}, 1)

def noisy():
    return Noisy(3, {CLASSES}, 1)

def classifier():
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""


@pytest.fixture
def nets(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal whose ``failing_nets`` hold networks of the user's own."""
    (terminal.folder / "failing_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(terminal.folder)
    return terminal


def picture(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 7, np.uint8)).save(path)


def test_a_network_that_fails_on_a_later_image(nets: Terminal) -> None:
    pictures(nets.folder, count=3)
    picture(nets.folder / "images" / "02.png", 13, 16)
    Image.fromarray(np.zeros((13, 16), np.uint8)).save(nets.folder / "masks" / "02.png")
    run = [*SET, "model=custom", "model.net=failing_nets.Skip", "data.batch_size=1", "eps=1"]
    code, _, err = nets(*run)
    assert code == 1
    assert "Traceback" not in err
    assert "model: the network fails in batch 2 at 13 × 16 pixels (02): RuntimeError: Sizes of tensors" in err
    assert "if it wants sides that 32 divides: model.divisor=32" in err
    assert nets(*run, "model.divisor=4")[0] == 0


def test_a_network_that_takes_one_image_at_a_time(nets: Terminal) -> None:
    pictures(nets.folder)
    run = [*SET, "model=custom", "model.net=failing_nets.Alone", "eps=1"]
    code, _, err = nets(*run, "data.batch_size=2")
    assert code == 1
    assert "(00, 01): AssertionError: one image, please" in err
    assert "if it takes one image at a time: data.batch_size=1" in err
    assert nets(*run, "data.batch_size=1")[::2] == (0, "")


def test_no_size_cures_a_mistake_in_a_network(nets: Terminal) -> None:
    pictures(nets.folder)
    code, _, err = nets(*SET, "model=custom", "model.net=failing_nets.Asking", "eps=1", "data.batch_size=2")
    assert code == 1
    assert "missing 1 required positional argument: 'mask'\n" in err


def test_a_fault_that_is_not_the_networks_is_not_called_so(
    nets: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("of our own")

    pictures(nets.folder)
    monkeypatch.setattr("gpsweep.counting.Tally.of", fail)
    code, _, err = nets(*SET, "model=custom", "model.net=failing_nets.Skip", "model.divisor=4", "eps=1")
    assert code != 0
    assert "of our own" in err
    assert "the network fails" not in err


def test_a_worker_that_dies_is_not_the_networks_failure(nets: Terminal) -> None:
    """PyTorch raises it from a signal handler, in the midst of a pass as likely as anywhere."""
    from failing_nets import Skip

    def die(*args: object) -> None:
        if next(passes) == 9:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")

    passes = count()
    pictures(nets.folder)
    nets.patch.setattr(Skip, "__call__", lambda net, x: die() or nn.Module.__call__(net, x))
    run = ["model=custom", "model.net=failing_nets.Skip", "model.divisor=4"]
    code, _, err = nets("-m", *SET, *run, "eps=range(-1,1,0.1)")
    assert code == 1
    assert "data.workers=0: a worker process has died" in err
    assert "the network fails" not in err


def test_a_classifier_on_images_of_several_sizes(nets: Terminal) -> None:
    for name in ("a", "b"):
        picture(nets.folder / "photos" / name / "1.png", 12, 12)
        picture(nets.folder / "photos" / name / "2.png", 12, 18)
    run = ["data=folder", "data.images=photos", "model=custom", "model.net=failing_nets.classifier", "eps=1"]
    with pytest.warns(UserWarning, match=r"images of several sizes .* what a classifier predicts"):
        nets(*run)
    for cure in ("data.size=12", "data.batch_size=1"):
        code, _, err = nets(*run, cure)
        assert (code, err) == (0, "")


def test_padding_is_told_of_once_in_segmentation_as_well(nets: Terminal) -> None:
    pictures(nets.folder, count=6, sizes=((12, 16), (8, 16)))
    run = [*SET, "model=custom", "model.net=failing_nets.Skip", "eps=1"]
    with pytest.warns(UserWarning) as told:
        assert nets(*run, "data.batch_size=2")[0] == 0
    assert ["what a network sees at their border" in str(each.message) for each in told] == [True]
    assert nets(*run, "data.batch_size=1")[::2] == (0, "")


def test_a_network_that_predicts_by_chance_is_told_of(nets: Terminal) -> None:
    pictures(nets.folder)
    run = [*SET, "model=custom", "model.net=failing_nets.noisy", "eps=1"]
    with pytest.warns(UserWarning, match="model: the network draws random numbers in a forward pass"):
        assert nets(*run)[0] == 0


def test_a_network_that_keeps_what_it_has_seen_is_told_of(nets: Terminal) -> None:
    pictures(nets.folder)
    run = [*SET, "model=custom", "model.net=failing_nets.keeping", "data.batch_size=1", "eps=1"]
    with pytest.warns(UserWarning, match="model: the network predicts otherwise after another image"):
        assert nets(*run)[0] == 0


def test_layers_are_listed_of_a_network_that_wants_contiguous_memory(
    nets: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(nets.folder)
    with pytest.warns(UserWarning, match="contiguous activations"):
        assert list_layers([*SET, "model=custom", "model.net=failing_nets.Viewed"]) == 0
    assert "body" in capsys.readouterr().out
    viewed = [*SET, "model=custom", "model.net=failing_nets.Viewed", "memory_format=contiguous"]
    assert list_layers(viewed) == 0
    capsys.readouterr()
    assert list_layers([*SET, "model=custom", "model.net=failing_nets.Skip", "data.size=[9,9]"]) == 1
    assert "model: the network fails on the first sample at 9 × 9 pixels" in capsys.readouterr().err


def test_layers_of_files_of_the_user_s_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "model" / "own.yaml"
    own.parent.mkdir()
    own.write_text("label: argmax\n")
    asked = [f"hydra.searchpath=[file://{tmp_path}]", "model=own", "data.limit=1"]
    assert list_layers(asked) == 1
    assert "gpsweep: model=own: expected a file that builds on gpsweep's own" in capsys.readouterr().err
    own.write_text("defaults: [scenes, _self_]\n")
    assert list_layers(asked) == 0
    assert "stages.0" in capsys.readouterr().out
    assert list_layers([f"--config-dir={tmp_path}", "model=own"]) == 1
    assert "expected KEY=VALUE; a folder of files of your own is hydra.searchpath" in capsys.readouterr().err


def test_layers_are_listed_without_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_layers(["model=mnist", "model.checkpoint=nowhere.pt", "data=scenes", "data.limit=1"]) == 1
    assert "nowhere" not in capsys.readouterr().err, "these data are not the network's, which is all"
    assert list_layers(["model=camvid", "model.checkpoint=nowhere.pt", "data=scenes", "data.limit=1"]) == 0
    assert "stages.0" in capsys.readouterr().out


def test_the_format_that_is_asked_for_and_borne() -> None:
    net, seen = nn.Conv2d(3, 4, 3), []
    for asked in ("contiguous", "channels_last"):
        result, borne = in_a_format_it_bears(net, asked, lambda format: seen.append(format) or 5)
        assert (result, borne, seen[-1]) == (5, asked, asked)
    assert net.weight.is_contiguous(memory_format=torch.channels_last)


class Three(Source):
    name, task, classes, ids = "three", "segmentation", ("a", "b", "c"), ("one",)


def test_a_probability_is_no_logit() -> None:
    class Two(Three):
        classes = ("a", "b")

    logit = torch.randn(1, 1, 4, 5, generator=torch.Generator().manual_seed(0))
    check_logits(torch.cat([torch.zeros_like(logit), logit], 1), Two(), torch.zeros(1, 3, 4, 5))
    with pytest.warns(UserWarning, match=r"^model\.sigmoid=true: the network seems to return probabilities"):
        check_logits(torch.cat([torch.zeros_like(logit), logit.sigmoid()], 1), Two(), torch.zeros(1, 3, 4, 5))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda z: z.softmax(1), "seems to return probabilities, .* take its softmax away"),
        (lambda z: (4 * z).sigmoid(), "seems to return probabilities, .* take its sigmoid away"),
        (lambda z: (4 * z).sigmoid() * 1.01, None),
        (lambda z: z.clamp(0, 0.9), None),
        (
            lambda z: torch.cat([z, z], 1),
            r"of the network's 6 channels the first 3 stand for .* data=three",
        ),
        (lambda z: torch.cat([z, z[:, :1]], 1), None),
        (lambda z: z.abs(), None),
        (lambda z: z.log_softmax(1), None),
    ],
)
def test_what_is_odd_about_logits_is_said(
    make: object, says: str | None, recwarn: pytest.WarningsRecorder
) -> None:
    z: Tensor = make(torch.randn(1, 3, 4, 5, generator=torch.Generator().manual_seed(0)))  # type: ignore[operator]
    if says is None:
        check_logits(z, Three(), torch.zeros(1, 3, 4, 5))
    else:
        with pytest.warns(UserWarning, match=says):
            check_logits(z, Three(), torch.zeros(1, 3, 4, 5))
    assert not list(recwarn)


GREY_LEVELS = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
UNIT = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


@pytest.mark.parametrize(
    ("statistics", "says"),
    [
        (GREY_LEVELS, r"model\.mean, .* become -2\.118 … -1\.787; expected model\.scale=1 with"),
        (UNIT | {"scale": 1}, r"become -2\.118 … 1136; expected .* and 1/255 with"),
        ({"mean": 0.5, "std": 0.5, "scale": 1}, r"become -1 … 509; expected .* and 1/255 with"),
        ({"mean": 0, "std": 255}, r"become 0 … 0\.003922"),
        (GREY_LEVELS | {"scale": 1}, None),
        (UNIT, None),
        ({"mean": 0.5, "std": 0.5, "channels": "L"}, None),
        ({"mean": 1, "std": 1}, None),
        ({"mean": [104.007, 116.669, 122.679], "scale": 1, "channels": "BGR"}, None),
        ({"mean": [0.48235, 0.45882, 0.40784], "std": 1 / 255}, None),
        ({"mean": 1, "scale": -1 / 255}, r"become -2 … -1;"),
        ({"mean": -1, "scale": -1 / 255}, None),
    ],
)
def test_statistics_of_another_unit_are_said(
    statistics: dict[str, Any], says: str | None, recwarn: pytest.WarningsRecorder
) -> None:
    net = PixelNet(nn.Conv2d(1, 2, 1), **statistics)
    if says is None:
        check_statistics(net)
    else:
        with pytest.warns(UserWarning, match=says):
            check_statistics(net)
    assert not list(recwarn)
