"""The libraries' networks: they build without a download, run in pixel space, and explain wrong names."""

from __future__ import annotations

import re
import socket
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from safetensors.torch import save_file

from gpsweep.errors import GpsweepError
from gpsweep.models.build import build, sha256
from gpsweep.models.checkpoint import restore
from gpsweep.models.download import explained

CONF = Path(__file__).resolve().parents[2] / "conf"


def group(name: str, *changes: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        changes = tuple(f"{'+' if c.startswith('net.') else ''}model.{c}" for c in changes)
        cfg: DictConfig = compose(overrides=[f"+model={name}", *changes]).model
    return cfg


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No name resolves, and no cache holds weights: a download, even one not asked for, is noticed."""

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


def images(size: int = 64) -> torch.Tensor:
    return torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 255


SEGMENTATION = [
    ("smp", "arch=Unet", "encoder=resnet18"),
    ("smp", "arch=unet", "encoder=tu-test_resnet"),
    ("smp", "arch=DeepLabV3Plus", "encoder=mobilenet_v2"),
    ("torchvision", "arch=lraspp_mobilenet_v3_large"),
    ("torchvision", "arch=fcn_resnet50"),
]
CLASSIFICATION = [
    ("torchvision", "arch=resnet18"),
    ("torchvision", "arch=mobilenet_v3_small"),
    ("timm", "arch=resnet18"),
    ("timm", "arch=test_vit", "net.img_size=64"),
    ("timm", "arch=test_resnet.r160_in1k"),
]


@pytest.mark.parametrize("named", SEGMENTATION, ids="-".join)
def test_segmentation(named: tuple[str, ...]) -> None:
    net = build(group(*named), classes=5)
    x = images(70 if named[0] == "smp" else 64)  # smp's networks ask for multiples of 32
    assert net(x).shape == (1, 5, *x.shape[-2:])
    mean = [0.5] * 3 if "encoder=tu-test_resnet" in named else [0.485, 0.456, 0.406]
    torch.testing.assert_close(net.fill, torch.tensor(mean) * 255)


@pytest.mark.parametrize("named", CLASSIFICATION, ids="-".join)
def test_classification(named: tuple[str, ...]) -> None:
    assert build(group(*named), classes=5)(images()).shape == (1, 5)


def test_luma_networks() -> None:
    one = ["channels=L", "mean=[0.5]", "std=[0.5]"]
    assert build(group("smp", *one, "net.in_channels=1"), classes=2)(images()).shape == (1, 2, 64, 64)
    assert build(group("timm", "arch=test_resnet", *one, "net.in_chans=1"), classes=2)(images()).shape == (
        1,
        2,
    )


def test_two_outputs_of_smp_ask_for_an_index() -> None:
    aux = "net.aux_params={classes: 3}"
    with pytest.raises(GpsweepError, match=r"model\.output=null: .*indices: 0 .*, 1 \(1, 3\)"):
        build(group("smp", aux), classes=2)(images())
    assert build(group("smp", aux, "output=0"), classes=2)(images()).shape == (1, 2, 64, 64)


def test_statistics_of_timm_are_the_architectures_own() -> None:
    bias = build(group("timm", "arch=test_vit"), classes=5).preprocess.bias
    torch.testing.assert_close(bias.flatten(), torch.full((3,), -1.0))  # mean and std are 0.5


def test_statistics_of_torchvision_are_the_architectures_own() -> None:
    from gpsweep.models.torchvision import torchvision

    with torch.device("meta"):
        net = torchvision(arch="efficientnet_v2_l", classes=5)
    assert net.pretrained_cfg == {"mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.mark.parametrize(
    ("encoder", "mean", "std"),
    [
        ("tu-test_vit.r160_in1k", [0.5] * 3, [0.5] * 3),
        ("tu-resnet18", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ("mobilenet_v2", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ],
)
def test_statistics_of_smp_are_the_encoders_own(encoder: str, mean: list[float], std: list[float]) -> None:
    from gpsweep.models.smp import smp

    with torch.device("meta"):
        net = smp(arch="Unet" if "vit" not in encoder else "DPT", encoder=encoder, classes=5)
    assert net.pretrained_cfg == {"mean": mean, "std": std}


def test_statistics_can_be_overridden() -> None:
    net = build(group("timm", "arch=test_resnet", "mean=[0,0,0]", "std=[1,1,1]"), classes=5)
    assert not net.preprocess.bias.any()


def test_a_checkpoint_with_torchvisions_auxiliary_head(tmp_path: Path) -> None:
    """What torchvision publishes has the head; it is neither kept nor computed."""
    from torchvision import models

    full = models.segmentation.fcn_resnet50(weights_backbone=None, num_classes=2, aux_loss=True)
    torch.save(full.state_dict(), tmp_path / "fcn.pth")
    net = build(group("torchvision", f"checkpoint={tmp_path / 'fcn.pth'}"), classes=2)
    full.aux_classifier = None
    assert sha256(net) == sha256(full)


def test_the_names_in_torchvisions_files_of_densenets(tmp_path: Path) -> None:
    from torchvision import models

    full = models.densenet121(num_classes=2)
    old = {
        re.sub(r"(norm|conv)([12])\.(?!.*\d\.)", r"\1.\2.", name): t for name, t in full.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "dense.pth")
    net = build(group("torchvision", "arch=densenet121", f"checkpoint={tmp_path / 'dense.pth'}"), classes=2)
    assert sha256(net) == sha256(full)


def test_names_that_torchvisions_transformers_had(tmp_path: Path) -> None:
    from torchvision import models

    sizes = {"image_size": 32, "patch_size": 16, "num_heads": 1, "hidden_dim": 8, "mlp_dim": 8}
    full, net = (models.VisionTransformer(**sizes, num_layers=1, num_classes=2) for _ in range(2))
    old = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): tensor
        for name, tensor in full.state_dict().items()
    }
    torch.save(old, tmp_path / "vit.pth")
    restore(net, tmp_path / "vit.pth")
    assert sha256(net) == sha256(full)


def test_networks_that_ask_for_the_version_of_weights(tmp_path: Path) -> None:
    from torchvision import models

    full = models.mnasnet0_5(num_classes=2)
    torch.save(full.state_dict(), tmp_path / "mnasnet.pth")
    net = build(group("torchvision", "arch=mnasnet0_5", f"checkpoint={tmp_path / 'mnasnet.pth'}"), classes=2)
    assert sha256(net) == sha256(full)


def test_downloaded_weights_of_torchvision_come_without_the_auxiliary_head(tmp_path: Path) -> None:
    from torchvision import models

    full = models.segmentation.fcn_resnet50(weights_backbone=None, num_classes=21, aux_loss=True)
    (tmp_path / "checkpoints").mkdir()
    address = models.get_model_weights("fcn_resnet50")["DEFAULT"].url
    torch.save(full.state_dict(), tmp_path / "checkpoints" / address.rpartition("/")[2])
    net = build(group("torchvision", "weights=DEFAULT"), classes=21)
    full.aux_classifier = None
    assert sha256(net) == sha256(full)


def test_downloaded_weights_of_timm(tmp_path: Path) -> None:
    import timm

    trained = timm.create_model("test_resnet", num_classes=1000)
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    place = f"net.pretrained_cfg_overlay={{file: {tmp_path / 'model.safetensors'}}}"
    net = build(group("timm", "arch=test_resnet", "weights=r160_in1k", place), classes=1000)
    assert sha256(net) == sha256(trained)


def test_downloaded_weights_of_smp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from segmentation_models_pytorch import encoders

    trained = encoders.get_encoder("resnet18", weights=None)
    state = trained.state_dict() | {"fc.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"mean": [0.5, 0.5, 0.25], "std": [1, 1, 0.5]}')
    monkeypatch.setattr(encoders, "hf_hub_download", lambda *_, filename, **__: str(tmp_path / filename))
    net = build(group("smp", "weights=imagenet"), classes=2)
    assert sha256(net.net.encoder) == sha256(trained)
    assert net.fill.tolist() == [127.5, 127.5, 63.75]  # the colour of the mean that the weights state


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (("smp", "arch=Unett"), r"model\.arch=Unett: unknown\. Did you mean Unet"),
        (("smp", "encoder=resnet19"), r"model\.encoder=resnet19: unknown\. Did you mean .*resnet18"),
        (("smp", "encoder=tu-resnet19"), r"model\.encoder=tu-resnet19: unknown\. Did you mean .*tu-resnet18"),
        (("smp", "weights=imagnet"), r"model\.weights=imagnet: unknown\. Did you mean imagenet"),
        (("smp", "arch=DPT"), r"model\.net=gpsweep\.models\.smp\.smp: .*DPT"),
        (("timm", "net.nonsense=1"), r"model\.net=gpsweep\.models\.timm\.timm: .*nonsense"),
        (("torchvision", "arch=fcn_resnet5"), r"model\.arch=fcn_resnet5: .*Did you mean fcn_resnet50"),
        (("torchvision", "arch=raft_large"), r"model\.arch=raft_large: unknown"),
        (("torchvision", "weights=DEFUALT"), r"model\.weights=DEFUALT: .*Did you mean DEFAULT"),
        (("torchvision", "weights=DEFAULT"), r"model\.weights=DEFAULT: has 21 classes, but model\.classes=5"),
        (("timm", "arch=resnet19"), r"model\.arch=resnet19: .*Did you mean resnet18"),
        (("timm", "weights=a1"), r"model\.weights=a1: .*Did you mean a1_in1k"),
        (("timm", "weights=DEFAULT"), r"model\.weights=DEFAULT: has 1000 classes, but model\.classes=5"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_names(named: tuple[str, ...], says: str) -> None:
    with pytest.raises(GpsweepError, match=says):
        build(group(*named), classes=5)


@pytest.mark.parametrize(
    "named",
    [
        ("smp", "weights=imagenet"),
        ("smp", "encoder=tu-test_resnet", "weights=imagenet"),
        ("torchvision", "arch=resnet18", "weights=DEFAULT"),
        ("torchvision", "arch=lraspp_mobilenet_v3_large", "weights=DEFAULT", "classes=21"),
        ("timm", "arch=test_resnet", "weights=DEFAULT"),
        ("timm", "arch=resnet18", "weights=a1_in1k"),
    ],
    ids="-".join,
)
@pytest.mark.timeout(20)
def test_a_download_offline_is_explained_at_once(named: tuple[str, ...]) -> None:
    weights = next(change for change in named if change.startswith("weights"))
    with pytest.raises(GpsweepError, match=rf"model\.{weights}: could not be downloaded .*model\.checkpoint"):
        build(group(*named), classes=1000)


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("unreachable"),
        ConnectionResetError("reset"),
        RuntimeError('invalid hash value (expected "ab", got "cd")'),
    ],
)
def test_failures_of_a_download_are_explained(error: Exception) -> None:
    with (
        pytest.raises(GpsweepError, match=r"model\.weights=DEFAULT: could not be downloaded"),
        explained("DEFAULT"),
    ):
        raise error


@pytest.mark.parametrize(("weights", "error"), [(None, OSError("x")), ("DEFAULT", TypeError("x"))])
def test_other_failures_pass(weights: str | None, error: Exception) -> None:
    with pytest.raises(type(error)), explained(weights):
        raise error


def test_the_hubs_setting_is_put_back() -> None:
    from huggingface_hub import constants

    with pytest.raises(GpsweepError), explained("imagenet"):
        assert constants.HF_HUB_OFFLINE
        raise OSError
    assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("arch", ["inception_v3", "googlenet"])
def test_checkpoints_of_inception_find_their_preprocessing(arch: str) -> None:
    from gpsweep.models.torchvision import torchvision

    net = torchvision(arch=arch, classes=5, aux_logits=False)
    assert net.transform_input


def test_what_is_assumed_of_a_checkpoint_of_inception_is_said(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    from torchvision import models

    full = models.googlenet(num_classes=2, init_weights=False)
    torch.save(full.state_dict(), tmp_path / "own.pth")
    named = ("torchvision", "arch=googlenet", f"checkpoint={tmp_path / 'own.pth'}")
    for value, said in (("false", False), ("true", True)):
        net = build(group(*named, f"net.transform_input={value}"), classes=2)
        assert net.net.transform_input is said
    assert not recwarn.list
    with pytest.warns(
        UserWarning,
        match=r"own\.pth: transform_input=true, as torchvision's own weights want; trained from scratch",
    ):
        assert build(group(*named), classes=2).net.transform_input
    build(group(*named[:2]), classes=2)
    assert not recwarn.list
