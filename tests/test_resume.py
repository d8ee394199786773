"""A run that goes on: from another run's counts, in shards, and never from what no longer holds."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from shutil import copytree, rmtree
from typing import Any

import numpy as np
import pytest
from commands import SMALL, Terminal, pictures, same
from hydra import compose, initialize_config_dir
from PIL import Image

from gpsweep import config, counting, memory, record
from gpsweep.errors import GpsweepError
from gpsweep.record import OUTPUTS
from gpsweep.report.__main__ import main as report
from gpsweep.results.outcome import Outcome
from gpsweep.run import run as evaluate
from gpsweep.store import Store, chunk
from gpsweep.store.__main__ import main as store
from gpsweep.store.chunk import Chunk
from gpsweep.track import main as track

AXES = ["eps=range(-1,1,0.5)", "label=argmax,random_onehot"]


def unfinished(*folders: Path) -> None:
    """Leave folders as runs do that have not written the results."""
    for path in (folder / name for folder in folders for name in OUTPUTS):
        path.unlink(missing_ok=True)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What is really computed: the batch and the number of points of every call."""
    calls: list[tuple[int, int]] = []
    count = counting.count

    def noting(net: Any, batch: Any, points: Any, **options: Any) -> Any:
        calls.append((options["number"], len(points)))
        return count(net, batch, points, **options)

    monkeypatch.setattr("gpsweep.compute.count", noting)
    return calls


def undisturbed(terminal: Terminal, *more: str) -> Path:
    assert terminal("-m", *SMALL, *AXES, *more, "store=undisturbed", "hydra.sweep.dir=whole")[0] == 0
    return terminal.folder / "whole" / "0"


def test_a_finished_run_computes_nothing(terminal: Terminal, counted: list[tuple[int, int]]) -> None:
    pictures(terminal.folder)
    assert terminal("-m", *SMALL, *AXES, "hydra.sweep.dir=first")[0] == 0
    assert counted == [(0, 8), (1, 8), (2, 8)]
    code, _, err = terminal("-m", *SMALL, *AXES, "hydra.sweep.dir=second")
    assert code == 0
    assert "24 of 24 points × batches are stored" in err
    assert len(counted) == 3
    same(Path("first/0"), Path("second/0"))
    terminal("-m", *SMALL, *AXES, "hydra.sweep.dir=third", "fresh=true")
    assert len(counted) == 6


def test_a_store_may_lie_in_the_home_folder(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no shell has written it out, as in quotes."""
    pictures(terminal.folder)
    monkeypatch.setenv("HOME", str(terminal.folder / "home"))
    monkeypatch.setenv("GPSWEEP_STORE", "~/counts")
    assert terminal(*SMALL, "eps=1")[0] == 0
    assert not Path("~").exists()
    assert any(Path("home/counts").iterdir())
    assert store(["ls"]) == 0


def test_a_run_with_more_points_computes_only_those(
    terminal: Terminal, counted: list[tuple[int, int]]
) -> None:
    pictures(terminal.folder)
    assert terminal("-m", *SMALL, "eps=-1,0,0.5", "label=argmax", "hydra.sweep.dir=few")[0] == 0
    assert counted == [(0, 3), (1, 3), (2, 3)]
    counted.clear()
    assert terminal("-m", *SMALL, *AXES, "hydra.sweep.dir=more")[0] == 0
    assert counted == [(0, 5), (1, 5), (2, 5)]
    same(Path("more/0"), undisturbed(terminal))


def test_how_many_points_ride_together_is_measured_once_for_all_runs(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(terminal.folder)
    small = [*SMALL, "refine=none,flip", "hydra.sweep.dir=out"]
    few, more = "eps=range(1,6)", "eps=range(1,11)"
    for found, run in ((3, [few]), (4, [few, "fresh=true"]), (5, [more])):
        monkeypatch.setattr(memory, "fitting", lambda device, forward, found=found: found)
        assert terminal("-m", *small, *run)[0] == 0
    [store] = (terminal.folder / "outputs" / "store").iterdir()
    stored = [*store.glob("*.counts")]
    assert len(stored) == 2 * 3
    assert {chunk.read(path).points_per_forward for path in stored} == {3}


@pytest.mark.parametrize(
    "change", ["seed=1", "data.batch_size=3", "clip=true", "model.std=2", "precision=bf16"]
)
def test_what_could_change_a_number_is_computed_anew(
    terminal: Terminal, counted: list[tuple[int, int]], change: str
) -> None:
    pictures(terminal.folder)
    drawn = [*SMALL, "eps=1", "label=[argmax,random_onehot]"]
    assert terminal(*drawn)[0] == 0
    counted.clear()
    code, _, err = terminal(*drawn, change)
    assert (code, err) == (0, "")
    assert counted


@pytest.mark.parametrize(
    "change", ["data.workers=1", "progress=false", "hydra.run.dir=elsewhere", "precision=32", "seed=1"]
)
def test_what_could_not_change_a_number_is_not(
    terminal: Terminal, counted: list[tuple[int, int]], change: str
) -> None:
    pictures(terminal.folder)
    terminal(*SMALL, "eps=1")
    counted.clear()
    assert terminal(*SMALL, "eps=1", change)[0] == 0
    assert not counted


def test_the_same_data_elsewhere_is_the_same_data(terminal: Terminal, counted: list[tuple[int, int]]) -> None:
    pictures(terminal.folder)
    terminal(*SMALL, "eps=1")
    counted.clear()
    for name in ("images", "masks"):
        (terminal.folder / name).rename(terminal.folder / f"moved {name}")
    assert terminal(*SMALL, "eps=1", "data.images=moved images", "data.masks=moved masks")[0] == 0
    assert not counted


def test_the_same_images_chosen_otherwise_are_the_same_data(
    terminal: Terminal, counted: list[tuple[int, int]]
) -> None:
    pictures(terminal.folder, count=5)
    for place in ("", "lists"):
        (terminal.folder / place).mkdir(exist_ok=True)
        (terminal.folder / place / "val.txt").write_text("".join(f"{i:02d}\n" for i in range(5)))
    assert terminal(*SMALL, "eps=1", "data.split=val.txt")[0] == 0
    counted.clear()
    for split in ("data.split=lists/val.txt", f"data.split={terminal.folder}/lists/val.txt"):
        assert terminal(*SMALL, "eps=1", split)[0] == 0
    assert terminal(*SMALL, "eps=1", "data.split=val.txt", "data.limit=9")[0] == 0
    assert not counted
    assert terminal(*SMALL, "eps=1", "data.split=val.txt", "data.limit=4")[0] == 0
    assert counted


def test_a_changed_mask_is_noticed(terminal: Terminal, counted: list[tuple[int, int]]) -> None:
    pictures(terminal.folder)
    terminal(*SMALL, "eps=1")
    counted.clear()
    Image.fromarray(np.zeros((12, 16), dtype=np.uint8)).save(terminal.folder / "masks" / "03.png")
    assert terminal(*SMALL, "eps=1")[0] == 0
    assert len(counted) == 3


def test_shards_make_the_same_counts(terminal: Terminal) -> None:
    shards = 4  # for three batches
    pictures(terminal.folder)
    sweep = ["-m", *SMALL, *AXES, f"shards={shards}", f"shard=range(0,{shards})", "hydra.sweep.dir=parts"]
    code, _, err = terminal(*sweep)
    assert code == 0
    assert "shard 0 of" in err
    found = sorted(Path("parts").glob("*/results.csv"))
    whole = undisturbed(terminal)
    assert len(found) == 1, "one shard writes the results of all, though the last may have nothing to do"
    same(found[-1].parent, whole)
    assert report(["parts"]) == 0
    code, _, err = terminal(*sweep)
    assert code == 0
    assert err.count(f"was done before; the results of all are in {found[0].parent.absolute()}") == shards - 1
    assert sorted(Path("parts").glob("*/results.csv")) == found


def test_the_command_that_puts_shards_together_can_be_typed_as_it_stands(terminal: Terminal) -> None:
    """A home folder may have a space in its name."""
    pictures(terminal.folder)
    code, _, err = terminal(*SMALL, "eps=1", "shards=2", "hydra.run.dir='of Jörg/0'")
    assert code == 0
    [line] = [line for line in err.splitlines() if "shard 0 of 2 is done" in line]
    typed = shlex.split(line.partition("or: ")[2])
    assert typed == ["python", "-m", "gpsweep.report", str(terminal.folder / "of Jörg" / "0")]


def test_of_shards_that_finish_at_once_one_has_the_results(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(terminal.folder)
    config.register()
    options = [*SMALL, "eps=[-1,0,1]", "shards=2", "store=kept", "progress=false"]
    with initialize_config_dir(config.conf_folder(), version_base="1.3"):
        shards = [compose("config", overrides=[*options, f"shard={shard}"]) for shard in (0, 1)]
    looked, outcomes = Store.missing, dict[int, Outcome | None]()

    def missing(store: Store, points: Any, batches: Any = None) -> Any:
        """The first shard looks for what is left where the second has stored all, and is not done yet."""
        whole = batches is None
        if whole and not outcomes:
            outcomes[1] = None  # it is on its way
            outcomes[1] = evaluate(shards[1], terminal.folder / "1")
        return looked(store, points, batches)

    for again in range(2):
        outcomes.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "missing", missing)
            outcomes[0] = evaluate(shards[0], terminal.folder / "0")
        assert [shard for shard, outcome in outcomes.items() if outcome is not None] == [1], again
        said = f"shard 0 of 2 is done; the results of all are being written in {terminal.folder / '1'}"
        assert said in capsys.readouterr().err
        # What is damaged later is computed again, by whichever shard it is of.
        for path in Path("kept").glob("*/*.counts"):
            path.unlink()
        [claim] = Path("kept").glob("*/*.claim")
        assert store(["gc", "kept"]) == store(["ls", "kept"]) == 0
        assert "0 of 3" in capsys.readouterr().out
        assert claim.is_file()


def test_results_are_claimed_from_a_folder_whose_name_is_no_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"at\xff")
    assert record.claim(tmp_path / "results.claim", folder) is None
    assert record.claim(tmp_path / "results.claim", tmp_path) == str(folder)


def test_the_last_shard_to_finish_merges_whichever_it_is(terminal: Terminal) -> None:
    pictures(terminal.folder)
    run = [*SMALL, "eps=[-1,0,1]", "shards=2"]
    assert terminal(*run, "shard=1", "hydra.run.dir=one")[0] == 0
    assert not Path("one/results.csv").exists()
    assert report(["one"]) == 1
    code, _, err = terminal(*run, "shard=0", "hydra.run.dir=zero")
    assert (code, err) == (0, "")
    assert report(["one"]) == 0
    same(Path("one"), Path("zero"))
    assert Path("one/report.html").is_file()


def test_report_merges_the_shards_of_several_models(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(terminal.folder)
    shards = ["eps=-1,1", "shards=2", "shard=0,1", "hydra.sweep.dir=parts"]
    assert terminal("-m", *SMALL, "model.std=1,2", *shards)[0] == 0
    unfinished(*Path("parts").glob("[0-9]"))
    half = ["eps=-1,1", "shards=2", "shard=0", "hydra.sweep.dir=parts/half"]
    assert terminal("-m", *SMALL, "model.std=3", *half)[0] == 0
    capsys.readouterr()
    with pytest.warns(UserWarning, match=r"1 of 3 batches are not complete \(1\)"):
        assert report(["parts"]) == 0
    *made, beside = map(Path, capsys.readouterr().out.splitlines())
    assert len(made) == 2
    assert beside == Path("parts/sweep.html")
    assert beside.read_text(encoding="utf-8").count('href="merged/') == 2
    assert all(path.name == "report.html" and path.parent.parent.name == "merged" for path in made)


@pytest.mark.parametrize(
    "wrong",
    [["shards=0"], ["shards=2", "shard=2"], ["shard=-1"], ["shards=1.5"], ["shards=2", "fresh=true"]],
)
def test_wrong_shards_are_refused(terminal: Terminal, wrong: list[str]) -> None:
    code, _, err = terminal(*SMALL, *wrong)
    assert code != 0
    assert "shard" in err


def test_a_damaged_file_is_computed_again(terminal: Terminal, counted: list[tuple[int, int]]) -> None:
    pictures(terminal.folder)
    terminal("-m", *SMALL, *AXES, "hydra.sweep.dir=first")
    path = sorted(Path("outputs/store").glob("*/000001-*.counts"))[0]
    path.write_bytes(path.read_bytes()[:-10])
    counted.clear()
    with pytest.warns(UserWarning, match="000001-.* is damaged"):
        assert terminal("-m", *SMALL, *AXES, "hydra.sweep.dir=second")[0] == 0
    assert counted == [(1, 8)]
    same(Path("second/0"), Path("first/0"))


def test_a_full_disk_ends_in_one_message_and_keeps_what_is_stored(
    terminal: Terminal, counted: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(terminal.folder)
    put = Store.put

    def full(store: Store, chunk: Any) -> Path:
        if chunk.batch == 2:
            raise GpsweepError("store: No space left on device")
        return put(store, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", full)
        code, _, err = terminal("-m", *SMALL, *AXES, "hydra.sweep.dir=full")
    assert code != 0
    assert "No space left on device" in err
    counted.clear()
    assert terminal("-m", *SMALL, *AXES, "hydra.sweep.dir=again")[0] == 0
    assert counted == [(2, 8)]
    same(Path("again/0"), undisturbed(terminal))


def test_a_store_that_cannot_be_written_is_said_at_once(terminal: Terminal) -> None:
    pictures(terminal.folder)
    (terminal.folder / "file").write_text("")
    code, _, err = terminal(*SMALL, "eps=1", "store=file/store")
    assert code != 0
    assert "store=file/store: expected a folder that can be written" in err


def test_counts_of_somebody_else_that_cannot_be_added_to_are_said_at_once(
    terminal: Terminal, counted: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(terminal.folder)
    assert terminal(*SMALL, "eps=1")[0] == 0
    [place] = {path.parent for path in Path("outputs/store").glob("*/identity.json")}
    counted.clear()
    opened = Path.open

    def refusing(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if "w" in mode and path.parent == place:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", refusing)
    assert terminal(*SMALL, "eps=1")[0] == 0, "what is finished only reads"
    code, _, err = terminal(*SMALL, "eps=[1,2]")
    assert code != 0
    assert f"store={place}: expected a folder that can be written: Permission denied" in err.replace(
        "\n", " "
    )
    assert counted == []


def test_the_note_of_a_run_outlives_a_move(terminal: Terminal) -> None:
    pictures(terminal.folder)
    terminal(*SMALL, "eps=1", "shards=2", "shard=0")
    terminal(*SMALL, "eps=1", "shards=2", "shard=1", "hydra.run.dir=outputs/last")
    (terminal.folder / "outputs").rename(terminal.folder / "moved")
    [path] = [note for note in Path("moved").glob("**/run.json") if note.parent.name != "last"]
    assert report([str(path.parent)]) == 0
    assert json.loads((path.parent / "summary.json").read_text())["samples"] == 5


def test_a_folder_may_move_away_from_its_store(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(terminal.folder)
    sweep = [*SMALL, "eps=1", "shards=2", f"store={terminal.folder / 'kept'}"]
    assert terminal("-m", *sweep, "shard=0,1", "hydra.sweep.dir=parts")[0] == 0
    unfinished(*Path("parts").glob("[0-9]"))
    Path("far").mkdir()
    Path("parts").rename("far/parts")
    capsys.readouterr()
    assert report(["far/parts"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1, "its shards still know each other"


def test_results_of_another_run_do_not_stay_in_the_folder(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures(terminal.folder)
    assert terminal(*SMALL, "eps=1", "hydra.run.dir=run")[0] == 0
    assert terminal(*SMALL, "eps=1", "hydra.run.dir=run")[0] == 0
    made = {path.name for path in Path("run").iterdir()}
    assert {"counts.npz", "report.html", "run.json"} <= made
    monkeypatch.setattr("gpsweep.run.compute", lambda *_: {"start": 0.0, "test": 0.0})
    code, _, err = terminal(*SMALL, "eps=2", "hydra.run.dir=run")
    assert code != 0
    assert "3 of 3 batches are not in" in err.replace("\n", " ")
    assert made - {path.name for path in Path("run").iterdir()} >= {
        "counts.npz",
        "report.html",
        "results.csv",
    }


def test_runs_that_choose_otherwise_are_no_shards_of_each_other(terminal: Terminal) -> None:
    pictures(terminal.folder)
    for number, choice in enumerate(["select=none", "select=half", "data.groups='^0[0-2]|^'"]):
        assert terminal(*SMALL, "eps=[-1,0,1]", choice, f"hydra.run.dir=runs/{number}")[0] == 0
        Path("runs", str(number), "report.html").unlink()
    assert report(["runs"]) == 0
    assert len(list(Path("runs").glob("*/report.html"))) == 3


def test_a_shard_with_the_results_stands_for_all(terminal: Terminal) -> None:
    pictures(terminal.folder)
    run = [*SMALL, "eps=[-1,0,1]", "shards=2"]
    for shard in (0, 1):
        assert terminal(*run, f"shard={shard}", f"hydra.run.dir=runs/{shard}")[0] == 0
    assert report(["runs"]) == 0
    assert not Path("runs/merged").exists()
    assert Path("runs/1/report.html").exists()


def test_two_finished_runs_of_one_configuration_have_a_report_each(terminal: Terminal) -> None:
    pictures(terminal.folder)
    for run in ("first", "second"):
        assert terminal(*SMALL, "eps=1", f"hydra.run.dir=runs/{run}")[0] == 0
        Path("runs", run, "report.html").unlink()
    assert report(["runs"]) == 0
    assert len(list(Path("runs").glob("*/report.html"))) == 2


def test_a_note_that_is_none_does_not_keep_the_others_from_a_report(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(terminal.folder)
    assert terminal(*SMALL, "eps=1", "hydra.run.dir=runs/whole")[0] == 0
    Path("runs/torn").mkdir()
    Path("runs/torn/run.json").write_text("{")
    capsys.readouterr()
    with pytest.warns(UserWarning, match=r"runs/torn/run.json: expected a run's note about itself"):
        assert report(["runs"]) == 0
    assert capsys.readouterr().out.split() == ["runs/whole/report.html"]


def test_what_was_merged_stands_for_its_shards(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(terminal.folder)

    def merge(eps: str, *more: str) -> list[str]:
        sweep = [*SMALL, eps, "shards=2", "shard=0,1", "hydra.sweep.dir=away/parts", *more]
        assert terminal("-m", *sweep)[0] == 0
        unfinished(*Path("away/parts").glob("[01]"))
        capsys.readouterr()
        assert report(["away/parts"]) == 0
        return capsys.readouterr().out.split()

    [path] = merge("eps=[-1,0,1]", "select=half")
    assert Path(path).with_name("selection.csv").is_file()
    for folder in ("away/parts", "away/parts/merged"):
        assert report([folder]) == 0
        assert capsys.readouterr().out.split() == [path]
    assert merge("eps=[-2,2]") == [path]
    assert not Path(path).with_name("selection.csv").exists(), "it was another run's"
    assert track(["away/parts", "tracker=csv"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1

    Path("away").rename("copied")
    rmtree("outputs/store")
    assert report(["copied/parts"]) == 0
    assert capsys.readouterr().out.split() == [path.replace("away", "copied")]


def test_a_run_whose_counts_are_gone_does_not_keep_the_others_from_a_report(
    terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a pruned store still has of a finished run lies in its folder; of one that is not, nothing."""
    pictures(terminal.folder)
    assert terminal("-m", *SMALL, "eps=1", "model.std=1,2", "hydra.sweep.dir=runs")[0] == 0
    half = ["eps=1", "model.std=3", "shards=2", "shard=0", "hydra.run.dir=runs/half"]
    assert terminal(*SMALL, *half)[0] == 0
    for name in ("0", "half"):
        note = Path("runs", name, "run.json")
        rmtree(note.parent / json.loads(note.read_text())["store"])
    capsys.readouterr()
    made = ["0/report.html", "1/report.html", "sweep.html"]
    with pytest.warns(UserWarning, match="identity.json: expected the identity of stored counts"):
        assert report(["runs"]) == 0
    assert capsys.readouterr().out.split() == [f"runs/{name}" for name in made]
    Path("runs/0/counts.npz").write_bytes(b"torn")
    with pytest.warns(UserWarning) as said:
        assert report(["runs"]) == 0
    assert "runs/0/counts.npz: expected the counts of a run" in str(said[0].message)
    assert capsys.readouterr().out.split() == ["runs/1/report.html"]


@pytest.mark.parametrize("lost", [lambda path: path.unlink(), lambda path: path.write_bytes(b"torn")])
@pytest.mark.parametrize("asked", ["runs", "runs/0"])
def test_counts_that_are_lost_come_from_the_store(
    terminal: Terminal, capsys: pytest.CaptureFixture[str], lost: Callable[[Path], None], asked: str
) -> None:
    pictures(terminal.folder)
    assert terminal("-m", *SMALL, "eps=1", "model.std=1,2", "hydra.sweep.dir=runs")[0] == 0
    path = Path("runs/0/counts.npz")
    copytree(path.parent, "whole")
    table = path.with_name("results.csv").read_text()
    lost(path)
    capsys.readouterr()
    with pytest.warns(UserWarning, match=r"runs/0.* all results are made again from those in .*store"):
        assert report([asked]) == 0
    assert capsys.readouterr().out.split()[0] == "runs/0/report.html"
    same(path.parent, Path("whole"))
    assert path.with_name("results.csv").read_text() == table
    lost(path)
    rmtree("outputs/store")
    if asked == "runs/0":
        assert report([asked]) == 1
        said = capsys.readouterr().err
        assert said.startswith("gpsweep: runs/0")
        assert len(said.splitlines()) == 1
        assert "nor are they to be had from the store: " in said


def test_what_was_to_be_computed_afresh_goes_on_where_it_was_stopped(
    terminal: Terminal, counted: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of before is left beside what is new; a job that SLURM begins again does not begin anew."""
    pictures(terminal.folder)
    assert terminal(*SMALL, "eps=[1,2]")[0] == 0
    batches, keep = len(counted), Store.put
    counted.clear()

    def stopped(store: Store, chunk: Chunk) -> Path:
        path = keep(store, chunk)
        os.kill(os.getpid(), signal.SIGTERM)
        return path

    with monkeypatch.context() as patch:
        patch.setattr(Store, "put", stopped)
        code, _, err = terminal(*SMALL, "eps=[1,2]", "fresh=true")
    assert (code, len(counted)) == (143, 1)
    assert "what is stored stays, and the same command without fresh=true goes on" in err
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert terminal(*SMALL, "eps=[1,2]", "fresh=true")[0] == 0
    assert len(counted) == batches
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert terminal(*SMALL, "eps=[1,2]", "fresh=true")[0] == 0
    assert len(counted) == 2 * batches


def test_what_was_computed_afresh_takes_the_place_of_all_that_was_there(
    terminal: Terminal, counted: list[tuple[int, int]]
) -> None:
    pictures(terminal.folder)
    for eps in ("eps=1", "eps=[1,2]", "eps=3"):
        assert terminal(*SMALL, eps)[0] == 0
    stored = len(list(Path("outputs/store").glob("*/*.counts")))
    counted.clear()
    assert terminal(*SMALL, "eps=[1,2,4]", "fresh=true")[0] == 0
    assert {points for _, points in counted} == {3}
    left = len(list(Path("outputs/store").glob("*/*.counts")))
    assert (stored, left) == (9, 6), "of eps=3 alone, and anew"
    counted.clear()
    assert terminal(*SMALL, "eps=[1,2,3,4]")[0] == 0
    assert not counted
