from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from digits import Digits, digits, trained
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gpsweep.knn import gradients
from gpsweep.knn.gallery import LOOKED_AT, MOST, Gallery
from gpsweep.knn.gradients import Gradients, packed, unpacked

ROWS = torch.tensor([333, 0, 699, MOST - 1, MOST, 333])


def of(source: Digits | None = None, cache: Path | None = None) -> Gradients:
    gallery = Gallery(trained(), source or digits(), features="hidden", cache=cache)
    gallery.prepare(torch.device("cpu"))
    return Gradients(gallery)


def plain(row: int) -> Tensor:
    """Pull (ℓ·y)(ℓ − y) of an image's own class back to the input, in the image's fixed block."""
    data = digits()
    some = slice(row // MOST * MOST, (row // MOST + 1) * MOST)
    x = data.images[some].float().contiguous(memory_format=torch.channels_last).requires_grad_()
    z = trained()(x.clone())
    y = z.detach().double().softmax(1)
    label = torch.eye(10).double()[data.targets[some]]
    signal = (label * y).sum(1, keepdim=True) * (label - y)
    (gradient,) = torch.autograd.grad(z, x, signal.float())
    return gradient[row % MOST]


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=3), count=st.integers(1, 4), seed=st.integers(0, 9)
)
def test_signs_survive_as_bits(shape: list[int], count: int, seed: int) -> None:
    torch.manual_seed(seed)
    gradient = torch.randint(-1, 2, (count, *shape)) * torch.rand(count, *shape)
    bits = packed(gradient)
    assert bits.shape == (count, 2, math.ceil(math.prod(shape) / 8))
    assert torch.from_numpy(unpacked(bits, tuple(shape))).equal(gradient.sign().to(torch.int8))


def test_gradients_are_those_of_fixed_blocks_whoever_asks() -> None:
    expected = torch.stack([plain(row) for row in ROWS.tolist()])
    assert expected.abs().amax((1, 2, 3)).min() > 0
    together = of()
    [found] = together(ROWS, signal="eq5", layer="input", signs=False)
    assert found.equal(expected)
    [signs] = together(ROWS, signal="eq5", layer="input", signs=True)
    assert signs.equal(expected.sign())
    alone = of()
    for row, gradient in zip(ROWS.flip(0), expected.flip(0), strict=True):
        assert alone(row[None], signal="eq5", layer="input", signs=False)[0][0].equal(gradient)


def test_signals_and_layers_are_kept_apart() -> None:
    found = of()
    settings = [(s, layer) for s in ("eq5", "cross_entropy") for layer in ("input", "hidden", "conv1")]
    first = [found(ROWS, signal=s, layer=layer, signs=False)[0] for s, layer in settings]
    again = [found(ROWS, signal=s, layer=layer, signs=False)[0] for s, layer in settings]
    assert [tuple(g.shape[1:]) for g in first] == [(3, 8, 8), (24,), (8, 6, 6)] * 2
    assert all(a.equal(b) for a, b in zip(first, again, strict=True))
    assert not first[0].equal(first[3])


def test_each_block_is_computed_once_unless_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits()
    found = of(data)
    expected = found(ROWS, signal="eq5", layer="input", signs=False)
    data.reads.clear()
    found(ROWS, signal="eq5", layer="input", signs=False)
    assert data.reads == []
    monkeypatch.setattr(gradients, "KEPT_BYTES", 1)
    short = of(data)
    data.reads.clear()
    for _ in range(2):
        again = short(ROWS, signal="eq5", layer="input", signs=False)
        assert again[0].equal(expected[0])
    assert data.reads.count(333) == 2


@pytest.mark.parametrize("layer", ["input", "hidden", "conv1"])
@pytest.mark.parametrize("signs", [True, False])
def test_gradients_come_of_the_passes_that_compute_the_features(layer: str, signs: bool) -> None:
    expected = of()(ROWS, signal="eq5", layer=layer, signs=signs)[0]
    data = digits()
    gallery = Gallery(trained(), data, features="hidden")
    found = Gradients(gallery)
    found.prepare(torch.device("cpu"), signal="eq5", layer=layer, signs=signs)
    assert gallery.index.equal(of().gallery.index)
    data.reads.clear()
    assert found(ROWS, signal="eq5", layer=layer, signs=signs)[0].equal(expected)
    assert data.reads == []
    # What was not asked for beforehand is computed when it is wanted.
    other = of()(ROWS, signal="likelihood", layer=layer, signs=signs)[0]
    assert found(ROWS, signal="likelihood", layer=layer, signs=signs)[0].equal(other)


def test_gradients_are_left_for_later_where_memory_does_not_hold_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gradients, "KEPT_BYTES", 2 * MOST * 2 * 24)  # of 700 images, each 3·64 signs
    data = digits()
    found = Gradients(Gallery(trained(), data, features="hidden"))
    found.prepare(torch.device("cpu"), signal="eq5", layer="input", signs=True)
    data.reads.clear()
    found(torch.arange(MOST, 2 * MOST), signal="eq5", layer="input", signs=True)
    assert data.reads == list(range(MOST, 2 * MOST))


def test_of_blocks_that_memory_does_not_hold_the_oldest_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gradients, "KEPT_BYTES", 2 * MOST * 3 * 64 * 4)  # two of three blocks
    data = digits()
    found = of(data)
    for block in (0, 1, 2):
        found(torch.tensor([block * MOST]), signal="eq5", layer="input", signs=False)
    data.reads.clear()
    found(torch.tensor([MOST, 2 * MOST]), signal="eq5", layer="input", signs=False)
    assert data.reads == []
    found(torch.tensor([0]), signal="eq5", layer="input", signs=False)
    assert data.reads == list(range(MOST))


def test_saved_signs_are_not_taken_for_gradients(tmp_path: Path) -> None:
    first = of(cache=tmp_path)
    first(ROWS, signal="eq5", layer="input", signs=True)
    first.save()
    [expected] = of()(ROWS, signal="eq5", layer="input", signs=False)
    [found] = of(cache=tmp_path)(ROWS, signal="eq5", layer="input", signs=False)
    assert found.equal(expected)


def test_saved_signs_are_read_and_added_to(tmp_path: Path) -> None:
    def signs(found: Gradients, rows: Tensor, layer: str = "conv1") -> Tensor:
        return found(rows, signal="eq5", layer=layer, signs=True)[0]

    last = torch.tensor([699, 500])
    first, second = of(cache=tmp_path), of(cache=tmp_path)
    expected, others, inner = signs(first, ROWS), signs(second, last), signs(second, ROWS, "hidden")
    first.save()
    second.save()
    assert len(list(tmp_path.glob("signs-*.npz"))) == 2
    data = digits()
    third = of(data, cache=tmp_path)
    assert signs(third, ROWS).equal(expected)
    assert signs(third, last).equal(others)
    assert signs(third, ROWS, "hidden").equal(inner)
    assert len(data.reads) <= LOOKED_AT + 1
    written = [path.stat().st_mtime_ns for path in tmp_path.iterdir()]
    third.save()
    assert [path.stat().st_mtime_ns for path in tmp_path.iterdir()] == written, "nothing is new"


def test_signs_that_were_forgotten_again_are_not_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradients, "KEPT_BYTES", 1)
    short = of(cache=tmp_path)
    expected = short(ROWS, signal="eq5", layer="input", signs=True)[0]
    short(ROWS, signal="eq5", layer="input", signs=False)
    short.save()
    assert not list(tmp_path.glob("signs-*.npz"))
    assert short(ROWS, signal="eq5", layer="input", signs=True)[0].equal(expected)
    short.save()
    assert len(list(tmp_path.glob("signs-*.npz"))) == 1, "of the block that is still there"


def test_a_damaged_file_costs_no_more_than_time(tmp_path: Path) -> None:
    first = of(cache=tmp_path)
    expected = first(ROWS, signal="eq5", layer="input", signs=True)[0]
    first.save()
    [path] = tmp_path.glob("signs-*.npz")
    path.write_bytes(path.read_bytes()[:-100])
    second = of(cache=tmp_path)
    with pytest.warns(UserWarning, match="damaged, made anew") as said:
        assert second(ROWS, signal="eq5", layer="input", signs=True)[0].equal(expected)
    assert len(said) == 1


def test_a_network_that_is_sure_still_says_what_would_raise_its_class() -> None:
    """In 32 bits the signal at its own class, 1 − y, is 0 where the other scores lie 17 or more below."""
    net = trained()
    before = net.net.scores.weight.clone()
    net.net.scores.weight.mul_(6)
    try:
        data = digits(0, 3)
        gallery = Gallery(net, data, features="hidden")
        gallery.prepare(torch.device("cpu"))
        x = data.images.float()
        y = net(x).softmax(1)[torch.arange(3), data.targets]
        assert (y == 1).any()
        [found] = Gradients(gallery)(torch.arange(3), signal="eq5", layer="scores", signs=False)
        own = found[torch.arange(3), data.targets]
        assert (own > 0).all()
        torch.testing.assert_close(own, -(found.sum(1) - own), rtol=0.01, atol=0)
    finally:
        net.net.scores.weight.copy_(before)
