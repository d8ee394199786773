"""Whether a configuration that Hydra has composed has the keys that it must have, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpsweep.errors import GpsweepError, listing, taken_away, unknown_key
from gpsweep.mistakes import kind

Node = DictConfig | ListConfig

# What each file of a group has; conf/model/custom.yaml and conf/data/custom.yaml say what it means.
NEEDED = {
    "model": (
        *("name", "net", "classes", "class_map", "checkpoint", "mean", "std", "scale", "channels"),
        *("output", "divisor", "aliases"),
    ),
    "data": ("source", "batch_size", "workers"),
}
# Made by code of the user's own, which is asked for where there is none.
OWN = ("model.net", "data.source")
# What a run asks them for besides, which some files of theirs have.
ASKED_FOR = {"model": ("sigmoid", "features"), "data": ("train", "limit", "tune_split", "groups")}


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


def check_values(cfg: DictConfig) -> None:
    """Check that all values are there, and the kind of those that OmegaConf does not check.

    Args:
        cfg: the configuration; what is to be made by a user's own code says itself that it lacks.

    Raises:
        GpsweepError: naming the key.
    """
    # What others refer to lies above them, as data.root above data.source.root.
    for key, node, place in sorted(_below(cfg, ""), key=lambda each: each[0].count(".")):
        if not OmegaConf.is_missing(node, place):
            _check_kind(key, node, place)
        elif key not in OWN:
            raise GpsweepError(f"{key}=???: expected a value")


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


def _below(node: Node, prefix: str) -> Iterator[tuple[str, Node, Any]]:
    """Yield what lies below a node and is written there: its key, the node that holds it, and its place."""
    places: Iterable[Any] = node if isinstance(node, DictConfig) else range(len(node))
    for place in places:
        key = f"{prefix}{place}"
        yield key, node, place
        written = not OmegaConf.is_missing(node, place) and not OmegaConf.is_interpolation(node, place)
        if written and isinstance(below := node[place], Node):
            yield from _below(below, f"{key}.")


def _check_kind(key: str, node: Node, place: Any) -> None:
    """Check what an interpolation finds and a list holds, of which OmegaConf does not look at the kind."""
    schema = OmegaConf.get_type(node)
    try:
        value = node[place]
    except OmegaConfBaseException as error:
        raise GpsweepError(f"{key}: {str(error.msg).splitlines()[0]}") from error
    if is_dataclass(schema) and (OmegaConf.is_interpolation(node, place) or isinstance(value, ListConfig)):
        try:
            plain = OmegaConf.to_container(value) if isinstance(value, Node) else value
            OmegaConf.structured(schema)[place] = plain
        except OmegaConfBaseException:
            raise GpsweepError(f"{key}={value}: expected {kind(get_type_hints(schema)[place])}") from None


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
