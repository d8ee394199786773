"""``python -m benchmarks.gpu``: the engine against its floor on a GPU, and the score in fewer bits."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra import compose, initialize_config_dir

from benchmarks.clock import Spread, ratios, side_by_side
from benchmarks.curves import FLOOR, QUICK, Effort, medians
from benchmarks.floor import floor
from benchmarks.networks import Bare, Network, networks
from benchmarks.table import Row, show, store
from gpsweep import config
from gpsweep.console import standard_output
from gpsweep.counting import count
from gpsweep.data.batch import Batch, batch_of, on_device, rows_of
from gpsweep.memo import Memo
from gpsweep.metrics import miou, total
from gpsweep.models.build import build
from gpsweep.points import Grid, grid
from gpsweep.precision import Precision, computing
from gpsweep.trainer import repeatable


@dataclass(frozen=True)
class Bits:
    """The precision of the forward passes and of the gradient."""

    precision: Precision
    gradient_precision: Precision

    def __str__(self) -> str:
        if self.precision == self.gradient_precision:
            return self.precision
        return f"{self.precision}, gradient {self.gradient_precision}"


RESULTS = Path(__file__).parent / "results" / "gpu.json"
EXACT = Bits("32", "32")
FEWER = (Bits("bf16", "32"), Bits("bf16", "bf16"), Bits("16", "32"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit code is 1 if a bound is not kept, or if there is no GPU."""
    parser = ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few points, to see that it runs")
    parser.add_argument(
        "--out", type=Path, help="where to store the table as JSON; quick ones are not stored"
    )
    options = parser.parse_args(arguments)
    console = standard_output()
    if not torch.cuda.is_available():
        console.print("benchmarks.gpu needs a GPU, and PyTorch sees none")
        return 1
    device, effort = torch.device("cuda"), QUICK if options.quick else Effort()
    out = options.out or (None if options.quick else RESULTS)
    repeatable()
    rows = [*speed(fcn(), effort, device), *scores(effort, device)]
    about = machine() | {"quick": options.quick}
    show(rows, about | {"cpu": about["gpu"], "threads": torch.get_num_threads()}, console)
    if out is not None:
        store(rows, about, out)
        console.print(f"stored in {out}")
    return int(not options.quick and any(row.met is False for row in rows))


def machine() -> dict[str, Any]:
    """Describe the machine by its GPU and what drives it."""
    return {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "date": date.today().isoformat(),
    }


def fcn() -> Network:
    """Return the network whose speed is measured."""
    title = "torchvision FCN-ResNet50, 8 × 512²"
    return replace(networks()["fcn"], title=title, size=(512, 512), samples=8)


def speed(network: Network, effort: Effort, device: torch.device) -> Iterator[Row]:
    """Compare the input curve, its points alone and together in a pass, with the floor per precision."""
    net = network.build().to(device)
    batch = on_device(network.batch(), device)
    x = net.preprocess(batch["image"]).contiguous(memory_format=torch.channels_last)
    points = grid(eps=effort.eps)
    exact: list[float] = []
    for bits in (EXACT, *FEWER):
        memos = {1: Memo(), "auto": Memo()}
        loops: dict[str, Callable[[], object]] = {
            f"curve_{size}": partial(fused, net, batch, points, network.classes, memo, bits, size)
            for size, memo in memos.items()
        }
        loops["floor"] = partial(bare, Bare(net), x, len(points), bits)
        loops = {name: partial(finished, work, device) for name, work in loops.items()}
        side_by_side(loops, 1)  # the first passes of a process are slow
        times = side_by_side(loops, effort.repeats)
        details = medians(times) | {"points": len(points), "auto": memos["auto"].points_per_forward}
        for size in memos:
            over = Spread.of(ratios(times[f"curve_{size}"], times["floor"]))
            quantity = f"input curve ÷ floor, {bits}, points_per_forward={size}"
            yield Row("p", network.title, quantity, over, "×", at_most=FLOOR, details=details)
        exact = exact or times["curve_1"]
        if bits != EXACT:
            faster = Spread.of(ratios(exact, times["curve_1"]))
            yield Row("q", network.title, f"input curve, 32 ÷ {bits}", faster, "×", details=details)


def scores(effort: Effort, device: torch.device, limit: int | None = None) -> Iterator[Row]:
    """Compare the mIoU of every point of the embedded default between precisions."""
    config.register()
    overrides = [] if limit is None else [f"data.limit={limit}"]
    with initialize_config_dir(config.conf_folder(), version_base="1.3"):
        cfg = compose("config", overrides=overrides)
    source = config.instance(cfg.data.source, "data.source")
    net = build(cfg.model, classes=len(source.classes)).to(device).to(memory_format=torch.channels_last)
    size = cfg.data.batch_size
    numbers = range(-(-len(source) // size))
    batches = [on_device(batch_of(source, rows_of(n, size, len(source))), device) for n in numbers]
    points = grid(eps=effort.eps)

    def curve(bits: Bits) -> Any:
        memo, classes = Memo(), len(source.classes)
        totals = [total(fused(net, batch, points, classes, memo, bits).counts) for batch in batches]
        return miou(np.sum(totals, axis=0))

    exact = curve(EXACT)
    for bits in FEWER:
        found = curve(bits)
        details = {"eps": points.eps, "miou_32": exact.tolist(), "miou": found.tolist()}
        difference = Spread.of((10 * abs(found - exact)).tolist())
        quantity = f"|mIoU − mIoU in 32| over {len(points)} points, {bits}"
        yield Row("r", "embedded default", quantity, difference, "‰", details=details)


def fused(
    net: torch.nn.Module,
    batch: Batch,
    points: Grid,
    classes: int,
    memo: Memo,
    bits: Bits,
    size: Any = 1,
) -> Any:
    """Count a curve on one batch as a run does it."""
    options = {**vars(bits), "points_per_forward": size}
    with torch.no_grad():
        return count(net, batch, points.points(), classes=classes, memo=memo, options=options)


def bare(net: torch.nn.Module, x: torch.Tensor, points: int, bits: Bits) -> None:
    """Run one forward and backward pass, and a forward pass for every other point (the floor)."""
    with computing(bits.gradient_precision, x.device):
        floor(net, x, 1)
    with computing(bits.precision, x.device), torch.no_grad():
        for _ in range(points - 1):
            net(x)


def finished(work: Callable[[], object], device: torch.device) -> None:
    """Do work and wait until the GPU has done it, too."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    raise SystemExit(main())
