"""From drawn positions to a batch in memory: what is drawn is looked up together, read one by one, and stacked."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import LABELLED, SPEAKER, UNLABELLED, Batch
from datamodules.collection import Collection, Span
from datamodules.pool import Pool
from datamodules.sampler import Draw
from datamodules.speech import BadAudioError, Floats, Source


@dataclass(slots=True)
class Item:
    """An utterance on its way into a batch; ``row`` is -1 for a pad."""

    waveform: Floats
    row: int
    part: int
    targets: dict[str, NDArray[Any]]
    fault: str | None = None
    place: int = 0


class SpeechDataset(Dataset[Item]):
    """Utterances of all pools.

    For ``Draw``s it returns random crops; for integers, whole utterances of its only pool (-1 a pad). A file that turns
    out unreadable is replaced by the next of its pool and reported in the item; where the next ones are no better, the
    item is a pad.

    Args:
        collection: All corpora.
        sources: The speech of each corpus, in the collection's order.
        pools: Utterances to draw from.
        sample_rate: In Hz.
        crop_s: Length of training crops in seconds.
    """

    RETRIES = 10

    def __init__(
        self,
        collection: Collection,
        sources: Sequence[Source],
        pools: Sequence[Pool],
        sample_rate: int,
        crop_s: float,
    ) -> None:
        self.collection = collection
        self.sources = sources
        self.pools = pools
        self.sample_rate = sample_rate
        self.crop_s = crop_s
        self.missing = {name: none for pool in pools for name, none in pool.missing.items()}

    def __len__(self) -> int:
        return sum(len(pool) for pool in self.pools)

    def __getitem__(self, index: Draw | int) -> Item:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[Draw | int]) -> list[Item]:
        """All items of a batch, which ``DataLoader`` asks for at once."""
        draws = [index if isinstance(index, Draw) else Draw(0, index, 0.0) for index in indices]
        cropped = [isinstance(index, Draw) for index in indices]
        items: list[Item] = []
        for number, same in groupby(draws, lambda draw: draw.pool):
            some = list(same)
            items += self._of_pool(self.pools[number], some, cropped[len(items) : len(items) + len(some)])
        for item, draw in zip(items, draws, strict=True):
            item.place = draw.place
        return items

    def _of_pool(self, pool: Pool, draws: list[Draw], cropped: list[bool]) -> list[Item]:
        there = [draw.position for draw in draws if draw.position >= 0]
        known = iter(self._known(pool, np.array(there, np.int64)))
        items = []
        for draw, crop in zip(draws, cropped, strict=True):
            if draw.position < 0:
                items.append(self._pad(pool, None))
                continue
            item = next(known)
            items.append(self._read(pool, draw, *item) if crop else self._whole(pool, *item))
        return items

    def _known(self, pool: Pool, positions: NDArray[np.int64]) -> list[tuple[Item, Span]]:
        """Items without speech, and where their speech is."""
        if not len(positions):
            return []
        rows, labels = pool.rows(positions), pool.labels(positions)
        columns = [(name, labels.get(name), none) for name, none in self.missing.items()]
        spans = self.collection.spans(rows)
        return [
            (
                Item(
                    _NOTHING,
                    row,
                    pool.part,
                    {name: none if values is None else values[place] for name, values, none in columns},
                ),
                span,
            )
            for place, (row, span) in enumerate(zip(rows.tolist(), spans, strict=True))
        ]

    def _read(self, pool: Pool, draw: Draw, item: Item, span: Span) -> Item:
        """Reads a crop, or one of the next utterances."""
        fault = None
        for attempt in range(1, self.RETRIES + 1):
            try:
                spare = max(0.0, span.end - span.start - self.crop_s)
                item.waveform = self._samples(span, draw.crop * spare, span.end - span.start - spare)
            except BadAudioError as error:
                fault = fault or str(error)
                position = (draw.position + attempt) % len(pool)
                [(item, span)] = self._known(pool, np.array([position]))
            else:
                item.fault = fault
                return item
        return self._pad(pool, fault)

    def _whole(self, pool: Pool, item: Item, span: Span) -> Item:
        try:
            item.waveform = self._samples(span, 0.0, span.end - span.start)
        except BadAudioError as error:
            return self._pad(pool, str(error))
        return item

    def _samples(self, span: Span, skip: float, duration: float) -> Floats:
        return self.sources[span.corpus].read(span, skip, duration)

    def _pad(self, pool: Pool, fault: str | None) -> Item:
        return Item(np.zeros(self.sample_rate // 10, dtype=np.float32), -1, pool.part, self.missing, fault)


_NOTHING = np.empty(0, np.float32)


class Collate:
    """Stacks items, which come part by part, zero padded.

    Args:
        samples: Width of the batch; none means as wide as its longest utterance.
    """

    def __init__(self, samples: int | None = None) -> None:
        self.samples = samples

    def __call__(self, items: list[Item], into: Tensor | None = None) -> Batch:
        """Items to a batch, whose speech goes ``into`` memory of (items, samples) if there is some for it."""
        lengths = [len(item.waveform) for item in items]
        width = self.samples or max(lengths)
        lengths = [min(length, width) for length in lengths]
        parts = [item.part for item in items]
        waveform = torch.empty(len(items), width) if into is None else into
        for row, length, item in zip(waveform.numpy(), lengths, items, strict=True):
            row[:length] = item.waveform[:length]
            row[length:] = 0
        return Batch(
            waveform=waveform,
            length=torch.tensor(lengths),
            row=torch.tensor([item.row for item in items]),
            sizes=(parts.count(LABELLED), parts.count(SPEAKER), parts.count(UNLABELLED)),
            targets={name: self._stack([item.targets[name] for item in items]) for name in items[0].targets},
            faults=[item.fault for item in items if item.fault],
            places=tuple(item.place for item in items),
        )

    @staticmethod
    def _stack(values: list[NDArray[Any]]) -> Tensor:
        stacked = np.array(values)
        return torch.from_numpy(stacked.astype(np.float32 if stacked.dtype.kind == "f" else np.int64))
