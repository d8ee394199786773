"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Terminal
from hydra._internal.hydra import Hydra
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


GET_MODE = Hydra.get_mode


def _mode(hydra: Hydra, config_name: str | None, overrides: list[str]) -> Any:
    """Hydra composes everything once more to look for hydra.mode, a third of its time; few tests set it."""
    sets = any("hydra.mode" in one or "sweeps=" in one for one in overrides)
    return GET_MODE(hydra, config_name, overrides) if sets else None


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, which take half of a small run's time, unless a test is marked ``drawn``."""
    if request.node.get_closest_marker("drawn") is None:
        monkeypatch.setattr("gpsweep.report.curves.draw", lambda *findings: None)
        monkeypatch.setattr("gpsweep.report.curves.panels", lambda *rows: [])
        monkeypatch.setattr("gpsweep.report.worth.draw", lambda *findings: None)


@pytest.fixture
def terminal(
    undrawn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """A terminal in an empty folder, its reports :func:`undrawn`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Hydra, "get_mode", _mode)
    return Terminal(tmp_path, monkeypatch, capsys)
