"""What a run has to know that W&B's agent started, as a trial of a sweep; free of heavy imports."""

import os
from pathlib import Path

AGENT = "SER_AAE_AGENT"
"""Variable that names the folder of the agent that started this process."""
INTERRUPTED = "interrupted"
"""Of the agent's folder: a file that is there once the agent itself has been told to end."""


def run_id() -> str | None:
    """W&B's name of this run, where it is a trial; none where it is not."""
    return os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None


def is_stopped_for_good() -> bool:
    """Whether a trial that is told to stop is not to go on, since others were better.

    Where its agent is told to end, too, as by a scheduler, W&B hands the trial to another agent.
    """
    folder = os.environ.get(AGENT)
    return run_id() is not None and not (folder and Path(folder, INTERRUPTED).exists())
