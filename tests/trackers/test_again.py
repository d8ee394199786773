"""The command that sends a run again makes the tracker that it is made of."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpsweep.track import build
from gpsweep.trackers import again
from gpsweep.trackers.csv import Csv
from gpsweep.trackers.mlflow import MLflow
from gpsweep.trackers.tensorboard import TensorBoard


@dataclass
class Mine:
    """A tracker of one's own."""

    where: str
    tags: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Nothing is missing."""


def overrides(tracker: object) -> list[str]:
    command = shlex.split(again.command(tracker, Path("a folder")))
    assert command[:4] == ["python", "-m", "gpsweep.track", "a folder"]
    return command[4:]


def test_what_is_as_the_files_say_is_not_told() -> None:
    assert again.command(Csv(), Path("run")) == "python -m gpsweep.track run tracker=csv"
    assert overrides(TensorBoard(dir="tb")) == ["tracker=tensorboard", "tracker.dir=tb"]


def test_a_store_and_its_tags() -> None:
    pytest.importorskip("mlflow")
    tracker = MLflow(uri="sqlite:////home/me/mlflow.db", tags={"for": "me, too", "mlflow.a b": "1"})
    assert overrides(tracker)[:2] == ["tracker=mlflow", "tracker.uri=sqlite:////home/me/mlflow.db"]
    assert build(overrides(tracker)) == tracker


def test_a_class_of_ones_own_has_no_other_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Mine, "__module__", "mine")
    monkeypatch.setitem(sys.modules, "mine", sys.modules[__name__])
    tracker = Mine(where="there", tags={"a": "b"})
    assert again.name(tracker) == "mine.Mine"
    assert overrides(tracker)[0] == "+tracker._target_=mine.Mine"
    assert build(overrides(tracker)) == tracker


@settings(max_examples=20, deadline=None)
@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), exclude_characters="$"), max_size=8))
def test_any_text_is_read_back(name: str) -> None:
    assert build(overrides(Csv(dir=name))) == Csv(dir=name)
