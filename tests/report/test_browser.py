"""The page opened in headless Chromium and looked at."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from outcomes import make
from PIL import Image

from gpsweep import report, results
from gpsweep.report import sweep
from gpsweep.report.page import page
from gpsweep.results.findings import Findings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path"),
]
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
DARK = "--blink-settings=preferredColorScheme=0"
# A window is 500 pixels wide at least, a frame in it may be narrower.
FRAME = '<body style="margin:0"><iframe style="border:0;width:{}px;height:1000px" srcdoc="{}"></iframe>'
# Runs in a copy of the page: what it says, its sizes, and everything that it fetched.
PROBE = """
<script>addEventListener('load', () => {
  const boxes = [...document.querySelectorAll('figure svg')].map(svg => svg.getBoundingClientRect());
  const fetched = performance.getEntriesByType('resource').map(entry => entry.name);
  parent.document.body.dataset.probe = JSON.stringify({
    sentence: document.querySelector('.sentence')?.innerText,
    sizes: boxes.map(box => [Math.round(box.width), Math.round(box.height)]),
    wide: document.documentElement.scrollWidth, window: innerWidth, fetched,
    cut: [...document.querySelectorAll('.scroll')].map(box => box.scrollWidth - box.clientWidth),
    beyond: [...document.querySelectorAll('dt, dd')].map(box => box.scrollWidth - box.clientWidth),
    lists: [...document.querySelectorAll('dl')].map(box => box.scrollWidth - box.clientWidth),
  });
});</script>
"""


@pytest.fixture(scope="module")
def html(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    outcome = make(
        label=["argmax", "random_onehot", "ground_truth"],
        layer=["input", "encoder.backbone.layer4.0.bottleneck_with_a_long_name.conv3_projection"],
        info={"select": {"seed": 0}},
        costs={},
    )
    return report.write(Findings(outcome), folder)


def chromium(path: Path, profile: Path, *options: str) -> str:
    assert CHROMIUM is not None
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *options, path.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def picture(path: Path, tmp_path: Path, *options: str) -> np.ndarray:
    target = tmp_path / "page.png"
    chromium(path, tmp_path / "profile", f"--screenshot={target}", *options)
    return np.asarray(Image.open(target).convert("RGB")).astype(int)


def probed(content: str, tmp_path: Path, width: int) -> dict[str, Any]:
    """Return what a copy of the page says of itself at some width."""
    path = tmp_path / "probed.html"
    path.write_text(FRAME.format(width, escape(content.replace("</body>", PROBE + "</body>"))), "utf-8")
    dom = chromium(path, tmp_path / "profile", "--dump-dom", "--window-size=1600,1000")
    match = re.search(r'data-probe="([^"]*)"', dom)
    assert match, "the page did not load"
    found: dict[str, Any] = json.loads(unescape(match[1]))
    assert found["window"] == width
    return found


@pytest.mark.parametrize("width", [1200, 390])
def test_drawings_have_a_size_and_nothing_is_fetched(html: Path, width: int, tmp_path: Path) -> None:
    found = probed(html.read_text(encoding="utf-8"), tmp_path, width)
    assert len(found["sizes"]) == 5
    assert all(w > 320 and h > 200 for w, h in found["sizes"])
    assert found["fetched"] == []
    assert found["wide"] <= found["window"], "the page scrolls sideways"
    assert len(found["cut"]) == 3
    assert not any(found["cut"]), "a table is cut off"
    assert not any(found["beyond"] + found["lists"]), "a name runs into what stands beside it"
    assert found["sentence"].startswith("Guided perturbations help:")


@pytest.fixture(scope="module")
def wide() -> str:
    axes = {"label": ["argmax", "uniform"], "step": ["sign", "rms"], "iterations": [1, 3]}
    layers = ["input", "encoder.backbone.layer4.0.bottleneck_with_a_long_name.conv3_projection"]
    more = {"layer": layers, "refine": ["none", "multiscale"], "eps": [0, 0.5]}
    return page(Findings(make(images=20, info={"select": {"seed": 0}}, costs={}, **axes, **more)))


@pytest.mark.parametrize(("width", "media"), [(718, "print"), (800, "screen"), (1100, "screen")])
def test_nothing_of_a_wide_table_is_cut_off(wide: str, width: int, media: str, tmp_path: Path) -> None:
    # Between A4's margins lie 718 pixels; on paper there is nothing to scroll with.
    found = probed(wide.replace(f"@media {media}", "@media all"), tmp_path, width)
    assert len(found["cut"]) == 5, "those of more curves, folded on the screen, as well"
    assert not any(found["cut"])


def test_a_phone_shows_long_names_and_every_interval(tmp_path: Path) -> None:
    axes: dict[str, Any] = {"images": 20, "label": ["argmax", "uniform"], "eps": [-0.5, 0, 0.5], "costs": {}}
    named = make(**axes, layer="encoder_with_a_very_long_name_of_a_single_part_without_any_dots.conv")
    several = make(**axes, layer=["input", "stage1", "stage2"], iterations=2)
    for outcome in (named, several):
        found = probed(page(Findings(outcome)), tmp_path, 390)
        assert found["wide"] <= found["window"], "the page scrolls sideways"
        assert not any(found["cut"]), "a table is cut off"


@pytest.mark.parametrize("width", [1200, 390])
def test_runs_side_by_side_are_legible(width: int, tmp_path: Path) -> None:
    long = "encoder.layer4.0.bottleneck_with_a_long_name.conv3"
    few: dict[str, Any] = {"images": 12, "label": ["argmax", "uniform"], "layer": ["input", long]}
    runs = [tmp_path / name for name in ("a", "b", "c", "d")]
    for run in runs:
        eps = {"eps": 0 if run.name == "d" else [-0.5, 0, 0.5]}
        results.write(make(**few, **eps, info={"model": f"{run.name}.{long}"}), run)
    found = probed(sweep.page(tmp_path, runs), tmp_path, width)
    assert found["fetched"] == []
    assert found["wide"] <= found["window"], "the page scrolls sideways"
    assert found["cut"] == [0]
    assert len(found["sizes"]) == 1
    assert all(w > 320 and h > 100 for w, h in found["sizes"])


def test_light_and_dark_are_drawn_and_legible(html: Path, tmp_path: Path) -> None:
    light = picture(html, tmp_path, "--window-size=1200,1600")
    dark = picture(html, tmp_path, "--window-size=1200,1600", DARK)
    assert light.shape[:2] == (1600, 1200)
    assert np.median(light) > 230
    assert np.median(dark) < 40
    for pixels, blue in ((light, (0x0B, 0x5F, 0xA5)), (dark, (0x6F, 0xB4, 0xF2))):
        assert pixels.std() > 10, "a blank page"
        near = np.abs(pixels - blue).max(axis=-1) < 12
        assert near.sum() > 300, "the curve of argmax is not there"
        grey = pixels.mean(axis=-1)
        assert (np.abs(grey - np.median(grey)) > 150).sum() > 5000, "no text stands out"
