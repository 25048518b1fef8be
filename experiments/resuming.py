"""Finds the run that an interrupted command left."""

from contextlib import suppress
from pathlib import Path

from datamodules.errors import InputError
from experiments.config import Config, differing, load_run

_OF_THE_MACHINE = ("run", "output", "data.workers", "data.cache", "trainer.threads", "trainer.precision")
"""Settings that may differ when a run goes on; what there was before, holds."""


def unfinished(config: Config) -> Path | None:
    """The newest run of a configuration that has not ended; none where there is none.

    Raises:
        InputError: A run of the wanted name is there, and is of another configuration.
    """
    base = Path(config.output, config.experiment)
    if config.run:
        folder = base / config.run
        if (folder / "config.yaml").exists():
            if others := _differing(config, load_run(folder)):
                raise InputError(
                    f"{folder} is a run with other settings: {', '.join(others)}",
                    "Give the settings that it was begun with, or another run=<name>.",
                )
            return folder
        return None
    found = [path.parent for path in base.glob("*/config.yaml") if not (path.parent / "results.json").exists()]
    for folder in sorted(found, key=lambda one: one.stat().st_mtime, reverse=True):
        with suppress(InputError):  # of a version with other settings
            if not _differing(config, load_run(folder)):
                return folder
    return None


def _differing(wanted: Config, there: Config) -> list[str]:
    return [key for key in differing(wanted, there) if key not in _OF_THE_MACHINE]
