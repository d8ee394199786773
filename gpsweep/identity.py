"""The identity of stored counts: everything that could change a number, and nothing that could not.

Not in it: where files lie, how many devices or shards share the work, what logs, what is shown. In it: the
weights' content, the code that computes, the data, how batches are composed, seeds, and the kind of device.
"""

from __future__ import annotations

import ast
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from gpsweep.data.base import Source
from gpsweep.data.batch import content, read
from gpsweep.models.build import sha256 as weights_sha256

# Of a function in a module's description, and of a scripted class's name: others in each process.
ADDRESS, MANGLED = re.compile(r" at 0x[0-9a-f]+"), re.compile(r"___torch_mangle_\d+\.")
CODE = (".py", ".so", ".pyd")
PACKAGE = Path(__file__).resolve().parent
INSTALLED = tuple({sysconfig.get_path(place) for place in ("stdlib", "platstdlib", "purelib", "platlib")})
LIBRARIES = ("site-packages", "dist-packages")  # of a user's or a cluster's own, which lie anywhere
# What turns a batch into counts; a change of any of these files makes other numbers possible.
ENGINE = (
    "ahead.py",
    "counting.py",
    "crf.py",
    "data/arrays.py",
    "data/batch.py",
    "data/decode.py",
    "data/files.py",
    "data/legend.py",
    "data/sizing.py",
    "engine.py",
    "failures.py",
    "knn/__init__.py",
    "knn/gallery.py",
    "knn/gradients.py",
    "knn/neighbours.py",
    "labels.py",
    "layers/__init__.py",
    "layers/origins.py",
    "logits.py",
    "memo.py",
    "memory.py",
    "models/class_map.py",
    "models/pixels.py",
    "passes.py",
    "precision.py",
    "refine.py",
    "signals.py",
    "steps.py",
    "tally.py",
    "together.py",
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
AGAIN = 8  # samples of a user's own data are read once more: a flip is drawn half of the time
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
        "engine": engine(),
        "torch": torch.__version__,
        "device": arithmetic(device),
        "model": {
            "weights": weights_sha256(net),
            "code": code(net, targets_of(cfg.model.net)),
            "structure": structure(net),
            "settings": _settings(cfg.model, OF_MODELS),
        },
        "data": {
            "task": source.task,
            "classes": list(source.classes),
            "samples": len(source),
            "ids": _digest(*(name.encode() for name in source.ids)),
            "files": files(source),
            "first": content([read(source, 0)]),
            "code": code_of(_kind(source).__mro__, targets_of(cfg.data.source)),
            "settings": _of_source(cfg.data.source),
        },
        "batch_size": cfg.data.batch_size,
        **{key: _plain(cfg[key]) for key in OPTIONS},
    }


def engine() -> str:
    """Return the hash of what turns a batch into counts."""
    return _digest(*((PACKAGE / name).read_bytes() for name in ENGINE))


def stamp(source: Source) -> str | None:
    """Return what the data's files look like from outside, or None where a source does not say."""
    said = getattr(source, "stamp", None)
    return str(said()) if callable(said) else None


def files(source: Source) -> str | None:
    """Return what tells whether data have changed: their stamp, of a user's own without one their content.

    Those of gpsweep that have none are made by its code, which is part of the identity.

    Raises:
        GpsweepError: naming a sample that cannot be read.

    Warns:
        UserWarning: where the first samples are others when they are read once more.
    """
    said = stamp(source)
    if said is not None or _kind(source).__module__.partition(".")[0] == PACKAGE.name:
        return said
    known = [content([read(source, number)]) for number in range(len(source))]
    again = [content([read(source, number)]) for number in range(min(AGAIN, len(source)))]
    if again != known[: len(again)]:
        warnings.warn(
            "data.source: an image or target is another each time it is read, as with random crops or flips; "
            "expected the same, or no run goes on from stored counts, and shards never meet",
            stacklevel=2,
        )
    return _digest(*(each.encode() for each in known))


def _kind(source: Source) -> type:
    """Return the class of a source, of the first samples of one that of the whole."""
    return type(getattr(source, "whole", source))


def code(net: nn.Module, targets: Iterable[str] = ()) -> str:
    """Return the hash of the source of a network: of the classes of all its modules, and of what builds it.

    Args:
        net: the network.
        targets: dotted names of what built it.
    """
    kinds = (base for module in net.modules() for base in type(module).__mro__)
    scripted = [module for module in net.modules() if isinstance(module, torch.jit.ScriptModule)]
    texts = [MANGLED.sub("", getattr(module, "code", "")) for module in scripted]
    return _digest(code_of(kinds, targets).encode(), *(text.encode() for text in texts))


def code_of(kinds: Iterable[type], targets: Iterable[str] = ()) -> str:
    """Return the hash of the source of classes and of what builds them, torch's own left to its version.

    Of code that is installed it is the file of each class, and the version of its package. Of any other it is
    all that these import as well: a number alone, or within a function that has not run yet.

    Args:
        kinds: the classes, and those they derive from.
        targets: dotted names of what built them.
    """
    names = {kind.__module__ for kind in kinds}
    for target in targets:
        parts = target.split(".")
        names |= {".".join(parts[:end]) for end in range(1, len(parts))}
    names = {name for name in names if name.partition(".")[0] not in ("torch", "builtins", "typing")}
    versions = {_version_of(name.partition(".")[0]) for name in names}
    files: dict[str, bytes] = {}
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if name in files or path.suffix not in CODE or not path.is_file():
            continue  # such as a class that was made in a notebook
        files[name] = path.read_bytes()
        if _own(name, path):
            waiting |= {*_held(name), *_imports(name, path)} - {"", *files}
    return _digest(*sorted(files.values()), *sorted(version.encode() for version in versions))


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


def _own(name: str, path: Path) -> bool:
    """Whether a module may change though no version does: the user's, or a network's or data's here."""
    if name.startswith("gpsweep."):
        return name.startswith(("gpsweep.models.", "gpsweep.data."))
    installed = any(path.is_relative_to(place) for place in INSTALLED)
    return not installed and not any(place in path.parts for place in LIBRARIES)


def _version_of(package: str) -> str:
    """Name an installed package's version; what its classes call may lie in any of its files."""
    if package == PACKAGE.name:
        return ""
    return f"{package} {getattr(sys.modules.get(package), '__version__', '')}"


def _held(name: str) -> set[str]:
    """Name the modules that what a module holds comes from.

    Not those below it: which of them it holds says what else this process has imported. What it imports of
    them itself, its source tells.
    """
    held = vars(sys.modules[name]).values() if name in sys.modules else ()
    return {module for module in map(_module_of, held) if not module.startswith(f"{name}.")}


def _module_of(value: Any) -> str:
    """Name the module that a value is, or was defined in, if it can change what a network computes."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return name if isinstance(name, str) and name in sys.modules and _matters(name) else ""


def _imports(name: str, path: Path) -> set[str]:
    """Name the modules that a module's source imports anywhere, if they can change what a network computes.

    What it holds does not tell of all: a number says nothing of where it comes from.
    """
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    found: set[str] = set()
    with suppress(SyntaxError, ValueError, ImportError):  # what cannot be imported computes nothing
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (package or not node.level):
                source = resolve_name("." * node.level + (node.module or ""), package)
                found |= {source, *(f"{source}.{alias.name}" for alias in node.names)}
    return {one for one in found if _matters(one)}


def _matters(name: str) -> bool:
    """Whether a module is code of which no version tells that it has changed."""
    path = _file_of(name)
    return path.suffix in CODE and _own(name, path)


def _file_of(name: str) -> Path:
    """Return a module's file, whether it was imported or not; nothing is run to find it."""
    if name in sys.modules:
        return Path(getattr(sys.modules[name], "__file__", None) or "")
    places = None
    if package := name.rpartition(".")[0]:
        above = _file_of(package)
        places = [str(above.parent)] if above.name == "__init__.py" else []
    spec = PathFinder.find_spec(name, places)
    return Path((spec and spec.origin) or "")


def structure(net: nn.Module) -> str:
    """Return the hash of how a network is put together, and of its buffers, weights or not."""
    buffers = [
        name.encode() + buffer.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        for name, buffer in sorted(net.named_buffers())
    ]
    return _digest(ADDRESS.sub("", str(net)).encode(), *buffers)


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


def _digest(*parts: bytes) -> str:
    total = sha256()
    for part in parts:
        total.update(sha256(part).digest())
    return total.hexdigest()[:32]
