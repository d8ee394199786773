"""Gradients at the training images, each of its own class's signal: computed once, the signs kept as bits."""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import one_hot

from gpsweep import layers
from gpsweep.cache import Arrays
from gpsweep.data.batch import Batch
from gpsweep.errors import GpsweepError
from gpsweep.knn.gallery import Gallery
from gpsweep.passes import Passes, State
from gpsweep.signals import SIGNALS

KEPT_BYTES = 2**31
"""Of blocks in memory; beyond it the oldest are forgotten, and computed again when wanted."""

Block = list[NDArray[Any]]
Which = tuple[str, str, bool]
"""Signal, layer, and whether only signs are kept."""


class Gradients:
    """The gradients of a gallery's images, block by block as they are wanted.

    Args:
        gallery: the training images, prepared.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._blocks: OrderedDict[tuple[Which, int], Block] = OrderedDict()
        self._bytes = 0
        self._shapes: dict[Which, list[tuple[int, ...]]] = {}
        self._unsaved: set[Which] = set()

    def __call__(self, rows: Tensor, *, signal: str, layer: str, signs: bool) -> list[Tensor]:
        """Return gradients, or their signs, at a layer.

        Args:
            rows: ``(N,)``, numbers of training images.
            signal: a name of :data:`gpsweep.signals.SIGNALS`.
            layer: ``input``, a module path or an alias.
            signs: whether signs will do, which take 2 bits each.

        Returns:
            ``(N, …)`` for each tensor of the layer, float32, on the device of ``rows``.
        """
        which = (signal, layer, signs)
        if signs and which not in self._shapes:
            self._keep(which, self._read(which))
        wanted = rows.cpu().numpy()
        numbers, places = np.divmod(wanted, self.gallery.block_size)
        out: Block = []
        for number in np.unique(numbers).tolist():
            block, here = self._block(which, number), numbers == number
            out = out or [np.empty((len(wanted), *part.shape[1:]), part.dtype) for part in block]
            for whole, part in zip(out, block, strict=True):
                whole[here] = part[places[here]]
        if signs:
            out = [unpacked(bits, shape) for bits, shape in zip(out, self._shapes[which], strict=True)]
        return [torch.from_numpy(part).to(rows.device).float() for part in out]

    def prepare(self, device: torch.device, *, signal: str, layer: str, signs: bool) -> None:
        """Prepare the gallery, and take the gradients at all its images from the same passes.

        They are taken only where memory holds them all.

        Args:
            device: the network's.
            signal: a name of :data:`gpsweep.signals.SIGNALS`.
            layer: ``input``, a module path or an alias.
            signs: whether signs will do.
        """
        which = (signal, layer, signs)
        self.gallery.prepare(device, names=[layer], beside=partial(self._beside, which))

    def save(self) -> None:
        """Add the signs computed since to the gallery's cache."""
        for which in sorted(self._unsaved):
            # Other processes may have saved theirs meanwhile.
            blocks = self._read(which)
            blocks |= {number: block for (of, number), block in self._blocks.items() if of == which}
            if not blocks:
                continue  # others have taken their room
            numbers = sorted(blocks)
            arrays: Arrays = {"blocks": np.array(numbers)}
            for i, shape in enumerate(self._shapes[which]):
                arrays[f"shape{i}"] = np.array(shape, dtype=np.int64)
                arrays[f"bits{i}"] = np.concatenate([blocks[number][i] for number in numbers])
            self.gallery.cache.write("signs", self._key(which), arrays)
        self._unsaved.clear()

    def _read(self, which: Which) -> dict[int, Block]:
        arrays = self.gallery.cache.read("signs", self._key(which))
        if arrays is None:
            return {}
        parts = range(sum(name.startswith("bits") for name in arrays))
        self._shapes[which] = [tuple(arrays[f"shape{i}"].tolist()) for i in parts]
        numbers, size = arrays["blocks"], self.gallery.block_size
        ends = np.minimum(size, len(self.gallery) - numbers * size).cumsum()[:-1]
        split = [np.split(arrays[f"bits{i}"], ends) for i in parts]
        return {number: list(block) for number, *block in zip(numbers.tolist(), *split, strict=True)}

    def _key(self, which: Which) -> dict[str, str]:
        signal, layer, _ = which
        where = layer if layer == layers.INPUT else str(layers.find(self.gallery.net, layer))
        return {**self.gallery.key, "signal": signal, "layer": where}

    def _block(self, which: Which, number: int) -> Block:
        block = self._blocks.get((which, number))
        if block is None:
            assert self.gallery.device
            batch = self.gallery.block(number)
            passes, state = self.gallery.passed(batch, self.gallery.device, [which[1]])
            block = self._pulled(which, batch, passes, state)
            self._keep(which, {number: block})
        return block

    def _beside(self, which: Which, number: int, batch: Batch, passes: Passes, state: State) -> None:
        """Keep the gradients of a block whose features are computed, if all blocks' have room."""
        if self._bytes * len(self.gallery) <= KEPT_BYTES * number * self.gallery.block_size:
            self._keep(which, {number: self._pulled(which, batch, passes, state)})

    def _pulled(self, which: Which, batch: Batch, passes: Passes, state: State) -> Block:
        """Pull the signal of each image's own class back to a layer, for one block."""
        signal, layer, signs = which
        # In 32 bits 1 − y is 0 for a good part of the training images, and what would raise y is lost.
        y = state.logits.detach().double().softmax(1)
        label = one_hot(batch["target"].to(y.device), y.shape[1]).double()
        alone = replace(state, anchors={layer: state.anchors[layer]})
        found = passes.pull(alone, SIGNALS[signal](y, label), keep_graph=False)[layer]
        found = of_each(found, len(batch["ids"]), layer)
        self._shapes[which] = [tuple(part.shape[1:]) for part in found]
        self._unsaved |= {which} if signs else set()
        return [packed(part) if signs else part.cpu().numpy() for part in found]

    def _keep(self, which: Which, blocks: dict[int, Block]) -> None:
        for number, block in blocks.items():
            self._blocks[which, number] = block
            self._bytes += sum(part.nbytes for part in block)
        while self._bytes > KEPT_BYTES and len(self._blocks) > 1:
            _, oldest = self._blocks.popitem(last=False)
            self._bytes -= sum(part.nbytes for part in oldest)


def of_each(gradients: list[Tensor], images: int, layer: str) -> list[Tensor]:
    """Return gradients that are weighted image by image, as they are.

    Args:
        gradients: one for each tensor of the layer.
        images: how many images the batch has.
        layer: its name, for the message.

    Raises:
        GpsweepError: if their first dimension is not the batch's, as that of windows.
    """
    for gradient in gradients:
        if gradient.dim() == 0 or len(gradient) != images:
            raise GpsweepError(
                f"layer={layer}: gives {tuple(gradient.shape)} for a batch of {images}; label=knn expects "
                "the batch first, to tell images apart. Take another layer"
            )
    return gradients


def packed(gradient: Tensor) -> NDArray[np.uint8]:
    """Return the signs of gradients ``(N, …)`` as bits ``(N, 2, bytes)``: where > 0, where < 0."""
    flat = gradient.flatten(1)
    return np.packbits(torch.stack([flat > 0, flat < 0], 1).cpu().numpy(), axis=2)


def unpacked(bits: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.int8]:
    """Return the signs −1, 0 and 1 of :func:`packed`, ``(N, *shape)``."""
    above, below = np.unpackbits(bits, axis=2, count=math.prod(shape)).astype(np.int8).swapaxes(0, 1)
    signs: NDArray[np.int8] = above - below
    return signs.reshape(-1, *shape)
