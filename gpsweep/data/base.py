"""What every data set is: samples with an id, of a task, with named classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypedDict

from torch import Tensor

from gpsweep.errors import GpsweepError, listing, unknown

VOID = -1
"""The target of a pixel that carries no truth, whatever number the files give it."""

SEGMENTATION = "segmentation"
CLASSIFICATION = "classification"

LONGEST = 16384
Size = tuple[int, int]
"""Height and width in pixels."""


class Sample(TypedDict):
    """One image with its truth.

    Keys:
        image: uint8 ``(3, H, W)``, RGB.
        target: int64 ``(H, W)`` or ``()``; ``VOID`` where there is no truth. A user's own data may give other
            integers, see :func:`gpsweep.data.batch.read`.
        id: unique and stable within the data set.
    """

    image: Tensor
    target: Tensor
    id: str


class Source(Protocol):
    """A map-style data set: every sample has an id that is known without reading it.

    One that has a ``stamp()`` as well, which returns another text where its files have changed, is not read
    to find that out.
    """

    @property
    def name(self) -> str:
        """Name of the data set, as results show it."""
        ...

    @property
    def task(self) -> str:
        """``segmentation`` or ``classification``."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers, void left out."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """Ids of all samples, in order, each once."""
        ...

    def __len__(self) -> int:
        """Count the samples."""
        ...

    def __getitem__(self, index: int) -> Sample:
        """Read one sample."""
        ...


def checked_size(size: Any, key: str = "data.size") -> Size | None:
    """Turn a size into (height, width).

    Args:
        size: ``None``, ``S`` for a square, or ``[H, W]``, in pixels.
        key: the configuration key that it comes from.

    Returns:
        (height, width), or ``None`` for ``None``.

    Raises:
        GpsweepError: for anything else.
    """
    if size is None:
        return None
    sides = list(size) if isinstance(size, Sequence) and not isinstance(size, str) else [size, size]
    if len(sides) != 2 or not all(type(side) is int and 1 <= side <= LONGEST for side in sides):
        raise GpsweepError(
            f"{key}={size}: expected null (native sizes), one side S or [height, width], "
            f"in whole pixels from 1 to {LONGEST}"
        )
    return sides[0], sides[1]


def checked_limit(limit: int | None) -> int | None:
    """Check ``data.limit``: ``None`` for all samples, or how many of the first to take.

    Raises:
        GpsweepError: when it is neither null nor a whole number ≥ 1.
    """
    if limit is None or (type(limit) is int and limit >= 1):
        return limit
    raise GpsweepError(f"data.limit={limit}: expected null (all samples) or a whole number ≥ 1")


def check_choice(key: str, got: object, choices: Iterable[str]) -> None:
    """Refuse what is not one of some names, a list of them included.

    Raises:
        GpsweepError: naming the key and the choices.
    """
    names = list(choices)
    if got not in names:
        raise unknown(key, got, names)


def check_ids(ids: Sequence[str], *, key: str, where: object) -> None:
    """Refuse an empty data set, ids that are there more than once and ids that cannot be written.

    Args:
        ids: the ids of all samples.
        key: the configuration key that chose them (``data.split``).
        where: the file or folder they came from.

    Raises:
        GpsweepError: naming the key, the place and the ids.
    """
    if len(ids) == 0:
        raise GpsweepError(f"{key}: no samples in {where}: the data set is empty")
    repeated = [name for name, times in Counter(ids).items() if times > 1]
    if repeated:
        raise GpsweepError(f"{key}: {where} holds samples more than once: {listing(repeated)}")
    foreign = [ascii(name) for name in ids if name.encode(errors="ignore").decode() != name]
    if foreign:
        raise GpsweepError(f"{key}: {where} holds names that are no UTF-8: {listing(foreign)}; rename them")
