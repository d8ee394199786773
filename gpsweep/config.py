"""The schema of a run's configuration, and where the values of ``conf/`` lie. No torch."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path, PurePath
from typing import Any

from hydra.conf import HydraConf
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, InstantiationException
from hydra.utils import instantiate
from omegaconf import MISSING, DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpsweep.crf import Crf
from gpsweep.errors import GpsweepError, listing, offered, taken_away, unknown_key
from gpsweep.mistakes import in_words

PACKAGE = Path(__file__).resolve().parent
PLAIN = re.compile(r"[\w./-]+", re.ASCII)
NESTED = re.compile(r"\w+(/\w+)+")  # the name of a group within another
NOT_NAMES = re.compile(
    r"(?<![\w'\"./-])(null|true|false|inf|nan|\d[\d_]*(\.\d+)?(e[+-]?\d+)?)(?![\w'\"./-])", re.IGNORECASE
)

# What each file of a group has; conf/model/custom.yaml and conf/data/custom.yaml say what it means.
NEEDED = {
    "model": (
        *("name", "net", "classes", "class_map", "checkpoint", "mean", "std", "scale", "channels"),
        *("output", "divisor", "aliases"),
    ),
    "data": ("source", "batch_size", "workers"),
}
# What a run asks them for besides, which some files of theirs have.
ASKED_FOR = {"model": ("sigmoid", "features"), "data": ("train", "limit", "tune_split", "groups")}

# A list of ranges, which Hydra cannot read; without the brackets it is the sweep that is meant.
LIST_OF_RANGES = re.compile(r"^(\w+)=\[((?:[^\[\]]*,)?range\([^\[\]]*)\]$")
# What is, or may be meant for, more than one text, or has quotes already.
LISTED = re.compile(r"^[\[{'\"]|,")
# A minus as it is printed, before a number.
PRINTED_MINUS = re.compile(r"(?<=[=,(\[])\N{MINUS SIGN}(?=[\d.])")


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
    """A run: one model × one data set × one grid."""

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


def quoted(arguments: Sequence[str]) -> list[str]:
    """Quote the choices of a group that Hydra would take for something else than names.

    They are the numbers of ``precision``, and mistakes such as ``model=null``, of which Hydra would tell by a
    traceback. A minus that was copied from a report becomes one that Hydra can read, and a list of ranges a
    sweep over them. A text that Hydra cannot read without quotes of its own, such as a regular expression or
    a file's name with brackets, is given them.

    >>> quoted(["precision=16", "precision.gradient=16", "eps=16", "model=null", "+sweeps=8"])
    ["precision='16'", 'precision.gradient=16', 'eps=16', "model='null'", "+sweeps='8'"]
    >>> quoted(["eps=[-1,range(0,1,0.5)]"])
    ['eps=-1,range(0,1,0.5)']
    >>> quoted(["data.groups=^p[0-9]+", "model.checkpoint=a (1).pt", "data.root=my data"])
    ['data.groups="^p[0-9]+"', 'model.checkpoint="a (1).pt"', 'data.root=my data']

    Raises:
        GpsweepError: for one without a key.
    """
    groups = {path.name for path in Path(conf_folder()).iterdir() if path.is_dir()}

    def one(argument: str) -> str:
        name, equals, value = argument.partition("=")
        group = name.lstrip("+~").partition("@")[0]
        if argument and not group:
            raise GpsweepError(f"{argument}: expected KEY=VALUE")
        if (group in groups or NESTED.fullmatch(group)) and not value.startswith("{"):
            return name + equals + NOT_NAMES.sub(r"'\g<0>'", value)
        return argument

    plain = (PRINTED_MINUS.sub("-", argument) for argument in arguments)
    return [_readable(one(LIST_OF_RANGES.sub(r"\1=\2", argument))) for argument in plain]


def _readable(argument: str) -> str:
    """Quote a text that Hydra cannot read; where it may be a list or a sweep, Hydra says what it cannot."""
    name, equals, value = argument.partition("=")
    told = PLAIN.fullmatch(value) or LISTED.search(value)
    if name and equals and not name.startswith("-") and not told:
        try:
            OverridesParser.create().parse_override(argument)
        except HydraException:
            return f"{name}={QuotedString(value, Quote.double).with_quotes()}"
    return argument


def check_builds_on_ours(cfg: DictConfig, base: str, hydra: DictConfig | HydraConf) -> None:
    """Check that files of the user's own build on gpsweep's: the primary one, those of a model and data.

    And that a key which ``+`` adds to the latter is one that is asked for, or used by an interpolation.

    Args:
        cfg: the configuration of a command, as Hydra has composed it.
        base: the command's own primary file.
        hydra: Hydra's part of the configuration.

    Raises:
        GpsweepError: naming the one that does not, a key that is not there, or one that nothing uses.
    """
    expected = "expected a file that builds on gpsweep's own, by the line"
    schema = OmegaConf.get_type(cfg)
    if not is_dataclass(schema):
        raise GpsweepError(f"--config-name={hydra.job.config_name}: {expected} defaults: [{base}, _self_]")
    for each in fields(schema):
        if each.name not in list(cfg) or OmegaConf.is_missing(cfg, each.name):
            raise taken_away(each.name)
    for group, needed in NEEDED.items():
        node = OmegaConf.select(cfg, group)
        known = list(node) if isinstance(node, DictConfig) else needed
        if absent := [key for key in needed if key not in known]:
            raise GpsweepError(
                f"{group}={hydra.runtime.choices.get(group)}: {expected} defaults: [custom, _self_]; it has "
                f"no {listing(absent)}"
            )
        for key in _added(hydra, group):
            if key not in (*needed, *ASKED_FOR[group]) and not _used(f"{group}.{key}", cfg):
                names = dict.fromkeys((*known, *ASKED_FOR[group]))
                raise unknown_key(f"{group}.{key}", [name for name in names if name != key])


def check_keys(cfg: DictConfig) -> None:
    """Check that a configuration has the keys of its schema; ``+key=value`` would add any other, unheeded.

    A key of the user's own is well where an interpolation uses it, such as ``outputs/${lab}``.

    Args:
        cfg: the configuration; where no schema declares keys, as below ``model``, all of them are right.

    Raises:
        GpsweepError: naming a key that is in no schema.
    """
    for key, known in _undeclared(cfg, ""):
        if not _used(key, cfg):
            raise unknown_key(key, known)


def check_whole(cfg: DictConfig, key: str, least: int, expected: str = "a whole number") -> None:
    """Check a number that no schema does, such as one below ``data``.

    Args:
        cfg: the configuration.
        key: the number's, with dots.
        least: the smallest that will do.
        expected: what to call it.

    Raises:
        GpsweepError: if it is none, or smaller.
    """
    number = OmegaConf.select(cfg, key)
    if type(number) is not int or number < least:
        raise GpsweepError(f"{key}={number}: expected {expected} of at least {least}")


def _undeclared(node: DictConfig, place: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the keys of a node and of those below it that are not in their schema, and which are."""
    schema = OmegaConf.get_type(node)
    if not is_dataclass(schema):
        return
    known = [each.name for each in fields(schema)]
    for key in map(str, node):
        if key not in known:
            yield f"{place}{key}", known
        if not OmegaConf.is_missing(node, key) and not OmegaConf.is_interpolation(node, key):
            below = node[key]
            if isinstance(below, DictConfig):
                yield from _undeclared(below, f"{place}{key}.")


def _added(hydra: DictConfig | HydraConf, group: str) -> Iterator[str]:
    """Yield the keys of a group that were typed with a ``+``."""
    typed: Any = hydra.overrides.task
    overrides: Any = OmegaConf.to_container(typed, resolve=False)
    for override in overrides:
        place, _, key = override.partition("=")[0].partition(".")
        if place in (f"+{group}", f"++{group}") and key:
            yield key.partition(".")[0]


def _used(key: str, cfg: DictConfig) -> bool:
    """Say whether an interpolation names a key, in the configuration or in Hydra's own part of it.

    Within its group it may go by its last part alone, as in ``${..width}``.
    """
    parts = [cfg, HydraConfig.instance().cfg] if HydraConfig.initialized() else [cfg]
    named = re.compile(rf"\$\{{[^}}]*(?<![\w.]){re.escape(key)}\b")
    group, _, last = key.rpartition(".")
    beside = re.compile(rf"\$\{{[^}}]*(?<!\w)\.+{re.escape(last)}\b")
    return any(named.search(OmegaConf.to_yaml(part)) for part in parts) or bool(
        group and beside.search(OmegaConf.to_yaml(OmegaConf.select(cfg, group)))
    )


def quoted_path(path: Path) -> str:
    """Write a path as a value of Hydra's, quoted where it has more than plain letters.

    >>> quoted_path(Path("out/a-b.pt")), quoted_path(Path("my (1), a=b"))
    ('out/a-b.pt', "'my (1), a=b'")
    """
    text = str(path)
    return text if PLAIN.fullmatch(text) else QuotedString(text, Quote.single).with_quotes()


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
        reason = f"{type(cause).__name__}: {' '.join(str(cause).split())}"
        hint = _instead(target) if isinstance(cause, ImportError) or target in sys.modules else ""
        raise GpsweepError(f"{key}={target}: could not be built. {reason}{hint}") from error
