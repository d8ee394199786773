"""The schema of a run's configuration, where the values of ``conf/`` lie, and what they name. No torch."""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpsweep.crf import Crf
from gpsweep.errors import GpsweepError, offered, one_line
from gpsweep.mistakes import in_words

PACKAGE = Path(__file__).resolve().parent


def conf_folder() -> str:
    """Return the folder of the configuration: within an installed package, or beside it in a checkout."""
    inside = PACKAGE / "conf"
    return str(inside if inside.is_dir() else PACKAGE.parent / "conf")


@dataclass
class Trainer:
    """What of Lightning's Trainer a run leaves to the user."""

    accelerator: str = "auto"
    devices: Any = 1
    num_nodes: int = 1


@dataclass
class Precision:
    """In how many bits the network computes: ``32``, ``bf16`` or ``16``."""

    forward: str = "32"
    gradient: str | None = "32"


@dataclass
class Knn:
    """What ``label=knn`` finds neighbours by, see :class:`gpsweep.knn.KnnGuide`."""

    k: int = 3
    weights: str = "equal"
    at: str = "neighbour"
    combine: str = "sum_of_signs"
    cache: str | None = "${store}/knn"


@dataclass
class Multiscale:
    """At which scales ``refine=multiscale`` looks at an image, besides its own."""

    scales: list[float] = field(default_factory=lambda: [0.75, 1.25])


@dataclass
class Config:
    """A run: one model × one data set × one grid; ``conf/config.yaml`` says what each key means."""

    model: Any = MISSING
    data: Any = MISSING

    label: Any = "argmax"
    signal: Any = "eq5"
    layer: Any = "input"
    step: Any = "sign"
    iterations: Any = 1
    refine: Any = "none"
    eps: Any = 0.25

    layer_scale: str = "rms"
    random_unit: str = "pixel"
    clip: bool = False
    knn: Knn = field(default_factory=Knn)
    multiscale: Multiscale = field(default_factory=Multiscale)
    crf: Crf = field(default_factory=Crf)
    seed: int = 0
    select: str = "none"

    store: str = "${oc.env:GPSWEEP_STORE,outputs/store}"
    fresh: bool = False
    shards: int = 1
    shard: int = 0
    precision: Precision = field(default_factory=Precision)
    points_per_forward: Any = "auto"
    memory_format: str = "channels_last"
    progress: bool | None = None
    pictures: int = 4
    tracker: Any = None
    trainer: Trainer = field(default_factory=Trainer)


def register() -> None:
    """Make the schema known to Hydra, and ``${gpsweep.weights:FILE}``, the path of packaged weights.

    And ``${gpsweep.name:NETWORK}``, see :func:`model_name`.
    """
    # The files of conf/hydra/launcher take the place of the plugins' nodes of the same names, as they should.
    warnings.filterwarnings("ignore", r"\s*'hydra/launcher/\w+' is validated against ConfigStore schema")
    ConfigStore.instance().store(name="schema", node=Config, provider="gpsweep")
    OmegaConf.register_new_resolver(
        "gpsweep.weights", lambda name: str(PACKAGE / "weights" / name), replace=True
    )
    OmegaConf.register_new_resolver("gpsweep.name", model_name, replace=True)


def model_name(network: str | None = None, *, _parent_: DictConfig) -> str:
    """Return what a network is called that was given no name: what it is, and its checkpoint's file.

    >>> model_name(_parent_=OmegaConf.create({"net": "my_nets.unet", "checkpoint": "runs/best.ckpt"}))
    'unet-best'

    Args:
        network: what it is; None: the last part of the dotted name that makes it.
        _parent_: the ``model`` group.
    """
    made, checkpoint = (OmegaConf.select(_parent_, key) for key in ("net", "checkpoint"))
    target = made.get("_target_") if isinstance(made, DictConfig) else made
    name = network or str(target or "custom").rpartition(".")[2]
    file = PurePath(str(checkpoint or "").removesuffix(".index.json")).stem
    return f"{name}-{file}" if file else name


def target_node(cfg: DictConfig, name: str, *, key: str, gives: str) -> DictConfig:
    """Return what is to be made by a user's own code, as a dict with its ``_target_``.

    Args:
        cfg: a group of the configuration.
        name: its key, whose value is such a dict, or the dotted name alone.
        key: how the user knows it, for the message.
        gives: what comes of it, for the message.

    Raises:
        GpsweepError: if it is neither.
    """
    node = None if OmegaConf.is_missing(cfg, name) else cfg[name]
    node = OmegaConf.create({"_target_": node}) if isinstance(node, str) else node
    if not isinstance(node, DictConfig) or not isinstance(node.get("_target_"), str):
        came = "nothing" if node is None else str(node)
        raise GpsweepError(
            f"{key}: expected the dotted name of what returns {gives}, or a dict with it as _target_, came "
            f"{came}."
        )
    return node


def _instead(target: str) -> str:
    """Say what a target's module has in its place, or where a module is looked for that is not there."""
    place, _, name = (target, "", "") if target in sys.modules else target.rpartition(".")
    if place not in sys.modules or hasattr(sys.modules[place], name):
        return " Is its folder on PYTHONPATH?"
    held = vars(sys.modules[place]).items()
    return offered(name, [other for other, value in held if callable(value) and not other.startswith("_")])


def instance(node: DictConfig | ListConfig, key: str) -> Any:
    """Make what a configuration node's ``_target_`` names, which is code that runs.

    Args:
        node: a dict with a ``_target_`` and its arguments, nested ones included, or a list of such dicts.
        key: how the user knows it, for the message.

    Returns:
        What the target returns; it is given plain dicts and lists.

    Raises:
        GpsweepError: if it cannot be imported or fails; a GpsweepError of the target's own passes as it is.
    """
    target = str(OmegaConf.select(node, "_target_"))
    try:
        return instantiate(node, _convert_="all")
    except OmegaConfBaseException as error:
        place = "" if error.full_key else f"{key}={target}: "
        raise GpsweepError(f"{place}{in_words(error)}") from error
    except InstantiationException as error:
        cause: BaseException = error
        # Hydra wraps what a target raises, once for every nested target.
        while isinstance(cause, InstantiationException) and cause.__cause__ is not None:
            cause = cause.__cause__
        if isinstance(cause, GpsweepError):
            raise cause from None
        said, _, _ = str(cause).partition("\nfull_key: ")  # Hydra's own, of what the message names already
        reason = f"{type(cause).__name__}: {one_line(said)}"
        hint = _instead(target) if isinstance(cause, ImportError) or target in sys.modules else ""
        raise GpsweepError(f"{key}={target}: could not be built. {reason}{hint}") from error
