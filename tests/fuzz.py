"""Hands broken input of all kinds to the code that reads it, and counts what crashes, hangs, grows or gets out.

``make fuzz [ARGS="count=<cases of each kind> seed=<number> kinds=<names> time=<minutes> jobs=<processes>"]``: each case
is drawn from the seed, its kind and its number alone. ``case=<kind>:<number>`` repeats a single one, and shows what
happens.
"""

import faulthandler
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from datamodules.errors import InputError
from experiments.commands import finish, own_settings
from experiments.hush import hush
from tests.fuzzing.bounds import CPU_SECONDS, WALL_SECONDS, Watch, cpu_seconds, limit, outcome
from tests.fuzzing.kind import Kind
from tests.fuzzing.kinds import KINDS

PER_PROCESS = 2000
"""Cases after which a process makes room for a fresh one."""
_POLL_S = 0.5
_SHOWN_EACH_S = 15.0


@dataclass
class Tally:
    """What became of the cases of a kind."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    slowest: tuple[float, int] = (0.0, -1)
    findings: dict[str, list[int]] = field(default_factory=dict)
    """Numbers of cases by what they found, which is told once: the last lines that were reached, and the error."""

    @property
    def done(self) -> int:
        return self.outcomes.total()


class Worker:
    """A process that takes cases, one after the other, in a folder of its own."""

    def __init__(self, kind: Kind, seed: int, seeds: Path, folder: Path) -> None:
        fork = get_context("fork")  # what is imported need not be imported again
        self.connection, there = fork.Pipe()
        self.folder = folder
        self.process = fork.Process(target=_work, args=(kind, seed, seeds, folder, there), daemon=True)
        self.process.start()
        there.close()
        self.number = -1
        self.taken = 0

    def take(self, number: int) -> None:
        """Begins a case."""
        self.number, self.taken = number, self.taken + 1
        self.began = time.monotonic()
        self.cpu = cpu_seconds(self.process.pid or 0)
        self.connection.send(number)

    def hangs(self) -> bool:
        """Whether a case takes longer than any may."""
        computed = cpu_seconds(self.process.pid or 0) - self.cpu
        return computed > CPU_SECONDS or time.monotonic() - self.began > WALL_SECONDS

    def where(self) -> str:
        """Where a process that is gone was, as far as it could still tell."""
        log = self.folder / "crash.txt"
        return log.read_text(errors="replace").strip() if log.exists() else ""

    def end(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.join()
        self.connection.close()


def _work(kind: Kind, seed: int, seeds: Path, folder: Path, parent: Connection) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _fresh(folder)
    own = folder / "seeds"
    shutil.copytree(seeds, own, symlinks=True)
    place = folder / "case"
    place.mkdir()
    os.chdir(place)
    os.environ.update(HOME=str(place), TMPDIR=str(place))
    tempfile.tempdir = str(place)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    crash = (folder / "crash.txt").open("w")
    faulthandler.enable(crash)
    faulthandler.register(signal.SIGUSR2, crash)
    watch = Watch(place)
    opened = kind.opened(own)
    limit()
    while True:
        try:
            number = parent.recv()
        except EOFError:
            return
        parent.send((number, *attempt(opened, kind.name, seed, number, folder, watch)))


def attempt(opened: Any, kind: str, seed: int, number: int, folder: Path, watch: Watch) -> tuple[str, str]:
    """Makes one case; returns its outcome and, of a finding, what is to be told."""
    place = folder / "case"
    draw = random.Random(f"{seed} {kind} {number}")
    try:
        act = opened.case(draw, place)
        found = outcome(act, watch), ""
    except BaseException as error:  # noqa: BLE001 - anything that gets out of a case is what is looked for
        found = "finding", _told(error)
    opened.restore()
    beside = {entry.name for entry in folder.iterdir()} - {"seeds", "case", "crash.txt"}
    if beside:
        found = "finding", f"it wrote beside its folder: {', '.join(sorted(beside))}"
        for name in beside:
            shutil.rmtree(folder / name, ignore_errors=True)
    for entry in place.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)
    return found


def _told(error: BaseException) -> str:
    """An error and the lines that led to it, those of this project in full."""
    root = f"{Path(__file__).parents[1]}/"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        f for f in frames if f.filename.startswith(root) and "/.venv/" not in f.filename and "/tests/" not in f.filename
    ]
    there = [*ours[-3:], *(frames[-1:] if frames and frames[-1] not in ours else [])]
    lines = [f"  {frame.filename.removeprefix(root)}:{frame.lineno} {frame.name}" for frame in there]
    return "\n".join([f"{type(error).__name__}: {str(error)[:200]!r}", *lines])


def _fresh(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def fuzz(
    kinds: Sequence[Kind], count: int, seed: int, output: Path, seconds: float = float("inf"), jobs: int = 2
) -> dict[str, Tally]:
    """Makes ``count`` cases of each kind.

    Args:
        kinds: Of input.
        count: Cases of each.
        seed: From which they are drawn.
        output: Folder for what is broken; each process has one of its own in it.
        seconds: After so long no new case is begun.
        jobs: Processes.

    Returns:
        What became of them, by the name of the kind.
    """
    tallies = {}
    until = time.monotonic() + seconds
    for kind in kinds:
        seeds = output / "seeds" / kind.name
        _fresh(seeds)
        kind.prepare(seeds)
        tallies[kind.name] = _fuzz(kind, range(count), seed, output, seeds, until, jobs)
    return tallies


def _fuzz(kind: Kind, numbers: Sequence[int], seed: int, output: Path, seeds: Path, until: float, jobs: int) -> Tally:
    tally, left, shown = Tally(), iter(numbers), time.monotonic()
    began = time.monotonic()
    workers = [Worker(kind, seed, seeds, output / f"{kind.name}-{job}") for job in range(min(jobs, len(numbers)))]
    busy = [worker for worker in workers if _next(worker, left, until)]
    while busy:
        ready = wait([worker.connection for worker in busy], timeout=_POLL_S)
        for worker in list(busy):
            if worker.connection in ready:
                gone = _receive(worker, tally)
            elif gone := worker.hangs():
                os.kill(worker.process.pid or 0, signal.SIGUSR2)
                time.sleep(0.5)  # until it has told where it is
                _count(tally, worker, "finding", f"it hangs\n{_python_frames(worker.where())}")
            else:
                continue
            if gone or worker.taken >= PER_PROCESS:
                busy.remove(worker)
                worker.end()
                worker = Worker(kind, seed, seeds, worker.folder)
                busy.append(worker)
            if not _next(worker, left, until):
                busy.remove(worker)
                worker.end()
        if time.monotonic() > shown + _SHOWN_EACH_S:
            shown = time.monotonic()
            tally.seconds = shown - began
            print(f"{kind.name}: {_line(tally)} of {len(numbers)}", flush=True)
    tally.seconds = time.monotonic() - began
    print(f"{kind.name}: {_line(tally)} of {len(numbers)}, done", flush=True)
    return tally


def _next(worker: Worker, left: Iterator[int], until: float) -> bool:
    if time.monotonic() > until or (number := next(left, None)) is None:
        return False
    worker.take(number)
    return True


def _receive(worker: Worker, tally: Tally) -> bool:
    """Takes a result; returns whether the process is gone."""
    try:
        _, result, told = worker.connection.recv()
    except EOFError:
        worker.process.join()
        code = worker.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        _count(tally, worker, "finding", f"its process died by {name}\n{_python_frames(worker.where())}")
        return True
    _count(tally, worker, result, told)
    return False


def _python_frames(log: str) -> str:
    """The first lines of where a process was: the numbers of its threads differ each time."""
    return "\n".join(line for line in log.splitlines() if line.startswith("  File"))[:600]


def _count(tally: Tally, worker: Worker, result: str, told: str) -> None:
    took = time.monotonic() - worker.began
    tally.outcomes[result] += 1
    tally.slowest = max(tally.slowest, (took, worker.number))
    if result == "finding":
        # What it says depends on the case; where it happened is what is to be repaired.
        name, _, places = told.partition("\n")
        key = f"{name.partition(':')[0]}\n{places}" if places else name
        numbers = tally.findings.setdefault(key, [])
        if not numbers:
            print(f"finding, case={worker.folder.name.rpartition('-')[0]}:{worker.number}: {told}", flush=True)
        numbers.append(worker.number)


def _line(tally: Tally) -> str:
    counts = ", ".join(f"{number} {name}" for name, number in sorted(tally.outcomes.items()))
    return f"{tally.done} cases in {tally.seconds:.0f} s ({counts})"


def print_tallies(tallies: dict[str, Tally]) -> int:
    """Prints all figures; returns the number of cases that found something."""
    table = Table("kind", "cases", "used", "refused", "findings", "seconds", "slowest case", title_justify="left")
    for name, tally in tallies.items():
        slowest = f"{tally.slowest[0]:.2f} s (case={name}:{tally.slowest[1]})"
        counts = [str(tally.outcomes[one]) for one in ("used", "refused", "finding")]
        table.add_row(name, str(tally.done), *counts, f"{tally.seconds:.0f}", slowest)
    console = Console(markup=False, width=None if sys.stdout.isatty() else 120)
    console.print(table)
    for name, tally in tallies.items():
        for told, numbers in sorted(tally.findings.items(), key=lambda one: -len(one[1])):
            print(f"{len(numbers)} ×, case={name}:{numbers[0]}: {told}")
    return sum(tally.outcomes["finding"] for tally in tallies.values())


def one_case(kind: Kind, number: int, seed: int, output: Path) -> int:
    """Makes a single case in this process, and lets whatever happens happen; what is broken stays in the folder."""
    seeds, place = output / "seeds" / kind.name, output / "case"
    for folder in (seeds, place):
        _fresh(folder)
    kind.prepare(seeds)
    os.chdir(place)
    opened = kind.opened(seeds)
    watch = Watch(place)
    faulthandler.enable()
    limit()
    act = opened.case(random.Random(f"{seed} {kind.name} {number}"), place)
    try:
        print(f"{outcome(act, watch)}: {output}")
    except BaseException:  # noqa: BLE001 - shown, whatever it is
        traceback.print_exc()
        print(f"a finding: {output}")
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``count=10000 seed=0 kinds=… time=… jobs=2 case=<kind>:<number> output=<a temporary folder>``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    defaults = {"count": "10000", "seed": "0", "kinds": "", "time": "", "jobs": "2", "case": "", "output": ""}
    own, others = own_settings(given, defaults)

    def run() -> int:
        hush()
        kinds = [name for name in own["kinds"].split(",") if name] or list(KINDS)
        case = own["case"].partition(":")
        if case[0]:
            kinds = [case[0]]
        plain = all(own[name].isdecimal() for name in ("count", "seed", "jobs")) and (
            not case[0] or case[2].isdecimal()
        )
        if others or not plain or not own["time"].replace(".", "", 1).isdecimal() ^ (not own["time"]):
            raise InputError(
                " ".join(given), f"Give {' '.join(f'{name}={value}' for name, value in defaults.items())}."
            )
        if unknown := set(kinds) - set(KINDS):
            raise InputError(f"there is no kind {', '.join(unknown)}", f"There are: {', '.join(KINDS)}.")
        chosen = [KINDS[name] for name in kinds]
        with tempfile.TemporaryDirectory() as temporary:
            output = Path(own["output"] or temporary).resolve()
            if case[0]:
                return one_case(chosen[0], int(case[2]), int(own["seed"]), output)
            seconds = 60 * float(own["time"]) if own["time"] else float("inf")
            tallies = fuzz(chosen, int(own["count"]), int(own["seed"]), output, seconds, int(own["jobs"]))
        return 1 if print_tallies(tallies) else 0

    return finish(run)


if __name__ == "__main__":
    sys.exit(main())
