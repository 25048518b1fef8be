"""From a drawn position to speech in memory: reads, crops, resamples, and stacks."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.audio import torchaudio
from datamodules.batch import Batch
from datamodules.collection import Collection
from datamodules.sampler import Draw

_log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]

SILENCE = 1e-5
"""Speech with no sample above this (-100 dB) is as good as none."""


@dataclass
class Pool:
    """Utterances that fill one part of the batch, and their labels as indices.

    Attributes:
        rows: Rows of the collection, (utterances,).
        part: ``LABELLED``, ``SPEAKER`` or ``UNLABELLED``.
        targets: Labels that the utterances have, by name, each (utterances, ...); what is absent is missing.
    """

    rows: Integers
    part: int
    targets: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass
class Item:
    """An utterance on its way into a batch; ``row`` is -1 for a pad."""

    waveform: Floats
    row: int
    part: int
    targets: dict[str, NDArray[Any]]
    fault: str | None = None


class BadAudioError(Exception):
    """A file cannot be read or holds no speech."""


def read_speech(path: Path, start: float, duration: float, sample_rate: int) -> Floats:
    """Reads a span of a file, averaged over channels and resampled.

    Args:
        path: Any format that libsndfile reads.
        start: In seconds.
        duration: In seconds.
        sample_rate: Wanted rate in Hz.

    Returns:
        (samples,), float32.

    Raises:
        BadAudioError: The file cannot be read, or the span is empty, silent or not finite.
    """
    try:
        with soundfile.SoundFile(path) as file:
            native = file.samplerate
            file.seek(min(round(start * native), file.frames))
            speech: Floats = file.read(round(duration * native), dtype="float32", always_2d=True).mean(axis=1)
    except (OSError, RuntimeError) as error:
        raise BadAudioError(f"{path}: {error}") from error
    if native != sample_rate:
        speech = torchaudio.functional.resample(torch.from_numpy(speech), native, sample_rate).numpy()
    if not np.isfinite(speech).all():
        raise BadAudioError(f"{path}: not finite from {start:.2f} s on")
    if len(speech) == 0 or np.abs(speech).max() < SILENCE:
        raise BadAudioError(f"{path}: silence from {start:.2f} s on")
    return speech


class SpeechDataset(Dataset[Item]):
    """Utterances of all pools.

    Indexed by a ``Draw`` it returns a random crop; by an integer, the whole utterance of its only pool (-1 a pad).
    A file that turns out unreadable is replaced by the next of its pool and reported in the item; where the next ones
    are no better, the item is a pad.

    Args:
        collection: All corpora.
        pools: Utterances to draw from.
        sample_rate: In Hz.
        crop_s: Length of training crops in seconds.
    """

    RETRIES = 10

    def __init__(self, collection: Collection, pools: Sequence[Pool], sample_rate: int, crop_s: float) -> None:
        self.collection = collection
        self.pools = pools
        self.sample_rate = sample_rate
        self.crop_s = crop_s
        every = {name: values for pool in pools for name, values in pool.targets.items()}
        self.missing = {name: _missing(values) for name, values in every.items()}

    def __len__(self) -> int:
        return sum(len(pool) for pool in self.pools)

    def __getitem__(self, index: Draw | int) -> Item:
        if isinstance(index, Draw):
            return self._draw(index)
        return self._whole(index)

    def _draw(self, draw: Draw) -> Item:
        pool = self.pools[draw.pool]
        fault = None
        for attempt in range(self.RETRIES):
            position = (draw.position + attempt) % len(pool)
            try:
                waveform = self._read(pool, position, np.random.default_rng(draw.seed))
            except BadAudioError as error:
                fault = fault or str(error)
                continue
            return self._item(pool, position, waveform, fault)
        return self._pad(pool, fault)

    def _whole(self, position: int) -> Item:
        pool = self.pools[0]
        if position < 0:
            return self._pad(pool, None)
        try:
            return self._item(pool, position, self._read(pool, position, None), None)
        except BadAudioError as error:
            return self._pad(pool, str(error))

    def _pad(self, pool: Pool, fault: str | None) -> Item:
        return Item(np.zeros(self.sample_rate // 10, dtype=np.float32), -1, pool.part, self.missing, fault)

    def _read(self, pool: Pool, position: int, crop: np.random.Generator | None) -> Floats:
        row = self.collection.row(int(pool.rows[position]))
        start, duration = row["speech_start"], row["speech_end"] - row["speech_start"]
        if crop is not None and duration > self.crop_s:
            start += crop.uniform(0, duration - self.crop_s)
            duration = self.crop_s
        return read_speech(row["file"], start, duration, self.sample_rate)

    def _item(self, pool: Pool, position: int, waveform: Floats, fault: str | None) -> Item:
        targets = {
            name: pool.targets[name][position] if name in pool.targets else none for name, none in self.missing.items()
        }
        return Item(waveform, int(pool.rows[position]), pool.part, targets, fault)


def _missing(values: NDArray[Any]) -> NDArray[Any]:
    """What a label (utterances, ...) is where it is missing."""
    return np.full(values.shape[1:], np.nan if values.dtype.kind == "f" else -1, dtype=values.dtype)


class Collate:
    """Stacks items, zero padded.

    Args:
        samples: Width of the batch; none means as wide as its longest utterance.
    """

    def __init__(self, samples: int | None = None) -> None:
        self.samples = samples

    def __call__(self, items: list[Item]) -> Batch:
        """Items to a batch."""
        length = torch.tensor([len(item.waveform) for item in items])
        width = self.samples or int(length.max())
        length = length.clamp(max=width)
        waveform = torch.zeros(len(items), width)
        for into, item in zip(waveform, items, strict=True):
            speech = torch.from_numpy(item.waveform)[:width]
            into[: len(speech)] = speech
        return Batch(
            waveform=waveform,
            length=length,
            row=torch.tensor([item.row for item in items]),
            part=torch.tensor([item.part for item in items]),
            targets={name: self._stack([item.targets[name] for item in items]) for name in items[0].targets},
            faults=[item.fault for item in items if item.fault],
        )

    @staticmethod
    def _stack(values: list[NDArray[Any]]) -> Tensor:
        stacked = np.stack(values)
        return torch.from_numpy(stacked.astype(np.float32 if stacked.dtype.kind == "f" else np.int64))
