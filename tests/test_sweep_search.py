"""Searches that are made here: which trials are drawn, which are stopped, and what becomes of those that end badly."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from rich.console import Console

from callbacks.interruption import AGAIN, Interruption
from datamodules.errors import InputError
from experiments import claims
from experiments.config import Config, load, to_dict
from experiments.files import read_scores
from experiments.study.progress import View
from experiments.sweep import agent as agents
from experiments.sweep import plan, search
from experiments.sweep.__main__ import main
from experiments.sweep.agent import Agent
from experiments.sweep.plan import Sweep, read_sweep
from experiments.sweep.report import BEST_SETTINGS, write_figure, write_results
from experiments.sweep.search import JOURNAL, SWEEP, Search, begin

EXPERIMENT = "ravdess_single_task"
EPOCHS = 6
CURVE = """
import os, sys, time, pathlib, signal
own = dict(word.partition('=')[::2] for word in sys.argv[1:])
folder = pathlib.Path(own['output'], 'ravdess_single_task', own['run'])
folder.mkdir(parents=True, exist_ok=True)
(folder / 'config.yaml').touch()
quota, number = int(own['data.quota']), int(own['run'][-3:])
def curve(epoch):
    return round(1 - 1 / (epoch + 2) - abs(quota - 20) / 50, 4)
def log(epochs):
    rows = [f'{epoch},{curve(epoch)}' for epoch in range(epochs)]
    draft = folder / 'draft'
    draft.write_text('\\n'.join(['epoch,dev/uar', *rows, '']))
    draft.replace(folder / 'metrics.csv')
def end():
    (folder / 'results.json').write_text('{}')
"""
"""A trial without a training: its score is the better, the nearer the quota is to 20, and rises with the epochs."""
AT_ONCE = f"log({EPOCHS}); end()"
SLOWLY = f"""
for epochs in range(1, {EPOCHS} + 1):
    log(epochs)
    time.sleep(0.1)
end()
"""


class Sweeping:
    """A sweep whose trials are ``CURVE``, with what ``script`` says of their number, or of all."""

    def __init__(self, folder: Path) -> None:
        self.output = folder
        self.script: dict[int | None, str] = {None: AT_ONCE}
        self.console = Console(file=StringIO(), width=200)

    def words(self, sweep: Sweep, values: dict[tuple[str, ...], Any]) -> list[str]:
        scripts = json.dumps({str(number): script for number, script in self.script.items()})
        choose = f"scripts = {scripts}\nexec(scripts.get(str(number), scripts.get('None')))"
        return [
            sys.executable,
            "-SEc",
            CURVE + choose,
            *(f"{'.'.join(path)}={value}" for path, value in values.items()),
        ]

    def sweep(self, name: str = "mine", **changes: Any) -> Sweep:
        described: dict[str, Any] = {
            "method": "random",
            "run_cap": 4,
            "metric": {"name": "dev/uar", "goal": "maximize"},
            "parameters": {"data.quota": {"min": 2, "max": 60}, "model.augmentation.mixup": {"value": 0.2}},
            "command": ["${interpreter}", "-m", "experiments", "train", EXPERIMENT, "trainer.test=false"],
        }
        described["command"] += [f"trainer.epochs={EPOCHS}", "${args_no_hyphens}"]
        file = self.output / f"{name}.yaml"
        file.write_text(yaml.safe_dump(described | changes, sort_keys=False))
        return read_sweep(str(file))

    def begin(self, name: str = "mine", **changes: Any) -> Path:
        return begin(self.sweep(name, **changes), self.output / "sweeps")

    def make(self, folder: Path, count: int | None = None) -> Search:
        found = Search(folder)
        Agent(found, count, View(self.console), write_results, Interruption()).run()
        return found

    def printed(self) -> str:
        assert isinstance(self.console.file, StringIO)
        return self.console.file.getvalue()


@cache
def load_once(experiment: str, settings: tuple[str, ...]) -> Config:
    return load(experiment, settings)


@pytest.fixture
def sweeping(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sweeping:
    monkeypatch.setattr(agents, "TICK_S", 0.01)
    for module in (plan, search):  # to read a configuration takes time
        monkeypatch.setattr(module, "load", lambda experiment, settings: load_once(experiment, tuple(settings)))
    found = Sweeping(tmp_path)
    monkeypatch.setattr(Sweep, "words", lambda sweep, values: found.words(sweep, values))
    return found


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def outcome(folder: Path) -> list[tuple[str, ...]]:
    """All that is the same however long it took and wherever it was made."""
    return [tuple(row[key] for key in row if key not in ("seconds", "run")) for row in table(folder)]


def quotas(folder: Path) -> list[int]:
    return [int(row["data.quota"]) for row in table(folder)]


def curve(quota: int, epoch: int = EPOCHS - 1) -> float:
    return round(1 - 1 / (epoch + 2) - abs(quota - 20) / 50, 4)


@pytest.mark.parametrize(("method", "number"), [("random", 6), ("bayes", 16)])
def test_trials_are_drawn_by_their_number(sweeping: Sweeping, method: str, number: int) -> None:
    whole = sweeping.begin("whole", method=method, run_cap=number)
    sweeping.make(whole)
    assert len(table(whole)) == number
    assert len(set(quotas(whole))) > number / 2
    assert all(float(row["dev/uar"]) == curve(int(row["data.quota"])) for row in table(whole))
    again = sweeping.begin("again", method=method, run_cap=number)
    for count in (1, 5, number):
        sweeping.make(again, count)
        assert len(table(again)) == count
    assert outcome(again) == outcome(whole)
    far = [abs(quota - 20) for quota in quotas(whole)]
    if method == "bayes":
        assert sum(far[10:]) / 6 < 0.7 * sum(far[:10]) / 10, "it learns where the better ones are"
    other = sweeping.sweep("other", method=method)
    other.config["command"].append("seed=1")
    sweeping.make(begin(other, sweeping.output / "sweeps"))
    assert quotas(sweeping.output / "sweeps" / "other") != quotas(whole)[:4]


def test_a_grid_is_tried_once(sweeping: Sweeping) -> None:
    parameters = {"data.quota": {"values": [10, 20, 30]}, "model.augmentation.mixup": {"values": [0, 0.2]}}
    folder = sweeping.begin(method="grid", run_cap=50, parameters=parameters)
    sweeping.make(folder, 4)
    assert len(table(folder)) == 4
    sweeping.make(folder)
    found = [(int(row["data.quota"]), row["model.augmentation.mixup"]) for row in table(folder)]
    assert sorted(found) == [(quota, mixup) for quota in (10, 20, 30) for mixup in ("0", "0.2")]


def test_those_that_lag_behind_are_stopped(sweeping: Sweeping) -> None:
    halving = {"type": "hyperband", "min_iter": 2, "eta": 2}
    parameters = {"data.quota": {"min": 2, "max": 60}}
    found = {}
    for name, script in (("quick", AT_ONCE), ("slow", SLOWLY)):
        sweeping.script = {None: script}
        folder = sweeping.begin(name, run_cap=8, parameters=parameters, early_terminate=halving)
        made = sweeping.make(folder)
        found[name] = outcome(folder)
        for row in table(folder):
            done = int(row["epochs"])
            assert (done == EPOCHS) == (row["state"] == "complete")
            assert done in (2, 4, EPOCHS), "trials are compared after two and four epochs"
            assert float(row["dev/uar"]) == curve(int(row["data.quota"]), done - 1), "what came later does not count"
        # By hand: of the trials that came so far, a half may go on, and the first in any case.
        reached: list[float] = []
        for row in table(folder):
            reached.append(curve(int(row["data.quota"]), 1))
            allowed = sorted(reached, reverse=True)[: max(1, len(reached) // 2)]
            assert (reached[-1] in allowed) == (int(row["epochs"]) > 2), row
        stopped = [row for row in table(folder) if row["state"] == "stopped"]
        assert stopped
        if name == "slow":
            written = [len(read_scores(made.place(int(row["trial"])), "dev/uar")) for row in stopped]
            assert min(written) < EPOCHS, "they were not stopped but at their end"
    assert found["quick"] == found["slow"], "when one looks at the scores makes a difference"


def test_who_is_to_stop_is_stopped_even_if_its_agent_is_killed(sweeping: Sweeping) -> None:
    halving = {"type": "hyperband", "min_iter": 2, "eta": 2}
    parameters = {"data.quota": {"values": [20, 60]}}
    folder = sweeping.begin(run_cap=2, method="grid", parameters=parameters, early_terminate=halving)
    found = Search(folder)
    drawn = [found.next(None), found.next(None)]
    trials = {trial.values["data.quota",]: trial for trial in drawn if trial is not None}
    for quota, decision in ((20, None), (60, 1)):
        assert found.judge(trials[quota], {epoch: curve(quota, epoch) for epoch in range(2)}) == decision
    trials[60].folder.mkdir(parents=True)
    (trials[60].folder / "metrics.csv").write_text("epoch,dev/uar\n0,0.1\n1,0.2\n2,0.9\n")
    for trial in trials.values():
        claims.release(trial.claim)  # as when the agent is gone
    sweeping.make(folder)
    states = {row["data.quota"]: (row["state"], row["dev/uar"]) for row in table(folder)}
    assert states == {"20": ("complete", str(curve(20))), "60": ("stopped", "0.2")}


def test_who_has_arrived_is_not_stopped(sweeping: Sweeping) -> None:
    halving = {"type": "hyperband", "min_iter": EPOCHS // 2, "eta": 2}
    folder = sweeping.begin(run_cap=6, early_terminate=halving)
    sweeping.make(folder)
    assert {row["epochs"] for row in table(folder)} == {str(EPOCHS // 2), str(EPOCHS)}
    limited = {"type": "hyperband", "max_iter": 4, "s": 1, "eta": 2}
    other = sweeping.begin("other", run_cap=6, early_terminate=limited)
    sweeping.make(other)
    assert {row["epochs"] for row in table(other)} == {"2", str(EPOCHS)}, "none is compared after four epochs"


def test_a_trial_that_fails_does_not_end_the_sweep(sweeping: Sweeping) -> None:
    sweeping.script[1] = "log(2); print('the loss is NaN'); raise SystemExit(1)"
    sweeping.script[2] = "print('error: bad'); raise SystemExit(2)"
    folder = sweeping.begin()
    sweeping.make(folder)
    assert [row["state"] for row in table(folder)] == ["complete", "failed", "failed", "complete"]
    assert [row["epochs"] for row in table(folder)] == ["6", "2", "0", "6"]
    assert table(folder)[2]["dev/uar"] == ""
    printed = sweeping.printed()
    assert f"FAILED trial 1: exit code 1, {folder / EXPERIMENT / 'trial-001.log'}\n  the loss is NaN" in printed
    assert "FAILED trial 2: exit code 2" in printed
    sweeping.make(folder)
    assert len(table(folder)) == 4, "they count"


def test_the_sweep_ends_when_the_first_trials_cannot_use_their_input(sweeping: Sweeping) -> None:
    sweeping.script = {None: "print('error: no corpus'); raise SystemExit(2)"}
    folder = sweeping.begin(run_cap=9)
    with pytest.raises(InputError, match="none of the first 3 trials could use its input") as error:
        sweeping.make(folder)
    assert str(folder) in error.value.remedy
    assert sweeping.printed().count("error: no corpus") == 3
    assert [row["state"] for row in table(folder)] == ["failed"] * 3
    sweeping.script[1] = "raise SystemExit(1)"
    mixed = sweeping.begin("mixed", run_cap=5)
    sweeping.make(mixed)
    assert len(table(mixed)) == 5


def until(condition: Callable[[], Any], seconds: float = 30) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)
    return found


SAVES = f"""
def save(*_):
    (folder / 'saved').touch()
    raise SystemExit(75)
signal.signal(signal.SIGTERM, save)
if (folder / 'saved').exists():
    log({EPOCHS})
    end()
else:
    log(3)
    time.sleep(60)
"""
"""A trial that waits after three epochs, and when it is begun again, goes on to its end."""


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGUSR1])
def test_a_trial_that_was_interrupted_goes_on(sweeping: Sweeping, sent: signal.Signals) -> None:
    whole = sweeping.begin("whole")
    sweeping.make(whole)
    sweeping.script[2] = SAVES
    folder = sweeping.begin("mine")
    log = folder / EXPERIMENT / "trial-002" / "metrics.csv"

    def interrupt() -> None:
        until(log.exists)
        os.kill(os.getpid(), sent)

    threading.Thread(target=interrupt).start()
    assert main(["agent", str(folder)]) == AGAIN
    assert (log.parent / "saved").exists()
    assert table(folder)[-1]["trial"] == "1", "the third is not over"
    sweeping.make(folder)
    assert outcome(folder) == outcome(whole)
    assert float(table(folder)[2]["seconds"]) >= 0


def test_the_user_interrupts(sweeping: Sweeping, capsys: pytest.CaptureFixture[str]) -> None:
    sweeping.script[0] = SAVES
    folder = sweeping.begin()
    log = folder / EXPERIMENT / "trial-000" / "metrics.csv"

    def interrupt() -> None:
        until(log.exists)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert main(["agent", str(folder)]) == 130
    assert "goes on by the same command" in capsys.readouterr().err
    assert (log.parent / "saved").exists()
    sweeping.make(folder)
    assert [row["state"] for row in table(folder)] == ["complete"] * 4


def test_a_trial_that_others_end_goes_on(sweeping: Sweeping) -> None:
    sweeping.script[1] = "log(2); once = folder / 'once'; there = once.exists(); once.touch()\n"
    sweeping.script[1] += f"if there: log({EPOCHS}); end()\nelse: os.kill(os.getpid(), signal.SIGTERM)"
    sweeping.script[2] = "log(2); raise SystemExit(75)"
    folder = sweeping.begin()
    sweeping.make(folder)
    assert [row["state"] for row in table(folder)] == ["complete", "complete", "failed", "complete"]
    assert "trial 1 was interrupted" in sweeping.printed()
    assert sweeping.printed().count("trial 2 was interrupted") == agents.INTERRUPTIONS, "it cannot go on for ever"


def test_a_trial_that_left_nothing_to_go_on_with_is_made_anew(sweeping: Sweeping) -> None:
    folder = sweeping.begin()
    trial = Search(folder).next(None)
    assert trial is not None
    trial.folder.mkdir(parents=True)
    (trial.folder / "rubbish").touch()
    claims.release(trial.claim)
    sweeping.make(folder)
    assert not (trial.folder / "rubbish").exists()
    assert [row["state"] for row in table(folder)] == ["complete"] * 4


def test_trials_of_an_agent_that_was_killed_are_waited_for(sweeping: Sweeping) -> None:
    """Its trial goes on without it, and nobody else makes it; what it reaches is taken in later."""
    folder = sweeping.begin()
    found = Search(folder)
    trial = found.next(None)
    assert trial is not None
    made = Agent(found, None, View(sweeping.console), write_results, Interruption())
    sweeping.script[0] = "log(2)\nwhile not (folder / 'go').exists(): time.sleep(0.01)\n" + AT_ONCE
    process = made._launch(trial)
    trial.claim.close()  # as when the agent is gone
    sweeping.make(folder)
    assert [row["state"] for row in table(folder)] == ["running", *["complete"] * 3]
    (trial.folder / "go").touch()
    assert process.wait(30) == 0
    sweeping.make(folder)
    assert [row["state"] for row in table(folder)] == ["complete"] * 4


def test_several_agents_share_the_trials(sweeping: Sweeping) -> None:
    folder = sweeping.begin(run_cap=8)
    sweeping.script = {None: SLOWLY}
    failures: list[BaseException] = []

    def work() -> None:
        try:
            Agent(Search(folder), None, View(Console(file=StringIO())), write_results, Interruption()).run()
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert [row["trial"] for row in table(folder)] == [str(number) for number in range(8)]
    assert {row["state"] for row in table(folder)} == {"complete"}
    assert len({row["data.quota"] for row in table(folder)}) > 4
    alone = sweeping.begin("alone", run_cap=8)
    sweeping.make(alone)
    assert sorted(quotas(alone)) == sorted(quotas(folder)), "a random search is the same with any number of agents"


def test_what_is_written(sweeping: Sweeping) -> None:
    parameters = {
        "data.quota": {"min": 2, "max": 60},
        "model.optimiser.learning_rate": {"distribution": "log_uniform_values", "min": 0.001, "max": 0.1},
        "model.adversary.prior": {"values": ["gaussian", "mixture"]},
        "model.augmentation.mixup": {"value": 0.2},
    }
    sweeping.script[1] = "raise SystemExit(1)"
    folder = sweeping.begin(parameters=parameters)
    write_figure(sweeping.make(folder))
    header, rule, *lines = (folder / "results.md").read_text().splitlines()
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    assert columns == ["trial", "state", *list(parameters)[:3], "dev/uar", "epochs", "seconds", "run"]
    assert rule.count("---") == len(columns)
    assert len(lines) == 4
    assert lines[1].startswith("| 1 | failed |")
    rows = table(folder)
    assert [*rows[0]] == ["trial", "state", *parameters, "dev/uar", "epochs", "seconds", "run"]
    assert all(Path(row["run"]) == folder / EXPERIMENT / f"trial-{int(row['trial']):03}" for row in rows)
    assert (folder / "results.png").read_bytes().startswith(b"\x89PNG")
    best = max((row for row in rows if row["dev/uar"]), key=lambda row: float(row["dev/uar"]))
    settings = yaml.safe_load((folder / BEST_SETTINGS).read_text())
    assert settings["data"]["quota"] == int(best["data.quota"])
    assert f"trial {best['trial']}, dev/uar" in (folder / BEST_SETTINGS).read_text().splitlines()[0]


@pytest.mark.parametrize("experiment", ["ravdess_cat", "own"])
def test_the_best_settings_are_an_experiment(
    sweeping: Sweeping, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what the best trial was, but for the test; of lists and of the code's parts, all is there."""
    monkeypatch.setattr(sys.modules[__name__], "EXPERIMENT", experiment)
    monkeypatch.chdir(sweeping.output)
    (sweeping.output / "own.yaml").write_text("extends: ravdess_cat\nmodel: {code: {affect: 8, voice: 4}}\n")
    name = experiment if experiment == "ravdess_cat" else "own.yaml"
    parameters: dict[str, Any] = {
        "data.quota": {"min": 2, "max": 60},
        "data.auxiliary.0.quota": {"min": 2, "max": 8},
        "model.code.voice": {"values": [3, 5]},
        "model": {"parameters": {"encoder": {"parameters": {"channels": {"values": [[8, 16], [16, 32]]}}}}},
    }
    if experiment == "ravdess_cat":
        parameters["model.code.shared"] = parameters.pop("model.code.voice")
    command = ["${interpreter}", "-m", "experiments", "train", name, "trainer.test=false", "${args_no_hyphens}"]
    command += ["data.root=/corpora", "trainer.epochs=6", "wandb.group=x"]
    monkeypatch.setattr(sys.modules[__name__], "CURVE", CURVE.replace("ravdess_single_task", experiment))
    folder = sweeping.begin(parameters=parameters, command=command)
    searched = sweeping.make(folder)
    best = max(searched.trials, key=lambda trial: trial.value or 0)
    monkeypatch.undo()
    words = searched.sweep.words(searched.sweep.values(best.params))
    place = words.index("train")
    monkeypatch.chdir(sweeping.output)
    expected = to_dict(load(words[place + 1], words[place + 2 :]))
    found = to_dict(load(str(folder / BEST_SETTINGS)))
    assert (found["experiment"], found["trainer"]["test"], found["wandb"]["group"]) == ("mine", True, None)
    for key, value in (("experiment", "mine"), ("trainer.test", True), ("wandb.group", None)):
        *above, last = key.split(".")
        (expected[above[0]] if above else expected)[last] = value
    assert found == expected


def test_another_sweep_of_the_same_name_is_refused(sweeping: Sweeping) -> None:
    folder = sweeping.begin()
    assert sweeping.begin(run_cap=9) == folder
    assert yaml.safe_load((folder / SWEEP).read_text())["run_cap"] == 9
    with pytest.raises(InputError, match="holds another sweep of that name: method, parameters differ"):
        sweeping.begin(method="bayes", parameters={"data.quota": {"min": 2, "max": 61}})
    assert sweeping.begin("other", method="bayes") != folder


def test_a_damaged_journal_is_told(sweeping: Sweeping) -> None:
    folder = sweeping.begin()
    (folder / JOURNAL).write_text("{}\nnothing\n{}\n")
    with pytest.raises(InputError, match=f"{JOURNAL} cannot be read"):
        Search(folder)


def test_a_command_creates_and_another_joins(sweeping: Sweeping, capsys: pytest.CaptureFixture[str]) -> None:
    sweeping.sweep()
    file, output = str(sweeping.output / "mine.yaml"), f"output={sweeping.output / 'sweeps'}"
    assert main(["create", file, "name=joined", "count=3", output, "seed=5"]) == 0
    place = capsys.readouterr().out.strip()
    assert place == str(sweeping.output / "sweeps" / "joined")
    assert Search(Path(place)).trials == []
    assert main(["agent", place, "count=2"]) == 0
    assert main(["agent", place]) == 0
    assert len(table(Path(place))) == 3
    printed = capsys.readouterr().out
    assert f"make train EXP={place}/best.yaml" in printed
    assert printed.splitlines()[-1] == place
    sweeping.script = {None: "raise SystemExit(1)"}
    assert main(["run", file, "count=1", output]) == 1, "no trial was trained to its end"


def test_several_agents_are_processes_of_their_own(
    tmp_path: Path, sweeping: Sweeping, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each sees a GPU of its own; here there is none, and a machine with three is pretended."""
    seen = tmp_path / "seen"
    script = "import os, sys; open(sys.argv[1], 'a').write(os.environ.get('CUDA_VISIBLE_DEVICES', '') + '\\n')"
    commands: list[list[str]] = []
    popen = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        commands.append(command)
        return popen([sys.executable, "-SEc", script, str(seen)], **options)

    import torch

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    sweeping.sweep()
    file, output = str(sweeping.output / "mine.yaml"), f"output={sweeping.output / 'sweeps'}"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7,2")
    assert main(["run", file, "agents=2", "count=7", output]) == 0
    place = str(sweeping.output / "sweeps" / "mine")
    assert commands == [[sys.executable, "-m", "experiments.sweep", "agent", place, "count=7"]] * 2
    assert sorted(seen.read_text().split()) == ["5", "7"]
    assert main(["run", file, "agents=4", "count=7", output]) == 2
    assert "agents is 4, and this machine has 3 GPUs" in capfd.readouterr().err
