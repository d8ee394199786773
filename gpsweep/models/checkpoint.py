"""Checkpoints: found, and checked as a whole before any weight is loaded."""

from __future__ import annotations

import json
import re
import warnings
from collections import Counter
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gpsweep.atomic import is_file, is_folder, located
from gpsweep.errors import listing, meant
from gpsweep.models import caffe
from gpsweep.models.names import COUNTER, addressed, fitted, shared, torn, translated, with_versions
from gpsweep.models.reading import SAFE, Stranger, content_of, conversion, faulty
from gpsweep.models.weights import published

INDEX = ".index.json"  # names the parts that Hugging Face's libraries write large checkpoints in
PARTS = (SAFE, ".bin")
PART = re.compile(r"-\d+-of-\d+\.")
ENDINGS = (".pt", ".pth", ".ckpt", SAFE, caffe.SUFFIX, ".bin", ".tar", INDEX)  # .tar as in model_best.pth.tar
NESTED = ("state_dict", "model_state_dict", "model", "net", "module", "weights")
STATISTICS = ("running_mean", "running_var")  # of batch normalisation
# torchvision's auxiliary head, and what a loss weighs classes by, in a Lightning module that is the network
TRAINING_ONLY = ("aux_classifier.", "criterion.", "loss.", "loss_fn.")


def load(path: str | Path) -> dict[str, Tensor]:
    """Read the weights of a checkpoint without running any code of it.

    It holds a state dict, or one under a usual key: ``state_dict`` (Lightning's), ``model``, ``net``, …

    Args:
        path: a ``.pt``, ``.pth``, ``.ckpt``, ``.bin``, ``.tar`` (as PyTorch writes them), ``.safetensors`` or
            ``.caffemodel`` file, or the ``.index.json`` of one in parts.

    Returns:
        Name → tensor, on the CPU, names as they are in the file; of Caffe's, layer and number: ``conv1[0]``.

    Raises:
        GpsweepError: no such file, not a checkpoint, code would have to be run, or not tensors alone.
    """
    file = _found(path)
    if _ending(file) == caffe.SUFFIX:
        return {
            f"{layer}[{n}]": blob for layer, own in caffe.read(file).items() for n, blob in enumerate(own)
        }
    if _ending(file) == INDEX:
        return {name: tensor for part in _parts(file) for name, tensor in load(part).items()}
    content = content_of(file)
    state = _state_dict(content)
    if strangers := _strangers(content, state):
        raise faulty(file, conversion(file, strangers[0]))
    if not isinstance(state, Mapping) or not state:
        raise faulty(file, f"expected a state dict, came {_kind(state)}.")
    if broken := [repr(name) for name in state if not str(name).isprintable()]:
        raise faulty(file, f"not whole, or no checkpoint: its names are no text: {listing(broken, 3)}.")
    odd = [f"{name} ({_kind(value)})" for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        several = any(isinstance(value, Mapping) for value in state.values())
        hint = "; save the one that is meant alone" if several else ""
        raise faulty(
            file, f"expected tensors alone, or a state dict under state_dict; came {listing(odd)}{hint}."
        )
    copies = _copies(content, state)
    if len(copies) > 1:
        taken = next(name for name in copies if _state_dict(content[name]) is state)
        warnings.warn(
            f"model.checkpoint={file}: holds these weights {len(copies)} times, under {listing(copies)}; "
            f"those under {taken} are taken; to take others, save them alone",
            stacklevel=2,
        )
    return {str(name): tensor for name, tensor in state.items()}


def restore(net: nn.Module, path: str | Path) -> None:
    """Load a checkpoint into ``net``, wholly or not at all.

    A prefix that wrappers add (``module.``, ``model.``, …) is stripped where that makes the names fit; what
    does not have it (a loss, a metric) is the training module's own and is left. What was saved without a
    module that is around the network goes into the network. Names of older releases are translated where the
    network does so itself, and of tensors that share memory one name is enough.

    Args:
        net: the raw network, also within another module; it is changed only if everything fits.
        path: as in :func:`load`.

    Raises:
        GpsweepError: as in :func:`load`; or names or shapes do not fit, weights are NaN or infinite, or some
            that the network shares differ.
    """
    file = _found(path)
    held = net.state_dict().items()
    if odd := [f"{name} ({_kind(value)})" for name, value in held if not isinstance(value, Tensor)]:
        raise faulty(
            file,
            f"the network keeps more than tensors: {listing(odd)}. Load it in the function of model.net, "
            "with model.checkpoint=null",
        )
    named = {} if _ending(file) == caffe.SUFFIX else load(file)
    net = addressed(net, named) if named else net
    own: dict[str, Tensor] = net.state_dict()
    wanted = [name for name in own if not name.endswith(COUNTER)]
    if named:
        state = fitted(file, named, {name: own[name].shape for name in wanted})
    else:
        state = caffe.translate(net, file, wanted)
    spare = tuple(part for part in TRAINING_ONLY if not any(name.startswith(part) for name in own))
    state = {
        name: tensor
        for name, tensor in state.items()
        if name in own or not (name.startswith(spare) or name.endswith(COUNTER))
    }
    state = {name: tensor for name, tensor in own.items() if name.endswith(COUNTER)} | state
    state = translated(net, shared(own, state))
    _check_names(file, own, state)
    _check_kinds(file, own, state)
    _check_shapes(file, own, state)
    _check_values(net, file, own, state)
    if apart := torn(own, state):
        raise faulty(
            file, f"weights that this network shares, but that differ from each other: {listing(apart)}."
        )
    net.load_state_dict(with_versions(own, state), strict=True)


def _found(path: str | Path) -> Path:
    """Return the file that a path names, if it is there and its ending is known."""
    file = located(path)
    if _ending(file) not in ENDINGS and not is_folder(file):
        raise faulty(file, f"unknown ending; expected {listing(ENDINGS)}.")
    if not is_file(file):
        raise faulty(file, f"no such file.{published(file.name) or _nearest(file)}")
    return file


def _ending(file: Path) -> str:
    return INDEX if file.name.lower().endswith(INDEX) else file.suffix.lower()


def _parts(index: Path) -> list[Path]:
    """Return the files beside an index that hold its weights."""
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        # No file elsewhere, and no further index.
        fit = bool(names) and all(Path(name).name == name and name.endswith(PARTS) for name in names)
    except OSError as error:
        raise faulty(index, f"cannot be read: {error.strerror or error}.") from error
    except Exception:  # whatever else may be in a file of such a name
        fit = False
    if not fit:
        raise faulty(index, f"expected a weight_map, name → {' or '.join(PARTS)} file beside it.")
    return [index.with_name(name) for name in names]


def _kind(value: object) -> str:
    if isinstance(value, Mapping):
        return f"{type(value).__name__} of {len(value)}"
    return "null" if value is None else type(value).__name__


def _nearest(file: Path) -> str:
    """Say what is there instead of a file that is missing."""
    try:
        folder, beside = file.is_dir(), file.parent.is_dir()
    except OSError as error:
        return f" {error.strerror}."
    if not folder and not beside:
        return f" Nor is there a folder {file.parent}."
    there = file if folder else file.parent
    names = sorted(path.name for path in there.iterdir() if _ending(path) in ENDINGS and path.is_file())
    if not folder and (near := meant(get_close_matches(file.name, names, n=3, cutoff=0.5))):
        return near
    where = "It is a folder; checkpoints in it" if folder else "Checkpoints in its folder"
    return f" {where}: {listing(names) or 'none'}."


def _strangers(content: Any, state: Any) -> list[str]:
    """Name the classes of what a file holds in place of weights; none where there are some besides."""
    if state is not content and state:
        return []
    held = content.values() if isinstance(content, Mapping) else [content]
    return [type(value).__name__ for value in held if isinstance(value, Stranger)]


def _state_dict(content: Any) -> Any:
    """Find the state dict inside what training loops save around it: under a usual key, or the only one."""
    if not isinstance(content, Mapping):
        return content
    for name in NESTED:
        if isinstance(content.get(name), Mapping):
            return _state_dict(content[name])
    inside = [value for value in content.values() if isinstance(value, Mapping) and value]
    of_tensors = [value for value in inside if all(isinstance(part, Tensor) for part in value.values())]
    return of_tensors[0] if len(of_tensors) == 1 else content


def _copies(content: Any, state: Mapping[str, Tensor]) -> list[str]:
    """Return the keys under which weights of these shapes are: the network's own, and say their average."""
    shapes = Counter(tensor.shape for tensor in state.values())
    found = []
    for name, value in content.items():
        inside = _state_dict(value)
        if isinstance(inside, Mapping):
            # An average may count its updates besides.
            come = Counter(part.shape for part in inside.values() if isinstance(part, Tensor))
            found += [name] if shapes <= come else []
    return found


def _check_names(file: Path, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    parts = [
        f"{len(names)} {kind} ({listing(names)})"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    if parts:
        hint = f" It is a part of several, which their {INDEX} names." if PART.search(file.name) else ""
        raise faulty(file, f"its keys do not fit the network: {', '.join(parts)}.{hint}")


def _check_kinds(file: Path, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuse what cannot be copied into the network as it is, such as sparse or quantised weights."""
    wrong = [
        f"{name}: {_kind_of(state[name])}"
        for name, tensor in own.items()
        if _kind_of(state[name]) not in ("dense", "whole numbers")
        or (tensor.is_floating_point() and not state[name].is_floating_point())
    ]
    if wrong:
        raise faulty(file, f"expected dense weights of real numbers, came {listing(wrong)}.")


def _check_values(net: nn.Module, file: Path, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuse what is no number; buffers may be infinite, as masks are, and what is so as built."""
    real = {name: value for name, value in state.items() if value.is_floating_point()}
    if nan := [name for name, value in real.items() if bool(value.isnan().any())]:
        raise faulty(file, f"weights that are NaN: {listing(nan)}.")
    learnt = {name for name, _ in net.named_parameters(remove_duplicate=False)}
    odd = [
        name
        for name, value in real.items()
        if (name in learnt or name.endswith(STATISTICS))
        and bool(value.isinf().any())
        and not bool(own[name].isinf().any())
    ]
    if odd:
        raise faulty(file, f"weights that are infinite: {listing(odd)}.")


def _kind_of(tensor: Tensor) -> str:
    if tensor.is_meta:
        return "a shape without values"
    if tensor.is_quantized or tensor.is_complex() or tensor.layout != torch.strided:
        return " ".join(str(part).removeprefix("torch.") for part in (tensor.layout, tensor.dtype))
    return "dense" if tensor.is_floating_point() else "whole numbers"


def _check_shapes(file: Path, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    wrong = [name for name, tensor in own.items() if tensor.shape != state[name].shape]
    if not wrong:
        return
    shapes = [f"{name}: expected {tuple(own[name].shape)}, came {tuple(state[name].shape)}" for name in wrong]
    classes = _other_classes([(tuple(own[name].shape), tuple(state[name].shape)) for name in wrong])
    hint = f" Its last layer has {classes} outputs: model.classes={classes}" if classes else ""
    raise faulty(file, f"{len(wrong)} of its shapes do not fit the network: {listing(shapes)}.{hint}")


def _other_classes(shapes: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> int | None:
    """Return the number of classes that came, where it is all that shapes, expected and come, differ in."""
    mine, came = (shape[0] if shape else 0 for shape in shapes[0])
    alike = all(tuple(came if n == mine else n for n in expected) == shape for expected, shape in shapes)
    return came if alike else None
