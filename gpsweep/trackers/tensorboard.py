"""TensorBoard: scalars over ε, whose step is ε in thousandths, or finer."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpsweep.atomic import from_here, located
from gpsweep.trackers import client
from gpsweep.trackers.content import Tracked, below, flat, place, tracked

if TYPE_CHECKING:
    import numpy as np

BEST = ("eps", "score", "delta")


@dataclass(frozen=True, kw_only=True)
class TensorBoard:
    """Tracker ``tensorboard``.

    Args:
        dir: of the event files, whose folders are named by sweep and run; None: ``tensorboard/`` in the
            sweep's folder, else the run's.
    """

    dir: str | None = None

    def check(self) -> None:
        """Check that the library is there.

        Raises:
            GpsweepError: if not.
        """
        client("tensorboard", "tensorboard")

    def log(self, folder: Path, *, sweep: Path | None = None) -> str:
        """Write the curves, best points, table and pictures of a finished run as events."""
        self.check()
        from gpsweep.lightning import TensorBoardLogger

        content = tracked(folder)
        root = located(self.dir) if self.dir else (sweep or folder) / "tensorboard"
        # A folder of one's own choice may be that of other sweeps too, whose jobs have the same numbers.
        target = root / (place(folder, sweep) if self.dir else below(folder, sweep))
        # Sent again, a run takes the place of itself; Lightning writes no hparams.yaml where there is one.
        for left in (*target.glob("events.out.tfevents.*"), target / "hparams.yaml"):
            left.unlink(missing_ok=True)
        logger = TensorBoardLogger(target.parent, name="", version=target.name)
        best = {f"best/{name}/{key}": record[key] for name, record in content.best.items() for key in BEST}
        held = {f"held/{key}": value for key, value in content.held.items() if not isinstance(value, str)}
        logger.log_hyperparams(flat(content.config), metrics={"base": content.base, **best, **held})
        steps = content.steps()
        for row in content.rows():
            logger.log_metrics(row, step=steps[row["eps"]])
        writer = logger.experiment
        writer.add_text("best points", markdown(content))
        for name, path in content.pictures.items():
            writer.add_image(name, picture(path), dataformats="HWC")
        logger.finalize("success")
        return f"TensorBoard: tensorboard --logdir {shlex.quote(str(from_here(root)))}"


def markdown(content: Tracked) -> str:
    """Return the best point of each curve as a table in Markdown."""
    heads = ("curve", *BEST, "delta_low", "delta_high", "cost", "helps")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, record in content.best.items():
        lines.append(f"| {' | '.join([name, *(str(record.get(key, '')) for key in heads[1:])])} |")
    return "\n".join(lines)


def picture(path: Path) -> np.ndarray[Any, Any]:
    """Return the pixels of a PNG, ``(H, W, 3)``, 0 to 255."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
