"""Reading checkpoints: weights only, and checked as a whole before any is loaded."""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import pathlib
import re
import typing
import warnings
import zipfile
from collections import Counter
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import omegaconf
import torch
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from gpsweep.atomic import is_file, is_folder, located
from gpsweep.errors import GpsweepError, listing, meant
from gpsweep.models import caffe
from gpsweep.models.names import COUNTER, fitted, shared, torn, translated, with_versions
from gpsweep.models.weights import published

SAFE = ".safetensors"
INDEX = ".index.json"  # names the parts that Hugging Face's libraries write large checkpoints in
PARTS = (SAFE, ".bin")
PART = re.compile(r"-\d+-of-\d+\.")
ENDINGS = (".pt", ".pth", ".ckpt", SAFE, caffe.SUFFIX, ".bin", ".tar", INDEX)  # .tar as in model_best.pth.tar
NESTED = ("state_dict", "model_state_dict", "model", "net", "module", "weights")
STATISTICS = ("running_mean", "running_var")  # of batch normalisation
TRAINING_ONLY = "aux_classifier."  # torchvision's auxiliary head
CORES = ("core", "_core")  # where NumPy 1 and 2 keep what makes scalars and arrays


class Array:
    """Stands for an array of NumPy's: none is made, so that no file can ask for one that is too large.

    And for the histories of losses that OpenMMLab's training loop keeps beside weights, and for functions
    with some of their arguments, as optimisers are configured by.
    """

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


class Stranger:
    """Stands for an object whose class is not looked up: nothing of it is kept but the class's name.

    So the hyper-parameters of a Lightning module are passed over, such as its network and its optimiser.
    """

    def __new__(cls, *_: Any) -> Stranger:
        """Make one, as a pickle makes objects."""
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        # Objects are made without it: this is a call, and may be one of any function.
        raise UnpicklingError(f"GLOBAL {type(self).__name__}")

    __setitem__ = __init__  # a dict of some kind, which releases of PyTorch refuse themselves by now

    def __setstate__(self, _: Any) -> None: ...


# What training loops save beside weights: their arguments, paths, scores and configurations. Nothing of
# these does more when it is read than keep what it is given.
DATA: list[Any] = [
    range,
    slice,
    frozenset,
    datetime.date,
    datetime.datetime,
    datetime.timedelta,
    datetime.timezone,
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    (pathlib.PosixPath, "pathlib._local.PosixPath"),  # as Python 3.13 names it
    (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
    (pathlib.PureWindowsPath, "pathlib._local.WindowsPath"),
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"},
    *((np.float64(0).__reduce__()[0], f"numpy.{at}.multiarray.scalar") for at in CORES),
    *((Array, f"numpy.{name}") for name in ("ndarray", *(f"{at}.multiarray._reconstruct" for at in CORES))),
    (Array, "mmengine.logging.history_buffer.HistoryBuffer"),
    (Array, "functools.partial"),
    (typing.Any, "typing.Any"),
    *((kind, f"builtins.{kind.__name__}") for kind in (dict, list, int, float, str, bool)),
    collections.defaultdict,
    omegaconf.DictConfig,
    omegaconf.ListConfig,
    omegaconf.base.ContainerMetadata,
    omegaconf.base.Metadata,
    *(getattr(omegaconf.nodes, f"{kind}Node") for kind in ("Any", "Boolean", "Float", "Integer", "String")),
]
STRANGERS = 1000  # classes; for each that is named, PyTorch goes through all of them
POINTER = b"version https://"
MAGIC = (b"PK\x03\x04", b"\x80")  # what torch.save writes: a zip archive, or a bare pickle before PyTorch 1.6


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
    _check_inflated(file)
    content = _read(file)
    state = _state_dict(content)
    if strangers := _strangers(content, state):
        raise _error(file, _converted(file, strangers[0]))
    if not isinstance(state, Mapping) or not state:
        raise _error(file, f"expected a state dict, came {_kind(state)}.")
    if broken := [repr(name) for name in state if not str(name).isprintable()]:
        raise _error(file, f"not whole, or no checkpoint: its names are no text: {listing(broken, 3)}.")
    odd = [f"{name} ({_kind(value)})" for name, value in state.items() if not isinstance(value, Tensor)]
    if odd:
        several = any(isinstance(value, Mapping) for value in state.values())
        hint = "; save the one that is meant alone" if several else ""
        raise _error(
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
    does not have it (a loss, a metric) is the training module's own and is left. Names of older releases are
    translated where the network does so itself, and of tensors that share memory one name is enough.

    Args:
        net: the raw network, compiled or in ``DataParallel`` as well; it is changed only if everything fits.
        path: as in :func:`load`.

    Raises:
        GpsweepError: as in :func:`load`; or names or shapes do not fit, weights are NaN or infinite, or some
            that the network shares differ.
    """
    file, net = _found(path), _unwrapped(net)
    own: dict[str, Tensor] = net.state_dict()
    if odd := [f"{name} ({_kind(value)})" for name, value in own.items() if not isinstance(value, Tensor)]:
        raise _error(
            file,
            f"the network keeps more than tensors: {listing(odd)}. Load it in the function of model.net, "
            "with model.checkpoint=null",
        )
    wanted = [name for name in own if not name.endswith(COUNTER)]
    if _ending(file) == caffe.SUFFIX:
        state = caffe.translate(net, file, wanted)
    else:
        state = fitted(file, load(file), {name: own[name].shape for name in wanted})
    spare = tuple(part for part in (TRAINING_ONLY,) if not any(name.startswith(part) for name in own))
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
        raise _error(
            file, f"weights that this network shares, but that differ from each other: {listing(apart)}."
        )
    net.load_state_dict(with_versions(own, state), strict=True)


def _unwrapped(net: nn.Module) -> nn.Module:
    """Return the network within what puts a prefix before all its names."""
    while isinstance(net, nn.DataParallel) or hasattr(net, "_orig_mod"):  # the latter of torch.compile
        net = net.module if isinstance(net, nn.DataParallel) else net.get_submodule("_orig_mod")
    return net


def _error(file: Path, what: str) -> GpsweepError:
    return GpsweepError(f"model.checkpoint={file}: {what}")


def _found(path: str | Path) -> Path:
    """Return the file that a path names, if it is there and its ending is known."""
    file = located(path)
    if _ending(file) not in ENDINGS and not is_folder(file):
        raise _error(file, f"unknown ending; expected {listing(ENDINGS)}.")
    if not is_file(file):
        raise _error(file, f"no such file.{published(file.name) or _nearest(file)}")
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
        raise _error(index, f"cannot be read: {error.strerror or error}.") from error
    except Exception:  # whatever else may be in a file of such a name
        fit = False
    if not fit:
        raise _error(index, f"expected a weight_map, name → {' or '.join(PARTS)} file beside it.")
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


def _check_inflated(file: Path) -> None:
    """Refuse an archive that comes to far more than its size: torch.save compresses nothing."""
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return
    except (ValueError, NotImplementedError) as error:  # names that are no text, versions there are none of
        raise _error(file, f"not a whole archive: {error}.") from error
    if size > 2 * file.stat().st_size + 2**20:
        raise _error(file, f"was not read: it comes to {size} bytes, as decompression bombs do.")


def _read(file: Path) -> Any:
    """Read the file's content; whatever may be wrong with the file becomes one message."""
    try:
        if _ending(file) == SAFE:
            from safetensors.torch import load_file

            return load_file(file)
        with safe_globals(DATA), safe_globals(_unknown(file)), warnings.catch_warnings():
            # Its warnings repeat the errors it then raises.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise _error(file, f"cannot be read: {error.strerror or error}.") from error
    except MemoryError:
        raise
    except Exception as error:
        # torch.load has no error class of its own: damaged files end in a dozen different ones.
        raise _error(file, _unreadable(file, error)) from error


def _unknown(file: Path) -> list[Any]:
    """Return a class of its own for each name in a file that PyTorch would not read; none is looked up."""
    try:
        names = get_unsafe_globals_in_checkpoint(file)
    except ValueError:  # the format before PyTorch 1.6, or TorchScript
        return []
    return [(type(name, (Stranger,), {}), name) for name in names[:STRANGERS]]


def _strangers(content: Any, state: Any) -> list[str]:
    """Name the classes of what a file holds in place of weights; none where there are some besides."""
    if state is not content and state:
        return []
    held = content.values() if isinstance(content, Mapping) else [content]
    return [type(value).__name__ for value in held if isinstance(value, Stranger)]


def _converted(file: Path, name: str | None) -> str:
    """Say how to make a checkpoint of a file that holds objects."""
    return (
        f"holds more than weights{f' ({name})' if name else ''}; reading that could run code "
        "from the file, which is never done. Where you trust the file, convert it once: "
        f"c = torch.load('{file.name}', weights_only=False), then safetensors.torch.save_file(WEIGHTS, "
        "'weights.safetensors') with WEIGHTS = c['state_dict'], c['model'] or what else holds them, or "
        "c.state_dict() where c is a network."
    )


def _unreadable(file: Path, error: Exception) -> str:
    """Say why a file could not be read: it wants code to be run, or it is none of ours."""
    with file.open("rb") as stream:
        head = stream.read(16)
    if "TorchScript" in str(error):
        return "a TorchScript archive; save its weights instead: torch.save(net.state_dict(), 'weights.pt')."
    if isinstance(error, UnpicklingError) and head.startswith(MAGIC) and _ending(file) != SAFE:
        found = re.search(r"GLOBAL (\S+)", str(error))
        return _converted(file, found[1] if found else None)
    size = file.stat().st_size
    if head.startswith(POINTER):
        return "what Git LFS keeps in place of the file; git lfs pull fetches it."
    return f"not a {file.suffix} checkpoint, or cut short ({size} bytes, beginning with {head!r})."


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
        raise _error(file, f"its keys do not fit the network: {', '.join(parts)}.{hint}")


def _check_kinds(file: Path, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuse what cannot be copied into the network as it is, such as sparse or quantised weights."""
    wrong = [
        f"{name}: {_kind_of(state[name])}"
        for name, tensor in own.items()
        if _kind_of(state[name]) not in ("dense", "whole numbers")
        or (tensor.is_floating_point() and not state[name].is_floating_point())
    ]
    if wrong:
        raise _error(file, f"expected dense weights of real numbers, came {listing(wrong)}.")


def _check_values(net: nn.Module, file: Path, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Refuse what is no number; buffers may be infinite, as masks are, and what is so as built."""
    real = {name: value for name, value in state.items() if value.is_floating_point()}
    if nan := [name for name, value in real.items() if bool(value.isnan().any())]:
        raise _error(file, f"weights that are NaN: {listing(nan)}.")
    learnt = {name for name, _ in net.named_parameters(remove_duplicate=False)}
    odd = [
        name
        for name, value in real.items()
        if (name in learnt or name.endswith(STATISTICS))
        and bool(value.isinf().any())
        and not bool(own[name].isinf().any())
    ]
    if odd:
        raise _error(file, f"weights that are infinite: {listing(odd)}.")


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
    raise _error(file, f"{len(wrong)} of its shapes do not fit the network: {listing(shapes)}.{hint}")


def _other_classes(shapes: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> int | None:
    """Return the number of classes that came, where it is all that shapes, expected and come, differ in."""
    mine, came = (shape[0] if shape else 0 for shape in shapes[0])
    alike = all(tuple(came if n == mine else n for n in expected) == shape for expected, shape in shapes)
    return came if alike else None
