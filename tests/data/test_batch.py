"""Batches: putting together, padding, and errors that arrive whole."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from gpsweep.data.base import VOID, Sample
from gpsweep.data.batch import Batch, Guarded, collate, read
from gpsweep.errors import GpsweepError


def sample(height: int, width: int, *, name: str = "a", dense: bool = True) -> Sample:
    image = torch.randint(1, 256, (3, height, width), dtype=torch.uint8)
    target = torch.randint(0, 5, (height, width)) if dense else torch.tensor(3)
    return Sample(image=image, target=target, id=name)


class Broken:
    """A data set whose third sample cannot be read."""

    name = "broken"
    task = "segmentation"
    classes = ("a",)
    ids: Sequence[str] = tuple("abcdef")

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Sample:
        if index == 2:
            raise GpsweepError("data.root: image c.png does not decode: not a picture")
        return sample(4, 4, name=self.ids[index])


def batch(*samples: Sample) -> Batch:
    came = collate(samples)
    assert not isinstance(came, GpsweepError)
    return came


def test_equal_sizes_are_stacked_without_valid() -> None:
    first, second = sample(4, 6, name="x"), sample(4, 6, name="y")
    came = batch(first, second)
    assert came["image"].dtype == torch.float32
    assert came["target"].dtype == torch.int64
    assert torch.equal(came["image"], torch.stack([first["image"], second["image"]]).float())
    assert torch.equal(came["target"], torch.stack([first["target"], second["target"]]))
    assert came["valid"] is None
    assert came["ids"] == ["x", "y"]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=4))
def test_padding_is_right_and_bottom_and_void(sides: list[tuple[int, int]]) -> None:
    samples = [sample(height, width) for height, width in sides]
    came = batch(*samples)
    shape = (len(sides), max(side[0] for side in sides), max(side[1] for side in sides))
    assert came["image"].shape == (shape[0], 3, *shape[1:])
    assert came["target"].shape == shape
    valid = came["valid"]
    if len(set(sides)) == 1:
        assert valid is None
        return
    assert valid is not None
    for place, (height, width) in enumerate(sides):
        assert valid[place].sum() == height * width
        assert valid[place, :height, :width].all()
        assert torch.equal(came["image"][place, :, :height, :width], samples[place]["image"].float())
        assert torch.equal(came["target"][place, :height, :width], samples[place]["target"])
    assert (came["target"][~valid] == VOID).all()
    assert (came["image"].movedim(1, -1)[~valid] == 0).all()


def test_classification_is_padded_but_keeps_its_targets() -> None:
    came = batch(sample(4, 6, dense=False), sample(5, 3, dense=False))
    assert came["target"].tolist() == [3, 3]
    assert came["image"].shape == (2, 3, 5, 6)
    assert came["valid"] is not None
    assert came["valid"].sum(dim=(1, 2)).tolist() == [24, 15]


def test_the_first_error_becomes_the_batch() -> None:
    errors = [GpsweepError("one"), GpsweepError("two")]
    assert collate([sample(2, 2), errors[0], errors[1]]) is errors[0]


def test_guarded_returns_errors_only_of_its_kind() -> None:
    guarded = Guarded(Broken())
    assert len(guarded) == 6
    assert isinstance(guarded[2], GpsweepError)
    with pytest.raises(IndexError):
        guarded[6]


class Odd(Broken):
    """A data set whose third sample is what ``found`` says, beside its id."""

    def __init__(self, task: str, **found: torch.Tensor) -> None:
        self.task, self.found = task, found

    def __getitem__(self, index: int) -> Sample:
        whole = sample(4, 6, name=self.ids[index], dense=self.task == "segmentation")
        return {**whole, **self.found} if index == 2 else whole  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("task", "found", "says"),
    [
        (
            "segmentation",
            {"target": torch.zeros(4, 5).long()},
            r"target as int64 \(4, 6\), came int64 \(4, 5\)",
        ),
        ("segmentation", {"target": torch.zeros(4, 6)}, r"target as int64 \(4, 6\), came float32 \(4, 6\)"),
        ("classification", {"target": torch.tensor(True)}, r"target as int64 \(\), came bool \(\)"),
        ("classification", {"target": torch.tensor([1])}, r"target as int64 \(\), came int64 \(1,\)"),
        (
            "classification",
            {"image": torch.zeros(4, 4, 6).byte()},
            r"image as uint8 \(3, H, W\), RGB, came uint8 \(",
        ),
        ("classification", {"target": 1}, "samples as dicts of the tensors image and target, and of id"),
    ],
)
def test_each_sample_is_checked_and_named(task: str, found: dict[str, torch.Tensor], says: str) -> None:
    first, second, _ = DataLoader(Guarded(Odd(task, **found)), batch_size=2, collate_fn=collate)
    assert first["ids"] == ["a", "b"]
    assert isinstance(second, GpsweepError)
    assert re.match(f"data: c: expected {says}", str(second))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.uint16])
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_targets_of_other_integers_become_int64(task: str, dtype: torch.dtype) -> None:
    target = torch.full((4, 6) if task == "segmentation" else (), 3, dtype=dtype)
    read_in = read(Odd(task, target=target), 2)["target"]
    assert read_in.dtype == torch.int64
    assert torch.equal(read_in, target.long())


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_arrives_whole(workers: int) -> None:
    first, second, third = DataLoader(
        Guarded(Broken()), batch_size=2, collate_fn=collate, num_workers=workers
    )
    assert isinstance(second, GpsweepError)
    assert str(second) == "data.root: image c.png does not decode: not a picture"
    assert first["ids"] == ["a", "b"]
    assert third["ids"] == ["e", "f"]
