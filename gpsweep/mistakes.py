"""What Hydra and OmegaConf find wrong with a command line or a file of the configuration, in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from gpsweep.errors import listing, one_line, taken_away, unknown, unknown_key

KINDS = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    list: "a list",
    dict: "a dict",
    NoneType: "null",
}
KEY = re.compile(r"[+~]*[A-Za-z_][\w@./-]*(?<![@./-])", re.ASCII)
# Hydra's errors do not hold the override that they are about; their messages do.
MERGED = re.compile(r"Error merging override (.+)", re.DOTALL)
RESAID = {
    re.compile(pattern, re.DOTALL): ours
    for pattern, ours in (
        (
            r"(?:Ambiguous value for argument|Sweep parameters) '(.+?)'(?:\n1\.| requires ).*",
            r"\1: expected one value; several are a sweep, by -m in front of all keys",
        ),
        (
            r"Could not override .+ No match in the defaults list\.\nTo append .+ use (\+([^=].*))",
            r"\2: expected \1",
        ),
        (
            r"Could not append to config\. .+Either remove \+ prefix: '(.+?)'\n.*",
            r"+\1: there is such a key; expected \1",
        ),
        (
            r"Could not override '(.+?)'\.\nDid you mean to override (.+)\?\n.*",
            r"\1: no such key. Did you mean \2?",
        ),
        (r"Could not delete from config\. '(.+)' does not exist\.", r"~\1: no such key"),
        (r"Could not delete from config\. The value of '(.+)' is (.+) and not (.+)\.", r"~\1=\3: it is \2"),
        (r"Could not delete '(.+)'\. No match in the defaults list", r"~\1: there is none to take away"),
        (
            r"(?:Multiple values for (.+)\. To override .+|(.+) appears more than once in .+ defaults list)",
            r"\1\2: there is one already; expected \1\2=NAME, or in a file the line override \1\2: NAME",
        ),
        (r"force-add of config groups is not supported: '\+\+(.+)'", r"++\1: expected \1"),
    )
}


def in_words(error: BaseException) -> str:
    """Return what is wrong: the key, what was expected, what came, the nearest names; of Hydra's in one line.

    Args:
        error: a mistake; a message that is neither Hydra's nor OmegaConf's stays as it is.
    """
    if isinstance(error, MissingConfigException):
        return _no_file(str(error.missing_cfg_file), error.options)
    if isinstance(error, OverrideParseException):
        return _unread(error.override)
    if isinstance(error, OmegaConfBaseException):
        return _of_key(error)
    said = str(error).removeprefix("gpsweep: ")
    if not isinstance(error, HydraException | YAMLError) or said != str(error):
        return said
    if isinstance(error.__cause__, OmegaConfBaseException):
        override = MERGED.fullmatch(said)
        return _unfit(error.__cause__, override[1] if override else None)
    if isinstance(error.__context__, OmegaConfBaseException):  # of a file
        return _in_file(error.__context__)
    resaid = (pattern.sub(ours, said) for pattern, ours in RESAID.items() if pattern.fullmatch(said))
    return one_line(next(resaid, said))


def _no_file(name: str, options: Any) -> str:
    """Say that a group has no such choice, or that no folder has a file."""
    group, _, choice = name.rpartition("/")
    if options:
        return str(unknown(group, choice, options))
    return f"{name}: no such file of the configuration; --config-dir=FOLDER adds a folder of your own"


def _unread(override: str) -> str:
    key, equals, _ = override.partition("=")
    if not equals:
        return f"{override}: expected KEY=VALUE"
    if not KEY.fullmatch(key):
        return f"{override}: expected KEY=VALUE, the key of letters, digits, _ and dots between them"
    return (
        f"{override}: expected a value, a list [a,b], or with -m a sweep: a,b or range(start,stop,step); "
        "a text with brackets, commas or the like in quotes of its own"
    )


def _of_key(error: OmegaConfBaseException) -> str:
    """Return OmegaConf's own message without what it tells of types and objects."""
    named = error.full_key and error.full_key != "_dummy_"  # which is Hydra's, for the name of a group
    key = f"{error.full_key}: " if named else ""
    return f"{key}{str(error.msg or error).splitlines()[0]}"


def _unfit(error: OmegaConfBaseException, override: str | None) -> str:
    """Say that there is no such key, or what its value has to be."""
    if isinstance(error, ConfigAttributeError | ConfigKeyError) and error.full_key:
        return _no_key(error.full_key, error.parent_node)
    if override and override.startswith("~"):
        return str(taken_away(error.full_key or override[1:]))
    expected = kind(_declared(error))
    if expected:
        return f"{override or _of_key(error)}: expected {expected}"
    return f"{override}: {str(error.msg).splitlines()[0]}" if override else _of_key(error)


def _no_key(key: str, parent: Any) -> str:
    """Say that there is no such key; the same name in another place is what is meant, if there is one."""
    keys = OmegaConf.to_container(parent) if isinstance(parent, DictConfig) else {}
    assert isinstance(keys, dict)
    below = [each for each in _below(keys, key) if not each.startswith("hydra.")]
    least = min((each.count(".") for each in below), default=0)
    elsewhere = [each for each in below if each.count(".") == least]
    return str(unknown_key(key, [str(each) for each in keys], elsewhere))


def _below(keys: dict[Any, Any], name: str, place: str = "") -> Iterator[str]:
    """Yield the keys of a name that lie further down."""
    for key, value in keys.items():
        if place and key == name:
            yield f"{place}{key}"
        if isinstance(value, dict):
            yield from _below(value, name, f"{place}{key}.")


def _declared(error: OmegaConfBaseException) -> Any:
    """Return the type of what did not fit; None where nothing is declared."""
    if isinstance(error.key, int):
        return next(iter(get_args(error.ref_type)), None)  # of an element
    if error.key is None:
        return error.ref_type if get_origin(error.ref_type) else error.object_type
    return get_type_hints(error.object_type).get(error.key) if is_dataclass(error.object_type) else None


def kind(declared: Any) -> str:
    """Call a type as a person would; a schema by its keys; empty for what is none of a configuration's."""
    if is_dataclass(declared):
        return f"its keys, one by one: {listing([each.name for each in fields(declared)])}"
    if isinstance(declared, type) and issubclass(declared, Enum):
        return " or ".join(declared.__members__)
    origin, parts = get_origin(declared), get_args(declared)
    if origin is dict or not parts:
        return KINDS.get(origin or declared, "")
    kinds = [kind(part) for part in parts]
    if origin is list:
        return f"a list of {kinds[0].removeprefix('a ')}s"
    if origin is tuple:
        return f"[{', '.join(kinds)}]"
    return ", or ".join(kinds)


def _in_file(error: OmegaConfBaseException) -> str:
    """Say what is wrong with a file; where no key is like its own, it may lack the line that says whose."""
    said = _unfit(error, None)
    unlike = isinstance(error, ConfigKeyError) and "Did you mean" not in said
    return f"{said}; files of a group of your own need the first line # @package _global_" if unlike else said
