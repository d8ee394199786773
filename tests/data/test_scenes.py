"""The embedded scenes: the same bytes everywhere, splits without a common digit, masks where the ink is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from gpsweep.data import scenes as room
from gpsweep.data.scenes import CLASSES, Scenes, enlarged, handwriting, scenes, spline, thickened
from gpsweep.errors import GpsweepError

CONF = Path(__file__).resolve().parents[2] / "conf" / "data" / "scenes.yaml"


@pytest.fixture(scope="module")
def val() -> Scenes:
    return scenes()


def test_the_same_bytes_everywhere(val: Scenes) -> None:
    digest = hashlib.sha256(val.images.tobytes() + val.masks.tobytes()).hexdigest()
    assert digest == "b954a6334a3e6cc0140ef55012482ca8f85167845b385f7ab77cf1c413d61340"


def test_samples_are_what_a_source_promises(val: Scenes) -> None:
    assert (val.name, val.task, val.classes) == ("scenes", "segmentation", CLASSES)
    assert len(val) == len(val.ids) == len(set(val.ids)) == 96
    sample = val[42]
    assert sample["id"] == "val/0042"
    assert sample["image"].dtype == torch.uint8 and sample["image"].shape == (3, 96, 128)
    assert sample["target"].dtype == torch.int64 and sample["target"].shape == (96, 128)
    assert np.array_equal(sample["image"].permute(1, 2, 0).numpy(), val.images[42])


def test_a_scene_depends_on_seed_split_and_number_alone(val: Scenes) -> None:
    few = scenes(count=5, limit=3)
    assert few.ids == val.ids[:3]
    assert np.array_equal(few.images, val.images[:3])
    others = [scenes(seed=1, count=3), scenes(split="train", count=3)]
    assert all(not np.array_equal(few.images[i], other.images[i]) for other in others for i in range(3))
    assert len({image.tobytes() for image in val.images}) == len(val)


def test_splits_share_no_digit() -> None:
    train, held = handwriting("train"), handwriting("val")
    assert len(train.values) + len(held.values) == 1797
    assert set(map(bytes, train.strokes)).isdisjoint(map(bytes, held.strokes))
    assert set(train.values) == set(held.values) == set(range(10))


def test_every_class_is_there_and_the_background_is_most(val: Scenes) -> None:
    share = np.bincount(val.masks.ravel(), minlength=11) / val.masks.size
    assert 0.6 < share[0] < 0.9
    assert (share[1:] > 0.01).all() and share.sum() == pytest.approx(1)
    assert all(1 <= len(np.unique(mask)) - 1 <= 4 for mask in val.masks)


def test_ink_lies_within_its_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOISE", "ROUGHNESS"):
        monkeypatch.setattr(room, name, 0)
    plain = scenes(count=20)
    for image, mask in zip(plain.images, plain.masks, strict=True):
        levels = image.astype(int)
        ground = np.median(levels[mask == 0], axis=0)
        inked = np.abs(levels - ground).max(axis=-1) > 20
        assert inked.any() and mask[inked].all()


@pytest.mark.usefixtures("val")  # whose libraries are loaded
def test_thousands_of_digits_are_not_needed_for_a_quick_start() -> None:
    start = perf_counter()
    scenes(count=8)
    assert perf_counter() - start < 1


@pytest.mark.parametrize(("cells", "pixels"), [(10, 10), (10, 68), (5, 96), (7, 3)])
def test_resampling_keeps_what_is_constant(cells: int, pixels: int) -> None:
    assert (spline(cells, pixels).sum(axis=1) == 256).all()
    assert (spline(cells, pixels) >= 0).all()
    assert (enlarged(np.full((cells, 4, 3), 5), (pixels, 9)) == 5 * 256**2).all()


def test_resampling_is_separable_and_symmetric() -> None:
    cells = np.zeros((5, 5), dtype=np.int64)
    cells[2, 2] = 16
    grown = enlarged(cells, (40, 40))
    assert np.array_equal(grown, grown.T) and np.array_equal(grown, grown[::-1])
    assert np.unravel_index(grown.argmax(), grown.shape)[0] in (19, 20)


def test_ink_reaches_eight_neighbours() -> None:
    cells = np.zeros((5, 6), dtype=np.int64)
    cells[1, 4] = 7
    expected = np.zeros_like(cells)
    expected[0:3, 3:6] = 7
    assert np.array_equal(thickened(cells), expected)


def test_size_is_the_canvas() -> None:
    assert scenes(count=1, size=[70, 200])[0]["image"].shape == (3, 70, 200)
    assert scenes(count=1, size=80)[0]["target"].shape == (80, 80)
    assert scenes(count=1, size=None)[0]["image"].shape == (3, 96, 128)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "vall"}, "data.split=vall: unknown. Did you mean val"),
        ({"size": 64}, "data.size=64: expected at least 68 pixels"),
        ({"size": "big"}, "data.size=big"),
        ({"seed": -1}, "data.seed=-1"),
        ({"count": 0}, "data.count=0"),
        ({"count": 10**20}, "data.count=1"),
        ({"count": 2.5}, "data.count=2.5"),
        ({"limit": 0}, "data.limit=0"),
    ],
)
def test_mistakes_name_the_key(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(GpsweepError) as caught:
        scenes(**arguments)
    assert str(caught.value).startswith(message)


def test_configuration_gives_the_defaults(val: Scenes) -> None:
    conf = OmegaConf.create({"data": OmegaConf.load(CONF)}).data
    source = instantiate(conf.source)
    assert source.ids == val.ids and np.array_equal(source.images, val.images)


def test_the_digits_are_scikit_learn_s_own() -> None:
    from sklearn.datasets import load_digits

    from gpsweep.data.scenes import digits

    for ours, theirs in zip(digits(), load_digits(return_X_y=True), strict=True):
        np.testing.assert_array_equal(ours, theirs)
