"""``python -m gpsweep.tables NAME``: a table of the paper, with its own numbers beside ours."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gpsweep.atomic import check_writable, located
from gpsweep.command import FAILED, signals_in_a_line, stays, told
from gpsweep.console import standard_output
from gpsweep.errors import GpsweepError
from gpsweep.tables import definition
from gpsweep.tables.commands import check, jobs, of_training
from gpsweep.tables.needs import weights_absent

if TYPE_CHECKING:
    from gpsweep.tables.running import Ended

HELP = """\
python -m gpsweep.tables NAME [small=true] [KEY=VALUE …]

  small=true   networks and data that are at hand in place of the paper's
  seeds=0,1    of the trainings of Table 6
  at_once=N    how many runs share the processor; 2 for Table 6, else 1
  out=FOLDER   where all of it goes; outputs/tables/NAME, or NAME-small
  KEY=VALUE    of python -m gpsweep, for every run: data.limit=20 data.root=…
  fit.KEY=…    of python -m gpsweep.fit, for every training: fit.epochs=1

What lacks weights or data is skipped. The exit code is 1 where a run failed, or
where all were skipped.
"""
OWN = ("small", "seeds", "at_once", "out")


@dataclass(frozen=True)
class Asked:
    """What a command line asks for, see :data:`HELP`; ``extra`` are the overrides of runs and trainings."""

    name: str
    small: bool
    seeds: list[int] | None
    at_once: int | None
    out: Path
    extra: list[str]

    @property
    def of_training(self) -> list[str]:
        """What of it tells of trainings alone."""
        seeds = [] if self.seeds is None else [f"seeds={','.join(map(str, self.seeds))}"]
        return seeds + [each for each in self.extra if of_training(each)]


def asked(arguments: Sequence[str]) -> Asked:
    """Read a command line.

    Raises:
        GpsweepError: naming what was not understood.
    """
    name, rest = arguments[0], list(arguments[1:])
    definition.read(name)
    wrong = [each for each in rest if "=" not in each or each.startswith("-")]
    if wrong:
        raise GpsweepError(f"{wrong[0]}: expected KEY=VALUE behind the table's name")
    own = {key: value for key, _, value in (each.partition("=") for each in rest) if key in OWN}
    extra = [each for each in rest if each.partition("=")[0] not in OWN]
    fixed = [each for each in extra if each.partition("=")[0] in ("model", "data")]
    if fixed:
        raise GpsweepError(
            f"{fixed[0]}: the rows of a table name their own; another network or data set is a sweep: "
            "python -m gpsweep -m …"
        )
    seeded = [each for each in extra if of_training(each).lstrip("+").startswith("seed=")]
    if seeded:
        number = seeded[0].partition("=")[2]
        raise GpsweepError(f"{seeded[0]}: the rows of a table name their own; expected seeds={number}")
    if own.get("small", "false") not in ("true", "false"):
        raise GpsweepError(f"small={own['small']}: expected true or false")
    small = own.get("small") == "true"
    out = located(own.get("out") or Path("outputs", "tables", f"{name}-small" if small else name))
    return Asked(name, small, _seeds(own.get("seeds")), _at_once(own.get("at_once")), out, extra)


def _seeds(text: str | None) -> list[int] | None:
    if text is None:
        return None
    numbers = text.strip("[]").split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise GpsweepError(f"seeds={text}: expected whole numbers, as in seeds=0,1,2")
    return list(dict.fromkeys(int(number) for number in numbers))


def _at_once(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise GpsweepError(f"at_once={text}: expected a whole number ≥ 1")
    return int(text)


def make(wanted: Asked) -> list[Ended]:
    """Run a table's rows, then print and write it.

    Returns:
        how its runs ended.

    Raises:
        GpsweepError: for a mistake of the user's, before anything is run.
    """
    table = definition.read(wanted.name)
    variant = table.small if wanted.small else table.paper
    if wanted.of_training and not any(row.fit for row in variant.rows.values()):
        raise GpsweepError(
            f"{wanted.of_training[0]}: expected a table that trains its networks, came {wanted.name}"
        )
    rows = jobs(variant, wanted.out, wanted.extra, wanted.seeds)
    check(rows)
    check_writable(wanted.out, "out")
    from gpsweep.tables import assembling, formats, running

    at_once = wanted.at_once or variant.at_once
    ended = running.run(rows, at_once)
    done = [each for each in ended if each.folder is not None]
    if not done:
        return ended
    sheet = assembling.sheet(wanted.name, table, ended, small=wanted.small, at_once=at_once)
    paths = formats.write(sheet, wanted.out)
    if table.picture:
        from gpsweep.results.outcome import read
        from gpsweep.tables.picture import draw

        panels = [(each.job.key, (each.job.name, read(each.folder))) for each in done if each.folder]
        paths += draw(table.picture, panels, wanted.name, wanted.out)
    formats.show(sheet)
    print("Written:", *paths, sep="\n")
    return ended


def overview() -> None:
    """Print all tables, and what of the weights they need is there."""
    from rich import box
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("table", "", "weights here", "small=true"):
        shown.add_column(heading)
    for name in definition.names():
        table = definition.read(name)
        counted = []
        for variant in (table.paper, table.small):
            rows = jobs(variant, Path(name), [], [0])
            here = sum(not weights_absent(job) for job in rows)
            trains = any(job.row.fit for job in rows)
            counted.append("trains its own" if trains else f"{here} of {len(rows)}")
        shown.add_row(name, f"{table.source}: {table.paper.title}", *counted)
    console = standard_output()
    console.print(shown)
    console.print()
    console.print(HELP, markup=False, soft_wrap=True)


@told(OSError)
def main(arguments: list[str] | None = None) -> int:
    """Run the command line; a mistake of the user's ends in one message."""
    given = sys.argv[1:] if arguments is None else arguments
    with signals_in_a_line(stays(fresh="fresh=true" in given)):
        if not given or {"-h", "--help"} & set(given):
            overview()
            return 0
        ended = make(asked(given))
        failed = [each.job.name for each in ended if each.failed]
        if failed:
            print(f"gpsweep: {len(failed)} of {len(ended)} runs failed: {'; '.join(failed)}", file=sys.stderr)
        elif any(each.folder for each in ended):
            return 0
        else:
            print("gpsweep: nothing of this table could be run here", file=sys.stderr)
    return FAILED


if __name__ == "__main__":
    sys.exit(main())
