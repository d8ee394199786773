"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import composing
import pytest
from hydra._internal.hydra import Hydra
from hypothesis import settings

if TYPE_CHECKING:
    from commands import Terminal

# What the tests compute is too small to gain from threads, and loses much where cores are shared. PyTorch and
# the linear algebra of NumPy and SciPy look here when they are first imported, which is later.
os.environ["OMP_NUM_THREADS"] = "1"

# Imports and collection make a million objects and no garbage: looking for some takes a fifth of their time.
gc.disable()

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


@pytest.fixture(scope="session", autouse=True)
def composing_once() -> Iterator[None]:
    """Configurations composed once, see :mod:`composing`."""
    with composing.once():
        yield


def pytest_collection_finish() -> None:
    """From here on there is garbage."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def libraries_are_no_garbage() -> None:
    """A sweep looks for garbage before each job: half of its time, among all that tests have imported."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """At the end Python frees all; libraries count what it does not."""
    gc.unfreeze()


@pytest.fixture
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports without figures, which take half of a small run's time, unless a test is marked ``drawn``."""
    if request.node.get_closest_marker("drawn") is None:
        composing.undraw(monkeypatch)


@pytest.fixture
def terminal(
    undrawn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """A terminal in an empty folder, its reports :func:`undrawn`, what a point costs timed but twice."""
    from commands import Terminal

    from gpsweep import measure

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Hydra, "get_mode", composing.mode)
    monkeypatch.setattr(measure, "MOST", measure.FEWEST)
    return Terminal(tmp_path, monkeypatch, capsys)
