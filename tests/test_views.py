"""Views and back again: each image by itself, whatever stands beside it in the batch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from batches import batch_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gpsweep.data.base import VOID
from gpsweep.views import IDENTITY, View, colours, sizes_of

FLIP, SMALLER, LARGER = View(mirrored=True), View(scale=0.75), View(scale=1.25)
sides = st.tuples(st.integers(1, 9), st.integers(1, 9))


def box(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x[..., : size[0], : size[1]]


@given(sizes=st.lists(sides, min_size=1, max_size=4))
def test_a_flip_swaps_left_and_right_of_each_image_and_leaves_its_padding(
    sizes: list[tuple[int, int]],
) -> None:
    batch = batch_of(*sizes)
    seen = FLIP.of(batch)
    for place, size in enumerate(sizes):
        for key in ("image", "target"):
            assert box(seen[key][place], size).equal(box(batch[key][place], size).flip(-1))  # type: ignore[literal-required]
    if batch["valid"] is not None:
        assert (seen["target"][~batch["valid"]] == VOID).all()
        assert (seen["image"].amax(1)[~batch["valid"]] == 0).all()
        assert seen["valid"] is not None and seen["valid"].equal(batch["valid"])
    assert (seen["ids"], seen["content"]) == (batch["ids"], batch["content"])
    assert FLIP.of(seen)["image"].equal(batch["image"])
    assert FLIP.back(seen["image"], batch).equal(batch["image"])


@given(sizes=st.lists(sides, min_size=2, max_size=4), scale=st.sampled_from([0.5, 0.75, 1.25, 2.0]))
def test_an_image_is_scaled_as_if_it_were_alone(sizes: list[tuple[int, int]], scale: float) -> None:
    batch, view = batch_of(*sizes), View(scale=scale)
    seen = view.of(batch)
    for place, size in enumerate(sizes):
        new = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        image, target = box(batch["image"][place], size), box(batch["target"][place], size)
        alone = F.interpolate(image[None], new, mode="bilinear", align_corners=False, antialias=True)[0]
        assert box(seen["image"][place], new).equal(alone)
        nearest = F.interpolate(target[None, None].float(), new, mode="nearest-exact")[0, 0].long()
        assert box(seen["target"][place], new).equal(nearest)
        assert sizes_of(seen)[place] == new
        back = F.interpolate(alone[None], size, mode="bilinear", align_corners=False)[0]
        assert box(view.back(seen["image"], batch)[place], size).equal(back)
    if seen["valid"] is not None:
        assert (seen["target"][~seen["valid"]] == VOID).all()
        assert (seen["image"].amax(1)[~seen["valid"]] == 0).all()


@pytest.mark.parametrize("view", [FLIP, SMALLER, LARGER], ids=str)
def test_an_image_taken_out_of_its_batch_keeps_its_padding(view: View) -> None:
    """All images are then of one size, and yet not of the tensor's."""
    both = batch_of((8, 12), (16, 20))
    first = both | {key: both[key][:1] for key in ("image", "target", "valid", "ids")}
    whole, alone = (view.of(batch) for batch in (both, first))
    size = sizes_of(whole)[0]
    assert sizes_of(alone) == [size]
    for key in ("image", "target"):
        assert box(alone[key][0], size).equal(box(whole[key][0], size))
    back = [view.back(seen["image"], batch) for seen, batch in ((whole, both), (alone, first))]
    assert box(back[0][0], (8, 12)).equal(box(back[1][0], (8, 12)))


@pytest.mark.parametrize("view", [FLIP, SMALLER, LARGER], ids=str)
def test_what_comes_back_is_a_distribution_at_the_size_of_the_batch(view: View) -> None:
    batch = batch_of((7, 12), (9, 5))
    shape = view.of(batch)["image"].shape
    softmax = torch.rand(2, 5, *shape[-2:]).softmax(1)
    back = view.back(softmax, batch)
    assert back.shape == (2, 5, 9, 12)
    assert batch["valid"] is not None
    torch.testing.assert_close(back.sum(1)[batch["valid"]], torch.ones(7 * 12 + 9 * 5))


@pytest.mark.parametrize("view", [FLIP, SMALLER, LARGER], ids=str)
def test_a_class_of_the_whole_image_stays(view: View) -> None:
    batch = batch_of((8, 8), (8, 8), dense=False)
    assert view.of(batch)["target"].equal(batch["target"])
    softmax = torch.rand(2, 5)
    assert view.back(softmax, batch) is softmax


def test_the_identity_leaves_everything() -> None:
    batch = batch_of((3, 4), (4, 3))
    assert IDENTITY.of(batch) is batch
    assert [view.refine for view in (IDENTITY, FLIP, SMALLER)] == ["none", "flip", "multiscale"]


def test_colours_are_bytes_with_channels_last() -> None:
    batch = batch_of((2, 3))
    assert torch.from_numpy(colours(batch)).permute(0, 3, 1, 2).float().equal(batch["image"])
