"""What travels from the data loader to the model: one tensor of speech and its label columns."""

from dataclasses import dataclass, field

from torch import Tensor

LABELLED, SPEAKER, UNLABELLED = range(3)
"""The part of the batch a row fills: emotion corpora, speaker corpora, unlabelled speech."""

PARTS = ("labelled", "speaker", "unlabelled")


@dataclass
class Batch:
    """Utterances of any origin; a label that an utterance lacks is a missing value, never another type of batch.

    Attributes:
        waveform: Speech, (batch, samples), float32 in [-1, 1], zero after the end of each utterance.
        length: Samples of each utterance, (batch,), int64.
        row: Row in the data module's table of utterances, (batch,), int64; -1 marks a pad.
        part: ``LABELLED``, ``SPEAKER`` or ``UNLABELLED``, (batch,), int64; labelled rows come first.
        targets: ``emotion``, ``speaker``, ``gender``, ``corpus`` (batch,), int64, -1 where missing, indices into
            ``Labels``; ``dimensions`` (batch, 3), float32 in [0, 1], in the order of ``DIMENSIONS``, NaN where missing;
            with soft labels ``votes`` (batch, classes), float32, the raters' votes as shares, NaN where missing.
        faults: Files that could not be read while the batch was made, and why.
    """

    waveform: Tensor
    length: Tensor
    row: Tensor
    part: Tensor
    targets: dict[str, Tensor]
    faults: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.row)

    def pin_memory(self) -> "Batch":
        """Called by ``DataLoader(pin_memory=True)``."""
        fields = {name: value.pin_memory() for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Batch(**fields, targets={n: t.pin_memory() for n, t in self.targets.items()}, faults=self.faults)


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
