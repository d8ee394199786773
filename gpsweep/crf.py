"""Dense CRF on a softmax (Krähenbühl & Koltun, NeurIPS 2011), as DeepLab puts it on its networks. No torch.

Every pair of pixels that differ in class costs, with positions p and colours I (their Eq. 3):

    w₁ exp(−‖p − p'‖² / 2θα² − ‖I − I'‖² / 2θβ²) + w₂ exp(−‖p − p'‖² / 2θγ²)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpsweep.errors import GpsweepError

PACKAGE = "pydensecrf2"
MOST = 1000  # iterations; more are a slip of the keyboard, which would never come to an end
SMALLEST = 1e-8  # probability; a class of probability 0 would cost infinitely much


@dataclass
class Crf:
    """Parameters of a dense CRF.

    The defaults are those of DeepLab-v2 (Chen et al., TPAMI 2018): w₂ = θγ = 3 and ten iterations for all of
    its networks (Sec. 4.1), w₁ = 4, θα = 67 and θβ = 3 published with its ResNet-101, there beside θγ = 1.
    The paper of Guided Perturbations states none.

    Args:
        iterations: of the mean field, ≥ 1.
        smooth_weight: w₂ ≥ 0, of pixels that are near each other.
        smooth_xy: θγ > 0, pixels.
        appearance_weight: w₁ ≥ 0, of pixels that are of like colour besides.
        appearance_xy: θα > 0, pixels.
        appearance_rgb: θβ > 0, grey levels of 0–255.
    """

    iterations: int = 10
    smooth_weight: float = 3.0
    smooth_xy: float = 3.0
    appearance_weight: float = 4.0
    appearance_xy: float = 67.0
    appearance_rgb: float = 3.0

    def check(self, group: str = "crf") -> None:
        """Check the numbers.

        Args:
            group: the configuration group they are from.

        Raises:
            GpsweepError: naming the key.
        """
        if self.iterations < 1:
            raise GpsweepError(f"{group}.iterations={self.iterations}: expected a whole number of at least 1")
        if self.iterations > MOST:
            raise GpsweepError(f"{group}.iterations={self.iterations}: expected at most {MOST}")
        for key, value in asdict(self).items():
            weight = key.endswith("weight")
            if not isfinite(value) or value < 0 or (value == 0 and not weight):
                expected = "a number from 0 up" if weight else "a number above 0"
                raise GpsweepError(f"{group}.{key}={value}: expected {expected}")

    def identity(self) -> dict[str, Any]:
        """Return what tells counts of this CRF from those of others."""
        return {**asdict(self), PACKAGE: installed()}


def installed() -> str:
    """Return the version of the library that computes.

    Raises:
        GpsweepError: if there is none.
    """
    try:
        return version(PACKAGE)
    except PackageNotFoundError:
        raise GpsweepError(
            f"refine=crf: expected the package {PACKAGE}, it is not installed; "
            "pip install '.[crf]' in the checkout"
        ) from None


def refined(image: NDArray[np.uint8], softmax: NDArray[np.float32], crf: Crf) -> NDArray[np.float32]:
    """Return the marginals of the CRF's mean field.

    Args:
        image: ``(H, W, 3)``, RGB 0–255.
        softmax: ``(C, H, W)``.
        crf: parameters.

    Returns:
        ``(C, H, W)``, summing to 1 over the classes.
    """
    from pydensecrf.densecrf import DenseCRF2D

    classes, height, width = softmax.shape
    field = DenseCRF2D(width, height, classes)
    energy = -np.log(softmax.clip(SMALLEST, 1))
    field.setUnaryEnergy(np.ascontiguousarray(energy.reshape(classes, -1), dtype=np.float32))
    if crf.smooth_weight:
        field.addPairwiseGaussian(sxy=crf.smooth_xy, compat=crf.smooth_weight)
    if crf.appearance_weight:
        field.addPairwiseBilateral(
            sxy=crf.appearance_xy,
            srgb=crf.appearance_rgb,
            rgbim=np.ascontiguousarray(image),
            compat=crf.appearance_weight,
        )
    found: NDArray[np.float32] = np.asarray(field.inference(crf.iterations), dtype=np.float32)
    return found.reshape(softmax.shape)


def labelled(image: NDArray[np.uint8], softmax: NDArray[np.float32], crf: Crf) -> NDArray[np.uint16]:
    """Return the likeliest class of each pixel by :func:`refined`, whose arguments it has: ``(H, W)``."""
    classes: NDArray[np.uint16] = refined(image, softmax, crf).argmax(0).astype(np.uint16)
    return classes
