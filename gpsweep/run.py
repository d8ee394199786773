"""One run: configuration → data, network and grid → Trainer.test → results and report."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from gpsweep import layers, points
from gpsweep.config import instance
from gpsweep.data.base import SEGMENTATION, Source
from gpsweep.data.batch import Guarded, collate
from gpsweep.engine import curve
from gpsweep.errors import GpsweepError, unknown
from gpsweep.lightning import Trainer
from gpsweep.models.build import build, sha256
from gpsweep.models.pixels import PixelNet
from gpsweep.module import GridModule
from gpsweep.outcome import Outcome
from gpsweep.passes import Memo
from gpsweep.progress import bar
from gpsweep.provenance import provenance

CHOICES = {
    "layer_scale": ("rms", "absolute"),
    "random_unit": ("pixel", "image"),
    "memory_format": ("channels_last", "contiguous"),
}


def run(cfg: DictConfig, folder: Path, command: str = "") -> Outcome:
    """Evaluate one model on one data set over one grid.

    Args:
        cfg: the composed configuration, see :class:`gpsweep.config.Config`.
        folder: the run's folder, which Lightning is given; the caller writes the results there.
        command: how the run was started, for the report.

    Returns:
        Counts of every point and where they come from.

    Raises:
        GpsweepError: for whatever the user can mend, before the first batch where it can be known.
    """
    start = perf_counter()
    grid = grid_of(cfg)
    source: Source = instance(cfg.data.source, "data.source")
    net = build(cfg.model, classes=len(source.classes))
    prepared = prepare(cfg, grid, source, net)
    module = GridModule(
        net,
        grid,
        classes=len(source.classes),
        options=prepared.options,
        memo=prepared.memo,
    )
    loader: DataLoader[Any] = DataLoader(
        Guarded(source),  # type: ignore[arg-type]
        batch_size=cfg.data.batch_size,
        num_workers=cfg.data.workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
    )
    ready = perf_counter()
    with quiet_lightning(), bar(cfg.progress, len(loader) * len(grid)) as module.on_point:
        trainer = bare_trainer(
            "trainer",
            accelerator=cfg.trainer.accelerator,
            precision=cfg.trainer.precision,
            default_root_dir=folder,
            inference_mode=False,
            use_distributed_sampler=False,
            enable_progress_bar=False,
        )
        trainer.test(module, loader, verbose=False)
    tested = perf_counter()
    return Outcome(
        points=module.points,
        counts=module.counts,
        base=module.base,
        task=source.task,
        classes=tuple(source.classes),
        ids=module.ids,
        seconds=[module.seconds[point] for point in module.points],
        info={
            **provenance(),
            "dataset": source.name,
            "model": str(cfg.model.name),
            "weights_sha256": sha256(net),
            "layer_scale": cfg.layer_scale,
            "command": command,
            "config": OmegaConf.to_yaml(cfg, resolve=True),
            "device": device_name(module),
            "points_per_forward": module.memo.points_per_forward or cfg.points_per_forward,
            "memory_format": prepared.options["memory_format"],
            "times": {
                "start": ready - start,
                "shared": module.shared_seconds,
                "points": sum(module.seconds.values()),
                "test": tested - ready,
            },
        },
    )


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
    if cfg.trainer.devices not in (1, "1", "auto"):
        raise GpsweepError(f"trainer.devices={cfg.trainer.devices}: expected 1; a run uses one device")
    axes = OmegaConf.to_container(OmegaConf.masked_copy(cfg, list(points.AXES)), resolve=True)
    assert isinstance(axes, dict)
    return points.grid(**{str(key): value for key, value in axes.items()})


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
    for name in grid.layer:
        if name != layers.INPUT:
            layers.find(net, name)
    if len(source) == 0:
        raise GpsweepError(f"data: expected at least one sample, {source.name} has none")
    options = {
        "seed": cfg.seed,
        "random_unit": cfg.random_unit,
        "layer_scale": cfg.layer_scale,
        "clip": (0.0, 255.0) if cfg.clip else None,
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
    except RuntimeError as error:
        if "view size is not compatible" not in str(error) or cfg.memory_format == "contiguous":
            raise GpsweepError(f"model: the network fails on the first sample: {error}") from error
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


def bare_trainer(key: str, **options: Any) -> Trainer:
    """Return a Trainer on one device that logs, stores and prints nothing of its own.

    Args:
        key: the configuration key to name where Lightning refuses.
        options: further arguments of the Trainer.

    Raises:
        GpsweepError: if there is no such accelerator or precision.
    """
    try:
        return Trainer(
            devices=1, logger=False, enable_checkpointing=False, enable_model_summary=False, **options
        )
    except (ValueError, RuntimeError, ModuleNotFoundError) as error:
        raise GpsweepError(f"{key}: {error}") from error


def device_name(module: GridModule) -> str:
    """Name the device that a module ran on, as a person knows it."""
    if module.device.type == "cuda":
        return torch.cuda.get_device_name(module.device)
    return f"{module.device.type}, {torch.get_num_threads()} threads"


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning from advice about loaders and hardware that a test run does not need."""
    import logging

    log = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*LeafSpec.*", FutureWarning)
            warnings.filterwarnings("ignore", "GPU available but not used.*")
            yield
    finally:
        log.setLevel(before)
