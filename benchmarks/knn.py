"""The search for nearest neighbours, of all of MNIST's test images among its training images (n)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.clock import Spread, side_by_side
from benchmarks.table import Row
from gpsweep.knn.neighbours import nearest

SECONDS = 10.0


@dataclass(frozen=True)
class Size:
    """How much to search, and how often.

    Args:
        queries, index: how many rows.
        width: numbers a row.
        k: neighbours.
        repeats: of the search.
    """

    queries: int = 10000
    index: int = 60000
    width: int = 500
    k: int = 3
    repeats: int = 3


QUICK = Size(queries=500, index=6000, repeats=1)


def measure(size: Size) -> Iterator[Row]:
    """Yield the time of the exact search, and of PyTorch's own distances and their k smallest beside it.

    Raises:
        RuntimeError: if they find other neighbours in more than one row of a thousand.
    """
    index, queries = features(size.index, size.width, 0), features(size.queries, size.width, 1)
    found: dict[str, Tensor] = {}

    def keep(name: str, search: Callable[[], Tensor]) -> Callable[[], None]:
        return lambda: found.update({name: search()})

    times = side_by_side(
        {
            "exact": keep("exact", lambda: nearest(queries, index, size.k)[1]),
            "cdist": keep("cdist", lambda: by_cdist(queries, index, size.k)),
        },
        size.repeats,
    )
    # In 32 bits neighbours at almost the same distance may change places.
    other = (found["exact"] != found["cdist"]).any(1).double().mean().item()
    if other > 1e-3:
        raise RuntimeError(f"the two searches differ in {100 * other:.2f} % of the rows")
    what = f"{size.queries} in {size.index}×{size.width}"
    details = {"k": size.k, "threads": torch.get_num_threads(), "other_neighbours": other}
    yield Row(
        "n", what, "exact k-NN search", Spread.of(times["exact"]), "s", at_most=SECONDS, details=details
    )
    yield Row("n", what, "cdist and topk", Spread.of(times["cdist"]), "s")


def features(rows: int, width: int, seed: int) -> Tensor:
    """Return rows like the activations after a ReLU: about half of them 0, in ten clusters."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(10, width, generator=torch.Generator().manual_seed(9))
    own = torch.randint(10, (rows,), generator=generator)
    return (centres[own] + torch.randn(rows, width, generator=generator)).relu()


def by_cdist(queries: Tensor, index: Tensor, k: int) -> Tensor:
    """Search as one would in a line, in blocks of as many queries."""
    blocks = (torch.cdist(block, index).topk(k, largest=False).indices for block in queries.split(500))
    return torch.cat(list(blocks))
