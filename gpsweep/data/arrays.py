"""Classification data sets that fit into memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from gpsweep.data.base import CLASSIFICATION, Sample, checked_size
from gpsweep.data.decode import resize_image, to_tensor
from gpsweep.data.files import stamp


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
        files: Sequence[Path],
        size: int | Sequence[int] | None = None,
    ) -> None:
        """Hold the samples.

        Args:
            name: name of the data set, without its split.
            split: the split, with which ids begin.
            classes: names of the classes.
            images: ``(n, H, W)``, grey, or ``(n, H, W, 3)``, RGB.
            labels: ``(n,)``, numbers of classes.
            files: what they were read from.
            size: ``None`` for native sizes, ``S`` or ``[H, W]`` in pixels.
        """
        self.name = f"{name}-{split}"
        self.classes = tuple(classes)
        self.images = images
        self.labels = labels
        self.files = tuple(files)
        self.ids = [f"{split}/{number:05d}" for number in range(len(images))]
        self.size = checked_size(size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        image = self.images[index]
        if image.ndim == 2:
            image = np.repeat(image[..., None], 3, axis=2)
        target = torch.tensor(int(self.labels[index]))
        return Sample(image=to_tensor(resize_image(image, self.size)), target=target, id=self.ids[index])

    def stamp(self) -> str:
        """Return a short hash over the sizes of the files, wherever they lie."""
        return stamp(((path.name, [path]) for path in self.files), key="data.root")
