"""The identity of stored counts: everything that could change a number, and nothing that could not.

Not in it: where files lie, how many devices or shards share the work, what logs, what is shown. In it: the
weights' content, the code that computes, the data, how batches are composed, seeds, and the kind of device.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from gpsweep.data.base import Source
from gpsweep.data.batch import content
from gpsweep.models.build import sha256 as weights_sha256

PACKAGE = Path(__file__).resolve().parent
# What turns a batch into counts; a change of any of these files makes other numbers possible.
ENGINE = (
    "counting.py",
    "crf.py",
    "data/batch.py",
    "engine.py",
    "gallery.py",
    "gradients.py",
    "knn.py",
    "labels.py",
    "layers/__init__.py",
    "logits.py",
    "memory.py",
    "models/pixels.py",
    "neighbours.py",
    "passes.py",
    "precision.py",
    "refine.py",
    "signals.py",
    "steps.py",
    "tally.py",
    "views.py",
)
# Where data and weights lie, and what a network is called, says nothing of their content.
WORDS = ("root", "images", "masks", "labels", "sbd", "checkpoint", "name")
OPTIONS = (
    "seed",
    "random_unit",
    "layer_scale",
    "clip",
    "precision",
    "memory_format",
    "points_per_forward",
)


def identity(cfg: DictConfig, source: Source, net: nn.Module, device: str) -> dict[str, Any]:
    """Return the identity of a run's counts as JSON.

    Args:
        cfg: the configuration.
        source: the data.
        net: the network with its weights.
        device: the kind of device, ``cpu`` or ``cuda``.
    """
    return {
        "engine": _digest(*((PACKAGE / name).read_bytes() for name in ENGINE)),
        "torch": torch.__version__,
        "device": device,
        "model": {
            "weights": weights_sha256(net),
            "code": code(net),
            "settings": _settings(cfg.model),
        },
        "data": {
            "task": source.task,
            "classes": list(source.classes),
            "samples": len(source),
            "ids": _digest(*(name.encode() for name in source.ids)),
            "files": stamp(source),
            "first": content([source[0]]),
            "settings": _settings(cfg.data.source),
        },
        "batch_size": cfg.data.batch_size,
        **{key: _plain(cfg[key]) for key in OPTIONS},
    }


def stamp(source: Source) -> str | None:
    """Return what the data's files look like from outside, or None where a source does not say."""
    said = getattr(source, "stamp", None)
    return str(said()) if callable(said) else None


def code(net: nn.Module) -> str:
    """Return the hash of the source of every module class in a network, torch's own left to its version."""
    files = set()
    for module in net.modules():
        kind = type(module)
        if not kind.__module__.startswith("torch."):
            try:
                files.add(Path(inspect.getfile(kind)))
            except (OSError, TypeError):
                continue  # made in a notebook: there is no file to read
    return _digest(*sorted(path.read_bytes() for path in files if path.is_file()))


def _settings(node: Any) -> Any:
    """Return a node's values without those that only say where something lies."""
    content = _plain(node)
    if not isinstance(content, Mapping):
        return content
    return {
        str(key): _settings(value) if isinstance(value, Mapping) else value
        for key, value in content.items()
        if key not in WORDS
    }


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value


def _digest(*parts: bytes) -> str:
    total = sha256()
    for part in parts:
        total.update(sha256(part).digest())
    return total.hexdigest()[:32]
