"""Lightning's Trainer as gpsweep uses it: it finds devices and runs batches, and is quiet about it."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import DictConfig

from gpsweep.allocator import keep_freed
from gpsweep.errors import GpsweepError, one_line
from gpsweep.lightning import (
    DDPStrategy,
    LightningEnvironment,
    MisconfigurationException,
    TorchElasticEnvironment,
    Trainer,
)

# Processes meet at the end alone. One that is done early waits for the last, perhaps for hours; of one that
# has died others tell.
PATIENCE = timedelta(days=30)
MOST = 1024  # devices of one machine; more are a slip of the keyboard, and a process each
# A run without srun on a machine that has it is meant so.
SRUN = ".*`srun` command is available"


def trainer_of(cfg: DictConfig) -> Trainer:
    """Return the Trainer of a run.

    Raises:
        GpsweepError: if there is no such accelerator or device, or nobody has started what further nodes do.
    """
    devices = str(cfg.trainer.devices)
    if devices.isdecimal() and int(devices) > MOST:
        raise GpsweepError(f"trainer.devices={devices}: expected at most {MOST}")
    several = cfg.trainer.devices not in (1, "1") or cfg.trainer.num_nodes > 1
    if cfg.trainer.num_nodes > 1 and not processes_started():
        raise GpsweepError(
            f"trainer.num_nodes={cfg.trainer.num_nodes}: expected a process for each device of each node, "
            "started by hydra/launcher=submitit_slurm, srun or torchrun"
        )
    return bare_trainer(
        f"trainer.devices={cfg.trainer.devices} trainer.accelerator={cfg.trainer.accelerator}",
        several=several,
        accelerator=cfg.trainer.accelerator,
        devices=cfg.trainer.devices,
        num_nodes=cfg.trainer.num_nodes,
        strategy=DDPStrategy(timeout=PATIENCE) if several and cfg.trainer.devices != "auto" else "auto",
        inference_mode=False,
        use_distributed_sampler=False,
        enable_progress_bar=False,
    )


def bare_trainer(key: str, *, several: bool = False, **options: Any) -> Trainer:
    """Return a Trainer that logs, stores and prints nothing of its own; the process is now one that computes.

    Args:
        key: the configuration key to name where Lightning refuses.
        several: whether this process may be one of several that work together.
        options: further arguments of the Trainer.

    Raises:
        GpsweepError: if there is no such accelerator or device.
    """
    keep_freed()
    repeatable()
    # Lightning takes any process within a job of SLURM's for one of several that srun has started for it.
    in_job = "SLURM_NTASKS" in os.environ and not TorchElasticEnvironment.detect()
    mistaken = not several or (in_job and not _started_by_srun())
    try:
        with quiet_lightning():
            trainer = Trainer(
                logger=False,
                enable_checkpointing=False,
                enable_model_summary=False,
                plugins=LightningEnvironment() if mistaken else None,
                **options,
            )
    except (ValueError, TypeError, RuntimeError, ModuleNotFoundError, MisconfigurationException) as error:
        raise GpsweepError(f"{key}: {one_line(error)}") from error
    if trainer.world_size == 1:
        # Lightning takes it from RANK, SLURM_PROCID, …, which may count commands of their own.
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
    return trainer


def repeatable() -> None:
    """Let a GPU compute 32 bits in 32, where it would take TF32's 10 for convolutions, by the same kernels.

    TF32 tells no grey levels of 128 to 255 apart that are closer than 1/8; an ε below it moves nothing. What
    is not repeatable all the same, such as gradients of resized maps, may differ by rounding.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True


def processes_started() -> bool:
    """Say whether srun or torchrun has started one process a device already."""
    return "LOCAL_RANK" in os.environ or _started_by_srun()


def _started_by_srun() -> bool:
    """Say so of srun: SLURM_NTASKS is what a job may start, and stands in its script and shell as well."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def device_name(trainer: Trainer) -> str:
    """Name the device that a Trainer uses, as a person knows it."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return str(device.type)


def rank() -> int:
    """Return which of a run's processes this is."""
    return int(getattr(rank_zero_only, "rank", None) or 0)


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
