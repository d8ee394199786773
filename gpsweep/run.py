"""One run: configuration → data, network and grid → what is not stored yet → Trainer.test → counts."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from gpsweep import layers, points, ranks, record, selection
from gpsweep.atomic import check_writable
from gpsweep.config import instance
from gpsweep.data.base import SEGMENTATION, Source
from gpsweep.data.batch import Guarded, collate
from gpsweep.engine import curve
from gpsweep.errors import GpsweepError, unknown
from gpsweep.gallery import Gallery
from gpsweep.identity import identity
from gpsweep.interrupts import Interrupts, StoppedError
from gpsweep.knn import KnnGuide
from gpsweep.lightning import MisconfigurationException, Trainer
from gpsweep.models.build import build
from gpsweep.models.pixels import PixelNet
from gpsweep.module import GridModule, Task
from gpsweep.outcome import Outcome
from gpsweep.passes import Memo
from gpsweep.progress import bar
from gpsweep.provenance import provenance
from gpsweep.store import Store

# A run without srun on a machine that has it is meant so.
SRUN = ".*`srun` command is available"
CHOICES = {
    "layer_scale": ("rms", "absolute"),
    "random_unit": ("pixel", "image"),
    "memory_format": ("channels_last", "contiguous"),
}


@dataclass(frozen=True)
class Job:
    """What a configuration names, checked as far as it can be without a forward pass."""

    grid: points.Grid
    source: Source
    net: PixelNet
    store: Store
    guides: dict[str, KnnGuide]

    @property
    def classes(self) -> int:
        """How many classes the data has."""
        return len(self.source.classes)


def run(cfg: DictConfig, folder: Path, command: str = "") -> Outcome | None:
    """Evaluate one model on one data set over one grid, as far as it is not stored already.

    Args:
        cfg: the composed configuration, see :class:`gpsweep.config.Config`.
        folder: the run's folder, where it is noted what the run is; the caller writes the results there.
        command: how the run was started, for the report.

    Returns:
        Counts of every point and where they come from. None in the further processes of a run on several
        devices, and where the counts of other shards are still missing.

    Raises:
        GpsweepError: for whatever the user can mend, before the first batch where it can be known.
        StoppedError: if a signal asked for it.
    """
    start = perf_counter()
    job = job_of(cfg)
    wanted = job.grid.points()
    info = {
        **provenance(),
        "dataset": job.source.name,
        "model": str(cfg.model.name),
        "weights_sha256": job.store.identity["model"]["weights"],
        "layer_scale": cfg.layer_scale,
        "command": command,
        "config": OmegaConf.to_yaml(cfg, resolve=True),
        "memory_format": cfg.memory_format,
        "select": selection.plan(cfg.select, ids=job.source.ids, seed=cfg.seed),
    }
    job.store.describe({"model": info["model"], "dataset": info["dataset"]})
    if rank() == 0:
        record.note(folder, job.store, wanted, info)
    tasks = missing(cfg, job)
    times = {"start": perf_counter() - start, "test": 0.0}
    if tasks or ranks.started_by_others():
        spent = compute(cfg, job, tasks, folder)
        times = {key: times[key] + spent[key] for key in times}
    if rank() > 0:
        return None
    left = job.store.missing(wanted, range(job.store.batches))
    if left:
        tell(
            f"shard {cfg.shard} of {cfg.shards} is done; {len(left)} of {job.store.batches} batches are left "
            f"to others. The last shard writes the results, or: python -m gpsweep.report {folder}"
        )
        return None
    return record.outcome(job.store, wanted, info, times)


def job_of(cfg: DictConfig) -> Job:
    """Build what a configuration names.

    Raises:
        GpsweepError: naming the key of what does not fit.
    """
    grid = grid_of(cfg)
    check_writable(Path(cfg.store), "store")
    source: Source = instance(cfg.data.source, "data.source")
    if len(source) == 0:
        raise GpsweepError(f"data: expected at least one sample, {source.name} has none")
    # Weights that no checkpoint gives are at least the same in every process and shard.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        net = build(cfg.model, classes=len(source.classes))
    for name in grid.layer:
        if name != layers.INPUT:
            layers.find(net, name)
    kind = trainer_of(cfg).strategy.root_device.type
    guides = {"knn": knn_of(cfg, source, net)} if "knn" in grid.label else {}
    known = {**identity(cfg, source, net, kind)}
    for name, guide in guides.items():
        known[name] = guide.identity(kind)
    return Job(grid, source, net, Store(Path(cfg.store), known), guides)


def knn_of(cfg: DictConfig, source: Source, net: PixelNet) -> KnnGuide:
    """Make what ``label=knn`` finds neighbours by.

    Raises:
        GpsweepError: if the data has no training images, or the model names no features.
    """
    training: Source | None = None
    if cfg.data.get("train") is not None:
        training = instance(cfg.data.train, "data.train")
    gallery = Gallery(
        net,
        training,
        features=cfg.model.get("features"),
        cache=Path(cfg.knn.cache) if cfg.knn.cache else None,
        memory_format=cfg.memory_format,
        workers=cfg.data.workers,
    )
    same = training is not None and training.name == source.name
    choices = {key: cfg.knn[key] for key in ("k", "weights", "at", "combine")}
    return KnnGuide(gallery, leave_out=same, **choices)


def missing(cfg: DictConfig, job: Job) -> list[Task]:
    """Return what is still to be computed of this run's shard, and say so where something is stored."""
    wanted = job.grid.points()
    own = range(cfg.shard, job.store.batches, cfg.shards)
    if cfg.fresh:
        return [Task(batch, wanted) for batch in own]
    tasks = [Task(batch, open_points) for batch, open_points in job.store.missing(wanted, own).items()]
    left, total = sum(len(task.points) for task in tasks), len(own) * len(wanted)
    if left < total and rank() == 0:
        tell(f"{total - left} of {total} points × batches are stored in {job.store.folder}; {left} to go")
    return tasks


def compute(
    cfg: DictConfig,
    job: Job,
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
        GpsweepError: if network and data do not fit, a file or process is lost, or the store is full.
        StoppedError: if a signal asked for it.
    """
    start = perf_counter()
    prepared = prepare(cfg, job.grid, job.source, job.net)
    interrupts = Interrupts(keyboard=rank() == 0)
    total = sum(len(task.points) for task in tasks)
    trainer = trainer_of(cfg, folder)
    with (
        quiet_lightning(),
        ranks.further(trainer.num_devices, cfg, folder) as others,
        bar(cfg.progress if rank() == 0 else False, -(-total // trainer.world_size)) as on_point,
    ):
        ready = perf_counter()
        module = GridModule(
            job.net,
            tasks,
            loader=lambda own: loader(cfg, job.source, own),
            keep=job.store.put,
            classes=job.classes,
            options={**prepared.options, "guides": job.guides},
            memo=prepared.memo,
            device_name=device_name(trainer),
            interrupts=interrupts,
            on_point=on_point,
            on_batch=others.check,
        )
        try:
            on_ready()
            others.wait()
            trainer.test(module, verbose=False)
        except RuntimeError as error:
            if interrupts.received:
                raise StoppedError(interrupts.received) from error
            others.check()
            if "DataLoader worker" in str(error):
                raise GpsweepError(
                    f"data.workers={cfg.data.workers}: a worker process has died, for want of memory "
                    "perhaps; what is stored stays, and the same command goes on from there"
                ) from error
            raise
        finally:
            interrupts.restore()
            for guide in job.guides.values():
                guide.save()
    return {"start": ready - start, "test": perf_counter() - ready}


def loader(cfg: DictConfig, source: Source, tasks: Sequence[Task]) -> DataLoader[Any]:
    """Return the batches of some tasks; which samples form a batch depends on its number alone."""
    size = cfg.data.batch_size
    return DataLoader(
        Guarded(source),  # type: ignore[arg-type]
        batch_sampler=[
            list(range(task.batch * size, min((task.batch + 1) * size, len(source)))) for task in tasks
        ],
        num_workers=cfg.data.workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )


def tell(message: str) -> None:
    """Say something to the person at the terminal."""
    print(f"gpsweep: {message}", file=sys.stderr)


def rank() -> int:
    """Return which of a run's processes this is."""
    return int(getattr(rank_zero_only, "rank", None) or 0)


def grid_of(cfg: DictConfig) -> points.Grid:
    """Make the grid of a configuration and check the other choices of one word.

    Raises:
        GpsweepError: naming the key.
    """
    for key, choices in CHOICES.items():
        if cfg[key] not in choices:
            raise unknown(key, cfg[key], choices)
    size = cfg.points_per_forward
    if size != "auto" and not (isinstance(size, int) and not isinstance(size, bool) and size >= 1):
        raise GpsweepError(f"points_per_forward={size}: expected auto or a whole number of at least 1")
    for key, least in (("batch_size", 1), ("workers", 0)):
        number = cfg.data[key]
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise GpsweepError(f"data.{key}={number}: expected a whole number of at least {least}")
    for key, number, least in (("shards", cfg.shards, 1), ("shard", cfg.shard, 0)):
        if isinstance(number, bool) or not isinstance(number, int) or number < least:
            raise GpsweepError(f"{key}={number}: expected a whole number of at least {least}")
    if cfg.shard >= cfg.shards:
        raise GpsweepError(f"shard={cfg.shard}: expected 0 to {cfg.shards - 1}, as shards={cfg.shards}")
    axes = OmegaConf.to_container(OmegaConf.masked_copy(cfg, list(points.AXES)), resolve=True)
    assert isinstance(axes, dict)
    labels = (*points.LABELS, *points.GUIDES)
    return points.grid(labels=labels, **{str(key): value for key, value in axes.items()})


@dataclass(frozen=True)
class Prepared:
    """What is known once one sample has gone through the network."""

    options: dict[str, Any]
    memo: Memo


def prepare(cfg: DictConfig, grid: points.Grid, source: Source, net: PixelNet) -> Prepared:
    """Check on one sample that network, data and layers fit, and find a memory format the network bears.

    Raises:
        GpsweepError: if they do not fit.
    """
    if cfg.model.checkpoint is None and cfg.model.get("weights", "own") is None:
        warnings.warn("model.checkpoint=null: the network's weights are random", stacklevel=2)
    options = {
        "seed": cfg.seed,
        "random_unit": cfg.random_unit,
        "layer_scale": cfg.layer_scale,
        "clip": (0.0, 255.0) if cfg.clip else None,
        "precision": cfg.precision.forward,
        "gradient_precision": cfg.precision.gradient,
        "points_per_forward": cfg.points_per_forward,
        "memory_format": cfg.memory_format,
    }
    sample = collate([source[0]])
    assert not isinstance(sample, GpsweepError)
    memo = Memo()

    def logits() -> torch.Tensor:
        if options["memory_format"] == "channels_last":
            net.to(memory_format=torch.channels_last)
        walk = curve(
            net, sample["image"], 0.0, layer=grid.layer, memo=memo, **options | {"points_per_forward": 1}
        )
        return next(walk)[1]

    try:
        z = logits()
    except GpsweepError:
        raise
    except Exception as error:  # a network of the user's own may fail in any way
        if "view size is not compatible" not in str(error) or cfg.memory_format == "contiguous":
            reason = f"{type(error).__name__}: {error}"
            raise GpsweepError(f"model: the network fails on the first sample: {reason}") from error
        # A view() after a convolution assumes rows in memory order, which channels-last does not have.
        options["memory_format"] = "contiguous"
        net.to(memory_format=torch.contiguous_format)
        memo = Memo()
        z = logits()
        warnings.warn("memory_format=channels_last: the network needs contiguous activations", stacklevel=2)
    check_logits(z, source, sample["image"])
    return Prepared(options, memo)


def check_logits(z: torch.Tensor, source: Source, image: torch.Tensor) -> None:
    """Check that logits fit the data's task and classes.

    Raises:
        GpsweepError: if they do not.
    """
    expected = (1, "C", *image.shape[2:]) if source.task == SEGMENTATION else (1, "C")
    if z.dim() != len(expected) or tuple(z.shape[2:]) != expected[2:]:
        raise GpsweepError(
            f"model: expected logits {expected} for {source.task}, came {tuple(z.shape)}; "
            "does the network do what the data asks?"
        )
    if z.shape[1] < max(2, len(source.classes)):
        raise GpsweepError(
            f"model.classes: the network has {z.shape[1]} output channels, expected at least "
            f"{max(2, len(source.classes))}, the classes of data={source.name}"
        )


def trainer_of(cfg: DictConfig, folder: Path | None = None) -> Trainer:
    """Return the Trainer of a run.

    Raises:
        GpsweepError: if there is no such accelerator or device.
    """
    several = cfg.trainer.devices not in (1, "1", "auto") or cfg.trainer.num_nodes > 1
    return bare_trainer(
        f"trainer.devices={cfg.trainer.devices} trainer.accelerator={cfg.trainer.accelerator}",
        accelerator=cfg.trainer.accelerator,
        devices=cfg.trainer.devices,
        num_nodes=cfg.trainer.num_nodes,
        strategy="ddp" if several else "auto",
        default_root_dir=folder,
        inference_mode=False,
        use_distributed_sampler=False,
        enable_progress_bar=False,
    )


def bare_trainer(key: str, **options: Any) -> Trainer:
    """Return a Trainer that logs, stores and prints nothing of its own.

    Args:
        key: the configuration key to name where Lightning refuses.
        options: further arguments of the Trainer.

    Raises:
        GpsweepError: if there is no such accelerator or precision.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", SRUN)
            return Trainer(logger=False, enable_checkpointing=False, enable_model_summary=False, **options)
    except (ValueError, TypeError, RuntimeError, ModuleNotFoundError, MisconfigurationException) as error:
        raise GpsweepError(f"{key}: {' '.join(str(error).split())}") from error


def device_name(trainer: Trainer) -> str:
    """Name the device that a Trainer uses, as a person knows it."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(device.type)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning from advice about loaders, hardware and processes that a test run does not need."""
    logs = [logging.getLogger(name) for name in ("pytorch_lightning.utilities.rank_zero", "lightning_fabric")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*has zero length.*")
            warnings.filterwarnings("ignore", SRUN)
            warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
            warnings.filterwarnings("ignore", "GPU available but not used.*")
            yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
