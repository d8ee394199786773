"""``python -m gpsweep.report DIR``: make a run's report again from its counts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpsweep.errors import GpsweepError
from gpsweep.report import render


def main(arguments: list[str] | None = None) -> int:
    """Render the report of the folder named on the command line and print its path."""
    parser = argparse.ArgumentParser(
        prog="python -m gpsweep.report", description="Make a run's report again."
    )
    parser.add_argument("folder", metavar="DIR", type=Path, help="a run's folder, with its counts.npz")
    try:
        print(render(parser.parse_args(arguments).folder))
    except GpsweepError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
