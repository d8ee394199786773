"""From ``model.class_map`` to a lookup: which class of the data each class of the network stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from gpsweep.errors import GpsweepError, listing, unknown

KEY = "model.class_map"
NONE = -1
"""The data's class of a network's class that stands for none of them."""


def class_map(cfg: DictConfig, *, classes: Sequence[str]) -> tuple[int, ...] | None:
    """Read which class of the data each class of a network stands for.

    Args:
        cfg: the ``model`` group. Its ``class_map``: number of each class of the network → name or number of a
            class of the data, or null where a prediction of it is wrong whatever the truth.
        classes: names of the data's classes.

    Returns:
        A class of the data, or ``NONE``, for each class of the network; None where the two have the same.

    Raises:
        GpsweepError: for anything else, a class of the network left out, or none that stands for any; or for
            ``classes`` that are no number.
    """
    named = entries(cfg)
    if named is None:
        return None
    check_classes(cfg)
    count = len(named) if cfg.classes is None else cfg.classes
    strange = [key for key in named if type(key) is not int or not 0 <= key < count]
    if strange and cfg.classes is not None:
        raise GpsweepError(
            f"{KEY}: {listing(strange)}: no class of the network; expected 0 to {count - 1}, as "
            f"model.classes={count}"
        )
    absent = [number for number in range(count) if number not in named]
    if strange or absent:
        raise GpsweepError(
            f"{KEY}: expected a class of the data, or null, for each class of the network, by its number "
            f"from 0 up; came {listing(list(named))}, without {listing(absent)}"
        )
    found = tuple(_number(key, named[key], classes) for key in range(count))
    if set(found) == {NONE}:
        raise GpsweepError(f"{KEY}: expected a class of the data for some class of the network, came none")
    return found


def check_classes(cfg: DictConfig) -> None:
    """Check how many classes the ``model`` group says that its network has.

    Raises:
        GpsweepError: if it is no number of classes, nor null.
    """
    if cfg.classes is not None and (type(cfg.classes) is not int or cfg.classes < 1):
        raise GpsweepError(f"model.classes={cfg.classes}: expected a whole number from 1 up, or null.")


def entries(cfg: DictConfig) -> Mapping[Any, Any] | None:
    """Return ``model.class_map`` with its keys as numbers; None where there is none.

    Raises:
        GpsweepError: if it is no mapping.
    """
    node = cfg.get("class_map")
    if node is None:
        return None
    if not isinstance(node, DictConfig) or not node:
        raise GpsweepError(
            f"{KEY}={node}: expected number of the network's class → class of the data, such as "
            "{0: Road, 1: Pavement, 2: null}, or null; a ready-made one is named by +class_map=NAME"
        )
    content = OmegaConf.to_container(node, resolve=True)
    assert isinstance(content, Mapping)
    # Hydra makes text of the 9 in +model.class_map.9=Sky, which comes after a ready-made map's own 9.
    return {int(str(key)) if str(key).isdecimal() else key: value for key, value in content.items()}


def _number(key: int, value: object, classes: Sequence[str]) -> int:
    """Return the number of a class of the data."""
    if value is None:
        return NONE
    if type(value) is int:
        if 0 <= value < len(classes):
            return value
        raise GpsweepError(
            f"{KEY}.{key}={value}: expected a class of the data, 0 to {len(classes) - 1}, its name, or null"
        )
    if value not in classes:
        raise unknown(f"{KEY}.{key}", value, classes)
    return list(classes).index(str(value))
