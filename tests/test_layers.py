from __future__ import annotations

import re
from dataclasses import dataclass
from time import perf_counter, sleep
from typing import Any

import pytest
import torch
from networks import Residual, batch, build
from torch import Tensor, nn

from gpsweep import layers
from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.layers.__main__ import main, rows, show
from gpsweep.models.pixels import PixelNet


def test_names_aliases_and_calls() -> None:
    net = build("skips")
    net.layer_aliases = {"deep": "encoder.down.3"}
    assert layers.find(net, "deep").path == "encoder.down.3"
    assert layers.find(net, "encoder.down.0") == layers.Call("encoder.down.0", 0)
    assert layers.find(net, "encoder.down.3.relu@2") == layers.Call("encoder.down.3.relu", 2)
    for wrong in ("", "encoder.", "deep@x", "deep@0", "deep@²", "nowhere"):
        with pytest.raises(GpsweepError, match="layer="):
            layers.find(net, wrong)
    with pytest.raises(GpsweepError, match="Did you mean deep"):
        layers.find(net, "dep")


def test_a_shared_module_is_found_by_each_of_its_paths() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 3, 1)
            self.b = self.a

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.b(self.a(x))

    assert layers.find(Shared(), "b").path == layers.find(Shared(), "a").path == "a"


def test_a_trace_knows_order_parents_and_in_place_changes() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Residual(4)).eval()
    calls = layers.trace(net, torch.randn(1, 3, 5, 5))
    found = {(done.call.path, done.call.number): done for done in calls}
    assert [done.call.path for done in calls][-2:] == ["1", ""]
    assert found["1.relu", 2].parents[-1] == layers.Call("1")
    assert found["1.bn1", 1].changed_later, "the ReLU works in place"
    assert found["1.bn2", 1].changed_later, "the sum works in place"
    assert not found["0", 1].changed_later
    assert found["", 1].shape == (1, 4, 5, 5)
    ended = [done.ended for done in calls]
    assert ended == sorted(ended)


def test_only_the_outermost_finished_calls_are_replayed() -> None:
    net = build("skips")
    x, _ = batch("skips")
    calls = layers.trace(net, x)
    replay = layers.replay_of(calls, layers.Call("encoder.down.3.conv2"))
    assert {call.path for call in replay.unmoved} == {
        "encoder.stem",
        "encoder.relu",
        "encoder.down.0",
        "encoder.down.1",
        "encoder.down.2",
        "encoder.down.3.conv1",
        "encoder.down.3.bn1",
        "encoder.down.3.relu",
    }
    assert {call.path for call in layers.replay_of(calls, layers.Call("merge")).unmoved} == {"encoder"}


def test_of_a_recording_only_what_one_layer_needs_is_repeated() -> None:
    net, (x, _) = build("skips"), batch("skips")
    calls = layers.trace(net, x)
    early, late = (layers.replay_of(calls, layers.Call(path)) for path in ("encoder.relu", "merge"))
    with torch.no_grad(), layers.recorded(net, [early, late]) as recording:
        net(x)
    found = layers.repeated(recording, early, samples=2, times=3)
    assert list(found.activations) == [layers.Call("encoder.relu")]
    assert list(found.outputs) == [layers.Call("encoder.stem")]
    stem = recording.outputs[layers.Call("encoder.stem")]
    assert found.outputs[layers.Call("encoder.stem")].equal(torch.cat([stem] * 3))


def test_a_network_s_own_forward_attribute_is_restored() -> None:
    net = build("skips")
    x, _ = batch("skips")
    own = net.encoder.stem.forward
    net.encoder.stem.forward = own
    calls = layers.trace(net, x)
    replay = layers.replay_of(calls, layers.Call("encoder.down"))
    with torch.no_grad(), layers.recorded(net, [replay]) as recording:
        net(x)
    with pytest.raises(ValueError, match="spatial"), layers.replayed(net, replay, recording, torch.zeros(1)):
        net(x)
    assert net.encoder.stem.__dict__["forward"] is own
    assert "forward" not in net.encoder.down.__dict__


def test_rows_of_the_table() -> None:
    net = build("tuples")
    x, _ = batch("tuples")
    table = {name: (shape, share) for name, shape, share in rows(net, x, repeats=3)}
    assert table["input"] == ("2×3×9×14", 1.0)
    assert table["first"][0] == "2×6×9×14, 2×6×9×14"
    assert {"shared@1", "shared@2"} <= set(table)
    assert 1 > table["first"][1] > table["shared@2"][1] > table["head"][1] >= 0


class Sleep(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        sleep(0.05)
        return x


class Beside(nn.Module):
    """A layer, a branch that is slow but does not depend on it, and one that does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.side, self.head = nn.Conv2d(3, 3, 1), Sleep(), Sleep()

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return self.side(x) + self.head(h)


def test_the_table_leaves_branches_out_that_do_not_depend_on_a_layer() -> None:
    table = {name: share for name, _, share in rows(Beside(), torch.zeros(1, 3, 4, 4), repeats=1)}
    assert 0.3 < table["layer"] < 0.7
    assert table["side"] < 0.3, "the head runs later, of the layer alone"
    assert table["head"] < 0.3


def test_the_table_of_thousands_of_modules_is_made_at_once() -> None:
    net = nn.Sequential(*(nn.Identity() for _ in range(3000)))
    start = perf_counter()
    table = rows(net, torch.zeros(1, 3), repeats=1)
    assert perf_counter() - start < 10
    assert len(table) == 3001
    # What it takes to look at the modules is no part of the pass.
    assert table[1][2] > 0.95
    assert table[-1][2] < 0.05


@dataclass
class Found:
    features: Tensor


class Kept(nn.Module):
    """A module that gives tensors in an object of its own, numbers and nothing."""

    def forward(self, x: Tensor) -> tuple[Tensor, Found, int, None]:
        return x, Found(x), 9, None


def test_of_an_object_the_table_says_its_kind_alone() -> None:
    net = nn.Sequential(nn.Conv2d(3, 2, 1), Kept())
    [_, _, (name, shape, _)] = rows(net, torch.zeros(1, 3, 4, 4), repeats=1)
    assert (name, shape) == ("1", "1×2×4×4, Found, 9, None")


class Nearest(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1)


class Wrapped(nn.Module):
    def forward(self, x: Tensor) -> Found:
        return Found(x)


class Sided(nn.Module):
    """Layers that cannot be moved: one gives numbers of codes, one an object, and one leads to no logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.nearest, self.codes = nn.Conv2d(3, 4, 1), Nearest(), nn.Embedding(4, 5)
        self.wrapped, self.side, self.head = Wrapped(), nn.Conv2d(4, 5, 1), nn.Conv2d(4, 5, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        h = self.wrapped(self.body(x)).features
        codes = self.codes(self.nearest(h)).movedim(-1, 1)
        return {"out": self.head(h) + codes, "aux": self.side(h)}


def test_what_can_be_perturbed_is_listed_and_nothing_else() -> None:
    net, x = PixelNet(Sided()).eval(), torch.rand(1, 3, 4, 4)
    listed = [name for name, _, _ in rows(net, x, repeats=1)]
    assert listed == ["input", "body", "codes", "head"]
    assert len(list(curve(net, x, 1.0, layer=listed))) == 4
    for name in ("nearest", "wrapped", "side"):
        with pytest.raises(GpsweepError, match=f"layer={name}: "):
            list(curve(net, x, 1.0, layer=name))


class Levels(nn.Module):
    """Part of a network that gives as many tensors as are wanted."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.levels = levels

    def forward(self, x: Tensor) -> list[Tensor]:
        return [x] * self.levels


class Summed(nn.Module):
    def __init__(self, levels: int = 2) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(Levels(levels)), nn.Conv2d(3, 10, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.stack(self.body(x)).sum(0))


MADE = {"whole": ["input"], "part": ["input", "body", "head"], "itself": ["input", "head"]}


@pytest.mark.parametrize("made", MADE)
def test_layers_within_what_is_compiled_are_not_listed(made: str) -> None:
    """Perturbing them is refused; what is listed can be."""
    net: Any = Summed().eval()
    if made == "whole":
        net = torch.compile(net, backend="eager")
    elif made == "part":
        net.body = torch.compile(net.body, backend="eager")
    else:
        net.body.compile(backend="eager")
    with pytest.warns(UserWarning, match=r"within what torch\.compile has made are left out"):
        table = rows(net, torch.zeros(1, 3, 4, 4), repeats=1)
    assert [name for name, _, _ in table] == MADE[made]
    for name in MADE[made][1:]:
        layers.find(net, name)
    with pytest.raises(GpsweepError) as refused:
        layers.find(net, "boddy.0")
    assert "_orig_mod" not in str(refused.value)


@pytest.mark.parametrize("columns", [80, 120])
def test_of_many_tensors_a_terminal_shows_the_first(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = rows(Summed(40), torch.zeros(1, 3, 4, 4), repeats=1)
    monkeypatch.setenv("COLUMNS", str(columns))
    show(table, "net")
    out = capsys.readouterr().out
    assert "1×3×4×4, 1×3×4×4, 1×3×4×4 … and 37 more" in " ".join(re.sub(r"\d+ %", "", out).split())
    assert len(out.splitlines()) < 15
    assert max(map(len, out.splitlines())) <= columns
    monkeypatch.delenv("COLUMNS")
    show(table, "net")
    assert capsys.readouterr().out.count(", 1×3×4×4" * 39) == 2, "whole in a pipe"


def test_the_command_prints_the_table_or_one_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    alias = "+model.aliases.deep=encoder.down.3.relu"
    assert main(["data.limit=1", "model=custom", "model.net=networks.small", alias]) == 0
    out = capsys.readouterr().out
    assert "deep@2 = encoder.down.3.relu@2" in out
    assert "encoder.down.3.relu@1" in out
    assert "net." not in out
    assert main(["model=custom", "model.net=networks.absent"]) == 1
    assert "model.net=networks.absent" in capsys.readouterr().err
    assert main(["memory_format=channel_last"]) == 1
    assert "Did you mean channels_last" in capsys.readouterr().err
    for key in ("modl=smp", "+modl=smp"):
        assert main([key]) == 1
        assert capsys.readouterr().err.startswith("gpsweep: modl: no such key. Did you mean model?")


@pytest.mark.parametrize("given", [["--help"], ["-h"], ["model=custom", "--help"]])
def test_the_command_says_how_it_is_used(given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given) == 0
    said = capsys.readouterr()
    assert said.out.startswith("python -m gpsweep.layers [KEY=VALUE …]")
    assert all(len(line) <= 80 for line in said.out.splitlines())
    assert said.err == ""
