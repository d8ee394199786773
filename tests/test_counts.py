from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from gpsweep.counts import Counts

SHAPES = st.tuples(st.integers(1, 4), st.integers(0, 5), st.integers(1, 4), st.just(3))
DENSE = SHAPES.flatmap(
    lambda shape: arrays.arrays(np.int64, shape, elements=st.sampled_from([0, 0, 0, 1, 70_000]))
)


@given(DENSE)
def test_it_says_what_dense_counts_say(dense: np.ndarray) -> None:
    counts = Counts.of(dense)
    assert counts.shape == dense.shape
    np.testing.assert_array_equal(counts, dense)
    np.testing.assert_array_equal(list(counts), dense)
    np.testing.assert_array_equal(counts[-len(dense)], dense[0])
    assert np.asarray(counts, dtype=np.float64).dtype == np.float64
    np.testing.assert_array_equal(counts.total(), dense.sum(1))
    np.testing.assert_array_equal(counts.right(), dense[..., 0].sum(-1))
    np.testing.assert_array_equal(counts.take([len(dense) - 1, 0]), dense[[-1, 0]])
    images = [dense.shape[1] - 1, 0] if dense.shape[1] else []
    np.testing.assert_array_equal(counts.images(images), dense[:, images])
    np.testing.assert_array_equal(Counts.from_arrays(counts.arrays()), dense)
    np.testing.assert_array_equal(np.negative(Counts.from_arrays(counts.arrays())), -dense)  # no bytes


@given(DENSE)
def test_images_go_beside_and_points_below(dense: np.ndarray) -> None:
    counts = Counts.of(dense)
    for both, expected in (
        (Counts.beside([counts, counts]), np.concatenate([dense, dense], axis=1)),
        (Counts.below([counts, counts]), np.concatenate([dense, dense])),
    ):
        np.testing.assert_array_equal(both, expected)
        np.testing.assert_array_equal(both.total(), expected.sum(1))


@given(DENSE, st.data())
def test_groups_are_sums_of_their_images(dense: np.ndarray, data: st.DataObject) -> None:
    images = dense.shape[1]
    groups = data.draw(arrays.arrays(np.intp, images, elements=st.integers(0, 3)))
    expected = np.zeros((len(dense), int(groups.max(initial=-1)) + 1, *dense.shape[2:]), dtype=np.int64)
    for image, group in enumerate(groups):
        expected[:, group] += dense[:, image]
    made = Counts.of(dense).grouped(groups)
    assert made.shape == expected.shape
    np.testing.assert_array_equal(made, expected)
    np.testing.assert_array_equal(made.right(), expected[..., 0].sum(-1))


def test_a_point_that_is_not_there_is_no_other() -> None:
    counts = Counts.of(np.ones((2, 1, 1, 3), dtype=int))
    for place in (2, -3):
        with pytest.raises(IndexError):
            counts[place]


def test_zeros_take_no_room() -> None:
    dense = np.zeros((10, 20, 30, 3), dtype=np.int64)
    dense[3, 4, 5] = 1, 2, 255
    arrays = Counts.of(dense).arrays()
    assert arrays["values"].tolist() == [1, 2, 255]
    assert arrays["values"].dtype == np.uint8


def test_arrays_that_do_not_fit_are_refused() -> None:
    arrays = Counts.of(np.ones((2, 2, 2, 3), dtype=int)).arrays()
    with pytest.raises(ValueError):
        Counts.from_arrays(arrays | {"columns": arrays["columns"] + 100})
