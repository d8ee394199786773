"""The wheel: built, installed into a fresh environment and run from an empty folder."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, text=True, timeout=300)
    [built] = folder.glob("*.whl")
    return built


def clean_environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "HYDRA"))}
    return kept | {"OMP_NUM_THREADS": "1"}


def run_command(environment: Path, folder: Path) -> None:
    """Sweep the embedded default by the console script, and see that the package is the installed one."""
    folder.mkdir()
    python = environment / "bin" / "python"
    where = subprocess.run(
        [python, "-c", "import gpsweep; print(gpsweep.__file__)"],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(environment) in where.stdout
    done = subprocess.run(
        [environment / "bin" / "gpsweep", "-m", "eps=-0.25,0,0.25", "label=argmax,uniform", "data.limit=8"],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    [report] = folder.glob("outputs/**/report.html")
    assert str(report.parent) in done.stdout
    [rows] = folder.glob("outputs/**/results.csv")
    assert len(rows.read_text().splitlines()) == 1 + 6, "one job for the whole grid: the plugin is at work"


def test_what_the_wheel_carries(wheel: Path) -> None:
    from zipfile import ZipFile

    with ZipFile(wheel) as archive:
        names = set(archive.namelist())
        large = {info.filename for info in archive.infolist() if info.file_size > 2 * 2**20}
    for name in (
        "gpsweep/conf/config.yaml",
        "gpsweep/conf/model/smp.yaml",
        "gpsweep/conf/data/folder.yaml",
        "gpsweep/conf/sweeps/fig8.yaml",
        "gpsweep/conf/sweeps/tables/table4.yaml",
        "gpsweep/weights/scenes.safetensors",
        "gpsweep/report/page.html.j2",
        "hydra_plugins/gpsweep_sweeper/fused.py",
    ):
        assert name in names
    assert "hydra_plugins/__init__.py" not in names, "a namespace is shared with other plugins"
    assert not large
    assert not [name for name in names if name.startswith(("tests/", "outputs/", "benchmarks/"))]


def test_it_runs_from_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment)
    python = environment / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel]
    subprocess.run(install, check=True, timeout=300)
    # The libraries are those of this environment; only gpsweep itself is installed anew. A path file does
    # not read the path files it leads to, so this checkout's editable install stays out of sight.
    inside = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    (Path(inside.stdout.strip()) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run_command(environment, tmp_path / "empty")


@pytest.mark.slow
def test_it_brings_its_libraries(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    install = [environment / "bin" / "python", "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, "-c", ROOT / "constraints.txt", wheel], check=True, timeout=1500)
    run_command(environment, tmp_path / "empty")
