"""Keeps off the terminal what libraries say in every run, whatever the run is like."""

import logging
import re
import warnings

ALWAYS_SAID = (
    r"(GPU|TPU) available: ",  # environment.json tells the machine
    r"Using .* Automatic Mixed Precision",  # config.yaml tells the precision
    r".*Tip: .*litlogger",
    r"`Trainer\.fit` stopped: `max_epochs=",
    r"Experiment logs directory .* exists and is not empty",  # config.yaml lies in it before metrics.csv does
    r"Checkpoint directory .* exists and is not empty",  # where a run goes on, it is to be so
    r"The `srun` command is available on your system but is not used",  # whoever computes at a login node means it
    r"You're resuming from a checkpoint that ended before the epoch ended",  # our loader goes on where it was
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own use of PyTorch
)
"""Patterns of whole messages, no level or library: what is new, or goes wrong, is still shown."""

_PATTERN = re.compile("|".join(ALWAYS_SAID))


def hush() -> None:
    """Drops those messages, logged or warned, from now on."""
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_is_news)
    for message in ALWAYS_SAID:
        warnings.filterwarnings("ignore", message)


def _is_news(record: logging.LogRecord) -> bool:
    return _PATTERN.match(record.getMessage()) is None
