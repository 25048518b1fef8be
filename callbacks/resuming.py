"""What an interrupted training goes on from: a checkpoint of everything, at each epoch and every few minutes."""

import time
from pathlib import Path
from typing import Any, Protocol

from lightning import Callback, LightningModule, Trainer

ASK_EVERY = 20
"""Batches after which several processes ask the first whether it is time for a checkpoint."""


class Rows(Protocol):
    """A log that can be cut off where a checkpoint was made."""

    def __len__(self) -> int: ...

    def cut(self, rows: int) -> None:
        """Goes on from so many rows."""


class LastCheckpoint(Callback):
    """Saves the whole state of a training where it can go on from exactly: between two batches, or two epochs.

    What loggers hold back is written first, so that whoever goes on finds all that was logged before.

    Args:
        path: The checkpoint, which each new one replaces.
        minutes: From one checkpoint within an epoch to the next.
        metrics: The file that scores and losses are logged to.

    Attributes:
        seconds: How long it has been trained, over all interruptions.
    """

    def __init__(self, path: Path, minutes: float, metrics: Rows) -> None:
        self.path = path
        self.minutes = minutes
        self.seconds = 0.0
        self.metrics = metrics
        self._since = self._saved = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """The time so far."""
        return {"seconds": self.seconds + time.monotonic() - self._since, "rows": len(self.metrics)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from the time so far, and from the rows that were logged by then."""
        self.seconds = state_dict["seconds"]
        self.metrics.cut(state_dict["rows"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clocks."""
        self._since = self._saved = time.monotonic()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves between two epochs: by now the scores of the last one are logged."""
        if trainer.current_epoch and not trainer.fit_loop.epoch_loop.batch_progress.current.ready:
            self._save(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves where it is time to."""
        due = time.monotonic() - self._saved >= 60 * self.minutes
        if trainer.world_size > 1:
            if batch_idx % ASK_EVERY:  # all processes have to agree, which takes time
                return
            due = trainer.strategy.broadcast(due)
        if due and not trainer.is_last_batch:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock and saves."""
        self.seconds += time.monotonic() - self._since
        self._since = time.monotonic()
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path, weights_only=False)  # all of the state, and not the weights alone
        self._saved = time.monotonic()
