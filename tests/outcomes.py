"""Made-up outcomes whose curves have the shapes of real ones: quick, and the same every time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from gpsweep import cost, metrics
from gpsweep.counts import Counts
from gpsweep.points import Point, decimal_range, grid
from gpsweep.results.outcome import Outcome

LABELS = ["argmax", "random_onehot", "uniform", "top2"]
EPS = decimal_range(-1, 1, 0.05)
WORDS = [
    "void space",
    "road",
    "building",
    "sky",
    "tree",
    "pavement",
    "car",
    "sign",
    "fence",
    "cyclist",
    "pole",
]
INFO: dict[str, Any] = {
    "dataset": "camvid",
    "model": "smp-Unet-resnet18",
    "weights_sha256": "9f2c1c0f7f2a5a7f6b0f7d1f0c3f6f4f0b9ad1d7e8a2b44c1d8e0fd7c1a2b3c4",
    "git_commit": "0123456789abcdef0123456789abcdef01234567",
    "versions": {"gpsweep": "0.1.0", "torch": "2.15.0", "numpy": "2.4.6", "hydra-core": "1.3.8"},
    "command": "python -m gpsweep -m 'eps=range(-1,1,0.05)' label=argmax,random_onehot,uniform,top2",
    "config": "eps: [-1.0, -0.95]\nlabel: [argmax, uniform]\nmodel:\n  name: smp-Unet-resnet18\n",
    "device": "cpu, 2 threads",
    "times": {"start": 6.1, "shared": 9.4, "points": 171.0, "test": 188.2},
}


REFINED = {"none": 0.0, "flip": 0.008, "multiscale": 0.009, "crf": 0.005}


def gain(point: Point) -> float:
    """Return the change of a pixel's chance to be right; perturbation adds less to what is refined."""
    return REFINED[point.refine] + perturbed(point) * (1.0 if point.refine == "none" else 0.7)


def perturbed(point: Point, peak: float = 0.012) -> float:
    """Return that change as a label's curve changes it."""
    eps = point.eps * {1: 1.0, 2: 1.6}.get(point.iterations, 2.0) * (1.0 if point.layer == "input" else 0.7)
    match point.label:
        case "argmax":
            return 2 * peak * (eps / 0.45) * np.exp(0.7 - eps / 0.45) - (0.08 * eps**2 if eps < 0 else 0)
        case "uniform":
            return -1.5 * peak * (eps / 0.35) * np.exp(-abs(eps) / 0.5) - 0.02 * eps**2
        case "top2":
            return 0.8 * peak * eps - 0.06 * eps**2
        case "ground_truth":
            return 0.25 * np.tanh(2 * eps)
        case _:
            return -0.12 * abs(eps) ** 1.3


ALONE = {"flip": 2.05, "multiscale": 3.4, "crf": 31.0}


def measured(points: list[Point], **alone: float) -> dict[str, Any]:
    """Return the costs of points as if they had been measured; those of refinements alone may be given."""

    def passes(found: cost.Setting) -> float:
        own = 1.2 + 2 * found.iterations - 0.5 * (found.layer != "input")
        if found.iterations == 0:
            return (ALONE | alone)[found.refine]
        return own * {"flip": 2.0, "multiscale": 3.2}.get(found.refine, 1.0) + 30 * (found.refine == "crf")

    return {
        "forward_seconds": 0.004,
        "settings": [
            {**asdict(found), "seconds": 0.004 * passes(found), "passes": passes(found)}
            for found in cost.settings(points)
        ],
    }


def counts(points: list[Point], images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return segmentation counts of the points and of the base, as if 20 000 pixels made an image."""
    rng = np.random.default_rng(seed)
    share = rng.gamma(0.35, size=(images, classes)) * np.linspace(2, 0.4, classes)
    truth = np.round(20_000 * share / share.sum(axis=1, keepdims=True)).astype(np.int64)
    chance = np.clip(rng.normal(np.linspace(0.86, 0.5, classes), 0.12, (images, classes)), 0.02, 0.98)
    liking = rng.normal(1.0, 2.5, (images, 1)) + rng.normal(
        0.0, 0.8, classes
    )  # how much each follows the gain
    taken = rng.gamma(0.8, size=(images, classes))

    def count(change: float) -> np.ndarray:
        tp = np.round(truth * np.clip(chance + change * liking, 0, 1)).astype(np.int64)
        wrong = (truth - tp).sum(axis=1, keepdims=True)
        fp = np.floor(wrong * taken / taken.sum(axis=1, keepdims=True)).astype(np.int64)
        return np.stack([tp, fp, truth - tp], axis=-1)

    stacked = np.array([count(gain(point)) for point in points]).reshape(-1, images, classes, 3)
    return stacked, count(0.0)


def hits(points: list[Point], images: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return classification counts of the points and of the base: one tp, or one fp and one fn an image."""
    rng = np.random.default_rng(seed)
    truth, other = rng.integers(classes, size=images), rng.integers(1, classes, size=images)
    margin = rng.normal(1.6, 0.8, images)

    def count(change: float) -> np.ndarray:
        predicted = np.where(margin + 4 * change > 0, truth, (truth + other) % classes)
        table = np.zeros((images, classes, 3), dtype=np.uint8)
        rows, right = np.arange(images), predicted == truth
        table[rows[right], truth[right], 0] = 1
        table[rows[~right], predicted[~right], 1] = 1
        table[rows[~right], truth[~right], 2] = 1
        return table

    stacked = np.array([count(gain(point)) for point in points]).reshape(-1, images, classes, 3)
    return stacked, count(0.0)


def make(
    *,
    task: str = "segmentation",
    images: int = 120,
    classes: int = 11,
    info: dict[str, Any] | None = None,
    costs: Mapping[str, float] | None = None,
    **axes: Any,
) -> Outcome:
    """Return an outcome; the axes of the grid default to the main job's 160 points.

    With ``costs``, those of refinements alone or none of them, every point's was measured.
    """
    points = grid(**({"label": LABELS, "eps": EPS} | axes)).points()
    table, base = (counts if task == "segmentation" else hits)(points, images, classes)
    names = WORDS[:classes] if classes <= len(WORDS) else [f"class {number:03d}" for number in range(classes)]
    rng = np.random.default_rng(1)
    return Outcome(
        points=points,
        counts=Counts.of(table),
        base=base,
        task=task,
        classes=tuple(names if task == "segmentation" else map(str, range(classes))),
        ids=[f"image_{number:05d}" for number in range(images)],
        seconds=[float(value) for value in rng.uniform(1.0, 1.2, len(points))],
        info=INFO | (info or {}) | ({} if costs is None else {"cost": measured(points, **costs)}),
    )


def interval(
    point: np.ndarray, base: np.ndarray, weights: np.ndarray, task: str, level: float = metrics.LEVEL
) -> tuple[float, float]:
    """Return the interval of one point's gain, given as counts ``(images, classes, 3)``."""
    low, high = metrics.paired_intervals(Counts.of(point[None]), base, weights, task, level)[0]
    return float(low), float(high)
