from __future__ import annotations

import subprocess
import sys

import pytest

import gpsweep


def test_the_engine_and_results_are_there_without_another_import() -> None:
    assert callable(gpsweep.engine.curve)
    assert callable(gpsweep.results.load)
    assert gpsweep.__version__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = gpsweep.nothing


def test_the_engine_needs_neither_hydra_nor_lightning_and_importing_the_package_no_torch() -> None:
    code = (
        "import sys, gpsweep; assert 'torch' not in sys.modules; gpsweep.engine; "
        "heavy = {'hydra', 'pytorch_lightning', 'omegaconf', 'torchvision', 'matplotlib'}; "
        "assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
