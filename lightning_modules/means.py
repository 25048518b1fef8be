"""Means over an epoch."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor

from lightning_modules import processes


class EpochMeans:
    """Means over an epoch, weighted by the size of the batches; they stay on their device and wait for nothing.

    ``log(on_epoch=True)`` gives the same, but goes through all that is logged with each value: half a millisecond for
    each, in every step.
    """

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self._names: tuple[str, ...] = ()
        self._sums: Tensor | None = None
        self._weight = 0

    def add(self, values: Mapping[str, Tensor], batch_size: int) -> None:
        """Takes in the values of a step: scalars, by names that are the same in all steps."""
        if not values:
            return
        weighted = torch.stack([value.detach().float() for value in values.values()]) * batch_size
        self._names = tuple(values)
        # What a checkpoint held may be on another device.
        self._sums = weighted if self._sums is None else self._sums.to(weighted.device) + weighted
        self._weight += batch_size

    def state_dict(self) -> dict[str, Any]:
        """What each process has taken in; to be called by all of them."""
        sums = None if self._sums is None else processes.stacked(self._sums)
        return {"names": list(self._names), "sums": sums, "weight": self._weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from there, each process from what it had."""
        self._names, self._weight = tuple(state["names"]), state["weight"]
        self._sums = None if state["sums"] is None else state["sums"][processes.rank()]

    def log(self, module: LightningModule) -> None:
        """Logs the means over all steps and processes, and begins anew; to be called at the end of the epoch."""
        if self._sums is not None:
            for name, mean in zip(self._names, (self._sums / self._weight).unbind(), strict=True):
                module.log(name, mean, batch_size=self._weight, sync_dist=True)
        self._reset()
