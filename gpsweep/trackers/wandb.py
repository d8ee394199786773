"""Weights & Biases: one run shows all curves of a gpsweep run over ε."""

from __future__ import annotations

import os
import shlex
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from math import inf
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from gpsweep import results
from gpsweep.atomic import from_here, located
from gpsweep.command import environment
from gpsweep.errors import GpsweepError, one_line, unknown
from gpsweep.points import AXES
from gpsweep.trackers import client
from gpsweep.trackers.content import Record, Tracked, group_name, measures, place, tracked

if TYPE_CHECKING:
    from wandb import Run

MODES = ("offline", "online")
PROJECT = "gpsweep"
UPLOAD_S = 600  # how long a run that is online may take to upload the rest


@dataclass(frozen=True, kw_only=True)
class Wandb:
    """Tracker ``wandb``.

    Args:
        project: the project; None: ``$WANDB_PROJECT``, else ``gpsweep``.
        entity: a user or team; None: your default one.
        mode: ``offline`` writes a folder that ``wandb sync`` sends; ``online`` needs a key.
        group: None: ``$WANDB_RUN_GROUP``, else the sweep's folder.
        tags: of the run; none: ``$WANDB_TAGS``, commas between them.
        name: of the run; None: ``$WANDB_NAME``, else the model and the data set.
        per_point: one W&B run a point, grouped, in place of one for all curves.
        dir: where ``wandb/`` lies; None: the sweep's folder, else the run's.
        timeout_s: how long to wait for the network before going on offline.
    """

    project: str | None = None
    entity: str | None = None
    mode: str = "offline"
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    name: str | None = None
    per_point: bool = False
    dir: str | None = None
    timeout_s: float = 20

    def check(self) -> None:
        """Check that the library is there and takes the settings, and a key where one is needed.

        No network is used.

        Raises:
            GpsweepError: if not.
        """
        library = client("wandb", "wandb")
        if self.mode not in MODES:
            raise unknown("tracker.mode", self.mode, MODES)
        if not 0 < self.timeout_s < inf:
            raise GpsweepError(
                f"tracker.timeout_s={self.timeout_s}: expected seconds, a finite number above 0"
            )
        if not isinstance(self.tags, list):
            raise GpsweepError(f"tracker.tags={self.tags}: expected a list, such as tracker.tags=[ablation]")
        full = self.filled()
        try:
            library.Settings(project=full.project, run_tags=full.tags, init_timeout=self.timeout_s)
        except (library.Error, ValueError) as error:
            raise GpsweepError(f"tracker: W&B does not take its settings: {one_line(error)}") from None
        if self.mode == "online":
            log_in()

    def filled(self) -> Wandb:
        """Return the tracker with what it leaves open as W&B's environment variables say."""
        told = os.environ.get
        return replace(
            self,
            project=self.project or told("WANDB_PROJECT") or PROJECT,
            group=self.group or told("WANDB_RUN_GROUP") or None,
            tags=self.tags or [tag for tag in told("WANDB_TAGS", "").split(",") if tag],
            name=self.name or told("WANDB_NAME") or None,
        )

    def log(self, folder: Path, *, sweep: Path | None = None) -> str:
        """Show a finished run: all curves as one W&B run, or one W&B run a point."""
        self.check()
        content, full = tracked(folder), self.filled()
        root = located(self.dir) if self.dir else sweep or folder
        with staging(root):
            if self.per_point:
                return full._log_points(content, root, full.group or place(folder, sweep).as_posix())
            return full._log_curves(content, root, full.group or (group_name(sweep) if sweep else None))

    def _log_curves(self, content: Tracked, root: Path, group: str | None) -> str:
        options = {"name": self.name or content.name, "group": group, "config": settings(content)}
        return self._send(self.mode, root, partial(_fill_curves, content), **options)[1]

    def _log_points(self, content: Tracked, root: Path, group: str) -> str:
        mode = self.mode
        for name, point in zip(content.names, content.points, strict=True):
            options = {
                "name": f"{name} eps={results.decimal(point['eps'])}",
                "group": group,
                "config": settings(content) | {axis: point[axis] for axis in AXES},
            }
            asked = mode
            mode, line = self._send(asked, root, partial(_fill_point, point), **options)
        return line if asked == "online" else f"W&B: {_sync(root / 'wandb', '/offline-run-*')}"

    def _send(self, mode: str, root: Path, fill: Callable[[Run], None], **own: Any) -> tuple[str, str]:
        """Fill a W&B run of its own, and finish it whatever happens.

        Returns:
            the mode to go on in, as one wait for the network is enough, and what the terminal says.
        """
        run = self._open(mode, root, **own)
        mode, line, kept = run.settings.mode, _where(run), _sync(Path(run.settings.sync_dir))
        failed = 1
        try:
            run.define_metric("eps")
            run.define_metric("*", step_metric="eps")
            fill(run)
            failed = 0
        finally:
            whole = finish(run, failed)
        if whole:
            return mode, line
        warnings.warn(
            f"tracker.mode={mode}: W&B has not taken a whole run within {UPLOAD_S} s; for the rest: {kept}",
            stacklevel=4,
        )
        return "offline", f"W&B: {kept}"

    def _open(self, mode: str, root: Path, **own: Any) -> Run:
        """Open a W&B run, offline where W&B does not answer or refuses."""
        import wandb

        root.mkdir(parents=True, exist_ok=True)
        take_agents_id(root)
        options: dict[str, Any] = {
            "project": self.project,
            "entity": self.entity,
            "dir": str(root),
            "tags": list(self.tags),
            "reinit": "create_new",
            "settings": wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                init_timeout=self.timeout_s,
                finish_timeout=UPLOAD_S,
                finish_timeout_raises=True,
                x_disable_machine_info=True,
                x_disable_stats=True,
                x_save_requirements=False,
            ),
            **own,
        }
        try:
            return wandb.init(mode=mode, id=token_hex(8), **options)  # type: ignore[arg-type]
        except wandb.Error as error:
            if mode == "offline":
                raise
            reason = one_line(error).partition(" Consider ")[0]
            warnings.warn(
                f"tracker.mode=online: W&B did not open the run, so it is kept offline ({reason})",
                stacklevel=5,
            )
            return wandb.init(mode="offline", id=token_hex(8), **options)


def log_in() -> None:
    """Log in to W&B as the machine is set up to; no network is used.

    Raises:
        GpsweepError: if there is no key, or W&B takes offence at it or at another setting.
    """
    import wandb

    try:
        # Where the global mode is offline, by WANDB_MODE or `wandb offline`, no key is looked for.
        wandb.setup(wandb.Settings(silent=True, mode="online"))
        known = wandb.login(prompt=False, verify=False)
    except (wandb.Error, ValueError) as error:
        raise GpsweepError(f"tracker.mode=online: W&B cannot log in: {one_line(error)}") from None
    if not known:
        raise GpsweepError(
            "tracker.mode=online: expected a W&B key, came none; wandb login stores one, "
            "WANDB_API_KEY holds one, and tracker.mode=offline needs none"
        )


def finish(run: Run, code: int) -> bool:
    """Finish a run, and say whether its upload was done in time; what it keeps on disk is whole anyway."""
    try:
        run.finish(exit_code=code)
    except TimeoutError:
        return False
    return True


def take_agents_id(root: Path) -> None:
    """Let the id that W&B's sweep agent gave be that of one run; whoever comes later has one of its own.

    W&B takes it for every run of every process that has inherited the agent's environment, as all jobs that
    run at once have.

    Args:
        root: the folder that the jobs of a sweep share.
    """
    import wandb

    name = "WANDB_RUN_ID"
    if not (os.environ.get("WANDB_SWEEP_ID") and os.environ.get(name)):
        return
    taken = root / "wandb" / f"agent-{os.environ[name]}"
    taken.parent.mkdir(exist_ok=True)
    try:
        taken.touch(exist_ok=False)
    except FileExistsError:
        del os.environ[name]
        wandb.teardown()  # it keeps the environment that it has first seen


@contextmanager
def staging(root: Path) -> Iterator[None]:
    """Let W&B keep the tables that wait for a sync beside their runs, not in the home folder.

    Nor is it to advertise its tracing of language models, as it does where a library of theirs is imported.
    """
    ours = {"WANDB_DATA_DIR": str((root / "wandb" / "data").resolve()), "WANDB_DISABLE_WEAVE": "true"}
    with environment({name: os.environ.get(name) or value for name, value in ours.items()}):
        yield


def settings(content: Tracked) -> dict[str, Any]:
    """Return the configuration; in a sweep of W&B's once more as a whole, below a key of its own.

    Its parameters take the place of what is called the same: of a network's settings that is its name.
    """
    return content.config | ({"run": content.config} if os.environ.get("WANDB_SWEEP_ID") else {})


def _fill_curves(content: Tracked, run: Run) -> None:
    for row in content.rows():
        run.log(row)
    run.log({**content.headline(), **_media(content)})
    # W&B's own summary is the last row, the largest ε; a curve is better known by its best point.
    curves = content.curves()
    for name, best in content.best.items():
        known = {"eps": best["eps"], "helps": best["helps"]} | measures(best)
        run.summary.update({f"{name}/{key}": value for key, value in known.items()})
        # What was not measured there would stay another point's.
        for key in {key for point in curves[name] for key in measures(point)} - set(known):
            del run.summary[f"{name}/{key}"]  # type: ignore[no-untyped-call]
    run.summary["eps"] = content.top["eps"]
    run.log_artifact(_files(content, run.id))


def _fill_point(point: Record, run: Run) -> None:
    run.log({key: value for key, value in point.items() if key not in results.CURVE})


def _media(content: Tracked) -> dict[str, Any]:
    """Return the table of all points, the curves as W&B's own line chart, and the pictures."""
    import wandb

    columns = list(dict.fromkeys(key for point in content.points for key in point))
    table = wandb.Table(
        columns=["curve", *columns],
        data=[
            [name, *(point.get(column) for column in columns)]
            for name, point in zip(content.names, content.points, strict=True)
        ],
        allow_mixed_types=True,  # a class that is missing at some points has no score there
    )
    curves = content.curves()
    chart = wandb.plot.line_series(
        xs=[_values(points, "eps") for points in curves.values()],
        ys=[_values(points, "score") for points in curves.values()],
        keys=list(curves),
        title="score over ε",
        xname="eps",
    )
    pictures = {
        f"pictures/{name}": wandb.Image(str(path), caption=content.captions.get(name))
        for name, path in content.pictures.items()
    }
    return {"points": table, "curves": chart, **pictures}


def _values(points: list[Record], key: str) -> list[float]:
    return [float(point[key]) for point in points]


def _files(content: Tracked, run_id: str) -> Any:
    import wandb

    artifact = wandb.Artifact(f"results-{run_id}", type="results")
    for path in content.files:
        artifact.add_file(str(path))
    return artifact


def _where(run: Run) -> str:
    if run.settings.mode == "online" and run.url:
        return f"W&B: {run.url}"
    return f"W&B: {_sync(Path(run.settings.sync_dir))}"


def _sync(folder: Path, pattern: str = "") -> str:
    """Return the command that sends a run's folder, or what the shell finds in it by a pattern."""
    return f"wandb sync {shlex.quote(str(from_here(folder)))}{pattern}"
