"""The folder a run writes to: checked before Hydra makes it, so that a mistake ends in one message."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpsweep.atomic import check_writable, located
from gpsweep.command import failed
from gpsweep.errors import GpsweepError

ROOM = 2**16  # bytes; more than Hydra writes, which ends in a traceback where it cannot


class OutputFolder(Callback):
    """Ends a command whose output folder cannot be written, before anything is computed."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the folder of a single run."""
        self._check(config, "hydra.run.dir")

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the folder of a sweep."""
        self._check(config, "hydra.sweep.dir")

    def _check(self, config: DictConfig, key: str) -> None:
        try:
            folder = Path(OmegaConf.select(config, key))
            if located(folder) != folder:
                raise GpsweepError(f"{key}={folder}: Hydra does not look ~ up; expected {located(folder)}")
            check_writable(folder, key, room=ROOM)
        except (GpsweepError, OmegaConfBaseException) as error:
            # Hydra turns what a callback raises into a warning and goes on; an exit it lets pass.
            sys.exit(failed(error))
