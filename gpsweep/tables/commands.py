"""The commands behind a table: what each row runs, checked as a whole before any of it is run."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpsweep import config, quoting, recipe
from gpsweep.errors import GpsweepError
from gpsweep.mistakes import in_words
from gpsweep.points import decimal_range
from gpsweep.results import decimal
from gpsweep.tables.definition import Row, Variant
from gpsweep.tables.entries import place_at, places_of
from hydra_plugins.gpsweep_sweeper.fused import fuse

TRAINING = "fit."
SHARED = "data.root="
HARMLESS = re.compile(
    r"(data\.(root|sbd|images|masks|labels|workers|tune_split|groups)|store|knn\.cache|fresh|select|progress|accelerator"
    r"|points_per_forward|memory_format|(trainer|tracker|hydra)([./].+)?)"
)
"""Keys that leave a run the same experiment: where data lie, how it is run, and how ε is held out.

Others do not, ``model.checkpoint`` among them, as no file of the user's is known to be the paper's, and
``data.batch_size``, as images of several sizes are padded in one batch.
"""


@dataclass(frozen=True)
class Job:
    """One run behind a row.

    Args:
        key: of the row.
        row: what it is.
        overrides: of ``python -m gpsweep``.
        folder: where it goes.
        seed: of the training, for a row with ``fit``.
        training: overrides of ``python -m gpsweep.fit``, likewise.
        altered: the user's overrides that make it, or its training, another experiment than the row's.
    """

    key: str
    row: Row
    overrides: tuple[str, ...]
    folder: Path
    seed: int | None = None
    training: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the user calls it."""
        return self.row.name if self.seed is None else f"{self.row.name}, seed {self.seed}"

    @property
    def fitted(self) -> Path:
        """The folder of its training."""
        return _fitted(self.folder)

    @cached_property
    def cfg(self) -> DictConfig:
        """What its overrides compose to."""
        return composed(self.overrides)

    @cached_property
    def recipe(self) -> DictConfig | None:
        """What those of its training compose to; None for a row without ``fit``."""
        return composed(self.training, "fit") if self.row.fit else None

    def command(self) -> list[str]:
        """Return the command of its run."""
        return [
            sys.executable,
            "-m",
            "gpsweep",
            "-m",
            *self.overrides,
            f"hydra.sweep.dir={quoting.written(str(self.folder))}",
        ]

    def training_command(self) -> list[str]:
        """Return the command of its training."""
        where = f"hydra.run.dir={quoting.written(str(self.fitted))}"
        return [sys.executable, "-m", "gpsweep.fit", *self.training, where]


def jobs(variant: Variant, out: Path, extra: Sequence[str], seeds: Sequence[int] | None = None) -> list[Job]:
    """Return the runs of a variant, one after the other.

    Args:
        variant: the rows.
        out: the table's folder.
        extra: the user's overrides; those of keys that begin with ``fit.`` are the training's.
        seeds: of the trainings, in place of the variant's.
    """
    found = []
    for key, row in variant.rows.items():
        if row.fit is None:
            found.append(_job(variant, key, row, out / key, extra))
            continue
        for seed in seeds or variant.seeds:
            found.append(_job(variant, key, row, out / f"{key}-seed{seed}", extra, seed))
    return found


def _job(
    variant: Variant, key: str, row: Row, folder: Path, extra: Sequence[str], seed: int | None = None
) -> Job:
    asked = {each: of_training(each) for each in extra}
    own = [each for each in extra if not asked[each]]
    used = extra if row.fit is not None else own
    altered = [each for each in used if not HARMLESS.fullmatch(_key(asked[each] or each))]
    lines = ["select=half", *variant.run, *row.run, *_eps(variant, row)]
    training: list[str] = []
    if row.fit is not None:
        lines.append(f"model.checkpoint={quoting.written(str(_fitted(folder) / recipe.WEIGHTS))}")
        shared = [each for each in own if each.startswith(SHARED)]
        training = merged([f"fit={row.fit}", f"seed={seed}", *shared, *filter(None, asked.values())])
    return Job(key, row, tuple(merged([*lines, *own])), folder, seed, tuple(training), tuple(altered))


def _fitted(folder: Path) -> Path:
    """Return the folder of the training of a run in a folder."""
    return folder.with_name(f"{folder.name}-fit")


def check(jobs: Iterable[Job]) -> None:
    """Compose what all runs and trainings are given, and look for the curve of each line.

    Raises:
        GpsweepError: if one cannot be composed, or has not the one curve that a line is to show.
    """
    from gpsweep.parts import grid_of

    for job in jobs:
        points, _ = grid_of(job.cfg).points(), job.recipe  # which is composed for its mistakes alone
        for line in () if job.row.submit else job.row.lines:
            try:
                chosen, _ = places_of(points, line.where)
                if line.eps is not None:
                    place_at([points[place] for place in chosen], line.eps)
            except GpsweepError as error:
                title = f"{job.name}, {line.name}" if line.name else job.name
                raise GpsweepError(f"{title}: {error}") from None


def merged(overrides: Iterable[str]) -> list[str]:
    """Let later overrides of a key take the place of earlier ones.

    >>> merged(["eps=[0,1]", "label=knn", "eps=[0,2]"])
    ['eps=[0,2]', 'label=knn']
    """
    return list({_key(override): override for override in overrides}.values())


def of_training(override: str) -> str:
    """Return what an override tells the trainings; empty for one of the runs.

    >>> of_training("fit.epochs=4"), of_training("+fit.train.limit=8"), of_training("data.limit=8")
    ('epochs=4', '+train.limit=8', '')
    """
    return override.replace(TRAINING, "", 1) if _key(override).startswith(TRAINING) else ""


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+")


def composed(overrides: Sequence[str], name: str = "config") -> DictConfig:
    """Compose a configuration in this process.

    Args:
        overrides: as typed; sweeps over axes of the grid become lists.
        name: of its primary file, ``config`` or ``fit``.

    Raises:
        GpsweepError: if it cannot be.
    """
    if name == "fit":
        recipe.register()
    config.register()
    try:
        parsed = OverridesParser.create().parse_overrides(quoting.quoted(overrides, name))
        single = fuse(parsed)
        with initialize_config_dir(config.conf_folder(), version_base="1.3"):
            return compose(name, overrides=single)
    except (HydraException, OmegaConfBaseException) as error:
        raise GpsweepError(in_words(error)) from None


def comparable(recipe: Any) -> Any:
    """Return what of a recipe decides which weights come of it: not where data lie, say."""
    plain = OmegaConf.to_container(recipe, resolve=True) if isinstance(recipe, DictConfig) else recipe
    return _without(plain, "root", "progress", "accelerator", "eps")


def _without(value: Any, deep: str, *keys: str) -> Any:
    """Return a mapping without some keys, one of them at any depth; anything else as it is."""
    if not isinstance(value, dict):
        return value
    return {key: _without(each, deep) for key, each in value.items() if key not in (deep, *keys)}


def _eps(variant: Variant, row: Row) -> list[str]:
    """Write the ε of a row as an override: its range, and what its lines name."""
    bounds = row.eps or variant.eps
    named = {line.eps for line in row.lines if line.eps is not None}
    if bounds is None:
        values = {0.0} | named
    else:
        first, last, step = bounds
        values = set(decimal_range(first, last + step / 2, step)) | named
    return [f"eps=[{','.join(decimal(value) for value in sorted(values))}]"]
