"""Metrics against closed forms, torchmetrics and scikit-learn; intervals against the plain bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from outcomes import interval
from sklearn.metrics import accuracy_score, jaccard_score, recall_score
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

from gpsweep import metrics
from gpsweep.counts import Counts
from gpsweep.errors import GpsweepError

TABLES = hnp.arrays(
    np.int64,
    st.tuples(st.integers(1, 5), st.integers(1, 4), st.just(3)),
    elements=st.integers(0, 40),
)


def tally(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count by the definition, image by image and class by class."""
    rows = []
    for one, other in zip(truth, predicted, strict=True):
        hits = [
            [(one == c) & (other == c), (one != c) & (other == c), (one == c) & (other != c)]
            for c in range(classes)
        ]
        rows.append([[int(kind.sum()) for kind in kinds] for kinds in hits])
    return np.array(rows).reshape(len(truth), classes, 3)


def image(seed: int, shape: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(classes, size=shape)
    return truth, np.where(rng.random(shape) < 0.6, truth, rng.integers(classes, size=shape))


def test_closed_form() -> None:
    totals = np.array([[3, 1, 0], [2, 0, 2], [0, 0, 0], [0, 4, 0]])
    np.testing.assert_allclose(metrics.iou(totals), [75, 50, np.nan, 0])
    np.testing.assert_allclose(metrics.class_accuracy(totals), [100, 50, np.nan, np.nan])
    assert metrics.miou(totals) == pytest.approx((75 + 50 + 0) / 3)
    assert metrics.accuracy(totals) == pytest.approx(100 * 5 / 7)
    assert metrics.score(totals, "segmentation") == metrics.miou(totals)
    assert metrics.score(totals, "classification") == metrics.accuracy(totals)
    np.testing.assert_array_equal(metrics.class_score(totals, "segmentation"), metrics.iou(totals))
    by_class = metrics.class_score(totals, "classification")
    np.testing.assert_array_equal(by_class, metrics.class_accuracy(totals))


def test_a_single_pixel_counts() -> None:
    one = np.array([[1, 0, 0], [0, 0, 0]])
    assert metrics.miou(one) == metrics.accuracy(one) == 100
    np.testing.assert_array_equal(metrics.iou(one), [100, np.nan])


def test_a_score_is_the_percentage_to_the_last_bit() -> None:
    """No table says 57.99999999999999 % of 58 images of a hundred."""
    right = np.arange(101)
    totals = np.stack([right, np.zeros_like(right), 100 - right], axis=-1)[:, None]
    for measure in (metrics.accuracy, metrics.miou):
        assert measure(totals).tolist() == right.tolist()


def test_total_sums_images_and_keeps_points() -> None:
    many = np.full((2, 300, 4, 3), 200, dtype=np.uint8)
    assert metrics.total(many).shape == (2, 4, 3)
    assert (metrics.total(many) == 60_000).all()


@pytest.mark.parametrize("classes", [2, 5, 11])
def test_torchmetrics_agrees_on_segmentation(classes: int) -> None:
    truth, predicted = image(classes, (6, 17, 13), classes)
    expected = multiclass_jaccard_index(
        torch.from_numpy(predicted), torch.from_numpy(truth), num_classes=classes, average="macro"
    )
    totals = metrics.total(tally(truth, predicted, classes))
    assert metrics.score(totals, "segmentation") == pytest.approx(100 * float(expected), abs=1e-4)


def test_torchmetrics_agrees_on_classification() -> None:
    truth, predicted = image(3, (200,), 7)
    expected = multiclass_accuracy(
        torch.from_numpy(predicted), torch.from_numpy(truth), num_classes=7, average="micro"
    )
    totals = metrics.total(tally(truth[:, None], predicted[:, None], 7))
    assert metrics.score(totals, "classification") == pytest.approx(100 * float(expected), abs=1e-4)


@given(st.integers(1, 12), st.integers(2, 5), st.data())
def test_scikit_learn_agrees_on_any_pixels(pixels: int, classes: int, data: st.DataObject) -> None:
    """Among few pixels some classes are in the truth alone, in the prediction alone, or in neither."""
    maps = hnp.arrays(np.int64, (1, pixels), elements=st.integers(0, classes - 1))
    truth, predicted = data.draw(maps), data.draw(maps)
    totals = metrics.total(tally(truth, predicted, classes))
    flat = truth[0], predicted[0]
    seen, present = np.union1d(*flat), np.unique(truth)
    each = jaccard_score(*flat, labels=seen, average=None)
    np.testing.assert_allclose(metrics.iou(totals)[seen], 100 * each)
    assert np.isfinite(metrics.iou(totals)).sum() == len(seen)
    assert metrics.miou(totals) == pytest.approx(100 * jaccard_score(*flat, average="macro"))
    assert metrics.accuracy(totals) == pytest.approx(100 * accuracy_score(*flat))
    recalls = recall_score(*flat, labels=present, average=None)
    np.testing.assert_allclose(metrics.class_accuracy(totals)[present], 100 * recalls)
    assert np.isfinite(metrics.class_accuracy(totals)).sum() == len(present)


def test_unknown_task_names_the_choices() -> None:
    with pytest.raises(GpsweepError, match=r"task=segmentatoin.*segmentation"):
        metrics.score(np.zeros((2, 3)), "segmentatoin")


@pytest.mark.parametrize("images", [1, 2, 50])
def test_weights_are_multinomial(images: int) -> None:
    weights = metrics.resample_weights(images, draws=400, seed=3)
    assert weights.shape == (400, images)
    assert (weights.sum(axis=1) == images).all()
    assert abs(weights.mean(axis=0) - 1).max() < 0.35
    np.testing.assert_array_equal(weights, metrics.resample_weights(images, draws=400, seed=3))
    if images > 2:
        assert weights.var() == pytest.approx(1 - 1 / images, abs=0.05)
        assert not np.array_equal(weights, metrics.resample_weights(images, draws=400, seed=4))


@pytest.mark.parametrize("task", metrics.TASKS)
def test_interval_is_the_plain_bootstraps(task: str) -> None:
    shape = (30, 9, 9) if task == "segmentation" else (30, 1)
    truth, first = image(1, shape, 4)
    _, second = image(2, shape, 4)
    base, point = tally(truth, first, 4), tally(truth, np.where(second == 1, second, first), 4)
    weights = metrics.resample_weights(30, draws=200, seed=5)
    deltas = []
    for row in weights.astype(int):
        drawn = np.repeat(np.arange(30), row)
        pair = [metrics.score(metrics.total(table[drawn]), task) for table in (point, base)]
        deltas.append(pair[0] - pair[1])
    expected = np.quantile(deltas, [0.025, 0.975])
    assert expected[0] < expected[1]
    np.testing.assert_allclose(interval(point, base, weights, task), expected, atol=1e-9)
    narrow = interval(point, base, weights, task, level=0.5)
    np.testing.assert_allclose(narrow, np.quantile(deltas, [0.25, 0.75]), atol=1e-9)


def test_pairing_narrows_the_interval() -> None:
    """Images that differ much but all gain alike have a narrow interval only when drawn together."""
    tp = np.linspace(100, 900, 40).astype(int)
    base = np.stack([tp, np.zeros_like(tp), 1000 - tp], axis=-1)[:, None]
    point = base + np.array([10, 0, -10])
    low, high = interval(point, base, metrics.resample_weights(40), "segmentation")
    assert low == pytest.approx(1.0)
    assert high == pytest.approx(1.0)


def test_many_points_at_once_are_the_points_one_by_one() -> None:
    rng = np.random.default_rng(0)
    points, base = rng.integers(0, 9, (5, 12, 3, 3)), rng.integers(0, 9, (12, 3, 3))
    weights = metrics.resample_weights(12, draws=50)
    for task in metrics.TASKS:
        each = [interval(point, base, weights, task) for point in points]
        np.testing.assert_array_equal(metrics.paired_intervals(Counts.of(points), base, weights, task), each)
        assert metrics.paired_intervals(Counts.of(points[:0]), base, weights, task).shape == (0, 2)


@pytest.mark.parametrize("task", metrics.TASKS)
def test_nothing_to_count_gives_zero_and_no_nan(task: str) -> None:
    for shape in [(0, 4, 3), (3, 4, 3)]:
        empty = np.zeros(shape, dtype=np.uint8)
        assert metrics.score(metrics.total(empty), task) == 0
        weights = metrics.resample_weights(shape[0], draws=20)
        assert weights.shape == (20, shape[0])
        assert interval(empty, empty, weights, task) == (0.0, 0.0)


def test_a_class_absent_from_a_draw_drops_out_of_its_mean() -> None:
    base = np.array([[[5, 0, 5], [0, 0, 0]], [[0, 0, 0], [1, 0, 9]]])  # each image has a class of its own
    point = np.array([[[6, 0, 4], [0, 0, 0]], [[0, 0, 0], [3, 0, 7]]])
    weights = np.array([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    low, high = interval(point, base, weights, "segmentation", level=1.0)
    assert (low, high) == (pytest.approx(10), pytest.approx(20))


@settings(deadline=None)
@given(TABLES, st.data())
def test_merging_is_adding(table: np.ndarray, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(table)))
    merged = metrics.total(table[:cut]) + metrics.total(table[cut:])
    np.testing.assert_array_equal(merged, metrics.total(table))


@settings(deadline=None)
@given(TABLES, st.sampled_from(metrics.TASKS))
def test_identical_counts_have_no_gain(table: np.ndarray, task: str) -> None:
    weights = metrics.resample_weights(len(table), draws=30)
    assert interval(table, table.copy(), weights, task) == (0.0, 0.0)


@settings(deadline=None)
@given(TABLES, st.randoms(use_true_random=False), st.sampled_from(metrics.TASKS))
def test_order_of_images_and_classes_does_not_matter(table: np.ndarray, random: object, task: str) -> None:
    images, classes = (random.sample(range(size), size) for size in table.shape[:2])  # type: ignore[attr-defined]
    mixed = table[images][:, classes]
    one, other = (metrics.score(metrics.total(each), task) for each in (table, mixed))
    assert one == pytest.approx(other, abs=1e-9)
    per_class = metrics.iou(metrics.total(table))[classes]
    np.testing.assert_allclose(metrics.iou(metrics.total(mixed)), per_class)
    assert 0 <= one <= 100
    base = table[..., [metrics.FN, metrics.FP, metrics.TP]]  # of the same truth
    weights = metrics.resample_weights(len(table), draws=20)
    np.testing.assert_allclose(
        interval(table, base, weights, task),
        interval(mixed, base[images][:, classes], weights[:, images], task),
        atol=1e-9,
    )
