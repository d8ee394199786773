"""Damaged or foreign files of every kind: one message that names the key, and nothing is kept."""

from __future__ import annotations

import gzip
import io
import re
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from caffefiles import caffemodel
from commands import SET, Terminal, pictures
from PIL import Image
from safetensors.torch import save_file
from scipy.io import savemat
from torch import nn

from gpsweep.data import context59
from gpsweep.models.fcn import FCN8s

CUT = 0.6  # of a file is left


def cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(CUT * len(content))])


def refused(terminal: Terminal, *arguments: str) -> str:
    """Run a command that must fail early, and return its one message."""
    code, out, err = terminal(*arguments)
    assert code != 0
    assert "Traceback" not in out + err
    assert not terminal.results()
    assert not [*terminal.folder.glob("outputs/store/**/*.counts")]
    [message] = [line for line in err.splitlines() if line.startswith("gpsweep: ")]
    return message


def cifar_archive(folder: Path) -> list[str]:
    with tarfile.open(folder / "cifar-10-python.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("cifar-10-batches-py/test_batch")
        content = np.random.default_rng(0).bytes(50_000)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    cut(folder / "cifar-10-python.tar.gz")
    return ["data=cifar10", "model=cifar", "model.checkpoint=null"]


def cifar_of_other_classes(folder: Path) -> list[str]:
    place = folder / "cifar-10-batches-bin"
    place.mkdir()
    (place / "test_batch.bin").write_bytes(bytes([77]) + bytes(3072) + bytes(9999 * 3073))
    return ["data=cifar10", "model=cifar", "model.checkpoint=null"]


def mnist(folder: Path, magic: int, name: str = "") -> list[str]:
    images = struct.pack(">4I", magic, 2, 28, 28) + bytes(2 * 784)
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">2I", 2049, 2) + bytes(2))
    if name:
        cut(folder / name)
    return ["data=mnist", "model=mnist", "model.checkpoint=null"]


def context_label_map(folder: Path) -> list[str]:
    names = [f"label{number}" for number in range(459)]
    for number, name in enumerate(context59.CLASSES):
        names[number] = context59.CALLED.get(name, name)
    (folder / "labels.txt").write_text("\n".join(f"{n}: {name}" for n, name in enumerate(names, 1)))
    for part in ("images", "trainval"):
        (folder / part).mkdir()
    Image.new("RGB", (9, 8)).save(folder / "images" / "2008_000001.jpg")
    path = folder / "trainval" / "2008_000001.mat"
    savemat(path, {"LabelMap": np.random.default_rng(0).integers(1, 459, (8, 9)).astype(np.uint16)})
    cut(path)
    places = ["data.images=images", "data.masks=trainval", "data.split=null"]
    return ["data=context59", *places, "model=scenes", "model.checkpoint=null"]


def mask(folder: Path) -> list[str]:
    base = folder / "VOCdevkit" / "VOC2012"
    for name in ("JPEGImages/2007_000001.jpg", "SegmentationClass/2007_000001.png"):
        (base / name).parent.mkdir(parents=True)
        Image.new("L", (30, 20)).save(base / name)
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    (base / "ImageSets" / "Segmentation" / "val.txt").write_text("2007_000001\n")
    cut(base / "SegmentationClass" / "2007_000001.png")
    return ["data=voc", "model=scenes", "model.checkpoint=null"]


def list_that_is_no_text(folder: Path) -> list[str]:
    mask(folder)
    (folder / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_bytes(b"\xff\xfe\x00\x01")
    return ["data=voc", "model=scenes", "model.checkpoint=null"]


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (cifar_archive, r"data\.root: .*cifar-10-python\.tar\.gz cannot be read"),
        (cifar_of_other_classes, r"data\.root: .*test_batch\.bin holds the label 77; expected 0–9"),
        (lambda folder: mnist(folder, 1234), r"begins with the magic number 1234; expected 2051"),
        (
            lambda folder: mnist(folder, 2051, "t10k-images-idx3-ubyte.gz"),
            r"data\.root: .*t10k-images-idx3-ubyte\.gz cannot be read",
        ),
        (
            lambda folder: mnist(folder, 2051, "t10k-labels-idx1-ubyte"),
            r"data\.root: .*t10k-labels-idx1-ubyte is cut short: 6 bytes",
        ),
        (context_label_map, r"data\.masks: .*2008_000001\.mat"),
        (mask, r"data\.root: .*2007_000001\.png"),
        (list_that_is_no_text, r"data\.split: list file .*val\.txt cannot be read as text"),
    ],
)
def test_data(terminal: Terminal, write: Callable[[Path], list[str]], says: str) -> None:
    root = terminal.folder / "root"
    root.mkdir()
    message = refused(terminal, *write(root), f"data.root={root}")
    assert re.search(says, message), message


def thin(classes: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return FCN8s(classes=classes, width=1)


def caffe(net: nn.Module) -> bytes:
    layers = {name: list(module.state_dict().values()) for name, module in net.named_children()}
    return caffemodel({name: own for name, own in layers.items() if own}, old=True)


def zipped(net: nn.Module) -> bytes:
    stream = io.BytesIO()
    torch.save(net.state_dict(), stream)
    return stream.getvalue()


def safe(net: nn.Module, folder: Path) -> bytes:
    save_file(net.state_dict(), folder / "whole.safetensors")
    return (folder / "whole.safetensors").read_bytes()


@pytest.mark.parametrize("ending", [".pth", ".safetensors", ".caffemodel"])
@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda write: write(thin())[:3000], "not a {ending} "),
        (lambda write: b"\x00\x01 another kind of file" * 50, "not a {ending} "),
        (lambda write: write(thin(classes=9)), "of its shapes do not fit the network"),
        (lambda write: write(nn.Sequential(nn.Conv2d(3, 4, 1))), "do not fit the network: "),
    ],
    ids=["cut short", "wrong magic", "other classes", "another network"],
)
def test_weights(
    terminal: Terminal, ending: str, damage: Callable[[Callable[[nn.Module], bytes]], bytes], says: str
) -> None:
    pictures(terminal.folder)
    path = terminal.folder / f"net{ending}"
    writers = {".caffemodel": caffe, ".pth": zipped, ".safetensors": lambda net: safe(net, terminal.folder)}
    path.write_bytes(damage(writers[ending]))
    network = ["model=fcn8s", "model.width=1", "model.classes=5", f"model.checkpoint={path}"]
    message = refused(terminal, *SET, *network)
    assert message.startswith(f"gpsweep: model.checkpoint={path}: ")
    assert says.format(ending=ending) in message
