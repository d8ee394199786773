"""``python -m gpsweep``: one run, or with ``-m`` a sweep of runs."""

from __future__ import annotations

import gc
import shlex
import sys
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gpsweep import composed, config, quoting, trackers
from gpsweep.command import stays, though_unread, typed, within_hydra
from gpsweep.interrupts import TERMINATE, WARNINGS, StoppedRun, hand_on, left_at_once

config.register()


@hydra.main(version_base="1.3", config_path=config.conf_folder(), config_name="config")
def main(cfg: DictConfig) -> float | None:
    """Run the composed configuration; a mistake of the user's ends in one message."""
    # Imports make hundreds of thousands of objects and no garbage: looking for some costs half a second.
    gc.disable()
    with within_hydra(), left_at_once(TERMINATE, *WARNINGS):
        return one(cfg)


def one(cfg: DictConfig) -> float | None:
    """Compute one configuration, write and show its results, and return the best score."""
    composed.check_builds_on_ours(cfg, "config", HydraConfig.get())
    composed.check_values(cfg)
    tracker = trackers.build(cfg.tracker)
    from gpsweep import report, results
    from gpsweep.report.terminal import best_table
    from gpsweep.run import run

    gc.enable()
    folder = Path(HydraConfig.get().runtime.output_dir)
    try:
        outcome = run(cfg, folder, command())
        if outcome is None:
            return None
        findings = results.write(outcome, folder)
        report.write(findings, folder)
    except StoppedRun as stop:
        stop.tell(stays(fresh=cfg.fresh))
        hand_on(stop.signum)
        raise
    with though_unread():
        best_table(findings, folder)
    line = trackers.send(tracker, folder) if tracker else None
    if line:
        with though_unread():
            print(line)
    return float(findings.rows["score"].max())


def cli() -> None:
    """Run the command line."""
    typed(main, stays(fresh="fresh=true" in sys.argv), quoting.quoted)


def command() -> str:
    """Return the command line as one would type it again."""
    return shlex.join(["python", "-m", "gpsweep", *sys.argv[1:]])


if __name__ == "__main__":
    cli()
