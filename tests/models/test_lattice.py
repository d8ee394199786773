"""The lattice filters as the exact Gaussian does, it is linear, and its gradient is its transpose."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gpsweep.errors import GpsweepError
from gpsweep.models.lattice import lattice


def places(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y], 2).flatten(0, 1).double()


def mean(kernel: Tensor, values: Tensor) -> Tensor:
    return kernel @ values / kernel.sum(1, keepdim=True)


def exact(features: Tensor, values: Tensor) -> Tensor:
    return mean(torch.exp(-(torch.cdist(features, features) ** 2) / 2), values)


def approximate(features: Tensor, values: Tensor) -> Tensor:
    built = lattice(features)
    return built(values) / built(torch.ones(len(values), 1, dtype=values.dtype))


def random_points(count: int = 60, d: int = 5) -> Tensor:
    return 2 * torch.rand(count, d, dtype=torch.double, generator=torch.Generator().manual_seed(0))


def test_spatial_filter_is_nearly_the_exact_gaussian() -> None:
    torch.manual_seed(0)
    place = places(24, 30)
    values = torch.rand(len(place), 3).double()
    assert (values - exact(place / 3, values)).abs().max() > 0.3, "there is something to filter"
    assert (approximate(place / 3, values) - exact(place / 3, values)).abs().max() < 0.03


def test_bilateral_filter_keeps_an_edge_as_the_exact_one_does() -> None:
    place = places(20, 24)
    grey = 60 + place[:, :1] + 80 * (place[:, :1] >= 12)
    features = torch.cat([place / 8, grey / 10, grey / 10, grey / 10], 1)
    values = (place[:, :1] >= 12).double() + 0.1 * place[:, 1:] / 20
    filtered = approximate(features, values)
    assert (filtered - exact(features, values)).abs().max() < 0.03
    assert (filtered - exact(place / 8, values)).abs().max() > 0.3, "an edge that distance alone would blur"


def test_barycentric_coordinates_reproduce_each_point() -> None:
    built = lattice(random_points())
    assert built.weights.min() >= -1e-9
    assert torch.allclose(built.weights.sum(1), torch.ones(60).double())
    assert int(built.vertices.max()) + 2 == len(built.starts)
    assert all(len(set(row.tolist())) == 6 for row in built.vertices)


def test_neighbours_are_mutual() -> None:
    built = lattice(random_points())
    count = len(built.starts) - 1
    assert (built.neighbours < count).any(), "some vertices do have neighbours"
    for axis in built.neighbours.long():
        for vertex, (before, after) in enumerate(axis.tolist()):
            assert before == count or axis[before, 1] == vertex
            assert after == count or axis[after, 0] == vertex


def test_transposed_is_the_transpose() -> None:
    built = lattice(random_points())
    identity = torch.eye(60, dtype=torch.double)
    matrix = built.filter(identity)
    assert torch.allclose(built.filter(identity, transposed=True), matrix.T, atol=1e-12)
    assert not torch.allclose(matrix, matrix.T, atol=1e-3), "the order of the axes does matter"


def test_gradient() -> None:
    built = lattice(random_points(12))
    values = torch.rand(12, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(built, values)


def test_points_need_not_be_many_nor_apart() -> None:
    one = lattice(torch.zeros(1, 5))
    assert one(torch.ones(1, 2)).shape == (1, 2)
    same = torch.zeros(7, 2)
    assert torch.allclose(approximate(same, torch.arange(7.0)[:, None]), torch.full((7, 1), 3.0))


@pytest.mark.parametrize("features", [torch.tensor([[0.0] * 5, [1e9] * 5]), torch.full((3, 5), torch.nan)])
def test_points_too_far_apart(features: Tensor) -> None:
    with pytest.raises(GpsweepError, match="standard deviations are too small"):
        lattice(features)
