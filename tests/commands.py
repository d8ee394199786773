"""Commands run in this process, as from a terminal, on a small data set, and what they leave."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from networks import CLASSES
from PIL import Image

from gpsweep import results

TESTS = Path(__file__).resolve().parent
# Of processes of their own, which find the networks here, and the package though another may be installed.
PYTHONPATH = f"{TESTS}{os.pathsep}{TESTS.parent}"
# What :func:`pictures` writes, and a network for it.
SET = ["data=folder", "data.images=images", "data.masks=masks", f"data.classes={CLASSES}", "data.void=255"]
NET = ["model=custom", "model.net=networks.small"]
SMALL = [*SET, *NET, "data.batch_size=2"]
# To be said after these: another network, whose predictions differ from pixel to pixel.
VARIED = [
    "model.net={_target_: networks.small, name: residual}",
    *("model.mean=0", "model.std=1", "model.scale=1"),
]


@dataclass
class Terminal:
    """The command line of a user: a folder, and what a command said."""

    folder: Path
    patch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """Run ``python -m gpsweep``, see :meth:`run`."""
        from gpsweep.__main__ import cli

        return self.run(cli, "gpsweep", *arguments)

    def run(self, main: Callable[[], object], name: str, *arguments: str) -> tuple[int, str, str]:
        """Run a command of some name and return its exit code, output and errors."""
        self.patch.setattr(sys, "argv", [name, *arguments])
        self.capture.readouterr()
        code = 0
        try:
            main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = self.capture.readouterr()
        return code, out, err

    def results(self, pattern: str = "results.csv") -> list[Path]:
        """Return the result files of all runs so far."""
        return sorted(self.folder.glob(f"outputs/**/{pattern}"))


def pictures(
    folder: Path, count: int = 5, classes: int = CLASSES, sizes: tuple[tuple[int, int], ...] = ((12, 16),)
) -> Path:
    """Write a small segmentation set: images and masks with void 255."""
    generator = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        height, width = sizes[i % len(sizes)]
        image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = generator.integers(0, classes, (height, width), dtype=np.uint8)
        mask[0, 0] = 255
        Image.fromarray(image).save(folder / "images" / f"{i:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{i:02d}.png")
    return folder


def same(one: Path, other: Path) -> None:
    """Check that the runs of two folders have counted the same, of the same points and images."""
    ours, theirs = results.read(one), results.read(other)
    assert (ours.points, ours.ids) == (theirs.points, theirs.ids)
    np.testing.assert_array_equal(ours.counts, theirs.counts)
    np.testing.assert_array_equal(ours.base, theirs.base)
