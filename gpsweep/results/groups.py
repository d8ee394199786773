"""Which images belong together, such as a patient's slices or a video's frames."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from gpsweep.errors import GpsweepError, listing

KEY = "data.groups"


def check_groups(pattern: str | None, ids: Sequence[str]) -> None:
    """Check a pattern before anything is computed; see :func:`groups_of`.

    Raises:
        GpsweepError: if it is none, is not found in an id, or matches no letter of any.

    Warns:
        UserWarning: where no images share a group, or all of several do.
    """
    if pattern is None:
        return
    names = set(groups_of(pattern, ids))
    if names == {""}:
        raise GpsweepError(
            f"{KEY}={pattern}: expected to match the part of an id that names its group; it matches no "
            f"letter of {listing(ids, 2)}"
        )
    if len(names) in (1, len(ids)):
        share = "no two of the" if len(names) == len(ids) else "all of the"
        warnings.warn(
            f"{KEY}={pattern}: {share} {len(ids)} images share a group, such as {listing(ids, 2)}",
            stacklevel=2,
        )


def groups_of(pattern: str | None, ids: Sequence[str]) -> list[str]:
    """Return the name of each image's group; without a pattern each image is one by itself.

    >>> groups_of("^[^_]+", ["p1_a", "p1_b", "p2_a"]), groups_of(r"/(\\d+)", ["x/07", "y/07"])
    (['p1', 'p1', 'p2'], ['07', '07'])

    Args:
        pattern: a regular expression, searched for in each id: what its first group holds is the name, or all
            that it matches.
        ids: the names of the images.

    Raises:
        GpsweepError: if it is none, or is not found in an id.
    """
    if pattern is None:
        return list(ids)
    try:
        found = [re.search(pattern, name) for name in ids]
    except (re.error, TypeError) as error:
        raise GpsweepError(f"{KEY}={pattern}: expected a regular expression, or null: {error}") from None
    missed = [name for name, match in zip(ids, found, strict=True) if match is None]
    if missed:
        raise GpsweepError(
            f"{KEY}={pattern}: expected to be found in the id of each image; it is not in {len(missed)} of "
            f"{len(ids)}: {listing(missed, 3)}"
        )
    return [(match[1] if match.lastindex else match[0]) or "" for match in found if match is not None]
