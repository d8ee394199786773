"""Files that are whole or absent, or say that they are not; places that are looked at before work begins."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import file_digest, sha256
from io import BufferedReader
from pathlib import Path
from uuid import uuid4

from gpsweep.errors import GpsweepError

TEMPORARY, DAMAGED = ".writing-", ".damaged"


def located(path: object) -> Path:
    """Return the path that a user gave, ``~`` expanded: of a number its digits, as of a folder ``2012``."""
    given = Path(str(path))
    try:
        return given.expanduser()
    except RuntimeError:  # nobody has such a home
        return given


def from_here(path: Path) -> Path:
    """Return a path as one types it: relative where it lies below the current folder."""
    whole, here = path.absolute(), Path.cwd()
    return whole.relative_to(here) if whole.is_relative_to(here) else path


def is_file(path: Path) -> bool:
    """Tell whether there is a file at ``path`` that may be looked at."""
    try:
        return path.is_file()
    except OSError:  # a folder above it may not be entered, or the name is too long
        return False


def is_folder(path: Path) -> bool:
    """Tell whether there is a folder at ``path`` that may be looked at."""
    try:
        return path.is_dir()
    except OSError:
        return False


def sealed(kind: str, content: bytes | memoryview) -> bytes:
    """Return a file that says itself whether it is whole: a magic line, the hash of the rest, the rest.

    Args:
        kind: what is in the file, in a word; the magic line names it.
        content: the rest.
    """
    return b"".join([_magic(kind), sha256(content).digest(), content])


def unseal(file: BufferedReader, kind: str) -> None:
    """Hold an open file against the hash it was sealed with, and leave it at its content.

    Args:
        file: open at its start.
        kind: what should be in it, see :func:`sealed`.

    Raises:
        ValueError: if it is of another kind, or not whole.
    """
    magic = _magic(kind)
    if file.read(len(magic)) != magic:
        raise ValueError(f"it is no file of {kind}")
    told = file.read(sha256().digest_size)
    start = file.tell()
    if file_digest(file, "sha256").digest() != told:
        raise ValueError("its checksum is wrong")
    file.seek(start)


def _magic(kind: str) -> bytes:
    return f"gpsweep {kind} 1\n".encode()


def save(path: Path, content: bytes) -> Path:
    """Write a file that is at any moment either the old one or the new one, never a part.

    Raises:
        GpsweepError: if it cannot be written.
    """
    return _placed(path, content, lambda temporary: temporary.replace(path))


def save_first(path: Path, content: bytes) -> Path:
    """Write a file that is not there yet: of several processes, the first one's stays.

    Raises:
        GpsweepError: if it cannot be written.
    """

    def place(temporary: Path) -> None:
        try:
            path.hardlink_to(temporary)
        except OSError:  # it is there already, or the file system knows no links
            if not path.exists():
                temporary.replace(path)

    return _placed(path, content, place)


def _placed(path: Path, content: bytes, place: Callable[[Path], object]) -> Path:
    """Write a file beside where it is to be, and put it there."""
    # Processes of several machines may write the same file, so that a process number would not do.
    temporary = path.with_name(f"{TEMPORARY}{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            place(temporary)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        why = error.strerror or error
        raise GpsweepError(
            f"{path.parent}: expected a folder that can be written, but {path.name} could not be: {why}"
        ) from None
    return path


def set_aside(path: Path) -> Path:
    """Rename a damaged file, so that it is not read again and its like can be made anew.

    Returns:
        The new path; the file is not there where it cannot be renamed.
    """
    aside = path.with_name(path.name + DAMAGED)
    with suppress(OSError):  # another process may have done it, or the folder be read-only
        path.replace(aside)
    return aside


def check_writable(folder: Path, key: str, *, room: int = 0) -> None:
    """Make a folder and check that files can be written there.

    Args:
        folder: the folder.
        key: the configuration key that names it.
        room: how many bytes there must be room for; on a full disk an empty file can still be made.

    Raises:
        GpsweepError: if it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f"{TEMPORARY}{uuid4().hex}"
        try:
            probe.write_bytes(bytes(room))
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise GpsweepError(
            f"{key}={folder}: expected a folder that can be written: {error.strerror} "
            f"({error.filename or folder})"
        ) from None
