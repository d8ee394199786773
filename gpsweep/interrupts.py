"""Signals that end a run at a good moment: Ctrl-C after the point at hand, a scheduler's after the batch.

Whatever is stored by then stays, and the same command goes on from there.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from types import FrameType
from typing import NoReturn

INTERRUPT, TERMINATE = signal.SIGINT, signal.SIGTERM
# SLURM sends either of them some time before a job's end, as --signal asks it to.
WARNINGS = tuple(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name))
SIGNALLED = 128  # what a shell adds to a signal's number
LOOK_S = 1.0  # how long a process may outlive the one that has started it


class Stopped(SystemExit):
    """A signal ends the process, by an exit that clears up.

    Args:
        signum: the signal.
        told: whether it has been said, or is not to be.
    """

    def __init__(self, signum: int, *, told: bool = False) -> None:
        super().__init__(signum)  # by which another process makes it again
        self.code, self.signum, self.told = SIGNALLED + signum, signum, told

    def __str__(self) -> str:
        return "stopped"

    def tell(self, kept: str = "") -> Stopped:
        """Say it in a line, unless that has been done, and return it to be raised.

        Args:
            kept: what there is of what was begun, and how to go on.
        """
        if not self.told:
            with suppress(OSError):
                print(f"gpsweep: {self}; {kept}" if kept else f"gpsweep: {self}", file=sys.stderr)
        self.told = True
        return self


class StoppedRun(Stopped):
    """A signal has ended a run at a good moment, of which the scheduler is still to hear."""

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}"


class Interrupts:
    """Notes signals while a run computes, and raises them where nothing is lost.

    Args:
        keyboard: whether Ctrl-C concerns this process; further processes of a run leave it to the first.
    """

    def __init__(self, *, keyboard: bool = True) -> None:
        self.received: int | None = None
        self.heard = ((INTERRUPT,) if keyboard else ()) + (TERMINATE, *WARNINGS)
        # Whose they are now: in between Lightning takes them as well, and gives them back before we do.
        self._before = {signum: signal.getsignal(signum) for signum in self.heard}

    def listen(self) -> None:
        """Take over the signals."""
        if _can_listen():
            for signum in self.heard:
                signal.signal(signum, self._note)

    def restore(self) -> None:
        """Give the signals back to whose they were when this was made."""
        if _can_listen():
            for signum, handler in self._before.items():
                signal.signal(signum, handler or signal.SIG_DFL)

    def at_point(self) -> None:
        """Raise what need not wait for the end of the batch.

        Raises:
            StoppedRun: if Ctrl-C was received.
        """
        if self.received == INTERRUPT:
            raise StoppedRun(self.received)

    def at_batch(self) -> None:
        """Raise whatever was received.

        Raises:
            StoppedRun: if anything was.
        """
        if self.received is not None:
            raise StoppedRun(self.received)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.received == signum == INTERRUPT:
            raise KeyboardInterrupt  # asked twice: now
        self.received = signum


def leave_signals(worker: int) -> None:
    """Let a process that reads data leave what reaches it too to the process it reads for.

    Ctrl-C, a scheduler's warnings and its SIGTERM go to all processes. It would have inherited handlers that
    requeue the job, and its end would be the end of the batch at hand.

    Args:
        worker: its number, as a ``DataLoader`` gives it.
    """
    for signum in (INTERRUPT, *WARNINGS):
        signal.signal(signum, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # elsewhere nobody tells who has sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [TERMINATE])
        threading.Thread(target=_end_when_told_by, args=[os.getppid()], daemon=True).start()
    sys.excepthook = partial(_unless_left, sys.excepthook)


def _unless_left(hook: Callable[..., object], kind: type[BaseException], *rest: object) -> None:
    """Say nothing of a connection that the process which is read for has left, as where it is killed."""
    if not issubclass(kind, ConnectionError | EOFError):
        hook(kind, *rest)


def _end_when_told_by(parent: int) -> None:
    """End this process at a SIGTERM of its parent's, which is how a ``DataLoader`` ends it at the latest."""
    while signal.sigwaitinfo([TERMINATE]).si_pid != parent:
        pass
    os._exit(0)


@cache
def end_with(starter: int) -> None:
    """End this process with the one that has started it, however that ends.

    Args:
        starter: the number of that process, which may have ended already.
    """
    threading.Thread(target=_watch, args=[starter], daemon=True).start()


def _watch(starter: int) -> None:
    while os.getppid() == starter:
        time.sleep(LOOK_S)
    os._exit(1)


def requeued() -> bool:
    """Say whether this is a job of SLURM's that has begun before: it goes on, however it began."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def hand_on(signum: int) -> None:
    """Let the scheduler run a stopped job again, if it is one of SLURM's that is to go on.

    A warning before the time limit or a preemption requeues the job, and so does SIGTERM where it announces a
    preemption: SLURM itself would not requeue a job that has ended within its grace time.
    """
    if signum == INTERRUPT:
        return
    executor, job = os.environ.get("SUBMITIT_EXECUTOR"), _job()
    if signum == TERMINATE and not (job and _to_go_on(job, whole=executor == "slurm")):
        return
    if os.environ.get("SLURM_PROCID", "0") != "0":
        sys.exit(0)  # where any other code ends all, the first process could not requeue the job
    for expected in (TERMINATE, signal.SIGCONT) if job else ():
        signal.signal(expected, signal.SIG_IGN)  # a requeue sends them to what is about to end anyway
    if executor is not None:
        name = os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")
        signal.raise_signal(getattr(signal, f"SIG{name}"))  # submitit requeues and ends the process
    elif job is not None and shutil.which("scontrol") is not None:  # seldom there within a container
        subprocess.run(["scontrol", "requeue", job], check=False)


@contextmanager
def left_at_once(*signals: int) -> Iterator[None]:
    """End the process at once where a scheduler asks for it, by an exit that clears up.

    By itself a warning would end it there and then, and Lightning lets SIGTERM end it with code 0. A run
    hears them in its own way while it computes, see :class:`Interrupts`.

    Args:
        signals: SIGTERM, and warnings unless somebody hears them already, as submitit does.
    """
    before = {
        signum: signal.getsignal(signum)
        for signum in signals
        if _can_listen() and (signum == TERMINATE or signal.getsignal(signum) is signal.SIG_DFL)
    }
    for signum in before:
        signal.signal(signum, leave)
    try:
        yield
    finally:
        for signum, handler in before.items():
            if signal.getsignal(signum) is leave:  # a job that is requeued goes on to ignore what comes of it
                signal.signal(signum, handler or signal.SIG_DFL)


def leave(signum: int, frame: FrameType | None) -> NoReturn:
    """End the process at once, before the first batch or after the last: there is nothing to finish."""
    hand_on(signum)
    raise Stopped(signum)


def _job() -> str | None:
    """Name this job of SLURM's, of an array this task alone: the last one's number stands for them all."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _to_go_on(job: str, *, whole: bool) -> bool:
    """Say whether SIGTERM means that a job is to run again, which SLURM leaves to the job.

    SLURM has ended a job already that is cancelled, out of time, or requeued by somebody else.

    Args:
        job: its name.
        whole: whether the job is this run alone; within a script of the user's own, somebody else may have
            sent the signal.
    """
    if shutil.which("scontrol") is None:
        return False
    ask = ["scontrol", "--oneliner", "show", "job", job]
    asked = subprocess.run(ask, capture_output=True, text=True, check=False)
    said = dict(word.split("=", 1) for word in asked.stdout.split() if "=" in word)
    return said.get("JobState") == "RUNNING" and (whole or said.get("PreemptTime", "None") != "None")


def _can_listen() -> bool:
    """Whether this is the main thread: no other can set what is done on a signal."""
    return threading.current_thread() is threading.main_thread()
