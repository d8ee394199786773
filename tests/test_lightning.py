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


def test_a_start_is_spared_what_it_does_not_need_and_a_network_may_be_compiled_nevertheless() -> None:
    code = (
        "import sys, gpsweep.run; "
        "unwanted = {'torchvision', 'matplotlib', 'scipy.signal', 'pandas', 'timm', 'sklearn'}; "
        "unwanted.add('torch._dynamo'); "
        "found = unwanted & set(sys.modules); "
        "assert not found, found; "
        "import torchmetrics.utilities.imports as i; assert i._TORCHVISION_AVAILABLE; "
        "import gpsweep.lightning, torch; from torch._dynamo import OptimizedModule, disable; "
        "assert isinstance(torch.compile(torch.nn.Identity(), backend='eager'), OptimizedModule); "
        "net = torch.compile(torch.nn.Identity(), backend='eager'); assert net(torch.ones(2)).sum() == 2; "
        "assert gpsweep.lightning.Trainer(logger=False, enable_checkpointing=False, barebones=False)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_it_is_imported_in_one_place() -> None:
    """Where it came in by another way first, it would bring along what is hidden here."""
    wanted = re.compile(r"^ *(?:from|import) (?:pytorch_lightning|lightning_fabric)\b", re.MULTILINE)
    files = Path(gpsweep.__file__).parent.rglob("*.py")
    assert [path.name for path in files if wanted.search(path.read_text("utf-8"))] == ["lightning.py"]


def test_warnings_are_printed_as_before() -> None:
    code = (
        "import warnings\n"
        "own = warnings.formatwarning = lambda *_: 'gpsweep: so'\n"
        "import gpsweep.lightning\n"
        "assert warnings.formatwarning is own\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_versions_that_ask_the_compiler_for_more_get_it() -> None:
    code = (
        "import sys, gpsweep.lightning as own\n"
        "with own.without_compiler():\n"
        "    from torch._dynamo import OptimizedModule; assert not OptimizedModule.__mro__[1:-1]\n"
        "    from torch._dynamo import is_compiling; assert is_compiling() is False\n"
        "from torch._dynamo import OptimizedModule; assert OptimizedModule.__mro__[1:-1]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
