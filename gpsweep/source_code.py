"""The source code that makes a network or data: what of it could change a number, in one hash.

Of what is installed, the files of the classes and the version; of the user's own, all that it imports.
"""

from __future__ import annotations

import ast
import re
import sys
import sysconfig
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.machinery import PathFinder
from importlib.util import resolve_name
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

# Of a scripted class's name: another in each process.
MANGLED = re.compile(r"___torch_mangle_\d+\.")
CODE = (".py", ".so", ".pyd")
INSTALLED = tuple({sysconfig.get_path(place) for place in ("stdlib", "platstdlib", "purelib", "platlib")})
LIBRARIES = ("site-packages", "dist-packages")  # of a user's or a cluster's own, which lie anywhere


def code(net: nn.Module, targets: Iterable[str] = ()) -> str:
    """Return the hash of the source of a network: of the classes of all its modules, and of what builds it.

    Args:
        net: the network.
        targets: dotted names of what built it.
    """
    kinds = (base for module in net.modules() for base in type(module).__mro__)
    scripted = [module for module in net.modules() if isinstance(module, torch.jit.ScriptModule)]
    texts = [MANGLED.sub("", getattr(module, "code", "")) for module in scripted]
    return digest(code_of(kinds, targets).encode(), *(text.encode() for text in texts))


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
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            imported = filter(_matters, _imports(files[name], package))
            waiting |= {*_held(name), *imported} - {"", *files}
    return digest(*sorted(files.values()), *sorted(version.encode() for version in versions))


def _own(name: str, path: Path) -> bool:
    """Whether a module may change though no version does: the user's, or a network's or data's here."""
    if name.startswith("gpsweep."):
        return name.startswith(("gpsweep.models.", "gpsweep.data."))
    installed = any(path.is_relative_to(place) for place in INSTALLED)
    return not installed and not any(place in path.parts for place in LIBRARIES)


def _version_of(package: str) -> str:
    """Name an installed package's version; what its classes call may lie in any of its files."""
    if package == "gpsweep":
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


@cache
def _imports(source: bytes, package: str) -> frozenset[str]:
    """Name the modules that a source imports anywhere.

    What its module holds does not tell of all: a number says nothing of where it comes from.
    """
    found: set[str] = set()
    with suppress(SyntaxError, ValueError, ImportError):  # what cannot be imported computes nothing
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (package or not node.level):
                origin = resolve_name("." * node.level + (node.module or ""), package)
                found |= {origin, *(f"{origin}.{alias.name}" for alias in node.names)}
    return frozenset(found)


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


def digest(*parts: bytes) -> str:
    """Return one hash of several contents; where one ends and the next begins is part of it."""
    total = sha256()
    for part in parts:
        total.update(sha256(part).digest())
    return total.hexdigest()[:32]
