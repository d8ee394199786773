"""Several dense CRFs on an image, in as many processes: the library lets no two threads compute."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import repeat
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from gpsweep.crf import Crf, labelled
from gpsweep.errors import GpsweepError
from gpsweep.interrupts import INTERRUPT, end_with

Image = NDArray[np.uint8]
Softmax = NDArray[np.float32]
Classes = NDArray[np.uint16]
Labelled = Callable[[Image, Softmax], Iterable[Classes]]


@contextmanager
def processes(workers: int | None, tried: list[Crf]) -> Iterator[Labelled]:
    """Put every CRF on an image, in several processes.

    Args:
        workers: how many; None: as many as there are cores for this process.
        tried: the CRFs.

    Raises:
        GpsweepError: if one of them dies.
    """
    workers = min(workers or _cores(), len(tried))
    if workers == 1:
        yield lambda image, softmax: map(labelled, repeat(image), repeat(softmax), tried)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_depend, initargs=(os.getpid(),))
    try:
        yield lambda image, softmax: pool.map(labelled, repeat(image), repeat(softmax), tried)
    except BrokenProcessPool as error:
        raise GpsweepError(
            f"search.workers={workers}: a process has died, for want of memory perhaps; try fewer"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _cores() -> int:
    """Count the cores that this process may use; a scheduler's job has not all of a machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _depend(first: int) -> None:
    """Let the first process alone answer Ctrl-C, and end with it, however that ends."""
    signal.signal(INTERRUPT, signal.SIG_IGN)
    end_with(first)
