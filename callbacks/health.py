"""Is the adversary alive? Its accuracy, and how far the codes are from the prior."""

from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.discriminator import Adversary
from lightning_modules.means import EpochMeans


class AdversaryHealth(Callback):
    """Logs, for each epoch, what tells a working adversary from a dead one.

    - ``adversary/prior_accuracy`` (and ``adversary/categorical_accuracy``): near 0.5 the discriminator cannot tell
      codes from samples; near 1 it has won and its gradient says little.
    - ``adversary/mean_distance``: root mean square, over the coordinates, of the difference between the means of the
      codes and of the prior.
    - ``adversary/deviation_ratio``: mean ratio of the codes' deviations to the prior's; near 0 the code has collapsed.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._accuracies = EpochMeans()
        self._codes = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def state_dict(self) -> dict[str, Any]:
        """What has been taken in of the epoch."""
        moments = {"codes": self._codes, "sum": self._sum, "squares": self._squares}
        return {"accuracies": self._accuracies.state_dict(), **moments}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there."""
        self._accuracies.load_state_dict(state_dict["accuracies"])
        self._codes, self._sum, self._squares = (state_dict[name] for name in ("codes", "sum", "squares"))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes in the codes of a batch."""
        accuracies = {f"adversary/{name}_accuracy": outputs[f"{name}_accuracy"] for name in _adversaries(pl_module)}
        self._accuracies.add(accuracies, len(batch))
        if "prior" in _adversaries(pl_module):
            code = outputs["code"].double()
            self._codes += len(code)
            # What a checkpoint held may be on another device.
            self._sum = torch.as_tensor(self._sum, device=code.device) + code.sum(0)
            self._squares = torch.as_tensor(self._squares, device=code.device) + code.square().sum(0)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the mean accuracies, and the moments of the epoch's codes against the prior's."""
        self._accuracies.log(pl_module)
        if self._codes:
            prior = cast(Adversary, _adversaries(pl_module)["prior"]).prior
            mean = torch.as_tensor(self._sum / self._codes)
            deviation = (torch.as_tensor(self._squares / self._codes) - mean.square()).clamp(min=0).sqrt()
            prior_mean, prior_deviation = (moment.to(mean) for moment in prior.moments())
            distance = (mean - prior_mean).square().mean().sqrt()
            pl_module.log("adversary/mean_distance", distance.float(), sync_dist=True)
            pl_module.log("adversary/deviation_ratio", (deviation / prior_deviation).mean().float(), sync_dist=True)
        self._reset()


def _adversaries(pl_module: LightningModule) -> nn.ModuleDict:
    return cast(AdversarialAutoencoder, pl_module).adversaries
