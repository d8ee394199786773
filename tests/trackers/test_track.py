"""``python -m gpsweep.track``: finished folders, sent later."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree, rmtree

import pytest
from finished import Finished
from lightning_utilities.core.rank_zero import rank_zero_only

from gpsweep import record, results
from gpsweep.store import Store
from gpsweep.track import build, main
from gpsweep.trackers.csv import Csv


def test_one_run(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(finished.folder), "tracker=csv"]) == 0
    assert capsys.readouterr() == (f"CSV: {finished.folder / 'csv' / 'metrics.csv'}\n", "")


@pytest.mark.parametrize(
    ("tracker", "pattern"), [("csv", "metrics.csv"), ("tensorboard", "run/events.out.*")]
)
def test_the_command_logs_whatever_number_its_process_has(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, tracker: str, pattern: str
) -> None:
    pytest.importorskip(tracker)
    # As Lightning reads it where it is imported first, of a shell within a job, say.
    monkeypatch.setattr(rank_zero_only, "rank", 1, raising=False)
    assert main([str(finished.folder), f"tracker={tracker}"]) == 0
    assert len(list((finished.folder / tracker).glob(pattern))) == 1


def test_a_folder_of_runs_of_which_one_is_damaged(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep / "0" / "summary.json").write_text("{")
    assert main([str(sweep), "tracker=csv"]) == 1
    out, err = capsys.readouterr()
    assert out == f"CSV: {sweep / '1' / 'csv' / 'metrics.csv'}\n"
    assert str(sweep / "0") in err
    assert len(err.splitlines()) == 1


def test_a_summary_without_its_best_points_is_named(
    finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    path = finished.folder / "summary.json"
    content = json.loads(path.read_text())
    del content["best"]
    path.write_text(json.dumps(content))
    assert main([str(finished.folder), "tracker=csv"]) == 1
    assert f"{path}: expected the best points of a run; it has no best" in capsys.readouterr().err


def test_shards_that_hold_the_same_results_are_sent_once(
    sweep: Path, template: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copytree(template, sweep / "2")
    store = Store(tmp_path / "store", {"data": {"samples": 12}, "batch_size": 4})
    store.describe({})
    for number, select in {"0": None, "1": None, "2": {"seed": 0}}.items():
        points = results.read(sweep / number).points
        record.note(sweep / number, store, points, {"select": select})

    def sent() -> list[str]:
        main([str(sweep), "tracker=csv"])
        return [Path(line).parent.parent.name for line in capsys.readouterr().out.splitlines()]

    assert sent() == ["0", "2"]
    (sweep / "0" / "summary.json").write_text("{")
    assert sent() == ["1", "2"], "what was not sent is sent from its copy"
    (store.folder / "identity.json").unlink()
    assert sent() == ["1", "2"], "results remain where a store is gone"


@pytest.mark.parametrize("marked", [True, False])
def test_two_sweeps_of_one_configuration_are_sent_both(
    sweep: Path, tmp_path: Path, marked: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """As are two single runs, which no sweep has marked."""
    copytree(sweep, later := sweep.with_name("05-06-07"))
    for folder in (sweep, later):
        record.note(folder / "0", Store(tmp_path / "store", {}), results.read(folder / "0").points, {})
        rmtree(folder / "1")
        if not marked:
            (folder / "multirun.yaml").unlink()
    assert main([str(sweep.parent), "tracker=csv"]) == 0
    assert [Path(line.split(": ")[1]).parents[2] for line in capsys.readouterr().out.splitlines()] == [
        sweep,
        later,
    ]


def test_a_sweep_to_wandb_is_one_group_in_one_folder(
    sweep: Path, no_key: None, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb")
    assert main([str(sweep), "tracker=wandb", "tracker.mode=offline", "tracker.tags=[late]"]) == 0
    assert main([str(sweep / "1"), "tracker=wandb"]) == 0, "by itself it is still of the sweep"
    assert len(list((sweep / "wandb").glob("offline-run-*"))) == 3
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tracker=wandbb"], "tracker=wandbb: unknown. Did you mean wandb?"),
        (["tracker=3"], "tracker=3: unknown. Choices: csv, mlflow"),
        (["tracker=none"], "tracker=none: expected a tracker, such as tracker=wandb"),
        (["tracker=csv", "tracker.folder=x"], "tracker.folder"),
        (["tracker=wandb", "tracker.mode=on"], "tracker.mode=on: unknown. Did you mean online"),
        (["tracker=wandb", "tracker.mode=online"], "expected a W&B key"),
        (
            ["tracker=wandb", "tracker.project=a/b"],
            "W&B does not take its settings: Invalid project name",
        ),
        (["tracker=wandb", "tracker.tags=[a,'']"], "run_tags Value error, Tag at index 1 is empty"),
        (["tracker=wandb", "tracker.timeout_s=inf"], "tracker.timeout_s=inf: expected seconds, a finite"),
        (["tracker=wandb", "tracker.timeout_s=soon"], "tracker.timeout_s=soon: expected float"),
        (["tracker=csv", "tracker.dir=[a]"], "tracker.dir=['a']: expected str | None"),
        (["model=smp"], "gpsweep: model=smp: of another command, python -m gpsweep model=smp\n"),
        (["tracker=csv", "+tracker.folder=x"], "unexpected keyword argument 'folder'"),
    ],
)
def test_mistakes(
    finished: Finished, no_key: None, capsys: pytest.CaptureFixture[str], overrides: list[str], message: str
) -> None:
    assert main([str(finished.folder), *overrides]) == 1
    out, err = capsys.readouterr()
    assert message in err
    assert "Traceback" not in err
    assert out == ""


def test_numbers_are_names_where_names_are_expected(no_key: None, finished: Finished) -> None:
    from gpsweep.trackers.mlflow import MLflow
    from gpsweep.trackers.wandb import Wandb

    asked = ["tracker.project=2024", "tracker.tags=[2024,a]", "tracker.name=5", "tracker.group=7"]
    tracker = build(["tracker=wandb", *asked, "tracker.timeout_s='3'"])
    assert tracker == Wandb(project="2024", tags=["2024", "a"], name="5", group="7", timeout_s=3)
    assert tracker.log(finished.folder).startswith("W&B: wandb sync")
    pytest.importorskip("mlflow")
    mlflow = build(["tracker=mlflow", "tracker.project=7", "+tracker.tags={year: 2024}"])
    assert mlflow == MLflow(project="7", tags={"year": "2024"})


def test_a_folder_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "tracker=csv"]) == 1
    assert "expected a run's results.csv" in capsys.readouterr().err


def test_the_values_of_the_files_are_those_of_the_code(no_key: None) -> None:
    from gpsweep.trackers.mlflow import MLflow
    from gpsweep.trackers.tensorboard import TensorBoard
    from gpsweep.trackers.wandb import Wandb

    assert build(["tracker=wandb"]) == Wandb()
    assert build(["tracker=tensorboard"]) == TensorBoard()
    assert build(["tracker=mlflow"]) == MLflow()
    assert build(["tracker=csv"]) == Csv()
