"""Small pictures and masks on disk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

Maker = Callable[..., Path]


@pytest.fixture
def picture() -> Maker:
    """Write an RGB picture of random grey levels; the suffix chooses the format."""

    def write(path: Path, *, height: int = 4, width: int = 6, seed: int = 0, **options: Any) -> Path:
        levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(path, **options)
        return path

    return write


@pytest.fixture
def mask() -> Maker:
    """Write a mask of the numbers given, repeated row by row; 16 bits where they need it."""

    def write(path: Path, *numbers: int, height: int = 4, width: int = 6) -> Path:
        dtype = np.uint8 if max(numbers) < 256 else np.uint16
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.resize(np.array(numbers, dtype=dtype), (height, width))).save(path)
        return path

    return write


@pytest.fixture
def listed() -> Callable[[Path, Sequence[str]], Path]:
    """Write a list file."""

    def write(path: Path, lines: Sequence[str]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    return write
