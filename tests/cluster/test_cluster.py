"""What `make submit` queues, on a real SLURM: preempted, out of time, cancelled; on tasks, nodes and in arrays."""

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml  # type: ignore[import-untyped]

from experiments.files import BEST, read_json
from experiments.study.record import RECORDS, Record, read_records
from tests import fakes, runs
from tests.cluster.cluster import Cluster, wait_until
from tests.slurm import project

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

TIME = "10"
SETTINGS = (
    *runs.SMALL,
    "trainer.epochs=3",
    "trainer.checkpoint_minutes=100",  # none but those that are made at an epoch's end and at a signal
    "trainer.threads=1",
)
QUIET = "wandb.enabled=false"
EPOCH_S = 6
"""How long an epoch takes: long enough to be interrupted in."""


class Submitter:
    """Somebody who submits from a project's folder.

    Attributes:
        steps: Of an epoch.
    """

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        self.folder = project(folder)
        self.cluster = cluster
        self.steps = 20
        tried = self.completed(self.submit(QUIET, "trainer.epochs=1"))
        self.steps = max(self.steps, round(EPOCH_S * self.steps / read_json(tried / "results.json")["train_seconds"]))

    def make(self, *settings: str, **variables: object) -> str:
        """``make submit``, with settings as ARGS; returns what it prints."""
        given = {"TIME": TIME, "GPUS": 0, "CPUS": 1, **variables, "ARGS": " ".join(map(shlex.quote, settings))}
        words = ["make", "submit", *(f"{name}={value}" for name, value in given.items())]
        return self.cluster.ask(*words, cwd=self.folder)

    def submit(self, *settings: str, **variables: object) -> str:
        """The same of the demo; returns the job's id."""
        return number(self.make(*SETTINGS, f"data.steps={self.steps}", *settings, EXP="demo", **variables))

    def run(self, job: str) -> Path:
        """The run folder of a job."""
        return self.folder / "runs" / "demo" / f"slurm-{job}"

    def log(self, job: str) -> str:
        """What a job wrote."""
        return (self.folder / "runs" / "slurm" / f"demo-{job}.out").read_text()

    def after_an_epoch(self, folder: Path) -> None:
        """Waits until a run is in its second epoch."""
        wait_until((folder / BEST).exists, 240, lambda: "\n".join(self.cluster.jobs()))

    def completed(self, job: str) -> Path:
        """Waits until a job has ended well; returns its run folder."""
        found = self.cluster.wait(job, ENDED)
        assert found["JobState"] == "COMPLETED", f"{found}\n{self.log(job)}"
        return self.run(job)


ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "PREEMPTED", "NODE_FAIL")


def number(printed: str) -> str:
    found = re.search(r"^job (\d+): ", printed, re.MULTILINE)
    assert found, printed
    return found[1]


@pytest.fixture(scope="module")
def submitter(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Submitter:
    return Submitter(tmp_path_factory.mktemp("project"), cluster)


@pytest.fixture(scope="module")
def whole(submitter: Submitter) -> Path:
    """A run that nothing happens to."""
    return submitter.completed(submitter.submit(QUIET))


@pytest.fixture(scope="module")
def whole_of_two(submitter: Submitter) -> Path:
    """The same, made by two tasks of a node."""
    return submitter.completed(submitter.submit(QUIET, TASKS=2))


def assert_same(folder: Path, whole: Path) -> None:
    """Interrupted once, a run is what it would have been."""
    assert len(read_json(folder / "environment.json")["resumed"]) == 1
    results, expected = (read_json(one / "results.json") | {"train_seconds": None} for one in (folder, whole))
    assert results == expected
    assert (folder / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    weights, wanted = (torch.load(one / BEST, weights_only=True)["state_dict"] for one in (folder, whole))
    assert all(torch.equal(weights[name], wanted[name]) for name in wanted)


def preemption(cluster: Cluster, job: str) -> None:
    """A job of a higher partition wants both nodes."""
    cluster.ask("sbatch", "--partition=high", "--nodes=2", "--exclusive", "--output=/dev/null", "--wrap=sleep 3")


def told(cluster: Cluster, job: str) -> None:
    """What SLURM sends ahead of a time limit."""
    cluster.ask("scancel", "--batch", "--signal=USR1", job)


def terminated(cluster: Cluster, job: str) -> None:
    """What SLURM sends the tasks where they are preempted."""
    cluster.ask("scancel", "--signal=TERM", job)


@pytest.mark.parametrize("interrupt", [preemption, told])
def test_an_interrupted_training_goes_on(
    submitter: Submitter, whole: Path, interrupt: Callable[[Cluster, str], None]
) -> None:
    job = submitter.submit(QUIET)
    submitter.after_an_epoch(submitter.run(job))
    interrupt(submitter.cluster, job)
    folder = submitter.completed(job)
    assert submitter.cluster.job(job)["Restarts"] == "1"
    assert f"job {job} was interrupted: it is queued again" in submitter.log(job)
    assert_same(folder, whole)


def test_it_is_the_same_run_of_wandb(submitter: Submitter) -> None:
    job = submitter.submit(CPUS=2)
    submitter.after_an_epoch(submitter.run(job))
    terminated(submitter.cluster, job)
    folder = submitter.completed(job)
    run = read_json(folder / "environment.json")["wandb"]
    parts = sorted(path.name for path in (folder / "wandb").glob("offline-run-*"))
    assert len(parts) == 2
    assert all(part.endswith(run) for part in parts)


def test_workers_live_until_it_is_saved(submitter: Submitter, whole: Path) -> None:
    job = submitter.submit(QUIET, "data.workers=1", CPUS=2)
    submitter.after_an_epoch(submitter.run(job))
    terminated(submitter.cluster, job)
    assert_same(submitter.completed(job), whole)


def test_two_tasks_on_a_node(submitter: Submitter, whole_of_two: Path) -> None:
    job = submitter.submit(QUIET, TASKS=2)
    submitter.after_an_epoch(submitter.run(job))
    told(submitter.cluster, job)
    folder = submitter.completed(job)
    assert submitter.cluster.job(job)["Restarts"] == "1"
    assert_same(folder, whole_of_two)


def test_two_nodes(submitter: Submitter, whole_of_two: Path) -> None:
    job = submitter.submit(QUIET, NODES=2)
    submitter.after_an_epoch(submitter.run(job))
    told(submitter.cluster, job)
    folder = submitter.completed(job)
    assert submitter.cluster.job(job)["NumNodes"] == "2"
    assert_same(folder, whole_of_two)


def test_a_job_that_is_out_of_time_goes_on(submitter: Submitter) -> None:
    job = submitter.submit(QUIET, "trainer.epochs=1000", TIME=2, LEAD=30)
    folder = submitter.run(job)
    submitter.after_an_epoch(folder)
    wait_until(lambda: submitter.cluster.job(job)["Restarts"] == "1", 150, lambda: submitter.log(job))
    assert "TIME LIMIT" not in submitter.log(job), "it ended before its limit"
    epochs = submitter.log(job).count("\nEpoch ")
    wait_until(lambda: submitter.log(job).count("\nEpoch ") > epochs, 120, lambda: submitter.log(job))
    assert f"\nEpoch {epochs}/999: " in submitter.log(job), "it began anew"
    assert len(read_json(folder / "environment.json")["resumed"]) == 1
    submitter.cluster.ask("scancel", job)


def test_a_cancelled_job_stays_so_and_its_run_may_go_on(submitter: Submitter, whole: Path) -> None:
    job = submitter.submit(QUIET)
    submitter.after_an_epoch(submitter.run(job))
    submitter.cluster.ask("scancel", job)
    assert submitter.cluster.wait(job, ENDED)["JobState"] == "CANCELLED"
    assert "it is not queued again here" in submitter.log(job)
    later = submitter.submit(QUIET, f"run=slurm-{job}")
    assert submitter.cluster.wait(later, ENDED)["JobState"] == "COMPLETED"
    assert submitter.cluster.job(job)["JobState"] == "CANCELLED"
    assert_same(submitter.run(job), whole)


def test_a_job_that_cannot_succeed_ends(submitter: Submitter) -> None:
    job = submitter.submit(QUIET, "trainer.accelerator=gpu", GPUS=1)
    found = submitter.cluster.wait(job, ENDED)
    assert (found["JobState"], found["ExitCode"], found["Restarts"]) == ("FAILED", "2:0", "0")
    assert "error: trainer.accelerator is 'gpu'" in submitter.log(job)


def test_a_study_is_an_array_of_its_runs(submitter: Submitter) -> None:
    fakes.ravdess(submitter.folder / "corpora" / "ravdess", actors=7, statements=1, rate=16_000)
    pairs = (setting.partition("=") for setting in SETTINGS if not setting.startswith("data.corpora"))
    small = {key: yaml.safe_load(value) for key, _, value in pairs}
    small |= {"data.auxiliary": [], "data.steps": submitter.steps}
    systems = {name: {"settings": small} for name in ("full", "single_task")}
    study = {"experiments": ["ravdess_cat"], "folds": [0, 1], "title": "A study", "systems": systems}
    (submitter.folder / "mine.yaml").write_text(yaml.safe_dump(study))

    def make(records: str, *settings: str) -> str:
        places = ["data.root=corpora", QUIET, f"output=runs/{records}", f"records={records}"]
        return submitter.make(*places, *settings, STUDY="mine.yaml")

    def records(name: str) -> dict[tuple[object, ...], Record]:
        found = read_records(submitter.folder / name / "mine" / RECORDS)
        return {record.key: replace(record, train_seconds=0) for record in found}

    array = number(make("interrupted", "numbers=1,3"))
    folder = submitter.folder / "runs" / "interrupted" / "mine" / "ravdess_cat" / "single_task-fold1-seed0"
    submitter.after_an_epoch(folder)
    told(submitter.cluster, f"{array}_3")  # the last task has the number that means the array
    for task in ("1", "3"):
        found = submitter.cluster.wait(f"{array}_{task}", ENDED)
        assert (found["JobState"], found["Restarts"]) == ("COMPLETED", "1" if task == "3" else "0")
    assert len(read_json(folder / "environment.json")["resumed"]) == 1

    rest = number(make("interrupted"))
    for task in ("0", "2"):
        assert submitter.cluster.wait(f"{rest}_{task}", ENDED)["JobState"] == "COMPLETED"
    assert make("interrupted") == "mine: 4 of 4 runs are done"

    undisturbed = number(make("undisturbed", "numbers=3"))
    submitter.cluster.wait(f"{undisturbed}_3", ENDED)
    (key, record), *_ = records("undisturbed").items()
    assert records("interrupted")[key] == record
    assert len(records("interrupted")) == 4


def test_a_sweep_is_an_array_of_agents(submitter: Submitter) -> None:
    settings = [*SETTINGS, QUIET, f"data.steps={submitter.steps}", "trainer.test=false"]
    sweep = {
        "method": "random",
        "metric": {"name": "dev/uar", "goal": "maximize"},
        "run_cap": 3,
        "parameters": {"model.decoder.weight": {"min": 0.1, "max": 1.0}},
        "command": ["${env}", "${interpreter}", "-m", "experiments", "train", "demo", *settings, "${args_no_hyphens}"],
    }
    (submitter.folder / "search.yaml").write_text(yaml.safe_dump(sweep))
    create = [".venv/bin/python", "-m", "experiments.sweep", "create", "search.yaml", "local=true"]
    place = submitter.cluster.ask(*create, cwd=submitter.folder).splitlines()[-1]
    array = number(submitter.make(SWEEP=place, AGENTS=2))
    trials = [submitter.folder / place / "demo" / f"trial-{trial:03}" for trial in range(3)]
    for trial in trials[:2]:
        submitter.after_an_epoch(trial)
    told(submitter.cluster, f"{array}_1")
    for agent in ("0", "1"):
        found = submitter.cluster.wait(f"{array}_{agent}", ENDED)
        assert (found["JobState"], found["Restarts"]) == ("COMPLETED", agent)
    resumed = [len(read_json(trial / "environment.json")["resumed"]) for trial in trials]
    assert sorted(resumed) == [0, 0, 1]
    assert all((trial / "results.json").exists() for trial in trials)
    assert (submitter.folder / place / "best.yaml").exists()
