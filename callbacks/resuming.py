"""What an interrupted training goes on from: a checkpoint of everything, at each epoch and every few minutes."""

import time
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning import Callback, LightningModule, Trainer

from callbacks.interruption import Interrupted, Interruption
from lightning_modules import processes

ASK_EVERY = 20
"""Batches after which several processes ask each other whether it is time for a checkpoint, or to stop."""


class Rows(Protocol):
    """A log that can be cut off where a checkpoint was made."""

    def __len__(self) -> int: ...

    def cut(self, rows: int) -> None:
        """Goes on from so many rows."""


class LastCheckpoint(Callback):
    """Saves the whole state of a training where it can go on from exactly: between two batches, or two epochs.

    What loggers hold back is written first, so that whoever goes on finds all that was logged before. Where a signal
    asked any of the processes to stop, all of them do so after a last checkpoint.

    Args:
        path: The checkpoint, which each new one replaces.
        minutes: From one checkpoint within an epoch to the next.
        metrics: The file that scores and losses are logged to.
        interruption: Knows of signals.

    Attributes:
        seconds: How long it has been trained, over all interruptions.
    """

    def __init__(self, path: Path, minutes: float, metrics: Rows, interruption: Interruption) -> None:
        self.path = path
        self.minutes = minutes
        self.seconds = 0.0
        self.metrics = metrics
        self.interruption = interruption
        self._since = self._saved = time.monotonic()
        self._began_at = 0

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
        self._began_at = trainer.global_step

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves between two epochs: by now the scores of the last one are logged."""
        # Where it goes on from between two epochs, that checkpoint is there, and Lightning is not where it was.
        if trainer.global_step > self._began_at:
            # What Lightning does a moment later: a checkpoint would say that the last epoch is not yet over.
            loop = trainer.fit_loop.epoch_loop
            for progress in (loop.batch_progress, loop.scheduler_progress, loop.automatic_optimization.optim_progress):
                progress.reset_on_run()
            self._save(trainer)
            self._stop_if_asked(trainer, self._agreed(trainer)[1])

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Has Lightning log with the right step, whatever it counted while it found where to go on."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves where it is time to, or to stop."""
        # After the last batch come the epoch's scores, and then a checkpoint anyway.
        if trainer.is_last_batch or (trainer.world_size > 1 and batch_idx % ASK_EVERY):
            return
        due, signum = self._agreed(trainer)
        if due or signum:
            self._save(trainer)
        self._stop_if_asked(trainer, signum)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock and saves."""
        self.seconds += time.monotonic() - self._since
        self._since = time.monotonic()
        self._save(trainer)

    def _agreed(self, trainer: Trainer) -> tuple[bool, int]:
        """Whether a checkpoint is due in any of the processes, and the signal that asks one to stop, 0 for none."""
        due = time.monotonic() - self._saved >= 60 * self.minutes
        if trainer.world_size == 1:  # no tensor, for which a GPU would be waited
            return due, self.interruption.signum
        here = torch.tensor([due, self.interruption.signum], device=trainer.strategy.root_device)
        due, signum = processes.stacked(here).amax(0).tolist()
        return bool(due), signum

    def _stop_if_asked(self, trainer: Trainer, signum: int) -> None:
        if not signum:
            return
        run = self.path.parents[1]
        text = f"Stopped in epoch {trainer.current_epoch}, and saved: `make resume RUN={run}` goes on."
        raise Interrupted(signum, text, spoken_for=not trainer.is_global_zero)

    def _save(self, trainer: Trainer) -> None:
        for logger in trainer.loggers:
            logger.save()
        trainer.save_checkpoint(self.path, weights_only=False)  # all of the state, and not the weights alone
        self._saved = time.monotonic()
