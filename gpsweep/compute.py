"""What is missing of a run is computed, in as many processes as there are devices, and stored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from omegaconf import DictConfig

from gpsweep import ranks
from gpsweep.ahead import ahead, loader
from gpsweep.atomic import check_writable
from gpsweep.command import stays
from gpsweep.counting import count
from gpsweep.data.batch import Batch
from gpsweep.errors import GpsweepError
from gpsweep.failures import worker_lost
from gpsweep.interrupts import Interrupts, StoppedRun
from gpsweep.measure import measure_missing
from gpsweep.memo import Memo
from gpsweep.module import GridModule, Task
from gpsweep.parts import Parts
from gpsweep.points import Point
from gpsweep.predict import predict
from gpsweep.prepare import prepare
from gpsweep.progress import bar
from gpsweep.store import Chunk
from gpsweep.trainer import device_name, quiet_lightning, rank


def compute(
    cfg: DictConfig,
    parts: Parts,
    tasks: list[Task],
    folder: Path,
    *,
    on_ready: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Compute and store counts, in as many processes as there are devices.

    Args:
        cfg: the run's configuration.
        parts: what it names.
        tasks: what is to be done; that of the first process holds for all.
        folder: the run's folder.
        on_ready: called before the processes meet.

    Returns:
        the seconds of preparation and of all batches.

    Raises:
        GpsweepError: if network and data do not fit, a file or process is lost, or the store is full or not
            to be written.
        StoppedRun: if a signal asked for it.
    """
    start = perf_counter()
    check_writable(parts.store.folder, "store")  # it may be somebody else's, in a store that all may write to
    options = prepare(cfg, parts)
    memo = Memo(settle=parts.store.settle)
    total = sum(len(task.points) for task in tasks)
    trainer, device = parts.trainer, parts.trainer.strategy.root_device
    with (
        quiet_lightning(),
        ranks.further(trainer.num_devices, cfg, folder) as others,
        bar(cfg.progress if rank() == 0 else False, -(-total // trainer.world_size)) as on_point,
    ):
        ready = perf_counter()
        interrupts = Interrupts(keyboard=rank() == 0)
        module = GridModule(
            parts.net,
            tasks,
            loader=lambda batches: ahead(
                loader(parts.source, cfg.data.batch_size, batches, workers=cfg.data.workers, device=device),
                device,
            ),
            evaluate=evaluation(parts, options=options, memo=memo, device=device_name(trainer)),
            keep=parts.keeper.put,
            interrupts=interrupts,
            on_point=on_point,
            on_batch=others.check,
        )
        with ended_well(cfg, interrupts, others):
            try:
                on_ready()
                others.wait()
                trainer.test(module, verbose=False)
                interrupts.at_batch()  # what came as the last batch ended
            finally:
                for guide in parts.guides.values():
                    guide.save()
    spent = {"start": ready - start, "test": perf_counter() - ready}
    if rank() == 0 and parts.spool is None:
        points = [point for task in tasks for point in task.points]
        measure_missing(cfg, parts, points, options=options, memo=memo, spent=spent["test"])
    return spent


def evaluation(parts: Parts, *, device: str, **known: Any) -> Callable[..., Any]:
    """Return what makes of a batch and points what is kept: counts, or predictions where there is no truth.

    Args:
        parts: what the run's configuration names.
        device: what computes, in words.
        known: ``options`` and ``memo`` of :func:`gpsweep.counting.count`.

    Returns:
        a function of a batch, points, and by name ``number`` and ``on_point``, see :func:`count`.
    """
    if parts.spool is not None:
        return partial(predict, parts.net, **known)
    counted: Callable[..., Chunk] = partial(count, parts.net, classes=parts.classes, device=device, **known)
    if not parts.guides:
        return counted
    vote = parts.guides["knn"].vote

    def beside_neighbours(batch: Batch, points: Sequence[Point], **own: Any) -> Chunk:
        chunk = counted(batch, points, **own)
        right = vote(batch["image"], batch["ids"]) == batch["target"]
        return replace(chunk, neighbours=right.tolist())

    return beside_neighbours


@contextmanager
def ended_well(cfg: DictConfig, interrupts: Interrupts, others: ranks.Ranks) -> Iterator[None]:
    """Name what ends the batches before their time: a signal, or the death of a process.

    Args:
        cfg: the run's configuration.
        interrupts: notes signals; they are given back at the end.
        others: the run's further processes.

    Raises:
        StoppedRun: if a signal asked for it.
        GpsweepError: if a process is lost.
    """
    try:
        yield
    except (RuntimeError, OSError, EOFError, GpsweepError) as error:
        # A terminal's Ctrl-C reaches all processes, and another's death may be seen before the signal is.
        if interrupts.received:
            raise StoppedRun(interrupts.received) from error
        if not isinstance(error, RuntimeError):
            raise
        others.check()
        if worker_lost(error):
            raise GpsweepError(
                f"data.workers={cfg.data.workers}: a worker process has died, for want of memory perhaps; "
                f"{stays(fresh=cfg.fresh)} from there"
            ) from error
        raise
    finally:
        interrupts.restore()
