"""MLflow: one MLflow run a gpsweep run, whose step is ε in thousandths, or finer."""

from __future__ import annotations

import logging
import os
import shlex
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import time
from typing import Any, TypeVar

from gpsweep.trackers import client
from gpsweep.trackers.content import Tracked, flat, tracked

PARAMS, METRICS = 100, 1000  # what MLflow takes at once
LONGEST = 500  # of a parameter's text, also in older stores
STORE, WAIT_S = "mlflow.db", 300

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class MLflow:
    """Tracker ``mlflow``.

    Args:
        project: MLflow's experiment.
        uri: of the tracking server or store; None: ``$MLFLOW_TRACKING_URI``, else ``mlflow.db`` in the
            sweep's folder, or the run's. Files of a run lie beside an SQLite store, in ``mlartifacts/``.
        name: of the run; None: the model and the data set.
        tags: of the run.
    """

    project: str = "gpsweep"
    uri: str | None = None
    name: str | None = None
    tags: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Check that the library is there.

        Raises:
            GpsweepError: if not.
        """
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        client("mlflow", "mlflow")
        client("sqlalchemy", "mlflow")

    def log(self, folder: Path, *, sweep: Path | None = None) -> str:
        """Show a finished run: metrics over ε, parameters, best points, tables and pictures."""
        self.check()
        from mlflow import MlflowClient

        content = tracked(folder)
        beside = f"sqlite:///{(sweep or folder).resolve() / STORE}"
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or beside
        file = database(uri)
        with quiet(), alone(file) if file else nullcontext():
            store = MlflowClient(tracking_uri=uri)
            experiment, title = experiment_id(store, self.project, file), self.name or content.name
            run = store.create_run(experiment, run_name=title, tags=dict(self.tags)).info.run_id
            status = "FAILED"
            try:
                fill(store, run, content)
                status = "FINISHED"
            finally:
                store.set_terminated(run, status)
        if file:
            return f"MLflow: mlflow ui --backend-store-uri {shlex.quote(uri)}"
        return f"MLflow: run {run} of experiment {self.project} at {uri}"


def database(uri: str) -> Path | None:
    """Return the file of an SQLite store, which whoever writes to it shares; None for a server."""
    from sqlalchemy.engine import make_url

    return Path(make_url(uri).database or ":memory:").resolve() if uri.startswith("sqlite") else None


def alone(file: Path) -> AbstractContextManager[Any]:
    """Keep others who use a database waiting: MLflow sets it up and upgrades it without a lock."""
    from filelock import FileLock

    return FileLock(file.with_name(f"{file.name}.lock"), timeout=WAIT_S)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep MLflow from telling how it sets up a database, and from its libraries' deprecations."""
    log = logging.getLogger("mlflow")
    before = log.level
    log.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        log.setLevel(before)


def experiment_id(store: Any, name: str, file: Path | None) -> str:
    """Return the id of an experiment, made if it is new; a store in a file keeps its artifacts beside it."""
    from mlflow.exceptions import MlflowException

    known = store.get_experiment_by_name(name)
    if known is None:
        try:
            return str(store.create_experiment(name, file and file.with_name("mlartifacts").as_uri()))
        except MlflowException:  # another job of the sweep was quicker
            known = store.get_experiment_by_name(name)
            if known is None:
                raise
    return str(known.experiment_id)


def fill(store: Any, run: str, content: Tracked) -> None:
    """Log everything of a run."""
    from mlflow.entities import Metric, Param

    settings = flat(content.config).items()
    params = [Param(key, str(value)[:LONGEST]) for key, value in settings]
    now, steps = int(1000 * time()), content.steps()
    metrics = [
        Metric(key, value, now, steps[row["eps"]]) for row in content.rows() for key, value in row.items()
    ]
    metrics += [
        Metric(key, float(value), now, steps[content.top["eps"]])
        for key, value in content.headline().items()
        if key not in ("base", "samples") and not isinstance(value, str)
    ]
    for some in chunks(params, PARAMS):
        store.log_batch(run, params=some)
    for each in chunks(metrics, METRICS):
        store.log_batch(run, metrics=each)
    for name, record in content.best.items():
        store.log_dict(run, record, f"best/{name.replace('/', ' ')}.json")
    for path in (*content.files, *content.pictures.values()):
        store.log_artifact(run, str(path))


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into parts of at most ``size``."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
