"""The commands of gpsweep as processes of their own, and what is said of them at the terminal."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from gpsweep.errors import GpsweepError
from gpsweep.jobs import LOG

SIGNALLED = 128
STOPPED = "stopped; what is stored stays, and the same command goes on"


class StoppedError(Exception):
    """A command was stopped from outside, and with it the table."""


def call(command: Sequence[str], label: str, folder: Path) -> None:
    """Run a command of gpsweep; its progress and warnings are shown, its table is left to its report.

    Raises:
        GpsweepError: if it fails.
        StoppedError: if it was stopped by a signal.
    """
    for log in folder.glob(f"*/{LOG}"):
        log.unlink()
    tell(f"{label}: {shlex.join(['python', *command[1:]])}")
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        asked: list[int] = []

        def end(signum: int, frame: FrameType | None) -> None:
            # Whoever ends the table means the command that is running as well, and those that would follow.
            asked.append(signum)
            process.terminate()

        before = signal.signal(signal.SIGTERM, end)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise StoppedError(STOPPED) from None
        finally:
            signal.signal(signal.SIGTERM, before)
    if asked or code < 0 or code >= SIGNALLED:
        raise StoppedError(STOPPED)
    if code:
        raise GpsweepError(_said(folder) or f"It ended with code {code}; see above")


def _said(folder: Path) -> str:
    """Return why a run failed, as it noted itself; of a traceback the last line."""
    for log in folder.glob(f"*/{LOG}"):
        lines = log.read_text(encoding="utf-8").strip().splitlines()
        if lines and lines[0].startswith("Traceback"):
            return f"{lines[-1]} (see {log})"
        return " ".join(lines).removeprefix("gpsweep: ")
    return ""


def tell(message: str) -> None:
    """Say something to the person at the terminal."""
    print(message, file=sys.stderr, flush=True)
