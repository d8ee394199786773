"""The mean-field layer of CRF-as-RNN, forward and backward: time (m) and peak memory in a process of its own.

``python -m benchmarks.crf`` measures it alone. A photograph is what the layer is for; noise, where nearly
every pixel needs a place of its own in the lattice, is its worst case.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from benchmarks.clock import Spread
from benchmarks.command import run
from benchmarks.table import Row, machine, show
from gpsweep.console import standard_output

SIDE, CLASSES, ITERATIONS = 500, 21, 5
SECONDS, GIB = 10.0, 2.0

# Measured from the picture to the gradient at the scores; imports are left out of the time.
ONCE = """
import sys
from pathlib import Path
from time import perf_counter

import numpy, torch

from gpsweep.models.crfasrnn import MeanField

classes, iterations = int(sys.argv[3]), int(sys.argv[4])
image = torch.from_numpy(numpy.load(sys.argv[1]))
layer = MeanField(classes=classes, iterations=iterations, alpha=160, beta=3, gamma=3).requires_grad_(False)
scores = torch.randn(1, classes, *image.shape[2:], requires_grad=True)
error = torch.randn(scores.shape)
start = perf_counter()
torch.autograd.grad(layer(image, scores), scores, grad_outputs=error)
Path(sys.argv[2]).write_text(str(perf_counter() - start))
"""


def measure(*, repeats: int = 3, side: int = SIDE, iterations: int = ITERATIONS) -> Iterator[Row]:
    """Measure (m) on a photograph and on noise; bounds hold for two cores."""
    for name, picture in (("a photograph", photograph(side)), ("noise", noise(side))):
        title = f"mean field on {name}, {side}×{side}×{CLASSES}, {iterations} iterations"
        times, peaks = zip(*(once(picture, iterations) for _ in range(repeats)), strict=True)
        yield Row("m", title, "forward and backward", Spread.of(times), "s", at_most=SECONDS)
        yield Row("m", title, "peak memory", Spread.of(peaks), "GiB", at_most=GIB)


def once(picture: npt.NDArray[np.float32], iterations: int) -> tuple[float, float]:
    """Return the seconds of one forward and backward pass, and the process's peak memory in GiB."""
    with TemporaryDirectory() as folder:
        image, said = Path(folder, "image.npy"), Path(folder, "seconds")
        np.save(image, picture)
        arguments = [str(image), str(said), str(CLASSES), str(iterations)]
        _, peak = run([sys.executable, "-c", ONCE, *arguments])
        return float(said.read_text()), peak


def photograph(side: int) -> npt.NDArray[np.float32]:
    """Return a photograph that scikit-learn brings along, ``(1, 3, side, side)``, 0–255."""
    from PIL import Image
    from sklearn.datasets import load_sample_image

    picture = Image.fromarray(load_sample_image("china.jpg")).resize((side, side))
    return np.asarray(picture, np.float32).transpose(2, 0, 1)[None].copy()


def noise(side: int) -> npt.NDArray[np.float32]:
    """Return colours drawn at random, ``(1, 3, side, side)``, 0–255."""
    return np.random.default_rng(0).uniform(0, 255, (1, 3, side, side)).astype(np.float32)


if __name__ == "__main__":
    show(list(measure()), machine(), standard_output())
