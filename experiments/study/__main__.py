"""The command line: ``python -m experiments.study run|report <study> [key=value …]``."""

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from callbacks.interruption import AGAIN
from datamodules.errors import InputError
from experiments.commands import finish, own_settings

if TYPE_CHECKING:
    from experiments.study.table import Table

_OF_SCHEDULERS = (signal.SIGTERM, signal.SIGUSR1)
PLACES = {"output": "runs/studies", "records": "docs/studies"}
"""Settings of where a study's runs and records are."""
_OF_A_RUN = {"jobs": "1", "systems": "", "experiments": "", "folds": "", "seeds": "", "numbers": "", "time": ""}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns 0, 1 if a run failed, 2 where the input cannot be used, or 75 where it is to go on."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.study", description="Studies: systems, folds and seeds, from runs to tables."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    own = {"run": {**_OF_A_RUN, **PLACES}, "report": PLACES}
    for name, what in (
        ("run", "make the runs that are missing, then the tables"),
        ("report", "write the report and the tables from what has been run"),
    ):
        of_command = commands.add_parser(name, help=f"{what}: {', '.join(f'{key}=' for key in own[name])}")
        of_command.add_argument("study", help="name of a study, or a YAML file")
        of_command.add_argument("settings", nargs="*", help="key=value")
    given, rest = parser.parse_known_args(arguments)

    options, others = own_settings([*given.settings, *rest], own[given.command])
    command = _run if given.command == "run" else _report
    return finish(
        lambda: command(given.study, options, others),
        "interrupted: the runs that had ended are recorded, and the same command goes on",
    )


def _run(name: str, options: dict[str, str], extra: list[str]) -> int:
    jobs, minutes = options["jobs"], options["time"]
    if not jobs.isdecimal() or int(jobs) < 1:
        raise InputError(f"jobs is {jobs!r}", "Give a number of 1 or more.")
    if minutes and not minutes.isdecimal():
        raise InputError(f"time is {minutes!r}", "Give a number of minutes.")
    # As late as this: it takes PyTorch along, and what is wrong with the settings is told at once.
    from experiments.study import running, tables
    from experiments.study.plan import read_study
    from experiments.study.progress import View
    from experiments.study.record import RECORDS, read_records

    study = read_study(name)
    folder, output = Path(options["records"], study.name), Path(options["output"])
    wanted = running.tasks(running.choose(study, options), output / study.name, extra)
    runner = running.Runner(wanted, folder, output, int(jobs), float(minutes) if minutes else None, extra, View())
    with _handled(runner.interrupt):
        code = runner.run()
    records = read_records(folder / RECORDS)
    # Where many commands make a run each, as on a cluster, none of them makes the tables of all.
    if records and not options["numbers"]:
        tables.write_tables(study, records, folder)
        found = tables.tested(study, records)
        for experiment in tables.experiments(found):
            if tables.beside_curves(found, experiment):
                _print(tables.main_table(study, found, experiment))
        print(folder, flush=True)
    return code


@contextmanager
def _handled(handler: Callable[[int, FrameType | None], object]) -> Iterator[None]:
    """Has what schedulers send before they end a job handled."""
    before = {sent: signal.signal(sent, handler) for sent in _OF_SCHEDULERS}
    try:
        yield
    finally:
        for sent, known in before.items():
            signal.signal(sent, known)


def _go_on_later(*_: object) -> None:
    sys.exit(AGAIN)


def _print(table: "Table") -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as Drawn

    drawn = Drawn(*table.header, title=table.title, caption=table.note, box=box.SIMPLE_HEAD)
    for row in table.rows:
        drawn.add_row(*row)
    # In a file or a pipe rich would take 80 columns, and break most words.
    Console(width=None if sys.stdout.isatty() else 200, markup=False).print(drawn)


def _report(name: str, options: dict[str, str], others: list[str]) -> int:
    if others:
        raise InputError(f"a report knows no {others[0]}", f"There are: {', '.join(options)}.")
    from experiments.study.plan import read_study
    from experiments.study.record import RECORDS, read_records
    from experiments.study.report import write_report
    from experiments.study.tables import write_tables

    study = read_study(name)
    folder = Path(options["records"], study.name)
    records = read_records(folder / RECORDS)
    if not records:
        raise InputError(f"{folder} holds no records of runs", f"Make some: make study STUDY={name}")
    write_tables(study, records, folder)
    print(write_report(study, records, Path(options["output"], study.name), folder), flush=True)
    return 0


if __name__ == "__main__":
    # A shell starts what it runs in the background with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with _handled(_go_on_later):  # before and after the runs there is nothing to save
        sys.exit(main())
