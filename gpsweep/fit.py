"""``python -m gpsweep.fit fit=RECIPE``: trains a small network and writes weights that a run can use."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf, isfinite
from pathlib import Path
from time import perf_counter
from typing import Any

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf
from torch.utils.data import DataLoader

from gpsweep import composed, config, metrics, quoting
from gpsweep.ahead import loader
from gpsweep.atomic import check_writable, save
from gpsweep.command import typed, within_hydra
from gpsweep.console import standard_output
from gpsweep.data.base import VOID, Sample, Source
from gpsweep.data.batch import joined, read
from gpsweep.data.build import check_same_classes, source_of
from gpsweep.engine import MemoryFormat, formatted
from gpsweep.errors import GpsweepError, listing, placed, unknown
from gpsweep.failures import failures_named, in_a_format_it_bears
from gpsweep.interrupts import TERMINATE, left_at_once
from gpsweep.lightning import seed_everything
from gpsweep.models.build import build, sha256
from gpsweep.models.pixels import PixelNet
from gpsweep.predict import unlabelled
from gpsweep.prepare import check_logits
from gpsweep.provenance import provenance
from gpsweep.trainer import bare_trainer, quiet_lightning
from gpsweep.training import Augment, TrainingModule, class_weights, lesson

WEIGHTS = "weights.safetensors"
RECORD = "fit.json"
# No float16, in which small gradients would be rounded to 0.
AUTOCAST = ("none", "bf16", "auto")


@dataclass
class Recipe:
    """The schema of a recipe; what has no value here has it in ``conf/fit.yaml`` or from the recipe."""

    name: str = MISSING
    data: Any = MISSING
    model: Any = MISSING
    train: dict[str, Any] = field(default_factory=dict)
    epochs: int = 1
    batch_size: int = 32
    rate: float = 1e-3
    decay: float = 0.01
    balance: float = 0.0
    autocast: str = "none"
    augment: Augment = field(default_factory=Augment)
    seed: int = MISSING
    accelerator: str = MISSING
    progress: bool | None = MISSING
    eps: str = "range(-1,1,0.05)"


def register() -> None:
    """Make the schema of recipes known to Hydra, and what runs have in common with them."""
    config.register()
    ConfigStore.instance().store(name="fit_schema", node=Recipe, provider="gpsweep")


def fit(cfg: DictConfig, folder: Path) -> dict[str, Any]:
    """Train the network of a recipe; leave its weights and a record in a folder once all is done.

    Args:
        cfg: the composed recipe, see :class:`Recipe`.
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


def check(cfg: DictConfig) -> None:
    """Check the numbers of a recipe.

    Raises:
        GpsweepError: naming the key.
    """
    composed.check_keys(cfg)
    for key, least in (("epochs", 1), ("batch_size", 1), ("decay", 0), ("balance", 0), ("seed", 0)):
        if not cfg[key] >= least:
            raise GpsweepError(f"{key}={cfg[key]}: expected a number ≥ {least}")
    if cfg.seed >= 2**32:  # which NumPy's generator does not take
        raise GpsweepError(f"seed={cfg.seed}: expected a number below 2**32")
    composed.check_whole(cfg, "data.batch_size", 1)
    composed.check_whole(cfg, "data.workers", 0)
    for key in ("scale", "crop"):
        if cfg.augment[key] is not None and len(cfg.augment[key]) != 2:
            raise GpsweepError(f"augment.{key}={cfg.augment[key]}: expected two numbers")
    for key in ("contrast", "brightness"):
        if not 0 <= cfg.augment[key] < inf:
            raise GpsweepError(f"augment.{key}={cfg.augment[key]}: expected a finite number ≥ 0")
    if not cfg.rate > 0:
        raise GpsweepError(f"rate={cfg.rate}: expected a number > 0")
    if cfg.autocast not in AUTOCAST:
        raise unknown("autocast", cfg.autocast, AUTOCAST)
    low, high = cfg.augment.scale
    if not 0 < low <= high < inf:
        raise GpsweepError(
            f"augment.scale={cfg.augment.scale}: expected [smallest, largest], both > 0 and finite"
        )


def prepared(cfg: DictConfig, net: PixelNet, samples: Sequence[Sample], held: Source) -> TrainingModule:
    """Check on one sample that network, data and recipe fit; return the network ready for training.

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
    """Train on the samples, then count on the held-out data, once."""
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
    """Write weights and record, each whole or not at all, the record never beside weights of another."""
    from safetensors.torch import save as safe

    state = {name: tensor.cpu().contiguous() for name, tensor in net.net.state_dict().items()}
    (folder / RECORD).unlink(missing_ok=True)
    save(folder / WEIGHTS, safe(state))
    save(folder / RECORD, json.dumps(record, indent=2).encode() + b"\n")


def show(record: Mapping[str, Any], command: str) -> None:
    """Print the score of each class and of all, and the command that uses the weights."""
    from rich import box
    from rich.table import Table

    measure = "IoU %" if metrics.is_segmentation(record["task"]) else "accuracy %"
    held, seconds = record["samples"]["held_out"], record["seconds"]
    table = Table("class", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(measure, justify="right")
    for name, value in record["per_class"].items():
        table.add_row(name, "absent" if value is None else f"{value:.2f}")
    table.add_section()
    table.add_row("score", f"{record['score']:.2f}", style="bold")
    console = standard_output()
    console.print(f"{record['recipe']}: trained in {seconds:.0f} s, scored on {held} held-out samples")
    console.print(table)
    console.print("\nTo sweep it:")
    console.print(command, soft_wrap=True, markup=False)


def command(cfg: DictConfig, choices: Mapping[str, Any], weights: Path, overrides: Sequence[str] = ()) -> str:
    """Return the command that draws the curves of the trained network.

    Args:
        cfg: the recipe.
        choices: the names of its data and model.
        weights: what it was trained to.
        overrides: how the recipe was called; what it says of data and network holds for the command as well,
            save that a training on few images is no reason to judge on few.
    """
    path = weights.relative_to(Path.cwd()) if weights.is_relative_to(Path.cwd()) else weights
    labels = "knn" if cfg.model.get("features") else "argmax,random_onehot,uniform,top2"
    parts = ["python", "-m", "gpsweep", "-m", f"eps={cfg.eps}", f"label={labels}"]
    parts += [
        f"data={choices['data']}",
        f"model={choices['model']}",
        f"model.checkpoint={quoting.quoted_path(path)}",
    ]
    own, not_own = ("data.", "+data.", "model.", "+model."), ("data.limit=", "model.checkpoint=")
    parts += [each for each in overrides if each.startswith(own) and not each.startswith(not_own)]
    return shlex.join(parts)


register()


@hydra.main(version_base="1.3", config_path=config.conf_folder(), config_name="fit")
def main(cfg: DictConfig) -> float:
    """Train the recipe that the command line names; a mistake of the user's ends in one message."""
    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    with within_hydra(), left_at_once(TERMINATE):
        composed.check_builds_on_ours(cfg, "fit", hydra_cfg)
        record = fit(cfg, folder)
        overrides = list(hydra_cfg.overrides.task)
        show(record, command(cfg, hydra_cfg.runtime.choices, folder / WEIGHTS, overrides))
    return float(record["score"])


def cli() -> None:
    """Run the command line."""
    typed(main, "no weights were written, and the same command begins anew", quoting.quoted)


if __name__ == "__main__":
    cli()
