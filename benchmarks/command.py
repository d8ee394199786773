"""The whole command in a process of its own: wall time, peak memory (e), time to the first batch (f)."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import psutil

from benchmarks.clock import Spread
from benchmarks.table import Row

SWEEP = ("-m", "eps=range(-1,1,0.05)", "label=argmax,random_onehot,uniform,top2")
TITLE = "embedded default, 160 points"
WALL, MEMORY, FIRST = 45.0, 2.0, 6.0  # s, GiB, s
GIB = 2**30
EVERY = 0.02  # s, between two looks at the memory

# The same command, which ends itself as its first batch arrives: the wall time of the process is the answer.
UNTIL_FIRST_BATCH = """
import os
from gpsweep.__main__ import cli
from gpsweep.module import GridModule

GridModule.test_step = lambda *args: os._exit(0)
cli()
os._exit(1)
"""


def measure(sweep: Sequence[str] = SWEEP, *, repeats: int = 3, title: str = TITLE) -> Iterator[Row]:
    """Measure (e) and (f), each process in an empty folder."""
    whole = [run([sys.executable, "-m", "gpsweep", *sweep]) for _ in range(repeats)]
    first = [run([sys.executable, "-c", UNTIL_FIRST_BATCH, *sweep])[0] for _ in range(repeats)]
    wall, memory = (Spread.of(values) for values in zip(*whole, strict=True))
    details = {"command": ["python", "-m", "gpsweep", *sweep]}
    yield Row("e", title, "the whole command", wall, "s", at_most=WALL, details=details)
    yield Row("e", title, "peak memory", memory, "GiB", at_most=MEMORY)
    yield Row("f", title, "command to first batch", Spread.of(first), "s", at_most=FIRST)


def run(command: Sequence[str]) -> tuple[float, float]:
    """Run a command to its end.

    Returns:
        its wall time in seconds, and the peak resident memory of it and its children in GiB.

    Raises:
        RuntimeError: if it fails, with what it said.
    """
    with TemporaryDirectory() as folder, Path(folder, "said.txt").open("w+") as said:
        work = Path(folder, "work")
        work.mkdir()
        start = perf_counter()
        process = subprocess.Popen(command, cwd=work, stdout=said, stderr=subprocess.STDOUT)
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            sleep(EVERY)
        wall = perf_counter() - start
        if process.returncode != 0:
            said.seek(0)
            raise RuntimeError(f"{' '.join(command[1:])}: exit code {process.returncode}\n{said.read()}")
    return wall, peak / GIB


def resident(pid: int) -> int:
    """Return the resident bytes of a process and its children; 0 once it has ended."""
    # Not getrusage: there a child starts with the memory of its parent, here the benchmark's.
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        return sum(member.memory_info().rss for member in family)
    except psutil.NoSuchProcess:
        return 0
