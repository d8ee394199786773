"""Images without truth: predictions for the evaluation server in place of scores."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Terminal
from PIL import Image

from gpsweep.engine import curve
from gpsweep.errors import GpsweepError
from gpsweep.models.pixels import PixelNet
from gpsweep.points import Point, grid
from gpsweep.predict import Predictions, Spool, file_name, wanted
from gpsweep.submission import FOLDER

pytestmark = pytest.mark.filterwarnings("ignore:data.size. images of several sizes")

SIZES = {"2008_000001": (10, 12), "2008_000002": (8, 15), "2008_000003": (10, 12)}
NET = ["model=custom", "model.net=test_predict_nets.net", "model.mean=0", "model.std=1", "model.scale=1"]
VOC = ["data=voc", "data.root=VOCdevkit", "data.split=test", "data.batch_size=2"]
AXES = ["eps=[-8,0,8]", "label=[argmax,uniform]"]

NETS = """
import torch

def net():
    torch.manual_seed(0)
    stem = torch.nn.Conv2d(3, 8, 3, padding=1)
    return torch.nn.Sequential(stem, torch.nn.ReLU(), torch.nn.Conv2d(8, 21, 1)).eval()
"""


@pytest.fixture
def voc(terminal: Terminal) -> Terminal:
    """A terminal where three images of VOC's test set lie, of two sizes and without masks."""
    base = terminal.folder / "VOCdevkit" / "VOC2012"
    generator = np.random.default_rng(0)
    for name, size in SIZES.items():
        path = base / "JPEGImages" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    lists = base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "test.txt").write_text("\n".join(SIZES))
    (terminal.folder / "test_predict_nets.py").write_text(NETS)
    terminal.patch.syspath_prepend(str(terminal.folder))
    return terminal


def pictures(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            assert member.name.startswith(f"{FOLDER}/")
            file = archive.extractfile(member)
            assert file is not None
            found[Path(member.name).stem] = np.asarray(Image.open(io.BytesIO(file.read())))
    return found


def by_hand(voc: Terminal, name: str, eps: float, label: str) -> np.ndarray:
    space: dict[str, object] = {}
    exec(NETS, space)
    net = PixelNet(space["net"](), mean=0, std=1, scale=1).eval()  # type: ignore[operator]
    image = np.array(Image.open(voc.folder / "VOCdevkit/VOC2012/JPEGImages" / f"{name}.jpg"))
    x = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    [(_, z)] = curve(net, x, eps, label)
    return z[0].argmax(0).numpy()


def test_an_archive_for_each_point_and_the_base(voc: Terminal) -> None:
    code, out, err = voc(*VOC, *NET, *AXES, "hydra.run.dir=run", "data.batch_size=1")
    assert code == 0, err
    assert "voc-test has no masks: predictions for its evaluation server are written" in err
    names = ["base", "argmax-eps-8", "argmax-eps8", "uniform-eps-8", "uniform-eps8"]
    assert sorted(path.name for path in Path("run").glob("*.tgz")) == sorted(
        f"submission-{name}.tgz" for name in names
    )
    for name in names:
        assert f"run/submission-{name}.tgz" in out
        label, _, eps = name.partition("-eps")
        found = pictures(Path("run") / f"submission-{name}.tgz")
        assert list(found) == list(SIZES)
        for image, size in SIZES.items():
            assert found[image].shape == size
            expected = by_hand(voc, image, float(eps or 0), "argmax" if label == "base" else label)
            np.testing.assert_array_equal(found[image], expected)
    base, moved = (pictures(Path("run") / f"submission-{name}.tgz") for name in ("base", "argmax-eps8"))
    assert any((base[image] != moved[image]).any() for image in SIZES)
    assert not voc.results()


def test_padding_is_cut_off_and_a_refinement_is_a_point(voc: Terminal) -> None:
    code, _, err = voc(*VOC, *NET, "eps=[0,8]", "refine=[none,flip]", "hydra.run.dir=run")
    assert code == 0, err
    names = {path.name for path in Path("run").glob("*.tgz")}
    assert names == {
        f"submission-{name}.tgz"
        for name in ("base", "argmax-refine=none-eps8", "argmax-refine=flip-eps0", "argmax-refine=flip-eps8")
    }
    for name in names:
        assert {image: each.shape for image, each in pictures(Path("run") / name).items()} == SIZES


def test_shards_and_runs_that_go_on(voc: Terminal) -> None:
    code, out, err = voc(*VOC, *NET, "eps=8", "shards=2", "shard=0", "hydra.run.dir=first")
    assert code == 0
    assert "1 of 2 batches are left to others" in err
    assert not list(Path("first").glob("*.tgz"))
    code, out, err = voc(*VOC, *NET, "eps=8", "shards=2", "shard=1", "hydra.run.dir=second")
    assert "second/submission-argmax-eps8.tgz" in out
    code, out, err = voc(*VOC, *NET, "eps=[8,4]", "hydra.run.dir=third")
    assert "4 of 6 points × batches are stored" in err
    assert len(list(Path("third").glob("*.tgz"))) == 3
    for name in ("base", "argmax-eps8"):
        second, third = (Path(run) / f"submission-{name}.tgz" for run in ("second", "third"))
        assert second.read_bytes() == third.read_bytes()


def test_a_network_of_other_classes(voc: Terminal) -> None:
    code, _, err = voc(
        *VOC, *NET, "eps=8", f"model.class_map={ {n: 20 - n for n in range(21)} }", "hydra.run.dir=run"
    )
    assert code == 0, err
    turned = pictures(Path("run/submission-base.tgz"))
    for image, shown in turned.items():
        np.testing.assert_array_equal(20 - shown, by_hand(voc, image, 0.0, "argmax"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("select=half", "select=half: voc-test has no masks to choose ε by; expected none"),
        ("label=[argmax,ground_truth]", "label=ground_truth: voc-test has no masks; expected another label"),
        ("data.size=32", "data.size=32: predictions are to have the images' own sizes; expected null"),
        (
            f"model.class_map={ {n: 'null' if n == 3 else n for n in range(21)} }".replace("'", ""),
            "model.class_map: a prediction has to name a class of the data; expected no null",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(voc: Terminal, override: str, message: str) -> None:
    code, _, err = voc(*VOC, *NET, "eps=8", override)
    assert code != 0
    assert message in err
    assert "Traceback" not in err
    assert not list(voc.folder.glob("outputs/**/*.tgz"))


def test_a_tracker_gets_nothing(voc: Terminal) -> None:
    code, out, err = voc(*VOC, *NET, "eps=8", "tracker=csv", "hydra.run.dir=run")
    assert code == 0, err
    assert "there are no scores for a tracker" in err
    assert "submission-base.tgz" in out


def test_names_say_what_tells_points_apart() -> None:
    one = grid(eps=[0.7])
    assert file_name(Point(eps=0.7), one) == "submission-argmax-eps0.7.tgz"
    assert file_name(Point("top2"), one) == "submission-base.tgz"
    several = grid(layer=["input", "a.b/c"], iterations=2, eps=[-1])
    names = [file_name(point, several) for point in several.points()]
    assert names[-1] == "submission-argmax-layer=a.b-c-iterations=2-eps-1.tgz"
    assert len({*names}) == 4


def test_the_clean_prediction_is_wanted_once() -> None:
    points = grid(label=["uniform", "top2"], iterations=2, eps=[0, 1]).points()
    first, *others = wanted(points)
    assert first == Point("uniform")
    assert others == [point for point in points if point.eps]


def test_the_spool_knows_what_is_there(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", ["a", "b", "c"], 2)
    points = [Point(), Point(eps=1.0)]
    assert spool.missing(points) == {0: points, 1: points}
    spool.put(Predictions(["a", "b"], {point: [b"1", b"2"] for point in points}))
    spool.put(Predictions(["c"], {points[0]: [b"3"]}))
    assert spool.missing(points) == {1: [points[1]]}
    assert spool.missing(points, [0]) == {}
    spool.submit(points[0], tmp_path / "x.tgz")
    with tarfile.open(tmp_path / "x.tgz", "r:gz") as archive:
        assert [Path(name).stem for name in archive.getnames()] == ["a", "b", "c"]
    with pytest.raises(GpsweepError, match=r"^store: .*c\.png cannot be read"):
        spool.submit(points[1], tmp_path / "y.tgz")
    assert not (tmp_path / "y.tgz").exists()
    spool.discard(points[1:])
    assert spool.missing(points) == {0: [points[1]], 1: [points[1]]}
