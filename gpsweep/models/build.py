"""From the configuration's ``model`` group to a network in pixel space."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, read_write
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from gpsweep.atomic import is_file, located
from gpsweep.config import instance, target_node
from gpsweep.errors import GpsweepError, listing
from gpsweep.models.checkpoint import restore
from gpsweep.models.class_map import check_classes, entries
from gpsweep.models.pixels import PixelNet
from gpsweep.models.weights import check_published

NAMES = {"arch": str, "encoder": str, "weights": str | None}  # keys that name what a library has


def build(cfg: DictConfig, *, classes: int) -> PixelNet:
    """Build the network of the ``model`` group, its checkpoint loaded, ready to be evaluated.

    Args:
        cfg: the ``model`` group; its ``classes`` is filled in where null, so that ``${model.classes}`` holds:
            with 1 for a ``sigmoid``, else with as many as its ``class_map`` names, or as the data has.
        classes: how many classes the data has.

    Returns:
        The wrapped network: in eval mode, its weights without gradients, on the CPU.

    Raises:
        GpsweepError: the network cannot be built or its checkpoint does not fit; the message names the key.
    """
    sigmoid = cfg.get("sigmoid", False)
    if not isinstance(sigmoid, bool):
        raise GpsweepError(f"model.sigmoid={sigmoid}: expected true or false.")
    for key, kinds in NAMES.items():
        if key in cfg and not isinstance(cfg[key], kinds):
            raise GpsweepError(f"model.{key}={cfg[key]}: expected a name")
    if cfg.classes is None:
        named = entries(cfg)
        with read_write(cfg):
            cfg.classes = 1 if sigmoid else classes if named is None else len(named)
    check_classes(cfg)
    net = _network(cfg).float()  # in how many bits it computes is said by precision
    if cfg.aliases is not None and not isinstance(cfg.aliases, DictConfig):
        raise GpsweepError(f"model.aliases={cfg.aliases}: expected a dict, alias → module path.")
    if cfg.checkpoint is not None:
        if cfg.get("recipe") and not is_file(located(cfg.checkpoint)):
            raise GpsweepError(
                f"model.checkpoint={cfg.checkpoint}: no such file. Train the network first: "
                f"python -m gpsweep.fit fit={cfg.recipe}"
            )
        check_published(cfg, Path(str(cfg.checkpoint)).name)
        restore(net, str(cfg.checkpoint))
        if assumed := _stated(net, "assumed"):
            warnings.warn(f"model.checkpoint={cfg.checkpoint}: {assumed}", stacklevel=2)
    wrapped = PixelNet(
        net,
        mean=_statistic(cfg, net, "mean"),
        std=_statistic(cfg, net, "std"),
        scale=cfg.scale,
        channels=cfg.channels,
        output=cfg.output,
        sigmoid=sigmoid,
        divisor=cfg.divisor,
        aliases={str(alias): str(path) for alias, path in (cfg.aliases or {}).items()},
    )
    return wrapped.eval().requires_grad_(False)


def sha256(net: nn.Module) -> str:
    """Hash a network's weights: names, dtypes, shapes and bytes of its state dict, sorted by name.

    Device and memory format do not matter, nor does the wrapper: a ``PixelNet`` hashes like its raw network.
    What modules keep beside tensors, their extra state, is hashed as it is written out.
    """
    raw = net.net if isinstance(net, PixelNet) else net
    digest = hashlib.sha256()
    for name, value in sorted(raw.state_dict().items(), key=itemgetter(0)):
        for part in tree_leaves(value):
            if not isinstance(part, torch.Tensor):
                digest.update(f"{name} {part!r}\n".encode())
                continue
            tensor = part.dequantize() if part.is_quantized else part
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _network(cfg: DictConfig) -> nn.Module:
    """Instantiate ``model.net``."""
    node = target_node(cfg, "net", key="model.net", gives="your nn.Module")
    where = f"model.net={node['_target_']}"
    net = instance(node, "model.net")
    if not isinstance(net, nn.Module):
        raise GpsweepError(f"{where}: expected an nn.Module, came {type(net).__name__}.")
    tensors = [*net.named_parameters(), *net.named_buffers()]
    if empty := [name for name, tensor in tensors if is_lazy(tensor) or tensor.is_meta]:
        raise GpsweepError(
            f"{where}: expected weights, came some without values: {listing(empty, 3)}. Lazy "
            "modules get theirs from a first pass: run the network on an image before it is returned."
        )
    return net


def _statistic(cfg: DictConfig, net: nn.Module, name: str) -> Any:
    """Read ``model.mean`` or ``model.std``; null asks the network itself, as timm's networks can be asked."""
    value = cfg[name]
    if value is None:
        value = _stated(net, name)
    if value is None:
        raise GpsweepError(
            f"model.{name}=null: the network states none of its own; give one value a channel."
        )
    return list(value) if OmegaConf.is_list(value) else value


def _stated(net: nn.Module, name: str) -> Any:
    """Return what a network says of itself, as timm's networks do; None where it says nothing."""
    stated = getattr(net, "pretrained_cfg", None)
    return stated.get(name) if isinstance(stated, Mapping) else None
