"""gpsweep: one gradient, the whole ε-curve of Guided Perturbations."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("gpsweep")
except PackageNotFoundError:  # a checkout on PYTHONPATH
    __version__ = "0+checkout"
