"""Runs that are interrupted and go on: they end as if nothing had been."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer

from callbacks.interruption import AGAIN, INTERRUPTED, Interrupted, Interruption
from experiments import run
from experiments.__main__ import main
from experiments.config import Config, load
from experiments.files import BEFORE, BEST, LAST, read_json
from experiments.loggers import MetricsFile
from experiments.resuming import unfinished
from experiments.run import train
from tests import fakes, runs

STEPS, EPOCHS = 3, 3
ALWAYS, NEVER = 1e-9, 100.0
"""Minutes between checkpoints within an epoch."""
OFTEN = (
    *runs.SMALL,
    "wandb.enabled=false",
    "split.folds=3",
    "data.auxiliary.0.quota=2",
    "data.auxiliary.1.quota=2",
    f"trainer.epochs={EPOCHS}",
    f"data.steps={STEPS}",
)


class EndedError(Exception):
    """What stands for the end of a process."""


class Interrupt(Callback):
    """Ends a training after so many steps, in a hook."""

    def __init__(self, hook: str, step: int) -> None:
        self.hook, self.step = hook, step

    def _at(self, trainer: Trainer, hook: str) -> None:
        if (hook, trainer.global_step) == (self.hook, self.step):
            raise EndedError

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._at(trainer, "start")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._at(trainer, "end")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._at(trainer, "validation")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    fakes.ravdess(root / "ravdess", actors=6)
    fakes.librispeech(root / "LibriSpeech")
    return root


def configuration(root: Path, output: Path, minutes: float = ALWAYS, *settings: str) -> Config:
    given = [*OFTEN, *runs.places(root, output), f"trainer.checkpoint_minutes={minutes}", *settings]
    return load("ravdess_cat", given)


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(configuration(root, tmp_path_factory.mktemp("whole")))


def results(folder: Path) -> dict[str, Any]:
    return read_json(folder / "results.json") | {"train_seconds": None}


def assert_same(folder: Path, whole: Path) -> None:
    assert results(folder) == results(whole)
    assert (folder / "metrics.csv").read_text() == (whole / "metrics.csv").read_text()
    assert (folder / "predictions_test.csv").read_text() == (whole / "predictions_test.csv").read_text()
    one, other = (torch.load(of / BEST, weights_only=True)["state_dict"] for of in (folder, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)


def interrupted(config: Config, hook: str, step: int) -> Path:
    with pytest.raises(EndedError):
        train(config, [Interrupt(hook, step)])
    folder = unfinished(config)
    assert folder is not None
    return folder


@pytest.mark.parametrize(
    ("hook", "step", "minutes"),
    [
        ("start", 1, NEVER),  # there is no checkpoint yet
        ("start", 1, ALWAYS),
        ("end", 2, ALWAYS),
        ("end", 3, ALWAYS),  # between the last step and the scores
        ("validation", 3, NEVER),
        ("start", 3, NEVER),
        ("start", 5, NEVER),
        ("start", 5, ALWAYS),
        ("validation", 6, ALWAYS),
        ("end", 9, ALWAYS),
        ("validation", 9, ALWAYS),
    ],
)
def test_a_run_ends_as_if_nothing_had_been(
    root: Path, whole: Path, tmp_path: Path, hook: str, step: int, minutes: float
) -> None:
    config = configuration(root, tmp_path, minutes)
    folder = interrupted(config, hook, step)
    assert train(config, resume=folder) == folder
    assert_same(folder, whole)
    assert len(read_json(folder / "environment.json")["resumed"]) == 1


def test_it_may_be_interrupted_again_and_after_the_last_epoch(
    root: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(root, tmp_path)
    folder = interrupted(config, "start", 2)
    with pytest.raises(EndedError):
        train(config, [Interrupt("end", 7)], resume=folder)

    def interrupt(*_: object) -> None:
        raise EndedError

    with monkeypatch.context() as patch:
        patch.setattr(run, "score", interrupt)
        with pytest.raises(EndedError):
            train(config, resume=folder)
    seconds = torch.load(folder / LAST, weights_only=True)["callbacks"]["LastCheckpoint"]["seconds"]
    train(config, resume=folder)
    assert_same(folder, whole)
    assert read_json(folder / "results.json")["train_seconds"] >= seconds
    assert len(read_json(folder / "environment.json")["resumed"]) == 3


def test_it_may_be_interrupted_in_every_epoch_and_more_than_once(root: Path, whole: Path, tmp_path: Path) -> None:
    config = configuration(root, tmp_path, NEVER)
    folder = interrupted(config, "start", 4)
    for step in (4, 4, 7):  # each time it goes on from between two epochs
        with pytest.raises(EndedError):
            train(config, [Interrupt("start", step)], resume=folder)
    train(config, resume=folder)
    assert_same(folder, whole)


def test_with_workers(root: Path, whole: Path, tmp_path: Path) -> None:
    config = configuration(root, tmp_path, ALWAYS, "data.workers=1")
    folder = interrupted(config, "end", 4)
    train(config, resume=folder)
    assert_same(folder, whole)


def test_a_damaged_checkpoint_is_told_and_the_one_before_it_taken(
    root: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(root, tmp_path)
    folder = interrupted(config, "start", 5)
    steps = [torch.load(folder / name, weights_only=True)["global_step"] for name in (LAST, BEFORE)]
    assert steps == [5, 4]
    (folder / LAST).write_bytes((folder / LAST).read_bytes()[:5000])
    train(config, resume=folder)
    assert f"going on without it: the checkpoint {folder / LAST} cannot be read" in capsys.readouterr().err
    assert_same(folder, whole)
    assert (folder / LAST.with_suffix(".damaged")).stat().st_size == 5000


def test_without_any_checkpoint_that_can_be_read_it_begins_anew(root: Path, whole: Path, tmp_path: Path) -> None:
    config = configuration(root, tmp_path)
    folder = interrupted(config, "start", 5)
    for name in (LAST, BEFORE):
        (folder / name).write_bytes(b"junk")
    train(config, resume=folder)
    assert_same(folder, whole)


# The command line


def command(root: Path, output: Path, *settings: str) -> int:
    return main(["train", "ravdess_cat", *OFTEN, *runs.places(root, output), *settings])


def test_the_newest_unfinished_run_of_the_same_settings_goes_on(root: Path, whole: Path, tmp_path: Path) -> None:
    always = f"trainer.checkpoint_minutes={ALWAYS}"
    folder = interrupted(configuration(root, tmp_path), "start", 4)
    assert command(root, tmp_path, always, "seed=1", "resume=auto") == 0
    assert not (folder / "results.json").exists(), "it is of another seed"
    assert command(root, tmp_path, always, "resume=auto") == 0
    assert_same(folder, whole)
    before = set(tmp_path.glob("*/*"))
    assert command(root, tmp_path, always, "resume=auto") == 0
    assert len(set(tmp_path.glob("*/*")) - before) == 1, "what has ended is not gone on with"


def test_a_run_of_that_name(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(root, tmp_path, "run=mine", "resume=auto", "trainer.epochs=1") == 0
    folder = tmp_path / "ravdess_cat" / "mine"
    written = (folder / "results.json").stat().st_mtime_ns
    assert command(root, tmp_path, "run=mine", "resume=auto", "trainer.epochs=1") == 0
    assert capsys.readouterr().out.splitlines()[-2:] == [f"{folder} has ended: nothing is left to do.", str(folder)]
    assert main(["resume", str(folder)]) == 0
    assert (folder / "results.json").stat().st_mtime_ns == written
    assert command(root, tmp_path, "run=mine", "resume=auto", "trainer.epochs=2", "seed=3") == 2
    assert f"{folder} is a run with other settings: seed, trainer.epochs" in capsys.readouterr().err


def test_a_run_that_was_killed_before_it_had_written_anything(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "ravdess_cat" / "mine"
    folder.mkdir(parents=True)
    for name in (".lock", ".config.yaml.draft"):
        (folder / name).touch()
    assert command(root, tmp_path, "run=mine", "resume=auto", "trainer.epochs=1") == 0
    assert (folder / "results.json").exists()


def test_a_run_folder_is_all_that_is_needed(root: Path, whole: Path, tmp_path: Path) -> None:
    folder = interrupted(configuration(root, tmp_path), "start", 4)
    assert main(["resume", str(folder)]) == 0
    assert_same(folder, whole)


def test_a_run_does_not_go_on_with_other_corpora(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = interrupted(configuration(root, tmp_path), "start", 4)
    file = folder / "environment.json"
    known = read_json(file)
    known["manifests"]["ravdess"] = "0" * 64
    file.write_text(json.dumps(known))
    assert main(["resume", str(folder)]) == 2
    assert f"{folder} cannot go on: since it was begun, ravdess has changed" in capsys.readouterr().err


def test_resume_is_auto(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(root, tmp_path, "resume=yes") == 2
    assert "resume=yes" in capsys.readouterr().err


# The file of scores


def test_rows_are_cut_off_where_a_checkpoint_was(tmp_path: Path) -> None:
    first = MetricsFile(tmp_path / "metrics.csv")
    first.log_metrics({"b": 0.1}, 1)
    first.log_metrics({"a": 1 / 3, "b": 0.2}, 2)
    first.log_metrics({"a": 0.5}, 3)
    first.save()
    assert first.path.read_text() == f"a,b,step\n,0.1,1\n{1 / 3},0.2,2\n0.5,,3\n"
    second = MetricsFile(first.path)
    second.cut(2)
    second.log_metrics({"a": 0.75}, 3)
    second.save()
    assert first.path.read_text() == f"a,b,step\n,0.1,1\n{1 / 3},0.2,2\n0.75,,3\n"


# Signals


class Signal(Interrupt):
    """Sends this process signals after so many steps, in a hook."""

    def __init__(self, hook: str, step: int, *signals: signal.Signals) -> None:
        super().__init__(hook, step)
        self.signals = signals

    def _at(self, trainer: Trainer, hook: str) -> None:
        if (hook, trainer.global_step) == (self.hook, self.step):
            for one in self.signals:
                os.kill(os.getpid(), one)


@pytest.mark.parametrize(
    ("hook", "step", "saved", "sent", "code"),
    [
        ("start", 1, 2, signal.SIGUSR1, AGAIN),
        ("end", 3, 3, signal.SIGTERM, AGAIN),  # the epoch's scores come first
        ("validation", 6, 6, signal.SIGINT, INTERRUPTED),
        ("end", 9, 9, signal.SIGUSR1, AGAIN),  # nothing is left but to test
    ],
)
def test_a_signal_saves_and_stops(
    root: Path, whole: Path, tmp_path: Path, hook: str, step: int, saved: int, sent: signal.Signals, code: int
) -> None:
    config = configuration(root, tmp_path, NEVER)
    before = signal.getsignal(sent)
    interruption = Interruption()
    with interruption.listening(), pytest.raises(Interrupted) as caught:
        train(config, [Signal(hook, step, sent)], interruption=interruption)
    assert signal.getsignal(sent) == before
    assert caught.value.code == code
    folder = unfinished(config)
    assert folder is not None
    assert torch.load(folder / LAST, weights_only=True)["global_step"] == saved
    assert train(config, resume=folder) == folder
    assert_same(folder, whole)


def test_a_second_ctrl_c_stops_at_once_and_other_signals_do_not(root: Path, tmp_path: Path) -> None:
    config = configuration(root, tmp_path, NEVER)
    interruption = Interruption()
    with interruption.listening(), pytest.raises(Interrupted):
        train(config, [Signal("start", 4, signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)], interruption=interruption)
    folder = unfinished(config)
    assert folder is not None
    assert torch.load(folder / LAST, weights_only=True)["global_step"] == 3


def words(root: Path, output: Path, *settings: str) -> list[str]:
    places = [*runs.places(root, output), *settings]
    return [sys.executable, "-m", "experiments", "train", "ravdess_cat", *OFTEN, *places]


def wait_for(file: Path, process: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 120
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_signal_to_one_of_two_processes_stops_both(root: Path, tmp_path: Path) -> None:
    many = ["trainer.devices=2", "trainer.epochs=500", "trainer.precision=32-true", "resume=auto", "run=two"]
    folder = tmp_path / "ravdess_cat" / "two"
    for saved in range(2):
        process = subprocess.Popen(
            words(root, tmp_path, *many), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        before = (folder / LAST).stat().st_mtime_ns if saved else 0
        wait_for(folder / LAST, process)
        while (folder / LAST).stat().st_mtime_ns == before:
            time.sleep(0.05)
        # The first is what a scheduler's script knows of; the second is what Lightning started.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]) if saved else process.pid, signal.SIGUSR1)
        _, errors = process.communicate(timeout=120)
        assert process.returncode == AGAIN, errors
        assert errors.count("make resume RUN=") == 1
        assert "Traceback" not in errors
    assert len(read_json(folder / "environment.json")["resumed"]) == 1


def test_a_signal_before_the_first_step_leaves_nothing(root: Path, tmp_path: Path) -> None:
    process = subprocess.Popen(
        words(root, tmp_path, "run=early"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    time.sleep(1)  # it imports PyTorch
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode in (AGAIN, -signal.SIGTERM)  # also before anybody listens
    assert "Traceback" not in errors


def test_nobody_else_makes_the_same_run(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(root, tmp_path)
    folder = interrupted(config, "end", 2)
    monkeypatch.setattr("experiments.files.SECONDS_TO_END", 0.5)
    with (folder / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert main(["resume", str(folder)]) == 2
        assert f"another process is making the run {folder}" in capsys.readouterr().err
    assert main(["resume", str(folder)]) == 0
