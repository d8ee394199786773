"""Mean-field iterations: as the formula says, as the reference implementation gives, gradients included."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gpsweep.errors import GpsweepError
from gpsweep.models.crfasrnn import MeanField, crfasrnn
from gpsweep.models.fcn import FCN8s
from gpsweep.models.lattice import lattice

HEIGHT, WIDTH, CLASSES = 10, 12, 4


def layer(iterations: int = 3) -> MeanField:
    return MeanField(classes=CLASSES, iterations=iterations, alpha=160, beta=3, gamma=3)


@pytest.fixture
def image() -> Tensor:
    """Two soft colours and an edge, 0–255."""
    torch.manual_seed(0)
    picture = torch.full((1, 3, HEIGHT, WIDTH), 90.0)
    picture[..., WIDTH // 2 :] += 40
    return picture + 4 * torch.rand(picture.shape)


@pytest.fixture
def scores() -> Tensor:
    torch.manual_seed(1)
    return 2 * torch.randn(1, CLASSES, HEIGHT, WIDTH)


def kernels(image: Tensor) -> tuple[Tensor, Tensor]:
    """The two normalised filters as matrices."""
    y, x = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    place = torch.stack([x, y], 2).flatten(0, 1).float()
    colours = image[0].flatten(1).T
    both = (place / 3, torch.cat([place / 160, colours / 3], 1))
    matrices = [lattice(features).filter(torch.eye(len(place))) for features in both]
    spatial, bilateral = (matrix / matrix.sum(1, keepdim=True) for matrix in matrices)
    return spatial, bilateral


def by_formula(net: MeanField, image: Tensor, scores: Tensor) -> Tensor:
    spatial, bilateral = kernels(image)
    unary = scores[0].flatten(1)
    z = unary
    for _ in range(net.iterations):
        q = z.softmax(0)
        message = net.spatial_ker_weights @ (q @ spatial.T) + net.bilateral_ker_weights @ (q @ bilateral.T)
        z = unary + net.compatibility_matrix @ message
    return z.view(scores.shape)


def drawn(net: nn.Module) -> None:
    for weight in net.parameters():
        nn.init.normal_(weight)


def test_the_formula_and_its_gradients(image: Tensor, scores: Tensor) -> None:
    net = layer()
    drawn(net)
    scores.requires_grad_()
    inputs = [scores, *net.parameters()]
    error = torch.randn(scores.shape)
    ours, theirs = net(image, scores), by_formula(net, image, scores)
    assert torch.allclose(ours, theirs, atol=1e-4)
    for one, other in zip(
        torch.autograd.grad(ours, inputs, error), torch.autograd.grad(theirs, inputs, error), strict=True
    ):
        assert torch.allclose(one, other, atol=1e-3, rtol=1e-3)


def test_weights_at_first() -> None:
    net = layer()
    assert torch.equal(net.spatial_ker_weights, 3 * torch.eye(CLASSES))
    assert torch.equal(net.bilateral_ker_weights, 5 * torch.eye(CLASSES))
    assert torch.equal(net.compatibility_matrix, torch.eye(CLASSES))


@pytest.mark.parametrize("iterations", [1, 5])
def test_as_densecrf(image: Tensor, scores: Tensor, iterations: int) -> None:
    """Krähenbühl and Koltun's own code, with its lattice, gives the same marginals."""
    densecrf = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is not installed")
    crf = densecrf.DenseCRF2D(WIDTH, HEIGHT, CLASSES)
    crf.setUnaryEnergy(np.ascontiguousarray(-scores[0].flatten(1).numpy()))
    picture = np.ascontiguousarray(image[0].permute(1, 2, 0).byte().numpy())
    after = {"normalization": densecrf.NORMALIZE_AFTER}
    crf.addPairwiseGaussian(sxy=3, compat=3, **after)
    crf.addPairwiseBilateral(sxy=160, srgb=3, rgbim=picture, compat=5, **after)
    expected = torch.tensor(np.array(crf.inference(iterations))).view(scores.shape)
    ours = layer(iterations)(image.byte().float(), scores).softmax(1)
    assert torch.allclose(ours, expected, atol=1e-3)
    assert not torch.allclose(ours, scores.softmax(1), atol=0.1), "the CRF does change something"


def test_samples_do_not_touch_each_other(image: Tensor, scores: Tensor) -> None:
    images, both = torch.cat([image, 255 - image]), torch.cat([scores, -scores])
    together = layer()(images, both)
    assert torch.equal(together[1:], layer()(images[1:], both[1:]))
    assert torch.equal(together[:1], layer()(image, scores))


def test_reduced_precision_stays_outside(image: Tensor, scores: Tensor) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        refined = layer()(image, scores)
    assert refined.dtype == torch.float32
    assert torch.equal(refined, layer()(image, scores))


def thin(**options: int) -> nn.Module:
    torch.manual_seed(0)
    return crfasrnn(classes=CLASSES, width=1, **options).eval()


def test_the_gradient_reaches_the_image_through_the_crf(image: Tensor) -> None:
    net = thin(canvas=1, iterations=2)
    for name, weight in net.named_parameters():
        if name.startswith(("conv", "fc")):
            nn.init.uniform_(weight, 0, 2 / max(weight[0].numel(), 1))  # so that every unit is active
    leaf = image.clone().requires_grad_()
    logits = net(leaf)
    (gradient,) = torch.autograd.grad(logits, leaf, torch.randn(logits.shape))
    assert logits.shape == (1, CLASSES, HEIGHT, WIDTH)
    assert gradient.abs().sum() > 0


def test_the_canvas_takes_part_in_the_crf(image: Tensor) -> None:
    small, large = thin(canvas=1)(image), thin(canvas=16)(image)
    assert small.shape == large.shape == (1, CLASSES, HEIGHT, WIDTH)
    padded = thin(canvas=1)(nn.functional.pad(image, (0, 16 - WIDTH, 0, 16 - HEIGHT)))
    assert torch.equal(large, padded[..., :HEIGHT, :WIDTH])
    assert not torch.equal(small, large)


def test_without_iterations_the_scores_stay(image: Tensor) -> None:
    net = thin(canvas=1, iterations=0)
    assert torch.equal(net(image), FCN8s.forward(net, image))
    with pytest.raises(GpsweepError, match=r"model.iterations=-1: expected a whole number from 0 up"):
        thin(iterations=-1)


@pytest.mark.parametrize("key", ["alpha", "beta", "gamma"])
def test_impossible_settings_name_the_key(key: str) -> None:
    with pytest.raises(GpsweepError, match=f"model.{key}=0: expected a number above 0"):
        thin(**{key: 0})


@pytest.mark.gpu
def test_a_gpu_gives_the_same(image: Tensor, scores: Tensor) -> None:
    net = layer().requires_grad_(False)
    error = torch.randn(scores.shape)
    found = []
    for device in ("cpu", "cuda"):
        leaf = scores.to(device).requires_grad_()
        refined = net.to(device)(image.to(device), leaf)
        (gradient,) = torch.autograd.grad(refined, leaf, error.to(device))
        found.append((refined.detach().cpu(), gradient.cpu()))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-3)
