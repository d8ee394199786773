from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from benchmarks import command, curves, networks, run, table, table6
from benchmarks.clock import Spread, ratios, side_by_side
from benchmarks.floor import naive
from gpsweep.engine import curve
from gpsweep.points import grid
from gpsweep.walk import Walk

BARELY = curves.Effort(eps=(-0.5, 0.0, 0.5), repeats=1, sampled=1)


def test_fused_and_naive_loops_predict_the_same() -> None:
    network = networks.tiny()
    bench = curves.Bench(network, BARELY)
    points = grid(label=curves.LABELS, layer=network.layers, eps=[-4.0, 4.0])
    ids = bench.batch["ids"]
    fused = curve(bench.net, bench.x, points.eps, points.label, layer=points.layer, sample_ids=ids)
    predicted = {point: logits.max(1).indices for point, logits in fused}
    again = naive(bench.net, bench.rows, points.points(), ids)
    for point, expected in zip(points.points(), again, strict=True):
        assert predicted[point].equal(expected), point
    assert len({tuple(prediction.flatten().tolist()) for prediction in predicted.values()}) > 4


def test_the_bare_network_gives_the_logits_of_the_wrapped_one() -> None:
    bench = curves.Bench(networks.tiny(), BARELY)
    with torch.no_grad():
        bare = networks.Bare(bench.net)(bench.net.preprocess(bench.rows))
        assert bare.equal(bench.net(bench.rows))
        assert bare.isfinite().all()


def test_every_item_is_measured_and_stored(tmp_path: Path) -> None:
    rows = list(curves.measure(networks.tiny(), BARELY))
    assert [row.item for row in rows] == ["a", "b", "b", "d", "d", "c", "c"]
    assert all(0 < row.value.low <= row.value.median <= row.value.high for row in rows)
    assert rows[3].value.high < 1
    assert [row.details["points"] for row in rows[-2:]] == [4 * 4 * 3] * 2

    about = table.machine()
    table.show(rows, about, Console(quiet=True))
    table.store(rows, about, tmp_path / "results" / "tiny.json")
    document = json.loads((tmp_path / "results" / "tiny.json").read_text())
    assert set(document["machine"]) == {"cpu", "cores", "threads", "python", "torch", "date"}
    # The letters in order; c is measured after d.
    assert [row["item"] for row in document["rows"]] == ["a", "b", "b", "c", "c", "d", "d"]
    assert {"median", "low", "high"} == set(document["rows"][0]["value"])
    assert str(tmp_path) not in json.dumps(document)


def test_what_is_measured_again_takes_its_rows_place(tmp_path: Path) -> None:
    path, before = tmp_path / "cpu.json", {"date": "2026-01-01"}
    old = [table.Row(item, "net", "ratio", Spread.of([1.0]), "×") for item in "ab"]
    table.store(old, before, path)
    table.store([table.Row("a", "net", "ratio", Spread.of([2.0]), "×")], {"date": "2026-02-02"}, path)
    rows = json.loads(path.read_text())["rows"]
    assert [(row["item"], row["value"]["median"], row["date"]) for row in rows] == [
        ("a", 2.0, "2026-02-02"),
        ("b", 1.0, "2026-01-01"),
    ]


def test_nothing_stays_on_the_network() -> None:
    bench = curves.Bench(networks.tiny(), BARELY)
    before = torch.autograd.grad, torch.Tensor.softmax, Walk.pulled
    outside, own = bench.shares(grid(eps=BARELY.eps))
    assert 0 < own < outside < 1
    assert "forward" not in vars(bench.net)
    assert (torch.autograd.grad, torch.Tensor.softmax, Walk.pulled) == before


@pytest.mark.parametrize(
    ("bounds", "met"),
    [({"at_most": 2.0}, True), ({"at_most": 1.9}, False), ({"at_least": 2.1}, False), ({}, None)],
)
def test_bounds_are_held_against_the_median(bounds: dict[str, float], met: bool | None) -> None:
    row = table.Row("a", "net", "ratio", Spread.of([5.0, 2.0, 1.0]), "×", **bounds)
    assert row.value == Spread(2.0, 1.0, 5.0)
    assert row.met is met


def test_loops_take_turns() -> None:
    turns: list[str] = []
    times = side_by_side({name: (lambda name=name: turns.append(name)) for name in "ab"}, 3)
    assert turns == ["a", "b", "b", "a", "a", "b"]
    assert [len(values) for values in times.values()] == [3, 3]
    assert ratios([6, 8], [2, 4]) == [3, 2]


def test_the_networks_build_and_their_layers_exist() -> None:
    from gpsweep import layers

    for network in networks.networks().values():
        net = replace(network, size=(64, 96), samples=2).build()
        assert next(net.parameters()).requires_grad is False
        for layer in (*network.layers[1:], *network.spread):
            layers.find(net, layer)


def test_time_and_memory_of_a_process() -> None:
    wall, memory = command.run([sys.executable, "-c", "import time; x = b'x' * 2**27; time.sleep(0.3)"])
    assert wall >= 0.3
    assert 0.12 < memory < 1
    with pytest.raises(RuntimeError, match=r"exit code 3\nwhy"):
        command.run([sys.executable, "-c", "print('why'); raise SystemExit(3)"])


@pytest.mark.slow
def test_the_command_is_measured() -> None:
    rows = list(command.measure(["-m", "eps=0,1", "data.limit=2"], repeats=1, title="two points"))
    assert [(row.item, row.unit) for row in rows] == [("e", "s"), ("e", "GiB"), ("f", "s")]
    whole, memory, first = (row.value.median for row in rows)
    assert 0 < first < whole
    assert 0.1 < memory < 8


def test_parts_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured: list[str] = []
    row = table.Row("a", "net", "ratio", Spread.of([2.0]), "×", at_most=1.0)

    def measure(network: networks.Network, effort: curves.Effort) -> list[table.Row]:
        measured.append(network.title)
        return [row]

    monkeypatch.setattr(curves, "measure", measure)
    out = tmp_path / "cpu.json"
    assert run.main(["--only", "unet", "--quick", "--out", str(out)]) == 0
    assert run.main(["--only", "unet"]) == 1, "a bound that is not kept"
    assert measured == [networks.networks()["unet"].title] * 2
    assert json.loads(out.read_text())["machine"]["quick"] is True


def test_table_6_is_measured_only_where_its_data_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPSWEEP_DATA", str(tmp_path))
    assert not table6.at_hand()
    (tmp_path / "mnist").mkdir()
    assert not table6.at_hand()
    (tmp_path / "cifar-10-batches-py").mkdir()
    assert table6.at_hand()
    monkeypatch.setattr(command, "run", lambda line: (400.0 - 50 * line.count("small=true"), 1.0))
    assert [(row.item, row.value.median) for row in table6.measure()] == [("o", 350.0), ("o", 400.0)]
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setenv("GPSWEEP_DATA", tmp_path.name)
    assert not table6.at_hand(), "the command runs in another folder"
