from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpsweep import points
from gpsweep.signals import SIGNALS, cross_entropy, eq5, likelihood

UNIMODAL, BIMODAL = [0.2, 0.6, 0.07, 0.1, 0.03], [0.35, 0.1, 0.45, 0.06, 0.04]


@pytest.mark.parametrize(
    ("y", "label", "expected"),
    [
        (UNIMODAL, [0, 1, 0, 0, 0], [-0.12, 0.24, -0.042, -0.06, -0.018]),
        (UNIMODAL, [0.2] * 5, [0, -0.08, 0.026, 0.02, 0.034]),
        (BIMODAL, [0, 0, 1, 0, 0], [-0.157, -0.045, 0.247, -0.027, -0.018]),
        (BIMODAL, [0.2] * 5, [-0.03, 0.02, -0.05, 0.028, 0.032]),
    ],
)
def test_golden_rows_of_figure_9(y: list[float], label: list[float], expected: list[float]) -> None:
    got = eq5(torch.tensor([y]), torch.tensor([label], dtype=torch.float32))
    assert got[0].tolist() == pytest.approx(expected, abs=1e-3)


def test_every_name_has_a_signal() -> None:
    assert set(points.SIGNALS) == set(SIGNALS)


def logits_and_label(seed: int, shape: tuple[int, ...], one_hot: bool) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(shape, generator=generator, dtype=torch.float64)
    label = torch.rand(shape, generator=generator, dtype=torch.float64)
    label = (
        torch.nn.functional.one_hot(label.argmax(1), shape[1]).double().movedim(-1, 1) if one_hot else label
    )
    return z, label / label.sum(1, keepdim=True)


SHAPES = st.sampled_from([(2, 3), (1, 5, 2, 3)])


@given(seed=st.integers(0, 2**31), shape=SHAPES, one_hot=st.booleans())
def test_signals_are_the_gradients_they_claim_to_be(seed: int, shape: tuple[int, ...], one_hot: bool) -> None:
    z, label = logits_and_label(seed, shape, one_hot)
    z.requires_grad_()
    y = z.softmax(1)
    (ascent,) = torch.autograd.grad((label * y).sum(), z, retain_graph=True)
    torch.testing.assert_close(likelihood(y.detach(), label), ascent)
    (descent,) = torch.autograd.grad(-(label * y.log()).sum(), z)
    torch.testing.assert_close(cross_entropy(y.detach(), label), -descent)


@given(seed=st.integers(0, 2**31), shape=SHAPES)
def test_relations(seed: int, shape: tuple[int, ...]) -> None:
    z, label = logits_and_label(seed, shape, True)
    y = z.softmax(1)
    torch.testing.assert_close(likelihood(y, label), eq5(y, label))
    weight = (label * y).sum(1, keepdim=True)
    torch.testing.assert_close(eq5(y, label), weight * cross_entropy(y, label))
    for signal in SIGNALS.values():
        total = signal(y, label).sum(1)
        torch.testing.assert_close(total, torch.zeros_like(total), atol=1e-12, rtol=0)


@pytest.mark.parametrize("classes", [2, 3, 7, 11, 21, 150])
def test_likelihood_of_uniform_is_exactly_zero(classes: int) -> None:
    y = torch.randn(2, classes, 9).softmax(1)
    assert likelihood(y, torch.full_like(y, 1 / classes)).abs().max() == 0


def test_no_label_no_signal() -> None:
    y = torch.randn(2, 3, 4).softmax(1)
    for signal in SIGNALS.values():
        assert signal(y, torch.zeros_like(y)).abs().max() == 0
