"""What a run notes of the code that made it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from gpsweep import provenance as room
from gpsweep.provenance import commit, provenance


def git(folder: Path, *arguments: str) -> None:
    own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *own, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "gpsweep").mkdir()
    (tmp_path / "gpsweep" / "provenance.py").write_text("")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--message", "one")
    return tmp_path


def test_a_commit_says_whether_there_are_changes(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    clean = commit(checkout)
    assert clean is not None
    assert re.fullmatch("[0-9a-f]{40}", clean)
    (checkout / "gpsweep" / "provenance.py").write_text("changed")
    assert commit(checkout) == f"{clean}+"
    assert commit(tmp_path_factory.mktemp("outside")) is None


def test_the_version_of_a_checkout_names_its_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "__file__", str(checkout / "gpsweep" / "provenance.py"))
    named = (commit(checkout) or "")[:12]
    assert provenance()["versions"]["gpsweep"].endswith(f"+g{named}")
    (checkout / "gpsweep" / "provenance.py").write_text("changed")
    assert provenance()["versions"]["gpsweep"].endswith(f"+g{named}.changed")


def test_an_installed_package_takes_no_others_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a virtual environment within the user's own checkout."""
    inside = checkout / "venv" / "gpsweep"
    inside.mkdir(parents=True)
    monkeypatch.setattr(room, "__file__", str(inside / "provenance.py"))
    assert "+" not in provenance()["versions"]["gpsweep"]
