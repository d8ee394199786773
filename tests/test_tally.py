from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchmetrics.functional.classification import multiclass_jaccard_index, multiclass_stat_scores

from gpsweep import metrics
from gpsweep.errors import GpsweepError
from gpsweep.tally import Tally

VOID = -1


def brute_force(target: torch.Tensor, predicted: torch.Tensor, classes: int) -> list[list[list[int]]]:
    result = []
    for truth, claim in zip(target.flatten(1).tolist(), predicted.flatten(1).tolist(), strict=True):
        pairs = [(t, p) for t, p in zip(truth, claim, strict=True) if 0 <= t < classes]
        result.append(
            [
                [
                    sum(t == c == p for t, p in pairs),
                    sum(t != c == p for t, p in pairs),
                    sum(t == c != p for t, p in pairs),
                ]
                for c in range(classes)
            ]
        )
    return result


@given(seed=st.integers(0, 2**31), classes=st.integers(2, 5), extra=st.integers(0, 2), dense=st.booleans())
def test_counts_are_those_of_brute_force(seed: int, classes: int, extra: int, dense: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = (3, 4, 5) if dense else (6,)
    target = torch.randint(-1, classes + 1, shape, generator=generator)
    predicted = torch.randint(0, classes + extra, shape, generator=generator)
    got = Tally(target, classes=classes, channels=classes + extra)(predicted)
    view = (-1, 1) if not dense else shape
    assert got.tolist() == brute_force(target.view(view), predicted.view(view), classes)


def test_a_prediction_in_few_bits_is_counted_and_left_as_it_is() -> None:
    target, predicted = torch.tensor([[[0, 1], [1, 1]]]), torch.tensor([[[0, 1], [0, 1]]], dtype=torch.int32)
    tally = Tally(target, classes=2, channels=2)
    assert tally(predicted).equal(tally(predicted))
    assert predicted.tolist() == [[[0, 1], [0, 1]]]


def test_torchmetrics_agrees() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(-1, 7, (5, 20, 30), generator=generator)
    predicted = torch.randint(0, 7, (5, 20, 30), generator=generator)
    got = Tally(target, classes=7, channels=7)(predicted)
    options = {"num_classes": 7, "ignore_index": VOID, "average": None}
    scores = multiclass_stat_scores(predicted, target, multidim_average="samplewise", **options)
    assert got.equal(scores[..., [0, 1, 3]])
    jaccard = multiclass_jaccard_index(predicted, target, num_classes=7, ignore_index=VOID)
    assert float(metrics.miou(got.sum(0).numpy())) == pytest.approx(100 * float(jaccard), abs=1e-4)


def test_a_channel_beyond_the_classes_is_an_error_of_the_true_class_and_no_class() -> None:
    target = torch.tensor([[[0, 0, 1, VOID]]])
    predicted = torch.tensor([[[0, 2, 2, 2]]])
    assert Tally(target, classes=2, channels=3)(predicted).tolist() == [[[1, 0, 1], [0, 0, 1]]]


def test_fewer_channels_than_classes_and_other_shapes_are_refused() -> None:
    with pytest.raises(GpsweepError, match=r"model\.classes: expected at least the data's 3 classes"):
        Tally(torch.zeros(1, 2, 2).long(), classes=3, channels=2)
    with pytest.raises(GpsweepError, match=r"shape \(1, 2, 2\), came \(1, 4, 4\)"):
        Tally(torch.zeros(1, 2, 2).long(), classes=3, channels=3)(torch.zeros(1, 4, 4).long())


@given(seed=st.integers(0, 2**31), channels=st.integers(1, 6), dense=st.booleans())
def test_a_class_map_merges_classes_as_one_would_by_hand(seed: int, channels: int, dense: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes, shape = 3, (3, 4, 5) if dense else (6,)
    target = torch.randint(-1, classes + 1, shape, generator=generator)
    predicted = torch.randint(0, channels, shape, generator=generator)
    class_map = torch.randint(-1, classes, (channels,), generator=generator)
    got = Tally(target, classes=classes, channels=channels, class_map=class_map.tolist())(predicted)
    merged = class_map[predicted]
    view = (-1, 1) if not dense else shape
    assert got.tolist() == brute_force(target.view(view), merged.view(view), classes)


def test_a_class_map_of_itself_changes_nothing_and_one_of_other_length_is_refused() -> None:
    generator = torch.Generator().manual_seed(0)
    target, predicted = (torch.randint(0, 4, (2, 5, 6), generator=generator) for _ in range(2))
    plain = Tally(target, classes=4, channels=4)(predicted)
    assert Tally(target, classes=4, channels=4, class_map=range(4))(predicted).equal(plain)
    with pytest.raises(GpsweepError, match=r"model\.class_map: expected .* 4 channels, came 3"):
        Tally(target, classes=4, channels=4, class_map=[0, 1, 2])


class Elsewhere(torch.Tensor):
    """A tensor that says it is on a GPU."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda")


def test_a_gpus_way_of_counting_gives_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(-1, 5, (3, 8, 9), generator=generator)
    predicted = torch.randint(0, 6, (3, 8, 9), generator=generator)
    tally = Tally(target, classes=5, channels=6)
    with patch.object(torch, "bincount", side_effect=AssertionError("it waits for the GPU")):
        there = tally(predicted.as_subclass(Elsewhere))
    assert torch.equal(there.as_subclass(torch.Tensor), tally(predicted))
