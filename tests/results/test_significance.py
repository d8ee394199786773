"""P-values against a count of every way by hand, and what they are where nothing is to be found."""

from __future__ import annotations

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpsweep import metrics
from gpsweep.results.significance import mcnemar, p_value, permutation

SEG, CLS = "segmentation", "classification"


def some(images: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 20, (images, classes, 3)), rng.integers(0, 20, (images, classes, 3))


def answers(right: list[bool]) -> np.ndarray:
    """Return classification counts of two classes: image i is of class i % 2."""
    table = np.zeros((len(right), 2, 3), dtype=np.uint8)
    for image, hit in enumerate(right):
        own, other = image % 2, 1 - image % 2
        if hit:
            table[image, own, metrics.TP] = 1
        else:
            table[image, own, metrics.FN] = table[image, other, metrics.FP] = 1
    return table


@given(st.integers(0, 30), st.integers(0, 30))
def test_mcnemar_is_twice_the_tail_of_the_binomial(won: int, lost: int) -> None:
    n, most = won + lost, max(won, lost)
    tail = sum(comb(n, k) for k in range(most, n + 1)) / 2**n
    assert mcnemar(won, lost) == pytest.approx(min(1.0, 2 * tail))


def test_classification_counts_the_images_that_one_side_has_right() -> None:
    base = answers([True] * 50 + [False] * 10)
    point = answers([True] * 48 + [False] * 2 + [True] * 9 + [False])
    assert p_value(point, base, CLS) == mcnemar(9, 2)
    assert p_value(base, point, CLS) == mcnemar(2, 9) == mcnemar(9, 2)


def test_mcnemar_is_exact_of_however_many_images_and_groups_are_swapped() -> None:
    base, point = answers([True] * 5 + [False] * 20), answers([False] * 5 + [True] * 17 + [False] * 3)
    assert p_value(point, base, CLS) == mcnemar(17, 5) != permutation(point, base, CLS)
    # The last two images are a group, all others one by themselves.
    base, point = (np.concatenate([part[:-2], part[-2:].sum(0)[None]]) for part in (base, point))
    assert p_value(point, base, CLS) == permutation(point, base, CLS) != mcnemar(17, 5)


def test_few_images_are_swapped_in_every_way() -> None:
    point, base = some(6)
    point[2] = base[2]  # swapping it changes nothing
    real = abs(metrics.miou(point.sum(0)) - metrics.miou(base.sum(0)))
    reached = []
    for swap in product([False, True], repeat=6):
        where = np.array(swap)[:, None, None]
        one, other = np.where(where, base, point), np.where(where, point, base)
        reached.append(abs(metrics.miou(one.sum(0)) - metrics.miou(other.sum(0))) >= real - 1e-9)
    assert permutation(point, base, SEG) == pytest.approx(np.mean(reached))


def test_only_images_that_differ_count() -> None:
    point, base = some(15, seed=3)
    drawn = 10_001 * permutation(point, base, SEG)
    assert drawn == pytest.approx(round(drawn))
    point[:4] = base[:4]  # 11 are left, which are few
    tried = permutation(point, base, SEG)
    assert 2**11 * tried == pytest.approx(round(2**11 * tried))
    longer = (np.concatenate([part, part[:4], part[:4] * 0]) for part in (point, base))
    found = 2**11 * permutation(*longer, SEG)
    assert found == pytest.approx(round(found))


def test_drawn_ways_agree_with_every_way(monkeypatch: pytest.MonkeyPatch) -> None:
    point, base = some(12, seed=5)
    exact = permutation(point, base, SEG)
    monkeypatch.setattr("gpsweep.results.significance.FEW", 5)
    drawn = permutation(point, base, SEG)
    assert 0.01 < exact < 0.99
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 10_000))
    assert drawn == permutation(point, base, SEG)
    assert drawn != permutation(point, base, SEG, seed=1)
    assert permutation(point, base, SEG, draws=1234) == pytest.approx(exact, abs=0.05)


def test_one_sided_images_give_the_smallest_p() -> None:
    base = np.full((30, 2, 3), 5)
    point = base + np.array([3, -1, -2])
    assert permutation(point, base, SEG) == 1 / 10_001
    assert permutation(point[:8], base[:8], SEG) == 2 / 2**8  # as they are, and all swapped


@pytest.mark.parametrize("images", [1, 40])
@pytest.mark.parametrize("task", [SEG, CLS])
def test_no_difference_is_no_evidence(task: str, images: int) -> None:
    same = answers([True, False] * 20)[:images]
    assert p_value(same, same, task) == 1
    assert p_value(same * 0, same * 0, task) == 1  # void alone


def test_one_image_is_no_evidence() -> None:
    assert p_value(answers([True]), answers([False]), CLS) == 1
    assert p_value(answers([True]), answers([False]), SEG) == 1


def test_small_unsigned_counts_do_not_wrap() -> None:
    point, base = some(8)
    small = permutation(point.astype(np.uint8), base.astype(np.uint8), SEG)
    assert small == permutation(point, base, SEG)


@pytest.mark.parametrize("task", [SEG, CLS])
def test_where_nothing_is_to_be_found_p_is_even(task: str) -> None:
    """Both sides drawn alike: p ≤ a in about a share a of the trials, in no more of them for McNemar."""
    rng = np.random.default_rng(0)
    found = []
    for trial in range(300):
        if task == SEG:
            level = rng.integers(5, 40, (24, 1, 3))
            point, base = (rng.poisson(level, (24, 3, 3)) for _ in range(2))
        else:
            chance = rng.uniform(0.3, 0.95, 200)
            point, base = (answers(list(rng.random(200) < chance)) for _ in range(2))
        found.append(p_value(point, base, task, draws=400, seed=trial))
    for level in (0.05, 0.1, 0.25, 0.5, 0.75):
        share, error = np.mean(np.array(found) <= level), 3.5 * np.sqrt(level * (1 - level) / 300)
        assert share <= level + error
        assert share >= level - error - (0.1 if task == CLS else 0)  # discrete: on the careful side
