from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from lightning_utilities.core import imports
from lightning_utilities.core.imports import RequirementCache

import gpsweep
from gpsweep.lightning import hidden


def test_what_is_hidden_is_found_again() -> None:
    early, late = RequirementCache("numpy"), RequirementCache("torch")
    with hidden("numpy"):
        assert not early
        assert late
        assert not imports.package_available("numpy")
    assert early
    assert imports.package_available("numpy")
    assert RequirementCache("numpy")


# What it is to import Lightning can be seen once a process.
STARTED = """
import sys, warnings

own = warnings.formatwarning = lambda *_: "gpsweep: so"
import gpsweep.run

# A start is spared what it does not need.
unwanted = {"torchvision", "matplotlib", "scipy.signal", "pandas", "timm", "sklearn", "torch._dynamo"}
assert not unwanted & set(sys.modules), unwanted & set(sys.modules)

# Warnings are printed as before.
assert warnings.formatwarning is own

# What was hidden is known again.
import torchmetrics.utilities.imports as known

assert known._TORCHVISION_AVAILABLE

# Versions that ask the compiler for more get it.
from gpsweep.lightning import Trainer, without_compiler

assert "torch._dynamo" not in sys.modules
with without_compiler():
    from torch._dynamo import OptimizedModule

    assert not OptimizedModule.__mro__[1:-1]
    from torch._dynamo import is_compiling

    assert is_compiling() is False

# A network may be compiled nevertheless.
import torch
from torch._dynamo import OptimizedModule, disable

assert OptimizedModule.__mro__[1:-1]
net = torch.compile(torch.nn.Identity(), backend="eager")
assert isinstance(net, OptimizedModule)
assert net(torch.ones(2)).sum() == 2
assert Trainer(logger=False, enable_checkpointing=False, barebones=False)
"""


def test_a_start_is_spared_what_it_does_not_need_and_whoever_asks_for_it_gets_it(tmp_path: Path) -> None:
    script = tmp_path / "started.py"
    script.write_text(STARTED)
    subprocess.run([sys.executable, script], check=True, timeout=120)


def test_it_is_imported_in_one_place() -> None:
    """Where it came in by another way first, it would bring along what is hidden here."""
    wanted = re.compile(r"^ *(?:from|import) (?:pytorch_lightning|lightning_fabric)\b", re.MULTILINE)
    files = Path(gpsweep.__file__).parent.rglob("*.py")
    assert [path.name for path in files if wanted.search(path.read_text("utf-8"))] == ["lightning.py"]
