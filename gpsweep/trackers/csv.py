"""Lightning's CSV: one row an ε, all curves side by side."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpsweep.atomic import located
from gpsweep.trackers.content import flat, place, tracked


@dataclass(frozen=True, kw_only=True)
class Csv:
    """Tracker ``csv``.

    Args:
        dir: of the folders where ``metrics.csv`` and ``hparams.yaml`` go, one a run, below its sweep's name;
            None: ``csv/`` in the run's folder.
    """

    dir: str | None = None

    def check(self) -> None:
        """Nothing can be missing: Lightning is always there."""

    def log(self, folder: Path, *, sweep: Path | None = None) -> str:
        """Write the curves of a finished run."""
        from gpsweep.lightning import CSVLogger

        content = tracked(folder)
        target = located(self.dir) / place(folder, sweep) if self.dir else folder / "csv"
        for left in ("metrics.csv", "hparams.yaml"):
            (target / left).unlink(missing_ok=True)
        steps = content.steps()
        logger = CSVLogger(
            target.parent, name="", version=target.name, flush_logs_every_n_steps=len(steps) + 1
        )
        logger.log_hyperparams(flat(content.config))
        for row in content.rows():
            logger.log_metrics(dict(row), step=steps[row["eps"]])
        logger.finalize("success")
        return f"CSV: {target / 'metrics.csv'}"
