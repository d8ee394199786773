"""What only a GPU can show; run with ``pytest -m gpu`` where there is one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from commands import Terminal, pictures
from networks import CLASSES, NETWORKS, batch, build

from gpsweep import results
from gpsweep.engine import curve
from gpsweep.passes import Memo

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def deterministic_gpu() -> Iterator[None]:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    before = torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = False, True
    yield
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = before


@pytest.mark.parametrize("name", ["skips", "residual"])
def test_replay_and_full_forward_agree(name: str) -> None:
    net, layers = build(name).cuda(), NETWORKS[name][1]
    x, _ = batch(name)
    memo = Memo()
    points = dict(curve(net, x.cuda(), eps=[-1, 0, 1], layer=layers, memo=memo))
    memo.trusted = dict.fromkeys(memo.trusted, False)
    for point, logits in curve(net, x.cuda(), eps=[-1, 0, 1], layer=layers, memo=memo):
        torch.testing.assert_close(points[point], logits, rtol=1e-4, atol=1e-4)


def test_auto_puts_several_points_into_one_forward() -> None:
    net = build("skips").cuda()
    x, _ = batch("skips")
    memo = Memo()
    eps = [-1, -0.5, 0, 0.5, 1]
    auto = dict(curve(net, x.cuda(), eps=eps, points_per_forward="auto", memo=memo))
    assert memo.points_per_forward is not None
    assert memo.points_per_forward > 1
    for point, logits in curve(net, x.cuda(), eps=eps):
        torch.testing.assert_close(auto[point], logits, rtol=1e-3, atol=1e-3)


def test_the_command_on_the_gpu_agrees_with_the_cpu(terminal: Terminal) -> None:
    pictures(terminal.folder)
    data = [
        "data=folder",
        "data.images=images",
        "data.masks=masks",
        f"data.classes={CLASSES}",
        "data.void=255",
    ]
    shared = [*data, f"data.classes={CLASSES}", "model=custom", "model.net=networks.small", "eps=-1,0,1"]
    found = []
    for accelerator in ("cpu", "gpu"):
        where = [f"trainer.accelerator={accelerator}", f"hydra.sweep.dir={accelerator}"]
        assert terminal("-m", *shared, *where)[0] == 0
        found.append(results.read(terminal.folder / accelerator / "0"))
    difference = abs(found[0].counts.astype(int) - found[1].counts.astype(int)).sum()
    assert difference <= 0.01 * found[0].counts.sum()
