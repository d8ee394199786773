"""Metrics and paired bootstrap intervals from integer counts; nothing is ever averaged twice.

Counts are integers laid out as ``(..., images, classes, 3)``, the last axis being true positives, false
positives and false negatives. Sums over images, ``(..., classes, 3)``, are called totals.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpsweep.counts import Counts
from gpsweep.errors import unknown

Integers = NDArray[Any]
Floats = NDArray[np.float64]

TP, FP, FN = range(3)
TASKS = ("segmentation", "classification")
DRAWS = 1000
LEVEL = 0.95
ALPHA = round(1 - LEVEL, 6)  # below it a p-value speaks for a gain


def total(counts: Integers | Counts) -> Integers:
    """Sum counts over their images.

    Args:
        counts: ``(..., images, classes, 3)``, integers ≥ 0.

    Returns:
        ``(..., classes, 3)``, int64.
    """
    if isinstance(counts, Counts):
        return counts.total()
    return np.asarray(counts.sum(axis=-3, dtype=np.int64))


def iou(totals: Integers) -> Floats:
    """Return tp / (tp + fp + fn) of each class in %, NaN for a class in neither truth nor prediction.

    Args:
        totals: ``(..., classes, 3)``.

    Returns:
        ``(..., classes)``, 0 to 100 or NaN.
    """
    return _ratio(totals[..., TP], totals.sum(axis=-1), empty=np.nan)


def class_accuracy(totals: Integers) -> Floats:
    """Return tp / (tp + fn) of each class in %, NaN for a class that is not in the truth.

    Args:
        totals: ``(..., classes, 3)``.

    Returns:
        ``(..., classes)``, 0 to 100 or NaN.
    """
    return _ratio(totals[..., TP], totals[..., TP] + totals[..., FN], empty=np.nan)


def miou(totals: Integers) -> Floats:
    """Return the mean IoU in % over the classes present in truth or prediction; 0 where there is none.

    The paper (Sec. 4.1) divides by how many classes there are, which is the same where all are present.

    Args:
        totals: ``(..., classes, 3)``, summed over the data set: nothing is averaged over images.

    Returns:
        ``(...)``, 0 to 100.
    """
    return _mean_ratio(totals[..., TP], totals.sum(axis=-1))


def accuracy(totals: Integers) -> Floats:
    """Return Σtp / Σ(tp + fn) in %: the right share of the labelled pixels, or images in classification.

    Args:
        totals: ``(..., classes, 3)``.

    Returns:
        ``(...)``, 0 to 100; 0 where nothing is labelled.
    """
    return _ratio(totals[..., TP].sum(axis=-1), (totals[..., TP] + totals[..., FN]).sum(axis=-1), empty=0)


def score(totals: Integers, task: str) -> Floats:
    """Return the score of a task in %: mean IoU for segmentation, top-1 accuracy for classification.

    Args:
        totals: ``(..., classes, 3)``.
        task: a name of :data:`TASKS`.

    Returns:
        ``(...)``, 0 to 100.

    Raises:
        GpsweepError: for an unknown task.
    """
    return miou(totals) if is_segmentation(task) else accuracy(totals)


def class_score(totals: Integers, task: str) -> Floats:
    """Return the score of each class in %: :func:`iou`, or :func:`class_accuracy` in classification.

    Args:
        totals: ``(..., classes, 3)``.
        task: a name of :data:`TASKS`.

    Returns:
        ``(..., classes)``, 0 to 100 or NaN.

    Raises:
        GpsweepError: for an unknown task.
    """
    return iou(totals) if is_segmentation(task) else class_accuracy(totals)


def is_segmentation(task: str) -> bool:
    """Tell the two tasks apart.

    Args:
        task: a name of :data:`TASKS`.

    Raises:
        GpsweepError: for an unknown task.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    return task == "segmentation"


def resample_weights(images: int, draws: int = DRAWS, seed: int = 0) -> Floats:
    """Return how often each image is in each bootstrap draw: multinomial, each row sums to ``images``.

    Args:
        images: how many there are, ≥ 0.
        draws: how many times so many images are drawn with replacement.
        seed: the same seed and numbers give the same draws.

    Returns:
        ``(draws, images)``, whole numbers ≥ 0 as floats.
    """
    generator = np.random.default_rng(seed)
    weights = np.zeros((draws, images))
    for row in weights if images else ():
        row += np.bincount(generator.integers(images, size=images), minlength=images)
    return weights


def paired_intervals(
    points: Counts, base: Integers, weights: Floats, task: str, level: float = LEVEL
) -> Floats:
    """Return the percentile interval of score(point) − score(base) over the same bootstrap draws, by point.

    Args:
        points: counts of points, ``(points, images, classes, 3)``.
        base: counts of the unperturbed run, ``(images, classes, 3)``.
        weights: :func:`resample_weights`, ``(draws, images)``.
        task: a name of :data:`TASKS`.
        level: share of the draws inside the interval, 0 to 1.

    Returns:
        ``(points, 2)``: low and high, in percentage points.

    Raises:
        GpsweepError: for an unknown task.
    """
    tails = [(1 - level) / 2, (1 + level) / 2]
    deltas = _miou_deltas if is_segmentation(task) else _accuracy_deltas
    bounds = [np.quantile(delta, tails) for delta in deltas(points, base, weights)]
    return np.reshape(np.asarray(bounds, dtype=np.float64), (-1, 2)) + 0.0  # + 0.0: no -0.0 on paper


def _miou_deltas(points: Counts, base: Integers, weights: Floats) -> Iterator[Floats]:
    def draws(counts: Integers) -> Floats:
        # As floating point the product runs in BLAS, and is exact below 2^53.
        columns = np.concatenate([counts[..., TP], counts.sum(axis=-1)], axis=1, dtype=np.float64)
        tp, union = np.split(weights @ columns, 2, axis=1)
        return _mean_ratio(tp, union)

    clean = draws(base)
    for counts in points:
        yield draws(counts) - clean


def _accuracy_deltas(points: Counts, base: Integers, weights: Floats) -> Iterator[Floats]:
    right = points.right() - base[..., TP].sum(axis=-1, dtype=np.float64)
    labelled = weights @ (base[..., TP] + base[..., FN]).sum(axis=-1, dtype=np.float64)
    yield from _ratio(weights @ right.T, labelled[:, None], empty=0).T


def _ratio(part: Integers, whole: Integers, *, empty: float) -> Floats:
    out = np.full(np.broadcast_shapes(np.shape(part), np.shape(whole)), float(empty))
    # 100 · 29 / 50 is 58 to the last bit, 100 · (29 / 50) is not.
    np.divide(100.0 * part, whole, out=out, where=whole > 0)
    return out


def _mean_ratio(part: Integers, whole: Integers) -> Floats:
    present: Floats = np.maximum(np.count_nonzero(whole > 0, axis=-1), 1).astype(np.float64)
    mean: Floats = _ratio(part, whole, empty=0).sum(axis=-1) / present
    return mean
