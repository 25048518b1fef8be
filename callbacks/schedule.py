"""The adversarial schedule: how hard the adversaries push, as a function of the step alone."""

import math
from typing import Any, cast

from lightning import Callback, LightningModule, Trainer
from torch.optim import Optimizer

from callbacks.settings import ScheduleSettings
from datamodules.errors import InputError
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder


def prior_strength(progress: float, settings: ScheduleSettings) -> float:
    """Factor on the encoder's adversarial loss, 0 to 1, at ``progress`` (0 to 1) of the training."""
    if progress < settings.warm_up:
        return 0.0
    return min(1.0, (progress - settings.warm_up) / settings.ramp) if settings.ramp > 0 else 1.0


def reversal_strength(progress: float, settings: ScheduleSettings) -> float:
    """Factor on reversed gradients: ``reversal (2 / (1 + exp(-10 progress)) - 1)`` (Ganin and Lempitsky, ICML 2015)."""
    return settings.reversal * (2 / (1 + math.exp(-10 * progress)) - 1)


def input_noise(progress: float, settings: ScheduleSettings) -> float:
    """Deviation of the noise that the discriminators see, falling linearly."""
    left = 1 - progress / settings.noise_decay if settings.noise_decay > 0 else 0.0
    return settings.noise * max(0.0, left)


def consistency_strength(progress: float, settings: ScheduleSettings) -> float:
    """Factor on the agreement with a teacher, who knows little at first: rising linearly to 1."""
    return min(1.0, progress / settings.consistency) if settings.consistency > 0 else 1.0


class AdversarialSchedule(Callback):
    """Sets the module's ``strengths`` before each step, and holds the discriminators still between their turns.

    Nothing is kept from step to step, so a resumed training goes on as it would have.

    Args:
        settings: See ``ScheduleSettings``.
        total_steps: Optimiser steps of the whole training.

    Raises:
        InputError: The discriminators would never have their turn.
    """

    def __init__(self, settings: ScheduleSettings, total_steps: int) -> None:
        if settings.cadence < 1:
            raise InputError(f"schedule.cadence is {settings.cadence}", "Choose 1 (every step) or more.")
        self.settings = settings
        self.total_steps = total_steps

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Sets the strengths of the coming step."""
        progress = min(1.0, trainer.global_step / self.total_steps)
        strengths = cast(AdversarialAutoencoder, pl_module).strengths
        strengths.prior = prior_strength(progress, self.settings)
        strengths.reversal = reversal_strength(progress, self.settings)
        strengths.consistency = consistency_strength(progress, self.settings)
        strengths.noise = input_noise(progress, self.settings)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Leaves the discriminators without a gradient when it is not their turn: the optimiser passes them over."""
        if trainer.global_step % self.settings.cadence:
            for weight in cast(AdversarialAutoencoder, pl_module).adversaries.parameters():
                weight.grad = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the strengths."""
        for name, value in vars(cast(AdversarialAutoencoder, pl_module).strengths).items():
            pl_module.log(f"schedule/{name}", value, sync_dist=True)
