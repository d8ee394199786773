"""Sweeps on a real SLURM: arrays, a task that is killed, preemption, several processes and nodes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from commands import PYTHONPATH, SET, pictures, same

from gpsweep.report import render

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = Path(os.environ.get("GPSWEEP_SLURM", ROOT.parent / "shared" / "slurm" / "one-node-slurm.sh"))
RUN = [*SET, "model=custom", "data.batch_size=2", "eps=-1,1", "trainer.accelerator=cpu"]
SLURM = ["hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1"]
BATCHES, FORWARDS = 4, 3  # of the pictures, and of a batch: the base and two points
PATIENCE = 100.0
# Where urgent jobs drive others away, which have longer than our patience to leave by themselves.
PREEMPTION = """
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=spare Nodes=n[1-2] PriorityTier=1 PreemptMode=REQUEUE GraceTime=300 State=UP
PartitionName=urgent Nodes=n[1-2] PriorityTier=2 PreemptMode=OFF State=UP
"""


@dataclass
class Cluster:
    """A SLURM of this machine, and a folder that its nodes share."""

    folder: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str, seconds: float = 0, log: str = "") -> subprocess.Popen[str]:
        """Start a sweep; its network sleeps at each forward pass, and keeps a log."""
        slow = {"SLOW_SECONDS": str(seconds), "SLOW_LOG": str(self.folder / log) if log else ""}
        process = subprocess.Popen(
            [sys.executable, "-m", "gpsweep", "-m", *RUN, *arguments],
            cwd=self.folder,
            env=self.environment | slow,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def sweep(self, *arguments: str) -> tuple[int, str, str]:
        """Run a sweep to its end."""
        return ended(self.start(*arguments))

    def ask(self, *command: str) -> str:
        """Run a command of SLURM's."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def end(self) -> None:
        """End whatever still runs."""
        for process in self.started:
            process.kill()
            process.communicate()
        self.ask("scancel", "--user=root")
        deadline = time.monotonic() + PATIENCE
        while self.ask("squeue", "--noheader") and time.monotonic() < deadline:
            time.sleep(0.2)

    def configure(self, more: str) -> None:
        """Add lines to SLURM's configuration."""
        conf = Path(self.environment["SLURM_CONF"])
        conf.write_text(conf.read_text() + more)
        controller = psutil.Process(int((conf.parent / "slurmctld.pid").read_text()))
        controller.terminate()
        end(controller)
        self.ask("slurmctld")
        self.ask("scontrol", "reconfigure")

    def state(self, job: str) -> str:
        """Say what a job is doing, in SLURM's words."""
        return self.ask("squeue", "--noheader", "--jobs", job, "--format", "%T").strip()

    def forwards(self, log: str) -> list[tuple[str, str]]:
        """Return the job and the sum of the input of every forward pass so far over a whole batch."""
        path = self.folder / log
        lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [(job, total) for job, size, total in lines if size != "1"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not SCRIPT.is_file():
        pytest.skip(f"no {SCRIPT}, which starts a SLURM (set GPSWEEP_SLURM)")
    if os.geteuid() != 0:
        pytest.skip("only root can start a SLURM")
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra slurm")
    place, folder = tmp_path_factory.mktemp("slurm"), tmp_path_factory.mktemp("shared")
    pictures(folder, count=2 * BATCHES)
    own = {key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SUBMITIT_"))}
    cluster = Cluster(
        folder,
        own
        | {
            "PATH": f"{place / 'bin'}:{os.environ['PATH']}",
            "SLURM_CONF": str(place / "slurm.conf"),
            "PYTHONPATH": PYTHONPATH,
            "OMP_NUM_THREADS": "1",
        },
    )
    try:
        subprocess.run(["bash", SCRIPT, "up", place], env=own, check=True, timeout=200)
        cluster.configure(PREEMPTION)
        try:
            yield cluster
        finally:
            cluster.end()
    finally:
        daemons = [psutil.Process(int(path.read_text())) for path in place.glob("*.pid")]
        family = [child for daemon in daemons for child in daemon.children(recursive=True)]
        subprocess.run(["bash", SCRIPT, "down", place], env=own, check=False, timeout=60)
        for process in [*daemons, *family]:
            end(process)


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster) -> Path:
    """The same in one process, without SLURM."""
    both = cluster.sweep("model.net=slow.skips,slow.dicts", "store=undisturbed", "hydra.sweep.dir=whole")
    assert both[0] == 0, both
    return cluster.folder / "whole"


def end(process: psutil.Process, patience: float = 10) -> None:
    """Wait for a process to end, and kill it if it does not; nobody may be there to reap it."""
    deadline = time.monotonic() + patience
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.1)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for a command; its exit code, output and errors."""
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait for something that happens while a command runs."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def computed_once(forwards: list[tuple[str, str]]) -> None:
    """See that no batch was computed twice; a part of the first one serves to measure what points cost."""
    times = Counter(total for _, total in forwards)
    assert len(times) == BATCHES * FORWARDS
    assert len([count for count in times.values() if count > 1]) < FORWARDS


def test_an_array_survives_a_killed_task(cluster: Cluster, undisturbed: Path) -> None:
    sweep = [*SLURM, "model.net=slow.skips,slow.dicts", "shards=2", "shard=0,1", "hydra.sweep.dir=array"]
    running = cluster.start(*sweep, seconds=0.5, log="array.log")
    until(lambda: any(job.endswith("_1") for job, _ in cluster.forwards("array.log")), running)
    [victim] = {job for job, _ in cluster.forwards("array.log") if job.endswith("_1")}
    cluster.ask("scancel", "--signal=KILL", victim)
    code, out, err = ended(running)
    assert code == 1
    assert "3 of 4 jobs are done" in out
    assert "1 of 4 jobs failed" in err
    assert f"1  model.net=slow.skips shard=1: job {victim} ended without a result" in err
    assert "Traceback" not in err
    same(next(cluster.folder.glob("array/[23]/results.csv")).parent, undisturbed / "1")
    assert not [*cluster.folder.glob("array/[01]/results.csv")]

    code, out, err = cluster.sweep(*sweep)
    assert (code, "4 of 4 jobs are done" in out) == (0, True), err
    *reports, beside = render(cluster.folder / "array")
    assert len(reports) == 2
    assert beside == cluster.folder / "array" / "sweep.html"
    for ours, theirs in zip(reports, ("0", "1"), strict=True):
        same(ours.parent, undisturbed / theirs)


def test_a_warned_task_ends_its_batch_and_goes_on_after_a_requeue(
    cluster: Cluster, undisturbed: Path
) -> None:
    shards = ["store=requeue", "shards=2", "shard=0,1", "hydra.sweep.dir=requeue"]
    running = cluster.start(*SLURM, "model.net=slow.skips", *shards, seconds=1, log="requeue.log")
    until(lambda: len({job for job, _ in cluster.forwards("requeue.log")}) == 2, running)
    jobs = sorted({job for job, _ in cluster.forwards("requeue.log")})
    for job, name in zip(jobs, ("USR1", "USR2"), strict=True):
        cluster.ask("scancel", f"--signal={name}", job)
    for job in jobs:
        until(lambda job=job: cluster.state(job) == "PENDING", running)
    begun = cluster.forwards("requeue.log")
    # SLURM lets requeued jobs wait for two minutes; a node starts none in the second in which it ended it.
    for job in jobs:
        cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now+3")
    code, _, err = ended(running)
    assert code == 0, err
    assert len(begun) == 2 * FORWARDS, "each has ended the batch in flight, and no more"
    computed_once(cluster.forwards("requeue.log"))
    same(next(cluster.folder.glob("requeue/*/results.csv")).parent, undisturbed / "0")


def test_a_job_told_to_leave_ends_its_batch_and_goes_on_after_a_requeue(
    cluster: Cluster, undisturbed: Path
) -> None:
    """Told by SIGTERM: by a preemption, by a requeue from outside, and by a person."""
    urgent = ["sbatch", "--partition=urgent", "--nodelist=n1", "--exclusive", "--output=/dev/null"]
    here = ["hydra.launcher.partition=spare", "+hydra.launcher.additional_parameters.nodelist=n1"]
    there = ["model.net=slow.skips", "data.workers=1", "store=leave", "hydra.sweep.dir=leave"]
    running = cluster.start(*SLURM, *here, *there, seconds=1, log="leave.log")
    until(lambda: cluster.ask("squeue", "--noheader", "--partition=spare"), running)
    job = cluster.ask("squeue", "--noheader", "--partition=spare", "--format=%A").strip()
    told = [[*urgent, "--wrap=sleep 1"], ["scontrol", "requeue", job], ["scancel", "--signal=TERM", job]]
    for batches, command in enumerate(told):
        until(lambda done=batches * FORWARDS: len(cluster.forwards("leave.log")) > done, running)
        cluster.ask(*command)
        until(lambda: cluster.state(job) == "PENDING", running)
        assert len(cluster.forwards("leave.log")) == (batches + 1) * FORWARDS, "the batch in flight, no more"
        cluster.ask("scontrol", "update", f"JobId={job}", "StartTime=now+3")
    code, _, err = ended(running)
    assert code == 0, err
    computed_once(cluster.forwards("leave.log"))
    same(cluster.folder / "leave" / "0", undisturbed / "0")


def test_two_tasks_and_two_nodes_make_the_same_counts_as_one_process(
    cluster: Cluster, undisturbed: Path
) -> None:
    # Names of made-up nodes do not resolve.
    here = [*SLURM, "hydra.launcher.setup=['export MASTER_ADDR=127.0.0.1']", "model.net=slow.skips"]
    shapes = {"tasks": ["trainer.devices=2"], "nodes": ["trainer.num_nodes=2"]}
    running = [
        cluster.start(*here, *more, f"store=ddp-{name}", f"hydra.sweep.dir={name}", log=f"{name}.log")
        for name, more in shapes.items()
    ]
    for name, process in zip(shapes, running, strict=True):
        code, _, err = ended(process)
        assert code == 0, err
        computed_once(cluster.forwards(f"{name}.log"))
        same(cluster.folder / name / "0", undisturbed / "0")
