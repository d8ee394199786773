"""Which calls of a pass need not run again when a layer's output changes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import naive
from networks import conv
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from gpsweep import layers
from gpsweep.engine import curve
from gpsweep.memo import Memo


class Wired(nn.Module):
    """Convolutions each of which takes what some of those before it gave, joined in one way or another."""

    def __init__(self, wires: list[tuple[list[int], str]]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wires = wires
        self.parts = nn.ModuleList(conv(3, 3) for _ in wires)

    def forward(self, x: Tensor) -> Tensor:
        given = [x / 255]
        for part, (sources, how) in zip(self.parts, self.wires, strict=True):
            given.append(part(self.joined([given[k] for k in sources], how)))
        return sum(given[1:], torch.zeros_like(x))

    def joined(self, tensors: list[Tensor], how: str) -> Tensor:
        if how == "in place":
            out = tensors[0].clone()
            for tensor in tensors[1:]:
                out += tensor
            return out.relu_()
        if how == "written":
            out = torch.zeros_like(tensors[0])
            for tensor in tensors:
                out[:, :, 1:] = out[:, :, 1:] + tensor[:, :, 1:]
            return out
        if how == "view":
            both = torch.cat(tensors, 1)
            both[:, -1:].add_(both[:, :1])
            return both[:, -3:]
        return torch.stack(tensors).mean(0)


@st.composite
def wirings(draw: st.DrawFn) -> list[tuple[list[int], str]]:
    return [
        (
            draw(st.lists(st.integers(0, k), min_size=1, max_size=3, unique=True)),
            draw(st.sampled_from(["mean", "in place", "written", "view"])),
        )
        for k in range(draw(st.integers(2, 6)))
    ]


@settings(max_examples=60, deadline=None)
@given(wirings(), st.data())
def test_of_branches_beside_a_layer_nothing_runs_again(
    wires: list[tuple[list[int], str]], data: st.DataObject
) -> None:
    net, x = Wired(wires).eval(), torch.rand(2, 3, 4, 5) * 255
    place = data.draw(st.integers(0, len(wires) - 1))
    depending = {place + 1}
    for k, (sources, _) in enumerate(wires, start=1):
        if depending.intersection(sources):
            depending.add(k)
    calls = layers.trace(net, x)
    unmoved = layers.replay_of(calls, layers.Call(f"parts.{place}")).unmoved
    expected = {f"parts.{k}" for k in range(len(wires)) if k + 1 not in depending}
    assert {call.path for call in unmoved} == expected

    for point, logits in curve(net, x, [-0.5, 0, 0.5], "uniform", layer=f"parts.{place}"):
        assert logits.equal(naive(net, x, point))


class Beside(nn.Module):
    """A layer, and a module that runs after it on what ``between`` makes of the input and the layer."""

    def __init__(self, between: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.side, self.between = conv(3, 4), conv(3, 4), between

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return self.side(self.between(x, h)) + h


def copied(source: Tensor, target: Tensor) -> Tensor:
    """Copy without an operation, as a kernel of one's own does that is given addresses."""
    ctypes.memmove(target.data_ptr(), source.data_ptr(), source.nbytes)
    return target


ALONE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "nothing": lambda x, h: x,
    "numbers of none": lambda x, h: x[: int(torch.arange(3).sum())],
    "a shape": lambda x, h: x[..., : h.shape[-1]],
    "positions": lambda x, h: x[:, :, torch.arange(4)],
    "memory that was free": lambda x, h: [[h[:, :3] + k, x][1] for k in range(9)][8] + 1,
    "new numbers": lambda x, h: x + torch.arange(x.shape[-1]),
}
DEPENDING: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "values of the input": lambda x, h: x * float(x.mean()),
    "a class": lambda x, h: F.one_hot(h.argmax(1) % 3, 3).movedim(-1, 1).float(),
    "a value": lambda x, h: x * h.max().item(),
    "a choice": lambda x, h: x if h.mean() > 9 else -x,
    "a list": lambda x, h: -x if h[0, 0, 0].tolist()[0] > 9 else x,
    "an array": lambda x, h: -x if np.asarray(h).mean() > 9 else x,
    "an address": lambda x, h: copied(h[:, :3].contiguous(), torch.empty(x.shape)),
    "NumPy's memory": lambda x, h: torch.from_numpy(h.numpy()[:, :3].round()),
    "how many": lambda x, h: x + len(h.nonzero()),
    "what a mask leaves": lambda x, h: x + h[h > 0].sum(),
    "a mask": lambda x, h: x.clone().masked_fill_(h[:, :3] > 0, 0),
    "written to": lambda x, h: torch.add(x, 0).index_put_((torch.tensor([0]),), h[:1, :3]),
    "out": lambda x, h: torch.mul(h[:, :3], 0, out=torch.empty(0)),
    "out of place": lambda x, h: x.detach().clone().copy_(h[:, :3]),
    "sparse": lambda x, h: h[:, :3].round().to_sparse().to_dense(),
}


@pytest.mark.parametrize("how", [*ALONE, *DEPENDING])
def test_what_a_module_is_given_decides_whether_it_runs(how: str) -> None:
    net, x = Beside((ALONE | DEPENDING)[how]).eval(), torch.rand(2, 3, 4, 5)
    calls = layers.trace(net, x)
    unmoved = layers.replay_of(calls, layers.Call("layer")).unmoved
    assert unmoved == ({layers.Call("side")} if how in ALONE else set())


def test_a_tensor_of_unknown_making_counts_as_made_of_all_that_came_before() -> None:
    net = Beside(lambda x, h: net.constant + x).eval()
    net.constant = torch.ones(1)  # no buffer
    calls = layers.trace(net, torch.rand(2, 3, 4, 5))
    assert not layers.replay_of(calls, layers.Call("layer")).unmoved


def test_unless_it_is_followed_all_counts() -> None:
    net = Beside(ALONE["nothing"]).eval()
    calls = layers.trace(net, torch.rand(2, 3, 4, 5), follow=False)
    assert not layers.replay_of(calls, layers.Call("layer")).unmoved


def test_the_values_of_another_batch_may_choose_another_branch() -> None:
    net = Beside(lambda x, h: x if x.mean() > 0 else h[:, :3]).eval()
    x, memo = torch.rand(2, 3, 4, 5), Memo()
    for batch in (x, -x):
        for point, logits in curve(net, batch, [0.5, 1], "uniform", layer="layer", memo=memo):
            assert logits.equal(naive(net, batch, point))


def test_what_follows_is_freed_as_in_any_pass() -> None:
    freed = []

    def between(x: Tensor, h: Tensor) -> Tensor:
        between = h + 1
        place = StorageWeakRef(between.untyped_storage())
        del between
        freed.append(place.expired())
        return x

    layers.trace(Beside(between).eval(), torch.rand(2, 3, 4, 5))
    assert freed == [True]


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_weights_may_lack_a_shape_until_the_first_pass() -> None:
    net, x = Beside(ALONE["nothing"]).eval(), torch.rand(2, 3, 4, 5)
    net.side = nn.LazyConv2d(4, 3, padding=1)
    calls = layers.trace(net, x)
    assert layers.replay_of(calls, layers.Call("layer")).unmoved == {layers.Call("side")}


def test_a_network_that_bears_no_following_is_replayed_by_what_came_before() -> None:
    """As one that runs torch.cond, which no mode sees."""

    def between(x: Tensor, h: Tensor) -> Tensor:
        if torch.overrides.has_torch_function((x,)):
            raise NotImplementedError("There was no rule registered")
        return x

    net, x = nn.Sequential(conv(3, 3), Beside(between)).eval(), torch.rand(2, 3, 4, 5)
    calls = layers.trace(net, x)
    assert layers.replay_of(calls, layers.Call("1.layer")).unmoved == {layers.Call("0")}


class Given:
    """An object that PyTorch does not look into."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


class Packing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer, self.side, self.pack = conv(3, 4), conv(3, 4), Pack()

    def forward(self, x: Tensor) -> Tensor:
        return self.pack(self.layer(x)).tensor * self.side(x)


class Pack(nn.Module):
    def forward(self, x: Tensor) -> Given:
        return Given(x)


def test_an_object_of_unknown_content_counts_as_made_of_all_that_came_before() -> None:
    calls = layers.trace(Packing().eval(), torch.rand(2, 3, 4, 5))
    unmoved = layers.replay_of(calls, layers.Call("layer")).unmoved
    assert unmoved == {layers.Call("side")}


class Block(nn.Module):
    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.conv, self.act = conv(3, 3), act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))


class SharedInside(nn.Module):
    """One activation that runs within the layer, and later beside and after it."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.Tanh()
        self.layer, self.side = Block(self.act), conv(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.layer(x)
        return self.act(self.act(self.side(x)) * h)


class Keeper(nn.Module):
    """A module whose feature is taken from an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        self.kept = self.conv(x)
        return x


class Kept(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.side = conv(3, 3), conv(3, 3), Keeper()

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.layer(x)
        return self.side(x) * h + self.side.kept


class Changed(nn.Module):
    """A module beside the layer is used for its in-place effect alone."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layer, self.side = conv(3, 3), conv(3, 3), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        h = self.layer(x.clone())
        self.side(x)
        return x * h


class Weights(nn.Module):
    """Weights are made anew by a module in each pass, and there are as many as samples."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = conv(3, 3), parametrizations.weight_norm(conv(3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x))


@pytest.mark.parametrize(
    ("make", "unmoved"),
    [
        (SharedInside, {"side", "act"}),
        (Kept, {"stem"}),
        (Changed, {"stem"}),
        (Weights, set()),
    ],
)
def test_habits_beside_a_layer_cost_no_full_passes(make: type[nn.Module], unmoved: set[str]) -> None:
    torch.manual_seed(0)
    net, x, memo = make().eval(), torch.rand(2, 3, 4, 5), Memo()
    several = curve(net, x, [0.25, 0.5, 1], layer="layer", points_per_forward=3, memo=memo)
    for (point, logits), (_, beside) in zip(
        curve(net, x, [0.25, 0.5, 1], layer="layer", memo=memo), several, strict=True
    ):
        assert logits.equal(naive(net, x, point))
        torch.testing.assert_close(logits, beside)
    assert memo.trusted == {"layer": True}
    assert {call.path for call in memo.replays["layer"].unmoved} == unmoved


def test_a_branch_beside_does_not_run_at_the_points_of_a_layer() -> None:
    net, x = Beside(ALONE["nothing"]).eval(), torch.rand(2, 3, 4, 5)
    ran: list[str] = []
    forward = net.side._conv_forward
    net.side._conv_forward = lambda *args: (ran.append("side"), forward(*args))[1]
    points = curve(net, x, [0.25, 0.5, 0.75], layer="layer")
    next(points)
    before = len(ran)
    assert before and len(list(points)) == 2
    assert len(ran) == before


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning", "ignore:.*torch.jit:FutureWarning")
def test_torchscript_within_a_network_is_followed_from_outside() -> None:
    class Scripted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.side, self.head = conv(3, 4), conv(3, 4), conv(4, 4)
            self.script = torch.jit.trace(conv(4, 4), torch.rand(2, 4, 4, 5))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.script(self.layer(x))) + self.side(x)

    net = Scripted().eval()
    calls = layers.trace(net, torch.rand(2, 3, 4, 5))
    unmoved = layers.replay_of(calls, layers.Call("layer")).unmoved
    assert unmoved == {layers.Call("side")}
