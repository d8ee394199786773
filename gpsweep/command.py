"""What all commands share: a mistake of the user's ends in one line, and a warning takes one."""

from __future__ import annotations

import io
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager, suppress
from functools import wraps
from pathlib import Path
from types import TracebackType

from gpsweep.errors import GpsweepError, unknown_key
from gpsweep.provenance import provenance

FAILED, INTERRUPTED = 1, 130  # exit codes; the second where Ctrl-C has ended a command


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


def typed(main: Callable[[], object]) -> None:
    """Run a command of Hydra's as typed: its help, too, is printed in any encoding and behind ``| head``.

    Of a misspelt key, the nearest ones are named; flags that do not fit and Ctrl-C end in one line. With
    ``--version`` it says which gpsweep runs, and on what, where Hydra would name its own alone.
    """
    printable()
    with though_unread(BrokenPipeError):
        if "--version" in sys.argv[1:]:
            own = provenance()["versions"]
            names = sorted(own, key=lambda name: name != "gpsweep")  # which comes first
            print(", ".join(f"{name} {own[name]}" for name in names))
            return
        try:
            main()
        except SystemExit as stop:
            # Hydra exits with an error at hand that it has printed already.
            meant = misspelt(stop.__context__)
            if meant is not None:
                print(f"gpsweep: {meant}", file=sys.stderr)
            raise
        except ValueError as error:  # of flags; what comes later Hydra prints
            if full_errors():
                raise
            print(f"gpsweep: {in_words(error)}", file=sys.stderr)
            sys.exit(FAILED)
        except KeyboardInterrupt:
            sys.exit(stopped())


def stopped() -> int:
    """Say that Ctrl-C has ended a command, and return its exit code."""
    print("gpsweep: stopped", file=sys.stderr)
    return INTERRUPTED


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
        sys.exit(stopped())


def full_errors() -> bool:
    """Say whether the user asks for tracebacks."""
    return os.environ.get("HYDRA_FULL_ERROR", "0") == "1"


def misspelt(error: BaseException | None) -> GpsweepError | None:
    """Return what is to be said of a key that Hydra did not find, None for any other error."""
    from omegaconf.errors import ConfigAttributeError, ConfigKeyError

    cause = None if error is None else error.__cause__
    if not isinstance(cause, ConfigAttributeError | ConfigKeyError) or not cause.full_key:
        return None
    return unknown_key(cause.full_key, [str(key) for key in cause.parent_node or ()])


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
    """Let Hydra, which runs the command, print a mistake in its own way: without a traceback.

    Relative paths mean what they mean where the command was typed, with ``hydra.job.chdir=true`` too.

    Raises:
        CompactHydraException: for a mistake.
    """
    from hydra.core.hydra_config import HydraConfig
    from hydra.errors import CompactHydraException
    from omegaconf.errors import OmegaConfBaseException

    printable()
    here = HydraConfig.get().runtime.cwd if HydraConfig.initialized() else "."
    with warnings_in_a_line(), chdir(here):
        try:
            yield
        except GpsweepError as error:
            raise CompactHydraException(f"gpsweep: {error}") from error
        except OmegaConfBaseException as error:
            # Of a cause that is OmegaConf's, Hydra would say once more what is wrong.
            mistake = GpsweepError(in_words(error)).with_traceback(error.__traceback__)
            raise CompactHydraException(f"gpsweep: {mistake}") from mistake


def in_words(error: Exception) -> str:
    """Return a mistake's message in one line; OmegaConf's own tells of types and objects as well."""
    from omegaconf.errors import OmegaConfBaseException

    if not isinstance(error, OmegaConfBaseException):
        return str(error)
    key = f"{error.full_key}: " if error.full_key else ""
    return f"{key}{str(error.msg or error).splitlines()[0]}"


def told(*mistakes: type[Exception]) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a command, a function that returns its exit code, print a mistake in one line and return 1.

    Ctrl-C takes one line as well. As under Hydra, ``HYDRA_FULL_ERROR=1`` shows the traceback.

    Args:
        mistakes: what is one besides :class:`gpsweep.errors.GpsweepError`.
    """

    known: tuple[type[Exception], ...] = (GpsweepError, *mistakes)

    def command(main: Callable[..., int]) -> Callable[..., int]:
        @wraps(main)
        def run(*arguments: object) -> int:
            printable()
            with warnings_in_a_line():
                try:
                    return main(*arguments)
                except known as error:
                    if full_errors():
                        raise
                    print(f"gpsweep: {misspelt(error) or in_words(error)}", file=sys.stderr)
                    return FAILED
                except KeyboardInterrupt:
                    return stopped()

        return run

    return command
