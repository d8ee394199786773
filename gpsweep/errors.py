"""The error a person reads: it names the key, what was expected, what came, and the nearest valid names."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from difflib import get_close_matches

LISTED = 10


class GpsweepError(ValueError):
    """Something the user can mend: shown as one message without a traceback."""


def one_line(said: object) -> str:
    """Return an error's message, or another text, in one line."""
    return " ".join(str(said).split())


def listing(names: Sequence[object], limit: int = LISTED) -> str:
    """Name the first ``limit`` of ``names`` and say how many more there are."""
    shown = ", ".join(str(name) for name in names[:limit])
    more = len(names) - limit
    return f"{shown} … and {more} more" if more > 0 else shown


def unknown(key: str, got: object, choices: Iterable[str]) -> GpsweepError:
    """Build the error for a name that is not among ``choices``, the nearest ones offered first.

    Args:
        key: the configuration key, as the user writes it (``label``, ``model.arch``).
        got: what came.
        choices: every valid name.
    """
    names = list(choices)
    if not isinstance(got, str) and str(got) in names:
        return GpsweepError(f"{key}={got}: expected the text {str(got)!r}, came {type(got).__name__}")
    return GpsweepError(f"{key}={got}: unknown.{offered(str(got), names)}")


def offered(got: str, names: Sequence[str]) -> str:
    """Name what there is in place of a name that is unknown, the nearest first; begins with a space."""
    near = get_close_matches(got, names, n=3, cutoff=0.5)
    if not near:
        near = [name for name in names if got and got.lower() in name.lower()][:3]
    return f"{meant(near)} Choices: {listing(names, 30)}"


def unknown_key(key: str, names: Sequence[str], elsewhere: Sequence[str] = ()) -> GpsweepError:
    """Build the error for a key that a configuration does not have, the nearest ones offered first.

    Args:
        key: the whole key, as the user writes it (``trainer.device``).
        names: what its last part may be.
        elsewhere: whole keys of that name, such as ``trainer.devices`` for ``devices``.
    """
    part, dot, got = key.rpartition(".")
    near = [f"{part}{dot}{name}" for name in get_close_matches(got, names, n=3, cutoff=0.65)]
    near = [*elsewhere, *near][:3]
    return GpsweepError(f"{key}: no such key.{meant(near)} Keys: {listing(names, 40) or 'none'}")


def taken_away(key: str) -> GpsweepError:
    """Build the error for a key without a value, which ``~key`` takes away."""
    return GpsweepError(f"{key}: expected a value, as every run has one; ~{key} takes it away")


def placed(said: str, keys: Container[object], place: str) -> str:
    """Return what data say of one of their arguments, with its key where the user has it.

    >>> placed("data.split=a: unknown.", {"split"}, "data.train")
    'data.train.split=a: unknown.'

    Args:
        said: an error's message.
        keys: the arguments that lie in the place; what is said of any other stays as it is.
        place: the group that has them, where it is not ``data``.
    """
    named = re.match(r"data\.(\w+)", said)
    return said.replace("data", place, 1) if named and named[1] in keys else said


def meant(near: Sequence[str]) -> str:
    """Ask whether one of the nearest names is meant, if there are any; begins with a space."""
    return f" Did you mean {' or '.join(near)}?" if near else ""
