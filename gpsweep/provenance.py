"""Where numbers come from: versions and commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "gpsweep",
    "torch",
    "torchvision",
    "pytorch-lightning",
    "hydra-core",
    "segmentation-models-pytorch",
    "timm",
    "torchmetrics",
    "numpy",
)


def provenance() -> dict[str, Any]:
    """Return versions, and the git commit of the current folder's code if it has one.

    The version of gpsweep says which commit runs, as ``0.1.0+g1234567890ab``, where it runs from a checkout.
    """
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    checkout = Path(__file__).resolve().parent.parent
    if "gpsweep" in versions and (checkout / ".git").exists() and (own := commit(checkout)):
        versions["gpsweep"] += f"+g{own[:12]}{'.changed' if own.endswith('+') else ''}"
    return {"versions": versions, "git_commit": commit(Path.cwd())}


def commit(folder: Path) -> str | None:
    """Return the commit checked out in a folder, ``+`` behind it if there are changes; None outside git."""

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return None
