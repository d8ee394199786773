"""What a curve is asked for with, and what is told of what cannot be one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from networks import CLASSES, EachAlone, batch, build
from torch import Tensor, nn

from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.memo import Memo


@pytest.mark.parametrize(
    "eps", [torch.linspace(-1, 1, 3), torch.linspace(-1, 1, 3).numpy(), [torch.tensor(-1), 0, 1]]
)
def test_eps_may_be_an_array(eps: Any) -> None:
    found = curve(nn.Conv2d(3, CLASSES, 1).eval(), torch.randn(2, 3, 4, 4), eps)
    assert [point.eps for point, _ in found] == [-1, 0, 1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layer_scale": "RMS"}, "layer_scale=RMS: unknown. Did you mean rms"),
        ({"random_unit": "images"}, "random_unit=images: unknown. Did you mean image"),
        (
            {"memory_format": "channels-last"},
            "memory_format=channels-last: unknown. Did you mean channels_last",
        ),
        ({"clip": (5,)}, "clip=.*: expected the lowest and the highest value"),
        ({"clip": (255, 0)}, "clip=.*: expected the lowest and the highest value"),
        ({"clip": (None, 255)}, r"clip=\(None, 255\): expected the lowest and the highest value"),
        ({"clip": "ab"}, "clip=ab: expected the lowest and the highest value"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], says: str) -> None:
    with pytest.raises(GpsweepError, match=says):
        curve(build("skips"), batch("skips")[0], eps=1, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "encodr"}, r"layer=encodr: unknown\. Did you mean encoder"),
        ({"layer": "encoder.down.3.relu"}, r"runs 2 times in a pass; say which: .*relu@1, .*relu@2"),
        ({"layer": "head@2"}, "runs only 1 times"),
        ({"label": "argmux"}, r"label=argmux: unknown\. Did you mean argmax"),
        ({"signal": "eq4"}, "signal=eq4: unknown"),
        ({"step": "l2"}, "step=l2"),
        ({"eps": []}, r"eps=\[\]: expected"),
        ({"eps": float("nan")}, "eps=nan: expected a finite number"),
        ({"iterations": 0}, "iterations=0"),
        ({"label": "ground_truth"}, "expected a target"),
        ({"sample_ids": ["a"]}, "sample_ids: expected one per sample, 2, came 1"),
        ({"output": "out"}, "model.output=out"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str) -> None:
    net, (x, _) = build("skips"), batch("skips")
    with pytest.raises(GpsweepError, match=message):
        list(curve(net, x, **{"eps": [1], **options}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"net": abs}, r"net: expected an nn\.Module, came builtin_function_or_method"),
        ({"x": (torch.zeros(1), torch.zeros(1))}, r"x: expected a tensor .* came tuple; .* several inputs"),
        ({"x": np.zeros((1, 2), np.float32)}, r"x: expected a tensor \(N, …\), came ndarray"),
        ({"target": np.zeros(1)}, "target: expected a tensor, came ndarray"),
        ({"valid": torch.full((1, 2), 255)}, r"valid: expected a tensor of bool, came torch\.int64"),
        ({"valid": torch.ones(1, 2).bool()}, r"valid: expected the size of x, \(1,\), came \(1, 2\)"),
        (
            {"x": torch.zeros(2, 3, 4, 4), "valid": torch.ones(1, 4, 4).bool()},
            r"valid: expected the size of x, \(2, 4, 4\), came \(1, 4, 4\)",
        ),
        ({"clip": 1}, "clip=1: expected the lowest and the highest value"),
        ({"points_per_forward": "all"}, "points_per_forward=all: expected auto or at least 1"),
        ({"precision": 32}, "precision=32: expected the text '32', came int"),
    ],
)
def test_arguments_of_other_kinds_are_named_at_the_call(options: dict[str, Any], message: str) -> None:
    with pytest.raises(GpsweepError, match=message):
        curve(**{"net": nn.Linear(2, 2).eval(), "x": torch.zeros(1, 2), "eps": 1, **options})


def test_a_memo_serves_one_network_in_one_precision() -> None:
    memo, net, x = Memo(), build("skips"), batch("skips")[0]
    for _ in range(2):
        next(curve(net, x, eps=1, memo=memo))
    with pytest.raises(GpsweepError, match="memo: expected one of this network"):
        curve(build("skips"), x, eps=1, memo=memo)
    for options in ({"precision": "bf16"}, {"gradient_precision": "bf16"}):
        with pytest.raises(GpsweepError, match="memo: expected one of this network and precision"):
            curve(net, x, eps=1, memo=memo, **options)


def test_a_memo_that_is_printed_says_in_a_line_what_was_found() -> None:
    memo, net = Memo(), build("skips")
    list(curve(net, batch("skips")[0], [0.5, 1], layer="encoder.down.3", points_per_forward=2, memo=memo))
    assert repr(memo) == (
        "Memo(trusted={'encoder.down.3': True}, apart={('encoder.down.3', 2): True}, changes_input=False, "
        "mode_matters=False, points_per_forward=2, room=None, short_of_memory=False)"
    )


def test_training_mode_and_lost_gradients_are_refused() -> None:
    net, (x, _) = build("skips"), batch("skips")
    with pytest.raises(GpsweepError, match=r"net\.eval"):
        curve(net.train(), x, eps=1)
    net.eval()
    with torch.inference_mode(), pytest.raises(GpsweepError, match="inference mode"):
        curve(net, x, eps=1)

    class Detached(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.detach()[:, :2]

    with pytest.raises(GpsweepError, match="layer=input: the logits do not depend on it"):
        list(curve(Detached().eval(), x, eps=1))


def test_a_part_in_training_is_noticed() -> None:
    net = nn.Sequential(nn.Conv2d(3, CLASSES, 1), nn.BatchNorm2d(CLASSES)).eval()
    net[1].train()
    with pytest.raises(GpsweepError, match=r"^net: .* evaluation mode, came one in training at 1; call"):
        curve(net, torch.randn(2, 3, 4, 4), 0.5)
    assert int(net[1].num_batches_tracked) == 0


def compiled_in_place(net: nn.Module) -> nn.Module:
    net.compile(backend="eager")
    return net


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (partial(torch.compile, backend="eager"), "_orig_mod.0"),
        (partial(torch.compile, backend="eager"), "_orig_mod"),
        (compiled_in_place, "0"),
        (lambda net: nn.Sequential(compiled_in_place(net)), "0"),
    ],
)
def test_a_layer_within_what_is_compiled_is_refused(make: Callable[..., nn.Module], layer: str) -> None:
    net = make(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)).eval()).eval()
    with pytest.raises(GpsweepError, match=rf"^layer={layer}: expected input, .* torch\.compile has made"):
        curve(net, torch.zeros(1, 3, 2, 2), eps=1, layer=layer)


@pytest.mark.filterwarnings(r"ignore:The \.grad attribute of a Tensor:UserWarning")  # torch.compile's own
def test_a_layer_beside_what_is_compiled_is_perturbed() -> None:
    body, head = nn.Conv2d(3, 4, 1).eval(), nn.Conv2d(4, 2, 1).eval()
    x = torch.rand(1, 3, 4, 4)
    plain = dict(curve(nn.Sequential(body, head).eval(), x, eps=[0, 1], layer=["0", "1"]))
    compiled = nn.Sequential(torch.compile(body, backend="eager"), head).eval()
    for point, logits in curve(compiled, x, eps=[0, 1], layer=["0", "1"]):
        assert torch.equal(logits, plain[point])


@pytest.mark.parametrize("layer", ["extra", ["input", "extra"]])
def test_a_layer_without_influence_is_refused(layer: Any) -> None:
    net = build("tuples")

    class Unused(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.extra = net, nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.extra(x)
            return self.inner(x)[0]

    x, _ = batch("tuples")
    with pytest.raises(GpsweepError, match="layer=extra: the logits do not depend on it"):
        list(curve(Unused().eval(), x, eps=1, layer=layer))


def test_a_layer_that_runs_once_a_sample_is_refused() -> None:
    with pytest.raises(GpsweepError, match="the module runs 3 times in a pass; say which"):
        list(curve(EachAlone().eval(), torch.randn(3, 4), 0.5, layer="layer"))


class Argmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(1)


def test_a_layer_without_floating_point_numbers_is_named() -> None:
    class Telling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.classes = nn.Conv2d(3, CLASSES, 1), Argmax()

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            z = self.head(x)
            return z, self.classes(z)

    net = Telling()
    with pytest.raises(GpsweepError, match=r"layer=classes: expected floating-point tensors.* came Tensor"):
        list(curve(net.eval(), torch.rand(1, 3, 2, 2), [1], layer="classes", output=0))


@pytest.mark.parametrize(
    ("net", "options", "message"),
    [
        (
            nn.Conv2d(3, 2, 1),
            {"x": torch.zeros(2, 3, 4, 4).byte()},
            r"x: expected floating.*came torch\.uint8",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(48, 1), nn.Flatten(0)),
            {},
            r"net: expected logits \(N, C, …\) of two classes at least, came a tensor \(2,\)",
        ),
        (
            nn.Sequential(nn.Flatten(), nn.Linear(48, 1)),
            {},
            r"net: expected logits .* of two classes at least, came a tensor \(2, 1\)",
        ),
        (
            nn.Conv2d(3, 2, 1),
            {"x": torch.zeros(3, 4, 4)},
            r"net: expected logits of a batch of 3, came \(2, 4, 4\); .* x\[None\]",
        ),
        (
            nn.Conv1d(3, 2, 3),
            {"x": torch.zeros(2, 3, 4), "valid": torch.ones(2, 4).bool()},
            r"valid: expected the size of the logits, \(2, 2\), came \(2, 4\)",
        ),
        *(
            (
                nn.Conv2d(3, 2, 3),
                {"label": label, "valid": torch.ones(2, 4, 4).bool()},
                r"valid: expected the size of the logits, \(2, 2, 2\), came \(2, 4, 4\)",
            )
            for label in ("argmax", "random_onehot")
        ),
    ],
)
def test_what_does_not_fit_the_network_is_named(
    net: nn.Module, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(GpsweepError, match=message):
        list(curve(net.eval(), **{"x": torch.zeros(2, 3, 4, 4), "eps": [1], **options}))
