"""The batch scripts: what they run, and when a job is queued again; ``make test-cluster`` shows the same on SLURM."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.slurm import program, project

WAITS = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: os._exit({code}))
open("nearly", "w").write(" ".join(sys.argv[1:]))
os.rename("nearly", "up")
time.sleep(60)
"""
"""A command that saves where it is told to. Once ``up`` is there it is whole, and no finaliser swallows the exit."""


class Slurm:
    """A folder to submit from, with programs in place of SLURM's."""

    def __init__(self, folder: Path) -> None:
        self.folder = project(folder / "project")
        self.bin = folder / "bin"
        self.asked = folder / "asked"
        # The real one hands signals on; one that is not there any more cannot but get them itself.
        program(self.bin / "srun", 'echo "$@" > step; while [[ $1 == --* ]]; do shift; done; exec "$@"')
        self.state("RUNNING None")
        program(self.bin / "scontrol", f'echo "$@" >> {self.asked}')
        self.environment = {
            **os.environ,
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "SLURM_JOB_ID": "7",
            "SLURM_CPUS_PER_TASK": "3",
        }
        del self.environment["OMP_NUM_THREADS"]

    def state(self, text: str) -> None:
        """What the queue tells of the job."""
        program(self.bin / "squeue", f'echo "$@" > queue; echo "{text}"')

    def command(self, script: str) -> Path:
        """A program in the place of Python's."""
        return program(self.bin / "python", script)

    def start(self, script: str, *words: str, **variables: str) -> subprocess.Popen[str]:
        """Starts a batch script as SLURM does: a copy of it, in the folder."""
        copy = self.folder / "slurm_script"
        copy.write_text((self.folder / "experiments" / "slurm" / script).read_text())
        return subprocess.Popen(
            ["bash", copy, str(self.bin / "python"), *words],
            cwd=self.folder,
            env={**self.environment, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def wait(self, name: str = "up") -> None:
        """Waits for a file of the command."""
        until = time.monotonic() + 20
        while not (self.folder / name).exists():
            assert time.monotonic() < until
            time.sleep(0.01)

    def read(self, name: str) -> str:
        """What is in a file of the folder."""
        return (self.folder / name).read_text().strip()

    @property
    def requests(self) -> list[str]:
        """What the controller was asked for."""
        return self.asked.read_text().splitlines() if self.asked.exists() else []


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    (tmp_path / "project").mkdir()
    return Slurm(tmp_path)


def saving(slurm: Slurm, code: int = 75) -> None:
    slurm.command(f"exec {sys.executable} -SEc '{WAITS.format(code=code)}' \"$@\"")


@pytest.mark.parametrize("sent", [signal.SIGUSR1, signal.SIGTERM])
def test_a_job_that_is_told_to_saves_and_is_queued_again(slurm: Slurm, sent: signal.Signals) -> None:
    saving(slurm)
    job = slurm.start("train.sbatch", "demo", "seed=1")
    slurm.wait()
    job.send_signal(sent)
    printed, _ = job.communicate(timeout=20)
    assert job.returncode == 75
    assert slurm.requests == ["requeue 7"]
    assert printed == "job 7 was interrupted: it is queued again, and goes on in the same run folder\n"
    assert slurm.read("up") == "-m experiments train demo run=slurm-7 seed=1 resume=auto"
    assert slurm.read("step").startswith("--kill-on-bad-exit=0 --wait=600")
    assert slurm.read("queue") == "--noheader --job 7 --format %T %r"


def test_a_signal_while_the_step_starts_is_not_lost(slurm: Slurm) -> None:
    saving(slurm)
    early = slurm.folder / "early.sh"
    now = """if [[ $BASH_COMMAND == "pid=\\$!" ]]; then touch sent; kill -USR1 $$; fi"""
    early.write_text(f"set -T; trap '{now}' DEBUG\n")
    job = slurm.start("train.sbatch", "demo", BASH_ENV=str(early))
    job.communicate(timeout=20)
    assert (slurm.folder / "sent").exists()
    assert slurm.requests == ["requeue 7"]
    assert job.returncode in (75, 138)  # it has saved, or could not listen yet


def test_of_an_array_one_task_is_queued_again(slurm: Slurm) -> None:
    saving(slurm)
    # The last task of an array has the id that means all of it.
    job = slurm.start("study.sbatch", "ravdess", SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="12")
    slurm.wait()
    job.send_signal(signal.SIGUSR1)
    job.communicate(timeout=20)
    assert slurm.requests == ["requeue 7_12"]
    assert slurm.read("up") == "-m experiments.study run ravdess numbers=12"


def test_an_agent_of_a_sweep(slurm: Slurm) -> None:
    slurm.command('echo "$@" > up')
    job = slurm.start("sweep.sbatch", "abc", "count=3", SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID="0")
    job.communicate(timeout=20)
    assert job.returncode == 0
    assert slurm.read("up") == "-m experiments.sweep agent abc count=3"


@pytest.mark.parametrize(
    ("state", "again"), [("RUNNING None", True), ("COMPLETING TimeLimit", True), ("COMPLETING None", False)]
)
def test_a_job_that_was_cancelled_stays_so(slurm: Slurm, state: str, again: bool) -> None:
    saving(slurm)
    slurm.state(state)
    job = slurm.start("train.sbatch", "demo")
    slurm.wait()
    job.send_signal(signal.SIGTERM)
    printed, _ = job.communicate(timeout=20)
    assert slurm.requests == ["requeue 7"] * again
    assert ("is not queued again" in printed) != again
    assert job.returncode == 75


def test_a_job_is_not_queued_again_for_ever(slurm: Slurm) -> None:
    slurm.command("exit 75")
    for restarts, again in (("2", True), ("3", False)):
        job = slurm.start("train.sbatch", "demo", SLURM_RESTART_COUNT=restarts, REQUEUES="3")
        printed, _ = job.communicate(timeout=20)
        assert ("it ends here" in printed) != again
    assert slurm.requests == ["requeue 7"]


@pytest.mark.parametrize("code", [0, 1, 2, 137])
def test_what_ended_otherwise_has_ended(slurm: Slurm, code: int) -> None:
    slurm.command(f"exit {code}")
    job = slurm.start("train.sbatch", "demo")
    printed, _ = job.communicate(timeout=20)
    assert (printed, job.returncode, slurm.requests) == ("", code, [])


def test_a_command_that_did_not_listen_yet_goes_on_too(slurm: Slurm) -> None:
    slurm.command("touch up; exec sleep 60")
    job = slurm.start("train.sbatch", "demo")
    slurm.wait()
    job.send_signal(signal.SIGUSR1)
    job.communicate(timeout=20)
    assert slurm.requests == ["requeue 7"]


def test_a_busy_controller_is_asked_again(slurm: Slurm) -> None:
    slurm.command("exit 75")
    program(slurm.bin / "scontrol", f'echo "$@" >> {slurm.asked}; [ $(wc -l < {slurm.asked}) = 2 ]')
    slurm.start("train.sbatch", "demo").communicate(timeout=20)
    assert slurm.requests == ["requeue 7"] * 2


def test_a_signal_does_not_end_the_waiting(slurm: Slurm) -> None:
    slurm.command("trap 'touch again' USR1; touch up; for i in 1 2 3 4 5 6 7 8 9; do sleep 0.1; done; exit 3")
    job = slurm.start("train.sbatch", "demo")
    slurm.wait()
    job.send_signal(signal.SIGUSR1)
    slurm.wait("again")
    job.send_signal(signal.SIGTERM)
    job.communicate(timeout=20)
    assert (job.returncode, slurm.requests) == (3, [])


def test_processors_and_the_site_s_own_lines(slurm: Slurm) -> None:
    slurm.command('echo "$SRUN_CPUS_PER_TASK $OMP_NUM_THREADS $LOADED" > up')
    (slurm.folder / "experiments").unlink()
    (slurm.folder / "experiments").mkdir()
    source = Path(__file__).parents[1] / "experiments" / "slurm"
    (slurm.folder / "experiments" / "slurm").mkdir()
    for script in ("job.sh", "train.sbatch"):
        (slurm.folder / "experiments" / "slurm" / script).write_text((source / script).read_text())
    (slurm.folder / "experiments" / "slurm" / "site.sh").write_text("export LOADED=cuda\n")
    assert slurm.start("train.sbatch", "demo").wait(20) == 0
    assert slurm.read("up") == "3 3 cuda"


def test_elsewhere_it_is_told(slurm: Slurm, tmp_path: Path) -> None:
    script = slurm.folder / "experiments" / "slurm" / "train.sbatch"
    done = subprocess.run(["bash", script, "python", "demo"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "experiments/slurm/job.sh: No such file" in done.stderr
