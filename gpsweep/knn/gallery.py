"""The training images among which neighbours are found: their features and classes, computed once.

What a network computes of an image depends, in its last bits, on the images that are computed with it. So
block i always holds the images i·B … (i + 1)·B − 1, whichever of them are wanted, and nothing depends on the
batches before, on shards, or on where a run went on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gpsweep import layers
from gpsweep.ahead import loader, one_ahead
from gpsweep.cache import Arrays, Cache
from gpsweep.data.base import CLASSIFICATION, Source
from gpsweep.data.batch import Batch, batch_of, content, read, rows_of
from gpsweep.engine import MemoryFormat, formatted
from gpsweep.errors import GpsweepError
from gpsweep.identity import arithmetic, engine, files, structure
from gpsweep.memo import Memo
from gpsweep.models.build import sha256
from gpsweep.passes import Passes, State
from gpsweep.source_code import code, code_of, digest

FEWEST, MOST, PIXELS = 32, 256, 2**18
"""B, how many images are computed together: as many as have these pixels, between two bounds."""

# Images whose content is part of the data's identity; reading all would cost as much as a pass.
LOOKED_AT = 32

Beside = Callable[[int, Batch, Passes, State], None]
"""What else is made of a block's number, its images and their clean pass."""


class Gallery:
    """The training images in blocks, their features and their classes.

    ``block_size`` is B. After :meth:`prepare`: features ``index`` ``(M, D)`` and ``classes`` ``(M,)`` on the
    network's device, and the ``key`` of what they depend on.

    Args:
        net: network in pixel space, in evaluation mode.
        source: the training data.
        features: name of the layer whose flattened output is compared.
        cache: folder in which they are kept between runs; None for none.
        fresh: whether what is kept there is left unread.
        memory_format: layout of the images, see :func:`gpsweep.engine.curve`.
        workers: processes that read the images.

    Raises:
        GpsweepError: if there is no feature layer or no training data, or its task is not classification.
    """

    index: Tensor
    classes: Tensor
    key: dict[str, str]

    def __init__(
        self,
        net: nn.Module,
        source: Source | None,
        *,
        features: str | None,
        cache: Path | None = None,
        fresh: bool = False,
        memory_format: MemoryFormat = "channels_last",
        workers: int = 0,
    ) -> None:
        if source is None or len(source) == 0:
            raise GpsweepError(
                "data.train: label=knn expects training images to find neighbours among, came none; such as "
                "'+data.train={_target_: gpsweep.data.folder.folder, images: train, size: 224}'"
            )
        if source.task != CLASSIFICATION:
            raise GpsweepError(f"label=knn: expected data for classification, {source.name} is {source.task}")
        if not features:
            raise GpsweepError(
                "model.features: label=knn expects the layer to find neighbours by its output, came none; "
                "python -m gpsweep.layers lists them"
            )
        if features == layers.INPUT:
            raise GpsweepError("model.features=input: expected a layer within the network, came its input")
        try:
            self.call = layers.find(net, features)
        except GpsweepError as error:
            raise GpsweepError(f"model.features={str(error).removeprefix('layer=')}") from None
        self.net, self.source, self.layer = net, source, features
        self.cache = Cache(cache, fresh=fresh)
        self.memory_format, self.workers = memory_format, workers
        self.shape = tuple(read(source, 0)["image"].shape)
        # Few small images do not fill the processor; of many large ones, few are wanted.
        self.block_size = min(MOST, max(FEWEST, PIXELS // (self.shape[-2] * self.shape[-1])))
        self.device: torch.device | None = None
        self._site: layers.Call | None = None
        self._memo = Memo()

    def __len__(self) -> int:
        return len(self.source)

    def prepare(
        self, device: torch.device, *, names: Sequence[str] = (), beside: Beside | None = None
    ) -> None:
        """Compute features and classes on the network's device, or read them from the cache.

        Args:
            device: the network's.
            names: layers at which ``beside`` takes gradients.
            beside: sees each block's pass where features are computed, so that it needs none of its own.

        Raises:
            GpsweepError: for an image that cannot be read or has no class, for sizes that differ, and for
                features that are not one row an image, or not finite.
        """
        if self.device == device:
            return
        self.key = self.identity(device.type)
        arrays = self.cache.read("index", self.key)
        if arrays is None:
            arrays = self._computed(device, names, beside)
            self.cache.write("index", self.key, arrays)
        self.index = torch.from_numpy(arrays["features"]).to(device)
        self.classes = torch.from_numpy(arrays["classes"]).to(device)
        self.device = device

    def identity(self, device: str) -> dict[str, str]:
        """Return all that features and gradients depend on: the network, the data, and how they are computed.

        Args:
            device: the kind of device, ``cpu`` or ``cuda``.
        """
        computing = f"{arithmetic(device)} {self.memory_format} blocks of {self.block_size}"
        return {
            "network": _identity_of_net(self.net),
            "features": str(self.call),  # whatever alias it was called by
            "data": self._identity_of_data,
            "computing": f"{computing}, torch {torch.__version__}",
            "engine": engine(),
        }

    @cached_property
    def _identity_of_data(self) -> str:
        # Asked for twice; of data of the user's own all images may be read for it.
        return _identity_of_source(self.source)

    def describe(self, x: Tensor) -> Tensor:
        """Return the features of images.

        Args:
            x: ``(N, 3, H, W)``, RGB, grey levels 0–255.

        Returns:
            ``(N, D)``, float32.

        Raises:
            GpsweepError: if the layer gives more than one tensor, one that is not a row an image, or numbers
                that are not finite.
        """
        x = formatted(x.float(), self.memory_format)
        with torch.autocast(x.device.type, enabled=False), torch.no_grad(), layers.submodules_run():
            if self._site is None:
                calls = layers.trace(self.net, x[:1].clone(), follow=False)
                self._site = layers.site(calls, self.net, self.layer)
            site = layers.Replay(self._site)
            with layers.recorded(self.net, [site]) as recording:
                self.net(x.clone())
        return self._checked(layers.tensors_of(recording.activations[self._site]), len(x))

    def passed(self, batch: Batch, device: torch.device, names: Sequence[str] = ()) -> tuple[Passes, State]:
        """Run a block, ready for gradients.

        Args:
            batch: the block's images.
            device: the network's.
            names: layers at which gradients are to be taken.

        Returns:
            the passes, and the state of the clean one, whose anchors hold the features as well.
        """
        x = formatted(batch["image"].to(device).float(), self.memory_format)
        every = list(dict.fromkeys((*names, self.layer)))
        passes = Passes(self.net, x, every, output=None, clip=None, memo=self._memo)
        return passes, passes.clean()

    def block(self, number: int) -> Batch:
        """Read one block of images."""
        return self._whole(batch_of(self.source, rows_of(number, self.block_size, len(self))))

    def _blocks(self) -> Iterator[Batch]:
        blocks = iter(loader(self.source, self.block_size, workers=self.workers))
        yield from map(self._whole, one_ahead(partial(next, blocks, None)))

    def _whole(self, batch: Batch | GpsweepError) -> Batch:
        if isinstance(batch, GpsweepError):
            raise batch
        first, last = batch["ids"][0], batch["ids"][-1]
        if batch["valid"] is not None or tuple(batch["image"].shape[1:]) != self.shape:
            raise GpsweepError(
                f"data.size: label=knn expects training images of one size; {self.source.ids[0]} has "
                f"{self.shape[1]}×{self.shape[2]} pixels, another size is among {first} … {last}"
            )
        if (batch["target"] < 0).any():
            raise GpsweepError(
                f"label=knn: expected a class for each training image, one has none among {first} … {last}"
            )
        return batch

    def _computed(self, device: torch.device, names: Sequence[str], beside: Beside | None) -> Arrays:
        features, classes = [], []
        for number, batch in enumerate(self._blocks()):
            passes, state = self.passed(batch, device, names)
            features.append(self._checked(state.anchors[self.layer], len(batch["ids"])).cpu().numpy())
            classes.append(batch["target"].numpy())
            if beside:
                beside(number, batch, passes, state)
        return {"features": np.concatenate(features), "classes": np.concatenate(classes)}

    def _checked(self, tensors: Sequence[Tensor], images: int) -> Tensor:
        if len(tensors) != 1:
            raise GpsweepError(f"model.features={self.layer}: expected one tensor, came {len(tensors)}")
        if tensors[0].dim() < 2 or len(tensors[0]) != images:
            # As attention within windows gives, each of which would be taken for an image.
            raise GpsweepError(
                f"model.features={self.layer}: gives {tuple(tensors[0].shape)} for a batch of {images}, "
                "expected features of each image, the batch first; take another layer"
            )
        features = tensors[0].detach().flatten(1).float()
        if not features.isfinite().all():
            raise GpsweepError(f"model.features={self.layer}: expected finite numbers, came NaN or infinity")
        return features


def _identity_of_net(net: nn.Module) -> str:
    """Hash weights, code and structure, of which a wrapper's preprocessing is part."""
    return digest(*(part.encode() for part in (sha256(net), code(net), structure(net))))


def _identity_of_source(source: Source) -> str:
    """Hash names, ids, what tells whether files have changed, and images spread over the data."""
    rows = np.unique(np.linspace(0, len(source) - 1, LOOKED_AT).astype(int)).tolist()
    looks = content([read(source, row) for row in rows])
    about = (source.name, str(source.classes), str(files(source)), code_of(type(source).__mro__), looks)
    return digest(*(part.encode() for part in (*about, *source.ids)))
