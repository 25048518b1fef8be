"""The runs of a study that are told to end: they go on later as if nothing had been."""

import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from callbacks.interruption import AGAIN
from experiments.config import load
from experiments.files import BEST, LAST, read_json
from experiments.study import running
from experiments.study.__main__ import main
from experiments.study.plan import SystemPlan
from experiments.study.record import RECORDS, read_records
from experiments.study.running import Runner, Task
from tests import runs
from tests.study.fake import EXPERIMENT, FULL, Fake, make_study, taught_study, wait_for
from tests.study.runs import write_run

SAVES = "import pathlib, signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75)); "
"""The beginning of a run that saves where it is told to."""


def test_a_command_that_is_told_to_end_passes_it_on_and_goes_on_later(fake: Fake) -> None:
    up = [fake.folder / name for name in "ab"]
    fake.script[FULL[0]] = f"{SAVES} open({str(up[0])!r}, 'w'); time.sleep(60)"
    fake.script[FULL[1]] = f"import time; open({str(up[1])!r}, 'w'); time.sleep(60)"  # it saves nothing
    wanted = fake.tasks(make_study())
    runner = fake.runner(wanted, jobs=2)
    before = signal.signal(signal.SIGUSR1, runner.interrupt)

    def tell() -> None:
        for file in up:
            wait_for(file)
        os.kill(os.getpid(), signal.SIGUSR1)

    try:
        threading.Thread(target=tell).start()
        assert runner.run() == AGAIN
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert fake.made == FULL, "no more are started"
    assert fake.printed().splitlines()[2:] == [
        *[f"interrupted {name}" for name in runner_names(runner)],
        "2 runs were not started; the same command goes on.",
    ]
    assert {task.name for task in runner.interrupted} == set(FULL)
    assert (fake.records(), runner.failed) == ([], [])
    fake.script.clear()
    assert fake.runner(wanted).run() == 0
    assert len(fake.records()) == 4


def runner_names(runner: Runner) -> list[str]:
    return [task.name for task in runner.interrupted]


def test_a_run_that_was_told_to_end_ends_the_command(fake: Fake) -> None:
    fake.script[FULL[0]] = "raise SystemExit(75)"
    up = fake.folder / "up"
    fake.script[FULL[1]] = f"{SAVES} open({str(up)!r}, 'w'); time.sleep(60)"
    runner = fake.runner(fake.tasks(make_study()), jobs=2)
    assert runner.run() == AGAIN
    assert sorted(runner_names(runner)) == FULL
    assert fake.made == FULL


def test_what_ends_well_although_it_was_told_is_done(fake: Fake) -> None:
    (task,) = fake.tasks(make_study(), systems="full", folds="0")
    results = write_run(fake.folder / "there", task.config)
    up = fake.folder / "up"
    fake.script[FULL[0]] = (
        f"import shutil, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open({str(up)!r}, 'w')\n"
        f"time.sleep(0.2); shutil.copytree({str(results)!r}, {str(task.folder)!r})"
    )
    runner = fake.runner([task])
    runner._start()
    wait_for(up)
    runner.interrupt()
    assert runner.run() == 0
    assert [record.key for record in fake.records()] == [task.key]


def leave_unfinished(task: Task, *changes: str) -> None:
    """What an interrupted training leaves, with its log."""
    config = load(task.run.experiment, [*running.settings_of(task, ["trainer.threads=1"]), *changes])
    write_run(task.folder, config)
    (task.folder / "results.json").unlink()
    task.log.write_text("before\n")


@pytest.mark.parametrize(
    ("features", "change", "again"),
    [
        ("", "data.workers=3", True),
        ("", "data.quota=5", False),
        ("", "data.root=/else", False),
        ("eGeMAPSv02", "", False),
    ],
)
def test_an_interrupted_run_of_the_same_settings_goes_on(fake: Fake, features: str, change: str, again: bool) -> None:
    study = make_study(full=SystemPlan(label="full", features=features))
    (task,) = fake.tasks(study, systems="full", folds="0")
    leave_unfinished(task, *[change] * bool(change))
    results = write_run(fake.folder / "there", task.config)
    fake.script[FULL[0]] = (
        f"from pathlib import Path; import shutil; there = Path({str(task.folder)!r})\n"
        "print('there' if there.exists() else 'gone')\n"
        f"shutil.copytree({str(results)!r}, there, dirs_exist_ok=True)"
    )
    fake.runner([task]).run()
    assert task.log.read_text() == ("before\nthere\n" if again else "gone\n")
    assert fake.printed().startswith("went on with" if again else "started")


def test_an_interrupted_run_of_another_teacher_is_made_anew(fake: Fake) -> None:
    (task,) = fake.tasks(taught_study(), systems="taught")
    (teacher,) = task.teachers
    write_run(teacher.folder, teacher.config)
    leave_unfinished(task)
    assert task.goes_on(["trainer.threads=1"])
    (teacher.folder / BEST).write_text("another")
    assert not task.goes_on(["trainer.threads=1"])


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A shell has jobs in the background ignore interrupts, and the tests may be one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("stubborn", [False, True])
def test_an_interrupt_ends_runs_and_keeps_what_is_done(
    fake: Fake, stubborn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "GRACE", {signal.SIGINT: 1 if stubborn else 20, signal.SIGTERM: 20})
    ignore = "signal.signal(signal.SIGINT, signal.SIG_IGN); " * stubborn
    up = fake.folder / "up"
    fake.script[FULL[1]] = f"import signal, time; {ignore}open({str(up)!r}, 'w'); time.sleep(60)"
    wanted = fake.tasks(make_study())
    runner = fake.runner(wanted)

    def interrupt() -> None:
        wait_for(up)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        runner.run()
    assert [one.process.returncode for one in runner.running] == [-signal.SIGTERM if stubborn else -signal.SIGINT]
    assert [record.key for record in fake.records()] == [wanted[0].key]
    fake.script.clear()
    assert fake.runner(wanted).run() == 0
    assert len(fake.records()) == 4


def test_an_interrupted_study_has_the_same_records(corpora: Path, tmp_path: Path) -> None:
    pairs = (setting.partition("=") for setting in runs.SMALL if not setting.startswith("data.corpora"))
    small = {key: yaml.safe_load(value) for key, _, value in pairs}
    small |= {"data.auxiliary": [], "data.steps": 20, "trainer.epochs": 2, "trainer.checkpoint_minutes": 1e-9}
    systems = {"full": {"settings": small}, "single_task": {"settings": small}}
    study = {"experiments": [EXPERIMENT], "folds": [0], "title": "A study", "systems": systems}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study))
    found = []
    for name in ("whole", "interrupted"):
        output = tmp_path / name
        places = [f"data.root={corpora}", f"data.cache={corpora / 'cache'}", f"output={output}", f"records={output}"]
        command = ["run", str(tmp_path / "mine.yaml"), "numbers=0", "wandb.enabled=false", *places]
        folder = output / "mine" / EXPERIMENT / "full-fold0-seed0"

        def interrupt(folder: Path = folder) -> None:
            wait_for(folder / LAST)
            os.kill(os.getpid(), signal.SIGTERM)

        if name == "interrupted":
            threading.Thread(target=interrupt).start()
            assert main(command) == AGAIN
            assert not (folder / "results.json").exists()
        assert main(command) == 0
        assert len(read_json(folder / "environment.json")["resumed"]) == (name == "interrupted")
        (record,) = read_records(output / "mine" / RECORDS)
        found.append(replace(record, train_seconds=0))
    assert found[0] == found[1]
