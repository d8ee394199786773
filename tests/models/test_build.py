"""From the ``model`` group to a network: custom targets, classes, hashes of weights, messages of failures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import nn

from gpsweep.config import register
from gpsweep.errors import GpsweepError
from gpsweep.models.build import build, sha256
from gpsweep.models.checkpoint import restore
from gpsweep.models.pixels import PixelNet

CONF = Path(__file__).resolve().parents[2] / "conf"

NETS = """
import torch

def good(classes=4, width=3):
    assert isinstance(width, int)
    return torch.nn.Sequential(torch.nn.Conv2d(3, width, 1), torch.nn.Conv2d(width, classes, 1))

def listed(widths):
    assert type(widths) is list
    return torch.nn.Conv2d(3, widths[0], 1)

def nested(inner):
    return torch.nn.Sequential(inner)

def half():
    return good().half()

def bfloat16():
    return good().bfloat16()

def double():
    return good().double()

def lazy():
    return torch.nn.Sequential(torch.nn.LazyConv2d(3, 1), torch.nn.LazyBatchNorm2d())

def meta():
    with torch.device("meta"):
        return good()

def number():
    return 3

def broken():
    raise RuntimeError("no such\\nluck")

def trained():
    net = good()
    net.pretrained_cfg = {"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.5, 0.5)}
    return net
"""


def group(name: str, *overrides: str) -> DictConfig:
    """Compose one file of conf/model as it stands at ``model`` in the configuration."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg: DictConfig = compose(overrides=[f"+model={name}", *overrides]).model
    return cfg


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module on the path; its name."""
    name = f"nets_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_a_users_network_by_its_dotted_name(nets: str) -> None:
    net = build(group("custom", f"model.net={nets}.good"), classes=4)
    assert isinstance(net, PixelNet)
    assert net(torch.rand(1, 3, 6, 5)).shape == (1, 4, 6, 5)
    assert not net.training and not net.net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert net.layer_aliases == {"0": "net.0", "1": "net.1"}


def test_a_users_network_with_arguments(nets: str) -> None:
    cfg = group("custom", f"model.net={{_target_: {nets}.good, width: 8, classes: '${{model.classes}}'}}")
    assert build(cfg, classes=6).net[1].weight.shape == (6, 8, 1, 1)
    assert cfg.classes == 6


@pytest.mark.parametrize(
    ("overrides", "name"),
    [
        (["custom"], "custom"),
        (["custom", "model.net=my_nets.unet"], "unet"),
        (["custom", "model.net={_target_: nets.my.Unet, width: 8}"], "Unet"),
        (["custom", "model.net=nets.unet", "model.checkpoint=runs/7/best.ckpt"], "unet-best"),
        (["custom", "model.net=nets.unet", "model.checkpoint=a.safetensors.index.json"], "unet-a"),
        (["custom", "model.net=nets.unet", "model.checkpoint='epoch=3-f1=0.6.ckpt'"], "unet-epoch=3-f1=0.6"),
        (["custom", "model.net=nets.unet", "model.checkpoint=best.ckpt", "model.name=mine"], "mine"),
        (["smp", "model.checkpoint=fold1.pt"], "smp-Unet-resnet18-fold1"),
        (["torchvision", "model.arch=fcn_resnet50"], "torchvision-fcn_resnet50"),
        (["timm", "model.arch=resnet50.a1_in1k", "model.checkpoint=x.pt"], "timm-resnet50.a1_in1k-x"),
    ],
)
def test_a_name_tells_which_network_it_was(overrides: list[str], name: str) -> None:
    register()
    assert group(*overrides).name == name


def test_a_target_alone_can_be_added(nets: str) -> None:
    assert build(group("custom", f"+model.net._target_={nets}.good"), classes=4).net[1].out_channels == 4


def test_classes_that_are_given_stay(nets: str) -> None:
    cfg = group(
        "custom", f"model.net={{_target_: {nets}.good, classes: '${{model.classes}}'}}", "model.classes=12"
    )
    assert build(cfg, classes=11).net[1].out_channels == 12


def test_a_network_for_a_sigmoid_has_one_channel() -> None:
    cfg = group("smp", "model.sigmoid=true")
    net = build(cfg, classes=2)
    assert cfg.classes == 1
    assert net(torch.rand(1, 3, 40, 33)).shape == (1, 2, 40, 33)
    with pytest.raises(GpsweepError, match=r"^model\.sigmoid=yes please: expected true or false"):
        build(group("smp", "model.sigmoid='yes please'"), classes=2)


def test_a_configuration_that_is_read_only_is_filled_in(nets: str) -> None:
    cfg = group("custom", f"model.net={nets}.good")
    OmegaConf.set_readonly(cfg, True)
    build(cfg, classes=4)
    assert cfg.classes == 4 and OmegaConf.is_readonly(cfg)


def test_lists_and_nested_targets(nets: str) -> None:
    cfg = group(
        "custom", f"model.net={{_target_: {nets}.nested, inner: {{_target_: {nets}.listed, widths: [5]}}}}"
    )
    assert build(cfg, classes=5).net[0].out_channels == 5


def test_the_group_reaches_the_wrapper(nets: str) -> None:
    changes = ["mean=[1,2,3]", "std=[4,5,6]", "scale=1", "channels=BGR", "output=logits", "divisor=8"]
    cfg = group(
        "custom", f"model.net={nets}.good", *(f"model.{change}" for change in changes), "+model.aliases.top=1"
    )
    net = build(cfg, classes=4)
    assert (net.preprocess.channels, net.output, net.preprocess.divisor) == ("BGR", "logits", 8)
    assert net.layer_aliases["top"] == "net.1"
    torch.testing.assert_close(net.preprocess.bias.flatten(), torch.tensor([-1 / 4, -2 / 5, -3 / 6]))
    torch.testing.assert_close(net.preprocess.gain.flatten(), torch.tensor([1 / 4, 1 / 5, 1 / 6]))


def test_null_statistics_are_the_networks_own(nets: str) -> None:
    cfg = group("custom", f"model.net={nets}.trained", "model.mean=null", "model.std=null")
    torch.testing.assert_close(
        build(cfg, classes=4).preprocess.bias.flatten(), torch.tensor([-0.2, -0.4, -0.6])
    )


@pytest.mark.parametrize("dtype", ["half", "bfloat16", "double"])
def test_networks_compute_in_32_bits(nets: str, dtype: str) -> None:
    net = build(group("custom", f"model.net={nets}.{dtype}"), classes=4)
    assert net(torch.rand(1, 3, 4, 5)).dtype == torch.float32


@pytest.mark.parametrize("at_once", ["true", "false"])
def test_weights_of_the_network_s_other_variant(tmp_path: Path, at_once: str) -> None:
    """The keys of both variants are the same."""
    cfg = group("fcn8s", "model.net.width=1", f"model.at_once={at_once}")
    other, own = ("fcn8s_from_caffe.pth", "fcn8s-atonce_from_caffe.pth")[:: 1 if at_once == "true" else -1]
    for name in (other, own):
        torch.save(
            build(group("fcn8s", "model.net.width=1", "model.checkpoint=null"), classes=21).net.state_dict(),
            tmp_path / name,
        )
    cfg.checkpoint = str(tmp_path / own)
    build(cfg, classes=21)
    cfg.checkpoint = str(tmp_path / other)
    wanted = "false" if at_once == "true" else "true"
    with pytest.raises(
        GpsweepError, match=rf"model\.at_once=(?i:{at_once}): .*{other} want model\.at_once={wanted}"
    ):
        build(cfg, classes=21)


def test_a_checkpoint_is_loaded(nets: str, tmp_path: Path) -> None:
    weights = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 4, 1))
    torch.save(
        {"state_dict": {f"model.{k}": v for k, v in weights.state_dict().items()}}, tmp_path / "a.ckpt"
    )
    net = build(
        group("custom", f"model.net={nets}.good", f"model.checkpoint={tmp_path / 'a.ckpt'}"), classes=4
    )
    assert sha256(net) == sha256(weights)


class Noted(nn.Conv2d):
    """A layer that keeps something beside its weights."""

    note: Any = None

    def get_extra_state(self) -> Any:
        return self.note

    def set_extra_state(self, state: Any) -> None:
        self.note = state


def test_what_a_network_keeps_beside_tensors_counts_as_its_weights(tmp_path: Path) -> None:
    net = Noted(3, 4, 1)
    hashes = set()
    for net.note in ({"scale": 1.0}, {"scale": 2.0}, (torch.ones(2), "a"), (torch.zeros(2), "a")):
        hashes |= {sha256(net), sha256(net)}
    assert len(hashes) == 4
    torch.save(net.state_dict(), tmp_path / "a.pt")
    with pytest.raises(GpsweepError, match=r"more than tensors: _extra_state \(tuple\)\. Load it in"):
        restore(net, tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        ([], r"model\.net: expected the dotted name .* came nothing"),
        (["model.net=3"], r"model\.net: expected .* came 3"),
        (["model.net={width: 3}"], r"model\.net: expected .*_target_, came .*width"),
        (["model.net={_target_: null}"], r"model\.net: expected"),
        (["model.net=nowhere_at_all.net"], r"model\.net=nowhere_at_all\.net: .*ImportError.*PYTHONPATH"),
        (["model.net=NETS.absent"], r"model\.net=NETS\.absent: .*ImportError.*absent"),
        (["model.net=NETS"], r"model\.net=NETS: .* of type 'module' Choices: .*good, listed, nested,"),
        (["model.net=NETS.nestde"], r"ImportError.* Did you mean nested .*\? Choices: good, listed, nested,"),
        (
            ["model.net=NETS.broken"],
            r"model\.net=NETS\.broken: could not be built\. RuntimeError: no such luck$",
        ),
        (["model.net=NETS.number"], r"model\.net=NETS\.number: expected an nn\.Module, came int"),
        (["model.net=NETS.lazy"], r"model\.net=NETS\.lazy: .* without values: 0\.weight, .*a first pass"),
        (["model.net=NETS.meta"], r"model\.net=NETS\.meta: .* without values: 0\.weight, 0\.bias"),
        (["model.net={_target_: NETS.good, depth: 3}"], r"model\.net=NETS\.good: .*TypeError.*depth"),
        (["model.net={_target_: NETS.good, width: '${nothing}'}"], r"model\.net=NETS\.good: .*nothing"),
        (
            ["model.net={_target_: NETS.nested, inner: {_target_: NETS.broken}}"],
            r"RuntimeError: no such luck$",
        ),
        (["model.net=NETS.good", "model.mean=null"], r"model\.mean=null: the network states none"),
        (["model.net=NETS.good", "model.std=[1,0,1]"], r"model\.std=\[1, 0, 1\]: must not be 0"),
        (["model.net=NETS.good", "model.channels=XYZ"], r"model\.channels=XYZ: unknown.*RGB"),
        (["model.net=NETS.good", "model.classes=0"], r"model\.classes=0: expected a whole number"),
        (["model.net=NETS.good", "model.classes=many"], r"model\.classes=many: expected a whole number"),
        (["model.net=NETS.good", "model.aliases=3"], r"model\.aliases=3: expected a dict"),
        (["model.net=NETS.good", "+model.aliases.top=2"], r"model\.aliases\.top=2: unknown"),
        (["model.net=NETS.good", "model.checkpoint=none.pt"], r"model\.checkpoint=none\.pt: no such file"),
    ],
)
def test_failures_name_their_key(nets: str, overrides: list[str], says: str) -> None:
    cfg = group("custom", *(override.replace("NETS", nets) for override in overrides))
    with pytest.raises(GpsweepError, match=says.replace("NETS", nets)):
        build(cfg, classes=4)


def test_sha256_is_of_the_content() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    original = sha256(net)
    assert original == sha256(PixelNet(net)) == sha256(net.to(memory_format=torch.channels_last))
    assert len(original) == 64
    with torch.no_grad():
        net[0].weight[0, 0, 0, 0] += 1e-3
    assert sha256(net) != original


@pytest.mark.parametrize("other", [nn.Linear(2, 3), nn.Linear(3, 2).double(), nn.Linear(3, 2).bfloat16()])
def test_sha256_tells_shapes_and_types_apart(other: nn.Module) -> None:
    plain = nn.Linear(3, 2)
    for net in (plain, other):
        for parameter in net.parameters():
            nn.init.zeros_(parameter)
    assert sha256(plain) != sha256(other)


def test_sha256_knows_names() -> None:
    weight = nn.Linear(2, 2)
    assert sha256(nn.ModuleDict({"a": weight})) != sha256(nn.ModuleDict({"b": weight}))
