"""The dense CRF: the library's own, and what it is for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpsweep import crf
from gpsweep.crf import Crf, labelled, refined
from gpsweep.errors import GpsweepError

densecrf = pytest.importorskip("pydensecrf.densecrf", reason="pydensecrf2 is not installed")


def noisy(height: int = 24, width: int = 30, seed: int = 0) -> tuple[Any, Any, Any]:
    """An image of two colours with a clear edge, its truth, and a softmax wrong at every fifth pixel."""
    generator = np.random.default_rng(seed)
    truth = (np.arange(width) >= width // 2).astype(int) + np.zeros((height, 1), dtype=int)
    image = np.where(truth[..., None] == 1, (200, 60, 40), (40, 90, 180)).astype(np.uint8)
    seen = np.where(generator.random(truth.shape) < 0.2, 1 - truth, truth)
    likely = np.float32(0.7)
    return image, truth, np.stack([np.where(seen == c, likely, 1 - likely) for c in (0, 1)])


def test_it_is_the_library_s() -> None:
    image, _, softmax = noisy()
    settings = Crf(iterations=3, smooth_weight=2, smooth_xy=1.5, appearance_weight=5, appearance_xy=20)
    field = densecrf.DenseCRF2D(30, 24, 2)
    field.setUnaryEnergy(np.ascontiguousarray(-np.log(softmax).reshape(2, -1)))
    field.addPairwiseGaussian(sxy=1.5, compat=2)
    field.addPairwiseBilateral(sxy=20, srgb=3, rgbim=image, compat=5)
    expected = np.array(field.inference(3)).reshape(2, 24, 30)
    found = refined(image, softmax, settings)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(labelled(image, softmax, settings), expected.argmax(0))
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-5)


def test_it_mends_noise_up_to_the_image_s_edge() -> None:
    image, truth, softmax = noisy()
    before = (softmax.argmax(0) == truth).mean()
    after = labelled(image, softmax, Crf()) == truth
    assert before < 0.85
    assert after.mean() > 0.99
    # Smoothing alone does not know where the edge is.
    flat = labelled(np.zeros_like(image), softmax, Crf()) == truth
    assert after.mean() > flat.mean()


def test_a_class_beyond_the_bytes() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    softmax = np.full((300, 4, 5), 0.1 / 299, np.float32)
    softmax[280] = 0.9
    assert (labelled(image, softmax, Crf()) == 280).all()


def test_without_weights_the_softmax_stays() -> None:
    image, _, softmax = noisy()
    found = refined(image, softmax, Crf(smooth_weight=0, appearance_weight=0))
    np.testing.assert_allclose(found, softmax, rtol=1e-5)


def test_a_class_without_probability_does_no_harm() -> None:
    image, _, softmax = noisy()
    certain = np.eye(2, dtype=np.float32)[softmax.argmax(0)].transpose(2, 0, 1)
    assert np.isfinite(refined(image, certain, Crf())).all()


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("iterations", 10**20, f"crf.iterations={10**20}: expected at most 1000"),
        ("iterations", 0, "crf.iterations=0: expected a whole number of at least 1"),
        ("smooth_weight", -1.0, "crf.smooth_weight=-1.0: expected a number from 0 up"),
        ("appearance_weight", float("nan"), "crf.appearance_weight=nan: expected a number from 0 up"),
        ("smooth_xy", 0.0, "crf.smooth_xy=0.0: expected a number above 0"),
        ("appearance_xy", float("inf"), "crf.appearance_xy=inf: expected a number above 0"),
        ("appearance_rgb", -3.0, "crf.appearance_rgb=-3.0: expected a number above 0"),
    ],
)
def test_mistakes_name_the_key(key: str, value: float, expected: str) -> None:
    Crf().check()
    Crf(iterations=1, smooth_weight=0, appearance_weight=0).check()
    with pytest.raises(GpsweepError) as caught:
        Crf(**{key: value}).check()  # type: ignore[arg-type]
    assert str(caught.value) == expected


def test_the_library_is_part_of_what_tells_counts_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Crf().identity()["pydensecrf2"] == crf.installed()
    assert Crf(iterations=3).identity() != Crf().identity()
    monkeypatch.setattr(crf, "PACKAGE", "no-such-package")
    with pytest.raises(GpsweepError, match=r"refine=crf: .*pip install '\.\[crf\]' in the checkout"):
        crf.installed()
