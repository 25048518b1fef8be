"""Exponential average of the weights, which development and test see."""

from typing import Any, cast

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder


class ExponentialAverage(WeightAveraging):
    """Averages the weights over the last ``1 / (1 - decay)`` steps or so; checkpoints hold the average as weights.

    Early in training the average is over as many steps as there were, not over the random start.

    Args:
        decay: Share of the average that each step keeps.
    """

    def __init__(self, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self._forget()

    def _forget(self) -> None:
        # Pairs of tensors, of the average and of the model; collected once, since to walk through modules takes longer
        # than to average.
        self._moving: tuple[list[Tensor], list[Tensor]] | None = None
        self._counters: list[tuple[Tensor, Tensor]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collects what is averaged; by now it is on its device."""
        super().on_train_start(trainer, pl_module)
        assert self._average_model is not None
        pairs = list(zip(_state(self._average_model.module), _state(pl_module), strict=True))
        moving = [pair for pair in pairs if pair[1].is_floating_point()]
        self._moving = [mean for mean, _ in moving], [value for _, value in moving]
        # Such as those of batch normalisation.
        self._counters = [pair for pair in pairs if not pair[1].is_floating_point()]
        module = cast(AdversarialAutoencoder, pl_module)
        if module.settings.consistency.weight > 0 and not module.taught:
            module.learn_from(cast(AdversarialAutoencoder, self._average_model.module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Gives the model the average."""
        super().on_train_end(trainer, pl_module)
        self._forget()

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
        assert self._moving is not None
        steps = trainer.global_step - 1  # that are in the average already
        keep = min(self.decay, (1 + steps) / (10 + steps)) if steps else 0.0
        average, now = self._moving
        update = get_ema_multi_avg_fn(keep)  # type: ignore[no-untyped-call]
        update(average, now, steps)
        for mean, value in self._counters:
            mean.copy_(value)
        self._average_model.n_averaged += 1


def _state(module: nn.Module) -> list[Tensor]:
    return [value.detach() for value in (*module.parameters(), *module.buffers())]
