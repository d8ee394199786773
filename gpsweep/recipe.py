"""The schema of a recipe by which ``python -m gpsweep.fit`` trains a network, and what its values may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, DictConfig, OmegaConf

from gpsweep import composed, config
from gpsweep.errors import GpsweepError, unknown

# What a training leaves.
WEIGHTS = "weights.safetensors"
RECORD = "fit.json"
# No float16, in which small gradients would be rounded to 0.
AUTOCAST = ("none", "bf16", "auto")


@dataclass
class Augment:
    """How a batch of training images is varied, drawn anew each time.

    Where whole images are classified, they are neither resized nor cropped.

    Args:
        flip: mirror half of the images left to right.
        scale: smallest and largest factor by which a batch is resized.
        crop: height and width in pixels of what is cut out of each image, anywhere; None: all of it.
        contrast: each image's contrast is multiplied by 1 ± this.
        brightness: grey levels that each channel of an image is shifted by, at most.
    """

    flip: bool = False
    scale: tuple[float, float] = (1.0, 1.0)
    crop: tuple[int, int] | None = None
    contrast: float = 0.0
    brightness: float = 0.0


@dataclass
class Recipe:
    """The schema of a recipe; what has no value here has it in ``conf/fit.yaml`` or from the recipe.

    The recipes in ``conf/fit`` say what each key means.
    """

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


def check(cfg: DictConfig) -> None:
    """Check the numbers of a recipe.

    Raises:
        GpsweepError: naming the key.
    """
    composed.check_keys(cfg)
    composed.check_values(cfg)
    for key, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
        if not cfg[key] >= least:
            raise GpsweepError(f"{key}={cfg[key]}: expected a number ≥ {least}")
    if cfg.seed >= 2**32:  # which NumPy's generator does not take
        raise GpsweepError(f"seed={cfg.seed}: expected a number below 2**32")
    composed.check_whole(cfg, "data.batch_size", 1)
    composed.check_whole(cfg, "data.workers", 0)
    for key in ("scale", "crop"):
        if cfg.augment[key] is not None and len(cfg.augment[key]) != 2:
            raise GpsweepError(f"augment.{key}={cfg.augment[key]}: expected two numbers")
    for key in ("decay", "balance", "augment.contrast", "augment.brightness"):
        if not 0 <= (number := OmegaConf.select(cfg, key)) < inf:
            raise GpsweepError(f"{key}={number}: expected a finite number ≥ 0")
    if not 0 < cfg.rate < inf:
        raise GpsweepError(f"rate={cfg.rate}: expected a number > 0 and finite")
    if cfg.autocast not in AUTOCAST:
        raise unknown("autocast", cfg.autocast, AUTOCAST)
    low, high = cfg.augment.scale
    if not 0 < low <= high < inf:
        raise GpsweepError(
            f"augment.scale={cfg.augment.scale}: expected [smallest, largest], both > 0 and finite"
        )
