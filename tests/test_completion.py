"""Keys and names are completed in bash, of ``python -m gpsweep`` and of the program ``gpsweep``."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import PYTHONPATH

PATIENCE_S = 90.0


class Bash:
    """An interactive bash at a terminal of its own.

    Args:
        folder: where it starts; what lies in its ``bin`` can be run.
    """

    def __init__(self, folder: Path) -> None:
        python = f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}"
        env = os.environ | {"PATH": f"{python}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": PYTHONPATH}
        env |= {"TERM": "dumb", "PS1": "$ ", "COLUMNS": "300"}
        self.terminal, inside = pty.openpty()
        shell = ["bash", "--norc", "--noprofile", "-i"]
        self.process = subprocess.Popen(
            shell, stdin=inside, stdout=inside, stderr=inside, cwd=folder, env=env, start_new_session=True
        )
        os.close(inside)

    def type(self, keys: str, until: str) -> str:
        """Type, and return what is shown by then.

        Raises:
            TimeoutError: if that does not come.
        """
        os.write(self.terminal, keys.encode())
        shown, end = "", time.monotonic() + PATIENCE_S
        while until not in shown:
            if not select.select([self.terminal], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError(shown)
            shown += os.read(self.terminal, 4096).decode(errors="replace")
        return shown

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        os.close(self.terminal)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("command", "typed", "completed"),
    [
        ("python -m gpsweep", "-m 'eps=range(-1,1,0.5)' model=torchv", "model=torchvision"),
        ("python -m gpsweep", "model.chec", "model.checkpoint="),
        ("python -m gpsweep.fit", "fit=camv", "fit=camvid"),
        ("gpsweep", "model=torchv", "model=torchvision"),
    ],
)
def test_bash_completes(command: str, typed: str, completed: str, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "gpsweep"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nfrom gpsweep.__main__ import cli\n\ncli()\n")
    program.chmod(0o755)
    bash = Bash(tmp_path)
    try:
        bash.type(f'eval "$({command} -sc install=bash)"; echo its"elf"\n', until="itself")
        assert completed not in f"{command} {typed}"
        bash.type(f"{command} {typed}\t", until=f"{command} {typed}{completed[len(typed.split()[-1]) :]}")
    finally:
        bash.close()
