"""From the configuration's ``data`` group to a data set; one of the user's own is checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from omegaconf import DictConfig, read_write

from gpsweep.config import instance, target_node
from gpsweep.data.base import (
    CLASSIFICATION,
    SEGMENTATION,
    Sample,
    Source,
    check_choice,
    check_ids,
    checked_limit,
)
from gpsweep.data.batch import read
from gpsweep.errors import GpsweepError, listing, placed

KEY = "data.source"
MEMBERS = ("name", "task", "classes", "ids", "__len__", "__getitem__")


class First:
    """The first samples of data that know no limit themselves, such as a user's own.

    Args:
        whole: the data.
        count: how many.
    """

    def __init__(self, whole: Source, count: int) -> None:
        self.whole = whole
        self.name, self.task, self.classes = whole.name, whole.task, whole.classes
        self.ids = list(whole.ids)[:count]
        if hasattr(whole, "stamp"):
            self.stamp = whole.stamp

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return self.whole[index]


def source_of(cfg: DictConfig) -> Source:
    """Make the data that the ``data`` group names.

    Args:
        cfg: the ``data`` group; its ``source`` is a dict with a ``_target_`` and its arguments, or becomes
            one where it is the dotted name alone. Of data that do not take its ``limit`` themselves, only so
            many samples are taken.

    Returns:
        The data, with one sample at least.

    Raises:
        GpsweepError: if none is named, it cannot be made, it has no samples, or the user's own is no data.
    """
    source = named(cfg, "source", gives="your data")
    if len(source) == 0:
        raise GpsweepError(f"data: expected at least one sample, {source.name} has none")
    limit = checked_limit(cfg.get("limit"))
    return source if limit is None or len(source) <= limit else First(source, limit)


def named(cfg: DictConfig, name: str, *, gives: str) -> Source:
    """Make the data that a key of the ``data`` group names, and check what is not gpsweep's.

    Args:
        cfg: the ``data`` group; the key's value is a dict with a ``_target_`` and its arguments, or becomes
            one where it is the dotted name alone.
        name: the key.
        gives: what comes of it, for the message.

    Raises:
        GpsweepError: if none is named, it cannot be made, or the user's own is no data.
    """
    key = f"data.{name}"
    node = target_node(cfg, name, key=key, gives=gives)
    if isinstance(cfg[name], str):
        with read_write(cfg):
            cfg[name] = node
    try:
        source: Source = instance(node, key)
    except GpsweepError as error:
        if name != "source":  # the keys of the group are its
            error.args = (placed(str(error), node, key),)
        raise
    if not node["_target_"].startswith("gpsweep."):
        check_source(source, key)
    return source


def check_source(source: Any, key: str = KEY) -> None:
    """Check that what a user's class or function gives is data, by its members and its first sample.

    Args:
        source: what it gives.
        key: the configuration key that names it.

    Raises:
        GpsweepError: naming what was expected and what came.
    """
    kind = type(source).__name__
    if lacking := [name for name in MEMBERS if not hasattr(source, name)]:
        raise GpsweepError(
            f"{key}: expected data with {listing(MEMBERS)}, came {kind} without {listing(lacking)}"
        )
    check_choice(f"{key}: task", source.task, (SEGMENTATION, CLASSIFICATION))
    for name in ("classes", "ids"):
        _check_names(name, getattr(source, name), key)
    if len(source.ids) != len(source):
        raise GpsweepError(f"{key}: expected an id for each of {len(source)} samples, came {len(source.ids)}")
    check_ids(source.ids, key=key, where=kind)
    if repeated := [name for name, times in Counter(source.classes).items() if times > 1]:
        raise GpsweepError(f"{key}: expected classes each once, came more than once: {listing(repeated)}")
    read(source, 0)


def check_same_classes(training: Source, source: Source, *, key: str) -> None:
    """Check that training data number their classes as the data do that are judged.

    Args:
        training: the data to learn or to find neighbours from.
        source: the data that are judged.
        key: the configuration key of the former.

    Raises:
        GpsweepError: if they do not, naming where the two part.
    """
    own, judged = (tuple(map(str, each.classes)) for each in (training, source))
    if own == judged:
        return
    place = next((n for n, (one, other) in enumerate(zip(own, judged, strict=False)) if one != other), None)
    parting = "" if place is None else f"; they part at class {place}, {own[place]} and {judged[place]}"
    raise GpsweepError(
        f"{key}: its classes are {listing(own)}, those of data={source.name} {listing(judged)}{parting}; "
        "expected the same in the same order"
    )


def _check_names(name: str, names: Any, key: str) -> None:
    """Refuse names that are no text, such as numbers and paths."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise GpsweepError(f"{key}: expected {name} as a list of str, came {type(names).__name__} {names}")
    if other := [each for each in names if not isinstance(each, str)]:
        raise GpsweepError(
            f"{key}: expected {name} as a list of str, came {type(other[0]).__name__} {other[0]} in it"
        )
