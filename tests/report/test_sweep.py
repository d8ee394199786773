"""The page that lays the runs of a sweep side by side."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from outcomes import make

from gpsweep import results, words
from gpsweep.errors import GpsweepError
from gpsweep.report.sweep import named, page, write_page
from gpsweep.results.findings import Findings

FEW: dict[str, Any] = {"images": 12, "label": ["argmax", "uniform"], "eps": [-0.5, 0, 0.5]}


def run(
    folder: Path, overrides: Sequence[str] = (), *, info: dict[str, Any] | None = None, **axes: Any
) -> Path:
    """Write what a finished run leaves of its results."""
    results.write(make(**{**FEW, **axes}, info=info), folder)
    (folder / "report.html").write_text("a report")
    if overrides:
        (folder / ".hydra").mkdir()
        (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {json.dumps(o)}\n" for o in overrides))
    return folder


def text(html: str) -> str:
    """Return what a table of the page says, a line a row."""
    body = html[html.index("<tbody>") : html.index("</tbody>")]
    lines = [re.sub(r"<[^>]*>", " ", row).replace("\xa0", " ") for row in body.split("</tr>")]
    return "\n".join(" ".join(line.replace("&nbsp;", " ").split()) for line in lines)


def test_a_row_says_what_the_runs_summary_says_and_leads_to_its_report(tmp_path: Path) -> None:
    shared = ["eps=[-0.5,0,0.5]", "data=camvid"]
    runs = [
        run(tmp_path / "0", [*shared, "model=a"], info={"model": "a"}),
        run(tmp_path / "job=1, b", [*shared, "model=<b>"], label="random_onehot", info={"model": "<b>"}),
        run(tmp_path / "2", [*shared, "model=c"], eps=0, info={"model": "c"}),
        run(tmp_path / "3", [*shared, "model=d"], label="ground_truth", info={"model": "d"}),
    ]
    (runs[2] / "report.html").unlink()
    html = page(tmp_path, runs)
    best = results.leader(json.loads((runs[0] / "summary.json").read_text()))
    assert best is not None
    low, high = (words.signed(best[key]) for key in ("delta_low", "delta_high"))
    base = results.tables(runs[0])[2]["base"]
    told = text(html).splitlines()
    gain = f"{words.signed(best['delta'])} {low} to {high} {'helps' if best['helps'] else 'no'}"
    assert told[0] == f"model=a {base:.2f} {best['label']} {words.eps(best['eps'])} {gain}"
    assert told[1].startswith("model=&lt;b&gt; ") and "<b>" not in html
    assert told[2] == f"model=c {base:.2f} not perturbed"
    assert told[3] == f"model=d {base:.2f} left to the report"
    assert re.findall(r'<a href="([^"]*)"', html) == [
        *("0/report.html", "job%3D1%2C%20b/report.html", "3/report.html")
    ]
    assert "12&nbsp;images" in html or "12 images" in html
    assert html.count("<svg class=") > 2 and 'id="gains-' in html


def test_what_was_held_out_is_told(tmp_path: Path) -> None:
    runs = [run(tmp_path / str(seed), info={"select": {"seed": seed}}, images=40) for seed in (0, 1)]
    html = page(tmp_path, runs)
    for folder, line in zip(runs, text(html).splitlines(), strict=False):
        chosen = json.loads((folder / "summary.json").read_text())["held_out"]["chosen"]
        assert words.signed(chosen["held_delta"]) in line and words.signed(chosen["held_low"]) in line
    assert "ε was chosen on some of the images, and the gain is that of the others" in html
    mixed = page(tmp_path, [runs[0], run(tmp_path / "2")])
    assert "Where ε was chosen on some of the images" in mixed


def test_runs_are_named_by_what_sets_them_apart(tmp_path: Path) -> None:
    one, other = (run(tmp_path / number, [f"seed={number}", "eps=1", f"shard={number}"]) for number in "01")
    said: list[dict[str, Any]] = [{"model": "a", "dataset": "x"}, {"model": "a", "dataset": "y"}]
    assert named([one, other], said) == ["seed=0", "seed=1"]
    (other / ".hydra" / "overrides.yaml").write_text("- data.root=${oc.env:NOWHERE}\n")
    assert named([one, other], said) == ["seed=0 eps=1", "data.root=${oc.env:NOWHERE}"]
    (other / ".hydra" / "overrides.yaml").write_text("- seed=0\n- eps=1\n")
    assert named([one, other], said) == ["a on x", "a on y"]
    for damaged in ("{", "3", "${", "- model=" + "x" * 100):
        (other / ".hydra" / "overrides.yaml").write_text(damaged)
        assert named([one, other], said) == ["a on x", "a on y"]
    assert named([one, other], [said[0]] * 2) == [str(one), str(other)]


def test_a_run_without_its_tables_is_named(tmp_path: Path) -> None:
    runs = [run(tmp_path / name, info={"model": name}) for name in ("a", "b")]
    (runs[0] / "summary.json").unlink()
    with pytest.raises(GpsweepError, match=r"a: expected results.csv.*missing summary\.json"):
        write_page(tmp_path, runs)
    assert not (tmp_path / "sweep.html").exists()


def test_many_runs_are_told_without_the_curves_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpsweep.report.sweep.PANELS", 2)
    runs = [run(tmp_path / str(number)) for number in range(4)]
    html = page(tmp_path, runs)
    assert text(html).count(" to ") == 4
    assert "The curves of 2 more runs are in their reports" in html.replace("\xa0", " ")


def test_the_leader_has_the_largest_gain(tmp_path: Path) -> None:
    outcome = make(**{**FEW, "images": 40})
    content = results.summary(Findings(outcome))
    rows = Findings(outcome).rows
    best = results.leader(content)
    assert best is not None
    assert best["delta"] == rows["delta"].max()
