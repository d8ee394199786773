"""The MLflow run, read back with MLflow's own client."""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from finished import CONFIG, Finished, write

from gpsweep import results
from gpsweep.errors import GpsweepError
from gpsweep.trackers import mlflow
from gpsweep.trackers.mlflow import LONGEST, MLflow, quiet


@pytest.fixture(autouse=True)
def installed() -> None:
    """Here, since to import it takes seconds: only the process that runs these tests shall pay."""
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")


def client(folder: Path) -> Any:
    from mlflow import MlflowClient

    with quiet():
        return MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


def runs(store: Any, project: str = "gpsweep") -> list[Any]:
    return list(store.search_runs([store.get_experiment_by_name(project).experiment_id]))


def test_every_number_of_the_tables(finished: Finished, capfd: pytest.CaptureFixture[str]) -> None:
    finished.note(config=f"{CONFIG}long: {'x' * 9000}\n")
    line = MLflow(tags={"purpose": "test"}).log(finished.folder)
    assert line == f"MLflow: mlflow ui --backend-store-uri sqlite:///{finished.folder / 'mlflow.db'}"
    assert capfd.readouterr() == ("", "")
    store = client(finished.folder)
    [run] = runs(store)
    expected, seen = finished.expected(), 0
    for key in {f"{curve}/{key}" for (curve, _), numbers in expected.items() for key in numbers}:
        curve, measure = "/".join(key.split("/")[:3]), "/".join(key.split("/")[3:])
        for metric in store.get_metric_history(run.info.run_id, key):
            assert metric.value == expected[curve, metric.step / 1000][measure]
            seen += 1
    assert seen == sum(map(len, expected.values()))
    assert (run.info.status, run.info.run_name) == ("FINISHED", "smp-Unet-resnet18 on camvid")
    assert (run.data.tags["purpose"], run.data.params["model.net.arch"]) == ("test", "Unet")
    assert len(run.data.params["long"]) == LONGEST
    top = max(
        (row for row in finished.rows() if row["label"] != "ground_truth"), key=lambda r: float(r["score"])
    )
    assert run.data.metrics["best/delta"] == float(top["delta"])
    files = {entry.path for entry in store.list_artifacts(run.info.run_id)}
    assert {"results.csv", "per_class.csv", "summary.json", "curves.png", "best"} <= files


def test_the_copies_it_keeps_are_no_runs(sweep: Path) -> None:
    MLflow().log(sweep / "0", sweep=sweep)
    assert len(list(sweep.glob("mlartifacts/**/results.csv"))) == 1
    assert results.runs(sweep) == [sweep / "0", sweep / "1"]


def test_sweeps_that_share_a_store_keep_files_and_lock_beside_it(
    two_sweeps: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock, Timeout

    file = tmp_path / "shared" / "all.db"
    one, other = two_sweeps
    MLflow(uri=f"sqlite:///{file}").log(one / "0", sweep=one)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{file}")
    MLflow().log(other / "0", sweep=other)
    assert [path.name for sweep in two_sweeps for path in sweep.iterdir()] == ["0", "0"]
    assert len(list(file.parent.glob("mlartifacts/**/results.csv"))) == 2
    monkeypatch.setattr(mlflow, "WAIT_S", 0.1)
    with FileLock(file.with_name("all.db.lock")), pytest.raises(Timeout):
        MLflow().log(other / "0", sweep=other)


def test_a_gain_on_held_out_images(tmp_path: Path) -> None:
    half = write(tmp_path / "half", info={"select": {"seed": 0}}, label="argmax", eps=[-0.5, 0.5])
    MLflow().log(half.folder)
    store = client(half.folder)
    [run] = runs(store)
    [row] = half.rows("selection.csv")
    assert run.data.metrics["held/delta"] == float(row["held_delta"])
    assert "selection.csv" in {entry.path for entry in store.list_artifacts(run.info.run_id)}


@pytest.mark.slow
def test_jobs_at_once_share_a_store_and_no_run(sweep: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(MLflow().log, sweep / number, sweep=sweep) for number in ("0", "1")]
        for job in jobs:
            job.result()
    found = runs(client(sweep))
    assert len(found) == 2
    assert {run.info.status for run in found} == {"FINISHED"}


def test_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(GpsweepError, match=r"pip install '\.\[mlflow\]' in the checkout"):
        MLflow().check()
