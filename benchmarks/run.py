"""``python -m benchmarks.run``: measure everything, print the table and store it as JSON."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import command, crf, curves, knn, scale, table6
from benchmarks.curves import QUICK, Effort
from benchmarks.networks import networks
from benchmarks.table import Row, machine, show, store
from gpsweep.allocator import keep_freed
from gpsweep.config import PACKAGE
from gpsweep.console import standard_output

PARTS = ("command", "scale", "crf", "knn", "table6", *networks())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; the exit code is 1 if a bound is not kept, unless the figures are those of ``--quick``."""
    parser = ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few points, to see that it runs")
    parser.add_argument("--out", type=Path, help="where to store the table as JSON")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="the parts to measure")
    options = parser.parse_args(arguments)
    console = standard_output()
    keep_freed()  # as every computing process of gpsweep does; the floor gains by it as well
    about = machine() | {"quick": options.quick}
    rows: list[Row] = []
    for row in measured(options.only, quick=options.quick, console=console):
        console.print("  ".join(row.cells()[:4]), style="dim", highlight=False)
        rows.append(row)
    show(rows, about, console)
    if options.out is not None:
        store(rows, about, options.out)
        console.print(f"stored in {options.out}")
    return int(not options.quick and any(row.met is False for row in rows))


def measured(parts: Sequence[str], *, quick: bool, console: Console) -> Iterator[Row]:
    """Yield the rows of the parts that can be measured."""
    for part in parts:
        if part == "scale":
            yield from scale.measure(repeats=1 if quick else 3)
        elif part == "crf":
            yield from crf.measure(repeats=1 if quick else 3)
        elif part == "knn":
            yield from knn.measure(knn.QUICK if quick else knn.Size())
        elif part == "table6":
            if quick or not table6.at_hand():
                console.print(
                    "table6: left out; it takes minutes, and the data under an absolute $GPSWEEP_DATA"
                )
            else:
                yield from table6.measure()
        elif part != "command":
            yield from curves.measure(networks()[part], QUICK if quick else Effort())
        elif (PACKAGE / "weights" / "scenes.safetensors").is_file():
            yield from command.measure(repeats=1 if quick else 3)
        else:
            console.print("command: left out, the weights of the embedded default are missing")


if __name__ == "__main__":
    raise SystemExit(main())
