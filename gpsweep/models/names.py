"""Whose weights are whose: from the names in a file to those of a network."""

from __future__ import annotations

import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpsweep.errors import listing

PREFIXES = ("module.", "model.", "net.")  # the first to be taken where several fit
COMPILED = "_orig_mod."
COUNTER = "num_batches_tracked"  # absent from files older than PyTorch 0.4.1; unused in evaluation


def addressed(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Return the module that a file's names are of: a network, or the part of it that has all its weights.

    A module around a network puts a prefix before its names: ``DataParallel``, torch.compile's, or one of the
    user's own that picks the logits, which it was trained without.

    Args:
        net: the whole network; one that reads names of its own past is left to do so.
        state: name → tensor, as in the file.
    """
    endings = {rest for name in state for _, rest in _parted(name.replace(COMPILED, ""))}
    while endings.isdisjoint(own := net.state_dict()):
        inside = [child for child in net.children() if own and len(child.state_dict()) == len(own)]
        if len(inside) != 1 or type(net).load_state_dict is not nn.Module.load_state_dict:
            break
        [net] = inside
    return net


def fitted(file: Path, state: dict[str, Tensor], wanted: Mapping[str, torch.Size]) -> dict[str, Tensor]:
    """Strip the wrapper's prefix under which the names wanted are, or most of them.

    Args:
        file: where they come from, for a warning where several prefixes would do.
        state: name → tensor, as in the file.
        wanted: name → shape, as in the network.
    """
    plain = {name.replace(COMPILED, ""): tensor for name, tensor in state.items()}
    for trial in (state, plain):
        if wanted.keys() <= trial.keys():
            return trial
    names, shapes = Counter[str](), Counter[str]()
    for name, tensor in plain.items():
        for prefix, rest in _parted(name):
            names[prefix] += rest in wanted
            shapes[prefix] += rest in wanted and tensor.shape == wanted[rest]
    most = max(names.values())
    if not most:
        return state
    fit = [prefix for prefix in names if names[prefix] == most]
    closest = max(shapes[prefix] for prefix in fit)
    fit = [prefix for prefix in fit if shapes[prefix] == closest]
    best = next((prefix for prefix in PREFIXES if prefix in fit), fit[0])
    if len(fit) > 1 and most == len(wanted):
        warnings.warn(
            f"model.checkpoint={file}: holds these weights {len(fit)} times, under {listing(fit)}; "
            f"those under {best} are taken",
            stacklevel=2,
        )
    return {name.removeprefix(best): tensor for name, tensor in plain.items() if name.startswith(best)}


def _parted(name: str) -> Iterator[tuple[str, str]]:
    """Yield each way to part a name into a prefix, which may be none, and the rest."""
    parts = name.split(".")
    for n in range(len(parts)):
        yield "".join(f"{part}." for part in parts[:n]), ".".join(parts[n:])


def shared(own: Mapping[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Add the names that a file leaves out because another name's tensor has the same memory.

    Args:
        own: name → tensor, as in the network.
        state: name → tensor, as in the file.
    """
    places: dict[tuple[Any, ...], str] = {}
    for name, tensor in own.items():
        if name in state:
            places.setdefault(_place(tensor), name)
    absent = [name for name, tensor in own.items() if name not in state and tensor.numel()]
    return state | {name: state[places[at]] for name in absent if (at := _place(own[name])) in places}


def torn(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Return the names whose tensor has another name's memory in the network, but other values in a file.

    Args:
        own: name → tensor, as in the network.
        state: name → tensor, as in the file, with all names of the network.
    """
    first: dict[tuple[Any, ...], str] = {}
    whole = [name for name, tensor in own.items() if tensor.numel()]
    homes = {name: first.setdefault(_place(own[name]), name) for name in whole}
    return [name for name, home in homes.items() if name != home and bool((state[name] != state[home]).any())]


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype


def translated(net: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Let a copy of the network read names that are not its own, as libraries' own networks can do."""
    if net.state_dict().keys() == state.keys():
        return state
    try:
        twin = _reader(net, state)
        # A network of the user's own may pass over what does not fit.
        whole = _contents(twin.state_dict()) == _contents(state)
    except Exception:  # what does not fit is named by the checks that follow
        return state
    return dict(twin.state_dict()) if whole else state


def _reader(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy of a network that has read weights as its library does."""
    if hasattr(net, "config_class"):  # Hugging Face's translate where they are made
        make: Any = net.from_pretrained
        made: nn.Module = make(None, config=deepcopy(net.config), state_dict=dict(state))
        return made
    twin = deepcopy(net)  # which not every network bears
    twin.load_state_dict(with_versions({}, state))
    return twin


def _contents(state: Mapping[str, Tensor]) -> set[tuple[torch.Size, bytes]]:
    weights = [tensor for name, tensor in state.items() if not name.endswith(COUNTER)]
    return {(tensor.shape, sha256(tensor.detach().float().numpy().tobytes()).digest()) for tensor in weights}


def with_versions(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with the versions that modules note beside their own; some refuse to load without.

    Args:
        own: a network's state dict.
        state: the weights.
    """
    known = OrderedDict(state)
    vars(known)["_metadata"] = getattr(own, "_metadata", None)
    return known
