"""What is read while what was read before is computed; of a GPU's batches, copied as well.

Lightning reads a batch when the one before is done, and copies it in line with what the GPU computes, which
does nothing meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from gpsweep.data.base import Source
from gpsweep.data.batch import Batch, Guarded, collate, on_device, rows_of
from gpsweep.errors import GpsweepError
from gpsweep.interrupts import leave_signals

T = TypeVar("T")

CPU = torch.device("cpu")


def loader(
    source: Source,
    size: int,
    batches: Iterable[int] | None = None,
    *,
    workers: int = 0,
    device: torch.device = CPU,
) -> DataLoader[Any]:
    """Return what reads batches in processes of their own; where one cannot be read, it gives the error.

    Args:
        source: the data.
        size: how many samples form a batch.
        batches: their numbers, in the order in which they are wanted; all if left out.
        workers: how many processes read; with 0 this one does.
        device: what computes.
    """
    wanted = range(-(-len(source) // size)) if batches is None else batches
    return DataLoader(
        Guarded(source),  # type: ignore[arg-type]
        batch_sampler=[list(rows_of(number, size, len(source))) for number in wanted],
        num_workers=workers,
        worker_init_fn=leave_signals,
        collate_fn=collate,
        pin_memory=device.type == "cuda",
    )


def ahead(loader: DataLoader[Any], device: torch.device) -> Iterable[Batch | GpsweepError]:
    """Return a loader's batches, on a GPU one ahead; on any other device it is the loader itself.

    Args:
        loader: gives batches in pinned memory, or what is wrong with one.
        device: what computes.
    """
    return Ahead(loader, device) if device.type == "cuda" else loader


class Ahead:
    """Batches that are on the device as they are asked for; those that are errors come as they are.

    Args:
        loader: gives batches in pinned memory, or what is wrong with one.
        device: a GPU.
    """

    def __init__(self, loader: DataLoader[Any], device: torch.device) -> None:
        self.loader, self.device = loader, device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch | GpsweepError]:
        batches = iter(self.loader)
        copying = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

        def fetched() -> tuple[Any, Any] | None:
            batch = next(batches, None)
            if batch is None:
                return None
            if isinstance(batch, GpsweepError):
                return batch, None
            with torch.cuda.stream(copying):
                return on_device(batch, self.device), copying.record_event()

        for batch, copied in one_ahead(fetched):
            if copied is not None:
                computing = torch.cuda.current_stream(self.device)
                computing.wait_event(copied)
                for part in batch.values():
                    if isinstance(part, Tensor):
                        # Its memory is not to be given to a later copy before what reads it is done.
                        part.record_stream(computing)
            yield batch


def one_ahead(fetch: Callable[[], T | None]) -> Iterator[T]:
    """Yield what a function returns until it is None, each fetched while the one before is used."""
    with ThreadPoolExecutor(1) as reader:
        waiting = reader.submit(fetch)
        while (found := waiting.result()) is not None:
            waiting = reader.submit(fetch)
            yield found
