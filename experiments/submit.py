"""Queues work on a SLURM cluster: ``python -m experiments.submit EXP=…|STUDY=…|SWEEP=… TIME=… [key=value …]``."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from datamodules.errors import InputError, explained
from experiments.commands import finish, own_settings
from experiments.config import Config, load
from experiments.hush import hush
from experiments.importing import importing
from experiments.resuming import unfinished
from experiments.study.__main__ import PLACES
from experiments.sweep.plan import sweeps

SCRIPTS = Path("experiments", "slurm")
"""Batch scripts, which find each other from the project's folder."""
LOGS = Path("runs", "slurm")
"""Where the batch scripts have SLURM write."""
LEAD_S = 120
"""Seconds before its end at which a job is told to save, by the batch scripts; ``LEAD`` gives another number."""
EARLY_S = 60
"""SLURM may tell it so many seconds earlier."""
MOST_WORKERS = 8

_OF_ALL = ("TIME", "GPUS", "CPUS", "LEAD")
_KINDS = {"EXP": ("NODES", "TASKS"), "STUDY": ("AT_ONCE",), "SWEEP": ("AGENTS", "COUNT")}
"""What can be queued, and the options of each beside those of all."""
_TIME = re.compile(r"(?:(?P<days>\d+)-)?(?P<rest>\d+(?::\d+){0,2})", re.ASCII)

Given = Mapping[str, str]


@dataclass(frozen=True)
class Resources:
    """What a job is given, or each task of an array.

    Attributes:
        seconds: Time limit.
        nodes: Machines.
        gpus: Of each machine; 0 computes on CPUs.
        tasks: Processes on each machine: one a GPU.
        cpus: Processors of each process.
    """

    seconds: int
    nodes: int
    gpus: int
    tasks: int
    cpus: int

    @property
    def options(self) -> list[str]:
        """For ``sbatch``."""
        return [
            f"--time={_clock(self.seconds)}",
            f"--nodes={self.nodes}",
            f"--ntasks-per-node={self.tasks}",
            f"--cpus-per-task={self.cpus}",
            *[f"--gres=gpu:{self.gpus}"] * bool(self.gpus),
        ]

    @property
    def settings(self) -> list[str]:
        """For each run: ``key=value``."""
        if not self.gpus:
            return ["trainer.accelerator=cpu"]
        # By itself a run counts the processors that it may use, which on some clusters are all of the machine.
        return ["trainer.accelerator=gpu", f"data.workers={max(1, min(MOST_WORKERS, self.cpus - 1))}"]


@dataclass(frozen=True)
class Job:
    """What is queued.

    Attributes:
        name: In the queue and of the log.
        script: One of ``SCRIPTS``.
        words: Its arguments.
        options: For ``sbatch``.
        notes: What to tell of it, by what it is about; ``%j`` stands for its id.
        array: Whether it is one.
    """

    name: str
    script: str
    words: Sequence[str]
    options: Sequence[str] = ()
    notes: Mapping[str, str] = field(default_factory=dict)
    array: bool = True


def main(arguments: Sequence[str] | None = None) -> int:
    """Queues what is asked for; returns 0, or 2 where the input cannot be used."""
    hush()
    return finish(lambda: submit(sys.argv[1:] if arguments is None else arguments))


def submit(settings: Iterable[str]) -> None:
    """Checks what would else be told after hours in a queue, has SLURM queue it, and prints how to go about it.

    Args:
        settings: ``EXP=``, ``STUDY=`` or ``SWEEP=``, options in capitals, and ``key=value`` for the runs. Further
            options for ``sbatch`` stand in the variable ``SBATCH_ARGS``.

    Raises:
        InputError: Something in them cannot be used, a corpus is missing, or SLURM is, or refuses the job.
    """
    known = [*_KINDS, *_OF_ALL, *(option for options in _KINDS.values() for option in options)]
    given, extra = own_settings(settings, dict.fromkeys(known, ""))
    kind = _kind(given)
    resources = _resources(given, kind)
    site = _options_of_site()
    if not SCRIPTS.is_dir():
        raise InputError(f"{SCRIPTS} is not in {Path.cwd()}", "Submit from the project's folder.")
    if shutil.which("sbatch") is None:
        instead = "" if kind == "SWEEP" else f", or compute here: make {'train' if kind == 'EXP' else 'study'}"
        raise InputError(
            "there is no sbatch on PATH: this machine belongs to no SLURM cluster",
            f"Submit from a login node of the cluster{instead}.",
        )
    jobs = {"EXP": _training, "STUDY": _study, "SWEEP": _sweep}[kind](given, resources, extra)
    with explained(str(LOGS), LOGS, "folder to submit from"):
        LOGS.mkdir(parents=True, exist_ok=True)  # where SLURM cannot write the log, it ends the job without a word
    lead = [f"--signal=B:USR1@{given['LEAD']}"] * bool(given["LEAD"])
    after: list[str] = []
    for job in jobs:
        number = _queue(job, [*resources.options, *lead, *job.options, *after, *site])
        if number:  # none where SLURM is but asked, by --test-only
            _tell(job, number, resources)
            after = [f"--dependency=afterany:{number}"]


def _kind(given: Given) -> str:
    kinds = [kind for kind in _KINDS if given[kind]]
    if len(kinds) != 1:
        raise InputError(
            f"{' and '.join(f'{kind}={given[kind]}' for kind in kinds)}: only one can be submitted at a time"
            if kinds
            else "nothing is named that could be submitted",
            "Give EXP=<experiment>, STUDY=<study> or SWEEP=<sweep>.",
        )
    for kind, options in _KINDS.items():
        for option in options:
            if given[option] and kind != kinds[0]:
                raise InputError(
                    f"{option}={given[option]} is an option of {kind}, and not of {kinds[0]}",
                    f"{kinds[0]} has: {', '.join([*_OF_ALL, *_KINDS[kinds[0]]])}.",
                )
    return kinds[0]


def _resources(given: Given, kind: str) -> Resources:
    lead = _number(given, "LEAD", LEAD_S, 1)
    seconds = _seconds(given["TIME"])
    if seconds <= lead + EARLY_S:
        raise InputError(
            f"TIME={given['TIME']} is {_clock(seconds)}, and a job is told to save {lead} to {lead + EARLY_S} s before "
            "its end",
            f"Give TIME={(lead + EARLY_S) // 60 + 1} (minutes) or more, or LEAD=<fewer seconds>.",
        )
    gpus = _number(given, "GPUS", 1, 0)
    tasks = _number(given, "TASKS", gpus or 1, 1)
    if gpus and tasks != gpus:
        raise InputError(f"TASKS is {tasks}, and GPUS is {gpus}", "There is a process a GPU: leave TASKS out.")
    if kind != "EXP" and gpus > 1:
        raise InputError(f"GPUS is {gpus}", f"The runs of a {kind.lower()} take one each: give GPUS=1, or 0 for CPUs.")
    # Runs of a study compute on one thread.
    cpus = _number(given, "CPUS", 1 if kind == "STUDY" and not gpus else 4, 1)
    return Resources(seconds, _number(given, "NODES", 1, 1), gpus, tasks, cpus)


def _number(given: Given, name: str, default: int, least: int) -> int:
    value = given[name]
    if not value:
        return default
    if not (value.isascii() and value.isdecimal()) or int(value) < least:
        raise InputError(f"{name} is {value!r}", f"Give a whole number of {least} or more.")
    return int(value)


def _seconds(value: str) -> int:
    """What SLURM takes a time limit for."""
    found = _TIME.fullmatch(value)
    if found is None:
        raise InputError(
            f"TIME is {value!r}" if value else "TIME is missing",
            "Give a time limit as SLURM does: minutes, minutes:seconds, hours:minutes:seconds, days-hours, "
            "days-hours:minutes or days-hours:minutes:seconds; TIME=4:00:00 is four hours.",
        )
    parts = [int(part) for part in found["rest"].split(":")]
    if found["days"] is None and len(parts) < 3:  # they begin with the minutes
        parts.insert(0, 0)
    hours, minutes, seconds, *_ = *parts, 0, 0
    return ((int(found["days"] or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def _clock(seconds: int) -> str:
    """As SLURM writes it."""
    days, seconds = divmod(seconds, 86_400)
    return f"{f'{days}-' if days else ''}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _options_of_site() -> list[str]:
    words = os.environ.get("SBATCH_ARGS", "")
    try:
        return shlex.split(words)
    except ValueError as error:
        raise InputError(f"SBATCH_ARGS is {words!r}: {error}", "Close the quotes.") from error


def _training(given: Given, resources: Resources, extra: list[str]) -> list[Job]:
    settings = [
        f"trainer.devices={resources.tasks}",
        f"trainer.num_nodes={resources.nodes}",
        *resources.settings,
        *extra,
    ]
    config = load(given["EXP"], settings)
    for option, wanted, key in (
        ("GPUS" if resources.gpus else "TASKS", resources.tasks, "devices"),
        ("NODES", resources.nodes, "num_nodes"),
    ):
        if getattr(config.trainer, key) != wanted:
            raise InputError(
                f"trainer.{key} is {getattr(config.trainer, key)}, and {option} is {wanted}",
                f"Give {option} alone: it sets trainer.{key}.",
            )
    _check_corpora([config])
    folder = Path(config.output, config.experiment, config.run or "slurm-%j")
    name, options = config.experiment, []
    if config.run:
        if unfinished(config) and (folder / "results.json").exists():
            raise InputError(f"run={config.run}: {folder} has ended", "Give the run another name.")
        # Jobs of a name follow each other: two at once would spoil the folder.
        name, options = f"{name}-{config.run}", ["--dependency=singleton"]
    words = [given["EXP"], *settings]
    return [Job(name, "train.sbatch", words, options, {"run folder": str(folder)}, array=False)]


def _study(given: Given, resources: Resources, extra: list[str]) -> list[Job]:
    with importing():
        from experiments.study import running
        from experiments.study.plan import read_study, runs
        from experiments.study.progress import View

    at_once = _number(given, "AT_ONCE", 0, 1)
    study = read_study(given["STUDY"])
    filters, extra = own_settings(extra, dict.fromkeys([*running.FILTERS, "numbers"], ""))
    places, extra = own_settings(extra, PLACES)
    extra = [*resources.settings, *extra]
    folder, output = Path(places["records"], study.name), Path(places["output"])
    wanted = running.tasks(running.choose(study, filters), output / study.name, extra)
    runner = running.Runner(wanted, folder, output, 1, None, extra, View())
    _check_corpora({task.run.of_system: task.config for task in runner.to_do}.values())

    print(f"{study.name}: {runner.done} of {len(wanted)} runs are done")
    numbers = {run.key: number for number, run in enumerate(runs(study))}
    missing = {task.key for task in runner.to_do}
    parts: tuple[list[int], list[int]] = [], []
    for task in runner.to_do:
        taught_later = not missing.isdisjoint(teacher.key for teacher in task.teachers)
        parts[taught_later].append(numbers[task.run.key])
    words = [given["STUDY"], *extra, *(f"{key}={value}" for key, value in places.items())]
    jobs = []
    for part in map(_ranges, map(sorted, filter(None, parts))):
        array = f"--array={part}{f'%{at_once}' if at_once else ''}"
        notes = {"runs": f"numbers={part}", "tables": f"make report STUDY={shlex.quote(given['STUDY'])}"}
        jobs.append(Job(study.name, "study.sbatch", words, [array], notes))
    return jobs


def _sweep(given: Given, resources: Resources, extra: list[str]) -> list[Job]:
    if extra:
        raise InputError(f"an agent takes no {extra[0]}", "Settings of trials are given when the sweep is created.")
    sweep = given["SWEEP"]
    if sweep in sweeps() or Path(sweep).suffix in (".yaml", ".yml"):
        raise InputError(
            f"SWEEP={sweep} has to be created first",
            f"Give what this prints last: .venv/bin/python -m experiments.sweep create {shlex.quote(sweep)}",
        )
    agents, count = _number(given, "AGENTS", 1, 1), _number(given, "COUNT", 0, 1)
    words = [sweep, *[f"count={count}"] * bool(count)]
    return [Job("sweep", "sweep.sbatch", words, [f"--array=0-{agents - 1}"])]


def _check_corpora(configs: Iterable[Config]) -> None:
    with importing():
        from datamodules.datamodule import SpeechDataModule

    for config in configs:
        rate, tasks = config.model.features.sample_rate, config.model.tasks
        SpeechDataModule(config.data, config.split, rate, config.seed, tasks).gathering.roots()


def _ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as SLURM writes those of an array: ``0,3,5-9``."""
    gaps = [(before, after) for before, after in pairwise(numbers) if after != before + 1]
    firsts, lasts = [numbers[0], *(after for _, after in gaps)], [*(before for before, _ in gaps), numbers[-1]]
    return ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in zip(firsts, lasts, strict=True))


def _queue(job: Job, options: Sequence[str]) -> str:
    """Has SLURM queue a job, and returns its id."""
    script = str(SCRIPTS / job.script)
    words = ["sbatch", "--parsable", f"--job-name={job.name}", *options, script, sys.executable, *job.words]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise InputError(
            f"SLURM refuses the job: {done.stderr.strip()}",
            "What the site wants, such as --partition or --account, stands in SBATCH_ARGS; the command was:\n"
            f"  {shlex.join(words)}",
        )
    print(done.stderr, end="", file=sys.stderr)
    return done.stdout.strip().partition(";")[0]  # behind it stands the cluster's name


def _tell(job: Job, number: str, resources: Resources) -> None:
    of_node = f"{resources.gpus} GPU" if resources.gpus else f"{resources.tasks} on CPUs"
    log = LOGS / f"{job.name}-{number}{'_*' * job.array}.out"
    notes = {
        "log": str(log),
        **job.notes,
        "watch": f"squeue --job {number}; tail -F {log}",
        "cancel": f"scancel {number}",
    }
    print(f"job {number}: {job.name}, {resources.nodes} × {of_node}, at most {_clock(resources.seconds)}")
    for about, note in notes.items():
        print(f"  {about}: {note.replace('%j', number)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
