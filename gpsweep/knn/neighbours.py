"""Nearest neighbours: the exact search by Euclidean distance, what neighbours weigh, and their vote.

Pure functions on tensors (paper, Sec. "Image Classification").
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from gpsweep.errors import GpsweepError

# Bounds the memory of a search: so many entries of the table queries × index are looked at together.
TOGETHER = 2**25
# Candidates beyond the k nearest; the more, the fewer queries have to be looked at twice.
SPARE = 12
# Entries of which only the smallest is compared at first.
RUN = 64


def nearest(queries: Tensor, index: Tensor, k: int, *, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Find the k nearest rows of an index, exactly: by distance in 64 bits, ties by the lowest row.

    Distances are first estimated as ‖x‖² − 2q·x, which is off by no more than a known bound. The best
    candidates are measured anew in 64 bits, as Σ(q − x)²; where the bound does not rule out that a further
    row belongs to them, so is every row that might. What a query finds does not depend on the others.

    Args:
        queries: ``(N, D)``, finite.
        index: ``(M, D)``, finite, on the same device; both are used in 32 bits.
        k: how many, 1 … M, or M − 1 with ``own``.
        own: ``(N,)``, the row that is each query itself and not to be found; −1 for none.

    Returns:
        distances ``(N, k)``, float64, ascending, and rows ``(N, k)``, int64.

    Raises:
        GpsweepError: if there are fewer rows than neighbours wanted.
    """
    most = len(index) - (own is not None)
    if not 1 <= k <= most:
        raise GpsweepError(f"knn.k={k}: expected 1 to {most}, as many as there are to be found")
    with torch.no_grad(), torch.autocast(index.device.type, enabled=False):
        queries, search = queries.float(), _Search(index.float(), k)
        found = []
        for first in range(0, len(queries), search.together):
            block = slice(first, first + search.together)
            found.append(search(queries[block], None if own is None else own[block]))
    distances, rows = zip(*found, strict=True)
    return torch.cat(distances), torch.cat(rows)


class _Search:
    """A search of one index for k neighbours."""

    def __init__(self, index: Tensor, k: int) -> None:
        self.index, self.k = index, k
        # Products of reduced precision, as in TF32, would break the bound; 64 bits are never reduced.
        exact = not index.is_cuda and torch.get_float32_matmul_precision() == "highest"
        self.working = index if exact else index.double()
        self.squares = torch.einsum("md,md->m", self.working, self.working)
        # Products below the smallest number that is kept whole are rounded to it or to 0.
        self.lost = index.shape[1] * torch.finfo(self.working.dtype).tiny
        self.largest = (self.squares.max().double() + self.lost).sqrt()
        self.together = max(1, TOGETHER // len(index))
        self.table = self.working.new_empty(0)

    def __call__(self, queries: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return distances and rows of one block of queries."""
        estimates, bound = self.estimates(queries)
        count = min(self.k + SPARE, len(self.index))
        at_most, candidates = smallest(estimates, count)
        distances, rows = self.measured(queries, candidates, own)
        if count == len(self.index):
            return distances, rows
        farthest = distances[:, -1].square() - queries.double().square().sum(1)
        # Negated, so that what is not a number counts as uncertain.
        uncertain = ~(farthest + bound < at_most[:, -1].double() - bound)
        for number in uncertain.nonzero().squeeze(1).tolist():
            one = slice(number, number + 1)
            might = ~(estimates[number].double() > farthest[number] + 2 * bound[number])
            hidden = None if own is None else own[one]
            distances[one], rows[one] = self.measured(queries[one], might.nonzero().T, hidden)
        return distances, rows

    def estimates(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Return ‖x‖² − 2q·x ``(N, M)`` and, for each query, how far they may be off."""
        if len(self.table) < len(queries):
            # Kept for all blocks: taking fresh memory costs about as much as the products.
            self.table = self.working.new_empty(len(queries), len(self.index))
        block = queries.to(self.working.dtype)
        table = self.table[: len(block)]
        torch.addmm(self.squares, block, self.working.T, alpha=-2, out=table)
        # In any order of summation, D products of 32 bits are off by less than about D·u·‖q‖‖x‖.
        unit = torch.finfo(block.dtype).eps / 2
        size = (block.square().sum(1).double() + self.lost).sqrt()
        bound = 2 * (block.shape[1] + 8) * unit * self.largest * (size + self.largest) + 4 * self.lost
        # The distances in 64 bits that estimates are compared with are rounded as well.
        fine = torch.finfo(torch.float64).eps / 2
        return table, bound + (block.shape[1] + 8) * fine * (size + self.largest).square()

    def measured(self, queries: Tensor, candidates: Tensor, own: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the k nearest of some candidates ``(N, count)`` by distance in 64 bits, then by row."""
        candidates = candidates.sort(1).values
        step = max(1, TOGETHER // (candidates.shape[1] * self.index.shape[1]))
        squared = torch.cat(
            [
                (self.index[some].double() - query.double().unsqueeze(1)).square().sum(2)
                for some, query in zip(torch.split(candidates, step), torch.split(queries, step), strict=True)
            ]
        )
        if own is not None:
            squared.masked_fill_(candidates == own.unsqueeze(1), torch.inf)
        ascending = squared.sort(dim=1, stable=True)
        return ascending.values[:, : self.k].sqrt(), candidates.gather(1, ascending.indices[:, : self.k])


def smallest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the smallest values of each row ``(N, M)``, ascending, and their columns, both ``(N, count)``.

    They lie in the runs of columns with the smallest minima, which takes a CPU fewer comparisons to find.
    """
    rows, columns = values.shape
    runs = columns // RUN
    if runs <= 2 * count or values.is_cuda:
        best = values.topk(count, dim=1, largest=False)
        return best.values, best.indices
    minima = values[:, : runs * RUN].view(rows, runs, RUN).amin(2)
    start = minima.topk(count, dim=1, largest=False).indices * RUN
    inside = (start.unsqueeze(2) + torch.arange(RUN)).flatten(1)
    rest = torch.arange(runs * RUN, columns).expand(rows, -1)
    places = torch.cat([inside, rest], 1)
    best = values.gather(1, places).topk(count, dim=1, largest=False)
    return best.values, places.gather(1, best.indices)


def equal(distances: Tensor) -> Tensor:
    """Return 1/k for each neighbour, as the paper does."""
    return torch.full_like(distances, 1 / distances.shape[1])


def by_distance(distances: Tensor) -> Tensor:
    """Return weights ∝ 1/d; where a neighbour's distance is 0, those at distance 0 share all of it."""
    same = distances == 0
    weights = torch.where(same.any(1, keepdim=True), same, 1 / distances)
    return weights / weights.sum(1, keepdim=True)


def softmax(distances: Tensor) -> Tensor:
    """Return weights ∝ exp(−d), d in the units of the features."""
    return (-distances).softmax(1)


WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {"equal": equal, "distance": by_distance, "softmax": softmax}
"""Distances ``(N, k)`` to weights of the same shape that sum to 1 for each query."""


def vote(classes: Tensor, weights: Tensor) -> Tensor:
    """Return the class of most weight among each query's neighbours, of several the nearest one's.

    Args:
        classes: ``(N, k)``, nearest first.
        weights: ``(N, k)``.

    Returns:
        classes ``(N,)``.
    """
    alike = classes.unsqueeze(1) == classes.unsqueeze(2)
    weight = (alike * weights.unsqueeze(1)).sum(2)
    # Sums of equal numbers that stand in different places may differ by a rounding.
    best = weight >= weight.amax(1, keepdim=True) * (1 - 1e-9)
    return classes.gather(1, best.int().argmax(1, keepdim=True)).squeeze(1)
