"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Terminal
from hypothesis import settings

# The networks of the tests are too small to gain from threads, and lose much where cores are shared.
torch.set_num_threads(1)

# Examples differ in time where cores are shared; what a property needs is that it holds.
settings.register_profile("gpsweep", deadline=None, derandomize=True)
settings.load_profile("gpsweep")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data for development; tests that need it are skipped where it is missing."""
    root = Path(os.environ.get("GPSWEEP_DATA", ROOT.parent / "shared" / "data"))
    if not root.is_dir():
        pytest.skip(f"no real data at {root} (set GPSWEEP_DATA)")
    return root


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    """A terminal in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return Terminal(tmp_path, monkeypatch, capsys)


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures that stay empty: drawing is half of a small run's time, for tests that look at none."""

    def blank(figure: Any, file: Any, *, format: str, **options: Any) -> None:
        file.write("<svg/>" if format == "svg" else b"")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", blank)
