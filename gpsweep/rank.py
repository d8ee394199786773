"""``python -m gpsweep.rank CONFIG FOLDER``: a further process of a run on several devices, see ranks.py."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import warnings
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from gpsweep import config
from gpsweep.errors import GpsweepError
from gpsweep.interrupts import TERMINATE, left_at_once

PR_SET_PDEATHSIG = 1


def main(path: str, folder: str) -> int:
    """Compute and store this process's share of the batches.

    Args:
        path: the configuration, which the first process has written.
        folder: the run's.

    Returns:
        the exit code.
    """
    follow_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the first process, which ends this one
    config.register()
    cfg = OmegaConf.merge(OmegaConf.structured(config.Config), OmegaConf.load(path))
    assert isinstance(cfg, DictConfig)
    warnings.simplefilter("ignore")  # the first process has said it
    from gpsweep import ranks
    from gpsweep.compute import compute
    from gpsweep.parts import parts_of

    try:
        with left_at_once(TERMINATE):
            # What is to be done, the first process says.
            compute(cfg, parts_of(cfg), [], Path(folder), on_ready=lambda: ranks.ready(Path(path)))
    except GpsweepError as error:
        print(f"gpsweep: process {os.environ['LOCAL_RANK']}: {error}", file=sys.stderr)
        return 1
    return 0


def follow_parent() -> None:
    """Die with the first process, however that dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("gpsweep: expected CONFIG FOLDER; trainer.devices=2 starts this beside python -m gpsweep")
    sys.exit(main(*sys.argv[1:]))
