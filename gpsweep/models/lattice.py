"""Gaussian filtering in several dimensions by a permutohedral lattice, in time linear in the points."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from gpsweep.errors import GpsweepError

LARGEST_KEY = 2**62
BLOCK = 2**16


@dataclass(frozen=True)
class Lattice:
    """A sparse lattice around P points: splat to its M vertices, blur along D = d + 1 axes, slice back.

    Args:
        vertices: ``(P, D)``, the vertices of the simplex that a point lies in.
        weights: ``(P, D)``, the point's barycentric coordinates there.
        points: ``(P · D,)``, the points of each vertex, vertex after vertex.
        shares: ``(P · D,)``, their barycentric coordinates.
        starts: ``(M + 1,)``, where the points of a vertex begin; the last vertex holds none, and stands for
            all that are missing.
        neighbours: ``(D, M, 2)``, the vertices before and after one along each axis; M where there is none.
    """

    vertices: Tensor
    weights: Tensor
    points: Tensor
    shares: Tensor
    starts: Tensor
    neighbours: Tensor

    def __call__(self, values: Tensor) -> Tensor:
        """Filter values: ``out_i ≈ Σ_j exp(−‖f_i − f_j‖² / 2) v_j``; linear, and differentiable in them.

        Args:
            values: ``(P, C)``, float.

        Returns:
            ``(P, C)``.
        """
        filtered: Tensor = _Filter.apply(values, self)
        return filtered

    def filter(self, values: Tensor, *, transposed: bool = False) -> Tensor:
        """Filter without a graph; ``transposed`` blurs along the axes in the opposite order."""
        values = values.contiguous()
        at = F.embedding_bag(self.points, values, self.starts, mode="sum", per_sample_weights=self.shares)
        blurred = torch.zeros_like(at)
        for axis in self.neighbours.flip(0) if transposed else self.neighbours:
            # Block by block: memory for one large result an axis would take longer to get than to fill.
            for first in range(0, len(axis), BLOCK):
                beside = F.embedding_bag(axis[first : first + BLOCK], at, mode="sum")
                rows = slice(first, first + len(beside))
                torch.add(at[rows], beside, alpha=0.5, out=blurred[rows])
            at, blurred = blurred, at
        sliced = F.embedding_bag(self.vertices, at, mode="sum", per_sample_weights=self.weights)
        return sliced.div_(1 + 2.0 ** (1 - len(self.neighbours)))


def lattice(features: Tensor) -> Lattice:
    """Build the lattice of points (Adams, Baek, Davis: Fast High-Dimensional Filtering, 2010, Secs. 3–4).

    Args:
        features: ``(P, d)``, float, in units of the Gaussian's standard deviation.

    Raises:
        GpsweepError: the points lie too far apart for the standard deviations.
    """
    with torch.no_grad():
        origin, rank, weights = _simplices(features.detach())
        keys, strides = _keys(origin, rank)
        sorted_keys, order = keys.flatten().sort()
        first = torch.ones_like(sorted_keys, dtype=torch.bool)
        torch.ne(sorted_keys[1:], sorted_keys[:-1], out=first[1:])
        vertices = torch.empty_like(order).scatter_(0, order, first.cumsum(0) - 1).view(keys.shape)
        return Lattice(
            vertices=vertices.T.int().contiguous(),
            weights=weights.T.contiguous(),
            points=(order % len(features)).int(),
            shares=weights.flatten()[order],
            starts=F.pad(first.nonzero().flatten().int(), (0, 1), value=len(order)),
            neighbours=_neighbours(sorted_keys[first], strides),
        )


def _simplices(features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Find the simplex of each point.

    Returns:
        its vertex of remainder 0, the rank of each coordinate within it, and the barycentric coordinates,
        each ``(D, P)``.

    Raises:
        GpsweepError: vertices could not be told apart by one number.
    """
    d = features.shape[1]
    elevated = _elevation(d).to(features) @ features.T
    spans = (elevated.amax(1) - elevated.amin(1) + 6 * (d + 1) + 1)[:-1]  # no less than those of the keys
    if not spans.prod() < LARGEST_KEY:
        raise GpsweepError(
            "model: the CRF's standard deviations are too small for its image, or the image is not finite."
        )
    steps = (elevated / (d + 1)).round()
    beyond = elevated - steps * (d + 1)
    axis = torch.arange(d + 1, device=features.device)
    # A coordinate's rank is the number of those that exceed it, ties in their order.
    rank = torch.stack(
        [((beyond > one) | ((beyond == one) & (axis < k)[:, None])).sum(0) for k, one in enumerate(beyond)]
    )
    rank += steps.sum(0).long()
    wrap = (rank < 0).long() - (rank > d).long()
    rank += wrap * (d + 1)
    origin = (steps.long() + wrap) * (d + 1)
    by_rank = torch.empty_like(elevated).scatter_(0, rank, (elevated - origin) / (d + 1))
    descending = by_rank.flip(0)
    weights = descending - descending.roll(1, 0)
    weights[0] += 1
    return origin, rank, weights


def _elevation(d: int) -> Tensor:
    """Map features onto the plane Σ x = 0, where a blur of [½ 1 ½] is a unit Gaussian; ``(D, d)``."""
    scale = torch.tensor([sqrt(2 / 3) * (d + 1) / sqrt((i + 1) * (i + 2)) for i in range(d)])
    matrix = torch.ones(d + 1, d).triu()
    matrix[range(1, d + 1), range(d)] = -torch.arange(1.0, d + 1)
    return matrix * scale


def _keys(origin: Tensor, rank: Tensor) -> tuple[Tensor, Tensor]:
    """Number the vertices so that a step along an axis is one addition.

    Returns:
        ``(D, P)``, the key of each vertex; and ``(D,)``, what one step of a coordinate adds to a key.
    """
    axes = len(origin)
    low, high = origin.amin(1), origin.amax(1)
    spans = [int(span) + 4 * axes + 1 for span in high - low][:-1]
    strides = torch.tensor([*(prod(spans[:k]) for k in range(axes - 1)), 0], device=origin.device)
    base = ((origin - low[:, None]) * strides[:, None]).sum(0)
    by_rank = torch.empty_like(rank).scatter_(0, rank, strides[:, None].expand_as(rank))
    wrapped = by_rank.flip(0).cumsum(0).roll(1, 0)
    wrapped[0] = 0
    remainders = torch.arange(axes, device=origin.device)[:, None]
    return base + remainders * strides.sum() - axes * wrapped, strides


def _neighbours(keys: Tensor, strides: Tensor) -> Tensor:
    """Find the neighbours of vertices, given by their sorted keys, along each axis; ``(D, M, 2)``."""
    count, axes = len(keys), len(strides)
    found = torch.full((axes, count, 2), count, dtype=torch.int32, device=keys.device)
    for axis, stride in enumerate(strides):
        wanted = keys + axes * stride - strides.sum()
        at = torch.searchsorted(keys, wanted).clamp_(max=count - 1)
        here = (keys[at] == wanted).nonzero().flatten()
        found[axis, here, 1] = at[here].int()
        found[axis, at[here], 0] = here.int()
    return found


class _Filter(torch.autograd.Function):
    """Filtering is linear, so its gradient is filtered by the transpose: each axis' blur is symmetric."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, lattice: Lattice) -> Tensor:
        ctx.lattice = lattice
        return lattice.filter(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.lattice.filter(gradient, transposed=True), None
