"""The identity of stored counts: everything that could change a number, and nothing that could not.

Not in it: where files lie, how many devices or shards share the work, what logs, what is shown. In it: the
weights' content, the code that computes, the data, how batches are composed, seeds, and the kind of device.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from gpsweep.data.base import Source
from gpsweep.data.batch import content, read
from gpsweep.models.build import sha256
from gpsweep.source_code import code, code_of, digest

ADDRESS = re.compile(r" at 0x[0-9a-f]+")  # of a function in a module's description: another in each process
PACKAGE = Path(__file__).resolve().parent
# What turns a batch into counts; a change of any of these files makes other numbers possible.
ENGINE = (
    "ahead.py",
    "compiled.py",
    "counting.py",
    "crf.py",
    "data/arrays.py",
    "data/batch.py",
    "data/decode.py",
    "data/files.py",
    "data/legend.py",
    "data/palette.py",
    "data/sizing.py",
    "engine.py",
    "failures.py",
    "knn/__init__.py",
    "knn/gallery.py",
    "knn/gradients.py",
    "knn/neighbours.py",
    "labels.py",
    "layers/__init__.py",
    "layers/calls.py",
    "layers/origins.py",
    "layers/replay.py",
    "layers/tensors.py",
    "logits.py",
    "memo.py",
    "memory.py",
    "packed.py",
    "models/class_map.py",
    "models/pixels.py",
    "passes.py",
    "precision.py",
    "refine.py",
    "signals.py",
    "steps.py",
    "tally.py",
    "together.py",
    "trust.py",
    "views.py",
    "walk.py",
)
# Where data and weights lie, and what a network is called, says nothing of their content. Whatever a source
# or a network of the user's own is told may matter.
OF_MODELS = ("checkpoint", "name")
OF_SOURCES = ("root", "images", "masks", "labels", "sbd")
# What tells the libraries of a device in which precision to compute 32 bits, whatever PyTorch asks of them.
OVERRIDES = {
    "cpu": ("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"),
    "cuda": ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
}
DRAWN = "random_onehot"  # the label that a seed draws
AGAIN = 8  # samples of a user's own data are read once more: a flip is drawn half of the time
OPTIONS = (
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
        "engine": engine(),
        "torch": torch.__version__,
        "device": arithmetic(device),
        "model": {
            "weights": sha256(net),
            "code": code(net, targets_of(cfg.model.net)),
            "structure": structure(net),
            "settings": _settings(cfg.model, OF_MODELS),
        },
        "data": {
            "task": source.task,
            "classes": list(source.classes),
            "samples": len(source),
            "ids": digest(*(name.encode() for name in source.ids)),
            "files": files(source),
            "first": content([read(source, 0)]),
            "code": code_of(_kind(source).__mro__, targets_of(cfg.data.source)),
            "settings": _of_source(cfg.data.source),
        },
        "batch_size": cfg.data.batch_size,
        # Another seed splits the halves of select anew, from the same counts where no label is drawn.
        "seed": cfg.seed if DRAWN in cfg.label else 0,
        **{key: _plain(cfg[key]) for key in OPTIONS},
    }


def engine() -> str:
    """Return the hash of what turns a batch into counts."""
    return digest(*((PACKAGE / name).read_bytes() for name in ENGINE))


def files(source: Source) -> str | None:
    """Return what tells whether data have changed: their stamp, of a user's own without one their content.

    Those of gpsweep that have none are made by its code, which is part of the identity.

    Raises:
        GpsweepError: naming a sample that cannot be read.

    Warns:
        UserWarning: where the first samples are others when they are read once more.
    """
    if callable(stamp := getattr(source, "stamp", None)):
        return str(stamp())
    if _kind(source).__module__.partition(".")[0] == PACKAGE.name:
        return None
    known = [content([read(source, number)]) for number in range(len(source))]
    again = [content([read(source, number)]) for number in range(min(AGAIN, len(source)))]
    if again != known[: len(again)]:
        warnings.warn(
            "data.source: an image or target is another each time it is read, as with random crops or flips; "
            "expected the same, or no run goes on from stored counts, and shards never meet",
            stacklevel=2,
        )
    return digest(*(each.encode() for each in known))


def _kind(source: Source) -> type:
    """Return the class of a source, of the first samples of one that of the whole."""
    return type(getattr(source, "whole", source))


def arithmetic(device: str) -> str:
    """Return what computes, in words: a kind of device, and what the environment overrides of its precision.

    Args:
        device: ``cpu`` or ``cuda``.
    """
    told = OVERRIDES.get(device, ())
    return " ".join([device, *(f"{name}={os.environ[name]}" for name in told if name in os.environ)])


def targets_of(node: Any) -> set[str]:
    """Return the dotted names of all that a node of the configuration builds or fetches, nested ones too."""
    content = _plain(node)
    return {content} if isinstance(content, str) else set(_targets(content))


def _targets(content: Any) -> Iterator[str]:
    if isinstance(content, Mapping):
        target = str(content.get("_target_", ""))
        yield target
        if target.startswith("hydra.utils.get_"):  # a function or a class that is handed over itself
            yield str(content.get("path", ""))
        content = [*content.values()]
    if isinstance(content, list):
        for value in content:
            yield from _targets(value)


def structure(net: nn.Module) -> str:
    """Return the hash of how a network is put together, and of its buffers, weights or not."""
    buffers = [
        name.encode() + buffer.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        for name, buffer in sorted(net.named_buffers())
    ]
    return digest(ADDRESS.sub("", str(net)).encode(), *buffers)


def _of_source(node: Any) -> Any:
    """Return a source's values as JSON; which images they choose, and in which order, their ids tell."""
    if not str(node.get("_target_", "")).startswith("gpsweep."):
        return _settings(node, ())
    content = _settings(node, OF_SOURCES)
    chosen = {"limit": None, "split": PurePath(str(content.get("split"))).name.removesuffix(".txt")}
    return content | {key: chosen[key] for key in chosen if content.get(key) is not None}


def _settings(node: Any, without: Sequence[str]) -> Any:
    """Return a node's values without some of its keys, as JSON has them."""
    content = _plain(node)
    if not isinstance(content, Mapping):
        return content
    return {str(key): _settings(value, ()) for key, value in content.items() if key not in without}


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
