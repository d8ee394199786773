"""A mistake ends every command in one line, unless a traceback is asked for; warnings take a line."""

from __future__ import annotations

import errno
import importlib
import io
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Terminal
from hydra.errors import CompactHydraException

from gpsweep import config, points
from gpsweep.command import though_unread, told, typed, within_hydra
from gpsweep.errors import GpsweepError
from gpsweep.layers.__main__ import main as layers
from gpsweep.progress import bar
from gpsweep.report.__main__ import main as report
from gpsweep.run import tell
from gpsweep.store.__main__ import main as store
from gpsweep.tables.__main__ import main as tables
from gpsweep.track import main as track


def test_every_command_says_who_speaks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for main, arguments in (
        (layers, ["modl=smp"]),
        (report, [str(tmp_path / "nowhere")]),
        (store, ["ls", str(tmp_path / "nowhere")]),
        (tables, ["table99"]),
    ):
        assert main(arguments) == 1
        out, err = capsys.readouterr()
        assert not out
        assert err.startswith("gpsweep: ")


def test_a_traceback_is_shown_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    @told(OSError)
    def main(error: Exception) -> int:
        raise error

    assert main(GpsweepError("a")) == main(OSError("b")) == 1
    with pytest.raises(ValueError, match="of our own"):
        main(ValueError("of our own"))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for error in (GpsweepError("a"), OSError("b")):
        with pytest.raises(type(error)):
            main(error)


def test_what_omegaconf_says_takes_one_line_and_names_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert layers(["model.mean=${absent}"]) == 1
    assert capsys.readouterr().err == "gpsweep: model.mean: Interpolation key 'absent' not found\n"


def test_ctrl_c_ends_a_command_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        typed(main, "all is kept")
    assert end.value.code == 130
    assert capsys.readouterr().err == "gpsweep: stopped; all is kept\n"

    @told()
    def other() -> int:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as end:
        other()
    assert end.value.code == 130
    assert capsys.readouterr().err == "gpsweep: stopped\n"


@pytest.mark.parametrize("main", [layers, report, tables, track])
def test_sigterm_ends_a_command_as_ctrl_c_does(
    main: Callable[[list[str]], int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = {layers: "layers.__main__", report: "report.__main__", tables: "tables.__main__"}.get(
        main, "track"
    )
    said = []
    for signum in (signal.SIGINT, signal.SIGTERM):
        work = {layers: "network_and_sample", report: "render", tables: "make", track: "build"}[main]

        def ended(*args: object, signum: int = signum) -> None:
            signal.raise_signal(signum)

        monkeypatch.setattr(f"gpsweep.{module}.{work}", ended)
        before = signal.getsignal(signum)
        given = {report: ["run"], tables: ["fig8"], track: ["run", "tracker=csv"]}.get(main, [])
        with pytest.raises(SystemExit) as end:
            main(given)
        assert end.value.code == 128 + signum
        assert signal.getsignal(signum) is before
        said.append(capsys.readouterr().err)
    assert re.fullmatch(r"gpsweep: stopped; .*the same command .+\n", said[0])
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("name", "done", "kept"),
    [
        ("gpsweep", "gpsweep.run.run", "what is stored stays, and the same command goes on"),
        ("gpsweep.fit", "gpsweep.fitting.fit", "no weights were written, and the same command begins anew"),
        (
            "gpsweep.crf_search",
            "gpsweep.crf_search.search",
            "a search is not kept, and the same command begins anew",
        ),
    ],
)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_first_batch_says_what_is_kept(
    name: str, done: str, kept: str, signum: int, terminal: Terminal
) -> None:
    def ended(*args: object) -> None:
        signal.raise_signal(signum)

    module = importlib.import_module("gpsweep.__main__" if name == "gpsweep" else name)
    terminal.patch.setattr(done, ended)
    before = signal.getsignal(signum)
    for mode in ([], ["-m"]):
        code, _, err = terminal.run(module.cli, name, *mode)
        assert (code, err) == (128 + signum, f"gpsweep: stopped; {kept}\n")
        assert signal.getsignal(signum) is before


# A shell lets what it starts in the background ignore the signal, and so do all processes of that.
INTERRUPTED = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
os.kill(os.getpid(), signal.{name})
time.sleep(60)
"""


@pytest.mark.parametrize(
    ("begun", "env", "said"),
    [
        (["-m", "gpsweep"], {}, "gpsweep: stopped\n"),
        (["-m", "gpsweep.report", "folder"], {}, "gpsweep: stopped\n"),
        (["-c", "import sys; sys.argv = ['bin/gpsweep']; import gpsweep.__main__"], {}, "gpsweep: stopped\n"),
        (["-m", "gpsweep.rank"], {"LOCAL_RANK": "1"}, ""),
    ],
)
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_modules_are_imported_ends_a_command_in_one_line(
    begun: list[str], env: dict[str, str], said: str, signum: signal.Signals, tmp_path: Path
) -> None:
    for name in ("hydra", "numpy", "omegaconf"):
        (tmp_path / f"{name}.py").write_text(INTERRUPTED.format(name=signum.name))
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, *begun],
        env=os.environ | {"PYTHONPATH": path} | env,
        capture_output=True,
        text=True,
        timeout=50,
    )
    # Where the import of a module was running code of its own, Python ends by the signal itself.
    assert done.returncode in ((130, -signal.SIGINT) if signum == signal.SIGINT else (143,))
    assert done.stderr == said


SPAWNING = """
from multiprocessing import get_context
from sleeper import sleep
if __name__ == "__main__":
    child = get_context("spawn").Process(target=sleep)
    child.start()
    child.join()
    print(child.exitcode)
"""


def test_a_process_that_a_command_starts_and_ends_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "gpsweep").write_text(SPAWNING)
    ended = "def sleep():\n    import os, signal\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    (tmp_path / "sleeper.py").write_text(f"import gpsweep\n{ended}")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    command = [sys.executable, str(tmp_path / "gpsweep")]
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=50)
    assert (done.stdout, done.stderr) == ("143\n", "")


def test_a_further_process_that_is_typed_says_what_it_is() -> None:
    command = [sys.executable, "-m", "gpsweep.rank", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.returncode == 1
    assert done.stderr.startswith("gpsweep: expected CONFIG FOLDER; trainer.devices=2")


class Closed(io.StringIO):
    """A terminal that is there no more."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_what_cannot_be_printed_does_not_end_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Closed())
        with though_unread():
            print("lost")
    assert capsys.readouterr().err == "gpsweep: what is printed is lost: Input/output error\n"
    with pytest.raises(FileNotFoundError), though_unread(BrokenPipeError):
        Path("nowhere").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Closed())
        tell("lost")
        with bar(True, 2) as on_point:
            on_point()


def test_a_command_needs_no_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)

    @told()
    def main() -> int:
        print("nobody reads this", flush=True)
        return 0

    assert main() == 0
    sys.stdout.close()


def test_hydra_prints_mistakes_and_warnings_are_whose_they_were_after() -> None:
    before = warnings.formatwarning
    with pytest.raises(CompactHydraException, match="gpsweep: label=x"), within_hydra():
        assert warnings.formatwarning("so", UserWarning, "file.py", 3) == "gpsweep: UserWarning: so\n"
        raise GpsweepError("label=x")
    assert warnings.formatwarning is before


@pytest.mark.parametrize(
    "command",
    [["gpsweep", "--help"], ["gpsweep.crf_search", "--help"], ["gpsweep.tables"]],
)
def test_what_the_terminal_has_no_letter_for_is_no_mistake(command: list[str], tmp_path: Path) -> None:
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=tmp_path, env=plain, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()


def test_nor_is_it_in_what_a_command_prints_of_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    with io.TextIOWrapper(io.BytesIO(), encoding="ascii") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert layers([]) == 0
        terminal.flush()
        assert rb"\xd7" in terminal.buffer.getvalue(), "of shapes"


HYDRA_S = ["gpsweep", "gpsweep.fit", "gpsweep.crf_search"]


@pytest.mark.parametrize("name", HYDRA_S)
def test_help_says_in_80_columns_how_a_command_is_used(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", name, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(f"{name}: ")
    assert "Powered by Hydra" not in done.stdout
    groups = re.compile(r"\w+: \w+(?:, \w+)+")  # Hydra has each in one line
    assert not [line for line in done.stdout.splitlines() if len(line) > 80 and not groups.fullmatch(line)]


@pytest.mark.parametrize("name", HYDRA_S)
def test_the_version_is_gpsweep_s_own(name: str, tmp_path: Path) -> None:
    asked = [sys.executable, "-m", name, "--version"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert re.fullmatch(r"gpsweep \S+, python \S+, torch \S+, .*hydra-core \S+, .*\n", done.stdout)
    assert done.stderr == ""


@pytest.mark.parametrize("name", HYDRA_S)
def test_help_may_be_read_in_part(name: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    asked = [sys.executable, "-m", name, "--help"]
    done = subprocess.run(asked, cwd=tmp_path, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("name", HYDRA_S)
def test_help_on_what_there_is_not_names_it_in_a_line(name: str, tmp_path: Path) -> None:
    asked = [sys.executable, "-m", name, "model=tim", "--help"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(r"gpsweep: model=tim: unknown\. Did you mean timm\? .*\n", done.stderr)


@pytest.mark.parametrize(
    ("axis", "choices"),
    [
        ("label", {*points.LABELS, *points.GUIDES}),
        ("signal", {*points.SIGNALS}),
        ("step", {*points.STEPS}),
        ("refine", {*points.REFINES}),
    ],
)
def test_help_names_every_choice_of_the_grid(axis: str, choices: set[str]) -> None:
    said = Path(config.conf_folder(), "hydra", "help", "gpsweep.yaml").read_text(encoding="utf-8")
    [line] = re.findall(rf"^  {axis} +(.+)$", said, re.MULTILINE)
    assert set(line.split(", ")) == choices


@pytest.mark.parametrize("line", ["print('a')", "from rich.console import Console; Console().print('a')"])
def test_a_closed_pipe_does_not_end_what_is_to_be_done(line: str) -> None:
    script = f"""
import sys
from gpsweep.command import though_unread
for _ in range(2):
    with though_unread():
        {line}
print("done", file=sys.stderr)
"""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "done\n")


def test_other_ends_of_a_command_are_left_alone() -> None:
    with pytest.raises(SystemExit), though_unread():
        raise SystemExit(3)
