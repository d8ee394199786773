"""Where a finished run can be shown: W&B, TensorBoard, MLflow or a plain CSV.

A tracker works from the files that a run left, so that the end of a run and a later
``python -m gpsweep.track DIR`` show the same.
"""

from __future__ import annotations

import warnings
from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpsweep import config
from gpsweep.errors import GpsweepError, one_line
from gpsweep.trackers import again

MULTIRUN = "multirun.yaml"  # what Hydra leaves in the folder of a sweep


class Tracker(Protocol):
    """Shows finished runs somewhere."""

    def check(self) -> None:
        """Check before any heavy work that :meth:`log` can be expected to succeed.

        Raises:
            GpsweepError: if it cannot.
        """

    def log(self, folder: Path, *, sweep: Path | None = None) -> str:
        """Show a finished run.

        Args:
            folder: the run's folder.
            sweep: the folder of the sweep that the run belongs to, if any.

        Returns:
            what the terminal says: where the run is to be seen.

        Raises:
            GpsweepError: if the folder does not hold a whole run.
        """


def build(node: DictConfig | None) -> Tracker | None:
    """Make the tracker that a configuration describes, and check it.

    Args:
        node: the configuration under ``tracker``; None for no tracker.

    Raises:
        GpsweepError: if it cannot be made, or could not show a run.
    """
    if node is None:
        return None
    if "_target_" not in node:
        raise GpsweepError(f"tracker={node}: expected the name of a tracker, as in tracker=csv")
    tracker: Tracker = config.instance(node, "tracker")
    if "." not in again.name(tracker):
        tracker = typed(tracker)
    tracker.check()
    return tracker


def typed(tracker: Any) -> Any:
    """Return a tracker of ours with its settings as its fields declare them: a project called 2024 is text.

    Raises:
        GpsweepError: naming what cannot be read so.
    """
    try:
        return OmegaConf.to_object(OmegaConf.structured(tracker))
    except OmegaConfBaseException as error:
        key = str(error.full_key).partition("[")[0]
        kinds = {field.name: field.type for field in fields(tracker)}
        raise GpsweepError(f"tracker.{key}={getattr(tracker, key)}: expected {kinds[key]}") from None


def sweep_of(folder: Path) -> Path | None:
    """Return the folder of the sweep that a run belongs to, which Hydra marks; None for a run by itself."""
    marked = (parent for parent in folder.resolve().parents if (parent / MULTIRUN).is_file())
    return next(marked, None)


def send(tracker: Tracker, folder: Path) -> str | None:
    """Show a finished run, and never fail: its files are whole, and it can be sent again.

    Returns:
        what the terminal says; None where a warning said what went wrong.
    """
    try:
        return tracker.log(folder, sweep=sweep_of(folder))
    except Exception as error:  # a tracker's client fails in its own ways, and none may take the run with it
        warnings.warn(
            f"tracker={again.name(tracker)}: {type(error).__name__}: {one_line(error).removesuffix('.')}. "
            f"The results are whole in {folder}; once it is mended: {again.command(tracker, folder)}",
            stacklevel=2,
        )
        return None


def client(module: str, extra: str) -> Any:
    """Import the library of a tracker.

    Args:
        module: its dotted name.
        extra: what of ``pip install '.[EXTRA]'`` brings it; the tracker's own name.

    Raises:
        GpsweepError: naming what to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise GpsweepError(
            f"tracker={extra}: expected the package {module} ({error}); "
            f"pip install '.[{extra}]' in the checkout"
        ) from None
