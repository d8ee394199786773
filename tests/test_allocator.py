"""Memory that tensors free stays with the process, unless the user has decided otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

SIZE = 16 * 2**20
SCRIPT = f"""
import resource
from gpsweep.allocator import keep_freed

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        bytearray({SIZE})
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

done = keep_freed()
faults()
print(done, faults())
"""


def _run(monkeypatch: pytest.MonkeyPatch, *own: str) -> tuple[bool, int]:
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        monkeypatch.delenv(name, raising=False)
    for name in own:
        monkeypatch.setenv(name, "65536")
    out = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stdout
    done, faults = out.split()
    return done == "True", int(faults)


def test_freed_memory_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    done, faults = _run(monkeypatch)
    if not done:
        pytest.skip("this C library has no mallopt")
    assert faults < 100  # a page fresh from the system is a fault; each of the blocks has thousands of pages


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    done, faults = _run(monkeypatch, "MALLOC_MMAP_THRESHOLD_")
    assert not done
    assert faults > 100
