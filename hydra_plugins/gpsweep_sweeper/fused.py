"""The fused sweeper: sweeps over the axes of a grid become lists within one job, one gradient for the curve.

``eps=range(-1,1,0.05) label=argmax,uniform model=a,b`` makes two jobs, ``model=a`` and ``model=b``, each with
``eps=[-1.0,-0.95,…]`` and ``label=[argmax,uniform]``. Other sweeps, and every launcher, work as ever.
"""

# No postponed annotations here: Hydra runs plugins before they are in sys.modules, where dataclasses would
# look for the names in them.

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, RangeSweep
from hydra.errors import CompactHydraException
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from gpsweep.command import within_hydra
from gpsweep.errors import GpsweepError
from gpsweep.interrupts import TERMINATE, WARNINGS, left_at_once
from gpsweep.points import AXES, decimal_range


class FusedSweeper(BasicSweeper):
    """Basic sweeper that leaves the axes of a grid to the job, and lets every job run."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher that the configuration names.

        Raises:
            CompactHydraException: if it cannot be made.
        """
        from gpsweep import jobs  # not for every program of Hydra's that looks at its plugins

        try:
            super().setup(hydra_context=hydra_context, task_function=jobs.Noted(task_function), config=config)
        except (RuntimeError, OmegaConfBaseException) as error:
            launcher = config.hydra.runtime.choices["hydra/launcher"]
            raise CompactHydraException(f"gpsweep: {jobs.not_made(launcher, error)}") from None
        assert self.launcher is not None
        self.launcher = self.every_job = jobs.EveryJob(self.launcher, fresh=bool(config.get("fresh")))

    def sweep(self, arguments: list[str]) -> Any:
        """Rewrite the overrides and sweep over what is left.

        Raises:
            CompactHydraException: if the sweep cannot begin, or naming the jobs that failed.
        """
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        overrides = parser.parse_overrides([*self._parse_config(), *arguments])
        self.params = {}
        with within_hydra(), left_at_once(TERMINATE, *WARNINGS):  # between jobs as within them
            if self.max_batch_size is not None and self.max_batch_size < 1:
                raise GpsweepError(
                    f"hydra.sweeper.max_batch_size={self.max_batch_size}: expected at least 1, or null"
                )
            returned = super().sweep(fuse(overrides))
            self.every_job.conclude()
            return returned

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose every job before the first one runs; one that runs here is composed at once anyway.

        Raises:
            GpsweepError: if two of them, of whichever batches, would write to one folder; if one would sweep
                itself.
        """
        from gpsweep.quoting import distinct

        assert self.overrides is not None
        every = [overrides for each in self.overrides for overrides in each]
        if self.batch_index > 1 or (len(every) == 1 and isinstance(self.every_job.launcher, BasicLauncher)):
            return
        assert self.hydra_context is not None
        assert self.config is not None
        folders = set()
        for number, overrides in enumerate(every):
            job = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(job):
                job.hydra.job.num, job.hydra.job.id = number, str(number)  # which launchers would set
            if job.hydra.sweeper.get("params") != self.config.hydra.sweeper.get("params"):
                raise GpsweepError(
                    f"{distinct(every)[number]}: is itself a sweep, by hydra.sweeper.params; expected a "
                    "command for each, as in +sweeps=fig8"
                )
            folder = Path(job.hydra.sweep.dir, job.hydra.sweep.subdir)
            if folder in folders:
                raise GpsweepError(
                    f"hydra.sweep.subdir={job.hydra.sweep.subdir}: expected a folder for each of "
                    f"{len(every)} jobs, such as ${{hydra.job.num}}"
                )
            folders.add(folder)


def fuse(overrides: Iterable[Override]) -> list[str]:
    """Return the overrides as text, sweeps over axes of the grid as lists with exact decimals.

    Raises:
        GpsweepError: for an interval, which has no points, and a glob, which has no files to match.
    """
    return [_fused(override) for override in overrides]


def _fused(override: Override) -> str:
    line = override.input_line
    assert line is not None
    if not override.is_sweep_override():
        return line
    key, value = override.get_key_element(), override.value()
    if override.key_or_group not in AXES:
        from gpsweep.quoting import quoted

        if isinstance(value, RangeSweep):
            _decimals(key, value)  # which are not too many
        # What a glob finds may look like a number, and has to be quoted as if it had been typed.
        choices: list[str] = list(override.sweep_string_iterator()) if isinstance(value, Glob) else []
        return quoted([f"{key}={','.join(choices)}"])[0] if choices else line
    if isinstance(value, RangeSweep):
        return f"{key}=[{','.join(_numbers(key, value))}]"
    if isinstance(value, Glob):
        raise GpsweepError(f"{line}: expected values, as in {key}=a,b; glob finds the files of a group alone")
    if not override.is_discrete_sweep():
        raise GpsweepError(f"{line}: expected points, came an interval; write {key}=range(start,stop,step)")
    if isinstance(value, ChoiceSweep) and any(isinstance(each, RangeSweep) for each in value.list):
        ranges = [
            _numbers(key, each)
            if isinstance(each, RangeSweep)
            else [Override._get_value_element_as_str(each)]
            for each in value.list
        ]
        return f"{key}=[{','.join(chain.from_iterable(ranges))}]"
    return f"{key}=[{','.join(override.sweep_string_iterator())}]"


def _decimals(key: str, span: RangeSweep) -> list[float]:
    """Return the numbers of a range as exact decimals."""
    assert span.start is not None and span.stop is not None
    try:
        return decimal_range(span.start, span.stop, span.step)
    except GpsweepError as error:
        raise GpsweepError(f"{key}={error}") from error


def _numbers(key: str, span: RangeSweep) -> list[str]:
    """Return the numbers of a range as exact decimals, or as whole numbers where it is made of such."""
    numbers = _decimals(key, span)
    if not numbers:
        raise GpsweepError(f"{key}=range({span.start},{span.stop},{span.step}): expected values, came none")
    whole = all(isinstance(v, int) for v in (span.start, span.stop, span.step))
    return [str(int(v) if whole else v) for v in numbers]


@dataclass
class FusedSweeperConf:
    """Configuration of ``hydra/sweeper=fused``."""

    _target_: str = "hydra_plugins.gpsweep_sweeper.fused.FusedSweeper"
    max_batch_size: int | None = None
    params: dict[str, str] | None = field(default_factory=dict)  # to be added to on the command line


ConfigStore.instance().store(group="hydra/sweeper", name="fused", node=FusedSweeperConf, provider="gpsweep")
