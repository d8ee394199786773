"""What tells stored counts apart: whatever could change a number."""

from __future__ import annotations

import ast

import pytest
import torch

from gpsweep import identity
from gpsweep.data.base import Sample
from gpsweep.identity import ENGINE, OVERRIDES, PACKAGE, arithmetic


def imported(name: str) -> set[str]:
    """Files of the package that a file imports from, at its top."""
    found = set()
    for node in ast.parse((PACKAGE / name).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("gpsweep"):
            parts = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for part in parts:
                path = part.removeprefix("gpsweep").strip(".").replace(".", "/")
                found |= {
                    f"{path}{end}" for end in (".py", "/__init__.py") if (PACKAGE / f"{path}{end}").is_file()
                }
    return found


def test_every_file_that_computes_is_part_of_the_identity() -> None:
    # What only names, checks, reads or writes cannot change a number.
    harmless = {
        "atomic.py",
        "cache.py",
        "config.py",
        "data/base.py",
        "errors.py",
        "identity.py",
        "interrupts.py",
        "models/build.py",
        "points.py",
        "counts.py",
        "source_code.py",
        "store/chunk.py",
        "__init__.py",
    }
    seen, open_files = set(), ["counting.py", "knn/__init__.py"]
    while open_files:
        name = open_files.pop()
        if name not in seen | harmless:
            seen.add(name)
            open_files += imported(name)
    assert seen <= set(ENGINE)


def test_what_overrides_the_precision_of_a_device_is_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (name for own in OVERRIDES.values() for name in own):
        monkeypatch.delenv(name, raising=False)
    assert arithmetic("cuda") == "cuda"
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    assert arithmetic("cuda") == "cuda NVIDIA_TF32_OVERRIDE=0"
    assert arithmetic("cpu") == "cpu"
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    assert arithmetic("cpu") == "cpu ONEDNN_DEFAULT_FPMATH_MODE=BF16"
    assert arithmetic("mps") == "mps"


def test_content_is_of_what_is_seen() -> None:
    sample = {"image": torch.zeros(3, 2, 2, dtype=torch.uint8), "target": torch.zeros(2, 2).long(), "id": "a"}
    other = sample | {"target": torch.ones(2, 2).long()}
    assert identity.content([sample]) == identity.content([sample | {"id": "b"}])
    assert identity.content([sample]) != identity.content([other])


def test_what_a_users_network_is_told_is_part_of_it() -> None:
    told = {"name": "a", "checkpoint": "b", "net": {"_target_": "nets.net", "name": "c", "root": "d"}}
    assert identity._settings(told, identity.OF_MODELS) == {"net": told["net"]}


def test_data_that_change_from_one_read_to_the_next_are_said_to() -> None:
    class Crops:
        name, task, classes, ids = "crops", "classification", ("a", "b"), [str(n) for n in range(12)]
        drawn = 0

        def __len__(self) -> int:
            return len(self.ids)

        def __getitem__(self, index: int) -> Sample:
            self.drawn += index == 7
            image = torch.full((3, 4, 4), self.drawn, dtype=torch.uint8)
            return Sample(image=image, target=torch.tensor(0), id=self.ids[index])

    with pytest.warns(UserWarning, match=r"data\.source: an image or target is another each time"):
        identity.files(Crops())
