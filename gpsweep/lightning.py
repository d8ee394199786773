"""Lightning, imported without what its metrics would want: half of the time before the first batch.

Lightning imports torchmetrics, which imports torchvision, scipy's signal processing and matplotlib wherever
they are installed, for metrics and plots that gpsweep has no use for: about two seconds at every start. It
imports torch's compiler as well, to recognise modules that were compiled, as ours are not: one second more.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from lightning_utilities.core import imports
from lightning_utilities.core.imports import RequirementCache

COMPILER = "torch._dynamo"


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """Let checks for optional packages find within the block that they are not there."""
    check, available = RequirementCache._check_available, imports.package_available
    asked: list[RequirementCache] = []

    def checked(cache: RequirementCache) -> None:
        if cache.requirement in packages:
            asked.append(cache)
            cache.available, cache.message = False, f"{cache.requirement} is hidden"
        else:
            check(cache)

    RequirementCache._check_available = checked  # type: ignore[assignment, method-assign]
    imports.package_available = lambda name: name not in packages and available(name)  # type: ignore[assignment]
    try:
        yield
    finally:
        RequirementCache._check_available = check  # type: ignore[method-assign]
        imports.package_available = available
        for cache in asked:
            # Whoever asks again, a network of the user's for one, is told the truth.
            vars(cache).pop("available", None)


@contextmanager
def without_compiler() -> Iterator[None]:
    """Let imports within the block find a stand-in for torch's compiler, unless it is there already."""
    if COMPILER in sys.modules:
        yield
        return
    stand_in = ModuleType(COMPILER)
    known = {"OptimizedModule": type("OptimizedModule", (), {}), "disable": _unchanged}
    vars(stand_in).update(known, __getattr__=partial(_real, stand_in))
    sys.modules[COMPILER] = stand_in
    try:
        yield
    finally:
        _withdraw(stand_in)


@contextmanager
def own_warnings() -> Iterator[None]:
    """Keep imports within the block from changing how warnings are printed, as Lightning does for its own."""
    before = warnings.formatwarning
    try:
        yield
    finally:
        warnings.formatwarning = before


def _withdraw(stand_in: ModuleType) -> None:
    """Let whoever asks for the compiler again get the real one."""
    if sys.modules.get(COMPILER) is stand_in:
        del sys.modules[COMPILER]


def _real(stand_in: ModuleType, name: str) -> Any:
    """Return something of the compiler that the stand-in lacks: other versions may ask for more."""
    if name.startswith("__"):  # what Python looks for in every module
        raise AttributeError(name)
    _withdraw(stand_in)
    return getattr(import_module(COMPILER), name)


def _unchanged(function: Callable[..., Any], *_: Any, **__: Any) -> Callable[..., Any]:
    """Keep a function from being compiled, which nobody does here."""
    return function


with hidden("torchvision", "scipy", "matplotlib"), without_compiler(), own_warnings():
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment, find_free_network_port
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.utilities.exceptions import MisconfigurationException
    from pytorch_lightning import LightningModule, Trainer, seed_everything
    from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
    from pytorch_lightning.strategies import DDPStrategy

__all__ = [
    "CSVLogger",
    "DDPStrategy",
    "LightningEnvironment",
    "LightningModule",
    "MisconfigurationException",
    "TensorBoardLogger",
    "TorchElasticEnvironment",
    "Trainer",
    "find_free_network_port",
    "seed_everything",
]
