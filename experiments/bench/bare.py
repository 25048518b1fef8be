"""A bare PyTorch loop, measured in turn with the epochs of a real training."""

import time
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from datamodules.batch import Batch
from experiments.config import Config
from experiments.run import make_module
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder

KEPT = 16
"""Batches that the bare loop goes through again and again."""


class BesideABareLoop(pl.Callback):
    """Times the steps of each epoch, and after each epoch as many steps of a bare loop; the first epoch warms up.

    Args:
        config: Of the run, to make the same model again.

    Attributes:
        ours: Utterances a second of each epoch of the trainer: reading, loop, callbacks and loggers, but neither
            development data nor checkpoints.
        bare: The same of the bare loop.
        device: What both computed on.
        workers: Processes that read for the trainer.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.ours: list[float] = []
        self.bare: list[float] = []
        self._batches: list[Batch] = []
        self._utterances = 0
        self._started = 0.0
        self._seconds = 0.0
        self._loop: _BareLoop | None = None
        self.device = torch.device("cpu")
        self.workers = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Starts the clock, before the first batch is there."""
        self._utterances, self._started = 0, _now(pl_module.device)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Keeps the first batches for the bare loop."""
        if len(self._batches) < KEPT:
            self._batches.append(batch)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops the clock after the last batch, before the development data."""
        self._utterances += len(batch)
        if batch_idx + 1 == trainer.num_training_batches:
            self._seconds = _now(pl_module.device) - self._started

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Runs the bare loop for as many steps."""
        if self._loop is None:
            self.device = pl_module.device
            self.workers = cast(DataLoader[Any], trainer.train_dataloader).num_workers
            self._loop = _BareLoop(self.config, trainer, self.device)
        bare = self._loop.run(self._batches, int(trainer.num_training_batches))
        if trainer.current_epoch > 0:
            self.ours.append(self._utterances / self._seconds)
            self.bare.append(bare)


class _BareLoop:
    """The model, its losses and its optimiser, and nothing else."""

    def __init__(self, config: Config, trainer: pl.Trainer, device: torch.device) -> None:
        self.module: AdversarialAutoencoder = make_module(config, trainer.datamodule).to(device).train()  # type: ignore[attr-defined]
        if config.trainer.compile:
            self.module.compile_for_training()
        self.optimiser = self.module.configure_optimizers()["optimizer"]
        self.precision = trainer.precision_plugin

    def run(self, batches: list[Batch], steps: int) -> float:
        """Utterances a second of so many steps."""
        device = self.module.device
        utterances, started = 0, _now(device)
        for step in range(steps):
            batch = batches[step % len(batches)]
            self.optimiser.zero_grad()
            with self.precision.forward_context():
                loss = self.module.training_step(batch, step)["loss"]
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimiser.step()
            utterances += len(batch)
        return utterances / (_now(device) - started)


def _now(device: torch.device) -> float:
    """Seconds; what was begun on a GPU is done by then."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
