"""What W&B has kept of a run, read by its own program; ``wandb leet`` starts it after a second of imports."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path


@cache
def inspect(run: Path, *options: str) -> str:
    from wandb.util import get_core_path

    [log] = run.glob("run-*.wandb")
    own = ["--no-observability", "--json", *options, "--run-file", str(log), str(run.parent)]
    command = [get_core_path(), "leet", "inspect", *own]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
