"""The search is exact, whatever rounding, ties and block sizes do; weights and votes are as defined."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gpsweep.errors import GpsweepError
from gpsweep.knn import neighbours
from gpsweep.knn.neighbours import WEIGHTS, nearest, smallest, vote


def plain(queries: Tensor, index: Tensor, k: int, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sort every row by distance in 64 bits, then by number."""
    found = []
    for number, query in enumerate(queries.double()):
        squared = (index.double() - query).square().sum(1)
        rows = sorted(range(len(index)), key=lambda row: (float(squared[row]), row))
        rows = [row for row in rows if own is None or row != own[number]][:k]
        found.append((squared[rows].sqrt(), torch.tensor(rows)))
    distances, rows_ = zip(*found, strict=True)
    return torch.stack(distances), torch.stack(rows_)


def assert_exact(queries: Tensor, index: Tensor, k: int, own: Tensor | None = None) -> None:
    """Hold what is found against :func:`plain`."""
    distances, rows = nearest(queries, index, k, own=own)
    expected, expected_rows = plain(queries, index, k, own)
    assert rows.equal(expected_rows)
    torch.testing.assert_close(distances, expected, rtol=1e-12, atol=0)


def points(count: int, seed: int, dimensions: int = 7, offset: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimensions, generator=generator) + offset


@given(
    rows=st.integers(5, 400),
    k=st.integers(1, 5),
    seed=st.integers(0, 99),
    levels=st.sampled_from([1, 2, 20]),
    dimensions=st.integers(1, 4),
)
def test_ties_go_to_the_lowest_row(rows: int, k: int, seed: int, levels: int, dimensions: int) -> None:
    index = (points(rows, seed, dimensions) * levels).round() / levels
    assert_exact((points(6, seed + 1, dimensions) * levels).round() / levels, index, k)


@pytest.mark.parametrize("offset", [0.0, 30.0, 1000.0])
def test_rounding_does_not_change_the_order(offset: float) -> None:
    """Far from the origin 32 bits cannot tell neighbours apart by ‖x‖² − 2q·x."""
    index, queries = points(3000, 1, offset=offset), points(20, 2, offset=offset)
    assert_exact(queries, index, 4)
    if offset == 1000:
        crude = (index.square().sum(1) - 2 * queries @ index.T).topk(4, largest=False).indices
        assert not crude.equal(nearest(queries, index, 4)[1])


@pytest.mark.parametrize("scale", [1e-35, 1e-22, 1e-19, 1e19, 1e35])
def test_products_that_32_bits_cannot_hold_do_not_change_the_order(scale: float) -> None:
    index, queries = points(3000, 1, offset=3.0), points(20, 2, offset=3.0)
    assert_exact(queries * scale, index * scale, 4)
    assert_exact(queries, index * scale, 4)


def test_many_alike_are_told_apart_by_number() -> None:
    index = torch.cat([points(500, 1), torch.zeros(200, 7), points(500, 2)])
    _, rows = nearest(torch.zeros(2, 7), index, 3)
    assert rows.tolist() == [[500, 501, 502]] * 2


def test_block_sizes_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    index, queries = points(1500, 1), points(23, 2)
    distances, rows = nearest(queries, index, 3)
    monkeypatch.setattr(neighbours, "TOGETHER", 4 * len(index))
    for other, other_rows in (
        nearest(queries, index, 3),
        [torch.cat(parts) for parts in zip(*(nearest(q[None], index, 3) for q in queries), strict=True)],
    ):
        assert other.equal(distances)
        assert other_rows.equal(rows)


def test_a_query_does_not_find_itself() -> None:
    index = points(300, 1)
    own = torch.tensor([7, -1, 299, 0])
    assert_exact(index[[7, 7, 299, 0]], index, 3, own)
    _, rows = nearest(index[[7, 7]], index, 1, own=own[:2])
    assert rows[1] == 7 != rows[0]
    few = index[:3]
    assert nearest(few[:1], few, 2, own=torch.tensor([0]))[1].tolist() in ([[1, 2]], [[2, 1]])


def test_reduced_precision_is_not_used() -> None:
    index, queries = points(3000, 1, offset=5.0), points(20, 2, offset=5.0)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        # Not every CPU has fewer bits to offer, so that the order alone would not show it.
        assert neighbours._Search(index, 4).working.dtype is torch.float64
        with torch.autocast("cpu", torch.bfloat16):
            assert_exact(queries, index, 4)
    finally:
        torch.set_float32_matmul_precision(before)


def test_no_gradient_is_asked_for() -> None:
    distances, _ = nearest(points(2, 1).requires_grad_(), points(90, 2).requires_grad_(), 2)
    assert not distances.requires_grad


@pytest.mark.parametrize(("k", "own"), [(0, None), (6, None), (5, torch.tensor([0]))])
def test_too_many_neighbours_are_refused(k: int, own: Tensor | None) -> None:
    with pytest.raises(GpsweepError, match=rf"knn\.k={k}: expected 1 to {4 if own is not None else 5}"):
        nearest(points(1, 1), points(5, 2), k, own=own)


@given(columns=st.integers(3, 3000), count=st.integers(1, 3), seed=st.integers(0, 99))
def test_the_smallest_are_found_by_runs(columns: int, count: int, seed: int) -> None:
    values = points(4, seed, columns)
    found, places = smallest(values, count)
    assert found.equal(values.sort(1).values[:, :count])
    assert values.gather(1, places).equal(found)


def test_weights() -> None:
    distances = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 3.0]], dtype=torch.float64)
    expected = {
        "equal": [[1 / 3] * 3] * 2,
        "distance": [[4 / 7, 2 / 7, 1 / 7], [0.5, 0.5, 0.0]],
        "softmax": [[0.705385, 0.259496, 0.035119], [0.487857, 0.487857, 0.024289]],
    }
    assert set(expected) == set(WEIGHTS)
    for name, values in expected.items():
        weights = WEIGHTS[name](distances)
        torch.testing.assert_close(weights, torch.tensor(values).double(), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(weights.sum(1), torch.ones(2).double())


@pytest.mark.parametrize(
    ("classes", "weights", "expected"),
    [
        ([4, 2, 2], [1 / 3] * 3, 2),
        ([4, 2, 2], [0.6, 0.2, 0.2], 4),
        ([4, 2, 9], [1 / 3] * 3, 4),
        ([9, 2, 2, 9, 7], [0.1, 0.2, 0.2, 0.3, 0.2], 9),
        ([1, 5, 5, 1, 1, 5], [1 / 6] * 6, 1),
        ([7, 3, 3, 3, 7], [0.4, 0.2, 0.2, 0.18, 0.02], 3),
        ([9, 2, 2, 4, 4], [0.3, 0.1, 0.2, 0.2, 0.1], 9),  # 0.1 + 0.2 is more than 0.3 by a rounding
    ],
)
def test_the_vote(classes: list[int], weights: list[float], expected: int) -> None:
    given = torch.tensor([classes]), torch.tensor([weights], dtype=torch.float64)
    assert vote(*given).tolist() == [expected]


@pytest.mark.gpu
def test_a_gpu_finds_the_same() -> None:
    index, queries = points(5000, 1, 50, 3.0), points(300, 2, 50, 3.0)
    distances, rows = nearest(queries, index, 4)
    other, other_rows = nearest(queries.cuda(), index.cuda(), 4)
    assert other_rows.cpu().equal(rows)
    torch.testing.assert_close(other.cpu(), distances, rtol=1e-12, atol=0)
