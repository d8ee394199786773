"""What all data sets check alike."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from gpsweep.data.base import check_ids, checked_limit, checked_size
from gpsweep.errors import GpsweepError


@pytest.mark.parametrize(
    ("size", "expected"),
    [(None, None), (32, (32, 32)), ([2, 3], (2, 3)), ((2, 3), (2, 3)), (OmegaConf.create([2, 3]), (2, 3))],
)
def test_size_is_height_and_width(size: object, expected: object) -> None:
    assert checked_size(size) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "32", "ab", [], [3], [1, 2, 3], [0, 3], [2.0, 3], 10**6])
def test_nonsense_size(size: object) -> None:
    with pytest.raises(GpsweepError, match=r"data\.size=.*expected null .*\[height, width\]"):
        checked_size(size)  # type: ignore[arg-type]


@pytest.mark.parametrize("limit", [0, -3, True, 2.5, "5", [1]])
def test_nonsense_limit(limit: object) -> None:
    with pytest.raises(GpsweepError, match=r"data\.limit=.*expected null"):
        checked_limit(limit)  # type: ignore[arg-type]


def test_limit_is_kept() -> None:
    assert checked_limit(None) is None
    assert checked_limit(3) == 3


def test_ids_are_there_and_unique() -> None:
    check_ids(["a", "b"], key="data.split", where="list.txt")
    with pytest.raises(GpsweepError, match=r"data\.split: .*list\.txt.*empty"):
        check_ids([], key="data.split", where="list.txt")
    with pytest.raises(GpsweepError, match=r"data\.split: list\.txt .*more than once: b, c$"):
        check_ids(["a", "b", "c", "b", "c", "b"], key="data.split", where="list.txt")
