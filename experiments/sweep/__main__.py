"""The command line: ``python -m experiments.sweep run|create|agent <sweep> [key=value …]``."""

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from callbacks.interruption import AGAIN, Interrupted, Interruption
from datamodules.errors import InputError, explained
from experiments.commands import finish, own_settings

if TYPE_CHECKING:
    from experiments.sweep.search import Search

PLACE = "runs/sweeps"
"""Folder of the sweeps that are made here."""
_OF_A_SWEEP = {"count": "", "name": "", "local": "", "output": ""}
_OWN = {"run": {**_OF_A_SWEEP, "agents": "1"}, "create": _OF_A_SWEEP, "agent": {"count": ""}}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns 0, 1 if no trial was trained to its end, 2 for bad input, 75 if it is to go on later."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.sweep", description="Sweeps: searches for settings, by W&B or here with Optuna."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, what, argument in (
        ("run", "create a sweep and make its trials", "name of a sweep, or a YAML file"),
        ("create", "create a sweep and print what agents are to be given", "name of a sweep, or a YAML file"),
        ("agent", "make trials of a sweep", "what `create` printed"),
    ):
        of_command = commands.add_parser(name, help=f"{what}: {', '.join(f'{key}=' for key in _OWN[name])}")
        of_command.add_argument("sweep", help=argument)
        of_command.add_argument("settings", nargs="*", help="key=value")
    given, rest = parser.parse_known_args(arguments)
    own, others = own_settings([*given.settings, *rest], _OWN[given.command])
    interruption = Interruption()
    with interruption.listening():
        return finish(lambda: _run(given.command, given.sweep, own, others, interruption))


def _run(command: str, sweep: str, own: dict[str, str], others: list[str], interruption: Interruption) -> int:
    count = _number(own, "count") if own["count"] else None
    agents = _number(own, "agents") if command == "run" else 1
    if command == "agent":
        if others:
            raise InputError(
                f"an agent takes no {others[0]}", "Settings of trials are given when the sweep is created."
            )
        return _agent(sweep, count, interruption)
    place = _create(sweep, count, own, others)
    if command == "create":
        print(place, flush=True)
        return 0
    return _agent(place, count, interruption) if agents == 1 else _agents(place, count, agents)


def _number(own: dict[str, str], key: str) -> int:
    if not own[key].isdecimal() or int(own[key]) < 1:
        raise InputError(f"{key} is {own[key]!r}", "Give a number of 1 or more.")
    return int(own[key])


def _check_installed() -> None:
    if importlib.util.find_spec("optuna") is None:
        raise InputError("sweeps need the package optuna, which is not installed", "pip install -e '.[sweeps]'")


def _create(name: str, count: int | None, own: dict[str, str], settings: list[str]) -> str:
    """Creates a sweep, and returns what agents are to be given."""
    if own["local"] not in ("", "true", "false"):
        raise InputError(f"local is {own['local']!r}", "Give true or false.")
    _check_installed()
    # As late as this: what is wrong with the settings is told at once.
    from experiments.sweep.plan import read_sweep

    sweep = read_sweep(name, settings, count, own["name"])
    if own["local"] != "true":
        from experiments.sweep import server

        if server.account(needed=own["local"] == "false"):
            return server.create(sweep, own["output"])
    from experiments.sweep.search import begin

    return str(begin(sweep, Path(own["output"] or PLACE)))


def _agent(place: str, count: int | None, interruption: Interruption) -> int:
    if not Path(place).is_dir():
        from experiments.sweep import server

        server.account(needed=True)
        return server.run_agent(place, count)
    _check_installed()
    from experiments.study.progress import View
    from experiments.sweep.agent import Agent
    from experiments.sweep.report import write_results
    from experiments.sweep.search import Search

    search = Search(Path(place))
    with explained(place, Path(place).parent, "output"):
        Agent(search, count, View(), write_results, interruption).run()
        return _conclude(search)


def _conclude(search: "Search") -> int:
    """Writes and prints what a search has found."""
    from experiments.sweep.report import BEST_SETTINGS, best, write_figure, write_results

    write_results(search)
    write_figure(search)
    print((search.folder / "results.md").read_text(encoding="utf-8"))
    found = best(search)
    if found is not None:
        score = f"{search.sweep.metric} {found.user_attrs['objective']:.4f}"
        print(f"Best is trial {found.number}: {score}. To train it again, and to test it once:")
        print(f"make train EXP={search.folder / BEST_SETTINGS}")
    print(search.folder, flush=True)
    return int(found is None)


def _agents(place: str, count: int | None, number: int) -> int:
    """Runs several agents at once, each with a GPU of its own where there are GPUs."""
    command = [sys.executable, "-m", "experiments.sweep", "agent", place, *[f"count={count}"] * (count is not None)]
    here = Path(place).is_dir()
    agents = [
        subprocess.Popen(
            command,
            # Several live tables would overwrite each other.
            env={**os.environ, "TTY_COMPATIBLE": "0", **visible},
            stdout=subprocess.DEVNULL if here else None,  # what has been found is told once
            process_group=0,  # ctrl-C reaches them by us alone
        )
        for visible in _devices(number)
    ]
    try:
        codes = [agent.wait() for agent in agents]
    except Interrupted as interrupted:
        for agent in agents:
            agent.send_signal(interrupted.args[0])
        for agent in agents:
            agent.wait()
        raise
    if here:
        from experiments.sweep.search import Search

        codes.append(_conclude(Search(Path(place))))
    return next((code for code in (2, AGAIN, 0) if code in codes), 1)


def _devices(number: int) -> list[dict[str, str]]:
    """Variables by which each agent sees one GPU alone; none where there are none."""
    import torch

    there = torch.cuda.device_count()
    if not there:
        return [{}] * number
    if number > there:
        raise InputError(f"agents is {number}, and this machine has {there} GPUs", "Give as many as there are.")
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = seen if seen != [""] else list(map(str, range(there)))
    return [{"CUDA_VISIBLE_DEVICES": name} for name in names[:number]]


if __name__ == "__main__":
    sys.exit(main())
