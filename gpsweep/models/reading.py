"""Reading the files of PyTorch and of safetensors: nothing in them is run, nothing they name is looked up."""

from __future__ import annotations

import argparse
import collections
import datetime
import pathlib
import re
import typing
import warnings
import zipfile
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import omegaconf
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from gpsweep.errors import GpsweepError

SAFE = ".safetensors"
CORES = ("core", "_core")  # where NumPy 1 and 2 keep what makes scalars and arrays
STRANGERS = 1000  # classes; for each that is named, PyTorch goes through all of them
POINTER = b"version https://"
MAGIC = (b"PK\x03\x04", b"\x80")  # what torch.save writes: a zip archive, or a bare pickle before PyTorch 1.6


class Array:
    """Stands for an array of NumPy's: none is made, so that no file can ask for one that is too large.

    And for the histories of losses that OpenMMLab's training loop keeps beside weights, and for functions
    with some of their arguments, as optimisers are configured by.
    """

    def __init__(self, *_: Any) -> None: ...

    def __setstate__(self, _: Any) -> None: ...


class Stranger:
    """Stands for an object whose class is not looked up: nothing of it is kept but the class's name.

    So the hyper-parameters of a Lightning module are passed over, such as its network and its optimiser.
    """

    def __new__(cls, *_: Any) -> Stranger:
        """Make one, as a pickle makes objects."""
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        # Objects are made without it: this is a call, and may be one of any function.
        raise UnpicklingError(f"GLOBAL {type(self).__name__}")

    __setitem__ = __init__  # a dict of some kind, which releases of PyTorch refuse themselves by now

    def __setstate__(self, _: Any) -> None: ...


# What training loops save beside weights: their arguments, paths, scores and configurations. Nothing of
# these does more when it is read than keep what it is given.
DATA: list[Any] = [
    range,
    slice,
    frozenset,
    datetime.date,
    datetime.datetime,
    datetime.timedelta,
    datetime.timezone,
    argparse.Namespace,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    (pathlib.PosixPath, "pathlib._local.PosixPath"),  # as Python 3.13 names it
    (pathlib.PureWindowsPath, "pathlib.WindowsPath"),
    (pathlib.PureWindowsPath, "pathlib._local.WindowsPath"),
    np.dtype,
    *{type(np.dtype(kind)) for kind in "?bhilqBHILQefd"},
    *((np.float64(0).__reduce__()[0], f"numpy.{at}.multiarray.scalar") for at in CORES),
    *((Array, f"numpy.{name}") for name in ("ndarray", *(f"{at}.multiarray._reconstruct" for at in CORES))),
    (Array, "mmengine.logging.history_buffer.HistoryBuffer"),
    (Array, "functools.partial"),
    (typing.Any, "typing.Any"),
    *((kind, f"builtins.{kind.__name__}") for kind in (dict, list, int, float, str, bool)),
    collections.defaultdict,
    omegaconf.DictConfig,
    omegaconf.ListConfig,
    omegaconf.base.ContainerMetadata,
    omegaconf.base.Metadata,
    *(getattr(omegaconf.nodes, f"{kind}Node") for kind in ("Any", "Boolean", "Float", "Integer", "String")),
]


def content_of(file: Path) -> Any:
    """Read what is in a file; whatever may be wrong with it becomes one message.

    Args:
        file: as ``torch.save`` writes them, or of safetensors, by its ending.

    Returns:
        What was saved; a :class:`Stranger` stands for each object that is more than data.

    Raises:
        GpsweepError: not a whole file, a function would have to be called, or it swells beyond reason.
    """
    _check_inflated(file)
    try:
        if file.suffix.lower() == SAFE:
            from safetensors.torch import load_file

            return load_file(file)
        with safe_globals(DATA), safe_globals(_unknown(file)), warnings.catch_warnings():
            # Its warnings repeat the errors it then raises.
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise faulty(file, f"cannot be read: {error.strerror or error}.") from error
    except MemoryError:
        raise
    except Exception as error:
        # torch.load has no error class of its own: damaged files end in a dozen different ones.
        raise faulty(file, _unreadable(file, error)) from error


def faulty(file: Path, what: str) -> GpsweepError:
    """Build the error for a checkpoint."""
    return GpsweepError(f"model.checkpoint={file}: {what}")


def conversion(file: Path, name: str | None) -> str:
    """Say how to make a checkpoint of a file that holds objects; ``name`` is of a class or function in it."""
    named = f" ({name})" if name and name.isprintable() else ""
    return (
        f"holds more than weights{named}; reading that could run code "
        "from the file, which is never done. Where you trust the file, convert it once: "
        f"c = torch.load('{file.name}', weights_only=False), then safetensors.torch.save_file(WEIGHTS, "
        "'weights.safetensors') with WEIGHTS = c['state_dict'], c['model'] or what else holds them, or "
        "c.state_dict() where c is a network."
    )


def _check_inflated(file: Path) -> None:
    """Refuse an archive that comes to far more than its size: torch.save compresses nothing."""
    try:
        with zipfile.ZipFile(file) as archive:
            size = sum(member.file_size for member in archive.infolist())
    except (OSError, zipfile.BadZipFile):
        return
    except (ValueError, NotImplementedError) as error:  # names that are no text, versions there are none of
        raise faulty(file, f"not a whole archive: {error}.") from error
    if size > 2 * file.stat().st_size + 2**20:
        raise faulty(file, f"was not read: it comes to {size} bytes, as decompression bombs do.")


def _unknown(file: Path) -> list[Any]:
    """Return a class of its own for each name in a file that PyTorch would not read; none is looked up."""
    try:
        names = get_unsafe_globals_in_checkpoint(file)
    except ValueError:  # the format before PyTorch 1.6, or TorchScript
        return []
    return [(type(name, (Stranger,), {}), name) for name in names[:STRANGERS]]


def _unreadable(file: Path, error: Exception) -> str:
    """Say why a file could not be read: it wants code to be run, or it is none of ours."""
    with file.open("rb") as stream:
        head = stream.read(16)
    if "TorchScript" in str(error):
        return "a TorchScript archive; save its weights instead: torch.save(net.state_dict(), 'weights.pt')."
    if isinstance(error, UnpicklingError) and head.startswith(MAGIC) and file.suffix.lower() != SAFE:
        found = re.search(r"GLOBAL (\S+)", str(error))
        return conversion(file, found[1] if found else None)
    size = file.stat().st_size
    if head.startswith(POINTER):
        return "what Git LFS keeps in place of the file; git lfs pull fetches it."
    return f"not a {file.suffix} checkpoint, or cut short ({size} bytes, beginning with {head!r})."
