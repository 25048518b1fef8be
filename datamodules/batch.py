"""What travels from the data loader to the model: one tensor of speech and its label columns."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import torch
from torch import Tensor

LABELLED, SPEAKER, UNLABELLED = range(3)
"""The part of the batch a row fills: emotion corpora, speaker corpora, unlabelled speech."""

CARRIERS = {"emotion": LABELLED, "votes": LABELLED, "dimensions": LABELLED, "speaker": SPEAKER, "gender": SPEAKER}
"""The last part whose utterances may carry a label; all parts may carry one that is not named here."""

PARTS = ("labelled", "speaker", "unlabelled")


@dataclass
class Batch:
    """Utterances of any origin; a label that an utterance lacks is a missing value, never another type of batch.

    Attributes:
        waveform: Speech, (batch, samples), float32 in [-1, 1], zero after the end of each utterance.
        length: Samples of each utterance, (batch,), int64.
        row: Row in the data module's table of utterances, (batch,), int64; -1 marks a pad.
        sizes: Number of labelled utterances, of those of speaker corpora, and of unlabelled ones, which follow one
            another in this order. They are known without asking a GPU.
        targets: ``emotion``, ``speaker``, ``gender``, ``corpus`` (batch,), int64, -1 where missing, indices into
            ``Labels``; ``dimensions`` (batch, 3), float32 in [0, 1], in the order of ``DIMENSIONS``, NaN where missing;
            with soft labels ``votes`` (batch, classes), float32, the raters' votes as shares, NaN where missing.
        faults: Files that could not be read while the batch was made, and why.
        places: Of a training batch, the places of its utterances in the batch that all processes share, (batch,).
    """

    waveform: Tensor
    length: Tensor
    row: Tensor
    sizes: tuple[int, int, int]
    targets: dict[str, Tensor]
    faults: list[str] = field(default_factory=list)
    places: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.row)

    def carrying(self, target: str) -> slice:
        """The utterances that may carry a label: in the others it is missing."""
        return slice(sum(self.sizes[: CARRIERS.get(target, UNLABELLED) + 1]))

    def pin_memory(self) -> "Batch":
        """Called by ``DataLoader(pin_memory=True)``."""
        return replace(
            self,
            waveform=self.waveform.pin_memory(),
            length=self.length.pin_memory(),
            row=self.row.pin_memory(),
            targets={name: target.pin_memory() for name, target in self.targets.items()},
        )


def _on_its_way(batch: Batch) -> tuple[Any, ...]:
    rest = {one.name: getattr(batch, one.name) for one in fields(batch)}
    waveform, targets = rest.pop("waveform"), rest.pop("targets")
    return _arrived, (waveform, _map(Tensor.numpy, Tensor, targets), _map(Tensor.numpy, Tensor, rest))


def _arrived(waveform: Tensor, targets: dict[str, Any], rest: dict[str, Any]) -> Batch:
    targets, rest = (_map(torch.from_numpy, np.ndarray, one) for one in (targets, rest))
    return Batch(waveform=waveform, targets=targets, **rest)


def _map(change: Callable[[Any], Any], kind: type, values: dict[str, Any]) -> dict[str, Any]:
    return {name: change(value) if isinstance(value, kind) else value for name, value in values.items()}


# From worker to main process each tensor takes a shared file of its own, which is dearer than a few numbers are.
ForkingPickler.register(Batch, _on_its_way)


@dataclass(frozen=True)
class Labels:
    """What the training data can teach: the sizes of the heads and the frequencies of the classes.

    Attributes:
        emotions: Names of the classes, in the order of their indices.
        emotion_counts: Training utterances of each class, in the same order.
        speakers: Number of speakers in the training data, auxiliary corpora included.
        corpora: Names of the corpora, in the order of their indices.
        soft: Whether batches hold ``votes``, and emotion is to be learnt from them.
    """

    emotions: tuple[str, ...]
    emotion_counts: tuple[int, ...]
    speakers: int
    corpora: tuple[str, ...]
    soft: bool = False
