"""What a device of its own shows without a GPU: that nothing is left on the CPU, and nothing waits."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor
from functools import partial

import apart
import numpy as np
import pytest
from commands import SMALL, Terminal, pictures
from digits import digits, save
from networks import NETWORKS

from gpsweep import results

pytestmark = pytest.mark.skipif(not apart.KNOWN, reason="this PyTorch has no devices written in Python")

LABELS = ["argmax", "random_onehot", "uniform", "top2", "ground_truth"]
SIGNALS = ["eq5", "cross_entropy", "likelihood"]


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[Executor]:
    with apart.process() as process:
        yield process


def test_the_device_refuses_tensors_of_another(elsewhere: Executor) -> None:
    with pytest.raises(
        RuntimeError, match=r"aten::add: a tensor of the CPU beside those of the device apart"
    ):
        elsewhere.submit(apart.mixed).result()


@pytest.mark.parametrize("name", NETWORKS)
def test_all_points_are_those_of_the_cpu(elsewhere: Executor, name: str) -> None:
    grid = {"eps": [0, 1], "label": LABELS, "signal": SIGNALS, "step": ["sign", "rms"]}
    count, difference = elsewhere.submit(apart.points, name, grid).result()
    assert count == 2 * len(LABELS) * len(SIGNALS) * 2 * len(NETWORKS[name][1])
    assert difference < 1e-5


@pytest.mark.parametrize(
    "how", [{"iterations": [1, 2]}, {"points_per_forward": 2}, {"precision": "bf16"}], ids=str
)
def test_so_they_are_in_every_way(elsewhere: Executor, how: dict[str, object]) -> None:
    grid = {"eps": [-1, 0, 1], "label": LABELS} | how
    count, difference = elsewhere.submit(apart.points, "skips", grid).result()
    assert count >= 3 * len(LABELS)
    # Its matrix products are in 32 bits whatever is asked for.
    assert difference < (0.1 if "precision" in how else 1e-5)


@pytest.mark.parametrize(
    "how", [{}, {"iterations": [1, 2]}, {"points_per_forward": 3}, {"layer": "encoder.down.1"}], ids=str
)
def test_no_point_waits(elsewhere: Executor, how: dict[str, object]) -> None:
    labels = [name for name in LABELS if name != "random_onehot"]
    grid = {"eps": [-1, 0, 1], "label": labels, "signal": SIGNALS, "step": ["sign", "rms"]} | how
    assert elsewhere.submit(apart.waits, "skips", grid).result() == []


def test_only_a_random_label_waits_for_its_draws(elsewhere: Executor) -> None:
    grid = {"eps": [-1, 0, 1], "label": "random_onehot"}
    assert elsewhere.submit(apart.waits, "skips", grid).result() == ["aten::copy_"]


@pytest.fixture
def scenes(terminal: Terminal) -> Terminal:
    """A terminal where pictures of several sizes lie, to be segmented."""
    pictures(terminal.folder, count=3, sizes=((12, 16), (16, 12), (9, 9)))
    return terminal


@pytest.fixture
def shown(terminal: Terminal) -> Terminal:
    """A terminal where digits lie, to be classified, and others to learn from."""
    save(digits(0, 60), terminal.folder / "train")
    save(digits(200, 240), terminal.folder / "shown")
    return terminal


SCENES = [*SMALL, "eps=-1,0,1"]
DIGITS = [
    *(
        "data=folder",
        "data.images=shown",
        "+data.train={_target_: gpsweep.data.folder.folder, images: train}",
    ),
    *("model=custom", "model.net=digits.Net", "model.channels=L", "+model.features=hidden"),
    *("model.mean=0", "model.std=1", "model.scale=1"),
    *("label=knn,argmax", "knn.k=3", "eps=-2,2"),
]


@pytest.mark.parametrize(
    ("where", "asked"),
    [
        ("scenes", [*SCENES, "label=argmax,random_onehot", "points_per_forward=2"]),
        ("scenes", [*SCENES, "label=top2,ground_truth", "refine=none,flip,multiscale"]),
        ("scenes", [*SCENES, "layer=input,encoder.stem", "iterations=1,2", "step=sign,rms"]),
        ("shown", DIGITS),
    ],
    ids=["together", "refined", "iterated", "knn"],
)
@pytest.mark.filterwarnings("ignore:data.size. images of several sizes")
def test_a_run_counts_what_it_counts_on_the_cpu(
    elsewhere: Executor, request: pytest.FixtureRequest, where: str, asked: list[str]
) -> None:
    terminal: Terminal = request.getfixturevalue(where)
    code, _, err = terminal("-m", *asked, "hydra.sweep.dir=here")
    assert code == 0, err
    there = elsewhere.submit(apart.command, terminal.folder, "-m", *asked, "hydra.sweep.dir=there")
    assert there.result() == 0
    found = [np.asarray(results.read(terminal.folder / name / "0").counts) for name in ("here", "there")]
    assert found[0].sum() > 0
    assert (found[0] == found[1]).all()


def test_what_is_drawn_after_a_run_is_predicted_there(elsewhere: Executor, scenes: Terminal) -> None:
    asked = [*SCENES, "label=argmax", "hydra.sweep.dir=there"]
    assert elsewhere.submit(partial(apart.command, drawn=True), scenes.folder, "-m", *asked).result() == 0
    assert len([*scenes.folder.glob("there/0/pictures/*.png")]) == 3
