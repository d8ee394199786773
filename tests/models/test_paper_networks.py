"""The paper's networks through the real command, weights in the published formats, and one at full size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from caffefiles import caffemodel
from commands import Terminal, pictures
from omegaconf import OmegaConf
from torch import nn

from gpsweep.models.crfasrnn import crfasrnn
from gpsweep.models.deeplab import deeplab_v2_resnet101
from gpsweep.models.fcn import FCN8s, FCN32s
from gpsweep.models.largefov import LargeFOV

CLASSES = 5
THIN = {"width": 1}
NETWORKS: dict[str, tuple[Callable[..., nn.Module], dict[str, object], str]] = {
    "fcn32s": (FCN32s, THIN, "input,pool4,score"),
    "fcn8s": (FCN8s, THIN, "input,pool2,fc6"),
    "crfasrnn": (crfasrnn, {"canvas": 24, "iterations": 2, **THIN}, "input,pool3,score"),
    "deeplab_largefov": (LargeFOV, {"canvas": 17, **THIN}, "input,pool5,fc7"),
    "deeplab_v2_resnet101": (deeplab_v2_resnet101, {"width": 4, "blocks": [1, 1, 1, 1]}, "input,pool1@1"),
}


def sweep(terminal: Terminal, name: str, checkpoint: Path, *more: str) -> list[str]:
    """Sweep two ε at some layers; the lines of the results."""
    data = pictures(terminal.folder / "data", 3, CLASSES)
    code, _, err = terminal(
        "-m",
        "eps=-1,1",
        f"model={name}",
        f"model.checkpoint={checkpoint}",
        "data=folder",
        f"data.root={data}",
        "data.images=images",
        "data.masks=masks",
        f"data.classes={CLASSES}",
        "data.void=255",
        f"model.classes={CLASSES}",
        *more,
    )
    assert (code, err) == (0, "")
    (results,) = terminal.results()
    return results.read_text().splitlines()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_command_with_a_state_dict(terminal: Terminal, name: str) -> None:
    build, options, layers = NETWORKS[name]
    torch.manual_seed(0)
    torch.save(build(classes=CLASSES, **options).state_dict(), terminal.folder / "net.pth")
    given = [f"model.{key}={value}".replace(" ", "") for key, value in options.items()]
    lines = sweep(terminal, name, terminal.folder / "net.pth", f"layer={layers}", *given)
    assert len(lines) == 1 + 2 * len(layers.split(","))


def test_the_command_with_a_caffe_file(terminal: Terminal) -> None:
    torch.manual_seed(0)
    net = FCN8s(classes=CLASSES, width=1)
    layers = {name: list(module.state_dict().values()) for name, module in net.named_children()}
    path = terminal.folder / "net.caffemodel"
    path.write_bytes(caffemodel({name: own for name, own in layers.items() if own}, old=True))
    assert len(sweep(terminal, "fcn8s", path, "model.width=1")) > 2


def test_another_network_is_one_message(terminal: Terminal) -> None:
    path = terminal.folder / "lenet.caffemodel"
    path.write_bytes(caffemodel({"ip1": [torch.ones(2, 3)]}))
    code, _, err = terminal("model=fcn32s", "model.width=1", f"model.checkpoint={path}")
    assert code != 0
    assert "do not fit the network: 33 missing" in err
    assert "Traceback" not in err
    assert not terminal.results()


def test_weights_that_are_not_there_are_one_message(terminal: Terminal) -> None:
    code, _, err = terminal("model=crfasrnn", "model.width=1")
    assert code != 0
    assert (
        "model.checkpoint=weights/crfasrnn_weights.pth: no such file. It is published at https://github"
        in err
    )


@pytest.mark.slow
def test_full_size(terminal: Terminal) -> None:
    """134 million weights, as published, written and read once."""
    with torch.device("meta"):
        net = FCN8s(classes=21)
    generator = torch.Generator().manual_seed(0)
    state = {
        name: 0.01 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in net.state_dict().items()
    }
    torch.save(state, terminal.folder / "fcn8s_from_caffe.pth")
    del state
    path = terminal.folder / "fcn8s_from_caffe.pth"
    assert path.stat().st_size > 500e6
    lines = sweep(
        terminal, "fcn8s", path, "model.classes=21", "data.classes=21", "data.limit=1", "layer=input"
    )
    assert len(lines) > 2


def test_the_feature_layer_of_each_classifier_is_named() -> None:
    conf = Path(__file__).resolve().parents[2] / "conf" / "model"
    for name in ("mnist", "cifar"):
        assert OmegaConf.load(conf / f"{name}.yaml").features == "features"
