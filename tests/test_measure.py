"""Times are those of the clock, by the image, within the budget, and never made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from commands import Terminal
from omegaconf import OmegaConf
from torch import Tensor, nn
from written import csv_rows

from gpsweep import cost, measure
from gpsweep.cost import Setting
from gpsweep.data.batch import Batch
from gpsweep.memo import Memo
from gpsweep.points import Point, grid
from gpsweep.refine import Refinement

CLASSES = 3


class Clock:
    """A clock that only the network moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Net(nn.Module):
    """A network whose forward pass takes some seconds an image, and its backward twice as many."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self.clock, self.seconds, self.passes, self.images = clock, seconds, 0, 0
        self.conv = nn.Conv2d(3, CLASSES, 1)
        self.eval()

    def spend(self, times: float) -> None:
        self.clock.now += times * self.seconds * self.images

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        self.images = len(x)
        self.spend(1)
        z: Tensor = self.conv(x / 255)
        if z.requires_grad:
            z.register_hook(lambda gradient: self.spend(2))
        return z


def batch() -> Batch:
    image = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0)) * 255
    target = torch.zeros(2, 6, 8, dtype=torch.int64)
    return Batch(image=image, target=target, valid=None, ids=["a", "b"], content="")


def points(**axes: Any) -> Any:
    return grid(**({"label": ["argmax", "uniform"], "eps": [-1, 0, 1]} | axes)).points()


def measured(net: Net, wanted: Any, **how: Any) -> dict[Setting, cost.Cost]:
    options = {"refinement": Refinement(("none", "flip", "multiscale"))}
    found = measure.measure(net, batch(), wanted, classes=CLASSES, options=options, clock=net.clock, **how)
    return {each.setting: each for each in found}


def test_costs_are_those_of_the_passes_a_point_takes_alone() -> None:
    net = Net(Clock(), 0.001)
    found = measured(net, points(iterations=2, refine=["none", "flip", "multiscale"]), device_name="abacus")
    expected = {
        Setting(None, None, 0, "flip"): 2,
        Setting(None, None, 0, "multiscale"): 3,
        # clean, backward, prediction
        Setting("label", "input", 1, "none"): 1 + 2 + 1,
        Setting("label", "input", 1, "flip"): 2 * 4,
        Setting("label", "input", 1, "multiscale"): 3 * 4,
        # a second iteration's prediction is pulled back as well
        Setting("label", "input", 2, "none"): 1 + 2 + (1 + 2) + 1,
        Setting("label", "input", 2, "flip"): 2 * 7,
        Setting("label", "input", 2, "multiscale"): 3 * 7,
    }
    assert {setting: each.passes for setting, each in found.items()} == pytest.approx(expected)
    for setting, each in found.items():
        assert each.forward_seconds == pytest.approx(0.001), "of an image, not of the batch of two"
        assert each.seconds == pytest.approx(0.001 * expected[setting])
        assert each.device == "abacus"


def test_only_what_is_not_known_is_measured() -> None:
    net = Net(Clock(), 0.001)
    wanted = points(refine=["none", "flip"])
    left = Setting("label", "input", 1, "flip")
    assert list(measured(net, wanted, known=set(cost.settings(wanted)) - {left})) == [left]


@pytest.mark.parametrize(("seconds", "turns"), [(0.001, measure.MOST), (0.05, 3), (1.5, measure.FEWEST)])
def test_the_shorter_a_pass_the_more_often_it_is_timed(seconds: float, turns: int) -> None:
    net = Net(Clock(), seconds)
    measured(net, points(refine="flip", eps=0), budget=1000)
    assert net.passes == 2 + turns * (1 + 2)


class Shared(Net):
    """A network on a machine that others use at times, and whose first pass takes long."""

    def __init__(
        self, clock: Clock, seconds: float, *, first: float = 1, busy: Callable[[float], bool]
    ) -> None:
        super().__init__(clock, seconds)
        self.first, self.busy = first, busy

    def spend(self, times: float) -> None:
        slowed = self.first if self.passes == 1 else 10 if self.busy(self.clock.now - 100) else 1
        super().spend(times * slowed)


@pytest.mark.parametrize(
    "net",
    [
        Shared(Clock(), 0.002, busy=lambda now: 0.1 < now < 0.3),
        Shared(Clock(), 0.002, busy=lambda now: int(now * 25) % 2 > 0),
        Shared(Clock(), 0.5, first=5, busy=lambda now: False),
        Shared(Clock(), 0.5, busy=lambda now: now < 30),
    ],
)
def test_a_machine_that_others_use_leaves_the_cost_as_it_is(net: Shared) -> None:
    [found] = measured(net, points(), budget=120).values()
    assert found.passes == pytest.approx(1 + 2 + 1)


class Stalled(Net):
    """A network that waits for others at every third step, whatever it computes."""

    steps = 0

    def spend(self, times: float) -> None:
        for _ in range(int(times)):
            self.steps += 1
            super().spend(1)
            self.clock.now += 0.03 * (self.steps % 3 == 0)


def test_a_bare_pass_is_not_told_by_those_that_nobody_held_up_alone() -> None:
    [found] = measured(Stalled(Clock(), 0.0005), points()).values()
    assert 3 < found.passes < 5, "of single passes the least would make it 34"


@pytest.mark.parametrize(("seconds", "images"), [(0.09, 2), (0.11, 1)])
def test_of_a_slow_network_one_image_is_enough(seconds: float, images: int) -> None:
    net = Net(Clock(), seconds)
    [found] = measured(net, points()).values()
    assert (found.seconds, found.forward_seconds) == pytest.approx((4 * seconds, seconds))
    assert net.clock.now - 100 == pytest.approx(seconds * (2 + images + 2 * images * (4 + 1)))


def test_what_can_be_timed_but_once_is_left_out() -> None:
    wanted = points(refine="flip", eps=[1])
    once, twice = Net(Clock(), 0.5), Net(Clock(), 0.5)
    first = 2 * 0.5 + 0.5
    assert measured(once, wanted, budget=first + 4.5 + 2) == {}
    assert [each.passes for each in measured(twice, wanted, budget=first + 4.5 + 4.5).values()] == [8]


def test_a_guide_finds_its_neighbours_in_every_pass_that_is_timed() -> None:
    class Guide:
        """Takes as long as two passes for images that it has not seen, and much longer for the first."""

        def __init__(self, clock: Clock) -> None:
            self.clock, self.known, self.first = clock, False, True

        def forget(self) -> None:
            self.known = False

        def __call__(self, pull: Any, step: Any, *, x: Tensor, **_: Any) -> list[Tensor]:
            self.clock.now += 0.0 if self.known else 0.02 * (100 if self.first else 1)
            self.known, self.first = True, False
            return [torch.ones_like(x)]

    net = Net(Clock(), 0.005)
    options = {"guides": {"knn": Guide(net.clock)}}
    wanted = [Point(label="knn", eps=1.0)]
    [found] = measure.measure(
        net, batch(), wanted, classes=CLASSES, options=options, clock=net.clock, budget=100
    )
    assert found.passes == pytest.approx(1 + 1 + 2), "no backward pass: the guide did without"


def test_what_does_not_fit_into_the_budget_is_left_out() -> None:
    net = Net(Clock(), 0.1)
    found = measured(net, points(iterations=3, refine=["none", "flip"]), budget=4)
    assert Setting(None, None, 0, "flip") in found
    assert Setting("label", "input", 3, "flip") not in found
    assert net.clock.now - 100 < 4 + 2 * 0.2 * 4 * 2, "one setting over it at most"
    slow = Net(Clock(), 30.0)
    assert measured(slow, points(refine=["none", "flip"])) == {}
    assert slow.passes == 1


class Source:
    """Two images more than are looked at."""

    task, classes, name = "segmentation", ("a", "b", "c"), "made up"

    def __init__(self) -> None:
        self.ids = [str(place) for place in range(len(self))]
        self.asked: list[int] = []

    def __len__(self) -> int:
        return measure.IMAGES + 2

    def __getitem__(self, place: int) -> Any:
        self.asked.append(place)
        one = batch()
        return {"image": one["image"][0].byte(), "target": one["target"][0], "id": self.ids[place]}


def test_what_is_stored_is_not_measured_again_unless_asked(tmp_path: Path) -> None:
    def ask(wanted: Any, *, again: bool = False) -> list[int]:
        source = Source()
        parts = SimpleNamespace(
            store=SimpleNamespace(folder=tmp_path),
            net=nn.Sequential(nn.Conv2d(3, CLASSES, 1)).eval(),
            source=source,
            classes=CLASSES,
            trainer=SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu"))),
        )
        cfg = OmegaConf.create({"fresh": again, "data": {"batch_size": 3}})
        options = {"refinement": Refinement(("none", "flip"))}
        measure.measure_missing(cfg, parts, wanted, options=options, memo=Memo(), spent=0.0)  # type: ignore[arg-type]
        return source.asked

    assert ask(points(eps=0)) == [], "the bare network costs one pass, measured or not"
    assert ask(points()) == [0, 1, 2]
    assert list(cost.stored(tmp_path)) == [Setting("label", "input", 1, "none")]
    assert ask(points()) == []
    assert ask(points(), again=True) == [0, 1, 2]
    assert ask(points(refine=["none", "flip"])) == [0, 1, 2]
    assert set(cost.stored(tmp_path)) == set(cost.settings(points(refine=["none", "flip"])))


def test_a_finished_run_knows_its_costs_at_once(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["-m", "eps=0,0.5", "refine=none,flip", "data.limit=2"]

    def costs() -> list[str]:
        code, _, err = terminal(*command)
        assert code == 0, err
        path = max(terminal.results(), key=lambda path: path.stat().st_mtime_ns)
        return [line["cost"] for line in csv_rows(path)]

    monkeypatch.setattr("gpsweep.measure.SECONDS", 60.0)  # other tests may keep the machine busy
    first = costs()
    assert first[0] == "1.0"
    assert all(float(each) > 0 for each in first)
    monkeypatch.setattr("gpsweep.measure.measure", None)  # it would fail
    assert costs() == first
