"""Lightning's CSV holds every number."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished import Finished
from written import csv_rows

from gpsweep.trackers.csv import Csv


def test_every_number_of_the_tables(finished: Finished) -> None:
    for _ in range(2):  # sent again, the file is the same
        assert Csv().log(finished.folder) == f"CSV: {finished.folder / 'csv' / 'metrics.csv'}"
    rows = {float(row["eps"]): row for row in csv_rows(finished.folder / "csv" / "metrics.csv")}
    assert list(rows) == [-1, 0, 0.25, 0.5]
    expected = finished.expected()
    for (curve, eps), numbers in expected.items():
        for key, number in numbers.items():
            assert float(rows[eps][f"{curve}/{key}"]) == number
    filled = [key for row in rows.values() for key, cell in row.items() if "/" in key and cell]
    assert len(filled) == sum(map(len, expected.values()))
    assert "model.net.arch: Unet" in (finished.folder / "csv" / "hparams.yaml").read_text()


def test_another_folder(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    target = finished.folder.parent / "deep" / "there"
    Csv(dir=str(target)).log(finished.folder)
    assert (target / "run" / "metrics.csv").is_file()


def test_a_folder_below_the_users_own(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert Csv(dir="~/all").log(finished.folder) == f"CSV: {tmp_path / 'all' / 'run' / 'metrics.csv'}"


def test_jobs_of_a_sweep_share_no_file(sweep: Path, tmp_path: Path) -> None:
    for number in ("0", "1"):
        Csv(dir=str(tmp_path / "all")).log(sweep / number, sweep=sweep)
    assert len(list((tmp_path / "all").glob("2026-01-02/03-04-05/*/metrics.csv"))) == 2


@pytest.mark.parametrize("here", [True, False])
def test_sweeps_share_no_file(
    two_sweeps: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    if here:
        monkeypatch.chdir(tmp_path)
    said = [Csv(dir=str(tmp_path / "all")).log(sweep / "0", sweep=sweep) for sweep in two_sweeps]
    files = [Path(line.removeprefix("CSV: ")) for line in said]
    if here:
        places = [file.relative_to(tmp_path / "all").as_posix() for file in files]
        assert places == ["argmax/labels/0/metrics.csv", "uniform/labels/0/metrics.csv"]
    assert [file.read_text().partition("\n")[0].count("argmax/score") for file in files] == [1, 0]
