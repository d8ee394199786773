"""``python -m gpsweep.fit fit=RECIPE``: trains a small network and writes weights that a run can use."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf
from pytorch_lightning import Trainer, seed_everything
from torch.utils.data import DataLoader

from gpsweep import config, counts
from gpsweep.data.base import Source
from gpsweep.data.batch import collate
from gpsweep.errors import GpsweepError
from gpsweep.models.build import build, sha256
from gpsweep.models.pixels import PixelNet
from gpsweep.provenance import provenance
from gpsweep.run import check_logits, quiet_lightning, writable
from gpsweep.training import Augment, TrainingModule, class_weights

WEIGHTS = "weights.safetensors"
RECORD = "fit.json"


def fit(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Train the network of a recipe and leave its weights and a record in a folder, both or none.

    Args:
        cfg: the composed recipe, see ``conf/fit.yaml``.
        folder: where ``weights.safetensors`` and ``fit.json`` go; made if missing.

    Returns:
        The record: score, per class, seconds, weights' sha256, versions and recipe.

    Raises:
        GpsweepError: for whatever the user can mend, before the first batch where it can be known.
    """
    start = perf_counter()
    writable(folder)
    check(cfg)
    seed_everything(cfg.seed, verbose=False)
    varied = OmegaConf.merge(cfg.data.source, cfg.train)
    held: Source = config.instance(cfg.data.source, "data.source")
    source: Source = config.instance(varied, "data.source")
    net = build(cfg.model, classes=len(held.classes)).to(memory_format=torch.channels_last)
    check_fit(net, held)
    module = training_module(cfg, source, net)
    samples = [source[index] for index in range(len(source))]
    ...


config.register()
