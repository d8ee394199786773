"""One run: configuration → data, network and grid → what is not stored yet → Trainer.test → counts."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gpsweep import drawing, metrics, pictures, ranks, record
from gpsweep.ahead import ahead, loader
from gpsweep.atomic import check_writable
from gpsweep.cache import Cache
from gpsweep.command import stays
from gpsweep.counting import count
from gpsweep.data.batch import Batch
from gpsweep.errors import GpsweepError
from gpsweep.failures import worker_lost
from gpsweep.interrupts import Interrupts, StoppedError, requeued
from gpsweep.measure import measure_missing
from gpsweep.memo import Memo
from gpsweep.module import GridModule, Task
from gpsweep.parts import Parts, parts_of
from gpsweep.points import Point
from gpsweep.predict import Spool, file_name, predict
from gpsweep.prepare import prepare
from gpsweep.progress import bar
from gpsweep.provenance import provenance
from gpsweep.results import selection
from gpsweep.results.groups import check_groups
from gpsweep.results.halves import plan
from gpsweep.results.outcome import Outcome
from gpsweep.store import Chunk
from gpsweep.trainer import device_name, quiet_lightning, rank
from gpsweep.tuning import tune_ids


def run(cfg: DictConfig, folder: Path, command: str = "") -> Outcome | None:
    """Evaluate one model on one data set over one grid, as far as it is not stored already.

    Args:
        cfg: the composed configuration, see :class:`gpsweep.config.Config`.
        folder: the run's folder, where it is noted what the run is; the caller writes the results there.
        command: how the run was started, for the report.

    Returns:
        Counts of every point and where they come from. None in the further processes of a run on several
        devices, where the counts of other shards are still missing or another writes the results of all or
        has done so before, and where there is no truth: then the folder gets predictions.

    Raises:
        GpsweepError: for whatever the user can mend, before the first batch where it can be known.
        StoppedError: if a signal asked for it.
    """
    start = perf_counter()
    parts = parts_of(cfg)
    if parts.spool is not None:
        submit(cfg, parts, parts.spool, folder)
        return None
    wanted, info = parts.wanted, about(cfg, parts, command)
    parts.store.describe({"model": info["model"], "dataset": info["dataset"]})
    if rank() == 0:
        record.note(folder, parts.store, wanted, info)
    tasks = missing(cfg, parts)
    claim = record.claim_of(parts.store, wanted, info)
    if tasks and cfg.shards > 1 and rank() == 0:
        # Whoever claimed the results did so before there was something to compute again.
        with suppress(OSError):
            claim.unlink(missing_ok=True)
    before = perf_counter() - start
    spent = completed(
        cfg, parts, tasks, folder, then=f"writes the results, or: python -m gpsweep.report {folder}"
    )
    if spent is None:
        return None
    if cfg.shards > 1 and (first := record.claim(claim, folder) if tasks else record.finished_beside(folder)):
        done, are = ("is done", "are being written") if tasks else ("was done before", "are")
        tell(f"shard {cfg.shard} of {cfg.shards} {done}; the results of all {are} in {first}")
        return None
    outcome = record.outcome(parts.store, wanted, info, {**spent, "start": before + spent["start"]})
    illustrate(cfg, parts, outcome, folder)
    return outcome


def about(cfg: DictConfig, parts: Parts, command: str) -> dict[str, Any]:
    """Return what is known of a run before its first batch, see :class:`gpsweep.results.outcome.Outcome`.

    Args:
        cfg: its configuration.
        parts: what that names.
        command: how it was started.

    Raises:
        GpsweepError: if ``data.tune_split`` names no images of the run, or ``data.groups`` not all.
    """
    ids, groups = parts.source.ids, cfg.data.get("groups")
    check_groups(groups, ids)
    tune = None if cfg.select == "none" else tune_ids(cfg.data, parts.source)
    return {
        **provenance(),
        "dataset": parts.source.name,
        "model": str(cfg.model.name),
        "weights_sha256": parts.store.identity["model"]["weights"],
        "layer_scale": cfg.layer_scale,
        "command": command,
        "config": OmegaConf.to_yaml(cfg, resolve=True),
        "memory_format": cfg.memory_format,
        "groups": groups,
        "select": plan(cfg.select, ids=ids, seed=cfg.seed, tune=tune, groups=groups),
        **{name: guide.about() for name, guide in parts.guides.items()},
    }


def illustrate(cfg: DictConfig, parts: Parts, outcome: Outcome, folder: Path) -> None:
    """Draw what the best point changes on a few images.

    Warns:
        UserWarning: where that fails; it takes no result along.
    """
    pictures.clear(folder)
    if not cfg.pictures:
        return
    place = selection.top(outcome.points, metrics.score(metrics.total(outcome.counts), outcome.task))
    point, counts = outcome.points[place], outcome.counts[place]
    if point.eps == 0:
        return
    rows = drawing.choose(counts, outcome.base, cfg.pictures)

    def options() -> dict[str, Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # said before the first batch
            return prepared(cfg, parts)

    try:
        if not metrics.is_segmentation(outcome.task):
            drawing.show(folder, point, rows, counts=counts, base=outcome.base, source=parts.source)
            return
        drawing.draw(
            folder,
            point,
            rows,
            net=parts.net,
            source=parts.source,
            batch_size=cfg.data.batch_size,
            device=parts.trainer.strategy.root_device,
            options=options,
            cache=Cache(parts.store.folder / pictures.FOLDER, "store", cfg.fresh),
        )
    except (GpsweepError, RuntimeError) as error:
        warnings.warn(f"pictures={cfg.pictures}: not all were drawn: {error}", stacklevel=2)


def submit(cfg: DictConfig, parts: Parts, spool: Spool, folder: Path) -> None:
    """Write predictions for the evaluation server into the run's folder, as far as shards have made them.

    Raises:
        GpsweepError: as :func:`run`.
        StoppedError: if a signal asked for it.
    """
    parts.store.describe({"model": str(cfg.model.name), "dataset": parts.source.name})
    if rank() == 0:
        unsent = "; there are no scores for a tracker" if cfg.tracker else ""
        tell(f"{parts.source.name} has no masks: predictions for its evaluation server are written{unsent}")
    tasks = missing(cfg, parts)
    if completed(cfg, parts, tasks, folder, then="writes the predictions") is None:
        return
    print("Predictions:")
    for point in parts.wanted:
        path = folder / file_name(point, parts.grid)
        spool.submit(point, path)
        print(path)


def completed(
    cfg: DictConfig, parts: Parts, tasks: list[Task], folder: Path, *, then: str
) -> dict[str, float] | None:
    """Compute what is missing of this run's shard, and see whether that is all.

    Args:
        then: what the last shard does, for those before it.

    Returns:
        the seconds of preparation and of all batches. None in the further processes of a run on several
        devices, and where other shards have batches left.

    Raises:
        GpsweepError: as :func:`run`.
        StoppedError: if a signal asked for it.
    """
    spent = {"start": 0.0, "test": 0.0}
    if tasks or parts.joined:
        spent = compute(cfg, parts, tasks, folder)
    if rank() > 0:
        return None
    kept = parts.keeper
    left = kept.missing(parts.wanted)
    if left and cfg.shards == 1:
        raise lost(left, kept.batches, kept.folder)
    if left:
        tell(
            f"shard {cfg.shard} of {cfg.shards} is done; {len(left)} of {kept.batches} batches are left to "
            f"others. The last shard {then}"
        )
        return None
    return spent


def lost(left: Collection[int], batches: int, folder: Path) -> GpsweepError:
    """Build the error for batches that are computed and yet not there: removed, or not to be seen yet."""
    return GpsweepError(
        f"store: {len(left)} of {batches} batches are not in {folder}, though all were computed; were they "
        "removed, or does another machine's disk show them later? The same command computes what is missing"
    )


def missing(cfg: DictConfig, parts: Parts) -> list[Task]:
    """Return what is still to be computed of this run's shard, and say so where something is stored."""
    wanted, kept = parts.wanted, parts.keeper
    own = range(cfg.shard, kept.batches, cfg.shards)
    if cfg.fresh and not requeued():
        # At once, not batch by batch: a run that is stopped midway leaves nothing old beside what is new.
        if rank() == 0:
            kept.discard(wanted)
        return [Task(batch, wanted) for batch in own]
    tasks = [Task(batch, open_points) for batch, open_points in kept.missing(wanted, own).items()]
    left, total = sum(len(task.points) for task in tasks), len(own) * len(wanted)
    if left < total and rank() == 0:
        tell(f"{total - left} of {total} points × batches are stored in {kept.folder}; {left} to go")
    return tasks


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
        tasks: what is to be done; that of the first process holds for all.
        folder: the run's folder.
        on_ready: called before the processes meet.

    Returns:
        the seconds of preparation and of all batches.

    Raises:
        GpsweepError: if network and data do not fit, a file or process is lost, or the store is full or not
            to be written.
        StoppedError: if a signal asked for it.
    """
    start = perf_counter()
    check_writable(parts.store.folder, "store")  # it may be somebody else's, in a store that all may write to
    options = prepared(cfg, parts)
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
        measure_missing(
            parts.store.folder,
            [point for task in tasks for point in task.points],
            net=parts.net,
            source=parts.source,
            device=device,
            device_name=device_name(trainer),
            batch_size=cfg.data.batch_size,
            options=options,
            memo=memo,
            spent=spent["test"],
            again=cfg.fresh,
        )
    return spent


def evaluation(parts: Parts, *, device: str, **known: Any) -> Callable[..., Any]:
    """Return what makes of a batch and points what is kept: counts, or predictions where there is no truth.

    Args:
        device: what computes, in words.
        known: ``options`` and ``memo`` of :func:`gpsweep.counting.count`.
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


def prepared(cfg: DictConfig, parts: Parts) -> dict[str, Any]:
    """Check on one sample that the parts fit; return options of :func:`gpsweep.counting.count`."""
    options = prepare(
        cfg,
        parts.grid,
        parts.source,
        parts.net,
        class_map=parts.class_map,
        refinement=parts.refinement,
        device=parts.trainer.strategy.root_device,
    )
    return {**options, "guides": parts.guides}


@contextmanager
def ended_well(cfg: DictConfig, interrupts: Interrupts, others: ranks.Ranks) -> Iterator[None]:
    """Name what ends the batches before their time: a signal, or the death of a process.

    Raises:
        StoppedError: if a signal asked for it.
        GpsweepError: if a process is lost.
    """
    try:
        yield
    except (RuntimeError, OSError, EOFError, GpsweepError) as error:
        # A terminal's Ctrl-C reaches all processes, and another's death may be seen before the signal is.
        if interrupts.received:
            raise StoppedError(interrupts.received) from error
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


def tell(message: str) -> None:
    """Say something to the person at the terminal."""
    with suppress(OSError):  # such as of a terminal that has been closed
        print(f"gpsweep: {message}", file=sys.stderr)
