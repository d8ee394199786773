"""When a difference to the paper is printed, and what is said where it is not."""

from __future__ import annotations

from pathlib import Path

import pytest
from outcomes import make

from gpsweep import results
from gpsweep.tables import definition
from gpsweep.tables.assembling import sheet
from gpsweep.tables.commands import jobs
from gpsweep.tables.running import Ended
from gpsweep.tables.sheet import Sheet

MNIST = {"task": "classification", "images": 50, "label": ["knn"], "labels": ("knn",), "eps": [0.0, 4.0]}


def table6(folder: Path, extra: list[str], dataset: str = "mnist-test") -> Sheet:
    """Assemble Table 6 of one row's run with made-up counts; the paper's data are taken to be 50 images."""
    table = definition.read("table6")
    table.paper.rows["mnist"].images = 50
    job = jobs(table.paper, folder, extra, [0])[0]
    results.write(make(info={"dataset": dataset, "select": {"seed": 0}, "cost": None}, **MNIST), folder)
    return sheet("table6", table, [Ended(job, folder)], small=False)


@pytest.mark.parametrize(
    "extra",
    [
        [],
        ["data.root=/here", "fit.data.root=/here", "data.workers=2", "store=/there", "knn.cache=null"],
        ["trainer.accelerator=gpu", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "tracker=wandb"],
        ["fit.accelerator=gpu", "progress=true", "fresh=true", "select=none"],
    ],
)
def test_where_data_lie_and_how_it_is_run_leave_the_experiment(extra: list[str], tmp_path: Path) -> None:
    found = table6(tmp_path, extra)
    assert "difference_gp" in found.entries[0]
    assert not any("not compared" in note for note in found.notes)


@pytest.mark.parametrize(
    "changed",
    [
        "label=uniform",
        "eps=[0,4]",
        "knn.k=5",
        "++knn.weights=distance",
        "model.checkpoint=mine.pth",
        "data.size=96",
        "data.batch_size=4",
        "precision=16",
        "fit.epochs=4",
    ],
)
def test_a_run_that_was_changed_is_not_compared_and_says_why(changed: str, tmp_path: Path) -> None:
    found = table6(tmp_path, ["data.root=/here", changed])
    assert not [key for entry in found.entries for key in entry if key.startswith("difference")]
    assert found.entries[0]["paper_gp"] == 99.15
    assert f"MNIST: not compared with the paper: {changed}" in found.notes


def test_other_data_than_the_papers_are_named(tmp_path: Path) -> None:
    found = table6(tmp_path, [], dataset="mnist-like")
    assert "difference_gp" not in found.entries[0]
    assert "MNIST: not compared with the paper: 50 images of mnist-like" in found.notes


def test_a_recipe_changes_only_what_is_trained() -> None:
    assert not jobs(definition.read("table1").paper, Path("out"), ["fit.epochs=4"])[0].altered


@pytest.mark.parametrize("written", ["+fit.train.limit=8", "fit.+train.limit=8"])
def test_a_key_is_added_to_a_recipe_as_hydra_writes_it(written: str) -> None:
    [job] = jobs(definition.read("table6").small, Path("out"), [written])
    assert job.recipe is not None and job.recipe.train.limit == 8
    assert not any("fit." in override for override in job.overrides)
    assert job.altered == (written,)


def test_several_trainings_say_what_their_interval_is(tmp_path: Path) -> None:
    table = definition.read("table6")
    found = jobs(table.paper, tmp_path, [], [0, 1])[:2]
    for job in found:
        results.write(make(info={"dataset": "mnist-test", "cost": None}, **MNIST), job.folder)
    said = sheet("table6", table, [Ended(job, job.folder) for job in found], small=False)
    assert said.entries[-1]["setting"] == "MNIST, mean of 2 seeds" and "same_low" in said.entries[-1]
    assert any("95 % t interval" in note for note in said.notes)


@pytest.mark.parametrize(("name", "numbers"), [("table1", False), ("table4", True)])
def test_the_papers_numbers_are_explained_where_there_are_any(
    name: str, numbers: bool, tmp_path: Path
) -> None:
    table = definition.read(name)
    job = jobs(table.small, tmp_path, [])[0]
    results.write(make(images=8, classes=3, label="argmax", eps=[0, 0.5]), tmp_path)
    found = sheet(name, table, [Ended(job, tmp_path)], small=True)
    assert found.entries
    assert any(note.startswith("paper: ") for note in found.notes) == numbers


def test_how_long_a_forward_pass_took_is_one_line_a_row(tmp_path: Path) -> None:
    table = definition.read("table6")
    ended = []
    runs = jobs(table.paper, tmp_path, [], range(4))[:4]
    for job, seconds in zip(runs, (0.2, 0.1, None, 0.3), strict=True):
        cost = None if seconds is None else {"forward_seconds": seconds, "settings": []}
        info = {"dataset": "mnist-test", "device": "cpu", "select": None, "cost": cost}
        results.write(make(info=info, **MNIST), job.folder)
        ended.append(Ended(job, job.folder))
    notes = sheet("table6", table, ended, small=False).notes
    assert [note for note in notes if note.startswith("MNIST: 50 images")] == [
        "MNIST: 50 images of mnist-test, 0.1 to 0.3 s for a plain forward pass (cpu)",
        "MNIST: 50 images of mnist-test",
    ]
