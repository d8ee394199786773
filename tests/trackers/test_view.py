"""The W&B workspace is a specification that finds what a run logs."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import pytest
from finished import Finished

from gpsweep.errors import GpsweepError
from gpsweep.points import LABELS
from gpsweep.trackers.content import tracked
from gpsweep.trackers.view import COLUMNS, main, specification, view

pytest.importorskip("wandb_workspaces")
pytestmark = pytest.mark.usefixtures("no_key")


def sections(specified: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    bank = specified["spec"]["section"]["panelBankConfig"]
    return {section["name"]: [panel["config"] for panel in section["panels"]] for section in bank["sections"]}


def test_it_lays_out_the_ablation_without_a_login() -> None:
    content = specification(view(entity="team", project="curves"))
    assert (content["entity"], content["project"]) == ("team", "curves")
    found = sections(content)
    assert [len(panels) for panels in found.values()] == [4, len(LABELS), len(LABELS), len(LABELS), 3]
    lines = [panel for panels in found.values() for panel in panels if "metricRegex" in panel]
    assert len(lines) == 3 * len(LABELS)
    assert {panel["xAxis"] for panel in lines} == {"eps"}
    assert all(panel["useMetricRegex"] for panel in lines)
    assert content["spec"]["section"]["settings"]["xAxis"] == "eps"


def test_its_patterns_find_every_curve_that_a_run_logs(finished: Finished) -> None:
    found = sections(specification(view(entity="team")))
    patterns = {
        (name.split()[0], panel["chartTitle"]): re.compile(panel["metricRegex"])
        for name, panels in found.items()
        for panel in panels
        if "metricRegex" in panel
    }
    run = tracked(finished.folder)
    keys = [key for key in next(run.rows()) if "/" in key]
    for kind, each in (("Score", 1), ("Gain", 3), ("Classes", 11)):
        for label in ("argmax", "uniform", "ground_truth"):
            matched = [key for key in keys if patterns[kind, label].search(key)]
            assert len(matched) == 4 * each
            assert {key.split("/")[0] for key in matched} == {label}
    assert not [key for key in keys if patterns["Score", "top2"].search(key)]
    assert set(COLUMNS) <= set(run.headline())


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
