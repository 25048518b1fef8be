"""The command line: ``python -m experiments train|manifest|evaluate``."""

import argparse
import errno
import sys
from pathlib import Path

from datamodules.errors import InputError

_FULL = {errno.ENOSPC, errno.EDQUOT}


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns its exit code: 0, or 2 where the input cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments", description="Speech emotion recognition experiments."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what in (
        ("train", "train, choose the epoch on development data, test once"),
        ("manifest", "read and check the corpora of an experiment"),
    ):
        command = commands.add_parser(name, help=what)
        command.add_argument("experiment", help="name of an experiment, or a YAML file")
        command.add_argument("settings", nargs="*", help="key=value")
    command = commands.add_parser("evaluate", help="score the best checkpoint of a run again")
    command.add_argument("run", type=Path, help="run folder")
    command.add_argument("settings", nargs="*", help="key=value")
    given, rest = parser.parse_known_args(arguments)
    settings = [*given.settings, *rest]

    try:
        # Each command imports what it needs when it needs it: a wrong key is answered at once.
        if given.command == "train":
            from experiments.config import load

            config = load(given.experiment, settings)
            from experiments.run import train

            print(train(config))
        elif given.command == "manifest":
            from experiments.config import load

            config = load(given.experiment, settings)
            from experiments.manifest import manifest

            print(manifest(config))
        else:
            from experiments.run import evaluate

            evaluate(given.run, settings)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in _FULL:
            raise
        where = f" while writing {error.filename}" if error.filename else ""
        print(f"error: the disk is full{where}\n  Free some space, and run again.", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
