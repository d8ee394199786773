"""Counts of refined points: the same as by hand, with no pass made twice."""

from __future__ import annotations

import gc
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from batches import batch_of
from hypothesis import example, given, settings
from hypothesis import strategies as st
from networks import CLASSES, batch, build, entering
from torch import Tensor, nn

from gpsweep.counting import Room, count
from gpsweep.crf import Crf, refined
from gpsweep.data.batch import Batch
from gpsweep.engine import curve
from gpsweep.logits import pick
from gpsweep.points import REFINES, Point, grid
from gpsweep.refine import Refinement
from gpsweep.tally import Tally
from gpsweep.views import View, colours

CRF = Crf(iterations=2, appearance_xy=5, appearance_rgb=20)
VIEWS = {
    "none": [View()],
    "crf": [View()],
    "flip": [View(), View(mirrored=True)],
    "multiscale": [View(), View(scale=0.5), View(scale=1.5)],
}


class Logits(nn.Module):
    """A network that gives its logits alone, in which every class has its share, and counts its passes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net, self.passes, self.centre = build(name), 0, torch.zeros(())
        z = self(batch(name)[0])
        self.centre, self.passes = z.transpose(0, 1).flatten(1).mean(1).view(-1, *[1] * (z.dim() - 2)), 0

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        return pick(self.net(x), None) - self.centre


def of(name: str, padded: bool = False) -> Batch:
    if padded:
        return batch_of((9, 14), (7, 10))
    x, target = batch(name)
    return Batch(image=x, target=target, valid=None, ids=["a", "b"], content="")


def refinement(*names: str) -> Refinement:
    return Refinement(names or REFINES, scales=(0.5, 1.5), crf=CRF)


def by_hand(net: nn.Module, here: Batch, point: Point, **options: Any) -> Tensor:
    """Counts of one point: every view by itself, from the start."""
    axes = {key: value for key, value in point.asdict().items() if key != "refine"}
    softmax = []
    for view in VIEWS[point.refine]:
        seen = view.of(here)
        known = {"target": seen["target"], "valid": seen["valid"], "sample_ids": seen["ids"]}
        found = dict(curve(net, seen["image"], **axes, **known, **options))
        logits = next(z for p, z in found.items() if p.iterations == point.iterations)
        if point.refine == "none":
            softmax.append(logits)
        else:
            softmax.append(view.back(logits.softmax(1), here))
    mean = torch.stack(softmax).sum(0) / len(softmax)
    if point.refine == "crf":
        for place, (image, each) in enumerate(zip(colours(here), mean, strict=True)):
            inside = slice(None) if here["valid"] is None else here["valid"][place]
            rows, columns = (slice(None),) * 2
            if here["valid"] is not None:
                rows, columns = (slice(int(inside.any(axis).sum())) for axis in (1, 0))
            part = refined(image[rows, columns], each[:, rows, columns].numpy(), CRF)
            mean[place, :, rows, columns] = torch.from_numpy(part)
    return Tally(here["target"], classes=CLASSES, channels=CLASSES)(mean.argmax(1))


def test_the_time_of_a_pass_is_that_of_the_points_which_it_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Logits("skips").eval()
    monkeypatch.setattr("gpsweep.counting.perf_counter", lambda: float(net.passes))
    points = grid(eps=[0, 1, 2], refine=["none", "flip"]).points()
    found = count(net, of("skips"), points, classes=CLASSES)
    assert dict(zip(points, found.seconds, strict=True)) == {
        point: 0 if point.eps == 0 else 0.5 if point.refine == "none" else 1.5 for point in points
    }
    assert found.shared == 2, "a clean pass of either view"
    alone = count(net, of("skips"), [Point(eps=1, refine="flip")], classes=CLASSES)
    assert (alone.seconds, alone.shared) == ([2], 2)


def test_padding_is_of_the_colour_that_the_network_sees_as_nothing() -> None:
    net, here = build("skips"), of("skips", padded=True)
    net.fill, seen = torch.tensor([1.0, 2.0, 3.0]), entering(net)
    count(net, here, [Point(eps=1)], classes=CLASSES)
    for x in seen:
        assert x.movedim(1, 3)[~here["valid"]].unique(dim=0).tolist() == [[1, 2, 3]]
    assert seen[0].movedim(1, 3)[here["valid"]].equal(here["image"].movedim(1, 3)[here["valid"]])


def test_an_image_may_have_more_pixels_of_a_class_than_a_byte_holds() -> None:
    x, target = batch("skips", size=(20, 20))
    here = Batch(image=x, target=target * 0, valid=None, ids=["a", "b"], content="")
    found = count(build("skips"), here, [Point(), Point(eps=1.0)], classes=CLASSES)
    for counts in (found.base, *found.counts):
        right, _, missed = counts[:, 0].T
        assert (right + missed).tolist() == [400, 400]


@pytest.mark.parametrize(
    ("name", "axes", "padded"),
    [
        ("skips", {"label": ["argmax", "random_onehot"]}, False),
        ("skips", {"label": ["uniform", "ground_truth"]}, True),
        ("skips", {"layer": ["input", "encoder.down"], "iterations": 2}, False),
        ("dicts", {"signal": ["eq5", "likelihood"], "step": "rms"}, False),
    ],
    ids=["labels", "padded", "layers and iterations", "signals"],
)
def test_counts_are_those_of_every_view_by_itself(name: str, axes: dict[str, Any], padded: bool) -> None:
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed")
    net, here = Logits(name).eval(), of(name, padded)
    if "layer" in axes:
        axes = axes | {"layer": ["input", "net.encoder.down"]}
    points = grid(eps=[-20, 0, 40], refine=REFINES, **axes).points()
    chunk = count(net, here, points, classes=CLASSES, options={"refinement": refinement()})
    for point, counts in zip(points, chunk.counts, strict=True):
        np.testing.assert_array_equal(counts, by_hand(net, here, point), err_msg=str(point))
    np.testing.assert_array_equal(chunk.base, by_hand(net, here, Point()))
    assert len({np.asarray(chunk.counts[row]).tobytes() for row in range(len(points))}) > len(points) / 3


def test_images_of_one_class_have_views_too() -> None:
    net, here = Logits("classifier").eval(), of("classifier")
    points = grid(eps=[0, 2], refine=["none", "flip", "multiscale"]).points()
    chunk = count(net, here, points, classes=CLASSES, options={"refinement": refinement()})
    for point, counts in zip(points, chunk.counts, strict=True):
        np.testing.assert_array_equal(counts, by_hand(net, here, point))


@pytest.mark.parametrize("size", [1, 4])
def test_what_rides_along_changes_nothing_and_no_pass_is_made_twice(size: int) -> None:
    pytest.importorskip("pydensecrf", reason="pydensecrf2 is not installed")
    here, eps = of("skips"), [-1.0, 0.0, 0.5, 1.0]
    passes, found = {}, {}
    for names in (("none",), ("none", "crf"), ("none", "flip", "crf"), REFINES):
        net = Logits("skips").eval()
        options = {"refinement": refinement(*names), "points_per_forward": size}
        points = grid(eps=eps, refine=names).points()
        chunk = count(net, here, points, classes=CLASSES, options=options)
        passes[len(names)] = net.passes
        found[len(names)] = np.stack([np.asarray(chunk.counts[row]) for row in range(len(eps))])
        assert chunk.points_per_forward == size
        assert len(chunk.seconds) == len(points)
        assert all(second > 0 for second, point in zip(chunk.seconds, points, strict=True) if point.eps)
    assert passes[2] == passes[1]
    assert passes[3] == 2 * passes[1]
    assert passes[4] == 4 * passes[1]
    for counts in found.values():
        np.testing.assert_array_equal(counts, found[1])


def test_only_what_is_missing_is_computed_and_the_base_in_any_case() -> None:
    here, done = of("skips"), []
    points = [Point(eps=1), Point(eps=1, refine="flip"), Point(eps=0, refine="flip"), Point("top2", eps=2)]
    net = Logits("skips").eval()
    chunk = count(net, here, points, classes=CLASSES, on_point=lambda: done.append(1))
    assert chunk.points == points
    assert len(done) == len(points)
    for point, counts in zip(points, chunk.counts, strict=True):
        np.testing.assert_array_equal(counts, by_hand(net, here, point))
    np.testing.assert_array_equal(chunk.base, by_hand(net, here, Point()))


POINTS = grid(eps=[-20, 0, 40], refine=["none", "flip", "multiscale"], iterations=2).points()


@cache
def of_all() -> dict[Point, Any]:
    chunk = count(Logits("skips").eval(), of("skips"), POINTS, classes=CLASSES)
    return dict(zip(POINTS, map(np.asarray, chunk.counts), strict=True))


@given(st.lists(st.sampled_from(POINTS), min_size=1, unique=True))
@example([Point(eps=-20), Point(eps=0), Point(eps=0, refine="flip"), Point(eps=40)])
@example([Point(iterations=2, eps=40), Point(eps=40), Point(eps=-20)])
@settings(max_examples=25)
def test_whatever_is_missing_is_computed_once(points: list[Point]) -> None:
    done: list[int] = []
    net = Logits("skips").eval()
    chunk = count(net, of("skips"), points, classes=CLASSES, on_point=lambda: done.append(1))
    assert len(done) == len(points)
    for point, counts in zip(points, chunk.counts, strict=True):
        np.testing.assert_array_equal(counts, of_all()[point])


def test_a_network_that_is_the_same_in_a_mirror_gains_nothing_by_one() -> None:
    torch.manual_seed(0)
    net, here = nn.Conv2d(3, CLASSES, 1).eval().requires_grad_(False), of("skips")
    points = grid(eps=[-3, 0, 3], label=["argmax", "uniform"], refine=["none", "flip"]).points()
    chunk = count(net, here, points, classes=CLASSES)
    found = dict(zip(points, map(np.asarray, chunk.counts), strict=True))
    for point in points:
        twin = Point(point.label, eps=point.eps)
        np.testing.assert_array_equal(found[point], found[twin])


def test_what_is_not_perturbed_takes_no_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise AssertionError("a backward pass")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    net = Logits("skips").eval()
    points = grid(eps=0, label=["argmax", "uniform"], refine=["none", "flip"], iterations=2).points()
    assert len(count(net, of("skips"), points, classes=CLASSES).points) == 8
    assert net.passes == 2
    with pytest.raises(AssertionError, match="a backward pass"):
        count(net, of("skips"), [Point(eps=1)], classes=CLASSES)


def test_no_point_leaves_a_tensor_behind() -> None:
    """A small one would lie where the next point's large ones had room; memory grew with every point."""
    here, alive = batch_of((24, 24), (24, 24)), []

    def tensors() -> None:
        alive.append(sum(issubclass(type(each), Tensor) for each in gc.get_objects()))

    points = grid(eps=[0.1 * k for k in range(1, 9)], refine=["none", "flip"]).points()
    gc.collect()
    gc.disable()
    try:
        options = {"refinement": Refinement(("none", "flip"))}
        made = count(build("skips"), here, points, classes=CLASSES, options=options, on_point=tensors)
    finally:
        gc.enable()
    assert made.counts.shape[0] == len(points) == len(alive)
    assert len(set(alive[2::2])) == len(set(alive[3::2])) == 1


@given(size=st.integers(1, 5), number=st.integers(1, 12))
def test_what_is_kept_are_copies_that_share_blocks_of_memory(size: int, number: int) -> None:
    room, rows = Room(size), torch.rand(number, 2, 3)
    expected = rows.clone()
    kept = [room.kept(row) for row in rows]
    rows.zero_()
    assert torch.stack(kept).equal(expected)
    assert len({each.untyped_storage().data_ptr() for each in kept}) == -(-number // size)
