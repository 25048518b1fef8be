"""Progress of the training: a bar in a terminal, one line an epoch elsewhere."""

import math
import time
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console
from torch import Tensor


class Progress(RichProgressBar):
    """Show the epoch, the speed, the training loss, and the current and the best development score.

    Where the output is no terminal (a file, a log of SLURM), a bar would be noise: there it prints one line an epoch
    with the loss, the scores and the seconds.

    Args:
        monitor: The logged development score by which the best epoch is chosen; higher is better.
        terminal: Whether there is a terminal to draw a bar in; found out if it is left out.
    """

    def __init__(self, monitor: str, terminal: bool | None = None) -> None:
        super().__init__(refresh_rate=5)
        self.monitor = monitor
        self.terminal = Console().is_terminal if terminal is None else terminal
        self._score: float | None = None
        self._best: float | None = None
        self._best_epoch = 0
        self._loss: Tensor | None = None
        self._batches = 0
        self._started = 0.0
        self._shown = -math.inf

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Draw no bar where there is no terminal."""
        super().setup(trainer, pl_module, stage)
        if not self.terminal:
            self.disable()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock: an epoch that is gone on with does not start anew."""
        super().on_train_start(trainer, pl_module)
        self._started = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the mean of the loss anew."""
        super().on_train_epoch_start(trainer, pl_module)
        self._loss, self._batches, self._started = None, 0, time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the batch into the mean of the loss, which stays on its device."""
        loss = torch.as_tensor(outputs["loss"]).detach()
        self._loss = loss if self._loss is None else self._loss + loss
        self._batches += 1
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note the development score."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking and self.monitor in trainer.callback_metrics:
            self._score = trainer.callback_metrics[self.monitor].item()
            if self._best is None or self._score > self._best:
                self._best, self._best_epoch = self._score, trainer.current_epoch
        self._shown = -math.inf
        super().on_validation_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Print the line of the epoch where there is no terminal."""
        self._shown = -math.inf
        super().on_train_epoch_end(trainer, pl_module)
        if not self.terminal and trainer.is_global_zero:
            shown = ", ".join(f"{name} {value}" for name, value in self.get_metrics(trainer, pl_module).items())
            seconds = time.monotonic() - self._started
            print(
                f"{self._get_train_description(trainer.current_epoch).rstrip()}: {shown}, {seconds:.1f} s", flush=True
            )

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return what is shown beside the bar, by name."""
        shown = {}
        if self._loss is not None:
            shown["loss"] = f"{self._loss.item() / self._batches:.3f}"
        if self._score is not None:
            shown[self.monitor] = f"{self._score:.3f}"
        if self._best is not None:
            shown["best"] = f"{self._best:.3f} (epoch {self._best_epoch})"
        return shown

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, which a resumed training goes on with."""
        return {"best": self._best, "best_epoch": self._best_epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the best score of the training that is resumed."""
        self._best, self._best_epoch = state_dict["best"], state_dict["best_epoch"]

    def _update_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Reading the loss waits for the device: twice a second is enough for the eye.
        if time.monotonic() - self._shown >= 0.5:
            self._shown = time.monotonic()
            super()._update_metrics(trainer, pl_module)
