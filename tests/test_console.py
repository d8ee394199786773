"""Tables as people and pipes see them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest
from rich.table import Table

from gpsweep.console import standard_output
from gpsweep.layers.__main__ import main as layers
from gpsweep.layers.__main__ import show
from gpsweep.report.__main__ import main as report
from gpsweep.tables.__main__ import main as tables

LONG = "segformer.stages.0.blocks.0.attention.sequence_reduction.sequence_reduction.projection.depthwise"


def printed(text: str, capsys: pytest.CaptureFixture[str]) -> str:
    table = Table("name", "another")
    table.add_row(text, "x")
    standard_output().print(table)
    return capsys.readouterr().out


def test_a_name_stays_whole_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    out = printed(LONG, capsys)
    assert LONG in out
    assert max(map(len, out.splitlines())) < len(LONG) + 20  # no wider than it needs to be


@pytest.mark.parametrize("command", [report, layers, tables])
def test_a_full_disk_ends_a_command_in_a_line(
    command: Callable[[list[str]], int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("gpsweep.report.__main__.render", lambda folder: [folder])
    monkeypatch.setattr(sys.stdout, "write", full)
    assert command({report: ["run"], layers: ["data.limit=1"], tables: ["--help"]}[command]) == 1
    assert capsys.readouterr().err == "gpsweep: [Errno 28] No space left on device\n"


def test_columns_are_heeded_in_a_pipe(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    out = printed(LONG, capsys)
    assert LONG not in out
    assert max(map(len, out.splitlines())) <= 40


def test_of_the_layers_table_shapes_are_folded_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ["encoder.down.3.block.2.conv.relu", "decoder.head.1"]
    show([(name, "1×2×4×4, " * 20, 0.5) for name in names], "net, one image (4, 4)")
    out = capsys.readouterr().out
    assert all(re.search(rf"^ ?{re.escape(name)}\b", out, re.M) for name in names)
    assert max(map(len, out.splitlines())) <= 80
