"""``python -m benchmarks.faults``: kill, starve and damage real runs, and count how often all came well.

Each round is a command of its own in a folder of its own. What counts is the end: the run, made to go on,
must give the same integers as one that nobody disturbed, and say in one message what kept it from going on.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from PIL import Image

from benchmarks.table import machine
from gpsweep import results
from gpsweep.data.scenes import scenes

IMAGES, SIZE = 48, (96, 128)
BATCHES, POINTS = IMAGES // 2, 16
SWEEP = (
    "-m",
    "eps=range(-1,1,0.25)",
    "label=argmax,random_onehot",
    "data=folder",
    "data.classes=11",
    "data.batch_size=2",
    "trainer.accelerator=cpu",
)
HERE = "hydra.sweep.dir=out"
PATIENCE = 300  # seconds that any command may take


class UnkeptError(Exception):
    """A promise that was not kept."""


@dataclass
class Done:
    """A command that has ended.

    Args:
        code: its exit code.
        said: what it said, output and errors.
    """

    code: int
    said: str


@dataclass
class Place:
    """The folder of one round.

    Args:
        folder: the folder.
        pictures: images and masks, shared by all rounds.
        truth: the folder of the run that nobody disturbed.
        seconds: what that run took.
        random: of the round.
    """

    folder: Path
    pictures: Path
    truth: Path
    seconds: float
    random: random.Random

    def command(self, *more: str) -> list[str]:
        """Return the command of a run in this folder."""
        data = [f"data.images={self.pictures / 'images'}", f"data.masks={self.pictures / 'masks'}"]
        return [sys.executable, "-m", "gpsweep", *SWEEP, *data, HERE, *more]

    def start(self, *more: str, before: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start a run, in a session of its own as under a terminal."""
        return subprocess.Popen(
            [*before, *self.command(*more)],
            cwd=self.folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *more: str, before: Sequence[str] = ()) -> Done:
        """Run to the end."""
        return ended(self.start(*more, before=before))

    def disturbed(self, signum: int, *more: str) -> Done:
        """Start a run and send it a signal at a random moment: of the whole run, or of its computing."""
        process = self.start(*more)
        if self.random.random() < 0.3:
            time.sleep(self.random.uniform(0, self.seconds))
        else:
            self.wait_for_files(self.random.randrange(BATCHES), process)
            time.sleep(self.random.uniform(0, 0.2))
        process.send_signal(signum)
        return ended(process)

    def stored(self) -> list[Path]:
        """Return the files of the store."""
        return sorted(self.folder.glob("outputs/store/*/*.counts"))

    def wait_for_files(self, count: int, process: subprocess.Popen[str]) -> None:
        """Wait until a run has stored so many batches."""
        while len(self.stored()) < count and process.poll() is None:
            time.sleep(0.02)

    def goes_on(self) -> Done:
        """Run again and hold the counts against the undisturbed ones."""
        again = self.run()
        require(again.code == 0, f"the run did not go on: {again.said}")
        ours, truth = results.read(self.folder / "out" / "0"), results.read(self.truth)
        require(ours.points == truth.points and ours.ids == truth.ids, "other points or images")
        require(np.array_equal(ours.counts, truth.counts), "other counts")
        require(np.array_equal(ours.base, truth.base), "another base")
        return again


def require(kept: object, otherwise: str) -> None:
    """Note a promise that is not kept."""
    if not kept:
        raise UnkeptError(otherwise)


def ended(process: subprocess.Popen[str]) -> Done:
    """Wait for a command."""
    said, _ = process.communicate(timeout=PATIENCE)
    return Done(process.returncode, said)


def message(done: Done, *words: str) -> None:
    """Require that a command has failed with one clear message."""
    require(done.code != 0, f"expected a failure, came success: {done.said}")
    require("Traceback" not in done.said, f"a traceback: {done.said}")
    for word in words:
        require(word in done.said, f"no word of {word!r}: {done.said}")


def killed(place: Place) -> str:
    """SIGKILL at a random moment."""
    place.disturbed(signal.SIGKILL)
    before = len(place.stored())
    place.goes_on()
    return "killed with nothing stored" if before == 0 else "killed with something stored"


def terminated(place: Place) -> str:
    """SIGTERM at a random moment."""
    done = place.disturbed(signal.SIGTERM)
    require("Traceback" not in done.said, f"a traceback: {done.said}")
    place.goes_on()
    return "before the first batch" if done.code == -signal.SIGTERM else f"exit code {done.code}"


def interrupted(place: Place) -> str:
    """Ctrl-C in mid-run."""
    process = place.start("data.workers=1")
    place.wait_for_files(place.random.randint(1, 12), process)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    done = ended(process)
    message(done, "stopped by SIGINT")
    _, alive = psutil.wait_procs(family, timeout=10)
    require(not alive, f"processes are left: {alive}")
    place.goes_on()
    return "no process left"


def full_disk(place: Place) -> str:
    """A disk that is full in mid-run."""
    with mounted(place.folder / "small", "-t", "tmpfs", "-o", "size=256k", "tmpfs") as small:
        filler = small / "filler"
        filler.write_bytes(b"0" * place.random.randint(190, 236) * 1024)
        done = place.run("store=small/store")
        message(done, "No space left on device")
        stored = len([*small.glob("store/*/*.counts")])
        require(not [*small.glob("store/*/.writing-*")], "a part of a file is left")
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        again = place.run("store=small/store")
        require(again.code == 0, f"the run did not go on: {again.said}")
        kept = not stored or f"{stored * POINTS} of" in again.said
        require(kept, f"what was stored is lost: {again.said}")
        ours = results.read(place.folder / "out" / "0")
        require(np.array_equal(ours.counts, results.read(place.truth).counts), "other counts")
    return "ended with something stored" if stored else "ended with nothing stored"


def damaged(place: Place) -> str:
    """A stored file cut short or with flipped bytes."""
    require(place.run().code == 0, "the first run failed")
    path = place.random.choice(place.stored())
    content = bytearray(path.read_bytes())
    if short := place.random.random() < 0.5:
        del content[place.random.randrange(len(content)) :]
    else:
        for _ in range(place.random.randint(1, 4)):
            content[place.random.randrange(len(content))] ^= place.random.randrange(1, 256)
    path.write_bytes(content)
    again = place.goes_on()
    require(f"{path.name} is damaged" in again.said, f"not named: {again.said}")
    require(path.with_name(path.name + ".damaged").exists(), "not set aside")
    require(f"{POINTS} to go" in again.said, f"more than one batch computed again: {again.said}")
    return "cut short" if short else "flipped bytes"


def read_only(place: Place) -> str:
    """An output folder that cannot be written."""
    with mounted(place.folder / "fixed", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs"):
        message(place.run("hydra.sweep.dir=fixed/out"), "hydra.sweep.dir", "Read-only file system")
        message(place.run("store=fixed/store"), "store=fixed/store", "Read-only file system")
    place.goes_on()
    return "named"


def vanished(place: Place) -> str:
    """An image that vanishes in mid-run."""
    own = place.folder / "pictures"
    shutil.copytree(place.pictures, own)
    place = Place(place.folder, own, place.truth, place.seconds, place.random)
    victim = own / "images" / f"{IMAGES - 1:03d}.png"
    process = place.start()
    place.wait_for_files(1, process)
    content = victim.read_bytes()
    victim.unlink()
    done = ended(process)
    message(done, victim.name)
    victim.write_bytes(content)
    place.goes_on()
    return "named"


def worker_dies(place: Place) -> str:
    """A loader's worker process that is killed."""
    process = place.start("data.workers=1")
    place.wait_for_files(1, process)
    for worker in psutil.Process(process.pid).children(recursive=True):
        if "resource_tracker" not in " ".join(worker.cmdline()):
            worker.kill()
    message(ended(process), "data.workers=1", "died")
    place.goes_on()
    return "named"


def device_dies(place: Place) -> str:
    """One of two device processes that is killed."""
    process = place.start("trainer.devices=2")
    place.wait_for_files(2, process)
    for child in psutil.Process(process.pid).children():
        if "gpsweep.rank" in " ".join(child.cmdline()):
            child.kill()
    message(ended(process), "trainer.devices", "ended with code -9")
    place.goes_on()
    return "named"


def clock_set_back(place: Place) -> str:
    """A clock that jumps back by a year between two runs, and by an hour in the second."""
    if shutil.which("faketime") is None:
        raise SkippedError("faketime is not installed")
    process = place.start()
    place.wait_for_files(6, process)
    process.kill()
    ended(process)
    stored = len(place.stored())
    again = place.run(before=["faketime", "-f", "-1y x1"])
    require(again.code == 0, f"the run did not go on: {again.said}")
    require(f"{stored * POINTS} of" in again.said, f"what was stored is lost: {again.said}")
    place.goes_on()
    return "no difference"


def twice_at_once(place: Place) -> str:
    """Two identical runs at once, in one store."""
    both = [place.start(), place.start("hydra.sweep.dir=other")]
    for process in both:
        done = ended(process)
        require(done.code == 0, f"one has failed: {done.said}")
    truth = results.read(place.truth)
    for name in ("out", "other"):
        counts = results.read(place.folder / name / "0").counts
        require(np.array_equal(counts, truth.counts), "other counts")
    require(len(place.stored()) == BATCHES, "more files than batches")
    return "both whole"


class SkippedError(Exception):
    """A fault that cannot be made here."""


@dataclass(frozen=True)
class Fault:
    """A fault, and how often it is tried.

    Args:
        name: in the table.
        required: what has to come of it.
        trial: one round; returns what was seen, raises UnkeptError or SkippedError.
        rounds: how often.
    """

    name: str
    required: str
    trial: Callable[[Place], str]
    rounds: int


EQUAL = "goes on; integers equal to the undisturbed run"
FAULTS = (
    Fault("SIGKILL at a random moment", EQUAL, killed, 50),
    Fault("SIGTERM at a random moment", f"no traceback; {EQUAL}", terminated, 20),
    Fault("full disk", f"one message; nothing half-written; {EQUAL}", full_disk, 10),
    Fault("store file cut short or bytes flipped", f"named, set aside; {EQUAL}", damaged, 10),
    Fault("read-only output folder or store", f"one message before any work; {EQUAL}", read_only, 3),
    Fault("image vanishes in mid-run", f"named; {EQUAL} once it is back", vanished, 3),
    Fault("loader's worker killed", f"one message; {EQUAL}", worker_dies, 3),
    Fault("one of two device processes killed", f"one message; {EQUAL}", device_dies, 3),
    Fault("clock set back by a year", EQUAL, clock_set_back, 3),
    Fault("two identical runs at once", "both whole, integers equal", twice_at_once, 3),
    Fault("Ctrl-C", f"no process left; {EQUAL}", interrupted, 5),
)


@dataclass
class Outcome:
    """What came of a fault.

    Args:
        fault: which.
        seen: what was seen, and how often.
        unkept: what went wrong, round by round.
        skipped: why it was not tried.
    """

    fault: Fault
    seen: dict[str, int] = field(default_factory=dict)
    unkept: list[str] = field(default_factory=list)
    skipped: str = ""

    def cells(self) -> list[str]:
        """Return the row of the table."""
        rounds = sum(self.seen.values()) + len(self.unkept)
        kept = self.skipped or f"{sum(self.seen.values())} of {rounds}"
        return [
            self.fault.name,
            self.fault.required,
            kept,
            ", ".join(f"{many}× {what}" for what, many in sorted(self.seen.items())),
        ]


def tried(faults: Sequence[Fault], *, share: float = 1.0, seed: int = 0) -> Iterator[Outcome]:
    """Try faults.

    Args:
        share: of each fault's rounds, at least one.
        seed: of the random moments.
    """
    with TemporaryDirectory(prefix="gpsweep-faults-") as folder:
        root = Path(folder)
        pictures = draw(root / "pictures")
        place = Place(root / "truth", pictures, root, 0.0, random.Random(seed))
        place.folder.mkdir()
        start = time.perf_counter()
        done = place.run()
        require(done.code == 0, f"the undisturbed run failed: {done.said}")
        seconds, truth = time.perf_counter() - start, place.folder / "out" / "0"
        for fault in faults:
            outcome = Outcome(fault)
            for number in range(max(1, round(share * fault.rounds))):
                own = root / f"{fault.trial.__name__}-{number}"
                own.mkdir()
                chance = random.Random(f"{seed} {fault.name} {number}")
                try:
                    seen = fault.trial(Place(own, pictures, truth, seconds, chance))
                    outcome.seen[seen] = outcome.seen.get(seen, 0) + 1
                except SkippedError as reason:
                    outcome.skipped = f"not tried: {reason}"
                except (UnkeptError, subprocess.TimeoutExpired) as error:
                    outcome.unkept.append(str(error))
                shutil.rmtree(own)
            yield outcome


def draw(folder: Path) -> Path:
    """Write scenes of the embedded data set as images and masks."""
    source = scenes(split="val", seed=0, count=IMAGES, size=list(SIZE))
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for number in range(IMAGES):
        sample = source[number]
        image, mask = sample["image"].permute(1, 2, 0).numpy(), sample["target"].numpy().astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"{number:03d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:03d}.png")
    return folder


@contextmanager
def mounted(folder: Path, *options: str) -> Iterator[Path]:
    """Mount a small or read-only file system while the block runs."""
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", *options, str(folder)], capture_output=True).returncode:
        raise SkippedError("a file system can be mounted by root alone")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def written(outcomes: Sequence[Outcome]) -> str:
    """Return RELIABILITY.md's table."""
    heading = ("fault", "required", "kept", "seen")
    rows = [heading, ("---",) * 4, *(outcome.cells() for outcome in outcomes)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try all faults, print the table and put it into a Markdown file."""
    parser = ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the rounds; 0.1 tries a tenth")
    parser.add_argument("--only", nargs="+", help="the functions of the faults to try")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="Markdown file whose table is replaced")
    options = parser.parse_args(arguments)
    faults = [fault for fault in FAULTS if not options.only or fault.trial.__name__ in options.only]
    outcomes: list[Outcome] = []
    start = time.perf_counter()
    for outcome in tried(faults, share=options.share, seed=options.seed):
        print(" | ".join(outcome.cells()), flush=True)
        for reason in outcome.unkept:
            print(f"    {reason}", flush=True)
        outcomes.append(outcome)
    if options.out is not None:
        before, _, _ = options.out.read_text(encoding="utf-8").partition("| fault |")
        about = ", ".join(f"{key} {value}" if key != "cpu" else value for key, value in machine().items())
        took = f"{(time.perf_counter() - start) / 60:.0f} minutes"
        options.out.write_text(f"{before}{written(outcomes)}\n{took} on {about}.\n", encoding="utf-8")
    return int(any(outcome.unkept for outcome in outcomes))


if __name__ == "__main__":
    raise SystemExit(main())
