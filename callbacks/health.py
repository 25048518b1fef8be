"""Is the adversary alive? Its accuracy, and how far the codes are from the prior."""

from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from lightning_modules import processes
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
        self._moments: Tensor | None = None  # sums of codes and of their squares, (2, code)

    def state_dict(self) -> dict[str, Any]:
        """What each process has taken in of the epoch; called by all of them."""
        moments = None if self._moments is None else processes.stacked(self._moments)
        return {"accuracies": self._accuracies.state_dict(), "codes": self._codes, "moments": moments}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from there, each process from what it had."""
        self._accuracies.load_state_dict(state_dict["accuracies"])
        moments = state_dict["moments"]
        self._codes, self._moments = state_dict["codes"], None if moments is None else moments[processes.rank()]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes in the codes of a batch."""
        accuracies = {f"adversary/{name}_accuracy": outputs[f"{name}_accuracy"] for name in _adversaries(pl_module)}
        self._accuracies.add(accuracies, len(batch))
        if "prior" in _adversaries(pl_module):
            code = outputs["code"].double()
            self._codes += len(code)
            moments = torch.stack([code.sum(0), code.square().sum(0)])
            # What a checkpoint held may be on another device.
            self._moments = moments if self._moments is None else self._moments.to(code.device) + moments

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the mean accuracies, and the moments of the epoch's codes against the prior's."""
        self._accuracies.log(pl_module)
        if self._moments is not None:
            prior = cast(Adversary, _adversaries(pl_module)["prior"]).prior
            mean, squares = processes.total(self._moments) / (self._codes * processes.count())
            deviation = (squares - mean.square()).clamp(min=0).sqrt()
            prior_mean, prior_deviation = (moment.to(mean) for moment in prior.moments())
            distance = (mean - prior_mean).square().mean().sqrt()
            pl_module.log("adversary/mean_distance", distance.float(), sync_dist=True)
            pl_module.log("adversary/deviation_ratio", (deviation / prior_deviation).mean().float(), sync_dist=True)
        self._reset()


def _adversaries(pl_module: LightningModule) -> nn.ModuleDict:
    return cast(AdversarialAutoencoder, pl_module).adversaries
