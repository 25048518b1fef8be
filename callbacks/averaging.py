"""Exponential average of the weights, which development and test see."""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class ExponentialAverage(WeightAveraging):
    """Averages the weights over the last ``1 / (1 - decay)`` steps or so; checkpoints hold the average as weights.

    Early in training the average is over as many steps as there were, not over the random start.

    Args:
        decay: Share of the average that each step keeps.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes the weights of an optimiser step into the average, all at once.

        Lightning's way would ask the device how many steps there were, and wait for its answer after each of them.
        """
        if trainer.global_step == self._latest_update_step:  # gradients are still accumulated
            return
        self._latest_update_step = trainer.global_step
        assert self._average_model is not None
        steps = trainer.global_step - 1  # that are in the average already
        keep = min(self.decay, (1 + steps) / (10 + steps)) if steps else 0.0
        average, now = _state(self._average_model.module), _state(pl_module)
        moving = [i for i, value in enumerate(now) if value.is_floating_point()]
        update = get_ema_multi_avg_fn(keep)  # type: ignore[no-untyped-call]
        update([average[i] for i in moving], [now[i] for i in moving], steps)
        for mean, value in zip(average, now, strict=True):
            if not value.is_floating_point():  # counters, such as those of batch normalisation
                mean.copy_(value)
        self._average_model.n_averaged += 1


def _state(module: nn.Module) -> list[torch.Tensor]:
    return [value.detach() for value in (*module.parameters(), *module.buffers())]
