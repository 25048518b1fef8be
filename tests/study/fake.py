"""A small study whose runs are made without training."""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from io import StringIO
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.study.plan import Study, SystemPlan
from experiments.study.progress import View
from experiments.study.record import RECORDS, Record, read_records
from experiments.study.running import Runner, Task, choose, tasks
from tests.study.runs import write_run

EXPERIMENT = "ravdess_cat"
SINGLE = {"data.auxiliary": [], "model.decoder.weight": 0}


def make_study(**changes: Any) -> Study:
    plans = {"full": SystemPlan(label="full"), "single_task": SystemPlan(label="CNN", settings=SINGLE)}
    return Study("mine", "A study", [EXPERIMENT], [0, 1], systems=plans | changes)


def taught_study() -> Study:
    plans = {"taught": SystemPlan(label="taught", settings={"model.consistency.weight": 1}, teachers=["single_task"])}
    return replace(make_study(), systems=plans | make_study().systems, folds=[0])


TAUGHT = f"{EXPERIMENT}/taught-fold0-seed0"


class Fake:
    """Runs without training: copies of a prepared folder, or what ``script`` says for a task's name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.script: dict[str, str] = {}
        self.made: list[str] = []
        self._number = count()

    def command(self, task: Task, extra: Sequence[str]) -> list[str]:
        self.made.append(task.name)
        results = write_run(self.folder / "prepared" / str(next(self._number)), task.config)
        copy = f"import shutil; shutil.copytree({str(results)!r}, {str(task.folder)!r})"
        return [sys.executable, "-SEc", self.script.get(task.name, copy)]

    def tasks(self, study: Study, **wanted: str) -> list[Task]:
        return tasks(choose(study, wanted), self.folder / "runs" / study.name, [])

    def runner(self, wanted: Sequence[Task], jobs: int = 1, minutes: float | None = None) -> Runner:
        study = wanted[0].run.study
        self.console = Console(file=StringIO(), width=200)
        folder = self.folder / "docs" / study
        return Runner(wanted, folder, self.folder / "runs", jobs, minutes, [], View(self.console))

    def printed(self) -> str:
        assert isinstance(self.console.file, StringIO)
        return self.console.file.getvalue()

    def records(self, study: str = "mine") -> list[Record]:
        return read_records(self.folder / "docs" / study / RECORDS)


FULL = [f"{EXPERIMENT}/full-fold{fold}-seed0" for fold in (0, 1)]
SINGLE_TASK = [f"{EXPERIMENT}/single_task-fold{fold}-seed0" for fold in (0, 1)]


def wait_for(file: Path) -> None:
    until = time.monotonic() + 120  # a training's start takes seconds, and many on a busy machine
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.01)
