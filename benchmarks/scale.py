"""The store at its work: what it costs a run, how fast it gives back, and a full grid of ADE20K's size."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from benchmarks import command
from benchmarks.clock import Spread
from benchmarks.table import Row
from gpsweep import config, report, results
from gpsweep.counts import Counts
from gpsweep.points import Point, decimal_range, grid
from gpsweep.record import note, outcome
from gpsweep.store import Chunk, Store

STORE_SHARE, RESUME, DEVICES, MERGE, FULL, MEMORY = 0.02, 3.0, 0.85, 2.0, 300.0, 2.0  # –, s, –, s, s, GiB
SWEEP = (
    "eps=[" + ",".join(map(str, decimal_range(-1, 1, 0.05))) + "]",
    "label=[argmax,random_onehot,uniform,top2]",
)
TITLE = "embedded default, 160 points"
SHARDS = 8

# ADE20K's validation set, four labels at the input and three layers.
IMAGES, CLASSES, BATCH = 2000, 150, 4
LABELS, LAYERS = ["argmax", "random_onehot", "uniform", "top2"], ["input", "layer2", "layer3", "layer4"]
PRESENT = 12  # classes in an image's truth; a few more are predicted


def measure(*, repeats: int = 3) -> Iterator[Row]:
    """Measure the rows g to l."""
    with TemporaryDirectory() as folder:
        yield from small(Path(folder), repeats)
    rates = [throughput(devices) for devices in (1, 2) * repeats]
    ratio = [two / one for one, two in zip(rates[::2], rates[1::2], strict=True)]
    yield Row(
        "j",
        TITLE,
        "2 processes ÷ 1 with 2 threads, batches a second",
        Spread.of(ratio),
        "×",
        at_least=DEVICES,
    )
    title = f"{IMAGES} images × {CLASSES} classes × {len(points())} points, made up"
    wall, memory = command.run([sys.executable, "-m", "benchmarks.scale", "--full"])
    yield Row("l", title, "store, merge, intervals and report", Spread.of([wall]), "s", at_most=FULL)
    yield Row("l", title, "peak memory", Spread.of([memory]), "GiB", at_most=MEMORY)


def small(folder: Path, repeats: int) -> Iterator[Row]:
    """Measure what the store costs the embedded default, and how soon a finished run is back."""
    from gpsweep.run import run

    cfg = configuration(folder / "store")
    spent: list[float] = []
    put = Store.put

    def timed(store: Store, chunk: Chunk) -> Path:
        start = perf_counter()
        path = put(store, chunk)
        spent.append(perf_counter() - start)
        return path

    Store.put = timed  # type: ignore[method-assign]
    try:
        start = perf_counter()
        found = run(cfg, folder / "run")
        whole = perf_counter() - start
    finally:
        Store.put = put  # type: ignore[method-assign]
    assert found is not None
    yield Row("g", TITLE, "share of storing", Spread.of([sum(spent) / whole]), "%", at_most=STORE_SHARE)

    def again() -> float:
        start = perf_counter()
        known = run(cfg, folder / "again")
        assert known is not None
        report.write(results.write(known, folder / "again"), folder / "again")
        return perf_counter() - start

    yield Row(
        "h", TITLE, "a finished run again", Spread.of([again() for _ in range(repeats)]), "s", at_most=RESUME
    )
    shards = folder / "shards"
    store = Store(shards / "store", {"data": about(96, 11), "batch_size": 96 // SHARDS})
    some = grid(label=LABELS, eps=decimal_range(-1, 1, 0.05)).points()
    fill(store, some)
    times = []
    for number in range(repeats):
        place = shards / str(number)
        start = perf_counter()
        merged = outcome(store, some, {"model": "made up", "dataset": "made up"})
        report.write(results.write(merged, place), place)
        times.append(perf_counter() - start)
    yield Row("k", TITLE, f"{SHARDS} shards merged and reported", Spread.of(times), "s", at_most=MERGE)


def configuration(store: Path) -> DictConfig:
    """Return the configuration of the embedded default."""
    config.register()
    with initialize_config_dir(config.conf_folder(), version_base="1.3"):
        return compose("config", overrides=[*SWEEP, f"store={store}", "progress=false"])


def throughput(devices: int) -> float:
    """Return the batches a second of a run, from when its first is stored to when its last is."""
    with TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        sweep = [
            "data.batch_size=4",
            f"trainer.devices={devices}",
            "trainer.accelerator=cpu",
            f"store={store}",
        ]
        command.run([sys.executable, "-m", "gpsweep", *SWEEP, *sweep])
        moments = sorted(path.stat().st_mtime for path in store.glob("*/*.counts"))
        # The first of each process marks where it began.
        return (len(moments) - devices) / (moments[-1] - moments[devices - 1])


def points() -> list[Point]:
    """Return the points of the full grid."""
    return grid(label=LABELS, layer=LAYERS, eps=decimal_range(-1, 1.05, 0.05)).points()


def full() -> None:
    """Take made-up counts of a full grid through store, merge, intervals and report."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        store = Store(folder / "store", {"data": about(IMAGES, CLASSES), "batch_size": BATCH})
        info = {"model": "made up", "dataset": "made up"}
        store.describe(info)
        fill(store, points())
        note(folder / "run", store, points(), info)
        [made] = report.render(folder / "run")
        assert made.is_file()


def about(images: int, classes: int) -> dict[str, object]:
    """Return the part of an identity that speaks of the data."""
    return {"samples": images, "task": "segmentation", "classes": [f"class {n}" for n in range(classes)]}


def fill(store: Store, some: Sequence[Point]) -> None:
    """Store made-up counts: truth and predictions of a few classes an image, other ones for each point."""
    data = store.identity["data"]
    classes, samples, size = len(data["classes"]), data["samples"], store.identity["batch_size"]
    for batch in range(store.batches):
        rng = np.random.default_rng(batch)
        images = min(size, samples - batch * size)
        dense = np.zeros((len(some), images, classes, 3), dtype=np.int32)
        for image in range(images):
            shown = rng.choice(classes, size=min(PRESENT + 4, classes), replace=False)
            truth = rng.integers(500, 20_000, size=len(shown))
            truth[PRESENT:] = 0
            tp = (truth * rng.uniform(0.6, 0.8, size=(len(some), len(shown)))).astype(np.int32)
            fp = rng.integers(0, 3000, size=tp.shape)
            dense[:, image, shown] = np.stack([tp, fp, truth - tp], axis=-1)
        store.put(
            Chunk(
                batch=batch,
                ids=[f"image{batch * size + i}" for i in range(images)],
                points=list(some),
                counts=Counts.of(dense),
                base=dense[0],
                seconds=[0.1] * len(some),
                shared=0.2,
                content="made up",
                device="none",
                points_per_forward=1,
            )
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, or with ``--full`` do what is measured."""
    parser = ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--full", action="store_true", help="the full grid, to be measured from outside")
    if parser.parse_args(arguments).full:
        full()
        return 0
    missed = 0
    for row in measure():
        print("  ".join(row.cells()), flush=True)
        missed |= row.met is False
    return missed


if __name__ == "__main__":
    raise SystemExit(main())
