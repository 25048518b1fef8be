"""Sweeps that W&B's server conducts: created there, and agents that make their trials here."""

import contextlib
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import wandb

from callbacks.interruption import Interrupted
from datamodules.errors import InputError
from datamodules.processes import ignore
from experiments.account import NO_ACCOUNT, why_offline
from experiments.config import load
from experiments.sweep.member import AGENT, INTERRUPTED
from experiments.sweep.plan import Sweep

_UNTIL_AGAIN_S = 0.5
_LOCAL = "local=true makes the trials here with Optuna"


def account(needed: bool) -> bool:
    """Whether there is a W&B account to use; tells where there is none.

    Args:
        needed: It is an error if there is none.

    Raises:
        InputError: There is one, and it does not work, or the server cannot be reached; or none, and it is needed.
    """
    try:
        settings = wandb.setup().settings
    except ValueError as error:
        raise InputError(f"W&B cannot use its settings: {error}", f"Correct the WANDB_ variables; {_LOCAL}.") from error
    why = "WANDB_MODE is disabled" if settings.mode == "disabled" else why_offline(settings)
    if why is None:
        return True
    if needed or not (why == NO_ACCOUNT or why.startswith("WANDB_MODE")):
        raise InputError(f"W&B cannot be used: {why}", f"Correct that; {_LOCAL}.")
    print(f"Trials are made here with Optuna, because {why}.", file=sys.stderr, flush=True)
    return False


def create(sweep: Sweep, output: str) -> str:
    """Creates a sweep on W&B's server.

    Args:
        sweep: It.
        output: Folder of its runs; empty for the usual.

    Returns:
        Its path there, ``entity/project/id``.

    Raises:
        InputError: The server refuses it.
    """
    settings = load(sweep.experiment, sweep.settings).wandb
    project = sweep.config.get("project") or settings.project
    entity = sweep.config.get("entity") or settings.entity
    config = {**sweep.config, "command": [*sweep.config["command"], *[f"output={output}"] * bool(output)]}
    with _refusals(f"W&B refuses the sweep {sweep.name} ({project=!s}, {entity=!s})"):
        with contextlib.redirect_stdout(sys.stderr):  # it tells the sweep's address
            identity = wandb.sweep(config, entity=entity, project=project)
        # By now the server has said whose it is.
        return f"{os.environ.get('WANDB_ENTITY') or wandb.Api().default_entity}/{project}/{identity}"


def run_agent(path: str, count: int | None) -> int:
    """Makes trials of a sweep, one after the other, until the server has no more.

    Args:
        path: Of the sweep, ``entity/project/id``.
        count: How many at the most; none is no limit.

    Returns:
        The exit code: 1 where the agent gave up since trials failed.

    Raises:
        InputError: There is no such sweep, or its trials would read the test set.
        Interrupted: The agent was told to end; its trial goes on with another agent.
    """
    with _refusals(f"{path} is neither a sweep's folder nor a sweep that W&B knows"):
        api: Any = wandb.Api()
        command = api.sweep(path).config.get("command") or []
    if "trainer.test=false" not in command:
        raise InputError(
            f"trials of {path} would score the test set, which chooses nothing",
            "Create the sweep with `make sweep`, which sees to that.",
        )
    gave_up = _GaveUp()
    logging.getLogger("wandb.wandb_agent").addHandler(gave_up)
    with tempfile.TemporaryDirectory(prefix="agent-") as folder:
        os.environ[AGENT] = os.environ["WANDB_DIR"] = folder
        # The sweep's command asks for "python".
        os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        with _ending_with_its_trial(Path(folder, INTERRUPTED)):
            wandb.agent(path, count=count)
    return int(gave_up.yes)


@contextlib.contextmanager
def _refusals(what: str) -> Iterator[None]:
    try:
        yield
    except (wandb.Error, ValueError, OSError) as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        remedy = f"Give what `create` printed, or names that the account knows; {_LOCAL}."
        raise InputError(f"{what}: {first}", remedy) from error


@contextlib.contextmanager
def _ending_with_its_trial(note: Path) -> Iterator[None]:
    """Has W&B's agent, when it is told to end, end its trial first.

    Args:
        note: A file by which the trial knows why.

    Raises:
        Interrupted: It was told to, and has ended.
    """

    def end(number: int, frame: FrameType | None) -> None:
        ignore(signal.SIGTERM, signal.SIGUSR1)  # schedulers tell everyone, and so may who started us
        note.touch()
        # Interrupted once, it waits for the trial to end by itself, and once more, it ends the trial.
        signal.setitimer(signal.ITIMER_REAL, _UNTIL_AGAIN_S)
        raise KeyboardInterrupt

    usual = {sent: signal.signal(sent, end) for sent in (signal.SIGTERM, signal.SIGUSR1)}
    usual |= {sent: signal.signal(sent, signal.default_int_handler) for sent in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
    except KeyboardInterrupt:
        if not note.exists():
            raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for sent, handler in usual.items():
            signal.signal(sent, handler)
    if note.exists():
        raise Interrupted(signal.SIGTERM, "Told to end: the trial goes on with another agent.")


class _GaveUp(logging.Handler):
    """Listens to W&B's agent, which tells in its log alone that trials failed and that it gave up."""

    yes = False

    def emit(self, record: logging.LogRecord) -> None:
        self.yes |= "shutting down" in record.getMessage()
