"""``python -m gpsweep.track DIR tracker=wandb``: shows finished runs in a tracker, say from a login node."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf.errors import OmegaConfBaseException

from gpsweep import config, quoting, record, results, trackers
from gpsweep.command import told
from gpsweep.errors import GpsweepError


@told(
    *(HydraException, OmegaConfBaseException, OSError),
    kept="what was sent stays, and the same command sends every run again",
)
def main(arguments: Sequence[str] | None = None) -> int:
    """Show the runs of the folder named on the command line; of a sweep's shards with the same results one.

    A run that fails does not keep others back.
    """
    parser = argparse.ArgumentParser(
        prog="python -m gpsweep.track",
        description="Show finished runs in a tracker.",
        epilog="example: python -m gpsweep.track outputs/sweep tracker=wandb tracker.mode=online",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="a run's folder, or a folder of runs")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="+", help="tracker=NAME and its settings")
    options = parser.parse_args(arguments)
    failed = 0
    # Lightning's loggers take it from RANK, SLURM_PROCID, …, which may count commands of their own.
    rank_zero_only.rank = 0  # type: ignore[attr-defined]
    tracker = build(options.overrides)
    runs = results.runs(options.folder)
    sent: list[tuple[Path | None, record.Record]] = []
    for folder in runs:
        note, sweep = note_of(folder), trackers.sweep_of(folder)
        if note and any(sweep and sweep == other and note.same_as(shard) for other, shard in sent):
            continue
        try:
            named = None if folder == options.folder else options.folder
            print(tracker.log(folder, sweep=sweep or named))
        except Exception as error:  # the clients of trackers fail in their own ways
            print(f"gpsweep: {folder}: {error}", file=sys.stderr)
            failed = 1
            continue
        if note is not None:
            sent.append((sweep, note))
    return failed


def note_of(folder: Path) -> record.Record | None:
    """Return what a run noted about itself; None where it did not."""
    try:
        return record.read(folder / record.RECORD)
    except GpsweepError:
        return None


def build(overrides: Sequence[str]) -> trackers.Tracker:
    """Make and check the tracker that overrides such as ``tracker=wandb tracker.mode=online`` describe.

    Raises:
        GpsweepError: if they name none, or one that cannot be made.
    """
    with initialize_config_dir(config.conf_folder(), version_base="1.3"):
        cfg = compose("track", overrides=quoting.quoted(overrides, "track"))
    tracker = trackers.build(cfg.tracker)
    if tracker is None:
        raise GpsweepError("tracker=none: expected a tracker, such as tracker=wandb")
    return tracker


if __name__ == "__main__":
    sys.exit(main())
