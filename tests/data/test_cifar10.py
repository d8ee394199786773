"""CIFAR-10 in every form it comes in."""

from __future__ import annotations

import io
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gpsweep.data import cifar_batches
from gpsweep.data.base import Source
from gpsweep.data.cifar10 import BATCHES, CLASSES, cifar10
from gpsweep.data.cifar_batches import PIXELS
from gpsweep.errors import GpsweepError

COUNT = 4
NAMES = [name for names in BATCHES.values() for name in names]


def records(number: int) -> tuple[np.ndarray, list[int]]:
    generator = np.random.default_rng(number)
    return generator.integers(0, 256, (COUNT, PIXELS), dtype=np.uint8), generator.integers(
        0, 10, COUNT
    ).tolist()


def python(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        data, labels = records(number)
        (folder / name).write_bytes(pickle.dumps({b"data": data, b"labels": labels}, protocol=2))
    return folder


def binary(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        data, labels = records(number)
        content = np.concatenate([np.array(labels, dtype=np.uint8)[:, None], data], axis=1)
        (folder / f"{name}.bin").write_bytes(content.tobytes())
    return folder


def packed(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    shutil.rmtree(folder)
    return path


def tree(folder: Path, suffix: str = "jpg", side: int = 32, count: int = 2) -> Path:
    for split in BATCHES:
        for place, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                image = Image.new("RGB", (side, side), (20 * place, 100, 20 * number))
                image.save(folder / split / name / f"{number:04d}.{suffix}", quality=95)
    return folder


def zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.*")):
            archive.write(file, file.relative_to(folder))
    shutil.rmtree(folder)
    return path


@pytest.fixture(autouse=True)
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.node.get_closest_marker("data") is None:
        monkeypatch.setattr(cifar_batches, "RECORDS", COUNT)


PUBLISHED: dict[str, Callable[[Path], Path]] = {
    "python folder": lambda top: python(top / "cifar-10-batches-py"),
    "binary folder": lambda top: binary(top / "cifar-10-batches-bin"),
    "python archive": lambda top: packed(python(top / "x"), top / "cifar-10-python.tar.gz"),
    "binary archive": lambda top: packed(binary(top / "x"), top / "cifar-10-binary.tar.gz"),
}


@pytest.mark.parametrize("form", PUBLISHED)
@pytest.mark.parametrize("above", [True, False], ids=["above", "itself"])
def test_all_published_forms_are_one_data_set(tmp_path: Path, form: str, above: bool) -> None:
    place = PUBLISHED[form](tmp_path)
    root = str(tmp_path if above else place)
    test, train = cifar10(root=root), cifar10(root=root, split="train")
    assert (test.name, train.name) == ("cifar10-test", "cifar10-train")
    assert (test.task, test.classes) == ("classification", CLASSES)
    assert (len(test), len(train)) == (COUNT, 5 * COUNT)
    assert train.ids[:2] == ["train/00000", "train/00001"]
    data, labels = records(2)  # data_batch_3
    sample = train[2 * COUNT + 1]
    assert sample["id"] == "train/00009"
    assert sample["target"] == labels[1]
    assert sample["image"].dtype == torch.uint8
    assert np.array_equal(sample["image"].numpy(), data[1].reshape(3, 32, 32))
    assert np.array_equal(test[0]["image"].numpy(), records(5)[0][0].reshape(3, 32, 32))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("archived", [True, False])
def test_pictures_say_what_they_are(tmp_path: Path, suffix: str, archived: bool) -> None:
    folder = tree(tmp_path / "pictures", suffix)
    root = zipped(folder, tmp_path / "cifar10_jpeg.zip") if archived else folder
    source = cifar10(root=str(root), size=16)
    assert source.name == {"jpg": "cifar10-jpeg-test", "png": "cifar10-png-test"}[suffix]
    assert source.ids[:3] == ["test/airplane/0000", "test/automobile/0000", "test/bird/0000"]
    assert [int(source[place]["target"]) for place in range(20)] == [*range(10), *range(10)]
    sample = source[13]
    assert sample["id"] == "test/cat/0001"
    assert sample["image"].shape == (3, 16, 16)
    assert (sample["image"].float().mean(dim=(1, 2)) - torch.tensor([60.0, 100, 20])).abs().max() < 4
    assert len(cifar10(root=str(root), limit=3)) == 3


def test_a_folder_with_the_zip_in_it(tmp_path: Path) -> None:
    zipped(tree(tmp_path / "pictures"), tmp_path / "cifar10_jpeg.zip")
    assert cifar10(root=str(tmp_path), split="train").name == "cifar10-jpeg-train"


@pytest.mark.parametrize("form", PUBLISHED)
def test_limit_and_nonsense(tmp_path: Path, form: str) -> None:
    PUBLISHED[form](tmp_path)
    source = cifar10(root=str(tmp_path), limit=3, size=[8, 9])
    assert len(source) == len(source.ids) == 3
    assert source[0]["image"].shape == (3, 8, 9)
    with pytest.raises(IndexError):
        source[3]
    with pytest.raises(GpsweepError, match=r"data\.limit=0: "):
        cifar10(root=str(tmp_path), limit=0)
    with pytest.raises(GpsweepError, match=r"data\.split=tset: unknown\. Did you mean test\?"):
        cifar10(root=str(tmp_path), split="tset")


def stamped(source: Source) -> str:
    stamp: str = source.stamp()  # type: ignore[attr-defined]
    return stamp


@pytest.mark.parametrize("form", PUBLISHED)
def test_stamps_follow_the_pictures_not_their_place(tmp_path: Path, form: str) -> None:
    (tmp_path / "here").mkdir()
    PUBLISHED[form](tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    here, there = (cifar10(root=str(tmp_path / name)) for name in ("here", "there"))
    assert stamped(here) == stamped(there)
    there.images[0, 0, 0] ^= 1  # type: ignore[attr-defined]
    assert stamped(here) != stamped(there)


def test_what_is_missing_and_where_it_is_published(tmp_path: Path) -> None:
    says = r"expected one of cifar-10-batches-py, .*; published at https://www\.cs\.toronto\.edu/~kriz/cifar\.html$"
    with pytest.raises(GpsweepError, match=rf"^data\.root=nowhere: no such file or folder; {says}"):
        cifar10(root="nowhere")
    with pytest.raises(GpsweepError, match=rf"^data\.root=.*: nothing of CIFAR-10 in it; {says}"):
        cifar10(root=str(tmp_path))


def test_missing_batches_are_named(tmp_path: Path) -> None:
    folder = python(tmp_path / "cifar-10-batches-py")
    for number in (2, 4):
        (folder / f"data_batch_{number}").unlink()
    with pytest.raises(
        GpsweepError, match=r"^data\.root: data_batch_2, data_batch_4 missing in .*-py; expected"
    ):
        cifar10(root=str(tmp_path), split="train")
    shutil.rmtree(folder)
    packed(folder := binary(tmp_path / "x"), tmp_path / "cifar-10-binary.tar.gz")
    shutil.copy(tmp_path / "cifar-10-binary.tar.gz", tmp_path / "other.tar.gz")
    with tarfile.open(tmp_path / "other.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("nothing"), io.BytesIO())
    with pytest.raises(GpsweepError, match=r"^data\.root: test_batch missing in .*other\.tar\.gz"):
        cifar10(root=str(tmp_path / "other.tar.gz"))


@pytest.mark.parametrize("form", PUBLISHED)
def test_files_cut_short(tmp_path: Path, form: str) -> None:
    place = PUBLISHED[form](tmp_path)
    path = place if place.is_file() else next(place.glob("test_batch*"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(GpsweepError, match=r"^data\.root: .*(cannot be read|bytes; expected|missing in)"):
        cifar10(root=str(tmp_path))


def test_other_classes_than_cifar10(tmp_path: Path) -> None:
    folder = tree(tmp_path / "pictures")
    shutil.rmtree(folder / "test" / "truck")
    with pytest.raises(
        GpsweepError, match=r"pictures has 9 classes in test: airplane, .*; expected airplane, "
    ):
        cifar10(root=str(folder))
    (folder / "test" / "airplane" / "0001.jpg").rename(folder / "test" / "lorry.jpg")
    zipped(folder, tmp_path / "a.zip")
    with pytest.raises(GpsweepError, match=r"a\.zip has 9 classes in test"):
        cifar10(root=str(tmp_path / "a.zip"))


def test_pictures_of_another_size(tmp_path: Path) -> None:
    source = cifar10(root=str(zipped(tree(tmp_path / "pictures", side=40), tmp_path / "a.zip")))
    with pytest.raises(
        GpsweepError, match=r"test/airplane/0000 of .*a\.zip has \(40, 40\) pixels; expected 32×32"
    ):
        source[0]


def test_a_broken_picture_in_a_zip(tmp_path: Path) -> None:
    folder = tree(tmp_path / "pictures")
    (folder / "test" / "airplane" / "0000.jpg").write_bytes(b"no picture")
    source = cifar10(root=str(zipped(folder, tmp_path / "a.zip")))
    with pytest.raises(
        GpsweepError, match=r"^data\.root: image .*airplane/0000 does not decode: not a picture"
    ):
        source[0]


@pytest.mark.data
@pytest.mark.parametrize(("split", "count"), [("test", 10000), ("train", 50000)])
def test_real_pictures(data_root: Path, split: str, count: int) -> None:
    source = cifar10(root=str(data_root), split=split)
    assert len(source) == len(set(source.ids)) == count
    assert source.name == f"cifar10-jpeg-{split}"
    drawn = [source[place] for place in range(0, count, count // 200)]
    assert {tuple(sample["image"].shape) for sample in drawn} == {(3, 32, 32)}
    first = [int(source[place]["target"]) for place in range(100)]
    assert first == list(range(10)) * 10
    sky = torch.stack([source[place]["image"].float().mean(dim=(1, 2)) for place in range(0, 1000, 10)]).mean(
        0
    )
    assert sky[2] > sky[0] + 10  # aeroplanes fly in the blue


def test_a_zip_that_a_mac_made(tmp_path: Path) -> None:
    path = zipped(tree(tmp_path / "pictures"), tmp_path / "a.zip")
    plain = cifar10(root=str(path)).ids
    with zipfile.ZipFile(path, "a") as archive:
        for name in ("__MACOSX/test/cat/._0000.jpg", "test/cat/._0000.jpg"):
            archive.writestr(name, b"no picture")
    assert cifar10(root=str(path)).ids == plain
