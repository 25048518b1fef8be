"""Processes that rows start, and what they weigh."""

import os
from pathlib import Path

PROC = Path("/proc")


def offline() -> dict[str, str]:
    """The environment of a training that leaves nothing in the user's W&B account and waits for no network."""
    return {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}


def proportional_memory_mb(processes: list[int]) -> float:
    """Proportional set size of processes in MB: each page they share counts once in all.

    Raises:
        OSError: A process has ended, or the system does not tell (it is no Linux).
    """
    total = 0
    for process in processes:
        rollup = PROC.joinpath(str(process), "smaps_rollup").read_text(encoding="ascii")
        total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total * 1024 / 1e6
