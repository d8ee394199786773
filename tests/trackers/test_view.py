"""The W&B workspace is a specification that finds what a run logs."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from finished import Finished, write

from gpsweep.errors import GpsweepError
from gpsweep.points import GUIDES, LABELS
from gpsweep.trackers.content import tracked
from gpsweep.trackers.view import COLUMNS, main, specification, view

pytest.importorskip("wandb_workspaces")
EVERY = (*LABELS, *GUIDES)
pytestmark = pytest.mark.usefixtures("no_key")


def sections(specified: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    bank = specified["spec"]["section"]["panelBankConfig"]
    return {section["name"]: [panel["config"] for panel in section["panels"]] for section in bank["sections"]}


def test_it_lays_out_the_ablation_without_a_login() -> None:
    content = specification(view(entity="team", project="curves"))
    assert (content["entity"], content["project"]) == ("team", "curves")
    found = sections(content)
    assert [len(panels) for panels in found.values()] == [4, len(EVERY), len(EVERY), len(EVERY), 3]
    lines = [panel for panels in found.values() for panel in panels if "metricRegex" in panel]
    assert len(lines) == 3 * len(EVERY)
    assert {panel["xAxis"] for panel in lines} == {"eps"}
    assert all(panel["useMetricRegex"] for panel in lines)
    assert content["spec"]["section"]["settings"]["xAxis"] == "eps"


def patterns() -> dict[tuple[str, str], re.Pattern[str]]:
    return {
        (name.split()[0], panel["chartTitle"]): re.compile(panel["metricRegex"])
        for name, panels in sections(specification(view(entity="team"))).items()
        for panel in panels
        if "metricRegex" in panel
    }


def test_its_patterns_find_every_curve_that_a_run_logs(finished: Finished) -> None:
    found = patterns()
    run = tracked(finished.folder)
    keys = [key for key in next(run.rows()) if "/" in key]
    for kind, each in (("Score", 1), ("Gain", 3), ("Classes", 11)):
        for label in ("argmax", "uniform", "ground_truth"):
            matched = [key for key in keys if found[kind, label].search(key)]
            assert len(matched) == 4 * each
            assert {key.split("/")[0] for key in matched} == {label}
    assert not [key for key in keys if found["Score", "top2"].search(key)]
    assert set(COLUMNS) <= set(run.headline())


def test_its_patterns_find_the_curves_of_nearest_neighbours(tmp_path: Path) -> None:
    axes = {"label": ["argmax", "knn"], "labels": EVERY, "eps": [0, 0.5], "task": "classification"}
    keys = list(next(tracked(write(tmp_path / "run", **axes).folder).rows()))
    expected = {
        "Score": {"knn/score"},
        "Gain": {"knn/delta", "knn/delta_low", "knn/delta_high"},
        "Classes": {key for key in keys if key.startswith("knn/accuracy/")},
    }
    for kind, wanted in expected.items():
        assert {key for key in keys if patterns()[kind, "knn"].search(key)} == wanted
    assert len(expected["Classes"]) > 1


def test_it_reads_back_as_a_workspace() -> None:
    made = view(entity="team")
    again = type(made)._from_model(made._to_model())
    assert [section.name for section in again.sections] == [section.name for section in made.sections]
    assert sections(specification(again)) == sections(specification(made))


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["team/curves"]) == 0
    assert json.loads(capsys.readouterr().out)["project"] == "curves"
    assert main(["team"]) == 1
    assert capsys.readouterr().err == "gpsweep: team: expected ENTITY/PROJECT, such as my-team/gpsweep\n"


def test_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces.workspaces", None)
    with pytest.raises(GpsweepError, match=r"pip install '\.\[wandb\]' in the checkout"):
        view(entity="team")
