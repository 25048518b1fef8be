"""Sweeps from their YAML to their runs: by W&B's own client beside a server on this machine, and here with Optuna."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
import yaml  # type: ignore[import-untyped]

from callbacks.interruption import AGAIN, INTERRUPTED, Interrupted
from experiments.__main__ import main as train
from experiments.config import Config
from experiments.files import read_json, read_scores
from experiments.loggers import MetricsFile, logged
from experiments.sweep import member
from experiments.sweep.__main__ import main
from experiments.sweep.report import BEST_SETTINGS
from tests import fakes, runs
from tests.wandb_server import ENTITY, KEY, Server, serving

ROOT = Path(__file__).parents[1]
EXPERIMENT = "ravdess_single_task"
ENDLESS = 100_000
"""Epochs that no test waits for."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    fakes.ravdess(root / "ravdess", actors=6)
    return root


@pytest.fixture
def sweep(tmp_path: Path, root: Path) -> str:
    """A sweep of small runs."""
    small = [setting for setting in runs.SMALL if not setting.startswith(("data.corpora", "trainer.epochs"))]
    small += ["split.folds=3", "trainer.checkpoint_minutes=1e-9", f"data.root={root}", f"data.cache={root / 'cache'}"]
    command = ["${env}", "${interpreter}", "-m", "experiments", "train", EXPERIMENT, "trainer.test=false"]
    described = {
        "method": "random",
        "metric": {"name": "dev/uar", "goal": "maximize"},
        "parameters": {
            "model.optimiser.learning_rate": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1},
            "trainer.epochs": {"values": [1, 2]},
            "model": {"parameters": {"encoder": {"parameters": {"dropout": {"values": [0.1, 0.2]}}}}},
        },
        "command": [*command, "${args_no_hyphens}", *small],
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(described, sort_keys=False))
    return str(tmp_path / "mine.yaml")


def trial(epochs: int) -> dict[str, Any]:
    """What the server has an agent run."""
    values = {"model.optimiser.learning_rate": 0.01, "trainer.epochs": epochs}
    return {**values, "model": {"encoder": {"dropout": 0.25}}}


def started(server: Server, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Starts a command that finds the server, and an account on it."""
    apart = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    places = {f"WANDB_{name}_DIR": str(folder) for name in ("CACHE", "CONFIG", "DATA")}
    hurry = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.sweep", *arguments],
        cwd=ROOT,
        env={**apart, **places, **hurry, "WANDB_BASE_URL": server.url, "WANDB_API_KEY": KEY},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=200)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Has W&B's client in this process find a server, with an account."""

    def find(url: str) -> None:
        wandb.teardown()
        monkeypatch.delenv("WANDB_MODE", raising=False)
        for name, value in (("BASE_URL", url), ("API_KEY", KEY), ("ENTITY", ""), ("PROJECT", "")):
            monkeypatch.setenv(f"WANDB_{name}", value)

    yield find
    wandb.teardown()


def test_w_and_b_conducts_a_sweep(tmp_path: Path, sweep: str) -> None:
    """The first run is stopped by the server, as early termination does it; the second one is trained to its end."""
    output = tmp_path / "runs"
    with serving(trial(ENDLESS), trial(2), stop_after={"run0": 3}, stop_metric="dev/uar") as server:
        code, out, err = ended(started(server, tmp_path, "run", sweep, "count=2", f"output={output}", "seed=4"))
    assert code == 0, err
    assert str(output / EXPERIMENT / "run1") in out

    ((name, sent),) = server.sweeps.items()
    described = yaml.safe_load(Path(sweep).read_text())
    assert (sent["method"], sent["metric"], sent["run_cap"], sent["name"]) == ("random", described["metric"], 2, "mine")
    assert sent["parameters"] == described["parameters"]
    assert sent["command"] == [*described["command"], "seed=4", f"output={output}"]

    stopped, whole = server.runs["run0"], server.runs["run1"]
    for run in (stopped, whole):
        assert run.sweep == name
        assert run.exit_code == 0, "a trial that is stopped has not failed: agents give up after some that have"
        assert run.config["trainer"]["value"]["test"] is False
        told = json.dumps([run.history, run.summary, run.files, run.artifacts])
        assert "test" not in told
    scores = {id(run): [row["dev/uar"] for row in run.history if "dev/uar" in row] for run in (stopped, whole)}
    assert 3 <= len(scores[id(stopped)]) < ENDLESS
    assert len(scores[id(whole)]) == 2
    assert whole.summary["dev/uar"] == whole.summary["final/dev/uar"] == pytest.approx(max(scores[id(whole)]))
    assert whole.config["model"]["value"]["encoder"]["dropout"] == 0.25
    assert whole.artifacts == [f"{EXPERIMENT}-run1"]

    assert not stopped.preempted
    assert not (output / EXPERIMENT / "run0" / "results.json").exists()
    assert "test" not in read_json(output / EXPERIMENT / "run1" / "results.json")
    assert read_json(output / EXPERIMENT / "run1" / "environment.json")["wandb"] == "run1"


def test_a_trial_of_an_agent_that_is_told_to_end_goes_on_with_another(
    client: Callable[[str], None], tmp_path: Path, sweep: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "runs"
    folder = output / EXPERIMENT / "run0"
    epochs = 30
    with serving(trial(epochs)) as server:
        client(server.url)
        assert main(["create", sweep, "count=1", f"output={output}"]) == 0
        place = capsys.readouterr().out.strip()
        assert place == f"{ENTITY}/ser-aae/sweep0"
        first = started(server, tmp_path, "agent", place)
        until(lambda: len(read_scores(folder, "dev/uar")) > 3, first)
        first.send_signal(signal.SIGTERM)
        code, _, err = ended(first)
        assert code == AGAIN, err
        assert server.runs["run0"].preempted
        assert server.runs["run0"].exit_code == 1
        assert len(read_scores(folder, "dev/uar")) < epochs
        code, _, err = ended(started(server, tmp_path, "agent", place, "count=1"))
    assert code == 0, err
    assert list(server.runs) == ["run0"]
    assert server.runs["run0"].exit_code == 0
    assert len(read_scores(folder, "dev/uar")) == epochs
    assert len(read_json(folder / "environment.json")["resumed"]) == 1


@pytest.fixture
def unreachable() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("error: ") == 1
    assert "Traceback" not in err
    return err[err.index("error: ") :]


def test_a_server_that_does_not_answer(
    client: Callable[[str], None], unreachable: str, sweep: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    client(unreachable)
    for arguments in (("run", sweep, "count=1", f"output={tmp_path / 'x'}"), ("agent", f"{ENTITY}/ser-aae/sweep0")):
        message = refused(capsys, *arguments)
        assert f"W&B cannot be used: {unreachable} cannot be reached" in message
        assert "local=true" in message
    assert not (tmp_path / "x").exists()


def test_a_sweep_that_the_server_does_not_know(
    client: Callable[[str], None], sweep: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving() as server:
        client(server.url)
        message = refused(capsys, "agent", f"{ENTITY}/ser-aae/nowhere")
        assert f"{ENTITY}/ser-aae/nowhere is neither a sweep's folder nor a sweep that W&B knows" in message
        server.sweeps["tested"] = {"command": ["python", "train.py"]}
        message = refused(capsys, "agent", f"{ENTITY}/ser-aae/tested")
        assert "would score the test set" in message


def test_a_sweep_that_the_server_refuses(
    client: Callable[[str], None], sweep: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> dict[str, Any]:
        raise KeyError("permission")

    monkeypatch.setattr(Server, "_upsert_sweep", refuse)
    with serving() as server:
        client(server.url)
        message = refused(capsys, "create", sweep, "count=1", "wandb.entity=nobody")
    assert "W&B refuses the sweep mine" in message
    assert "nobody" in message


def test_without_an_account(sweep: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no folder" in refused(capsys, "agent", str(ROOT))
    assert "W&B cannot be used: WANDB_MODE is offline" in refused(capsys, "create", sweep, "count=1", "local=false")
    assert "W&B cannot be used: WANDB_MODE is offline" in refused(capsys, "agent", "a/b/c")


def test_a_search_here_goes_from_its_yaml_to_a_tested_run(
    tmp_path: Path, sweep: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each trial is an offline run of one group; the best settings are trained again, and tested once."""
    assert main(["run", sweep, "count=2", f"output={tmp_path / 'sweeps'}"]) == 0
    printed = capsys.readouterr()
    assert "Trials are made here with Optuna, because WANDB_MODE is offline." in printed.err
    folder = tmp_path / "sweeps" / "mine"
    assert printed.out.splitlines()[-1] == str(folder)
    trials = sorted((folder / EXPERIMENT).glob("trial-*/"))
    assert [one.name for one in trials] == ["trial-000", "trial-001"]
    for one in trials:
        assert "test" not in read_json(one / "results.json")
        (record,) = one.glob("wandb/offline-run-*/*.wandb")
        content = record.read_bytes()
        assert b"mine" in content
        assert b"final/dev/uar" in content
        assert b"final/test" not in content
    assert (folder / "results.md").read_text() in printed.out
    best = folder / BEST_SETTINGS
    assert train(["train", str(best), f"output={tmp_path / 'final'}", "wandb.enabled=false", "run=final"]) == 0
    final = read_json(tmp_path / "final" / "mine" / "final" / "results.json")
    number = int(best.read_text().split("trial ")[1].split(",")[0])
    assert final["dev"] == read_json(trials[number] / "results.json")["dev"]
    assert "uar" in final["test"]


@pytest.mark.parametrize(
    ("sent", "agent_ends", "code"),
    [
        (signal.SIGTERM, False, 0),
        (signal.SIGTERM, True, AGAIN),
        (signal.SIGUSR1, True, AGAIN),
        (signal.SIGINT, False, INTERRUPTED),
    ],
)
def test_how_a_trial_ends_that_is_told_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: signal.Signals, agent_ends: bool, code: int
) -> None:
    """W&B's agent takes any exit code but 0 for a failure, and gives up after some."""
    for name, value in (("WANDB_SWEEP_ID", "s"), ("WANDB_RUN_ID", "r"), (member.AGENT, str(tmp_path))):
        monkeypatch.setenv(name, value)
    if agent_ends:
        (tmp_path / member.INTERRUPTED).touch()
    metrics = MetricsFile(tmp_path / "metrics.csv")
    with pytest.raises(Interrupted) as told, logged(Config(experiment="demo"), tmp_path, metrics, "a"):
        raise Interrupted(sent)
    assert told.value.code == code
    wandb.teardown()
