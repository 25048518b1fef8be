"""Random numbers of a training step, the same however many processes share the batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from lightning_modules import processes


@dataclass(frozen=True)
class Draws:
    """Draws for the utterances that this process has of a batch.

    All processes draw for the whole batch, in the same order and from generators with the same seed, and each keeps
    what is its own utterances'. Without arguments, the whole batch is here.

    Attributes:
        processes: That share the batch evenly, part by part.
        places: Of the utterances in the whole batch; empty where all of it is here.
        index: The same as a tensor on the device of the batch.
    """

    processes: int = 1
    places: tuple[int, ...] = ()
    index: Tensor | None = None

    def __getitem__(self, of: slice) -> "Draws":
        """Draws for some parts of the batch, which are those parts of the whole batch, too."""
        if self.index is None:
            return self
        start, stop, _ = of.indices(len(self.places))
        before = start * self.processes
        return Draws(
            self.processes, tuple(place - before for place in self.places[start:stop]), self.index[start:stop] - before
        )

    def rows(self, utterances: int) -> int:
        """How many to draw for: of so many utterances here, the number in all processes."""
        return utterances * self.processes

    def mine(self, drawn: Tensor) -> Tensor:
        """Of what was drawn for all utterances, (rows, …), what is for those here, (utterances, …)."""
        return drawn if self.index is None else drawn[self.index]

    def normal_like(self, x: Tensor) -> Tensor:
        """Standard normal numbers of the shape, type and device of ``x`` (utterances, …)."""
        return self.mine(torch.randn(self.rows(len(x)), *x.shape[1:], dtype=x.dtype, device=x.device))

    def here(self, chosen: Sequence[int]) -> tuple[list[int], list[int]]:
        """Of utterances that were chosen by their places, those here.

        Returns:
            Which of the chosen they are, and which of the utterances here.
        """
        if self.index is None:
            return list(range(len(chosen))), list(chosen)
        found = {place: number for number, place in enumerate(self.places)}
        which = [number for number, place in enumerate(chosen) if place in found]
        return which, [found[chosen[number]] for number in which]

    def whole(self, x: Tensor) -> Tensor:
        """The rows of all processes, (rows, …), in the order of their places; without gradient."""
        if self.index is None:
            return x
        everything = x.new_zeros(self.rows(len(x)), *x.shape[1:])
        everything[self.index] = x.detach()
        distributed.all_reduce(everything)  # a row is zero in all processes but one
        return everything


ALONE = Draws()
"""The whole batch is here."""


def shared(places: tuple[int, ...], device: torch.device) -> Draws:
    """Draws for the utterances of a batch that processes share.

    Args:
        places: Of its utterances in the whole batch.
        device: Where the batch is.
    """
    if processes.count() == 1:
        return ALONE
    return Draws(processes.count(), places, torch.tensor(places, device=device))


class Dropout(nn.Module):
    """Drops features of utterances; on one process and on a CPU just what ``torch.nn.Dropout`` drops.

    Args:
        share: Probability that a feature is dropped.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor, draws: Draws = ALONE) -> Tensor:
        """(utterances, …) to the same."""
        if not self.training or self.share == 0:
            return x
        if self.share == 1:
            return F.dropout(x, 1)
        kept = x.new_empty(draws.rows(len(x)), *x.shape[1:]).bernoulli_(1 - self.share)
        return x * draws.mine(kept.div_(1 - self.share))
