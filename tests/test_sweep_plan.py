"""Sweeps read from W&B's format: those that ship, and what is refused before the first trial."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from datamodules.errors import InputError
from experiments.config import load
from experiments.sweep.__main__ import main
from experiments.sweep.plan import Halving, read_sweep, sweeps

COMMAND = ["${env}", "${interpreter}", "-m", "experiments", "train", "ravdess_cat", "trainer.test=false"]
PARAMETERS = "${args_no_hyphens}"


def described(**changes: Any) -> dict[str, Any]:
    sweep = {
        "method": "random",
        "run_cap": 3,
        "metric": {"name": "dev/uar", "goal": "maximize"},
        "parameters": {"data.quota": {"values": [8, 16]}, "model.decoder.weight": {"min": 0.0, "max": 1.0}},
        "command": [*COMMAND, PARAMETERS],
    }
    return {key: value for key, value in (sweep | changes).items() if value is not None}


def written(folder: Path, **changes: Any) -> str:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump(described(**changes), sort_keys=False))
    return str(file)


@pytest.mark.parametrize("name", sweeps())
def test_a_sweep_that_ships(name: str) -> None:
    sweep = read_sweep(name, ["data.root=/corpora", "seed=3"], count=5)
    assert (sweep.name, sweep.count) == (name, 5)
    assert sweep.config["command"][-2:] == ["data.root=/corpora", "seed=3"]
    config = load(sweep.experiment, sweep.settings)
    assert (config.trainer.test, config.trainer.monitor, config.data.root, config.seed) == (
        False,
        sweep.metric,
        "/corpora",
        3,
    )


def test_those_that_ship_show_what_there_is() -> None:
    all_of_them = [read_sweep(name, count=1) for name in sweeps()]
    assert {one.method for one in all_of_them} == {"grid", "random", "bayes"}
    assert {one.metric for one in all_of_them} == {"dev/uar", "dev/ccc"}
    assert any(one.method == "bayes" and one.halving for one in all_of_them)


def test_a_trial_is_the_command_that_w_and_b_s_agent_would_run(tmp_path: Path) -> None:
    nested = {"heads": {"parameters": {"emotion": {"parameters": {"dropout": {"value": 0.5}}}}}}
    parameters = {
        "data.quota": {"value": 16},
        "model.encoder.channels": {"values": [[8, 16]]},
        "model.heads.speaker.adversarial": {"value": True},
        "model": {"parameters": nested},
    }
    sweep = read_sweep(written(tmp_path, parameters=parameters), ["seed=1"])
    values = sweep.values({one.name: one.drawn.choices[0] for one in sweep.space})  # type: ignore[attr-defined]
    sent = {
        "data.quota": 16,
        "model.encoder.channels": [8, 16],
        "model.heads.speaker.adversarial": True,
        "model": {"heads": {"emotion": {"dropout": 0.5}}},
    }
    made = create_sweep_command_args({"args": {name: {"value": value} for name, value in sent.items()}})
    own = ["/usr/bin/env", sys.executable, *COMMAND[2:], *made["args_no_hyphens"], "seed=1"]
    assert sweep.words(values) == own
    config = load("ravdess_cat", own[6:])
    assert (config.model.heads["emotion"].dropout, config.model.encoder.channels) == (0.5, [8, 16])
    assert config.model.heads["speaker"].adversarial


@pytest.mark.parametrize(
    ("rule", "halving"),
    [
        ({"min_iter": 7}, Halving(7, 3, None)),
        ({"min_iter": 2, "eta": 2}, Halving(2, 2, None)),
        ({"max_iter": 27, "s": 2}, Halving(3, 3, 27)),
        ({"max_iter": 60, "s": 2, "eta": 3}, Halving(6, 3, 60)),
        ({"max_iter": 8, "s": 9, "eta": 2}, Halving(1, 2, 8)),
        ({"max_iter": 8, "s": 10**9, "eta": 2}, Halving(1, 2, 8)),
    ],
)
def test_early_termination(tmp_path: Path, rule: dict[str, Any], halving: Halving) -> None:
    sweep = read_sweep(written(tmp_path, early_terminate={"type": "hyperband", **rule}))
    assert sweep.halving == halving


def test_a_grid_ends_by_itself(tmp_path: Path) -> None:
    parameters = {"data.quota": {"values": [8, 16]}}
    assert read_sweep(written(tmp_path, method="grid", run_cap=None, parameters=parameters)).count is None
    with pytest.raises(InputError, match="the sweep mine has no end") as error:
        read_sweep(written(tmp_path, run_cap=None))
    assert "COUNT=" in error.value.remedy
    assert read_sweep(written(tmp_path, run_cap=None), count=2).count == 2


def test_its_name(tmp_path: Path) -> None:
    assert read_sweep(written(tmp_path)).name == "mine"
    assert read_sweep(written(tmp_path, name="given")).name == "given"
    assert read_sweep(written(tmp_path, name="given"), title="wanted").name == "wanted"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": None}, ["method is None", "grid, random, bayes"]),
        ({"method": "custom"}, ["method is 'custom'"]),
        ({"metric": None}, ["names no metric", "metric: {name: dev/uar, goal: maximize}"]),
        ({"metric": {"goal": "maximize"}}, ["names no metric"]),
        ({"metric": {"name": "test/uar", "goal": "maximize"}}, ["test/uar of the test set, which chooses nothing"]),
        ({"metric": {"name": "final/test/uar", "goal": "maximize"}}, ["of the test set, which chooses nothing"]),
        ({"metric": {"name": "train/loss", "goal": "minimize"}}, ["train/loss, which is no development score"]),
        ({"metric": {"name": "dev/uar"}}, ["goal is minimize, as it is not given", "goal: maximize"]),
        ({"metric": {"name": "dev/uar", "goal": "minimize"}}, ["goal is minimize"]),
        ({"metric": {"name": "dev/uar", "goal": "maximize", "target": 0.9}}, ["metric.target does nothing here"]),
        ({"metric": {"name": "dev/ccc", "goal": "maximize"}}, ["chosen by dev/uar", "trainer.monitor=dev/ccc"]),
        ({"parameters": None}, ["names no parameters"]),
        ({"parameters": {"data.quotta": {"values": [8]}}}, ["a trial would be refused", "Did you mean: data.quota"]),
        ({"parameters": {"data.quota": {"values": [8, "many"]}}}, ["a trial would be refused", "data.quota=many"]),
        ({"parameters": {"data.quota": {"min": 0, "max": 8}}}, ["a trial would be refused", "data.quota is 0"]),
        (
            {"parameters": {"model.decoder.weight": {"distribution": "normal"}}},
            ["a trial would be refused", "model.decoder.weight is -2.3", "Give 0 or more"],
        ),
        ({"parameters": {"trainer.test": {"values": [True]}}}, ["trainer.test is not for a sweep to set"]),
        ({"parameters": {"run": {"values": ["a"]}}}, ["run is not for a sweep to set"]),
        ({"parameters": {"trainer.monitor": {"values": ["dev/uar"]}}}, ["trainer.monitor is not for a sweep to set"]),
        ({"run_cap": 0}, ["run_cap is 0"]),
        ({"run_cap": "many"}, ["run_cap is 'many'"]),
        ({"early_terminate": {"type": "median"}}, ["early_terminate is {'type': 'median'}"]),
        ({"early_terminate": {"type": "hyperband"}}, ["Give min_iter, or max_iter and s"]),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3, 4: 5}}, ["early_terminate has type, min_iter, 4"]),
        ({"early_terminate": {"type": "hyperband", "max_iter": 27}}, ["Give min_iter, or max_iter and s"]),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3, "eta": 2.5}}, ["early_terminate.eta is 2.5"]),
        ({"early_terminate": {"type": "hyperband", "min_iter": 0}}, ["early_terminate.min_iter is 0"]),
        ({"early_terminate": {"type": "hyperband", "min_iter": 3, "strict": False}}, ["strict is False"]),
        ({"early_terminate": {"type": "hyperband", "max_iter": 2, "s": 1}}, ["max_iter is 2 and eta 3"]),
        ({"metrics": []}, ["a sweep has no 'metrics' here", "Did you mean metric?"]),
        ({"command": None}, ["has no command", PARAMETERS, "trainer.test=false"]),
        ({"command": ["python", "train.py", PARAMETERS]}, ["which trains no experiment"]),
        ({"command": [*COMMAND, "${args}"]}, [f"{PARAMETERS} not once"]),
        ({"command": [*COMMAND, PARAMETERS, "${program}"]}, ["the command has ${program}"]),
        ({"command": [*COMMAND[:-1], PARAMETERS]}, ["would score the test set", "trainer.test=false"]),
        ({"command": [*COMMAND, PARAMETERS, "trainer.test=true"]}, ["would score the test set"]),
        ({"command": [*COMMAND, PARAMETERS, "data.quota=8"]}, ["data.quota is a parameter, and set for all trials"]),
        ({"command": [*COMMAND, PARAMETERS, "output=x"]}, ["output is not for a sweep to set"]),
        ({"command": [*COMMAND[:5], "ravdes_cat", PARAMETERS]}, ["unknown experiment 'ravdes_cat'", "ravdess_cat"]),
        ({"name": "a/b"}, ["the name of the sweep is 'a/b'"]),
    ],
)
def test_what_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], told: list[str]
) -> None:
    file = written(tmp_path, **changes)
    assert main(["run", file, f"output={tmp_path / 'sweeps'}", "local=true"]) == 2
    message = refusal(capsys)
    assert file in message
    assert [part for part in told if part not in message] == []
    assert not (tmp_path / "sweeps").exists()


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("error: ") == 1
    assert "\n  " in captured.err, "a remedy"
    return captured.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "ravdess_bayess"], ["unknown sweep 'ravdess_bayess'", "Did you mean: ravdess_bayes"]),
        (["create", "nowhere.yaml"], ["the sweep file nowhere.yaml does not exist"]),
        (["run", "demo", "count=many"], ["count is 'many'"]),
        (["run", "demo", "count=0"], ["count is '0'"]),
        (["run", "demo", "agents=two"], ["agents is 'two'"]),
        (["run", "demo", "local=yes"], ["local is 'yes'"]),
        (["run", "demo", "data.quotta=8"], ["there is no setting 'data.quotta'", "Did you mean: data.quota"]),
        (["run", "demo", "--data.quota=8"], ["Settings are written key=value"]),
        (["agent", "nowhere", "count=1.5"], ["count is '1.5'"]),
        (["agent", "nowhere", "data.root=/x"], ["an agent takes no data.root=/x"]),
        (["agent", str(Path(__file__).parent)], ["tests is no folder of a sweep", "create"]),
    ],
)
def test_a_wrong_command(capsys: pytest.CaptureFixture[str], arguments: list[str], told: list[str]) -> None:
    assert main(arguments) == 2
    message = refusal(capsys)
    assert [part for part in told if part not in message] == []


@pytest.mark.parametrize(("text", "told"), [("a: [", "cannot be read as YAML"), ("- a", "describes no sweep")])
def test_no_sweep_at_all(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=told):
        read_sweep(str(tmp_path / "mine.yaml"))


def test_a_setting_of_the_user_wins_over_the_command_s(tmp_path: Path) -> None:
    file = written(tmp_path, command=[*COMMAND, "trainer.epochs=60", PARAMETERS])
    sweep = read_sweep(file, ["trainer.epochs=2"])
    assert load(sweep.experiment, sweep.settings).trainer.epochs == 2
