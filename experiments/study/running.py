"""Makes the runs of a study that are missing, several at once, each in a process of its own."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import IO

from callbacks.interruption import AGAIN
from datamodules.errors import InputError, explained
from datamodules.freshness import lock
from experiments.claims import release, take
from experiments.config import Config, load, load_run
from experiments.files import BEST, digest, read_json
from experiments.resuming import unfinished
from experiments.study.plan import ON_ONE_THREAD, Run, Study, runs
from experiments.study.progress import Counts, View, clock
from experiments.study.record import RECORDS, Record, read_records, record_of, settings_hash, write_records

TICK_S = 0.2
LAST_LINES = 10
BAD_INPUT = 2
"""Exit code of a run whose input cannot be used: what other runs of the experiment would say, too."""
GRACE: Mapping[signal.Signals, float] = {signal.SIGINT: 20, signal.SIGTERM: 5, signal.SIGKILL: 5}
"""What runs are sent when the command is interrupted, and for how many seconds each is waited for."""
FILTERS = {"systems": "system", "experiments": "experiment", "folds": "fold", "seeds": "seed"}
"""Settings that choose among a study's runs, and what of a run each looks at; ``numbers`` looks at its place."""
_OF_THE_RUNNER = {
    "run": "The runner names the folders itself.",
    "experiment": "Give experiments=<name>,<name> to choose among the study's.",
    "seed": "Give seeds=<n>,<n> to choose among the study's.",
    "split.fold": "Give folds=<n>,<n> to choose among the study's.",
}


@dataclass(frozen=True)
class Task:
    """A run that is asked for, with what it takes to make it.

    Attributes:
        run: What the study says.
        config: Its configuration.
        settings: Hash of what it is, as in its record.
        folder: Of its results.
        teachers: The runs that it is taught by.
    """

    run: Run
    config: Config
    settings: str
    folder: Path
    teachers: tuple["Task", ...] = ()

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """As of its record, where an experiment that was given as a file has a name."""
        return self.config.experiment, *self.run.key[1:]

    @property
    def identity(self) -> tuple[str, str, int, int]:
        """What the result depends on: equal for a run that another study asks for, too."""
        return self.config.experiment, self.settings, self.run.fold, self.run.seed

    @property
    def name(self) -> str:
        """For the eye."""
        return f"{self.config.experiment}/{self.run.name}"

    @property
    def log(self) -> Path:
        """Where its process writes."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def record(self) -> Record | None:
        """The record of its run folder; none unless a finished run of these settings is there."""
        if not (self.folder / "results.json").exists() or self._settings_there() != self.settings:
            return None
        run = self.run
        taught = _identities(self.teachers)
        return record_of(run.study, run.system, run.point, self.config, self.folder, run.plan.arguments, taught)

    def goes_on(self, extra: Sequence[str]) -> bool:
        """Whether an interrupted run of the same settings is there, which a training goes on with."""
        if self.run.plan.features or self._settings_there() != self.settings:
            return False
        try:
            return unfinished(load(self.run.experiment, settings_of(self, extra))) is not None
        except InputError:  # made elsewhere, or on something else
            return False

    def taken_over(self, record: Record) -> Record:
        """The record of the same run from elsewhere, as this study's."""
        return replace(record, study=self.run.study, system=self.run.system, point=self.run.point)

    def _settings_there(self) -> str | None:
        # In a run's own file the machine has settled what was left to it.
        settled = ["trainer.precision=auto"] if self.config.trainer.precision == "auto" else []
        return settings_of_folder(self.folder, settled)


def settings_of_folder(folder: Path, settled: Sequence[str]) -> str | None:
    """Hash of the settings of a run that is there; none where it is of another version, or its teachers are gone."""
    try:
        config = load_run(folder, settled)
        known = read_json(folder / "environment.json")
        teachers = []
        for teacher in map(Path, config.trainer.teachers):
            settings = settings_of_folder(teacher, settled)
            if settings is None or digest(teacher / BEST) != known["teachers"][str(teacher)]:
                return None
            teachers.append((settings, load_run(teacher).seed))
    except (InputError, OSError):
        return None
    features = [word for word in shlex.split(known["command"]) if word.startswith(("features=", "per_speaker="))]
    return settings_hash(config, features, teachers)


def _identities(teachers: Iterable[Task]) -> list[tuple[str, int]]:
    return [(teacher.settings, teacher.run.seed) for teacher in teachers]


@dataclass
class Running:
    """A run that is being made.

    Attributes:
        task: Which.
        process: Leads a group of its own: ctrl-C reaches it by us alone.
        claim: Lock file that keeps others from making the same.
        since: When it began, by the monotonic clock.
        told: To save and end.
    """

    task: Task
    process: subprocess.Popen[bytes]
    claim: IO[str]
    since: float = field(default_factory=time.monotonic)
    told: bool = False

    @property
    def seconds(self) -> float:
        """How long it has been running."""
        return time.monotonic() - self.since

    def send(self, sent: signal.Signals) -> None:
        """Sends a signal to the process and all that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, sent)


def choose(study: Study, wanted: Mapping[str, str]) -> list[Run]:
    """The runs of a study that filters let through.

    Args:
        study: The study.
        wanted: For names in ``FILTERS``, the values to keep, with commas between them; empty keeps all. ``numbers``
            are places in the list of all runs of the study, from 0.

    Raises:
        InputError: The study does not have such a value, or no run has all that is wanted.
    """
    everything = list(runs(study))
    numbers = _values(wanted, "numbers")
    for value in numbers:
        if value not in map(str, range(len(everything))):
            raise InputError(
                f"numbers={wanted['numbers']}: the study {study.name} has no run {value}",
                f"There are: 0 to {len(everything) - 1}.",
            )
    chosen = [run for number, run in enumerate(everything) if not numbers or str(number) in numbers]
    for name, attribute in FILTERS.items():
        values = _values(wanted, name)
        known = dict.fromkeys(str(getattr(run, attribute)) for run in everything)
        for value in values:
            if value not in known:
                raise InputError(
                    f"{name}={wanted[name]}: the study {study.name} has no {attribute} {value}",
                    f"There are: {', '.join(known)}.",
                )
        chosen = [run for run in chosen if not values or str(getattr(run, attribute)) in values]
    if not chosen:
        asked = " ".join(f"{name}={value}" for name, value in wanted.items() if value)
        raise InputError(f"the study {study.name} has no run with {asked}", "Leave one of the filters out.")
    return chosen


def _values(wanted: Mapping[str, str], name: str) -> list[str]:
    return [value.strip() for value in wanted.get(name, "").split(",") if value.strip()]


def tasks(chosen: Iterable[Run], output: Path, extra: Sequence[str]) -> list[Task]:
    """What it takes to make runs.

    Args:
        chosen: The runs.
        output: Folder of the study's runs.
        extra: ``key=value`` settings for all of them, which tell where and on what they are made.

    Raises:
        InputError: Such a setting is wrong, the runner's own, or changes what a system is.
    """
    for setting in extra:
        key = setting.partition("=")[0]
        if key in _OF_THE_RUNNER:
            raise InputError(f"{setting}: {key} differs from run to run of a study", _OF_THE_RUNNER[key])
    known: dict[tuple[str, str, str], Config] = {}

    def task(run: Run) -> Task:
        if run.of_system not in known:
            known[run.of_system] = run.config(tuple(extra))
            if extra:
                _check_same(run, known[run.of_system], extra)
        config = known[run.of_system]
        config = replace(config, seed=run.seed, split=replace(config.split, fold=run.fold))
        teachers = tuple(map(task, run.teachers))
        config.trainer = replace(config.trainer, teachers=[str(one.folder) for one in teachers])
        settings = settings_hash(config, run.plan.arguments, _identities(teachers))
        return Task(run, config, settings, output / config.experiment / run.name, teachers)

    return list(map(task, chosen))


def _check_same(run: Run, config: Config, extra: Sequence[str]) -> None:
    settings = settings_hash(run.config())
    if settings_hash(config) == settings:
        return
    changing = [one for one in extra if settings_hash(run.config((one,))) != settings] or extra
    raise InputError(
        f"{' '.join(changing)} would change what {run.system} of the study {run.study} is",
        "Settings of systems stand in the study's YAML: write it there, or into a study of your own "
        "(STUDY=<file>.yaml); here only settings count that tell where runs are made, such as data.root.",
    )


def command(task: Task, extra: Sequence[str]) -> list[str]:
    """The command that makes a run, or goes on with it."""
    features = task.run.plan.arguments
    program = ["experiments.study.baselines"] if features else ["experiments", "train"]
    own = features or ["resume=auto"]
    return [sys.executable, "-m", *program, task.run.experiment, *own, *settings_of(task, extra)]


def settings_of(task: Task, extra: Sequence[str]) -> list[str]:
    """The settings of that command, ``key=value``."""
    run = task.run
    wandb = [f"wandb.group={run.study}", f"wandb.tags=[{run.system}]"]
    place = [f"run={run.name}", f"output={task.folder.parents[1]}"]
    taught = [f"trainer.teachers={json.dumps(task.config.trainer.teachers)}"] * bool(task.teachers)
    return [*run.settings, *taught, *wandb, *extra, *place]


class Runner:
    """Makes what is missing of a study, and records each run as soon as it has ended.

    Several at once, also on several machines with a common file system that locks, neither lose each other's records
    nor make a run twice.

    Args:
        wanted: The runs, in the order that they are made.
        folder: Of the study's records; beside it are those of other studies.
        output: Folder of all studies' runs.
        jobs: How many are made at once.
        minutes: Starts no run that would probably end later; none is no limit.
        extra: ``key=value`` settings for all runs.
        view: Shows how far it is.
    """

    def __init__(
        self,
        wanted: Sequence[Task],
        folder: Path,
        output: Path,
        jobs: int,
        minutes: float | None,
        extra: Sequence[str],
        view: View,
    ) -> None:
        self.file = folder / RECORDS
        self.output = output
        self.jobs = jobs
        self.deadline = None if minutes is None else time.monotonic() + 60 * minutes
        # The user's own number of threads, where there is one, wins.
        self.extra = [ON_ONE_THREAD, *extra]
        self.view = view
        for place, setting in ((folder, "records"), (output, "output")):
            with explained(str(place), place, setting):
                place.mkdir(parents=True, exist_ok=True)
        self._teaching = {teacher.key for task in wanted for teacher in task.teachers}
        self.to_do = _with_teachers(self._record(wanted))
        self.done = len(wanted) - len({task.key for task in wanted} & {task.key for task in self.to_do})
        self.running: list[Running] = []
        self.failed: list[Task] = []
        self.interrupted: list[Task] = []
        self._stopping = False
        self._refused: set[str] = set()  # experiments whose input cannot be used
        self._told: set[str] = set()
        systems = {task.key: task.run.system for task in wanted}
        self._durations: dict[str, list[float]] = {}
        for record in read_records(self.file):
            if record.key in systems:
                self._durations.setdefault(systems[record.key], []).append(record.train_seconds)

    def run(self) -> int:
        """Makes the runs.

        Returns:
            1 if one failed, ``AGAIN`` if it was interrupted and something is left to do, else 0.

        Raises:
            KeyboardInterrupt: The user stops it; the runs that had not ended are ended, and go on the next time from
                where they last saved.
        """
        try:
            with self.view:
                while self.running or self._startable():
                    self._start()
                    self._pass_on()
                    self._collect()
                    self._show()
                    time.sleep(TICK_S)
        finally:
            self._stop()
        self._conclude()
        if self._stopping and (self.interrupted or self.to_do):
            return AGAIN
        return 1 if self.failed else 0

    def interrupt(self, *_: object) -> None:
        """Starts no more runs, and has those that are being made save and end; a handler of signals."""
        self._stopping = True

    def _record(self, wanted: Iterable[Task]) -> list[Task]:
        """Records the runs whose results are there, here or in another study; returns the others."""
        missing, found = [], []
        with explained(str(self.file), self.file.parent, "records"), lock(self.file.with_name(f".{RECORDS}.lock")):
            own = read_records(self.file)
            present = {(record.key, record.settings) for record in own}
            everywhere = {
                (record.experiment, record.settings, record.fold, record.seed): record
                for file in sorted(self.file.parents[1].glob(f"*/{RECORDS}"))
                for record in read_records(file)
            }
            for task in wanted:
                if (task.key, task.settings) in present:
                    continue
                if task.identity in everywhere:
                    found.append(task.taken_over(everywhere[task.identity]))
                elif record := task.record():
                    found.append(record)
                else:
                    missing.append(task)
            if found:
                write_records(self.file, [*own, *found])
        return missing

    def _startable(self) -> list[Task]:
        if self._stopping:
            return []
        waiting = {task.key for task in self.to_do} | {one.task.key for one in self.running}
        unable = {task.key for task in self.failed}
        startable = []
        for task in self.to_do:
            teachers = {teacher.key for teacher in task.teachers}
            if teachers & unable:
                self._tell_once(f"{task.name} is not made: a run that is to teach it failed")
            elif not teachers & waiting and task.config.experiment not in self._refused and self._in_time(task):
                startable.append(task)
        return startable

    def _in_time(self, task: Task) -> bool:
        return self.deadline is None or time.monotonic() + (self._duration(task) or 0) <= self.deadline

    def _duration(self, task: Task) -> float | None:
        """How many seconds the run will probably take: the median of its system, or of all while there is none."""
        of_all = [seconds for of_system in self._durations.values() for seconds in of_system]
        known = self._durations.get(task.run.system, of_all)
        return median(known) if known else None

    def _start(self) -> None:
        for task in self._startable():
            if len(self.running) == self.jobs:
                return
            claim = take(self.output / ".claims" / "-".join(map(str, task.identity)))
            if claim is None:
                self._tell_once(f"{task.name} waits for the same run, which is being made")
                continue
            self.to_do.remove(task)
            with ExitStack() as stack:
                stack.callback(release, claim)
                # A teacher has to be here: its record alone, from another machine, does not teach.
                if self._record([task]) or (task.key in self._teaching and not task.record()):
                    self._launch(task, claim)
                    stack.pop_all()
                else:  # another command has made it since
                    self.done += 1

    def _launch(self, task: Task, claim: IO[str]) -> None:
        words = command(task, self.extra)
        with explained(str(task.log), task.folder.parent, "output"):
            again = task.goes_on(self.extra)
            if not again:
                _make_way(task.folder)
            task.folder.parent.mkdir(parents=True, exist_ok=True)
            with task.log.open("ab" if again else "wb") as log:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    process_group=0,
                    # Should we be killed, the run goes on, and so does the claim.
                    pass_fds=(claim.fileno(),),
                )
        self.running.append(Running(task, process, claim))
        self.view.started(task.name, again)

    def _pass_on(self) -> None:
        for one in self.running:
            if self._stopping and not one.told:
                one.told = True
                # To the process alone: its workers have to live for as long as it takes to save.
                one.process.send_signal(signal.SIGTERM)

    def _collect(self) -> None:
        for one in [one for one in self.running if one.process.poll() is not None]:
            task = one.task
            try:
                incomplete = self._record([task])
            finally:
                self.running.remove(one)
                release(one.claim)
            if incomplete:
                if self._was_interrupted(one.process.returncode):
                    self.interrupted.append(task)
                    self.interrupt()  # whoever told the run means us, too
                else:
                    self._fail(task, one.process.returncode)
                continue
            self.done += 1
            self._durations.setdefault(task.run.system, []).append(one.seconds)
            score = next(record for record in read_records(self.file) if record.key == task.key).development
            self.view.say(f"done {task.name}: development {score:.3f}, {clock(one.seconds)}")

    def _was_interrupted(self, code: int) -> bool:
        # What has nothing to save is ended by the signal.
        return code == AGAIN or (self._stopping and -code in (signal.SIGTERM, signal.SIGUSR1))

    def _fail(self, task: Task, code: int) -> None:
        self.failed.append(task)
        self.view.say(f"FAILED {task.name}: exit code {code}, {task.log}")
        lines = task.log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:]
        self._tell_once("\n".join(f"  {line}" for line in lines))
        if code == BAD_INPUT:
            self._refused.add(task.config.experiment)
            self._tell_once(f"No more runs of {task.config.experiment} are started.")

    def _tell_once(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self.view.say(text)

    def _show(self) -> None:
        running = [(one.task.name, one.task.log, one.seconds) for one in self.running]
        counts = Counts(self.done, len(running), len(self.to_do), len(self.failed))
        ahead = [(self._duration(task), 0.0) for task in self.to_do]
        ahead += [(self._duration(one.task), one.seconds) for one in self.running]
        seconds = [max(0, whole - gone) for whole, gone in ahead if whole is not None]
        self.view.show(counts, running, sum(seconds) / self.jobs if seconds else None)

    def _stop(self) -> None:
        """Ends what is still running, and records what has ended well."""
        for sent, seconds in GRACE.items():
            with suppress(KeyboardInterrupt):  # who asks again gets the next one at once
                for one in self.running:
                    one.send(sent)
                until = time.monotonic() + seconds
                while any(one.process.poll() is None for one in self.running) and time.monotonic() < until:
                    time.sleep(TICK_S)
        self._record([one.task for one in self.running])
        for one in self.running:
            release(one.claim)

    def _conclude(self) -> None:
        if self.failed:
            self.view.say(f"{len(self.failed)} runs failed:")
        for task in self.failed:
            self.view.say(f"  {task.name}: {task.log}")
        for task in self.interrupted:
            self.view.say(f"interrupted {task.name}")
        if self.to_do:
            self.view.say(f"{len(self.to_do)} runs were not started; the same command goes on.")


def _with_teachers(missing: Iterable[Task]) -> list[Task]:
    """Runs that are missing, each after those of its teachers that are not here."""
    order: dict[tuple[str, str, str, int, int], Task] = {}
    for task in missing:
        for one in (*(teacher for teacher in task.teachers if not teacher.record()), task):
            order.setdefault(one.key, one)
    return list(order.values())


def _make_way(folder: Path) -> None:
    """Removes what an interrupted run left, or keeps the results of a run with other settings under another name."""
    results = folder / "results.json"
    if results.exists():
        ended = datetime.fromtimestamp(results.stat().st_mtime)
        folder.rename(folder.with_name(f"{folder.name}-of-{ended:%Y%m%d-%H%M%S}"))
    elif folder.exists():
        shutil.rmtree(folder)
