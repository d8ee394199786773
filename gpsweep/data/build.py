"""From the configuration's ``data`` group to a data set; one of the user's own is checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from omegaconf import DictConfig, read_write
from torch import Tensor

from gpsweep.config import instance, target_node
from gpsweep.data.base import CLASSIFICATION, SEGMENTATION, Source, check_choice, check_ids
from gpsweep.data.batch import read
from gpsweep.errors import GpsweepError, listing

KEY = "data.source"
MEMBERS = ("name", "task", "classes", "ids", "__len__", "__getitem__")
TENSORS = ("image", "target")


def source_of(cfg: DictConfig) -> Source:
    """Make the data that the ``data`` group names.

    Args:
        cfg: the ``data`` group; its ``source`` is a dict with a ``_target_`` and its arguments, or becomes
            one where it is the dotted name alone.

    Returns:
        The data, with one sample at least.

    Raises:
        GpsweepError: if none is named, it cannot be made, it has no samples, or the user's own is no data.
    """
    node = target_node(cfg, "source", key=KEY, gives="your data")
    if isinstance(cfg.source, str):
        with read_write(cfg):
            cfg.source = node
    source: Source = instance(node, KEY)
    if not node["_target_"].startswith("gpsweep."):
        check_source(source)
    if len(source) == 0:
        raise GpsweepError(f"data: expected at least one sample, {source.name} has none")
    return source


def check_source(source: Any) -> None:
    """Check that what a user's class or function gives is data, by its members and its first sample.

    Raises:
        GpsweepError: naming what was expected and what came.
    """
    kind = type(source).__name__
    if lacking := [name for name in MEMBERS if not hasattr(source, name)]:
        raise GpsweepError(
            f"{KEY}: expected data with {listing(MEMBERS)}, came {kind} without {listing(lacking)}"
        )
    check_choice(f"{KEY}: task", source.task, (SEGMENTATION, CLASSIFICATION))
    if len(source.ids) != len(source):
        raise GpsweepError(f"{KEY}: expected an id for each of {len(source)} samples, came {len(source.ids)}")
    check_ids(source.ids, key=KEY, where=kind)
    sample: Any = read(source, 0)
    if not isinstance(sample, Mapping) or not all(isinstance(sample.get(name), Tensor) for name in TENSORS):
        came = f"dict of {listing(list(sample))}" if isinstance(sample, Mapping) else type(sample).__name__
        raise GpsweepError(
            f"{KEY}: expected samples as dicts of the tensors image and target, and of id, came {came}"
        )
    if sample.get("id") != source.ids[0]:
        raise GpsweepError(
            f"{KEY}: expected {source.ids[0]} as id of the first sample, as in ids, came {sample.get('id')}"
        )
    image, target = (sample[name] for name in TENSORS)
    if image.dtype != torch.uint8 or image.dim() != 3 or len(image) != 3:
        raise GpsweepError(f"{KEY}: expected image as uint8 (3, H, W), RGB, came {_described(image)}")
    expected = tuple(image.shape[1:]) if source.task == SEGMENTATION else ()
    if target.is_floating_point() or target.shape != expected:
        raise GpsweepError(f"{KEY}: expected target as int64 {expected}, came {_described(target)}")


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
