"""Several ε in one forward pass: the same up to rounding, or else each alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from networks import CLASSES, NETWORKS, EachAlone, batch, build, output_of
from torch import Tensor, nn

from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.memo import Memo


@pytest.mark.parametrize("name", NETWORKS)
def test_several_points_in_one_forward_agree_up_to_rounding(name: str) -> None:
    net, layers = build(name), NETWORKS[name][1]
    x, _ = batch(name)
    options = {"eps": [-1, 0, 0.5, 1, 2], "layer": layers, "label": ["argmax", "top2"]}
    options["output"] = output_of(name)
    one = dict(curve(net, x, **options))
    three = dict(curve(net, x, **options, points_per_forward=3))
    assert one.keys() == three.keys()
    for point in one:
        torch.testing.assert_close(three[point], one[point], rtol=1e-4, atol=1e-4)


def test_points_that_change_each_other_do_not_ride_together() -> None:
    torch.manual_seed(0)
    net, x = EachAlone().eval(), torch.randn(3, 4)
    with pytest.warns(UserWarning, match="samples of a batch depend on each other after layer=prototypes"):
        together = dict(curve(net, x, [0.1, 0.2, 0.3], layer="prototypes", points_per_forward=2))
    assert all(
        logits.equal(together[point]) for point, logits in curve(net, x, [0.1, 0.2, 0.3], layer="prototypes")
    )


class InPlace(nn.Module):
    """A network that adds up its samples, and changes its input and what its stem gives in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        x.add_(1)
        h: Tensor = self.stem(x)
        h.add_(1)
        return self.head(h.square() + h.sum(0, keepdim=True))


@pytest.mark.parametrize("layer", ["input", "stem"])
def test_a_point_that_was_tried_beside_others_is_computed_from_its_own_start(layer: str) -> None:
    torch.manual_seed(0)
    net, x = InPlace().eval(), torch.rand(2, 3, 4, 4)
    with pytest.warns(UserWarning, match=f"samples of a batch depend on each other after layer={layer}"):
        together = dict(curve(net, x, [0.1, 0.2, 0.3], layer=layer, points_per_forward=2))
    assert all(logits.equal(together[point]) for point, logits in curve(net, x, [0.1, 0.2, 0.3], layer=layer))


class Few(nn.Module):
    """A network that takes so many samples at once, and says what it lacks for more."""

    def __init__(self, samples: int, lack: Exception) -> None:
        super().__init__()
        self.samples, self.lack = samples, lack
        self.middle, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.samples:
            raise self.lack
        return self.head(self.middle(x))


@pytest.mark.parametrize(
    ("lack", "says"),
    [
        (RuntimeError("output too large\nException raised from kernel"), "output too large"),
        (AssertionError(), "AssertionError"),
        (ValueError("one pair, please"), "one pair, please"),
    ],
)
def test_points_that_fail_together_are_said_to_and_computed_alone(lack: Exception, says: str) -> None:
    net, x = Few(3, lack).eval(), torch.rand(2, 3, 4, 4)
    said = rf"^points_per_forward: 2 points in one pass fail \({says}\) after layer=input; going on"
    with pytest.warns(UserWarning, match=said):
        together = dict(curve(net, x, [0.1, 0.2, 0.3], points_per_forward=2))
    assert all(logits.equal(together[point]) for point, logits in curve(net, x, [0.1, 0.2, 0.3]))


@pytest.mark.parametrize("layer", ["input", "middle"])
@pytest.mark.parametrize(
    "lack",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    ],
    ids=str,
)
def test_a_batch_beyond_memory_is_named_at_every_layer(layer: str, lack: Exception) -> None:
    with pytest.raises(
        GpsweepError, match=r"^data.batch_size=2: the memory of cpu does not hold one pass of"
    ):
        list(curve(Few(1, lack).eval(), torch.rand(2, 3, 4, 4), 0.5, layer=layer))


class Ending(nn.Module):
    """A network for whose passes, but for the first ones, there is no memory."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.left, self.middle, self.head = passes, nn.Conv2d(3, 4, 1), nn.Conv2d(4, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self.head(self.middle(x))


@pytest.mark.filterwarnings("error")
def test_memory_that_ends_in_any_pass_is_named() -> None:
    options: dict[str, Any] = {"x": torch.rand(2, 3, 4, 4), "eps": [0.5, 1], "layer": "middle"}
    needed = 1 + 1 + 3 + 2 * 2  # examined, clean, replay compared, points
    for passes in range(needed):
        with pytest.raises(GpsweepError, match=r"^data.batch_size=2: the memory of cpu does not hold one"):
            list(curve(Ending(passes).eval(), **options, iterations=2))
    assert len(list(curve(Ending(needed).eval(), **options, iterations=2))) == 4


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.rand(3, CLASSES))

    def forward(self) -> Tensor:
        return self.rows * 1


class Added(nn.Module):
    """A network that adds up what a module gives whatever the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.middle = Table(), nn.Conv2d(3, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        table = self.table().sum(0)
        return self.middle(x) + table.view(1, -1, 1, 1)


def test_a_table_as_long_as_the_last_batch_is_not_taken_for_samples() -> None:
    torch.manual_seed(0)
    net, memo = Added().eval(), Memo()
    options: dict[str, Any] = {"eps": [-1, 0.5, 1], "layer": "middle"}
    list(curve(net, torch.rand(4, 3, 4, 4), points_per_forward=3, memo=memo, **options))
    x = torch.rand(3, 3, 4, 4)
    with pytest.warns(UserWarning, match="points_per_forward: in this network samples"):
        together = dict(curve(net, x, points_per_forward=3, memo=memo, **options))
    assert all(logits.equal(together[point]) for point, logits in curve(net, x, **options))
