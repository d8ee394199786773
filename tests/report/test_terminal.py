"""The table on the terminal: short, whole at 80 columns, the path never broken."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from outcomes import make
from rich.console import Console

from gpsweep import results
from gpsweep.outcome import Outcome
from gpsweep.report.terminal import best_table

FOLDER = Path("outputs") / "a rather [long] name that goes on" / ("x" * 60) / "2026-01-02_03-04-05"


def shown(outcome: Outcome, width: int = 80, encoding: str = "utf-8") -> list[str]:
    class File(StringIO):
        @property
        def encoding(self) -> str:  # type: ignore[override]
            return encoding

    file = File()
    best_table(outcome, results.table(outcome), FOLDER, Console(file=file, width=width))
    return file.getvalue().splitlines()


@pytest.mark.parametrize("iterations", [1, 2])
def test_best_points_and_path(iterations: int) -> None:
    outcome = make(images=30, layer=["input", "encoder.layer1"], eps=[-0.5, 0, 0.5], iterations=iterations)
    rows = results.table(outcome)
    text = shown(outcome)
    assert text[-1] == str(FOLDER / "report.html")
    assert all(len(line) <= 80 for line in text[:-1])
    top = rows.loc[rows["score"].idxmax()]
    first = next(line for line in text if line.startswith("argmax") or line.startswith(" argmax"))
    assert f"{top['score']:.2f}" in first
    assert f"{top['delta_low']:+.2f} to {top['delta_high']:+.2f}" in first
    assert "smp-Unet-resnet18 on camvid: mIoU base" in "\n".join(text)


def test_not_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = make(images=10, eps=[0, 0.5])
    best_table(outcome, results.table(outcome), FOLDER)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert text.splitlines()[-1] == str(FOLDER / "report.html")


def test_a_long_list_is_cut_and_says_so() -> None:
    text = shown(
        make(images=5, classes=3, layer=["input", "a", "b", "c"], signal=["eq5", "likelihood"], eps=[0, 1])
    )
    assert "20 more curves in results.csv" in text
    assert len(text) < 30


def test_help_no_help_and_oracle() -> None:
    text = "\n".join(shown(make(images=120, label=["argmax", "random_onehot", "ground_truth"])))
    for label, word in [("argmax", "yes"), ("random_onehot", "no"), ("ground_truth", "oracle")]:
        line = next(line for line in text.splitlines() if line.strip().startswith(label))
        assert line.rstrip().endswith(word)
    assert "-0.00" not in text


def test_plain_ascii_where_the_terminal_knows_no_more() -> None:
    text = "\n".join(shown(make(images=5, classes=3, eps=[0, 1]), encoding="ascii"))
    assert text.isascii()


def test_brackets_in_names_are_text() -> None:
    outcome = make(images=5, classes=3, label="argmax", layer=["[red]a", "b"], eps=[0, 1])
    assert "[red]a" in "\n".join(shown(outcome))
