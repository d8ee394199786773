"""``python -m gpsweep.fit fit=RECIPE``: trains a small network and writes weights that a run can use."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from gpsweep import composed, config, metrics, quoting, recipe
from gpsweep.atomic import from_here
from gpsweep.command import typed, within_hydra
from gpsweep.console import standard_output
from gpsweep.interrupts import TERMINATE, left_at_once


def show(record: Mapping[str, Any], command: str) -> None:
    """Print the score of each class and of all, and the command that uses the weights.

    Args:
        record: what :func:`gpsweep.fitting.fit` returns.
        command: see :func:`command`.
    """
    from rich import box
    from rich.table import Table

    measure = "IoU %" if metrics.is_segmentation(record["task"]) else "accuracy %"
    held, seconds = record["samples"]["held_out"], record["seconds"]
    table = Table("class", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(measure, justify="right")
    for name, value in record["per_class"].items():
        table.add_row(name, "absent" if value is None else f"{value:.2f}")
    table.add_section()
    table.add_row("score", f"{record['score']:.2f}", style="bold")
    console = standard_output()
    console.print(f"{record['recipe']}: trained in {seconds:.0f} s, scored on {held} held-out samples")
    console.print(table)
    console.print("\nTo sweep it:")
    console.print(command, soft_wrap=True, markup=False)


def command(cfg: DictConfig, choices: Mapping[str, Any], weights: Path, overrides: Sequence[str] = ()) -> str:
    """Return the command that draws the curves of the trained network.

    Args:
        cfg: the recipe.
        choices: the names of its data and model.
        weights: what it was trained to.
        overrides: how the recipe was called; what it says of data and network holds for the command as well,
            save that a training on few images is no reason to judge on few.
    """
    labels = "knn" if cfg.model.get("features") else "argmax,random_onehot,uniform,top2"
    parts = ["python", "-m", "gpsweep", "-m", f"eps={cfg.eps}", f"label={labels}"]
    parts += [
        f"data={choices['data']}",
        f"model={choices['model']}",
        f"model.checkpoint={quoting.written(str(from_here(weights)))}",
    ]
    own, not_own = ("data.", "+data.", "model.", "+model."), ("data.limit=", "model.checkpoint=")
    parts += [each for each in overrides if each.startswith(own) and not each.startswith(not_own)]
    return shlex.join(parts)


recipe.register()


@hydra.main(version_base="1.3", config_path=config.conf_folder(), config_name="fit")
def main(cfg: DictConfig) -> float:
    """Train the recipe that the command line names; a mistake of the user's ends in one message."""
    hydra_cfg = HydraConfig.get()
    folder = Path(hydra_cfg.runtime.output_dir)
    with within_hydra(), left_at_once(TERMINATE):
        composed.check_builds_on_ours(cfg, "fit", hydra_cfg)
        from gpsweep.fitting import fit  # what is asked for help is not to wait for PyTorch

        record = fit(cfg, folder)
        overrides = list(hydra_cfg.overrides.task)
        show(record, command(cfg, hydra_cfg.runtime.choices, folder / recipe.WEIGHTS, overrides))
    return float(record["score"])


def cli() -> None:
    """Run the command line."""
    read = partial(quoting.quoted, primary="fit")
    typed(main, "no weights were written, and the same command begins anew", read)


if __name__ == "__main__":
    cli()
