"""What all commands share: a mistake of the user's ends in one line, and a warning takes one."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, suppress
from functools import wraps
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn

from gpsweep import completion
from gpsweep.errors import GpsweepError
from gpsweep.interrupts import INTERRUPT, TERMINATE, Stopped, left_at_once
from gpsweep.provenance import provenance

FAILED = 1  # exit code of a mistake


def printable() -> None:
    """Print what the terminal's encoding has no letter for as an escape, as standard error does.

    Where there is no standard output at all, what is printed goes nowhere.
    """
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def though_unread(lost: type[OSError] = OSError) -> Iterator[None]:
    """Print, and go on where nobody reads any more: a sweep has further jobs to do.

    So it is behind ``| head``, where the terminal has been closed, and where the disk of a log is full.

    Args:
        lost: what errors mean so; any where nothing but printing is done.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
    except lost as error:
        with suppress(OSError):
            print(f"gpsweep: what is printed is lost: {error.strerror}", file=sys.stderr)
    except SystemExit as stop:
        # Rich has done the same, and would end the process.
        if not isinstance(stop.__context__, BrokenPipeError):
            raise


def typed(main: Callable[[], object], kept: str, read: Callable[[Sequence[str]], list[str]] = list) -> None:
    """Run a command of Hydra's as typed: its help, too, is printed in any encoding and behind ``| head``.

    Of a misspelt key, the nearest ones are named; flags that do not fit and signals end in one line. With
    ``--version`` it says which gpsweep runs, and on what, where Hydra would name its own alone.

    Args:
        main: the command.
        kept: what is said of a signal that ends it, see :func:`signals_in_a_line`.
        read: makes of what is typed what Hydra can read.
    """
    from hydra.errors import HydraException

    printable()
    with though_unread(BrokenPipeError):
        if "--version" in sys.argv[1:]:
            own = provenance()["versions"]
            names = sorted(own, key=lambda name: name != "gpsweep")  # which comes first
            print(", ".join(f"{name} {own[name]}" for name in names))
            return
        if "install=bash" in sys.argv[1:] and sys.argv[0].endswith(".py"):
            print(completion.script())
            return
        try:
            sys.argv[1:] = read(sys.argv[1:])
            with worded(), signals_in_a_line(kept):
                main()
        except (ValueError, HydraException) as error:  # of flags, and of what --help is to show
            if full_errors():
                raise
            sys.exit(failed(error))


@contextmanager
def worded() -> Iterator[None]:
    """Let mistakes that Hydra would print in its own words, as those of composing, end in a line of ours."""
    from hydra._internal import utils
    from hydra.errors import HydraException
    from yaml import YAMLError  # type: ignore[import-untyped]

    report = utils.run_and_report

    def run_and_report(func: Any) -> Any:
        def told() -> object:
            try:
                return func()
            except (HydraException, YAMLError) as error:
                if full_errors():
                    raise
                sys.exit(failed(error))

        return report(told)

    utils.run_and_report = run_and_report
    try:
        yield
    finally:
        utils.run_and_report = report


def failed(error: Exception) -> int:
    """Say what is wrong, and return the exit code of a mistake."""
    from gpsweep.mistakes import in_words

    print(f"gpsweep: {in_words(error)}", file=sys.stderr)
    return FAILED


@contextmanager
def signals_in_a_line(kept: str = "") -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block by an exit with their code, and in one line.

    Args:
        kept: what there is of what was begun, and how to go on; a block within may have said it already.

    Raises:
        Stopped: if there was a signal.
    """
    try:
        with left_at_once(TERMINATE):
            yield
    except Stopped as stop:
        raise stop.tell(kept) from None
    except (KeyboardInterrupt, SystemExit) as end:
        # Lightning makes an exit with code 1 of Ctrl-C.
        if not any(isinstance(each, KeyboardInterrupt) for each in (end, end.__context__)):
            raise
        raise Stopped(INTERRUPT).tell(kept) from None


def stays(*, fresh: bool) -> str:
    """Say what there is of a command that has not come to its end, and how it goes on.

    Args:
        fresh: whether it computes afresh what is stored, as it would once more.
    """
    return f"what is stored stays, and the same command{' without fresh=true' if fresh else ''} goes on"


def interrupted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say what nobody has caught: of Ctrl-C a line, and of that the first process of a run alone."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
    elif os.environ.get("LOCAL_RANK", "0") == "0":
        raise Stopped(INTERRUPT).tell()


def terminated(signum: int, frame: FrameType | None) -> NoReturn:
    """End a command whose modules are still imported as Ctrl-C does; processes that it starts say nothing."""
    from multiprocessing import parent_process

    first = os.environ.get("LOCAL_RANK", "0") == "0" and parent_process() is None
    raise Stopped(signum, told=not first).tell()


def full_errors() -> bool:
    """Say whether the user asks for tracebacks."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") == "1"


@contextmanager
def warnings_in_a_line() -> Iterator[None]:
    """Print warnings without the place in the code that they come from."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, category, *rest: f"gpsweep: {category.__name__}: {message}\n"
    try:
        yield
    finally:
        warnings.formatwarning = before


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment while the block runs."""
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


@contextmanager
def within_hydra() -> Iterator[None]:
    """Let a mistake in what Hydra runs end in one line, of a sweep's job once the others are done.

    Relative paths mean what they mean where the command was typed, with ``hydra.job.chdir=true`` too.

    Raises:
        CompactHydraException: for a mistake in a sweep, or where a traceback is asked for.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import CompactHydraException
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    from gpsweep.mistakes import in_words

    printable()
    hydra = HydraConfig.get() if HydraConfig.initialized() else None
    here = hydra.runtime.cwd if hydra else "."
    with warnings_in_a_line(), chdir(here):
        try:
            yield
        except (GpsweepError, OmegaConfBaseException) as error:
            if hydra and hydra.mode == RunMode.RUN and not full_errors():
                sys.exit(failed(error))  # Hydra would add what was typed
            raise CompactHydraException(f"gpsweep: {in_words(error)}") from error


def told(*mistakes: type[Exception], kept: str = "") -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a command, a function that returns its exit code, print a mistake in one line and return 1.

    As under Hydra, ``HYDRA_FULL_ERROR=1`` shows the traceback.

    Args:
        mistakes: what is one besides :class:`gpsweep.errors.GpsweepError`.
        kept: what is said of a signal, see :func:`signals_in_a_line`.
    """

    known: tuple[type[Exception], ...] = (GpsweepError, *mistakes)

    def command(main: Callable[..., int]) -> Callable[..., int]:
        @wraps(main)
        def run(*arguments: object) -> int:
            printable()
            with warnings_in_a_line(), signals_in_a_line(kept):
                try:
                    return main(*arguments)
                except known as error:
                    if full_errors():
                        raise
                    return failed(error)

        return run

    return command
