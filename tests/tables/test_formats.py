"""The files of a table, read back."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from gpsweep.tables.formats import as_csv, as_latex, as_markdown, escaped, show, write
from gpsweep.tables.sheet import Sheet, spans

ROW = {
    "setting": "FCN-8s_coco | 50 % & more",
    "paper_base": 62.1,
    "paper_gp": 64.71,
    "base": 62.0512345,
    "same_eps": 0.55,
    "same_score": 64.6,
    "same_gain": 2.5487,
    "same_low": -0.001,
    "same_high": 3.0,
    "held_eps": -0.5,
    "held_gain": -2.4,
    "held_low": -3.1,
    "held_high": -1.0,
    "held_p": 0.0001,
    "difference_base": -0.05,
    "difference_gp": -0.11,
}
MEAN = {
    "setting": "mean of 2 seeds",
    "base": 62.0,
    "same_gain": 2.5,
    "same_low": 2.4,
    "same_high": 2.6,
    "spread": {"base": 0.1, "same_gain": 0.02},
}
SHEET = Sheet(name="table9", title="Table 9: a_b", measure="mean IoU (%)", entries=[ROW, MEAN], notes=["n_1"])


def test_csv_holds_every_number_in_full() -> None:
    rows = list(csv.DictReader(as_csv(SHEET).splitlines()))
    assert rows[0].keys() == ROW.keys()
    assert {key: float(value) for key, value in rows[0].items() if key != "setting"} == {
        key: value for key, value in ROW.items() if key != "setting"
    }
    assert rows[0]["setting"] == ROW["setting"]
    assert [row["setting"] for row in rows[1:]] == ["mean of 2 seeds", "mean of 2 seeds: standard deviation"]
    assert (rows[2]["base"], rows[2]["same_gain"], rows[2]["held_gain"]) == ("0.1", "0.02", "")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def test_markdown_has_as_many_cells_in_every_line() -> None:
    lines = [line for line in as_markdown(SHEET).splitlines() if line.startswith("|")]
    assert len({len(cells(line)) for line in lines}) == 1
    found = dict(zip(cells(lines[0]), cells(lines[2]), strict=True))
    assert found["setting"] == "FCN-8s_coco \\| 50 % & more"
    assert (found["paper: base"], found["paper: GP"], found["ours: base"]) == ("62.10", "64.71", "62.05")
    assert found["tuned on the same images: gain [95 %]"] == "+2.55 [−0.001, +3.00]"
    assert found["held out: gain [95 %]"] == "−2.40 [−3.10, −1.00]"
    assert (found["held out: ε"], found["held out: p"]) == ("−0.5", "< 0.001")
    assert found["ours − paper: GP"] == "−0.11"
    assert cells(lines[3])[3] == "62.00 ± 0.10"
    assert "+2.50 ± 0.02 [+2.40, +2.60]" in cells(lines[3])
    assert not any("at a given ε" in heading for heading in found), "nothing is known of it"
    assert "- n_1" in as_markdown(SHEET)


def test_latex_has_as_many_cells_in_every_line() -> None:
    text = as_latex(SHEET)
    [spec] = re.findall(r"\\begin\{tabular\}\{([lr]+)\}", text)
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    for line in body.splitlines():
        if line.endswith(r"\\"):
            wide = sum(int(width) - 1 for width in re.findall(r"\\multicolumn\{(\d+)\}", line))
            assert len(re.split(r"(?<!\\)&", line)) + wide == len(spec), line
    assert r"FCN-8s\_coco | 50 \% \& more" in body and r"$\varepsilon$" in body
    assert r"+2.50 $\pm$ 0.02 [+2.40, +2.60]" in body
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert not re.search(r"[^\x00-\x7f]", text), "plain LaTeX reads it"


def test_escaping() -> None:
    assert escaped(r"a\b_{c}~^#$%&") == (
        r"a\textbackslash{}b\_\{c\}\textasciitilde{}\textasciicircum{}\#\$\%\&"
    )


def test_spans() -> None:
    assert spans(["", "a", "a", "", "", "b"]) == [("", 1), ("a", 2), ("", 1), ("", 1), ("b", 1)]


@pytest.mark.parametrize("width", [100, 200])
def test_the_terminal_shows_gain_interval_and_p(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    show(SHEET, Console(width=width, highlight=False))
    out = capsys.readouterr().out
    assert "Table 9: a_b" in out and "- n_1" in out
    for part in ("+2.55 at 0.55", "−2.40 at −0.5", "p < 0.001", "+2.50 ± 0.02", "[+2.40, +2.60]"):
        assert part in out
    assert all(len(line) <= width for line in out.splitlines())


def test_a_small_table_says_whose_numbers_the_papers_are() -> None:
    small = Sheet("t", "t", "m", [{"setting": "s", "paper_base": 1.0}], small=True)
    assert "paper, its own network and data: base" in as_markdown(small)


def test_three_files(tmp_path: Path) -> None:
    assert [path.name for path in write(SHEET, tmp_path)] == ["table9.csv", "table9.md", "table9.tex"]
    assert (tmp_path / "table9.tex").read_text() == as_latex(SHEET)


def test_a_table_without_a_line_prints_why(tmp_path: Path) -> None:
    said = StringIO()
    show(replace(SHEET, entries=[], notes=["skipped: no weights"]), Console(file=said, width=80))
    assert "- skipped: no weights" in said.getvalue()
    assert all(path.is_file() for path in write(replace(SHEET, entries=[]), tmp_path))
