"""The images that ε is chosen on, and those that it is judged on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpsweep.errors import GpsweepError, listing, unknown
from gpsweep.results.groups import groups_of

Places = NDArray[np.intp]

HOW = ("none", "half")


def plan(
    select: str,
    *,
    ids: Sequence[str],
    seed: int = 0,
    tune: Iterable[str] | None = None,
    groups: str | None = None,
) -> dict[str, Any] | None:
    """Return what an outcome's ``info["select"]`` says of how ε is chosen, checked against the images.

    Args:
        select: ``half``: ε is chosen on some of the images and judged on the others; ``none``: on all.
        ids: the names of the images.
        seed: of the split into halves.
        tune: the names of the images to choose on, in place of a random half; those of other images, such as
            a limit leaves out, do no harm.
        groups: which images stay together, see :func:`gpsweep.results.groups.groups_of`.

    Returns:
        The arguments of :func:`halves` besides ``ids`` and ``groups``: ``seed``, or ``tune`` with the names;
        None for ``select=none``.

    Raises:
        GpsweepError: for an unknown ``select``, and as :func:`halves`.
    """
    if select not in HOW:
        raise unknown("select", select, HOW)
    if select == "none":
        return None
    known = set(ids)
    kept: dict[str, Any] = {"seed": seed} if tune is None else {"tune": [n for n in tune if n in known]}
    halves(ids, groups=groups, **kept)
    return kept


def halves(
    ids: Sequence[str],
    *,
    seed: int = 0,
    tune: Collection[str] | None = None,
    groups: str | None = None,
) -> tuple[Places, Places]:
    """Split the images into those that ε is chosen on and those that it is judged on.

    Args:
        ids: the names of the images.
        seed: of a split at random.
        tune: the names of those to choose on, in place of a random half.
        groups: which images stay together, see :func:`gpsweep.results.groups.groups_of`.

    Returns:
        The places of the two parts among ``ids``, ascending.

    Raises:
        GpsweepError: if one of them has no image, or both have images of a group.
    """
    names = groups_of(groups, ids)
    if tune is not None:
        named = set(tune)
        tunes = np.array([name in named for name in ids], dtype=bool)
        if tunes.all() or not tunes.any():
            raise GpsweepError(
                f"data.tune_split: expected the names of some of the images, came those of {tunes.sum()} of "
                f"{len(ids)}; the images are {listing(ids, 3)}"
            )
        ours, others = ({names[place] for place in np.flatnonzero(side)} for side in (tunes, ~tunes))
        if ours & others:
            raise GpsweepError(
                f"data.tune_split: expected all images of a group of data.groups={groups} or none, "
                f"came some of {listing(sorted(ours & others), 3)}"
            )
    else:
        units = list(dict.fromkeys(names))
        if len(units) < 2:
            what = "images" if groups is None else f"groups of data.groups={groups}"
            raise GpsweepError(f"select=half: expected at least two {what} to split, came {len(units)}")
        order = np.random.default_rng(seed).permutation(len(units))
        chosen = {units[place] for place in order[: len(units) // 2]}
        tunes = np.array([name in chosen for name in names])
    return np.flatnonzero(tunes), np.flatnonzero(~tunes)
