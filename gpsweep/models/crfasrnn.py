"""CRF-as-RNN (Zheng et al., 2015): FCN-8s, and mean-field iterations of a dense CRF as its last layer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpsweep.errors import GpsweepError
from gpsweep.models.caffe import Source, sources
from gpsweep.models.fcn import FCN8s
from gpsweep.models.lattice import Lattice, lattice

SPATIAL, BILATERAL = 3.0, 5.0
TINY = 1e-20
CAFFE_LAYER = "inference1"


class MeanField(nn.Module):
    """Mean-field iterations of a dense CRF whose pairwise terms are two Gaussians (Krähenbühl, Koltun, 2011).

    ``z ← u + M (W_s K_s + W_b K_b) softmax(z)``, K_s a Gaussian of the distance, K_b one of distance and
    colour, each normalised to sum 1 at every pixel; u the scores that come in, and the first z.

    The gradient passes to the scores; as in the published layers, none passes through the colours.

    Args:
        classes: channels of the scores.
        iterations: how often z is renewed.
        alpha: standard deviation in pixels of the bilateral Gaussian.
        beta: its standard deviation in colour, in units of the image.
        gamma: standard deviation in pixels of the spatial Gaussian.
    """

    def __init__(self, *, classes: int, iterations: int, alpha: float, beta: float, gamma: float) -> None:
        super().__init__()
        self.iterations = iterations
        self.alpha, self.beta, self.gamma = alpha, beta, gamma
        self.spatial_ker_weights = nn.Parameter(SPATIAL * torch.eye(classes))
        self.bilateral_ker_weights = nn.Parameter(BILATERAL * torch.eye(classes))
        self.compatibility_matrix = nn.Parameter(torch.eye(classes))

    def forward(self, image: Tensor, scores: Tensor) -> Tensor:
        """Refine scores.

        Args:
            image: ``(N, 3, H, W)``.
            scores: ``(N, C, H, W)``.

        Returns:
            ``(N, C, H, W)``: z after the last iteration, no softmax taken.
        """
        if not self.iterations:
            return scores
        with torch.autocast(scores.device.type, enabled=False):
            pairs = zip(image.float(), scores.float(), strict=True)
            return torch.stack([self._refined(colours, unary) for colours, unary in pairs])

    def _refined(self, image: Tensor, scores: Tensor) -> Tensor:
        """Refine the scores ``(C, H, W)`` of one image."""
        weights = [
            (self.compatibility_matrix @ kernel).T
            for kernel in (self.spatial_ker_weights, self.bilateral_ker_weights)
        ]
        kernels = [_normalised(lattice(features)) for features in self._features(image)]
        unary = scores.flatten(1).T.contiguous()
        z = unary
        for _ in range(self.iterations):
            q = z.softmax(1)
            z = unary
            for (filtered, norm), weight in zip(kernels, weights, strict=True):
                z = torch.addmm(z, filtered(q) * norm, weight)
        return z.T.reshape(scores.shape)

    def _features(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Where pixels lie: in the plane ``(H · W, 2)``, and in plane and colour ``(H · W, 5)``."""
        height, width = image.shape[1:]
        y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        place = torch.stack([x, y], 2).flatten(0, 1).to(image)
        colour = image.flatten(1).T
        return place / self.gamma, torch.cat([place / self.alpha, colour / self.beta], 1)


class CRFasRNN(FCN8s):
    """FCN-8s followed by mean-field iterations.

    Args:
        classes: output channels.
        width: as in :class:`FCN8s`.
        canvas: images are padded at right and bottom to this height and width at least, as the published
            network's are: what lies there takes part in the CRF.
        crf: the mean-field iterations.

    Shapes:
        ``(N, 3, H, W)``, BGR in grey levels less their mean, → logits ``(N, classes, H, W)``.
    """

    def __init__(self, *, classes: int, width: int, canvas: int, crf: MeanField) -> None:
        super().__init__(classes=classes, width=width, bias=True)
        self.canvas = canvas
        self.crfrnn = crf

    def forward(self, x: Tensor) -> Tensor:
        """Score each class at the input's size."""
        height, width = x.shape[-2:]
        x = F.pad(x, (0, max(0, self.canvas - width), 0, max(0, self.canvas - height)))
        logits: Tensor = self.crfrnn(x, super().forward(x))
        return logits[..., :height, :width]

    def caffe_sources(self) -> Mapping[str, Source]:
        """Say where each weight lies in a Caffe file, which subtracts what is added here."""
        return sources(self) | {
            "crfrnn.spatial_ker_weights": Source((CAFFE_LAYER,), 0),
            "crfrnn.bilateral_ker_weights": Source((CAFFE_LAYER,), 1),
            "crfrnn.compatibility_matrix": Source((CAFFE_LAYER,), 2, factor=-1),
        }


def crfasrnn(
    *,
    classes: int,
    width: int = 64,
    canvas: int = 500,
    iterations: int = 10,
    alpha: float = 160,
    beta: float = 3,
    gamma: float = 3,
) -> CRFasRNN:
    """Build CRF-as-RNN, the weights of its convolutions drawn at random.

    Args:
        classes: output channels, 21 in the network published for VOC.
        width: channels of the first stage, as in :class:`gpsweep.models.vgg.VGG16`.
        canvas: smallest height and width that images are padded to.
        iterations: 5 in the authors' training, 10 in their released network; 0 leaves the scores as they are.
        alpha, beta, gamma: standard deviations, as in :class:`MeanField`.

    Raises:
        GpsweepError: ``iterations`` is negative or a standard deviation not positive.
    """
    if iterations < 0:
        raise GpsweepError(f"model.iterations={iterations}: expected a whole number from 0 up.")
    for key, value in (("alpha", alpha), ("beta", beta), ("gamma", gamma)):
        if not value > 0:
            raise GpsweepError(f"model.{key}={value}: expected a number above 0.")
    crf = MeanField(classes=classes, iterations=iterations, alpha=alpha, beta=beta, gamma=gamma)
    return CRFasRNN(classes=classes, width=width, canvas=canvas, crf=crf)


def _normalised(kernel: Lattice) -> tuple[Lattice, Tensor]:
    """Return a filter, and ``(P, 1)``, what its output is multiplied with to be a mean."""
    ones = kernel.weights.new_ones(len(kernel.weights), 1)
    return kernel, 1 / (kernel.filter(ones) + TINY)
