"""The small networks: strides, scores that add up, the 20-50-500-10 layout, and the packaged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from gpsweep import config, metrics
from gpsweep.data.batch import Batch, collate
from gpsweep.data.scenes import scenes
from gpsweep.errors import GpsweepError
from gpsweep.models.build import build, sha256
from gpsweep.models.lenet import LeNet
from gpsweep.models.small import SmallFCN, small
from gpsweep.tally import Tally

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "gpsweep" / "weights" / "scenes.safetensors"


def model(name: str, **overrides: Any) -> Any:
    config.register()
    conf = OmegaConf.merge(OmegaConf.load(ROOT / "conf" / "model" / f"{name}.yaml"), overrides)
    return OmegaConf.create({"model": conf}).model  # as in a run, one level down


@pytest.mark.parametrize(("scored", "stride"), [(1, 8), (2, 4), (3, 2)])
def test_logits_have_the_stride_of_the_first_scored_stage(scored: int, stride: int) -> None:
    net = small(classes=5, stages=[[4], [6], [8, 8]], scored=scored)
    assert net(torch.randn(2, 3, 48, 64)).shape == (2, 5, 48 // stride, 64 // stride)
    assert len(net.scores) == scored


def test_scores_add_up() -> None:
    torch.manual_seed(0)
    net = small(classes=3, stages=[[4], [6]], scored=2).eval()
    fine, coarse = net.scores
    assert isinstance(fine, torch.nn.Conv2d) and isinstance(coarse, torch.nn.Conv2d)
    x = torch.randn(1, 3, 16, 16)
    whole = net(x)
    for one in (fine, coarse):
        torch.nn.init.zeros_(one.weight)
    assert fine.bias is not None and coarse.bias is not None
    assert torch.allclose(net(x), (fine.bias + coarse.bias).view(1, 3, 1, 1).expand_as(whole))
    assert not torch.allclose(net(x), whole)


@pytest.mark.parametrize(
    ("arguments", "key"),
    [
        ({"stages": []}, "model.stages"),
        ({"stages": [[4], []]}, "model.stages"),
        ({"stages": [[0]]}, "model.stages"),
        ({"stages": [[4]], "scored": 2}, "model.scored=2"),
        ({"stages": [[4]], "scored": 0}, "model.scored=0"),
    ],
)
def test_impossible_networks_name_the_key(arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(GpsweepError, match=key):
        small(classes=2, **arguments)


def test_lenet_is_20_50_500_10() -> None:
    net = LeNet(classes=10)
    shapes = {name: tuple(weight.shape) for name, weight in net.named_parameters() if "weight" in name}
    assert list(shapes.values()) == [(20, 1, 5, 5), (50, 20, 5, 5), (500, 800), (10, 500)]
    assert net(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    with pytest.raises(GpsweepError, match=r"data.size: expected grey images of 28×28 pixels.*came 32×32"):
        net(torch.rand(3, 1, 32, 32))


def test_camvid_network_runs_at_native_size() -> None:
    net = build(model("camvid", checkpoint=None), classes=11)
    assert net(torch.full((1, 3, 360, 480), 90.0)).shape == (1, 11, 360, 480)
    assert isinstance(net.net, SmallFCN)


def test_mnist_network_takes_grey_levels() -> None:
    net = build(model("mnist", checkpoint=None), classes=10)
    assert net(torch.full((2, 3, 28, 28), 255.0)).shape == (2, 10)
    assert "features" in net.layer_aliases


def test_packaged_weights_are_light_and_those_of_the_recipe() -> None:
    assert WEIGHTS.stat().st_size <= 2_000_000
    net = build(model("scenes"), classes=11)
    assert sum(weight.numel() for weight in net.parameters()) <= 500_000
    assert sha256(net) == "b4da50b80cfdb3025bfe5429b98546bd8593df9930a6eb18a66eaf099bddb0a0"


def test_packaged_weights_score_60() -> None:
    net = build(model("scenes"), classes=11).to(memory_format=torch.channels_last)
    source, totals = scenes(), torch.zeros(11, 3, dtype=torch.int64)
    with torch.no_grad():
        for first in range(0, len(source), 32):
            batch: Batch = collate([source[index] for index in range(first, first + 32)])  # type: ignore[assignment]
            tally = Tally(batch["target"], classes=11, channels=11)
            totals += tally(net(batch["image"]).argmax(1)).sum(0)
    assert metrics.score(totals.numpy(), "segmentation") >= 60
