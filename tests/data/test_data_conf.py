"""The data sets' configuration files build what they name, with every key of theirs in reach."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import InstantiationException
from hydra.utils import get_method, instantiate
from omegaconf import OmegaConf

from gpsweep.data.base import Source
from gpsweep.errors import GpsweepError

CONF = Path(__file__).resolve().parents[2] / "conf" / "data"
NAMES = tuple(path.stem for path in sorted(CONF.glob("*.yaml")) if path.stem not in ("scenes", "custom"))
TRAINED = ("mnist", "cifar10")
Maker = Callable[..., Path]


def configured(name: str, **overrides: Any) -> Any:
    conf = OmegaConf.merge(OmegaConf.load(CONF / f"{name}.yaml"), overrides)
    return OmegaConf.create({"data": conf}).data  # as in a run, one level down


@pytest.mark.parametrize("name", NAMES)
def test_every_argument_is_a_key(name: str) -> None:
    conf = configured(name)
    arguments = set(inspect.signature(get_method(conf.source._target_)).parameters)
    training = {"train", "train_limit"} if name in TRAINED else set()
    assert set(conf) == arguments | training | {"source", "tune_split", "groups", "batch_size", "workers"}
    for key in arguments:
        assert OmegaConf.to_container(conf.source, resolve=False)[key] == f"${{..{key}}}"


@pytest.mark.parametrize("name", TRAINED)
def test_the_training_split_comes_from_the_same_place(name: str) -> None:
    conf = configured(name, root="there", limit=7, train_limit=5, size=9)
    source, train = (OmegaConf.to_container(conf[node], resolve=True) for node in ("source", "train"))
    assert source == train | {"split": "test", "limit": 7}
    assert train == {
        "_target_": conf.source._target_,
        "root": "there",
        "split": "train",
        "limit": 5,
        "size": 9,
    }


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("root", [2012, ["a", "b"], "~of nobody/x", "long" * 100])
def test_roots_that_are_no_folders_are_named(name: str, root: Any) -> None:
    with pytest.raises(InstantiationException, match=r"data\.(root|images)=") as caught:
        instantiate(configured(name, root=root).source, _convert_="all")
    assert isinstance(caught.value.__cause__, GpsweepError)


@pytest.mark.parametrize("name", ["mnist", "cifar10", "ade20k"])
def test_a_split_is_one_name(name: str) -> None:
    with pytest.raises(
        InstantiationException, match=r"data\.split=\['train', 'x'\]: unknown.*Choices: train"
    ):
        instantiate(configured(name, split=["train", "x"]).source, _convert_="all")


@pytest.mark.parametrize("name", [name for name in NAMES if name != "folder"])
def test_roots_follow_the_environment(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPSWEEP_DATA", raising=False)
    assert f"{configured(name).root}/".startswith("data/")
    monkeypatch.setenv("GPSWEEP_DATA", str(tmp_path))
    assert f"{configured(name).root}/".startswith(f"{tmp_path}/")
    with pytest.raises(InstantiationException) as caught:
        instantiate(configured(name).source)
    assert isinstance(caught.value.__cause__, GpsweepError)
    message = str(caught.value.__cause__)
    assert message.startswith(("data.root=", "data.images="))
    assert str(tmp_path) in message
    assert re.search(r"published at https?://\S+$", message)
    assert "\n" not in message


def test_folder_from_its_configuration(tmp_path: Path, picture: Maker, mask: Maker) -> None:
    picture(tmp_path / "images" / "a.jpg")
    mask(tmp_path / "masks" / "a.png", 0, 1, 9)
    conf = configured(
        "folder",
        root=str(tmp_path),
        images="images",
        masks="masks",
        classes=["a", "b"],
        void=[9],
        size=[2, 3],
    )
    source: Source = instantiate(conf.source)
    assert source.classes == ("a", "b")
    assert source[0]["image"].shape == (3, 2, 3)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "split", "count"),
    [
        ("mnist", "test", 10000),
        ("mnist", "train", 60000),
        ("cifar10", "test", 10000),
        ("camvid", "val", 101),
        ("voc", "here_val", 9),
    ],
)
def test_real_data_by_configuration(
    name: str, split: str, count: int, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPSWEEP_DATA", str(data_root.resolve()))
    source: Source = instantiate(configured(name, split=split).source)
    assert len(source) == count
    assert source.name == f"{'cifar10-jpeg' if name == 'cifar10' else name}-{split}"
