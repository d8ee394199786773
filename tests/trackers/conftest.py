"""Finished runs, and W&B without the user's own settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

import pytest
from finished import ABSENT, Finished, write


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "run"
    finished = write(
        folder,
        drawn=True,
        label=["argmax", "uniform", "ground_truth"],
        layer=["input", "encoder.down"],
        iterations=2,
        eps=[0.5, -1, 0, 0.25],
    )
    path = folder / "per_class.csv"
    lines = path.read_text().splitlines()
    heads = lines[0].split(",")
    for at, row in enumerate(finished.rows("per_class.csv"), start=1):
        if row["class"] == ABSENT and row["eps"] == "0.5":
            lines[at] = ",".join("" if head in ("iou", "delta") else row[head] for head in heads)
    path.write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture
def finished(template: Path, tmp_path: Path) -> Finished:
    """A finished run of its own for each test: twelve curves of four ε, one class missing at one of them."""
    return Finished(copytree(template, tmp_path / "run"))


@pytest.fixture
def sweep(template: Path, tmp_path: Path) -> Path:
    """A sweep of two finished runs."""
    folder = tmp_path / "2026-01-02" / "03-04-05"
    for number in ("0", "1"):
        copytree(template, folder / number)
    (folder / "multirun.yaml").write_text("")
    return folder


@pytest.fixture
def two_sweeps(tmp_path: Path) -> list[Path]:
    """Two sweeps of one run each, whose curves are others and whose folders have one name."""
    folders = [tmp_path / label / "labels" for label in ("argmax", "uniform")]
    for folder in folders:
        write(folder / "0", label=folder.parent.name, eps=[0, 0.5])
    return folders


@pytest.fixture
def no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """W&B as on a machine where nobody has logged in, and gone after the test."""
    wandb = pytest.importorskip("wandb")
    for variable in [key for key in os.environ if key.startswith("WANDB_")]:
        monkeypatch.delenv(variable)
    home = tmp_path / "home"
    for variable, folder in {
        "HOME": home,
        "NETRC": home / "netrc",
        "WANDB_CONFIG_DIR": home / "config",
        "WANDB_CACHE_DIR": home / "cache",
    }.items():
        monkeypatch.setenv(variable, str(folder))
    wandb.teardown()
    yield
    wandb.teardown()
