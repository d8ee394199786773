"""What only a GPU can show; run with ``pytest -m gpu`` where there is one."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from commands import NET, SET, Terminal, pictures
from networks import CLASSES, NETWORKS, batch, build, entering
from torch import nn
from torch.utils.data import DataLoader

from benchmarks import curves, gpu, networks
from gpsweep import memory, results
from gpsweep.ahead import Ahead
from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.memo import Memo
from gpsweep.trainer import repeatable

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def gpu_of_a_run() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    repeatable()


@pytest.fixture
def waits_are_errors() -> Iterator[Callable[[], None]]:
    def begin() -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Synchronization debug mode is a prototype")
            torch.cuda.set_sync_debug_mode("error")

    yield begin
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", ["skips", "residual"])
def test_replay_and_full_forward_agree(name: str) -> None:
    net, layers = build(name).cuda(), NETWORKS[name][1]
    x, _ = batch(name)
    memo = Memo()
    points = dict(curve(net, x.cuda(), eps=[-1, 0, 1], layer=layers, memo=memo))
    memo.trusted = dict.fromkeys(memo.trusted, False)
    for point, logits in curve(net, x.cuda(), eps=[-1, 0, 1], layer=layers, memo=memo):
        torch.testing.assert_close(points[point], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", ["input", "encoder.down.1"])
def test_auto_puts_several_points_into_one_forward(layer: str) -> None:
    net = build("skips").cuda()
    x, _ = batch("skips")
    memo = Memo()
    options = {"eps": [-1, -0.5, 0, 0.5, 1], "layer": layer}
    auto = dict(curve(net, x.cuda(), **options, points_per_forward="auto", memo=memo))
    assert memo.points_per_forward == 5
    assert memo.room == memory.MOST
    for point, logits in curve(net, x.cuda(), **options):
        torch.testing.assert_close(auto[point], logits, rtol=1e-3, atol=1e-3)


def test_auto_knows_what_an_inner_layer_takes() -> None:
    device = torch.device("cuda")
    free = torch.cuda.mem_get_info(device)[0]
    sample = torch.empty(free // 40, dtype=torch.uint8, device=device)
    room = memory.fitting(device, lambda points: torch.cat([sample] * points).clone())
    assert 8 <= room <= 10, "half of the free memory, a fortieth of it twice for each point"
    huge = memory.fitting(device, lambda points: torch.empty(free * 2, dtype=torch.uint8, device=device))
    assert huge == 1


class Wide(nn.Module):
    """A network whose pass takes half a GiB a sample."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(3, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ballast = torch.ones(len(x), 2**27, device=x.device)
        return self.head(x) * ballast[:, :1, None, None]


@pytest.fixture
def little_memory() -> Iterator[None]:
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(4 * 2**30 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.empty_cache()


@pytest.mark.usefixtures("little_memory")
def test_too_many_points_for_the_gpu_are_halved_and_a_batch_is_refused() -> None:
    net = Wide().eval().requires_grad_(False).cuda()
    x = batch("skips")[0].cuda()
    memo = Memo()
    with pytest.warns(UserWarning, match="memory of cuda:0 does not hold 16 points") as said:
        found = dict(curve(net, x, eps=range(1, 17), points_per_forward=16, memo=memo))
    assert len(said) == 1
    assert memo.room in (1, 2)
    for point, logits in curve(net, x, eps=range(1, 17)):
        torch.testing.assert_close(found[point], logits, rtol=1e-3, atol=1e-3)
    with pytest.raises(GpsweepError, match=r"data.batch_size=20: .* lower data.batch_size or data.size"):
        list(curve(net, x.repeat(10, 1, 1, 1), eps=1))
    assert torch.cuda.memory_allocated() < 2**30, "what the failed pass held is free again"


@pytest.mark.parametrize("precision", ["bf16", "16"])
def test_the_points_in_fewer_bits_are_those_of_autocast(precision: Any) -> None:
    net = build("skips").cuda()
    x = batch("skips")[0].cuda().contiguous(memory_format=torch.channels_last)
    moved = entering(net)
    found = dict(curve(net, x, eps=[-1, 0, 1], precision=precision))
    exact = dict(curve(net, x, eps=[-1, 0, 1]))
    lower = {"bf16": torch.bfloat16, "16": torch.float16}[precision]
    for point, logits in found.items():
        assert logits.dtype == torch.float32
        at = x if point.eps == 0 else moved[2 if point.eps == -1 else 3]
        with torch.no_grad(), torch.autocast("cuda", lower):
            assert logits.equal(net(at).float()), point
        torch.testing.assert_close(logits, exact[point], rtol=0.1, atol=0.1)
        assert not logits.equal(exact[point])


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("layer", ["input", "encoder.down.1"])
def test_no_point_waits_for_the_gpu(waits_are_errors: Callable[[], None], precision: Any, layer: str) -> None:
    net = build("skips").cuda()
    x, target = (part.cuda() for part in batch("skips"))
    options = {"label": ["argmax", "uniform", "top2", "ground_truth"], "layer": layer, "target": target}
    options |= {"eps": [-1, 0, 1], "step": ["sign", "rms"], "precision": precision, "memo": Memo()}
    list(curve(net, x, **options))
    waits_are_errors()
    found = list(curve(net, x, **options))
    assert len(found) == 4 * 2 * 3


def test_batches_are_copied_ahead_and_whole() -> None:
    def collate(numbers: list[int]) -> Any:
        image = torch.full((2, 3, 256, 256), float(numbers[0]))
        target = torch.full((2,), numbers[0])
        return {"image": image, "target": target, "valid": None, "ids": [str(numbers[0])], "content": ""}

    loader = DataLoader(range(12), collate_fn=collate, pin_memory=True)  # type: ignore[arg-type]
    for number, found in enumerate(Ahead(loader, torch.device("cuda"))):
        assert not isinstance(found, GpsweepError)
        assert found["image"].is_cuda
        assert (found["image"] == number).all()
        assert found["target"].tolist() == [number] * 2
    assert number == 11


def test_a_batch_beyond_memory_is_named_at_an_inner_layer_too() -> None:
    net = Wide().eval().requires_grad_(False).cuda()
    x = torch.zeros(8, 3, 9, 14, device="cuda")
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        with pytest.raises(GpsweepError, match=r"data.batch_size=8: .* lower data.batch_size or data.size"):
            list(curve(net, x, eps=1, layer="head"))
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def test_32_bits_are_32() -> None:
    net = nn.Conv2d(3, CLASSES, 3, padding=1).eval().requires_grad_(False)
    x = batch("skips")[0]
    exact = nn.functional.conv2d(x.double(), net.weight.double(), net.bias.double(), padding=1)
    [(_, found)] = curve(net.cuda(), x.cuda(), eps=0)
    assert (found.cpu() - exact).abs().max() < 1e-5 * exact.abs().max()


def test_the_benchmark_runs() -> None:
    effort, device = curves.Effort(eps=(-0.5, 0.0, 0.5), repeats=1), torch.device("cuda")
    rows = [*gpu.speed(networks.tiny(), effort, device), *gpu.scores(effort, device, limit=8)]
    assert [row.item for row in rows] == ["p", "p", *["p", "p", "q"] * 3, "r", "r", "r"]
    assert all(row.value.high < 50 for row in rows[-3:])
    assert gpu.machine()["gpu"] == torch.cuda.get_device_name()


@pytest.mark.parametrize(("precision", "share"), [("32", 0.01), ("bf16", 0.1)])
def test_the_command_on_the_gpu_agrees_with_the_cpu(terminal: Terminal, precision: str, share: float) -> None:
    pictures(terminal.folder)
    shared = [*SET, *NET, "eps=-1,0,1"]
    found = []
    for where in (["trainer.accelerator=cpu"], ["trainer.accelerator=gpu", f"precision={precision}"]):
        assert terminal("-m", *shared, *where, f"hydra.sweep.dir={len(found)}")[0] == 0
        outcome = results.read(terminal.folder / str(len(found)) / "0")
        found.append(np.asarray(outcome.counts).astype(int))
    assert abs(found[0] - found[1]).sum() <= share * found[0].sum()
