"""gpsweep: one gradient, the whole ε-curve of Guided Perturbations.

``gpsweep.engine.curve`` draws a curve for any ``nn.Module``; ``gpsweep.results.load`` reads a finished run.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

try:
    __version__ = version("gpsweep")
except PackageNotFoundError:  # a checkout on PYTHONPATH
    __version__ = "0+checkout"

# Imported on first use: the command line must not wait for what it does not need.
LAZY = ("engine", "results")


def __getattr__(name: str) -> ModuleType:
    if name in LAZY:
        return import_module(f"gpsweep.{name}")
    raise AttributeError(f"module 'gpsweep' has no attribute {name!r}")
