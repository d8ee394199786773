"""Trains the network of a recipe, and writes its weights and a record of how they came about."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch.utils.data import DataLoader

from gpsweep import config, metrics
from gpsweep.ahead import loader
from gpsweep.atomic import check_writable, save
from gpsweep.data.base import VOID, Sample, Source
from gpsweep.data.batch import joined, read
from gpsweep.data.build import check_same_classes, source_of
from gpsweep.engine import MemoryFormat, formatted
from gpsweep.errors import GpsweepError, listing, placed
from gpsweep.failures import failures_named, in_a_format_it_bears
from gpsweep.lightning import seed_everything
from gpsweep.models.build import build, sha256
from gpsweep.models.pixels import PixelNet
from gpsweep.predict import unlabelled
from gpsweep.prepare import check_logits
from gpsweep.provenance import provenance
from gpsweep.recipe import RECORD, WEIGHTS, Augment, check
from gpsweep.trainer import bare_trainer, quiet_lightning
from gpsweep.training import TrainingModule, class_weights, lesson


def fit(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Train the network of a recipe; leave its weights and a record in a folder once all is done.

    Args:
        cfg: the composed recipe, see :class:`gpsweep.recipe.Recipe`.
        folder: where ``weights.safetensors`` and ``fit.json`` go; made if missing.

    Returns:
        The record: score in %, of each class too, seconds, weights' sha256, versions, commit, date, recipe.

    Raises:
        GpsweepError: for whatever the user can mend, before the first batch where it can be known.
    """
    start = perf_counter()
    check(cfg)
    check_writable(folder, "hydra.run.dir")
    asked = OmegaConf.to_container(cfg, resolve=True)  # before the data fills in what it leaves open
    seed_everything(cfg.seed, verbose=False)
    held = source_of(cfg.data)
    source = taught(cfg)
    check_same_classes(source, held, key="train")
    for each in (source, held):
        if unlabelled(each):
            raise GpsweepError(
                f"data: {each.name} has no masks to learn or to score by; expected data with a truth"
            )
    samples = [read(source, number) for number in range(len(source))]
    if all(bool((each["target"] == VOID).all()) for each in samples):
        raise GpsweepError("train: all masks are void throughout; there is nothing to learn")
    net = build(cfg.model, classes=len(held.classes))
    module = prepared(cfg, net, samples, held)
    train(cfg, module, samples, held)
    totals = module.totals.numpy()
    record = {
        "recipe": cfg.name,
        "task": held.task,
        "score": round(float(metrics.score(totals, held.task)), 3),
        "per_class": {
            name: round(float(value), 3) if isfinite(value) else None
            for name, value in zip(held.classes, metrics.class_score(totals, held.task), strict=True)
        },
        "samples": {"train": len(samples), "held_out": len(held)},
        "parameters": sum(weight.numel() for weight in net.parameters()),
        "precision": module.precision,
        "seconds": round(perf_counter() - start, 1),
        "weights_sha256": sha256(net),
        **provenance(),
        "finished": datetime.now(UTC).isoformat("T", "seconds"),
        "config": asked,
    }
    write(net, record, folder)
    return record


def taught(cfg: DictConfig) -> Source:
    """Make the training set; where a key of ``train`` does not fit, that one is named.

    Raises:
        GpsweepError: if it cannot be made.
    """
    try:
        source: Source = config.instance(training(cfg), "train")
    except GpsweepError as error:
        error.args = (placed(str(error), cfg.train, "train"),)
        raise
    return source


def training(cfg: DictConfig) -> Any:
    """Return the configuration of the training set: the data's own, with what ``train`` changes in it.

    Raises:
        GpsweepError: for a key of ``train`` that the data does not have.
    """
    known = [key for key in cfg.data.source if key != "_target_"]
    strange = [str(key) for key in cfg.train if key not in known]
    if strange:
        raise GpsweepError(
            f"train.{strange[0]}: unknown to this data; expected {'some of ' if known else 'none'}"
            f"{listing(known)}; ~train.{strange[0]} takes it away"
        )
    return OmegaConf.merge(cfg.data.source, cfg.train)


def prepared(cfg: DictConfig, net: PixelNet, samples: Sequence[Sample], held: Source) -> TrainingModule:
    """Check on one sample that network, data and recipe fit; return the network ready for training.

    Args:
        cfg: the composed recipe.
        net: the network; its weights are put into the memory format that it bears.
        samples: those to learn from.
        held: the data that it is scored on.

    Raises:
        GpsweepError: if they do not fit.
    """
    one = joined(samples[:1])

    def predicted(memory_format: MemoryFormat) -> torch.Tensor:
        logits: torch.Tensor = net(formatted(one["image"], memory_format))
        return logits

    with torch.no_grad(), failures_named(one, "on the first sample"):
        logits, memory_format = in_a_format_it_bears(net, "channels_last", predicted)
    check_logits(logits, held, one["image"])
    if len(samples) < cfg.batch_size:
        raise GpsweepError(
            f"batch_size={cfg.batch_size}: expected at most the {len(samples)} training samples"
        )
    crop, size = cfg.augment.crop, one["image"].shape[2:]
    if crop is not None and any(not 1 <= side <= whole for side, whole in zip(crop, size, strict=True)):
        raise GpsweepError(f"augment.crop={crop}: expected [height, width] within the images' {tuple(size)}")
    augment = OmegaConf.to_object(cfg.augment)
    assert isinstance(augment, Augment)
    net.requires_grad_(True).train()
    return TrainingModule(
        net,
        classes=len(held.classes),
        augment=augment,
        rate=cfg.rate,
        decay=cfg.decay,
        autocast=cfg.autocast,
        memory_format=memory_format,
        class_weights=class_weights([each["target"] for each in samples], logits.shape[1], cfg.balance),
    )


def train(cfg: DictConfig, module: TrainingModule, samples: Sequence[Sample], held: Source) -> None:
    """Train on the samples, then count on the held-out data, once.

    Args:
        cfg: the composed recipe.
        module: what :func:`prepared` returns; its ``totals`` are the counts.
        samples: those to learn from.
        held: the data that it is scored on.

    Raises:
        GpsweepError: if there is no such accelerator, or the training fails or diverges.
    """
    shuffled: DataLoader[Sample] = DataLoader(
        samples,  # type: ignore[arg-type]
        batch_size=cfg.batch_size,
        shuffle=True,
        drop_last=True,
        collate_fn=lesson,
    )
    ordered = loader(held, cfg.data.batch_size, workers=cfg.data.workers)
    with quiet_lightning():
        trainer = bare_trainer(
            f"accelerator={cfg.accelerator}",
            accelerator=cfg.accelerator,
            devices=1,
            max_epochs=cfg.epochs,
            enable_progress_bar=sys.stderr.isatty() if cfg.progress is None else cfg.progress,
        )
        trainer.fit(module, shuffled)
        trainer.test(module, ordered, verbose=False)
    module.net.eval().requires_grad_(False)


def write(net: PixelNet, record: Mapping[str, Any], folder: Path) -> None:
    """Write weights and record, each whole or not at all, the record never beside weights of another.

    Args:
        net: the trained network.
        record: as JSON has it.
        folder: where they go.

    Raises:
        GpsweepError: if the folder cannot be written.
    """
    from safetensors.torch import save as safe

    state = {name: tensor.cpu().contiguous() for name, tensor in net.net.state_dict().items()}
    (folder / RECORD).unlink(missing_ok=True)
    save(folder / WEIGHTS, safe(state))
    save(folder / RECORD, json.dumps(record, indent=2).encode() + b"\n")
