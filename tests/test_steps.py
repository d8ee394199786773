"""The RMS of an image and the step that divides by it, in any precision and on any number of threads."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpsweep import points
from gpsweep.steps import STEPS, by_rms, rms


def test_every_name_has_a_step() -> None:
    assert set(points.STEPS) == set(STEPS)


@pytest.mark.parametrize("step", STEPS)
@given(height=st.integers(1, 6), width=st.integers(1, 6), seed=st.integers(0, 99))
def test_an_image_moves_as_if_it_were_without_padding(step: str, height: int, width: int, seed: int) -> None:
    gradient = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
    valid = torch.zeros(2, 6, 6, dtype=torch.bool)
    valid[0], valid[1, :height, :width] = True, True
    found = STEPS[step](gradient, valid)
    torch.testing.assert_close(found[:1], STEPS[step](gradient[:1], None))
    alone = STEPS[step](gradient[1:, :, :height, :width], None)
    torch.testing.assert_close(found[1:, :, :height, :width], alone)
    torch.testing.assert_close(alone.square().mean(), torch.tensor(1.0))
    assert found[~valid.unsqueeze(1).expand_as(found)].abs().sum() == 0


@pytest.mark.parametrize("shape", [(64, 90, 120), (512, 32, 32), (50, 700)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_the_rms_of_an_image_is_the_same_with_any_number_of_threads(
    shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    h = torch.randn((12, *shape), generator=torch.Generator().manual_seed(0))
    h = h.contiguous(memory_format=memory_format) if h.dim() == 4 else h
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(torch.cat([rms(image) for image in h.split(1)]))
    finally:
        torch.set_num_threads(threads)
    assert found[0].equal(found[1])
    assert found[0].equal(found[2])
    exact = h.double().square().flatten(1).mean(1).sqrt()
    torch.testing.assert_close(found[0].flatten().double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 6), (2,)])
@pytest.mark.parametrize("small", [2.0**-30, 2.0**-60, 2.0**-100])
def test_a_small_gradient_has_an_rms(shape: tuple[int, ...], small: float) -> None:
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    gradient[0] = 0
    found = by_rms(gradient * small)
    assert found.equal(by_rms(gradient))
    assert not found[0].any()
    torch.testing.assert_close(found[1].square().mean(), torch.tensor(1.0))


def test_small_channels_of_a_gradient_stay_small() -> None:
    gradient = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    gradient[:, 0] *= 2.0**-50
    exact = gradient.double() / gradient.double().square().mean((1, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(by_rms(gradient).double(), exact, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_the_rms_of_16_bits_is_taken_in_32(kind: torch.dtype) -> None:
    # In float16 the squares of the former are 0, and those of the latter infinite.
    normal = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    small, large = (normal * 1e-4).to(kind), (normal * 1e3).to(kind)
    assert by_rms(small).equal(by_rms(small.float()).to(kind))
    assert rms(large).equal(rms(large.float()).to(kind))
