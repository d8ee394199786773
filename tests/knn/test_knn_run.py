"""The command with label=knn: plain k-NN stands beside it, however the run came about."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from commands import Terminal
from digits import Net, digits, save, wrapped

from gpsweep import results
from gpsweep.data.folder import folder
from gpsweep.report.__main__ import main as report

TRAINED_ON, SHOWN = 60, 40
K = 3
DATA = [
    "data=folder",
    "data.images=shown",
    "+data.train={_target_: gpsweep.data.folder.folder, images: train}",
    "data.batch_size=16",
    "knn.k=3",
]
NET = [
    "model=custom",
    "model.net=test_knn_net.net",
    "model.channels=L",
    "model.mean=0",
    "model.std=1",
    "model.scale=1",
    "+model.features=hidden",
]
RUN = [*DATA, *NET, "label=[argmax,knn]", "eps=[-2,2]"]


def net() -> Net:
    torch.manual_seed(5)
    return Net()


@pytest.fixture
def shown(terminal: Terminal) -> Terminal:
    """A terminal where handwritten digits lie in a folder a class, and others to learn from beside them."""
    save(digits(0, TRAINED_ON), terminal.folder / "train")
    save(digits(200, 200 + SHOWN), terminal.folder / "shown")
    terminal.patch.setitem(sys.modules, "test_knn_net", ModuleType("test_knn_net"))
    terminal.patch.setattr(sys.modules["test_knn_net"], "net", net, raising=False)
    return terminal


def by_hand() -> float:
    """Return the accuracy of plain k-NN in the features, by sorting all distances."""
    inner = wrapped(net(), mean=0, std=1, scale=1)
    caught: list[torch.Tensor] = []
    inner.net.hidden.register_forward_hook(lambda module, inputs, output: caught.append(output))
    train, test = digits(0, TRAINED_ON), digits(200, 200 + SHOWN)
    with torch.no_grad():
        inner(train.images.float())
        inner(test.images.float())
    known, asked = caught
    nearest = torch.cdist(asked.double(), known.double()).argsort(dim=1)[:, :K]
    votes = train.targets[nearest]
    counted = torch.stack([(votes == c).sum(1) for c in range(10)], 1)
    # Of several classes with as many votes, the nearest one's is taken.
    best = [next(c for c in own.tolist() if n[c] == n.max()) for own, n in zip(votes, counted, strict=True)]
    return 100 * float((torch.tensor(best) == test.targets).float().mean())


def summary(folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / "summary.json").read_text())["knn"]
    return found


def test_plain_k_nn_stands_beside_it(shown: Terminal) -> None:
    code, out, err = shown(*RUN, "hydra.run.dir=run")
    assert code == 0, err
    expected = by_hand()
    assert 20 < expected < 100
    assert summary("run") == {
        "accuracy": pytest.approx(expected),
        "k": K,
        "weights": "equal",
        "features": "hidden",
        "training_images": TRAINED_ON,
    }
    assert f"plain k-NN {expected:.2f}" in out
    # A finished run, one with more points, and one whose report is made again say the same.
    code, out, err = shown(*RUN, "hydra.run.dir=again")
    assert "0 to go" in err
    assert f"plain k-NN {expected:.2f}" in out
    assert shown(*RUN, "eps=[-2,1,2]", "hydra.run.dir=more")[0] == 0
    assert summary("again") == summary("more") == summary("run")
    assert results.read(Path("more")).info["knn"]["accuracy"] == pytest.approx(expected)


def test_shards_put_together_by_a_report(shown: Terminal, capsys: pytest.CaptureFixture[str]) -> None:
    for shard in (1, 0):
        assert shown(*RUN, "shards=2", f"shard={shard}", f"hydra.run.dir=shard{shard}")[0] == 0
    assert summary("shard0")["accuracy"] == pytest.approx(by_hand())
    assert report(["shard1"]) == 0
    capsys.readouterr()
    assert summary("shard1") == summary("shard0")


def test_without_label_knn_nothing_is_said_of_it(shown: Terminal) -> None:
    code, out, err = shown(*RUN, "label=argmax", "hydra.run.dir=run")
    assert code == 0, err
    assert "k-NN" not in out
    assert json.loads(Path("run/summary.json").read_text())["knn"] is None


def test_training_images_may_be_named_by_what_returns_them_alone(shown: Terminal) -> None:
    train = partial(folder, images=str(shown.folder / "train"))
    shown.patch.setattr(sys.modules["test_knn_net"], "train", train, raising=False)
    assert shown(*RUN, "~data.train", "+data.train=test_knn_net.train", "hydra.run.dir=run")[0] == 0
    assert summary("run")["accuracy"] == pytest.approx(by_hand())


def test_a_key_of_the_training_images_is_named_as_theirs(shown: Terminal) -> None:
    code, _, err = shown(*RUN, "data.train.images=absent", "hydra.run.dir=run")
    assert code == 1
    assert err.startswith("gpsweep: data.train.images=absent: no such folder; ")
    code, _, err = shown(*RUN, "data.images=absent", "hydra.run.dir=run")
    assert code == 1
    assert err.startswith("gpsweep: data.images=absent: no such folder; ")


def test_training_images_of_other_classes_are_refused(shown: Terminal) -> None:
    """A class that is missing would give the numbers behind it another meaning."""
    for path in (shown.folder / "train" / "3").iterdir():
        path.unlink()
    empty = shown(*RUN, "hydra.run.dir=run")
    assert empty[0] == 0, "a class without training images is no neighbour's, and no more: " + empty[2]
    (shown.folder / "train" / "3").rmdir()
    code, _, err = shown(*RUN)
    assert code != 0
    assert "Traceback" not in err
    assert "data.train: its classes are 0, 1, 2, 4, " in err
    assert "those of data=folder-shown 0, 1, 2, 3, " in err
    assert "expected the same in the same order" in err


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.features=hiden", "model.features=hiden: unknown. Did you mean hidden"),
        ("model.features=5", "model.features=5: unknown."),
        ("model.features=null", "model.features: label=knn expects the layer"),
        (
            "data.train=null",
            "data.train: label=knn expects training images to find neighbours among, came none",
        ),
        ("data.train=3", "data.train: expected the dotted name of what returns training images"),
        ("data.train=builtins.dict", "data.train: expected data with name, task, classes, ids"),
        ("knn.k=61", "knn.k=61: expected a whole number from 1 to 60"),
        ("knn.cache=/dev/null/kept", "knn.cache=/dev/null/kept: expected a folder that can be written"),
        ("knn.weights=equa", "knn.weights=equa: unknown. Did you mean equal?"),
        ("model.class_map={0: 0}", "model.class_map: label=knn guides by the classes of data.train"),
    ],
)
def test_mistakes(shown: Terminal, override: str, message: str) -> None:
    code, _, err = shown(*RUN, override)
    assert code != 0
    assert "Traceback" not in err
    assert message in err
