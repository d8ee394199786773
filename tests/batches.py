"""Batches of random images, each of its own size."""

from __future__ import annotations

import torch

from gpsweep.data.base import Sample
from gpsweep.data.batch import Batch, joined


def batch_of(*sizes: tuple[int, int], dense: bool = True, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def sample(number: int, size: tuple[int, int]) -> Sample:
        target = torch.randint(-1, 4, size if dense else (), generator=generator)
        image = torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
        return Sample(image=image, target=target, id=f"{number}")

    return joined([sample(number, size) for number, size in enumerate(sizes)])
