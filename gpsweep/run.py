"""One run: configuration → data, network and grid → what is not stored yet is computed → counts."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gpsweep import record
from gpsweep.compute import compute
from gpsweep.drawing import illustrate
from gpsweep.errors import GpsweepError
from gpsweep.identity import DRAWN
from gpsweep.interrupts import requeued
from gpsweep.layers import INPUT
from gpsweep.module import Task
from gpsweep.parts import Parts, parts_of
from gpsweep.predict import Spool, file_name
from gpsweep.provenance import provenance
from gpsweep.results.groups import check_groups
from gpsweep.results.halves import plan
from gpsweep.results.outcome import Outcome
from gpsweep.source_code import digest
from gpsweep.trainer import rank
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
        StoppedRun: if a signal asked for it.
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
    again = shlex.join(["python", "-m", "gpsweep.report", str(folder)])
    spent = completed(cfg, parts, tasks, folder, then=f"writes the results, or: {again}")
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

    Warns:
        UserWarning: where ``data.tune_split`` is given and nothing held out.
    """
    ids, groups = parts.source.ids, cfg.data.get("groups")
    check_groups(groups, ids)
    data = parts.store.identity["data"]
    tune = None if cfg.select == "none" else tune_ids(cfg.data, parts.source)
    if cfg.select == "none" and (split := cfg.data.get("tune_split")) is not None and rank() == 0:
        warnings.warn(
            f"data.tune_split={split}: has no effect, as nothing is held out; add select=half", stacklevel=2
        )
    return {
        **provenance(),
        "dataset": parts.source.name,
        "model": str(cfg.model.name),
        "weights_sha256": parts.store.identity["model"]["weights"],
        "data_sha256": digest(*(str(data[key]).encode() for key in ("ids", "files", "first"))),
        "layer_scale": cfg.layer_scale,
        "options": options(cfg, parts),
        "command": command,
        "config": OmegaConf.to_yaml(cfg, resolve=True),
        "memory_format": cfg.memory_format,
        "groups": groups,
        "select": plan(cfg.select, ids=ids, seed=cfg.seed, tune=tune, groups=groups),
        **{name: guide.about() for name, guide in parts.guides.items()},
    }


def options(cfg: DictConfig, parts: Parts) -> dict[str, Any]:
    """Return what the scores of a grid's points depend on besides their settings, and nothing else.

    Args:
        cfg: the run's configuration.
        parts: what it names.
    """
    grid = parts.grid
    known = ["clip", *(f"precision.{key}" for key in cfg.precision)]
    known += ["seed", "random_unit"] if DRAWN in grid.label else []
    known += ["layer_scale"] if any(name != INPUT for name in grid.layer) else []
    known += [f"knn.{key}" for key in cfg.knn if key != "cache"] if parts.guides else []
    return {key: OmegaConf.select(cfg, key) for key in known} | parts.refinement.identity()


def submit(cfg: DictConfig, parts: Parts, spool: Spool, folder: Path) -> None:
    """Write predictions for the evaluation server into the run's folder, as far as shards have made them.

    Args:
        cfg: the run's configuration.
        parts: what it names.
        spool: where predictions lie until all are made.
        folder: the run's folder.

    Raises:
        GpsweepError: as :func:`run`.
        StoppedRun: if a signal asked for it.
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
        cfg: the run's configuration.
        parts: what it names.
        tasks: what is missing, see :func:`missing`.
        folder: the run's folder.
        then: what the last shard does, for those before it.

    Returns:
        the seconds of preparation and of all batches. None in the further processes of a run on several
        devices, and where other shards have batches left.

    Raises:
        GpsweepError: as :func:`run`.
        StoppedRun: if a signal asked for it.
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
    """Build the error for batches that are computed and yet not there: removed, or not to be seen yet.

    Args:
        left: their numbers.
        batches: how many the data make.
        folder: where they should be.
    """
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


def tell(message: str) -> None:
    """Say something to the person at the terminal."""
    with suppress(OSError):  # such as of a terminal that has been closed
        print(f"gpsweep: {message}", file=sys.stderr)
