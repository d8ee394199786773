"""Classification data sets that fit into memory."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from gpsweep.data.base import CLASSIFICATION, Sample
from gpsweep.data.decode import to_tensor
from gpsweep.data.sizing import Wanted, sizing


class Arrays:
    """Images and their classes in memory."""

    task = CLASSIFICATION

    def __init__(
        self,
        *,
        name: str,
        split: str,
        classes: Sequence[str],
        images: NDArray[np.uint8],
        labels: NDArray[np.integer],
        size: Wanted = None,
    ) -> None:
        """Hold the samples.

        Args:
            name: name of the data set, without its split.
            split: the split, with which ids begin.
            classes: names of the classes.
            images: ``(n, H, W)``, grey, or ``(n, H, W, 3)``, RGB.
            labels: ``(n,)``, numbers of classes.
            size: how pictures are resized, see :func:`gpsweep.data.sizing.sizing`; ``None``: they are not.
        """
        self.name = f"{name}-{split}"
        self.classes = tuple(classes)
        self.images = images
        self.labels = labels
        self.ids = [f"{split}/{number:05d}" for number in range(len(images))]
        self.sizing = sizing(size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        image = self.images[index]
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        target = torch.tensor(int(self.labels[index]))
        return Sample(
            image=to_tensor(self.sizing.image(image, self.ids[index])), target=target, id=self.ids[index]
        )

    def stamp(self) -> str:
        """Return a short hash over images and labels."""
        digest = hashlib.sha256()
        for values in (self.images, self.labels):
            digest.update(f"{values.dtype} {values.shape}\n".encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]
