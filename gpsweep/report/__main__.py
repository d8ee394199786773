"""``python -m gpsweep.report DIR``: make reports again, figures also as PDF; put shards together."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpsweep.command import told
from gpsweep.report import render


@told(OSError, kept="reports that were made stay, and the same command makes all of them again")
def main(arguments: list[str] | None = None) -> int:
    """Render the reports of the folder named on the command line and print their paths."""
    parser = argparse.ArgumentParser(
        prog="python -m gpsweep.report",
        description="Make reports again from what is stored, their figures as PDF as well.",
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="the folder of a run or of a sweep")
    print(*render(parser.parse_args(arguments).folder), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
