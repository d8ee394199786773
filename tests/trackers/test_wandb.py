"""The W&B runs, read back with W&B's own program."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copytree
from threading import Event, Thread
from time import perf_counter
from types import ModuleType
from typing import Any

import pytest
from finished import ABSENT, Finished, name, write
from leet import inspect

from gpsweep import pictures
from gpsweep.errors import GpsweepError
from gpsweep.points import Point
from gpsweep.track import build
from gpsweep.trackers import send, wandb
from gpsweep.trackers.content import group_name
from gpsweep.trackers.wandb import Wandb

pytest.importorskip("wandb")
pytestmark = pytest.mark.usefixtures("no_key")


def records(run: Path, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in inspect(run).splitlines()]
    return [record[kind] for record in found if record["type"] == kind]


def history(run: Path) -> list[dict[str, Any]]:
    return [record["item"] for record in records(run, "history")]


def summary(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(inspect(run, "--summary"))
    return content


def offline(folder: Path) -> list[Path]:
    return sorted((folder / "wandb").glob("offline-run-*"))


@cache
def log_once(template: Path) -> tuple[Finished, str]:
    finished = Finished(copytree(template, template.with_name("logged")))
    return finished, Wandb().log(finished.folder)


@pytest.fixture
def logged(no_key: None, template: Path) -> tuple[Finished, str]:
    """A finished run, logged once for the tests that only read it, and what was said of it."""
    return log_once(template)


def test_every_number_of_the_tables_is_in_the_history(logged: tuple[Finished, str]) -> None:
    finished, line = logged
    [run] = offline(finished.folder)
    assert line == f"W&B: wandb sync {run}"
    *rows, last = history(run)
    assert [row["eps"] for row in rows] == [-1, 0, 0.25, 0.5]
    seen = {
        (curve, eps, key): number
        for row in rows
        for eps in [row["eps"]]
        for (curve, at), numbers in finished.expected().items()
        if at == eps
        for key, number in numbers.items()
        if row[f"{curve}/{key}"] == number
    }
    expected = finished.expected()
    assert len(expected) == 12 * 4
    assert len(seen) == sum(map(len, expected.values()))
    logged = [key for row in rows for key in row if not key.startswith("_") and key not in ("eps", "base")]
    assert len(logged) == len(seen), "nothing else is logged"
    assert not [key for key in rows[3] if key.endswith(f"iou/{ABSENT}")], (
        "a class that is missing has no score"
    )
    assert {row["base"] for row in rows} == {float(finished.rows()[0]["base"])}
    assert last["samples"] == 12
    assert {"points._type", "curves_table._type", "pictures/curves._type"} <= set(last)


def test_eps_is_the_x_axis(logged: tuple[Finished, str]) -> None:
    finished, _ = logged
    [run] = offline(finished.folder)
    [glob] = [metric for metric in records(run, "metric") if "glob_name" in metric]
    assert (glob["glob_name"], glob["step_metric"]) == ("*", "eps")


def test_the_summary_holds_the_best_points(logged: tuple[Finished, str]) -> None:
    finished, _ = logged
    content = summary(offline(finished.folder)[0])["summary"]
    expected = finished.expected()
    for curve in {curve for curve, _ in expected}:
        mine = {at: numbers for (each, at), numbers in expected.items() if each == curve}
        score, _, eps = max((numbers["score"], -abs(at), at) for at, numbers in mine.items())
        assert (content[f"{curve}/score"], content[f"{curve}/eps"]) == (score, eps)
        for key, number in expected[curve, eps].items():
            assert content[f"{curve}/{key}"] == number
    own = [row for row in finished.rows() if row["label"] != "ground_truth"]
    top = max(own, key=lambda row: float(row["score"]))
    assert (content["best/label"], content["best/layer"]) == (top["label"], top["layer"])
    for key in ("score", "delta", "delta_low", "delta_high", "eps"):
        assert content[f"best/{key}"] == float(top[key])
    assert content["best/helps"] == (float(top["delta_low"]) > 0)
    noted = json.loads((finished.folder / "summary.json").read_text())["best"]
    [p_value] = [best["p_value"] for best in noted if best["score"] == float(top["score"])]
    assert 0 < content["best/p_value"] == p_value < 0.05
    assert content["base"] == float(top["base"])


def test_what_was_not_measured_at_the_best_point_is_not_in_the_summary(tmp_path: Path) -> None:
    finished = write(tmp_path / "run", label="argmax", eps=[-0.5, 0, 0.5], costs=None)
    Wandb().log(finished.folder)
    [run] = offline(finished.folder)
    content = summary(run)["summary"]
    best = max(finished.rows(), key=lambda row: float(row["score"]))
    assert (content["argmax/eps"], best["cost"]) == (float(best["eps"]), "")
    costs = [row["argmax/cost"] for row in history(run) if "argmax/cost" in row]
    assert costs == [1], "that of an image alone"
    assert "argmax/cost" not in content


def test_the_table_and_the_chart_hold_every_point(logged: tuple[Finished, str]) -> None:
    finished, _ = logged
    [run] = offline(finished.folder)
    [path] = run.glob("files/media/table/points_*.table.json")
    table = json.loads(path.read_text())
    rows = finished.rows()
    for values, row in zip(table["data"], rows, strict=True):
        record = dict(zip(table["columns"], values, strict=True))
        assert record.pop("curve") == name(row)
        for key, cell in row.items():
            assert str(record[key]) == cell or record[key] == float(cell)
        for key, number in finished.expected()[name(row), float(row["eps"])].items():
            assert record[key] == number
        assert (record[f"iou/{ABSENT}"] is None) == (row["eps"] == "0.5")
    [path] = run.glob("files/media/table/curves_table_*.table.json")
    chart = {(curve, eps): score for eps, curve, score in json.loads(path.read_text())["data"]}
    assert chart == {at: numbers["score"] for at, numbers in finished.expected().items()}
    visual = [record for record in records(run, "config") if "visualize" in str(record)]
    assert "wandb/lineseries/v0" in str(visual)


def test_configuration_group_tags_pictures_and_files(sweep: Path) -> None:
    tracker = Wandb(tags=["a", "b"], project="curves", name="mine")
    made = pictures.Picture("changes-1.png", "street", 120, 30)
    pictures.note(sweep / "0", Point(eps=0.25), [made])
    (sweep / "0" / "pictures" / made.file).write_bytes((sweep / "0" / "curves.png").read_bytes())
    tracker.log(sweep / "0", sweep=sweep)
    [run] = offline(sweep)
    content = summary(run)
    assert (content["tags"], content["project"], content["name"]) == (["a", "b"], "curves", "mine")
    assert content["config"]["model"] == {"name": "smp-Unet", "net": {"arch": "Unet"}}
    assert content["config"]["provenance"]["weights_sha256"].startswith("9f2c")
    assert "tracker" not in content["config"]
    assert records(run, "run")[0]["run_group"] == "2026-01-02/03-04-05"
    assert len(list(run.glob("files/media/images/pictures/curves_*.png"))) == 1
    assert history(run)[-1]["pictures/pictures/changes-1.caption"].startswith("street: image, truth, base")
    [files] = [artifact for artifact in records(run, "artifact") if artifact["type"] == "results"]
    kept = files["manifest"]["contents"]
    assert {entry["path"] for entry in kept} == {"results.csv", "per_class.csv", "summary.json"}
    assert all(sweep in Path(entry["local_path"]).parents for entry in kept), "not in the home folder"


def test_what_the_configuration_leaves_open_the_environment_may_say(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in {"PROJECT": "theirs", "TAGS": "a,b", "NAME": "named", "RUN_GROUP": "grouped"}.items():
        monkeypatch.setenv(f"WANDB_{key}", value)
    Wandb().log(sweep / "0", sweep=sweep)
    Wandb(project="curves", tags=["c"], name="mine", group="ours").log(sweep / "1", sweep=sweep)
    begun = [records(run, "run")[0] for run in offline(sweep)]
    keys = ("project", "tags", "display_name", "run_group")
    told = [[each[key] for key in keys] for each in begun]
    assert sorted(told) == [["curves", ["c"], "mine", "ours"], ["theirs", ["a", "b"], "named", "grouped"]]
    monkeypatch.setenv("WANDB_PROJECT", "a/b")
    with pytest.raises(GpsweepError, match=r"W&B does not take its settings: Invalid project name"):
        Wandb().check()


def test_two_runs_in_one_process_and_a_second_attempt_never_share_a_run(sweep: Path) -> None:
    for number in ("0", "1", "1"):
        Wandb(group="mine").log(sweep / number, sweep=sweep)
    runs = offline(sweep)
    begun = [records(run, "run")[0] for run in runs]
    assert len({each["run_id"] for each in begun}) == 3
    assert {each["run_group"] for each in begun} == {"mine"}
    assert [len(history(run)) for run in runs] == [5, 5, 5]
    assert [records(run, "exit")[0]["exit_code"] for run in runs] == [0, 0, 0]
    assert not (sweep / "0" / "wandb").exists()


def test_one_run_a_point(tmp_path: Path) -> None:
    finished = write(tmp_path / "sweep" / "0", label=["argmax", "uniform"], eps=[-0.5, 0.05])
    line = Wandb(per_point=True).log(finished.folder, sweep=finished.folder.parent)
    assert line == f"W&B: wandb sync {tmp_path / 'sweep' / 'wandb'}/offline-run-*"
    runs, expected = offline(finished.folder.parent), finished.expected()
    assert len(runs) == len(expected) == 4
    for run in runs:
        [begun], [row] = records(run, "run"), history(run)
        setting = begun["config"]["update"]
        numbers = expected.pop((f"{setting['label']}/input/1x", row["eps"]))
        assert {key: row[key] for key in numbers} == numbers
        assert setting["eps"] == row["eps"]
        assert begun["display_name"] == f"{setting['label']} eps={row['eps']}"
        assert begun["run_group"] == f"{group_name(tmp_path / 'sweep')}/0"
    assert not expected


def test_points_of_jobs_whose_folders_are_named_alike_are_no_group(tmp_path: Path) -> None:
    sweep = tmp_path / "my sweep"
    for job in ("a", "b"):
        finished = write(sweep / job / "val", label="argmax", eps=[0.5])
        line = Wandb(per_point=True).log(finished.folder, sweep=sweep)
    runs = offline(sweep)
    groups = {records(run, "run")[0]["run_group"] for run in runs}
    assert groups == {f"{group_name(sweep)}/{job}/val" for job in ("a", "b")}
    command = line.removeprefix("W&B: wandb sync")
    found = subprocess.run(
        f"printf '%s\\n' {command}", shell=True, check=True, capture_output=True, text=True
    )
    assert found.stdout.splitlines() == list(map(str, runs))


def test_a_folder_below_the_users_own(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    for folder in (home, here):
        folder.mkdir(exist_ok=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    Wandb(dir="~/shown").log(finished.folder)
    assert len(offline(home / "shown")) == 1
    assert list((home / "shown" / "wandb" / "data").iterdir()), "the tables that wait for a sync"
    assert not list(here.iterdir())


def test_no_key_is_one_message_at_once() -> None:
    start = perf_counter()
    with pytest.raises(GpsweepError, match=r"tracker\.mode=online: expected a W&B key, came none"):
        Wandb(mode="online").check()
    assert perf_counter() - start < 20
    with pytest.raises(GpsweepError, match=r"tracker\.mode=onlin: unknown\. Did you mean online"):
        Wandb(mode="onlin").check()
    with pytest.raises(GpsweepError, match=r"tracker\.tags=a: expected a list"):
        Wandb(tags="a").check()  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_the_mode_asked_for_overrules_that_of_the_environment(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # where nobody answers
    tracker = Wandb(mode="online", timeout_s=1)
    tracker.check()
    with pytest.warns(UserWarning, match="W&B did not open the run"):
        tracker.log(finished.folder)


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("WANDB_API_KEY", "short", r"WANDB_API_KEY invalid: API key must have 40\+ characters, has 5"),
        ("WANDB_MODE", "onlin", "mode Input should be 'online', 'offline'.*'onlin'"),
    ],
)
def test_what_wandb_does_not_take_is_one_message(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(GpsweepError, match=rf"^tracker\.mode=online: W&B cannot log in: .*{message}"):
        Wandb(mode="online").check()


@pytest.fixture
def slow_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A W&B server that knows the user, opens runs and takes no upload until the test is over."""
    over = Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers["Content-Length"]))
            if not any(word in asked for word in (b"upsertBucket", b"viewer", b"serverInfo", b":latest")):
                over.wait()
                return
            name = (json.loads(asked).get("variables") or {}).get("name")
            bucket = {"id": "b", "name": name, "displayName": name, "config": "{}", "historyLineCount": 0}
            bucket["project"] = {"id": "p", "name": "curves", "entity": {"id": "e", "name": "team"}}
            data = {"upsertBucket": {"bucket": bucket, "inserted": True}, "viewer": {"id": "u"}}
            data |= {"serverInfo": {"features": []}, "project": {"artifact": None}}
            answer = json.dumps({"data": data}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever).start()
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        yield
        over.set()
        server.shutdown()


@pytest.mark.parametrize("per_point", [False, True])
def test_an_upload_that_does_not_end_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slow_server: None, per_point: bool
) -> None:
    finished = write(tmp_path / "run", label="argmax", eps=[-0.5, 0.5])
    monkeypatch.setattr(wandb, "UPLOAD_S", 2)
    with pytest.warns(UserWarning) as caught:
        line = Wandb(mode="online", per_point=per_point).log(finished.folder)
    [begun] = (finished.folder / "wandb").glob("run-*")
    [warning] = [str(each.message) for each in caught]
    assert f"has not taken a whole run within 2 s; for the rest: wandb sync {begun}" in warning
    rest = f"{finished.folder / 'wandb'}/offline-run-*" if per_point else begun
    assert line == f"W&B: wandb sync {rest}"
    assert len(offline(finished.folder)) == per_point, "without waiting again"


@pytest.mark.parametrize("per_point", [False, True])
def test_without_a_network_the_run_is_kept_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, per_point: bool
) -> None:
    finished = write(tmp_path / "run", label="argmax", eps=[-0.5, 0, 0.5])
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # where nobody answers
    tracker = Wandb(mode="online", timeout_s=2, per_point=per_point)
    tracker.check()
    start = perf_counter()
    with pytest.warns(UserWarning, match="W&B did not open the run, so it is kept offline") as caught:
        line = tracker.log(finished.folder)
    assert perf_counter() - start < 60
    assert len(caught) == 1
    assert "wandb sync" in line
    assert len(offline(finished.folder)) == (3 if per_point else 1)


def test_nothing_is_printed(
    finished: Finished, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openai", ModuleType("openai"))  # of which W&B has something to sell
    Wandb().log(finished.folder)
    assert capfd.readouterr() == ("", "")


def test_a_tracker_that_fails_says_how_to_send_the_run_again(sweep: Path) -> None:
    (sweep / "file").write_text("in the way")
    with pytest.warns(UserWarning) as caught:
        assert send(Wandb(dir=str(sweep / "file" / "deep")), sweep / "0") is None
    message = str(caught[0].message)
    assert "tracker=wandb: NotADirectoryError" in message
    assert f"python -m gpsweep.track {sweep / '0'} tracker=wandb" in message
    line = send(Wandb(), sweep / "0")
    assert line == f"W&B: wandb sync {shlex.quote(str(offline(sweep)[0]))}"


def test_the_end_of_a_trackers_own_sentence_is_not_doubled(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log(*_: Any, **__: Any) -> str:
        raise OSError("The disk is full.")

    monkeypatch.setattr(Wandb, "log", log)
    with pytest.warns(UserWarning, match=r"OSError: The disk is full\. The results are whole"):
        send(Wandb(), sweep / "0")


def test_the_command_that_sends_again_goes_to_the_same_place(sweep: Path, tmp_path: Path) -> None:
    blocked = str(tmp_path / "a file" / "deep")
    (tmp_path / "a file").write_text("in the way")
    tracker = Wandb(dir=blocked, project="curves", tags=["a b", "2024"], per_point=True)
    with pytest.warns(UserWarning) as caught:
        send(tracker, sweep / "0")
    command = shlex.split(str(caught[0].message).partition("once it is mended: ")[2])
    assert command[:4] == ["python", "-m", "gpsweep.track", str(sweep / "0")]
    assert command[4] == "tracker=wandb"
    assert build(command[4:]) == tracker


def test_the_id_of_a_sweep_agent_serves_once(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_SWEEP_ID", "sweep0")
    monkeypatch.setenv("WANDB_RUN_ID", "agentsrun")
    for number in ("0", "1"):
        Wandb().log(sweep / number, sweep=sweep)
    begun = [records(run, "run")[0] for run in offline(sweep)]
    assert {each["sweep_id"] for each in begun} == {"sweep0"}
    assert len({each["run_id"] for each in begun}) == 2
    assert "agentsrun" in {each["run_id"] for each in begun}


def test_the_id_of_a_sweep_agent_serves_one_of_the_jobs_that_run_at_once(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb as client

    for number in ("0", "1"):
        client.teardown()  # a process of its own, with the environment that the agent left it
        monkeypatch.setenv("WANDB_SWEEP_ID", "sweep0")
        monkeypatch.setenv("WANDB_RUN_ID", "agentsrun")
        Wandb().log(sweep / number, sweep=sweep)
    ids = [records(run, "run")[0]["run_id"] for run in offline(sweep)]
    assert len(set(ids)) == 2
    assert ids.count("agentsrun") == 1


def test_the_library_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(GpsweepError, match=r"pip install '\.\[wandb\]' in the checkout"):
        Wandb().check()
