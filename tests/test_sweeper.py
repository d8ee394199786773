from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

from gpsweep.errors import GpsweepError
from hydra_plugins.gpsweep_sweeper.fused import fuse


def fused(*lines: str) -> list[str]:
    return fuse(OverridesParser.create().parse_overrides(list(lines)))


def test_hydra_finds_the_plugin() -> None:
    names = [plugin.__name__ for plugin in Plugins.instance().discover(Sweeper)]
    assert "FusedSweeper" in names


def test_axes_become_lists_with_exact_decimals_and_the_rest_is_left() -> None:
    got = fused(
        "eps=range(-1,1,0.05)", "label=argmax,uniform", "model=a,b", "data.limit=3", "iterations=range(1,4)"
    )
    decimals = ",".join(str(round(-1 + i / 20, 2) + 0.0) for i in range(40))
    assert got == [
        f"eps=[{decimals}]",
        "label=[argmax,uniform]",
        "model=a,b",
        "data.limit=3",
        "iterations=[1,2,3]",
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("eps=0.5", "eps=0.5"),
        ("eps=[-1,0,1]", "eps=[-1,0,1]"),
        ("eps=-1,0,1", "eps=[-1,0,1]"),
        ("eps=choice(-1,0.5)", "eps=[-1,0.5]"),
        ("eps=range(1,-1,-0.5)", "eps=[1.0,0.5,0.0,-0.5]"),
        ("eps=range(3)", "eps=[0,1,2]"),
        ("eps=[-1,0],[1,2]", "eps=[[-1,0],[1,2]]"),
        ("layer=input,features.3,'odd name'", "layer=[input,features.3,'odd name']"),
        ("layer=input,0", "layer=[input,0]"),
        ("seed=1,2", "seed=1,2"),
    ],
)
def test_forms(line: str, expected: str) -> None:
    assert fused(line) == [expected]


def test_an_interval_has_no_points() -> None:
    with pytest.raises(GpsweepError, match=r"eps=interval\(0,1\): expected points"):
        fused("eps=interval(0,1)")
