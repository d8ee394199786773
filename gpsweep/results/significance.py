"""P-values of a point against the base: how often chance alone would part the two as far as they are."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpsweep import metrics
from gpsweep.results.outcome import Outcome

Integers = NDArray[Any]
Floats = NDArray[np.float64]

TESTS = {
    "segmentation": "paired permutation test over images",
    "classification": "exact McNemar test over images",
    "groups": "paired permutation test over groups of images",
}
DRAWS = 10_000
BLOCK = 1000  # draws at a time: their totals stay small
FEW = 14  # so many images can be swapped in few enough ways to try them all: 2¹⁴
ROUNDING = 1e-9  # scores in % that differ by less are equal


def name_of(outcome: Outcome) -> str:
    """Name the test that an outcome's p-values are of."""
    return TESTS[outcome.task if outcome.units is outcome else "groups"]


def p_value(point: Integers, base: Integers, task: str, draws: int = DRAWS, seed: int = 0) -> float:
    """Return the two-sided p-value of score(point) − score(base) over paired images, or groups of them.

    Classification: :func:`mcnemar` on the images that one of the two has right; segmentation, and groups of
    images: :func:`permutation`. Where nothing differs it is 1.

    Args:
        point: counts of a point, ``(images, classes, 3)``; of a group its images' sum.
        base: counts of the unperturbed run, ``(images, classes, 3)``.
        task: a name of :data:`gpsweep.metrics.TASKS`.
        draws: of the permutation test.
        seed: of the draws.
    """
    # An image of a classification has one truth, a group of images several.
    if metrics.is_segmentation(task) or (base[..., [metrics.TP, metrics.FN]].sum(axis=(1, 2)) > 1).any():
        return permutation(point, base, task, draws, seed)
    before, after = (counts[..., metrics.TP].any(axis=-1) for counts in (base, point))
    return mcnemar(int((after & ~before).sum()), int((before & ~after).sum()))


def mcnemar(won: int, lost: int) -> float:
    """Return the p-value of McNemar's exact test: under chance, won ~ Binomial(won + lost, ½).

    McNemar, Note on the sampling error of the difference between correlated proportions (1947), in its exact
    form.

    Args:
        won: images that only the point has right.
        lost: images that only the base has right.
    """
    if won == lost:  # no image differs, or no side is ahead
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(won, won + lost).pvalue)


def permutation(point: Integers, base: Integers, task: str, draws: int = DRAWS, seed: int = 0) -> float:
    """Return the p-value of a paired permutation test on the difference of two data set scores.

    If the point did nothing, an image's two counts could as well be each other's. So they are swapped at
    random, image by image, and p is the share of the ways in which the scores then differ at least as much as
    they do unswapped: of all 2ⁿ ways where n images differ, n ≤ 14, else (1 + #≥) / (1 + draws).

    Args:
        point: counts of a point, ``(images, classes, 3)``.
        base: counts of the unperturbed run, ``(images, classes, 3)``.
        task: a name of :data:`gpsweep.metrics.TASKS`.
        draws: random ways.
        seed: of the draws.
    """
    differs = (point != base).any(axis=(1, 2))
    # As floating point the products run in BLAS, and are exact below 2^53.
    ours, theirs = (counts.reshape(len(counts), -1).astype(np.float64) for counts in (point, base))
    change, together = (ours - theirs)[differs], (ours + theirs).sum(axis=0)
    kept = theirs.sum(axis=0)

    def gaps(stays: Floats) -> Floats:
        """Return |score − score| of ways ``(ways, images)``: 1 where an image stays, 0 where swapped."""
        sums = kept + stays @ change
        one, other = (part.reshape(-1, *point.shape[1:]) for part in (sums, together - sums))
        return np.abs(metrics.score(one, task) - metrics.score(other, task))

    images = len(change)
    real = gaps(np.ones((1, images)))[0] - ROUNDING
    if images <= FEW:
        return float(np.mean(gaps(_all_ways(images)) >= real))
    reached = sum(int((gaps(ways) >= real).sum()) for ways in _random_ways(images, draws, seed))
    return (1 + reached) / (1 + draws)


def _all_ways(images: int) -> Floats:
    return np.array(list(product((0.0, 1.0), repeat=images))).reshape(2**images, images)


def _random_ways(images: int, draws: int, seed: int) -> Iterator[Floats]:
    generator = np.random.default_rng(seed)
    for start in range(0, draws, BLOCK):
        size = (min(BLOCK, draws - start), images)
        yield generator.integers(2, size=size, dtype=np.int8).astype(np.float64)
