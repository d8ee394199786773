"""The W&B sweep definition does what a sweep agent would do with it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import Terminal
from leet import inspect

pytest.importorskip("wandb")
pytestmark = pytest.mark.usefixtures("no_key")

FILE = Path(__file__).resolve().parents[2] / "sweeps" / "wandb" / "ablation.yaml"


def definition() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return content


def agents_command(content: dict[str, Any], parameters: dict[str, Any]) -> list[str]:
    """Return the command that W&B's agent makes of a definition, by the agent's own functions."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    filled = create_sweep_command_args({"args": {key: {"value": v} for key, v in parameters.items()}})
    filled |= {"env": ["/usr/bin/env"], "interpreter": [sys.executable], "program": [content["program"]]}
    command: list[str] = []
    for part in map(str, create_sweep_command(content["command"])):
        macro = part.startswith("${") and part.endswith("}")
        command += filled[part[2:-1]] if macro else [part]
    return command


def test_the_definition_is_valid() -> None:
    from wandb.apis.public.sweeps import _validate_config_and_fill_distribution

    content = _validate_config_and_fill_distribution(definition())
    assert content == definition()
    assert content["method"] in ("grid", "random", "bayes")
    assert content["metric"]["goal"] in ("maximize", "minimize")
    assert all(parameter["values"] for parameter in content["parameters"].values())


@pytest.mark.filterwarnings("ignore:unclosed file .*parameters.yaml:ResourceWarning")  # W&B leaves it open
def test_the_agents_command_runs_and_logs_the_metric(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = definition()
    first = {key: parameter["values"][-1] for key, parameter in content["parameters"].items()}
    command = agents_command(content, first)
    assert command[:5] == ["/usr/bin/env", sys.executable, "-m", "gpsweep", "-m"]
    parameters = terminal.folder / "parameters.yaml"
    parameters.write_text("".join(f"{key}:\n  value: {value}\n" for key, value in first.items()))
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep0")
    monkeypatch.setenv("WANDB_RUN_ID", "agentsrun")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(parameters))
    small = {"eps=range(-1,1,0.05)": "eps=range(-1,1,0.5)", "tracker.mode=online": "tracker.mode=offline"}
    code, out, err = terminal(*(small.get(part, part) for part in command[4:]), "data.limit=2")
    assert (code, err) == (0, "")
    assert "W&B: wandb sync" in out
    [run] = terminal.folder.glob("outputs/*/*/wandb/offline-run-*-agentsrun")
    records = [json.loads(line) for line in inspect(run).splitlines()]
    [begun] = [record["run"] for record in records if record["type"] == "run"]
    assert (begun["run_id"], begun["sweep_id"]) == ("agentsrun", "sweep0")
    configured = begun["config"]["update"]
    assert configured["model"] == "scenes", "the agent's parameter"
    assert configured["run"]["model"]["name"] == "scenes"
    assert configured["run"]["data"]["limit"] == 2
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert [row["eps"] for row in rows[:-1]] == [-1, -0.5, 0, 0.5]
    assert isinstance(rows[-1][content["metric"]["name"]], float | int)
    assert {"argmax/score", "uniform/score"} <= set(rows[0])
