"""Refinements: what they ask for, what they refuse, and as axes of a run's grid."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from batches import batch_of
from commands import SMALL, Terminal, pictures
from networks import CLASSES
from torch import nn
from torch.nn import functional
from written import csv_rows

from gpsweep import counting, crf, results
from gpsweep.crf import Crf, refined
from gpsweep.errors import GpsweepError
from gpsweep.points import Point
from gpsweep.refine import Refinement, crf_of, refinement
from gpsweep.views import IDENTITY, View, colours

SCENES = ["data.limit=5", "data.batch_size=2"]
needs_crf = pytest.mark.skipif(find_spec("pydensecrf") is None, reason="pydensecrf2 is not installed")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[list[Point]]:
    """What is really computed: the points of every call."""
    calls: list[list[Point]] = []
    count = counting.count

    def noting(net: Any, batch: Any, points: Any, **options: Any) -> Any:
        calls.append(points)
        return count(net, batch, points, **options)

    monkeypatch.setattr("gpsweep.compute.count", noting)
    return calls


def rows(folder: Path) -> dict[tuple[str, float], list[str]]:
    """Counts' scores by refinement and ε, from every table below a folder."""
    found = {}
    for path in folder.glob("**/results.csv"):
        for row in csv_rows(path):
            found[row["refine"], float(row["eps"])] = [row[key] for key in ("score", "base", "delta_low")]
    return found


def test_the_views_of_a_refinement_begin_with_the_identity() -> None:
    made = refinement(["flip", "multiscale"], task="segmentation", scales=(0.5, 1, 2, 0.5))
    assert made.views("none") == made.views("crf") == [IDENTITY]
    assert made.views("flip") == [IDENTITY, View(mirrored=True)]
    assert made.views("multiscale") == [IDENTITY, View(scale=0.5), View(scale=2)]


def test_several_views_are_scored_by_their_mean_softmax() -> None:
    here, made = batch_of((6, 9), (6, 9)), Refinement(("none", "flip", "multiscale"), scales=(0.5, 2))
    seen = dict.fromkeys(view for name in made.names for view in made.views(name))
    logits = {view: torch.randn(2, CLASSES, *view.of(here)["image"].shape[2:]) for view in seen}
    found = dict(made.scores(made.names, logits, here))
    assert found["none"] is logits[IDENTITY]
    plain, mirrored = (logits[view].softmax(1) for view in (IDENTITY, View(mirrored=True)))
    torch.testing.assert_close(found["flip"], (plain + mirrored.flip(-1)) / 2)
    scaled = [
        functional.interpolate(logits[View(scale=scale)].softmax(1), (6, 9), mode="bilinear")
        for scale in (0.5, 2)
    ]
    torch.testing.assert_close(found["multiscale"], (plain + sum(scaled)) / 3)


def test_only_what_is_asked_for_tells_counts_apart() -> None:
    assert Refinement(("none", "flip"), scales=(2,), crf=Crf(iterations=2)).identity() == {}
    assert Refinement(("multiscale",), scales=(2,)).identity() == {"multiscale": {"scales": [2]}}


@needs_crf
def test_padding_takes_no_part_in_a_crf() -> None:
    here = batch_of((8, 12), (10, 7))
    softmax = torch.rand(2, CLASSES, 10, 12).softmax(1)
    settings = Crf(appearance_xy=5, appearance_rgb=40)
    found = crf_of(softmax, here, settings)
    for place, (height, width) in enumerate([(8, 12), (10, 7)]):
        part = softmax[place, :, :height, :width].numpy()
        alone = refined(colours(here)[place, :height, :width], part, settings)
        np.testing.assert_array_equal(found[place, :, :height, :width], alone)
    assert here["valid"] is not None
    outside = ~here["valid"]
    assert found.movedim(1, -1)[outside].equal(softmax.movedim(1, -1)[outside])


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (
            ["multiscale"],
            {"scales": [0.5, -1]},
            "multiscale.scales=[0.5, -1]: expected numbers above 0, came -1",
        ),
        (
            ["multiscale"],
            {"scales": [1]},
            "multiscale.scales=[1]: expected numbers above 0, came none besides 1",
        ),
        (["crf"], {"crf": Crf(iterations=0)}, "crf.iterations=0: expected a whole number of at least 1"),
        (
            ["crf"],
            {"task": "classification"},
            "refine=crf: expected data for segmentation, came classification",
        ),
    ],
)
def test_mistakes_name_the_key(names: list[str], options: dict[str, Any], message: str) -> None:
    with pytest.raises(GpsweepError) as caught:
        refinement(names, **({"task": "segmentation"} | options))
    assert str(caught.value).startswith(message)
    refinement(["none"], **({"task": "segmentation"} | options))  # what is not asked for is not checked


def test_a_network_of_one_size_is_told_from_the_first_sample() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 9 * 15, CLASSES)).eval()
    here = batch_of((9, 15))
    with pytest.raises(
        GpsweepError, match="refine=multiscale: the network fails on the first sample at 7 × 11"
    ):
        Refinement(("none", "flip", "multiscale")).check(net, here, ["input"], {})
    Refinement(("none", "flip")).check(net, here, ["input"], {})


def test_flips_are_an_axis_of_a_run_and_resume(terminal: Terminal, counted: list[list[Point]]) -> None:
    eps = "eps=-0.5,0,0.5"
    assert terminal("-m", *SCENES, eps, "hydra.sweep.dir=first")[0] == 0
    counted.clear()
    code, _, err = terminal("-m", *SCENES, eps, "refine=none,flip", "hydra.sweep.dir=both")
    assert code == 0
    assert "9 of 18 points × batches are stored" in err
    assert counted == [[Point(eps=e, refine="flip") for e in (-0.5, 0.0, 0.5)]] * 3
    both = rows(Path("both"))
    assert {key: value for key, value in both.items() if key[0] == "none"} == rows(Path("first"))
    assert both["flip", 0.0] != both["none", 0.0]

    single = ["hydra/sweeper=basic", "hydra.sweep.dir=basic", "store=other"]
    assert terminal("-m", *SCENES, "eps=0.5", "refine=none,flip", *single)[0] == 0
    assert rows(Path("basic")) == {key: value for key, value in both.items() if key[1] == 0.5}
    assert len(list(Path("basic").glob("*/results.csv"))) == 2
    counted.clear()
    assert terminal(*SCENES, "eps=[-0.5,0.5]", "refine=flip", "hydra.run.dir=again")[0] == 0
    assert not counted
    assert results.read(Path("again")).points == [Point(eps=e, refine="flip") for e in (-0.5, 0.5)]


@needs_crf
def test_parameters_of_a_refinement_that_is_run_ask_for_new_counts(
    terminal: Terminal, counted: list[list[Point]]
) -> None:
    pictures(terminal.folder, count=2)
    run = [*SMALL, "eps=[0,30]", "refine=[none,crf,multiscale]"]
    for change in ("progress=false", "crf.appearance_rgb=20", "multiscale.scales=[0.5]"):
        assert terminal(*run, change)[0] == 0
        assert len(counted) == 1
        counted.clear()
    assert terminal(*run)[0] == 0
    assert not counted


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crf, "PACKAGE", "no-such-package")
    with pytest.raises(GpsweepError, match=r"pip install '\.\[crf\]' in the checkout"):
        refinement(["crf"], task="segmentation")
    refinement(["flip"], task="segmentation")
