"""Caffe files of both layouts load into their networks; every fault is one message, nothing half-loaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
import torch
from caffefiles import blob, caffemodel, field
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from gpsweep.errors import GpsweepError
from gpsweep.models import caffe
from gpsweep.models.checkpoint import load, restore
from gpsweep.models.crfasrnn import crfasrnn
from gpsweep.models.deeplab import deeplab_v2_resnet101
from gpsweep.models.fcn import FCN8s, FCN32s
from gpsweep.models.largefov import LargeFOV

Layers = dict[str, list[Tensor]]
CLASSES = 3


def drawn(net: nn.Module) -> nn.Module:
    """Fill a network with numbers of its own, running means included."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + (name[-3:] == "var"))
    return net


def as_caffe(net: nn.Module, renamed: dict[str, str] | None = None) -> Layers:
    """What Caffe would have saved of a network whose layers are modules with a weight and a bias."""
    return {
        (renamed or {}).get(name, name): list(module.state_dict().values())
        for name, module in net.named_children()
        if module.state_dict()
    }


def restored(tmp_path: Path, content: bytes, net: nn.Module) -> dict[str, Tensor]:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    restore(net, path)
    return net.state_dict()


def assert_equal(state: dict[str, Tensor], expected: nn.Module) -> None:
    for name, tensor in expected.state_dict().items():
        assert torch.equal(state[name], tensor), name


def assert_refused(tmp_path: Path, content: bytes, says: str, net: nn.Module | None = None) -> None:
    net = net or FCN32s(classes=CLASSES, width=1)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(GpsweepError, match=says) as caught:
        restored(tmp_path, content, net)
    assert str(caught.value).startswith(f"model.checkpoint={tmp_path / 'net.caffemodel'}: ")
    assert "\n" not in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


BUILDERS: dict[str, Callable[[], nn.Module]] = {
    "fcn32s": lambda: FCN32s(classes=CLASSES, width=1),
    "fcn8s": lambda: FCN8s(classes=CLASSES, width=1),
    "largefov": lambda: LargeFOV(classes=CLASSES, width=1),
}


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("name", BUILDERS)
def test_networks_whose_modules_are_named_as_layers(tmp_path: Path, name: str, old: bool) -> None:
    net = drawn(BUILDERS[name]())
    content = caffemodel(as_caffe(net), old=old)
    assert_equal(restored(tmp_path, content, BUILDERS[name]()), net)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("double", [True, False])
def test_numbers_packed_or_not_single_or_double(tmp_path: Path, packed: bool, double: bool) -> None:
    net = drawn(FCN32s(classes=CLASSES, width=1))
    content = caffemodel(as_caffe(net), packed=packed, double=double)
    assert_equal(restored(tmp_path, content, FCN32s(classes=CLASSES, width=1)), net)


OLDER = {
    "score_fr": "score-fr",
    "score_pool3": "score-pool3",
    "score_pool4": "score-pool4",
    "upscore2": "score2",
    "upscore_pool4": "score4",
    "upscore8": "upsample",
}


def test_older_names_of_fcn(tmp_path: Path) -> None:
    net = drawn(FCN8s(classes=CLASSES, width=1))
    content = caffemodel(as_caffe(net, OLDER), old=True)
    assert_equal(restored(tmp_path, content, FCN8s(classes=CLASSES, width=1)), net)


def test_crfasrnn_subtracts_its_pairwise_terms_in_caffe(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return crfasrnn(classes=CLASSES, width=1)

    net = drawn(build())
    layers = as_caffe(net, OLDER)
    crf = layers.pop("crfrnn")
    layers["inference1"] = [weight[None, None] for weight in (crf[0], crf[1], -crf[2])]
    assert_equal(restored(tmp_path, caffemodel(layers), build()), net)


def test_constants_of_the_network_trained_at_once(tmp_path: Path) -> None:
    net = drawn(FCN8s(classes=CLASSES, width=1, at_once=True))
    scales = {"scale_pool3": [torch.full((4,), 1e-4)], "scale_pool4": [torch.full((8,), 1e-2)]}
    content = caffemodel(as_caffe(net) | scales)
    assert_equal(restored(tmp_path, content, FCN8s(classes=CLASSES, width=1, at_once=True)), net)
    assert_refused(
        tmp_path,
        content,
        r"2 unused \(scale_pool3\[0\], scale_pool4\[0\]\)",
        FCN8s(classes=CLASSES, width=1),
    )


RESIDUAL = {
    "layer2.block1.reduce": "2a_branch2a",
    "layer2.block1.conv3x3": "2a_branch2b",
    "layer2.block1.increase": "2a_branch2c",
    "layer2.block1.shortcut": "2a_branch1",
    "layer2.block2.reduce": "2b_branch2a",
    "layer2.block2.conv3x3": "2b_branch2b",
    "layer2.block2.increase": "2b_branch2c",
    "layer3.block1.reduce": "3a_branch2a",
    "layer3.block1.conv3x3": "3a_branch2b",
    "layer3.block1.increase": "3a_branch2c",
    "layer3.block1.shortcut": "3a_branch1",
    "layer4.block1.reduce": "4a_branch2a",
    "layer4.block1.conv3x3": "4a_branch2b",
    "layer4.block1.increase": "4a_branch2c",
    "layer4.block1.shortcut": "4a_branch1",
    "layer4.block2.reduce": "4b1_branch2a",
    "layer4.block2.conv3x3": "4b1_branch2b",
    "layer4.block2.increase": "4b1_branch2c",
    "layer5.block1.reduce": "5a_branch2a",
    "layer5.block1.conv3x3": "5a_branch2b",
    "layer5.block1.increase": "5a_branch2c",
    "layer5.block1.shortcut": "5a_branch1",
}


def resnet() -> nn.Module:
    return deeplab_v2_resnet101(classes=CLASSES, width=4, blocks=(2, 1, 2, 1))


def resnet_as_caffe(net: nn.Module, factor: float) -> Layers:
    """Convolution, BatchNorm with its sums and their weight, and Scale; ASPP; and what the scales repeat."""
    state = {name.removeprefix("base."): tensor for name, tensor in net.state_dict().items()}
    named = {path: (f"res{name}", f"bn{name}", f"scale{name}") for path, name in RESIDUAL.items()}
    named["layer1.conv1"] = ("conv1", "bn_conv1", "scale_conv1")
    layers: Layers = {}
    for path, (conv, norm, scale) in named.items():
        layers[conv] = [state[f"{path}.conv.weight"]]
        sums = [state[f"{path}.bn.running_{kind}"] * factor for kind in ("mean", "var")]
        layers[norm] = [*sums, torch.tensor([factor])]
        layers[scale] = [state[f"{path}.bn.weight"], state[f"{path}.bn.bias"]]
    for k in range(4):
        layers[f"fc1_voc12_c{k}"] = [state[f"aspp.c{k}.weight"], state[f"aspp.c{k}.bias"]]
    return layers | {f"{name}_res{scale}": own for name, own in layers.items() for scale in ("05", "075")}


def test_resnet_with_its_running_sums(tmp_path: Path) -> None:
    net = drawn(resnet())
    state = restored(tmp_path, caffemodel(resnet_as_caffe(net, factor=2)), resnet())
    assert_equal(state, net)


def test_running_sums_of_nothing_are_zero(tmp_path: Path) -> None:
    state = restored(tmp_path, caffemodel(resnet_as_caffe(drawn(resnet()), factor=0)), resnet())
    assert not state["base.layer1.conv1.bn.running_mean"].any()


def test_names_of_the_long_stages() -> None:
    with torch.device("meta"):
        known = deeplab_v2_resnet101(classes=21).caffe_sources()
    named = {layer for source in known.values() for layer in source.layers}
    assert {
        "res2c_branch2c",
        "res3b3_branch2a",
        "res4b22_branch2b",
        "bn4b22_branch2b",
        "res5c_branch2a",
    } <= named
    assert {"bn_conv1", "scale_conv1", "scale3a_branch1", "fc1_voc12_c3"} <= named
    assert len(named) == 3 * 104 + 4, "104 convolutions, each with its two layers of batch norm, and ASPP"


def test_load_names_layer_and_number(tmp_path: Path) -> None:
    (tmp_path / "a.caffemodel").write_bytes(caffemodel({"ip1": [torch.ones(2, 3), torch.zeros(2)]}))
    assert {name: tuple(t.shape) for name, t in load(tmp_path / "a.caffemodel").items()} == {
        "ip1[0]": (2, 3),
        "ip1[1]": (2,),
    }


def test_a_file_may_mix_both_layouts(tmp_path: Path) -> None:
    old, new = caffemodel({"a": [torch.ones(1)]}, old=True), caffemodel({"b": [torch.zeros(2)]})
    (tmp_path / "a.caffemodel").write_bytes(old + new)
    assert set(caffe.read(tmp_path / "a.caffemodel")) == {"a", "b"}


def test_another_network(tmp_path: Path) -> None:
    lenet = {"conv1": [torch.ones(20, 1, 5, 5), torch.ones(20)], "ip2": [torch.ones(10, 500), torch.ones(10)]}
    says = (
        r"its blobs, as layer\[number\], do not fit the network: 33 missing \(conv1_1\[0\], conv1_1\[1\], .* "
        r"… and 28 more\), 4 unused \(conv1\[0\], conv1\[1\], ip2\[0\], ip2\[1\]\)\.$"
    )
    assert_refused(tmp_path, caffemodel(lenet), says)


def test_a_bias_too_many(tmp_path: Path) -> None:
    layers = as_caffe(FCN32s(classes=CLASSES, width=1))
    layers["upscore"].append(torch.zeros(CLASSES))
    assert_refused(tmp_path, caffemodel(layers), r"network: 1 unused \(upscore\[1\]\)")


def test_another_number_of_classes(tmp_path: Path) -> None:
    content = caffemodel(as_caffe(FCN8s(classes=7, width=1)))
    says = r"score_fr\.weight: expected \(3, 64, 1, 1\), came \(7, 64, 1, 1\).* model\.classes=7$"
    assert_refused(tmp_path, content, says, FCN8s(classes=CLASSES, width=1))


def test_other_shapes(tmp_path: Path) -> None:
    layers = as_caffe(FCN32s(classes=CLASSES, width=1))
    layers["conv1_2"][0] = torch.ones(1, 1, 5, 5)
    says = r"1 of its shapes .*conv1_2\.weight: expected \(1, 1, 3, 3\), came \(1, 1, 5, 5\)"
    assert_refused(tmp_path, caffemodel(layers), says)


def test_numbers_that_are_none(tmp_path: Path) -> None:
    layers = as_caffe(FCN32s(classes=CLASSES, width=1))
    layers["fc6"][1] = torch.full((64,), torch.nan)
    assert_refused(tmp_path, caffemodel(layers), r"NaN: fc6\.bias")


def test_a_network_without_a_layout(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    says = r"this network has no Caffe layout \(nothing is known of 1\.weight, 1\.bias, 1\.running_mean … "
    assert_refused(tmp_path, caffemodel({"0": [torch.ones(1)]}), says, net)


def broken_blob(*parts: bytes) -> bytes:
    return field(100, field(1, b"conv1") + field(7, b"".join(parts)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", r"cut short \(0 bytes\)"),
        (b"hello world, this is no protobuf at all\n", "not a .caffemodel file, or cut short"),
        (b"<!doctype html><html></html>", "not a .caffemodel file, or cut short"),
        (b"PK\x03\x04" + bytes(60), "not a .caffemodel file, or cut short"),
        (b"\x89HDF\r\n\x1a\n" + bytes(60), "not a .caffemodel file, or cut short"),
        (bytes(range(256)), "not a .caffemodel file, or cut short"),
        (field(1, b"a name and no more"), "without weights: no layer has blobs"),
        (caffemodel({}), "without weights: no layer has blobs"),
        (
            broken_blob(blob(torch.ones(4)), field(7, field(1, 5))),
            r"layer conv1 has 4 values .* shape \(5,\)",
        ),
        (broken_blob(field(7, field(1, 5))), r"has 0 values for a blob of shape \(5,\)"),
        (broken_blob(field(5, b"abc")), "cut short"),
        (field(100, field(1, b"\xff\xfe") + field(7, blob(torch.ones(1)))), "cut short .*decode"),
        (2 * caffemodel({"a": [torch.ones(1)]}), "two layers are called a"),
        (field(100, field(1, b"a\nb")), "a layer's name is not text"),
        (b"\xff" * 11, "a number of more than ten bytes"),
        (b"\x0b", "wire type 3"),
    ],
)
def test_foreign_and_damaged_files(tmp_path: Path, content: bytes, says: str) -> None:
    assert_refused(tmp_path, content, says)


@cache
def whole(old: bool) -> bytes:
    return caffemodel(as_caffe(FCN32s(classes=CLASSES, width=1)), old=old)


@pytest.mark.parametrize("old", [False, True])
@given(share=st.floats(0, 1, exclude_max=True))
def test_cut_short_anywhere(tmp_path_factory: pytest.TempPathFactory, old: bool, share: float) -> None:
    folder = tmp_path_factory.mktemp("cut", numbered=True)
    cut = whole(old)[: int(share * len(whole(old)))]
    assert_refused(folder, cut, "cut short|missing|no layer has blobs")


@given(content=st.binary(max_size=200))
def test_any_bytes_give_one_message(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    assert_refused(tmp_path_factory.mktemp("any", numbered=True), content, "caffemodel")


def test_unreadable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(caffe, "mmap", refuse)  # root, as tests may run, could read any file
    assert_refused(tmp_path, caffemodel({"a": [torch.ones(1)]}), r"cannot be read: Permission denied\.")


def test_neighbours_of_a_missing_file_are_offered(tmp_path: Path) -> None:
    (tmp_path / "fcn.caffemodel").write_bytes(b"x")
    with pytest.raises(GpsweepError, match=r"no such file\. Did you mean fcn\.caffemodel"):
        restore(nn.Conv2d(1, 1, 1), tmp_path / "fnc.caffemodel")


def sizes(tensors: Sequence[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(tensor.shape) for tensor in tensors]


def test_extents_of_old_blobs_are_kept_where_they_are_meant(tmp_path: Path) -> None:
    (tmp_path / "a.caffemodel").write_bytes(
        caffemodel({"a": [torch.ones(1, 1, 2, 3), torch.ones(4)]}, old=True)
    )
    assert sizes(caffe.read(tmp_path / "a.caffemodel")["a"]) == [(1, 1, 2, 3), (1, 1, 1, 4)]
