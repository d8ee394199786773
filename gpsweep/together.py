"""Several ε in one forward pass: how many memory holds, and whether the network keeps them apart."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from gpsweep import memory
from gpsweep.passes import Passes

# Of the spread of logits: by so much points that share a pass may differ from what they are alone.
ROUNDED, COARSELY_ROUNDED = 0.01, 0.2


@dataclass
class Together:
    """The ε of one batch that share forward passes; what is found out of them goes into the memo.

    Args:
        passes: those of the batch.
    """

    passes: Passes

    def size(self, asked: int | Literal["auto"], points: int) -> int:
        """Return how many ε ride in one forward pass; ``auto`` fills half of a GPU's free memory.

        Args:
            asked: the most, or ``auto``, for which the layer that takes most memory is decisive.
            points: how many ε there are.
        """
        memo, device = self.passes.memo, self.passes.x.device
        if asked == "auto" and memo.room is None and points > 1:
            memo.room = memo.settle(
                lambda: min(memory.fitting(device, partial(self._probe, name)) for name in self.passes.names)
            )
        most = points if asked == "auto" else min(asked, points)
        memo.points_per_forward = min(most, memo.room or most)
        return memo.points_per_forward

    def logits(self, layer: str, eps: Sequence[float], direction: list[Tensor]) -> Sequence[Tensor] | None:
        """Return the logits for each ε, all of them from one forward pass if the network keeps them apart.

        Args:
            layer: what is moved.
            eps: so many as :meth:`size` says, none of them 0.
            direction: in which to move it, for ε = 1.

        Returns:
            ``(N, C, …)`` for each; None if memory does not hold several of them, and :meth:`size` is less.
        """
        try:
            start = self.passes.activation(layer)
            moved = [self.passes.moved(layer, start, direction, e) for e in eps]
            found = self._in_one_pass(layer, moved) if len(eps) > 1 else None
            return [self.passes.forward(layer, each) for each in moved] if found is None else found
        except RuntimeError as error:
            if len(eps) < 2 or not memory.exhausted(error):
                raise
        # Outside the handler: what the failed pass held is free again.
        self._lack_memory(len(eps))
        return None

    def _in_one_pass(self, layer: str, moved: Sequence[list[Tensor]]) -> Sequence[Tensor] | None:
        """Return the logits of several points from one pass; None if the network does not keep them apart.

        Once for each layer and size of batch the first of them is compared with what it is alone.
        """
        passes, memo = self.passes, self.passes.memo
        place = layer, len(passes.x)
        known = memo.apart.get(place)
        stacked = [torch.cat(parts) for parts in zip(*moved, strict=True)]
        why = "in this network samples of a batch depend on each other"
        try:
            found = passes.forward(layer, stacked, len(moved)).chunk(len(moved))
        except Exception as error:
            if known or memory.exhausted(error):
                raise
            said = (str(error).splitlines() or [type(error).__name__])[0]
            found, why = (), f"{len(moved)} points in one pass fail ({said})"
        if known is None:
            # Of a copy: what follows may change it in place, and it is wanted again where they differ.
            first = [h.clone() for h in moved[0]]
            memo.apart[place] = bool(found) and self._alike(found[0], passes.forward(layer, first))
            if not memo.apart[place]:
                memo.room = 1
                warnings.warn(
                    f"points_per_forward: {why} after layer={layer}; going on with 1",
                    stacklevel=2,
                )
                return None
        return found

    def _alike(self, one: Tensor, other: Tensor) -> bool:
        """Compare logits, up to what another size of a batch may change by rounding."""
        tolerance = (ROUNDED if self.passes.precision == "32" else COARSELY_ROUNDED) * other.std()
        return one.shape == other.shape and not bool((one - other).abs().max() > tolerance)

    def _lack_memory(self, points: int) -> None:
        """Settle on half as many ε in one forward pass as were too many, and say so once."""
        memo, x = self.passes.memo, self.passes.x
        memo.room = points // 2
        if not memo.short_of_memory:
            memo.short_of_memory = True
            warnings.warn(
                f"points_per_forward: the memory of {x.device} does not hold {points} points of {len(x)} "
                f"samples in one pass; going on with {points // 2}, or fewer if need be",
                stacklevel=2,
            )

    def _probe(self, layer: str, times: int) -> Tensor:
        start = self.passes.activation(layer)
        return self.passes.forward(layer, [torch.cat([h] * times) for h in start], times)
