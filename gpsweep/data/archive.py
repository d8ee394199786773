"""Reading archives: nothing is ever extracted, and no more inflated than a data set can need."""

from __future__ import annotations

import gzip
import tarfile
import zipfile
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import IO, cast

from gpsweep.errors import GpsweepError

LARGEST = 2**29
"""Bytes that a file may come to once inflated: more than twice what any data set here needs."""

GZIPPED = (".gz", ".tgz")


class Bounded:
    """A stream that gives up where more comes out of it than a limit: what a decompression bomb does.

    Args:
        stream: what is read.
        path: the file, for the message.
        key: the configuration key that led to it.
    """

    def __init__(self, stream: BufferedIOBase, path: Path, *, key: str) -> None:
        self.stream = stream
        self.path = path
        self.key = key
        self.left = LARGEST

    def read(self, size: int = -1) -> bytes:
        """Read up to ``size`` bytes, or all of them.

        Raises:
            GpsweepError: when more than the limit came in all.
        """
        if not 0 <= size <= self.left:
            size = self.left + 1
        content = self.stream.read(size)
        self.left -= len(content)
        if self.left < 0:
            raise too_large(self.path, key=self.key)
        return content


def too_large(path: Path, *, key: str) -> GpsweepError:
    """Build the error for a file that comes to more than the limit."""
    return GpsweepError(
        f"{key}: {path} was not read: it comes to more than {LARGEST} bytes, as decompression bombs do"
    )


@contextmanager
def opened(path: Path, *, key: str) -> Iterator[Bounded]:
    """Open a file for reading, inflated if it is gzipped; whatever goes wrong becomes one error.

    Args:
        path: the file.
        key: the configuration key that led to it.

    Raises:
        GpsweepError: when it cannot be read, or comes to too much.
    """
    with told(path, key=key), gzip.open(path) if path.suffix in GZIPPED else path.open("rb") as stream:
        yield Bounded(stream, path, key=key)


@contextmanager
def told(path: Path, *, key: str) -> Iterator[None]:
    """Turn whatever goes wrong with a file into one error that names it.

    Args:
        path: the file.
        key: the configuration key that led to it.

    Raises:
        GpsweepError: for any error within.
    """
    try:
        yield
    except GpsweepError:
        raise
    except Exception as error:  # a broken archive ends in a dozen different errors
        raise GpsweepError(f"{key}: {path} cannot be read: {error}") from error


def from_tar(path: Path, wanted: Collection[str], *, key: str) -> dict[str, bytes]:
    """Read members of a gzipped tar archive by their bare names.

    Args:
        path: the archive.
        wanted: names without folders.
        key: the configuration key that led to it.

    Returns:
        name → content, of those that are there.

    Raises:
        GpsweepError: when it is damaged, or comes to too much.
    """
    found: dict[str, bytes] = {}
    with (
        opened(path, key=key) as stream,
        tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|") as archive,  # read forward, never sought
    ):
        for member in archive:
            name = PurePosixPath(member.name).name
            if member.issparse() or member.size > LARGEST:  # holes take no room in the archive
                raise too_large(path, key=key)
            content = archive.extractfile(member) if name in wanted and member.isfile() else None
            if content is not None:
                found[name] = content.read()
            if len(found) == len(wanted):
                break
    return found


@contextmanager
def opened_zip(path: Path, *, key: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive; whatever goes wrong with it becomes one error, see :func:`told`."""
    with told(path, key=key), zipfile.ZipFile(path) as archive:
        yield archive


def from_zip(archive: zipfile.ZipFile, names: Sequence[str], path: Path, *, key: str) -> list[bytes]:
    """Read members of a zip archive.

    Args:
        archive: from `opened_zip`.
        names: their full names.
        path: the archive's, for the message.
        key: the configuration key that led to it.

    Raises:
        GpsweepError: when they come to too much, by the sizes that the archive declares.
    """
    # zipfile never gives more of a member than its declared size
    if sum(archive.getinfo(name).file_size for name in names) > LARGEST:
        raise too_large(path, key=key)
    return [archive.read(name) for name in names]
