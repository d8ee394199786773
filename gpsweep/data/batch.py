"""From samples to a batch, and from an error in a worker to an error that arrives whole."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypedDict

import torch
from torch import Tensor

from gpsweep.data.base import SEGMENTATION, VOID, Sample, Source
from gpsweep.errors import GpsweepError, listing

TENSORS = ("image", "target")


class Batch(TypedDict):
    """Samples put together; smaller images stand at the top left.

    Keys:
        image: float32 ``(N, 3, H, W)``, RGB 0–255; 0 where padded.
        target: int64 ``(N, H, W)`` or ``(N,)``; ``VOID`` where padded.
        valid: bool ``(N, H, W)``, false where padded; ``None`` where nothing was padded.
        ids: the samples' ids.
        content: hash of the samples' images and truth.
    """

    image: Tensor
    target: Tensor
    valid: Tensor | None
    ids: list[str]
    content: str


class Guarded:
    """A data set that returns its errors instead of raising them.

    A DataLoader re-raises what a worker raised as another error with the worker's traceback in its message;
    a returned error passes as it is, and whoever receives it as the batch raises it.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Sample | GpsweepError:
        try:
            return read(self.source, index)
        except GpsweepError as error:
            return error


def read(source: Source, index: int) -> Sample:
    """Read one sample; a target of other whole numbers becomes int64.

    Raises:
        GpsweepError: naming it, whatever a user's own data raise, and where it is no sample of their task.
    """
    try:
        sample: Any = source[index]
    except GpsweepError:
        raise
    except Exception as error:
        raise GpsweepError(
            f"data: {source.ids[index]} cannot be read: {type(error).__name__}: {error}"
        ) from error
    return _checked(sample, source, source.ids[index])


def _checked(sample: Any, source: Source, name: str) -> Sample:
    """Return a sample with the id, and tensors of the shapes and types, that all else takes for granted."""
    expected = f"data: {name}: expected"
    tensors = isinstance(sample, Mapping) and all(isinstance(sample.get(key), Tensor) for key in TENSORS)
    if not tensors or "id" not in sample:
        came = type(sample).__name__
        if isinstance(sample, Mapping):
            other = [key for key in TENSORS if key in sample and not isinstance(sample[key], Tensor)]
            came = f"dict of {listing(list(sample))}"
            came += "".join(f", {key} as {type(sample[key]).__name__}" for key in other)
        raise GpsweepError(
            f"{expected} samples as dicts of the tensors image and target, and of id, came {came}"
        )
    if sample["id"] != name:
        raise GpsweepError(f"{expected} {name} as id of the sample, as in ids, came {sample['id']}")
    image, target = (sample[key] for key in TENSORS)
    if image.dtype != torch.uint8 or image.dim() != 3 or len(image) != 3:
        raise GpsweepError(f"{expected} image as uint8 (3, H, W), RGB, came {_described(image)}")
    shape = tuple(image.shape[1:]) if source.task == SEGMENTATION else ()
    whole = not (target.is_floating_point() or target.is_complex() or target.dtype == torch.bool)
    if not whole or target.shape != shape:
        raise GpsweepError(f"{expected} target as int64 {shape}, came {_described(target)}")
    return Sample(image=image, target=target.long(), id=sample["id"])


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def collate(samples: Sequence[Sample | GpsweepError]) -> Batch | GpsweepError:
    """Return samples put together, or the first error among them.

    Args:
        samples: at least one, all of one task.
    """
    whole: list[Sample] = []
    for sample in samples:
        if isinstance(sample, GpsweepError):
            return sample
        whole.append(sample)
    return joined(whole)


def rows_of(number: int, size: int, total: int) -> range:
    """Return which of so many samples form a batch; that depends on its number and size alone."""
    return range(number * size, min((number + 1) * size, total))


def batch_of(source: Source, rows: Iterable[int]) -> Batch:
    """Read some samples, here and now, and put them together.

    Raises:
        GpsweepError: naming a sample that cannot be read, see :func:`read`.
    """
    return joined([read(source, row) for row in rows])


def joined(samples: Sequence[Sample]) -> Batch:
    """Put samples together, see :func:`padded`, with what a run needs to know of them."""
    image, target, valid = padded(samples)
    ids = [sample["id"] for sample in samples]
    return Batch(image=image, target=target, valid=valid, ids=ids, content=content(samples))


def padded(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, Tensor | None]:
    """Put samples together, padding at the right and at the bottom to the largest height and width.

    Args:
        samples: at least one, all of one task.

    Returns:
        ``image``, ``target`` and ``valid`` of a :class:`Batch`.
    """
    sides = [(sample["image"].shape[1], sample["image"].shape[2]) for sample in samples]
    if len(set(sides)) == 1:
        image = torch.stack([sample["image"] for sample in samples]).float()
        return image, torch.stack([sample["target"] for sample in samples]), None

    height, width = (max(side) for side in zip(*sides, strict=True))
    image = torch.zeros(len(samples), 3, height, width)
    valid = torch.zeros(len(samples), height, width, dtype=torch.bool)
    dense = samples[0]["target"].ndim == 2
    target = torch.full((len(samples), height, width) if dense else (len(samples),), VOID, dtype=torch.int64)
    for place, (sample, (rows, columns)) in enumerate(zip(samples, sides, strict=True)):
        image[place, :, :rows, :columns] = sample["image"]
        valid[place, :rows, :columns] = True
        target[(place, slice(rows), slice(columns)) if dense else place] = sample["target"]
    return image, target, valid


def content(samples: Sequence[Sample]) -> str:
    """Return the hash of samples as the network and the counts get to see them."""
    total = sha256()
    for sample in samples:
        # Classes are few: as 32 bits the truth takes half of the time.
        for tensor in (sample["image"], sample["target"].int()):
            total.update(repr(tuple(tensor.shape)).encode())
            total.update(tensor.contiguous().numpy().tobytes())
    return total.hexdigest()


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch whose tensors are on a device; those of pinned memory may be on their way to a GPU."""
    valid, ahead = batch["valid"], device.type == "cuda"
    return Batch(
        image=batch["image"].to(device, non_blocking=ahead),
        target=batch["target"].to(device, non_blocking=ahead),
        valid=None if valid is None else valid.to(device, non_blocking=ahead),
        ids=batch["ids"],
        content=batch["content"],
    )
