"""Arrays kept between runs, in files that can be made again: a damaged one is set aside, never believed."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpsweep.atomic import save, sealed, set_aside, unseal
from gpsweep.errors import GpsweepError

Arrays = dict[str, NDArray[Any]]
Key = Mapping[str, str]
"""All that the arrays depend on: file name and content carry it."""

KEY = "key"
KIND = "arrays"


@dataclass(frozen=True)
class Cache:
    """A folder of such files.

    Args:
        folder: the folder, which is made; None keeps nothing.
        fresh: whether what is there is left unread, to be made anew.
        optional: whether what cannot be written there is done without.
    """

    folder: Path | None
    fresh: bool = False
    optional: bool = False

    def read(self, name: str, key: Key) -> Arrays | None:
        """Return what was kept under a key, the file held against its checksum; None if nothing was.

        Args:
            name: what the file's name begins with.
            key: all that the arrays depend on.

        Warns:
            UserWarning: naming a damaged file, which is set aside.
        """
        path = self.path(name, key)
        if self.fresh or path is None or not path.is_file():
            return None
        try:
            with path.open("rb") as file:
                # The archive's own checksums are of its arrays alone, not of the directory that names them.
                unseal(file, KIND)
                with np.load(file, allow_pickle=False) as archive:
                    arrays: Arrays = dict(archive)
            if json.loads(str(arrays.pop(KEY))) != dict(key):
                raise ValueError("it was kept for something else")
            return arrays
        except (OSError, ValueError) as error:
            aside = set_aside(path).name
            warnings.warn(f"{path}: damaged, made anew; set aside as {aside} ({error})", stacklevel=2)
            return None

    def write(self, name: str, key: Key, arrays: Arrays) -> None:
        """Keep arrays under a key, the file whole or absent; arguments are those of :meth:`read`.

        Raises:
            GpsweepError: if the file cannot be written, unless that is ``optional``.
        """
        path = self.path(name, key)
        if path is not None:
            kept: dict[str, Any] = {KEY: np.asarray(json.dumps(dict(key))), **arrays}
            buffer = BytesIO()
            np.savez(buffer, **kept)
            with suppress(GpsweepError) if self.optional else nullcontext():
                save(path, sealed(KIND, buffer.getbuffer()))

    def path(self, name: str, key: Key) -> Path | None:
        """Return where arrays of this key lie."""
        digest = hashlib.sha256(json.dumps(dict(key), sort_keys=True).encode()).hexdigest()
        return self.folder and self.folder / f"{name}-{digest[:20]}.npz"
