"""The command that sends a finished run again, to the same place."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any

from gpsweep.quoting import written

OURS = "gpsweep.trackers."


def name(tracker: object) -> str:
    """Return what a configuration calls a tracker: its file's name, or the class of one's own."""
    kind = type(tracker)
    own = f"{kind.__module__}.{kind.__qualname__}"
    return kind.__module__.removeprefix(OURS) if own.startswith(OURS) else own


def command(tracker: object, folder: Path) -> str:
    """Return the command that sends a run again.

    Args:
        tracker: what did not succeed; of a dataclass's fields those are told that differ from the defaults.
        folder: the run's folder.
    """
    chosen = name(tracker)
    ours = "." not in chosen
    settings = [f"tracker={chosen}" if ours else f"+tracker._target_={chosen}"]
    for key, value in changed(tracker):
        # To Hydra, whatever a file of conf/ does not spell out is new.
        new = "" if ours and not isinstance(value, Mapping) else "+"
        settings.append(f"{new}tracker.{key}={written(value)}")
    return shlex.join(["python", "-m", "gpsweep.track", str(folder), *settings])


def changed(tracker: object) -> Iterator[tuple[str, Any]]:
    """Yield the fields of a dataclass that differ from its defaults."""
    for field in fields(tracker) if is_dataclass(tracker) else ():
        value = getattr(tracker, field.name)
        if value != default(field):
            yield field.name, value


def default(field: Field[Any]) -> Any:
    """Return the default of a dataclass's field; MISSING where it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()
