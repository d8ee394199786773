from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpsweep import compiled, tally
from gpsweep.errors import GpsweepError
from gpsweep.labels import likeliest
from gpsweep.tally import Tally


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def scores_of(seed: int, classes: int, *, size: tuple[int, int] = (40, 33), crop: int = 0) -> torch.Tensor:
    """Few different numbers, so that many are equally large; a pixel's classes lie together."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randint(-4, 4, (2, classes, size[0] + crop, size[1]), generator=generator).float()
    return scores.contiguous(memory_format=torch.channels_last)[:, :, : size[0]]


@given(
    seed=st.integers(0, 2**31),
    classes=st.integers(2, 6),
    extra=st.integers(0, 2),
    crop=st.sampled_from([0, 3]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    mapped=st.booleans(),
    several=st.sampled_from([1, 2, 64]),
)
def test_one_pass_counts_what_several_count(
    seed: int, classes: int, extra: int, crop: int, dtype: torch.dtype, mapped: bool, several: int
) -> None:
    torch.set_num_threads(several)
    scores = scores_of(seed, classes + extra, crop=crop).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(-1, classes + 1, (2, 40, 33), generator=generator)
    class_map = (
        torch.randint(-1, classes, (classes + extra,), generator=generator).tolist() if mapped else None
    )
    count = Tally(target, classes=classes, channels=classes + extra, class_map=class_map)
    expected = count(likeliest(scores))
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(tally, "likeliest")  # nothing else is asked
        assert count.of(scores).equal(expected)


def test_the_first_of_equals_counts() -> None:
    scores = torch.zeros(1, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    truth, meanings = torch.zeros(1, 2, 2, dtype=torch.int32), torch.tensor([1, 2, 0])
    found = compiled.counts(scores, truth, meanings, classes=3, channels=3)
    assert found.tolist() == [[[0, 0, 4], [0, 4, 0], [0, 0, 0]]]


@pytest.mark.parametrize("several", [1, 2])
def test_threads_are_those_of_torch_and_numbas_own_stay(several: int) -> None:
    before, seen = numba.get_num_threads(), []  # numba starts, and may set PyTorch's
    torch.set_num_threads(several)
    truth = torch.zeros(2, 40, 33, dtype=torch.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiled, "_in_parallel", lambda *args: seen.append(numba.get_num_threads()))
        compiled.counts(scores_of(0, 3), truth, torch.arange(3), classes=3, channels=3)
    assert seen == [2] * (several - 1)
    assert numba.get_num_threads() == before


@pytest.mark.parametrize("several", [1, 3])
def test_pytorch_keeps_its_threads(several: int) -> None:
    """Numba's first threads are those of OpenMP, and of PyTorch where it is the same library."""
    code = f"""
import torch
from gpsweep.tally import Tally
torch.set_num_threads({several})
scores = torch.rand(1, 2, 64, 64).contiguous(memory_format=torch.channels_last)
Tally(torch.zeros(1, 64, 64).long(), classes=2, channels=2).of(scores)
print(torch.get_num_threads())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == (f"{several}\n", "")


def test_few_pixels_and_many_bins_take_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    monkeypatch.delattr(compiled, "_in_parallel")
    target = torch.zeros(2, 4, 4).long()
    scores = scores_of(0, 5, size=(4, 4))
    assert Tally(target, classes=5, channels=5).of(scores).sum() > 0


@pytest.mark.parametrize(
    "scores",
    [
        scores_of(1, 3).contiguous(),
        scores_of(1, 3).bfloat16(),
        torch.tensor([[0.5, 1.5, 1.0], [2.0, 2.0, 1.0]]),
    ],
    ids=["classes apart", "few bits", "of images"],
)
def test_what_is_not_compiled_is_counted_as_well(
    scores: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(compiled, "counts")
    classes = likeliest(scores)
    count = Tally(torch.zeros_like(classes), classes=3, channels=3)
    assert count.of(scores).equal(count(classes))


def test_without_numba_the_counts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = scores_of(2, 4)
    count = Tally(torch.ones(2, 40, 33).long(), classes=4, channels=4)
    expected = count.of(scores)
    monkeypatch.setitem(sys.modules, "gpsweep.compiled", None)
    tally._compiled.cache_clear()
    try:
        assert tally._compiled() is None
        assert count.of(scores).equal(expected)
    finally:
        tally._compiled.cache_clear()


def test_where_nothing_can_be_kept_it_is_compiled_each_time() -> None:
    names: dict[str, Callable[..., None]] = {}
    exec(compile("def double(values): values *= 2", "<nowhere>", "exec"), names)
    with pytest.raises(RuntimeError, match="cannot cache"):
        numba.njit(cache=True)(names["double"])
    values = np.ones(3)
    compiled._compiled()(names["double"])(values)
    assert values.tolist() == [2, 2, 2]


def test_scores_of_another_size_are_refused() -> None:
    count = Tally(torch.zeros(2, 8, 33).long(), classes=3, channels=3)
    with pytest.raises(GpsweepError, match=r"target's shape \(2, 8, 33\), came \(2, 40, 33\)"):
        count.of(scores_of(0, 3))


def test_scores_of_other_channels_write_nowhere() -> None:
    count = Tally(torch.zeros(2, 40, 33).long(), classes=3, channels=4)
    with pytest.raises(GpsweepError, match="expected scores of 4 channels, came 9"):
        count.of(scores_of(0, 9))


def test_numba_does_not_fill_a_log() -> None:
    assert not logging.getLogger("numba.core").isEnabledFor(logging.INFO)
