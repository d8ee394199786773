"""Further processes of a run, one for each further device of this machine.

Lightning would start them by repeating the command line, which a Hydra multirun does not bear: each process
would sweep again. They are given the finished configuration of the job instead.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from torch import distributed

from gpsweep.command import environment, stays
from gpsweep.config import Config
from gpsweep.errors import GpsweepError
from gpsweep.interrupts import INTERRUPT, StoppedRun
from gpsweep.trainer import processes_started

READY = "ready-"
PATIENCE = 10.0  # seconds that a process that is done may take to end
BATCH = 60.0  # seconds for the batch at hand where a scheduler asks for the end


class Ranks:
    """The further processes, and how they fare.

    Args:
        processes: one a rank, from rank 1 on.
        folder: where each says that it is ready.
        fresh: whether the run computes all of it again.
    """

    def __init__(
        self, processes: list[subprocess.Popen[bytes]], folder: Path, *, fresh: bool = False
    ) -> None:
        self.processes, self.folder, self.fresh = processes, folder, fresh

    def wait(self) -> None:
        """Wait until all are ready to meet: a process that waits for one that is dead waits for half an hour.

        Raises:
            GpsweepError: if one has ended before its time.
        """
        while len([*self.folder.glob(f"{READY}*")]) < len(self.processes):
            self.check()
            time.sleep(0.02)

    def check(self) -> None:
        """Look whether all are well.

        Raises:
            GpsweepError: if one has ended before its time.
        """
        for rank, process in enumerate(self.processes, start=1):
            code = process.poll()
            if code:
                raise GpsweepError(
                    f"trainer.devices: process {rank} of {len(self.processes) + 1} ended with code {code}; "
                    f"{stays(fresh=self.fresh)} from there"
                )

    def ask_to_end(self) -> None:
        """Let all end after the batch at hand."""
        for process in self.processes:
            if process.poll() is None:
                process.terminate()

    def end(self, patience: float) -> None:
        """Wait for the end of all, and kill those that take longer than some seconds in all."""
        last = time.monotonic() + patience
        for process in self.processes:
            try:
                process.wait(max(0.0, last - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def further(count: int, cfg: DictConfig, folder: Path) -> Iterator[Ranks]:
    """Run ``count`` − 1 further processes beside this one while the block runs.

    Args:
        count: processes in all, this one being the first.
        cfg: the job's configuration.
        folder: the run's folder.
    """
    if count < 2 or processes_started():
        yield Ranks([], folder)
        return
    from gpsweep.lightning import find_free_network_port

    meeting = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_free_network_port()),
        "NODE_RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": str(count),
    }
    with environment(meeting), tempfile.TemporaryDirectory(prefix="gpsweep-") as place:
        path = Path(place) / "config.yaml"
        values = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(values, dict)
        # Keys of the user's own are there for those that refer to them, and resolved by now.
        known = {one.name: values[one.name] for one in fields(Config)}
        path.write_text(OmegaConf.to_yaml(OmegaConf.create(known)), encoding="utf-8")
        command = [sys.executable, "-m", "gpsweep.rank", str(path), str(folder)]
        ranks = Ranks([], path.parent, fresh=cfg.fresh)
        try:
            for rank in range(1, count):
                own = os.environ | {"LOCAL_RANK": str(rank)}
                ranks.processes.append(subprocess.Popen(command, env=own))
            yield ranks
            ranks.end(PATIENCE)
        except BaseException as error:
            if isinstance(error, StoppedRun) and error.signum != INTERRUPT:
                ranks.ask_to_end()
                ranks.end(BATCH)
            ranks.end(0)
            raise
        finally:
            # The next job of a sweep meets processes of its own.
            if distributed.is_available() and distributed.is_initialized():
                distributed.destroy_process_group()


def ready(config: Path) -> None:
    """Let the first process know that this one is ready to meet the others.

    Args:
        config: the file that this process was started with.
    """
    (config.parent / f"{READY}{os.environ['LOCAL_RANK']}").touch()
