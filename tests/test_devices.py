"""Several processes, as on several devices: real ones, and the same integers as one alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from commands import PYTHONPATH, SMALL, Terminal, pictures, same
from lightning_utilities.core.rank_zero import rank_zero_only
from omegaconf import OmegaConf

from gpsweep.config import Config
from gpsweep.errors import GpsweepError
from gpsweep.interrupts import left_at_once
from gpsweep.lightning import LightningEnvironment, Trainer
from gpsweep.ranks import further
from gpsweep.trainer import processes_started, rank, trainer_of

AXES = ["eps=range(-1,1,0.5)", "label=argmax,random_onehot"]
CONFIG = OmegaConf.structured(Config(model={}, data={}))


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": f"{PYTHONPATH}{os.pathsep}.", "OMP_NUM_THREADS": "1"}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gpsweep", "-m", *SMALL, *AXES, *arguments]


def test_a_run_on_one_device_is_the_first_whatever_its_environment_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As where ``srun`` starts one command for each shard, which know nothing of each other."""
    within(monkeypatch, SLURM_NTASKS="4", SLURM_STEP_NUM_TASKS="4", SLURM_PROCID="2")
    rank_zero_only.rank = 2
    assert rank() == 2
    assert trainer(devices=1).world_size == 1
    assert rank() == 0


def trainer(devices: int, num_nodes: int = 1) -> Trainer:
    options = {"devices": devices, "num_nodes": num_nodes, "accelerator": "cpu"}
    return trainer_of(OmegaConf.create({"trainer": options}))


def within(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    """Let the process be where it has these variables of SLURM's, as a real one sets them."""
    place = {"SLURM_JOB_ID": "7", "SLURM_NODEID": "0", "SLURM_LOCALID": "0", "SLURM_NODELIST": "localhost"}
    for name, value in (place | variables).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 0)  # which a Trainer changes for the whole process


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "interactive"},
        {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_NAME": "job.sh", "SLURM_PROCID": "0"},
        {"SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
    ],
    ids=["salloc", "sbatch", "srun of one"],
)
def test_within_a_job_a_process_that_srun_has_not_started_for_this_starts_its_own(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    within(monkeypatch, **variables)
    made = trainer(devices=2)
    assert isinstance(made.strategy.cluster_environment, LightningEnvironment)  # type: ignore[attr-defined]
    assert not processes_started()
    assert made.world_size == 2


def test_processes_of_sruns_own_meet_as_slurm_says(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_STEP_NUM_TASKS": "2"}
    within(monkeypatch, SLURM_PROCID="1", SLURM_JOB_NAME="job.sh", **counted)
    made = trainer(devices=2)
    assert not isinstance(made.strategy.cluster_environment, LightningEnvironment)  # type: ignore[attr-defined]
    assert processes_started()


def test_further_nodes_need_somebody_who_starts_their_processes() -> None:
    with pytest.raises(GpsweepError, match=r"trainer\.num_nodes=2: expected a process for each device"):
        trainer(devices=1, num_nodes=2)


def test_a_warning_before_the_first_batch_leaves_nothing_of_further_processes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", "true")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = dict(os.environ)
    with pytest.raises(SystemExit), left_at_once(signal.SIGUSR1), further(2, CONFIG, tmp_path):
        assert [path.name for path in tmp_path.glob("*/*")] == ["config.yaml"]
        signal.raise_signal(signal.SIGUSR1)
    assert not [*tmp_path.iterdir()]
    assert os.environ == before


def test_where_no_process_can_be_started_the_next_job_does_not_take_itself_for_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError), further(2, CONFIG, tmp_path):
        pass
    assert not processes_started()


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments), cwd=folder, env=environment(), capture_output=True, text=True, timeout=200
    )


def devices(count: int) -> list[str]:
    return [f"trainer.devices={count}", "trainer.accelerator=cpu"]


def undisturbed(terminal: Terminal, *more: str) -> str:
    """Run the same to its end in this process, which has loaded its libraries, and return what it said."""
    code, _, err = terminal("-m", *SMALL, *AXES, *more)
    assert code == 0, err
    return err


@pytest.mark.slow
@pytest.mark.drawn
@pytest.mark.parametrize("images", [5, 2])
def test_two_processes_make_the_same_counts_as_one(terminal: Terminal, tmp_path: Path, images: int) -> None:
    """From three batches, which two processes do not divide, and from one, with a key of one's own."""
    pictures(tmp_path, count=images)
    undisturbed(terminal, "hydra.sweep.dir=one", "store=one-store")
    both = run(tmp_path, "+lab=two", "hydra.sweep.dir=${lab}", "store=two-store", *devices(2))
    assert both.returncode == 0, both.stderr
    assert both.stderr == ""
    same(tmp_path / "one" / "0", tmp_path / "two" / "0")
    one, two = (sorted((tmp_path / f"{n}-store").glob("*/*")) for n in ("one", "two"))
    assert one
    names = [[f"{path.parent.name}/{path.name}" for path in paths] for paths in (one, two)]
    assert names[0] == names[1], "how many devices there are is not part of the identity"


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "count"), [(signal.SIGINT, 2), (signal.SIGINT, 1), (signal.SIGTERM, 1)])
def test_a_signal_ends_all_processes_and_leaves_a_usable_store(
    terminal: Terminal, tmp_path: Path, signum: signal.Signals, count: int
) -> None:
    pictures(tmp_path, count=60)
    running = subprocess.Popen(
        command(*devices(count), "hydra.sweep.dir=out", "data.workers=1"),
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    stored = tmp_path / "outputs" / "store"
    deadline = time.monotonic() + 100
    while not [*stored.glob("*/*.counts")]:
        assert time.monotonic() < deadline
        assert running.poll() is None, running.stderr and running.stderr.read()
        time.sleep(0.05)
    family = psutil.Process(running.pid).children(recursive=True)
    if signum == signal.SIGINT:
        os.killpg(running.pid, signum)  # as a terminal does it
    else:
        running.send_signal(signum)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 128 + signum, said
    assert f"stopped by {signum.name}; what is stored stays" in said
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(family, timeout=30)
    assert not alive
    left = len([*stored.glob("*/*.counts")])
    assert 0 < left < 30
    said = undisturbed(terminal, "hydra.sweep.dir=out")
    assert f"{left * 8} of 240 points × batches are stored" in said
    undisturbed(terminal, "hydra.sweep.dir=whole", "store=undisturbed")
    same(tmp_path / "out" / "0", tmp_path / "whole" / "0")


@pytest.mark.slow
def test_a_batch_is_finished_though_processes_that_read_data_hear_sigterm_too(tmp_path: Path) -> None:
    """As SLURM sends it: to every process of a job."""
    pictures(tmp_path, count=10)
    (tmp_path / "slow.py").write_text(
        "import time\nimport networks\n\n"
        "def small(**options):\n"
        "    net = networks.small(**options)\n"
        "    net.register_forward_hook(lambda *_: time.sleep(0.5))\n"
        "    return net\n"
    )
    running = subprocess.Popen(
        command("model.net=slow.small", "data.workers=2"),
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )

    def stored() -> int:
        return len([*(tmp_path / "outputs" / "store").glob("*/*.counts")])

    deadline = time.monotonic() + 100
    while not stored():
        assert time.monotonic() < deadline
        assert running.poll() is None, running.stderr and running.stderr.read()
        time.sleep(0.05)
    time.sleep(1)  # of the four and more that the next batch takes
    os.killpg(running.pid, signal.SIGTERM)
    _, said = running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM, said
    assert stored() == 2


@pytest.mark.slow
def test_a_process_that_cannot_start_ends_the_run(tmp_path: Path) -> None:
    pictures(tmp_path)
    (tmp_path / "once.py").write_text(
        "import os\nimport networks\n\n"
        "def small(**options):\n"
        "    if os.environ.get('LOCAL_RANK') == '1':\n"
        "        raise RuntimeError('out of luck')\n"
        "    return networks.small(**options)\n"
    )
    done = run(tmp_path, "model.net=once.small", *devices(2))  # which waits less than the first process would
    assert done.returncode == 1
    assert "out of luck" in done.stderr
    assert "trainer.devices: process 1 of 2 ended with code 1" in done.stderr
    assert "Traceback" not in done.stderr
