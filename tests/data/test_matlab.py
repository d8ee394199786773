"""Label maps in .mat files."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from gpsweep.data import matlab
from gpsweep.data.matlab import read_label_map
from gpsweep.errors import GpsweepError

KEY = "data.masks"
LABELS = np.arange(12).reshape(3, 4) * 40


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
@pytest.mark.parametrize("compressed", [True, False])
def test_label_maps(tmp_path: Path, dtype: type, compressed: bool) -> None:
    labels = (LABELS % 256).astype(dtype)
    savemat(tmp_path / "a.mat", {"other": "x", "LabelMap": labels}, do_compression=compressed)
    came = read_label_map(tmp_path / "a.mat", key=KEY)
    assert came.dtype == np.uint16
    assert np.array_equal(came, labels)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"labels": LABELS}, "has no variable LabelMap"),
        ({"LabelMap": np.zeros((2, 2, 2))}, r"is float64 \(2, 2, 2\); expected class numbers \(H, W\)"),
        ({"LabelMap": "text"}, "expected class numbers"),
        ({"LabelMap": np.zeros((0, 0))}, r"\(0, 0\); expected class numbers"),
        ({"LabelMap": {"a": 1}}, "expected class numbers"),
        ({"LabelMap": np.array([["a", 1]], dtype=object)}, "expected class numbers"),
        ({"LabelMap": np.array([[0.5]])}, "holds numbers that are no class numbers"),
        ({"LabelMap": np.array([[-1]])}, "holds numbers that are no class numbers"),
        ({"LabelMap": np.array([[np.nan]])}, "holds numbers that are no class numbers"),
        ({"LabelMap": np.array([[70000]])}, "holds numbers that are no class numbers"),
    ],
)
def test_other_content(tmp_path: Path, content: dict[str, Any], says: str) -> None:
    savemat(tmp_path / "a.mat", content)
    with pytest.raises(GpsweepError, match=rf"^data\.masks: .*a\.mat.*{says}"):
        read_label_map(tmp_path / "a.mat", key=KEY)


@pytest.mark.parametrize(
    "content", [b"", b"MATLAB 5.0", b"\x89HDF\r\n" + bytes(600), b"MATLAB 7.3 MAT-file" + bytes(600)]
)
def test_what_is_no_mat_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(GpsweepError, match=r"^data\.masks: .*a\.mat begins with .*; expected b'MATLAB 5\.0'"):
        read_label_map(tmp_path / "a.mat", key=KEY)


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_cut_short(tmp_path: Path, compressed: bool, share: float) -> None:
    labels = np.random.default_rng(0).integers(0, 460, (30, 40))
    savemat(tmp_path / "a.mat", {"LabelMap": labels}, do_compression=compressed)
    content = (tmp_path / "a.mat").read_bytes()
    (tmp_path / "a.mat").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(GpsweepError, match=r"^data\.masks: .*a\.mat (cannot be read|has no variable)"):
        read_label_map(tmp_path / "a.mat", key=KEY)


def test_a_changed_byte_is_an_error_or_changes_no_more_than_labels(tmp_path: Path) -> None:
    """In a process of its own: what it is to be kept from is ending the process."""
    labels = (LABELS % 256).astype(np.uint8)
    for name, compressed in (("compressed", True), ("plain", False)):
        savemat(tmp_path / f"{name}.mat", {"LabelMap": labels}, do_compression=compressed)
    script = f"""
from pathlib import Path
from gpsweep.data.matlab import read_label_map
from gpsweep.errors import GpsweepError
for name in ("compressed", "plain"):
    path, read, refused = Path({str(tmp_path)!r}, name + ".mat"), 0, 0
    content = path.read_bytes()
    for place in range({matlab.HEADER}, len(content)):
        for bit in (0, 1, 3, 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                read += read_label_map(path, key="data.masks").ndim == 2
            except GpsweepError:
                refused += 1
    print(name, read + refused == 4 * (len(content) - {matlab.HEADER}), refused > 0, flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    said = "compressed True True\nplain True True\n"
    assert (done.returncode, done.stdout) == (0, said), done.stderr


def test_a_bomb_is_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "LARGEST", 100_000)
    savemat(tmp_path / "a.mat", {"LabelMap": np.zeros((1000, 1000), dtype=np.uint8)}, do_compression=True)
    assert (tmp_path / "a.mat").stat().st_size < 5000
    with pytest.raises(GpsweepError, match=r"a\.mat was not read: it comes to more than 100000 bytes"):
        read_label_map(tmp_path / "a.mat", key=KEY)


def test_many_small_bombs_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matlab, "LARGEST", 100_000)
    savemat(tmp_path / "a.mat", {"x": 1})
    deflated = zlib.compress(struct.pack("<2I", 2, 39_992) + bytes(39_992))
    element = struct.pack("<2I", 15, len(deflated)) + deflated
    (tmp_path / "a.mat").write_bytes((tmp_path / "a.mat").read_bytes()[:128] + 3 * element)
    with pytest.raises(GpsweepError, match=r"a\.mat was not read"):
        read_label_map(tmp_path / "a.mat", key=KEY)
