from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.errors import MissingConfigException
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CLASSES, batch, build, entering
from torch import Tensor, nn

from benchmarks import curves, gpu, networks
from gpsweep import config, memory
from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.memo import Memo
from gpsweep.precision import fastest

LAYER = "encoder.down"


def kinds(net: nn.Module) -> list[tuple[bool, torch.dtype]]:
    """Collect, for every pass to come, whether it takes gradients and what its last convolution gives."""
    seen: list[tuple[bool, torch.dtype]] = []
    net.head.register_forward_hook(lambda m, args, z: seen.append((torch.is_grad_enabled(), z.dtype)))
    return seen


@pytest.mark.parametrize(
    ("precision", "gradient", "expected"),
    [
        ("32", "32", [(True, torch.float32), *[(False, torch.float32)] * 2]),
        ("bf16", "32", [(True, torch.float32), *[(False, torch.bfloat16)] * 3]),
        ("bf16", None, [(True, torch.bfloat16), *[(False, torch.bfloat16)] * 2]),
        ("16", "bf16", [(True, torch.bfloat16), *[(False, torch.float16)] * 3]),
    ],
)
def test_each_kind_of_pass_has_its_precision(precision: Any, gradient: Any, expected: list[Any]) -> None:
    net = build("skips")
    x, _ = batch("skips")
    seen = kinds(net)
    for point, logits in curve(net, x, eps=[-1, 0, 1], precision=precision, gradient_precision=gradient):
        assert logits.dtype == torch.float32, point
        assert not torch.is_autocast_enabled("cpu"), "nothing leaks to the caller"
    assert seen == expected
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_the_base_is_computed_as_the_points_are() -> None:
    net = build("skips")
    x, _ = batch("skips")
    found = dict(curve(net, x, eps=[0], precision="bf16", layer=["input", LAYER], iterations=2))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        base = net(x.contiguous(memory_format=torch.channels_last))
    assert all(logits.equal(base.float()) for logits in found.values())
    assert not base.float().equal(net(x)), "bits that make no difference cannot be tested"


def test_fewer_bits_of_the_forward_pass_leave_the_direction_alone() -> None:
    net = build("skips")
    x, _ = batch("skips")
    moved = entering(net)
    for precision in ("32", "bf16"):
        list(curve(net, x, eps=[0.3], precision=precision, label=["argmax", "uniform"], step=["sign", "rms"]))
    exact, lower = moved[1:5], moved[-4:]
    assert all(a.equal(b) for a, b in zip(exact, lower, strict=True))


@pytest.mark.parametrize("gradient", ["32", "bf16"])
def test_a_step_is_not_rounded_to_the_bits_of_the_layer(gradient: Any) -> None:
    net = build("skips")
    x, _ = batch("skips")
    kept: list[Tensor] = []
    net.encoder.down[1].register_forward_pre_hook(lambda module, args: kept.append(args[0].detach()))
    options = {"precision": "bf16", "gradient_precision": gradient, "layer_scale": "absolute"}
    list(curve(net, x, eps=[1e-4], layer="encoder.down.0", **options))
    start = next(h for h in kept if h.dtype == torch.bfloat16).float()  # of the first clean pass
    assert start.abs().median() > 0.05, "where bfloat16 is coarser than the step"
    moves = (kept[-1] - start).abs()
    moves = moves[moves > 0]  # a ReLU further on cuts some gradients to 0
    assert len(moves) > start.numel() / 4
    torch.testing.assert_close(moves, torch.full_like(moves, 1e-4), rtol=2e-3, atol=0)


def test_the_caller_s_autocast_neither_matters_nor_is_lost() -> None:
    net = build("skips")
    x, _ = batch("skips")
    plain = dict(curve(net, x, eps=[0, 1]))
    with torch.autocast("cpu", torch.bfloat16):
        for point, logits in curve(net, x, eps=[0, 1]):
            assert logits.equal(plain[point])
            assert torch.is_autocast_enabled("cpu")


class Picky(nn.Module):
    """A network with an operation that knows no float16, forward or backward."""

    class Operation(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, z: Tensor, forward: bool) -> Tensor:
            ctx.refuses = not forward
            if forward and z.dtype == torch.float16:
                raise RuntimeError("\"odd_cpu\" not implemented for 'Half'")
            return z.clone()

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
            if ctx.refuses and gradient.dtype == torch.float16:
                raise RuntimeError("\"odd_backward\" not implemented for 'Half'")
            return gradient, None

    def __init__(self, *, forward: bool) -> None:
        super().__init__()
        self.head, self.refuses_forward = nn.Conv2d(3, CLASSES, 1), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.Operation.apply(self.head(x), self.refuses_forward)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "8"}, "precision=8: unknown.* Choices: 32, bf16, 16"),
        ({"gradient_precision": "fp16"}, "precision.gradient=fp16: unknown"),
        ({"precision": "16"}, 'precision=16: .* that cpu does not have in it: "odd_cpu"'),
        ({"gradient_precision": "16"}, 'precision.gradient=16: .*: "odd_cpu"'),
        ({"precision": "16", "gradient_precision": None}, 'precision=16: .*: "odd_cpu"'),
        ({"points_per_forward": 0}, "points_per_forward=0: expected auto or at least 1"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    x, _ = batch("skips")
    with pytest.raises(GpsweepError, match=message):
        list(curve(Picky(forward=True).eval(), x, eps=[0, 1], **options))


def test_an_operation_without_a_backward_pass_in_few_bits_is_named() -> None:
    x, _ = batch("skips")
    net = Picky(forward=False).eval()
    with pytest.raises(GpsweepError, match=r'precision\.gradient=16: .*: "odd_backward"'):
        list(curve(net, x, eps=1, gradient_precision="16"))
    assert not torch.is_autocast_enabled("cpu")
    assert len(list(curve(net, x, eps=1, precision="16"))) == 1


class Cramped(nn.Module):
    """A network for whose passes memory holds only so many samples."""

    def __init__(self, net: nn.Module, room: int) -> None:
        super().__init__()
        self.net, self.room = net, room
        self.tried: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.tried.append(len(x))
        if len(x) > self.room:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.net(x)


@given(
    room=st.integers(1, 9),
    asked=st.integers(1, 12),
    eps=st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 4.0, 8.0]), min_size=1, unique=True),
)
@settings(max_examples=30)
def test_too_many_points_for_the_memory_are_halved_and_none_is_lost(
    room: int, asked: int, eps: list[float]
) -> None:
    net = build("skips")
    x, _ = batch("skips", samples=1, size=(5, 6))
    expected = list(curve(net, x, eps))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = list(curve(Cramped(net, room).eval(), x, eps, points_per_forward=asked))
    assert [point for point, _ in found] == [point for point, _ in expected]
    for (_, logits), (_, alone) in zip(found, expected, strict=True):
        torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)
    assert len(said) <= 1


@pytest.mark.parametrize("asked", [8, "auto"])
@pytest.mark.parametrize("layer", ["input", f"net.{LAYER}"])
def test_the_size_that_fits_is_kept_and_said_once(
    asked: Any, layer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "fitting", lambda device, forward: 8)
    net = Cramped(build("skips"), 5).eval()
    x, _ = batch("skips")
    memo = Memo()
    with pytest.warns(UserWarning, match="does not hold 8 points of 2 samples .* going on with 4") as said:
        first = list(curve(net, x, [*range(1, 10)], layer=layer, points_per_forward=asked, memo=memo))
    assert len(said) == 1
    assert memo.points_per_forward == 2
    net.tried.clear()
    again = list(curve(net, x, [*range(1, 10)], layer=layer, points_per_forward=asked, memo=memo))
    assert net.tried == [2, 4, 4, 4, 4, 2], "nothing is tried that is known not to fit"
    assert [p for p, _ in again] == [p for p, _ in first]
    assert len(list(curve(net, x, 1, points_per_forward=1, memo=memo))) == 1


@pytest.mark.parametrize("options", [{}, {"points_per_forward": 4}, {"iterations": 2}, {"precision": "bf16"}])
def test_a_batch_that_does_not_fit_names_what_to_lower(options: dict[str, Any]) -> None:
    x, _ = batch("skips")
    for room in (0, 1):
        net = Cramped(build("skips"), room).eval()
        with pytest.raises(GpsweepError, match=r"data.batch_size=2: .* lower data.batch_size or data.size"):
            list(curve(net, x, [1, 2], **options))


def test_the_allocator_of_the_cpu_is_understood_and_other_errors_pass() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert memory.exhausted(caught.value)
    assert not memory.exhausted(RuntimeError("broken"))
    assert memory.fitting(torch.device("cpu"), lambda points: pytest.fail("not needed")) == 1


@pytest.mark.parametrize(
    ("fault", "room"),
    [
        (torch.cuda.OutOfMemoryError("too much"), 1),
        (RuntimeError("shape '[4, 256]' is invalid for input of size 512"), memory.PROBED),
        (AssertionError("one image, please"), memory.PROBED),
    ],
)
def test_what_fails_by_itself_where_memory_is_measured_is_tried_where_points_share_a_pass(
    fault: Exception, room: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(points: int) -> Tensor:
        raise fault

    for name in ("memory_allocated", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda device: 0)
    assert memory.fitting(torch.device("cuda"), fail) == room


@pytest.fixture
def composed() -> Iterator[Any]:
    config.register()
    with initialize_config_dir(config.conf_folder(), version_base="1.3"):
        yield lambda *overrides: compose(overrides=list(overrides)).precision


@pytest.mark.parametrize("name", ["32", "bf16", "16"])
def test_every_precision_is_a_choice_of_the_command_line(composed: Any, name: str) -> None:
    assert composed(f"+precision='{name}'") == {"forward": name, "gradient": "32"}
    assert composed(f"+precision='{name}'", "precision.gradient=bf16").gradient == "bf16"


def test_an_unknown_precision_is_no_choice(composed: Any) -> None:
    with pytest.raises(MissingConfigException, match=re.escape("bf16")):
        composed("+precision=bf8")


def test_the_gpu_s_benchmark_measures_every_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    barely = curves.Effort(eps=(-0.5, 0.0, 0.5), repeats=1)
    cpu = torch.device("cpu")
    rows = list(gpu.speed(networks.tiny(), barely, cpu))
    assert [row.item for row in rows] == ["p", "p", *["p", "p", "q"] * 3]
    assert all(row.value.low > 0 and row.details["points"] == 3 for row in rows)

    monkeypatch.setattr(gpu, "FEWER", gpu.FEWER[:1])
    [row] = gpu.scores(barely, cpu, limit=4)
    exact, lower = row.details["miou_32"], row.details["miou"]
    assert 0 < row.value.high < 50, "‰"
    assert max(abs(a - b) for a, b in zip(exact, lower, strict=True)) == row.value.high / 10
    assert min(exact) > 10


def test_the_gpu_s_benchmark_says_that_it_needs_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 1
    assert capsys.readouterr().out == "benchmarks.gpu needs a GPU, and PyTorch sees none\n"


@pytest.mark.parametrize(
    ("capable", "expected"),
    [({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16"), ({"avx512_f": True}, "32"), ({}, "32")],
)
def test_the_fastest_precision_is_that_of_the_processors_own_instructions(
    capable: dict[str, bool], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capable, raising=False)
    assert fastest(torch.device("cpu")) == expected
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert fastest(torch.device("cpu")) == fastest(torch.device("meta")) == "32"
