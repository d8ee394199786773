"""Where weights are published: told for every network of the paper, and where a default file is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf
from torch import nn

from gpsweep.errors import GpsweepError
from gpsweep.models.checkpoint import ENDINGS, restore
from gpsweep.models.weights import WEIGHTS, files, published

CONF = Path(__file__).resolve().parents[2] / "conf" / "model"


@pytest.mark.parametrize("model", WEIGHTS)
def test_each_default_checkpoint_is_the_first_one_published(model: str) -> None:
    raw = OmegaConf.to_container(OmegaConf.load(CONF / f"{model}.yaml"), resolve=False)
    assert isinstance(raw, dict)
    assert str(raw["checkpoint"]).endswith(f"/{WEIGHTS[model][0].file}")
    assert raw["channels"] == "BGR"
    assert raw["scale"] == 1


def test_what_is_told_of_a_file_can_be_used() -> None:
    names = [one.file for _, one in files()]
    assert len(set(names)) == len(names)
    lengths = {"md5": 32, "sha1": 40}
    for model, one in files():
        assert one.file.endswith(ENDINGS)
        assert one.url.startswith(("http://", "https://"))
        keys = OmegaConf.load(CONF / f"{model}.yaml")
        for option in one.options.split():
            assert option.partition("=")[0].removeprefix("model.") in keys
        if one.checksum is not None:
            algorithm, _, digits = one.checksum.partition(":")
            assert len(digits) == lengths[algorithm]
            int(digits, 16)


def test_a_missing_file_that_is_published_says_where(tmp_path: Path) -> None:
    says = r"no such file\. It is published at \S+ \(md5 bfed\w+\); .*model=fcn8s model\.at_once=true\."
    with pytest.raises(GpsweepError, match=says):
        restore(nn.Conv2d(1, 1, 1), tmp_path / "fcn8s-atonce_from_caffe.pth")
    assert published("my_own.pth") is None
