"""The command line: ``python -m experiments.bench [rows=…] [data.root=…] [key=value …]``."""

import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from datamodules.errors import InputError
from experiments.bench.core import Bench, Row
from experiments.bench.rows import ROWS
from experiments.commands import finish, own_settings
from experiments.config import load
from experiments.hush import hush

OUTPUT = Path("runs/bench")
REPEATS = 5
REPEATS_OF_A_SMOKE_TEST = 1
EXPERIMENT = "ravdess_cat"
"""What rows train; settings that are not the bench's own are this experiment's."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures rows, one after the other; returns 0, 1 if a row failed, or 2 where the input cannot be used."""
    hush()

    def command() -> int:
        bench, rows = read(sys.argv[1:] if arguments is None else arguments)
        from experiments.bench.running import run  # as late as this: what is wrong with the settings is told at once

        return run(bench, rows)

    return finish(command, "interrupted; the rows that were measured are written down")


def read(arguments: Sequence[str]) -> tuple[Bench, list[Row]]:
    """Reads the command line.

    Args:
        arguments: ``rows=<row>,<row>``, ``data.root=<folder>``, ``output=<folder>``, ``quick=true``, ``repeats=<n>``;
            any other ``key=value`` is a setting of the experiment that rows train.

    Returns:
        What rows are given, and those that are wanted, in the order of the table.

    Raises:
        InputError: A row, a setting or a value is not known.
    """
    places = {"data.root": os.environ.get("SER_AAE_DATA", ""), "output": str(OUTPUT)}
    own, others = own_settings(arguments, {"rows": "", "quick": "", "repeats": "", **places})
    load(EXPERIMENT, others)  # what is wrong is told now, and not after an hour
    if own["quick"] not in ("", "true", "false"):
        raise InputError(f"quick is {own['quick']!r}", "Give true or false.")
    quick = own["quick"] == "true"
    repeats = own["repeats"] or str(REPEATS_OF_A_SMOKE_TEST if quick else REPEATS)
    if not repeats.isdecimal() or int(repeats) < 1:
        raise InputError(f"repeats is {repeats!r}", "Give a number of 1 or more.")
    root = Path(own["data.root"]).expanduser().resolve() if own["data.root"] else None
    if root is not None and not root.is_dir():
        raise InputError(f"data.root is {root}, which is no folder", "Give the folder of the corpora.")
    bench = Bench(root, Path(own["output"]).expanduser().resolve(), quick, int(repeats), tuple(others))
    return bench, _wanted(own["rows"])


def _wanted(names: str) -> list[Row]:
    wanted = [name for name in names.split(",") if name]
    for name in wanted:
        if name not in ROWS:
            near = difflib.get_close_matches(name, ROWS, n=1)
            guess = f"Did you mean {near[0]}? " if near else ""
            raise InputError(f"rows: there is no row {name!r}", f"{guess}There are: {', '.join(ROWS)}.")
    return [row for row in ROWS.values() if not wanted or row.name in wanted]


if __name__ == "__main__":
    sys.exit(main())
