"""The commands of gpsweep as processes of their own, and what is said of them at the terminal."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from types import FrameType
from typing import IO

from gpsweep.errors import GpsweepError
from gpsweep.interrupts import SIGNALLED, TERMINATE, Stopped
from gpsweep.jobs import LOG
from gpsweep.report.terminal import HEADING


class Calls:
    """The commands that a table runs, in threads of its own; whoever ends the table ends them all.

    Args:
        labelled: whether lines that commands print tell whose they are, as where several run at once; there
            are no progress bars then.
    """

    def __init__(self, *, labelled: bool = False) -> None:
        self.labelled, self.stopped = labelled, False
        self.running: set[subprocess.Popen[str]] = set()
        # The handler of a signal interrupts the main thread wherever it is, in another handler too.
        self.lock = threading.RLock()

    def __call__(
        self, command: Sequence[str], label: str, folder: Path, *, threads: int | None = None
    ) -> None:
        """Run a command of gpsweep; its progress and warnings are shown, and what it says below its table.

        The table itself is left to its report.

        Args:
            command: with its arguments.
            label: what it is called.
            folder: where its jobs leave their logs.
            threads: of the processor that it uses; None: as many as it wants.

        Raises:
            GpsweepError: if it fails.
            Stopped: if it was stopped by a signal, or would only begin once all were to stop.
        """
        for log in folder.glob(f"*/{LOG}"):
            log.unlink()
        tell(f"{label}: {shlex.join(['python', *command[1:]])}")
        with TemporaryFile("w+", errors="replace") as printed:
            with self._begun(command, threads, printed) as process:
                for line in process.stderr or ():
                    tell(f"{label}: {line.rstrip()}")
            printed.seek(0)
            text = printed.read()
        with self.lock:
            self.running.remove(process)
        code = process.returncode
        if code < 0 or code >= SIGNALLED:
            self.stop()
        if self.stopped:
            raise Stopped(TERMINATE)
        if code:
            raise GpsweepError(_said(folder) or f"It ended with code {code}; see above")
        for line in below_table(text):
            tell(f"{label}: {line}")

    def _begun(self, command: Sequence[str], threads: int | None, printed: IO[str]) -> subprocess.Popen[str]:
        env = os.environ | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
        errors = subprocess.PIPE if self.labelled else None
        with self.lock:
            if self.stopped:
                raise Stopped(TERMINATE)
            process = subprocess.Popen(
                command, stdout=printed, stderr=errors, text=True, errors="replace", env=env
            )
            self.running.add(process)
        return process

    def stop(self) -> None:
        """Let no further command begin, and end those that run; what they have in hand they store."""
        with self.lock:
            if not self.stopped:
                self.stopped = True
                for process in self.running:
                    process.terminate()

    @contextmanager
    def stopping(self) -> Iterator[None]:
        """Let SIGTERM stop what runs within the block, which waits for its end."""

        def end(signum: int, frame: FrameType | None) -> None:
            self.stop()

        before = signal.signal(TERMINATE, end)
        try:
            yield
        finally:
            signal.signal(TERMINATE, before)


def _said(folder: Path) -> str:
    """Return why a run failed, as it noted itself; of a traceback the last line."""
    for log in folder.glob(f"*/{LOG}"):
        lines = log.read_text(encoding="utf-8").strip().splitlines()
        if lines and lines[0].startswith("Traceback"):
            return f"{lines[-1]} (see {log})"
        return " ".join(lines).removeprefix("gpsweep: ")
    return ""


def below_table(printed: str) -> list[str]:
    """Return what a run has printed after where its report lies: what its tracker says."""
    lines = printed.splitlines()
    return lines[lines.index(HEADING) + 2 :] if HEADING in lines else []


def tell(message: str) -> None:
    """Say something to the person at the terminal."""
    # In one piece, as several threads may have something to say.
    print(f"{message}\n", end="", file=sys.stderr, flush=True)
