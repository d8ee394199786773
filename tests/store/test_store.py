"""The store by itself: what is put in comes out whole, merged and in order, whatever befalls its files."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from gpsweep.atomic import DAMAGED, TEMPORARY
from gpsweep.cache import Cache
from gpsweep.counts import Counts
from gpsweep.errors import GpsweepError
from gpsweep.points import Point, grid
from gpsweep.store import SUFFIX, Chunk, Store
from gpsweep.store.__main__ import main

POINTS = grid(label=["argmax", "uniform"], eps=[-1, 0, 1]).points()
MORE = grid(label=["argmax", "uniform"], eps=[-1, 0, 1, 2]).points()
SAMPLES, SIZE, CLASSES = 10, 4, 3
IDENTITY = {
    "data": {"samples": SAMPLES, "task": "segmentation", "classes": ["a", "b", "c"]},
    "batch_size": SIZE,
}


def dense(points: list[Point]) -> np.ndarray:
    """Counts that say which point and image they are of."""
    seeds = [crc32(repr(point).encode()) for point in points]
    rows = [np.random.default_rng(seed).integers(0, 300, (SAMPLES, CLASSES, 3)) for seed in seeds]
    return np.array(rows)


def chunk(batch: int, points: list[Point]) -> Chunk:
    images = slice(batch * SIZE, min((batch + 1) * SIZE, SAMPLES))
    return Chunk(
        batch=batch,
        ids=[f"image{i}" for i in range(SAMPLES)[images]],
        points=points,
        counts=Counts.of(dense(points)[:, images]),
        base=dense([Point()])[0, images],
        seconds=[0.5] * len(points),
        shared=1.0,
        content=f"content {batch}",
        device="cpu",
        points_per_forward=1,
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "store", IDENTITY)
    store.describe({"model": "unet", "dataset": "photos"})
    return store


def filled(store: Store, points: list[Point] = POINTS) -> Store:
    for batch in range(store.batches):
        store.put(chunk(batch, points))
    return store


def test_what_is_put_in_comes_out(store: Store) -> None:
    assert store.batches == 3
    assert store.missing(POINTS, range(3)) == dict.fromkeys(range(3), POINTS)
    filled(store)
    assert store.missing(POINTS, range(3)) == {}
    merged = store.merge(POINTS)
    np.testing.assert_array_equal(merged.counts, dense(POINTS))
    np.testing.assert_array_equal(merged.base, dense([Point()])[0])
    assert merged.ids == [f"image{i}" for i in range(SAMPLES)]
    assert (merged.seconds, merged.shared, merged.devices) == ([1.5] * 6, 3.0, ["cpu"])


def test_more_points_are_all_that_is_missing(store: Store) -> None:
    filled(store)
    new = [point for point in MORE if point not in POINTS]
    assert store.missing(MORE, range(3)) == dict.fromkeys(range(3), new)
    for batch in range(3):
        store.put(chunk(batch, new))
    assert store.missing(MORE, range(3)) == {}
    np.testing.assert_array_equal(store.merge(MORE).counts, dense(MORE))
    some = MORE[::-2]
    np.testing.assert_array_equal(store.merge(some).counts, dense(some))


def test_another_identity_has_another_folder(tmp_path: Path) -> None:
    keys = {Store(tmp_path, IDENTITY | {"seed": seed}).key for seed in (0, 1)}
    assert len(keys) == 2


def test_a_store_is_found_again(store: Store) -> None:
    assert Store.at(store.folder).identity == IDENTITY
    text = (store.folder / "identity.json").read_text()
    (store.folder / "identity.json").write_text(text.replace('"batch_size": 4', '"batch_size": 5'))
    with pytest.raises(GpsweepError, match="expected the identity"):
        Store.at(store.folder)
    store.describe({})
    assert Store.at(store.folder).identity == IDENTITY, "the same command mends it"


@pytest.mark.parametrize("harm", ["short", "empty", "flipped", "foreign"])
def test_a_damaged_file_is_named_and_set_aside(store: Store, harm: str) -> None:
    path = filled(store).put(chunk(1, POINTS))
    content = bytearray(path.read_bytes())
    if harm == "flipped":
        content[len(content) // 2] ^= 0x10
    path.write_bytes({"short": content[:-7], "empty": b"", "foreign": b"PK\3\4" + content}.get(harm, content))
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged .*set aside"):
        assert store.missing(POINTS, range(3)) == {1: POINTS}
    assert not path.exists()
    assert path.with_name(path.name + DAMAGED).exists()
    store.put(chunk(1, POINTS))
    np.testing.assert_array_equal(store.merge(POINTS).counts, dense(POINTS))


def test_every_flipped_byte_is_noticed(store: Store) -> None:
    path = store.put(chunk(0, POINTS))
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(len(content), size=40):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.warns(UserWarning, match="damaged"):
            assert 0 in store.missing(POINTS, [0])


def test_an_incomplete_run_is_not_merged(store: Store) -> None:
    store.put(chunk(0, POINTS))
    with pytest.raises(GpsweepError, match=r"2 of 3 batches are not complete \(1, 2\)"):
        store.merge(POINTS)


def test_data_that_changed_under_the_same_names_are_noticed(store: Store) -> None:
    filled(store)
    new = [point for point in MORE if point not in POINTS]
    for batch in range(3):
        store.put(replace(chunk(batch, new), content="others"))
    with pytest.raises(GpsweepError, match=r"batch 0 \(image0, …\) have changed.*fresh=true"):
        store.merge(MORE)


@pytest.mark.parametrize("links", [True, False])
def test_all_follow_the_first_to_settle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    def late(self: Path, target: Path) -> None:
        raise PermissionError("no links here")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", late)
    first, second = (Store(tmp_path, IDENTITY) for _ in range(2))
    # The second one is done while the first one still measures.
    assert first.settle(lambda: second.settle(lambda: 4) + 3) == 4
    assert Store(tmp_path, IDENTITY).settle(lambda: pytest.fail("settled already")) == 4
    assert Store(tmp_path, IDENTITY | {"seed": 1}).settle(lambda: 5) == 5
    assert [path.name for path in first.folder.iterdir()] == ["points_per_forward"]


@pytest.mark.parametrize("harm", [b"", b"\0\0\0", b"4x"])
def test_a_damaged_number_is_measured_again(store: Store, harm: bytes) -> None:
    store.settle(lambda: 4)
    (store.folder / "points_per_forward").write_bytes(harm)
    assert store.settle(lambda: 6) == 6
    assert store.settle(lambda: 7) == 6


def test_ls_and_gc(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    root = filled(store).folder.parent
    assert main(["ls", str(root)]) == 0
    shown = capsys.readouterr().out
    for word in (store.key, "unet", "photos", "3 of 3"):
        assert word in shown
    leftover, writing = (store.folder / f"{TEMPORARY}{name}" for name in ("old", "new"))
    damaged = store.folder / f"000001-x{SUFFIX}{DAMAGED}"
    for path in (leftover, writing, damaged):
        path.write_bytes(b"1234")
    os.utime(leftover, (0, 0))
    assert main(["gc", str(root), "--dry-run"]) == 0
    assert leftover.exists()
    assert main(["gc", str(root)]) == 0
    assert (leftover.exists(), writing.exists(), damaged.exists()) == (False, True, False)
    assert store.missing(POINTS, range(3)) == {}
    assert main(["gc", str(root), "--key", "nothing"]) == 1
    assert "expected a key that ls shows" in capsys.readouterr().err
    assert main(["gc", str(root), "--older", "1"]) == 0
    assert store.folder.exists()
    assert main(["gc", str(root), "--key", store.key]) == 0
    assert not store.folder.exists()


@pytest.mark.parametrize("days", ["-1", "nan"])
def test_gc_takes_no_time_that_is_none(store: Store, days: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gc", str(filled(store).folder.parent), "--older", days]) == 1
    assert capsys.readouterr().err == f"gpsweep: --older {days}: expected days, 0 or more\n"
    assert store.folder.exists()


def test_gc_sees_predictions_that_are_being_written(store: Store) -> None:
    root = filled(store).folder.parent
    for path in [*store.folder.glob("*"), store.folder]:
        os.utime(path, (0, 0))
    spool = store.folder / "predictions" / "argmax"
    spool.mkdir(parents=True)
    (spool / "a.png").write_bytes(b"1234")
    os.utime(store.folder, (0, 0))
    assert main(["gc", str(root), "--older", "1"]) == 0
    assert store.folder.exists()
    for path in [*spool.rglob("*"), spool, spool.parent, store.folder]:
        os.utime(path, (0, 0))
    assert main(["gc", str(root), "--older", "1"]) == 0
    assert not store.folder.exists()


@pytest.mark.parametrize("command", [["ls"], ["gc"], ["gc", "--older", "1"]])
def test_a_run_may_go_on_meanwhile(store: Store, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """It renames what it has written, and sets aside what is damaged, after it was listed here."""
    root = filled(store).folder.parent
    names = f"{TEMPORARY}a", f"000000-x{SUFFIX}", f"000000-x{SUFFIX}{DAMAGED}"
    passing = [store.folder / name for name in names]
    for path in passing:
        path.write_bytes(b"1234")
    look = Path.stat

    def gone(path: Path, **options: bool) -> os.stat_result:
        if path in passing:
            path.unlink(missing_ok=True)
        return look(path, **options)

    monkeypatch.setattr(Path, "stat", gone)
    assert main([command[0], str(root), *command[1:]]) == 0
    assert store.missing(POINTS, range(3)) == {}


def test_gc_leaves_a_run_alone_that_has_not_stored_anything_yet(store: Store) -> None:
    assert main(["gc", str(store.folder.parent), "--older", "1"]) == 0
    assert store.folder.exists()


def test_gc_finds_what_was_left_of_predictions(store: Store) -> None:
    root = filled(store).folder.parent
    spool = store.folder / "predictions" / "argmax"
    spool.mkdir(parents=True)
    for name in (f"{TEMPORARY}a", "a.png"):
        (spool / name).write_bytes(b"1234")
        os.utime(spool / name, (0, 0))
    assert main(["gc", str(root)]) == 0
    assert [path.name for path in spool.iterdir()] == ["a.png"]


def test_what_knn_keeps_is_listed_and_may_go(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    root = filled(store).folder.parent
    Cache(root / "knn").write("features", {"of": "a network"}, {"features": np.zeros(1000)})
    assert main(["ls", str(root)]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("knn ")]
    assert "training images of label=knn" in line
    assert re.search(r" 1  8\.\d kB ", line)
    assert main(["gc", str(root), "--key", "knn"]) == 0
    assert re.fullmatch(rf"{root}/knn: 8\.\d kB\nfreed 8\.\d kB\n", capsys.readouterr().out)
    assert not (root / "knn").exists()
    assert store.missing(POINTS, range(3)) == {}


def test_what_a_removal_that_was_broken_off_has_left_may_go_as_well(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    root = filled(store).folder.parent
    (store.folder / "identity.json").unlink()
    assert main(["ls", str(root)]) == 0
    assert store.key in capsys.readouterr().out
    assert main(["gc", str(root), "--key", store.key]) == 0
    assert not store.folder.exists()


def test_what_cannot_be_removed_is_named_and_keeps_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where a colleague's runs lie in the same store."""
    root = filled(store).folder.parent
    other = Store(root, IDENTITY | {"batch_size": 5})
    other.describe({"model": "fcn", "dataset": "photos"})
    theirs = {path.name for path in store.folder.glob("*.counts")}
    unlink = os.unlink

    def refuse(path: str, **how: int) -> None:
        if Path(path).name in theirs:
            raise PermissionError(13, "Permission denied", path)  # of a file the name alone, as it is asked
        unlink(path, **how)

    monkeypatch.setattr(os, "unlink", refuse)
    assert main(["gc", str(root), "--key", store.key, "--key", other.key]) == 1
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("freed ")
    says = re.escape(
        f"1 of 2 could not be removed; the first: {store.folder}: [Errno 13] Permission denied: "
    )
    named = re.search(rf"{says}'(?:.*/)?(.+)'", err)
    assert named and named[1] in theirs
    assert store.folder.exists()
    assert not other.folder.exists()


def test_ls_shows_what_an_identity_tells_nothing_about(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    store.describe({})
    path = store.folder / "identity.json"
    content = json.loads(path.read_text())
    del content["about"]
    path.write_text(json.dumps(content))
    assert main(["ls", str(store.folder.parent)]) == 0
    assert store.key in capsys.readouterr().out


def test_ls_looks_where_runs_store(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GPSWEEP_STORE", str(filled(store).folder.parent))
    assert main(["ls"]) == 0
    assert store.key in capsys.readouterr().out


def test_ls_says_where_there_is_no_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", str(tmp_path)]) == 1
    assert "expected a store" in capsys.readouterr().err


def test_the_identity_is_json_for_people(store: Store) -> None:
    content = json.loads((store.folder / "identity.json").read_text())
    assert content["about"] == {"model": "unet", "dataset": "photos"}
