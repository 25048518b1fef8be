"""Speech on its way from workers to the main process."""

import gc
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from datamodules.batch import LABELLED, Batch
from datamodules.dataset import Collate, Item
from datamodules.ring import CollateInRing, Ring, _rings

AHEAD, ROWS, WIDTH, BATCHES = 2, 3, 4000, 30


class Numbers(Dataset[Item]):
    """Utterance i is so many times i: as long as a batch is wide, or shorter."""

    def __len__(self) -> int:
        return ROWS * BATCHES

    def __getitem__(self, index: int) -> Item:
        speech = np.full(WIDTH - index, index, np.float32)
        return Item(speech, index, LABELLED, {"emotion": np.int64(index)})  # type: ignore[dict-item]


def loader(ring: Ring, workers: int, persistent: bool = True) -> DataLoader[Any]:
    return DataLoader(
        Numbers(),
        batch_size=ROWS,
        collate_fn=CollateInRing(Collate(WIDTH), ring),
        num_workers=workers,
        prefetch_factor=AHEAD,
        persistent_workers=persistent,
    )


def check(batches: list[Batch], count: int = BATCHES) -> None:
    assert len(batches) == count
    for number, batch in enumerate(batches):
        rows = torch.arange(number * ROWS, (number + 1) * ROWS)
        assert torch.equal(batch.row, rows)
        assert torch.equal(batch.targets["emotion"], rows)
        speech = rows[:, None].float() * (torch.arange(WIDTH) < (WIDTH - rows)[:, None])
        assert torch.equal(batch.waveform, speech)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("persistent", [False, True])
def test_every_batch_arrives_as_it_was_made(workers: int, persistent: bool) -> None:
    data = loader(Ring(workers, AHEAD, ROWS, WIDTH), workers, persistent)
    for _ in range(3):
        check(list(data))


def test_slow_consumers_lose_nothing() -> None:
    batches = []
    for batch in loader(Ring(1, AHEAD, ROWS, WIDTH), 1):
        time.sleep(0.01)  # the worker has filled all that it may by now
        batches.append(batch)
    check(batches)


def test_an_epoch_that_was_left_early_does_not_spoil_the_next() -> None:
    data = loader(Ring(2, AHEAD, ROWS, WIDTH), 2)
    for stop in (1, 4, 7):
        batches = []
        for batch in data:
            batches.append(batch)
            if len(batches) == stop:
                break
        check(batches, stop)
    check(list(data))


def test_two_loaders_do_not_meet() -> None:
    one, other = (loader(Ring(1, AHEAD, ROWS, WIDTH), 1) for _ in range(2))
    both = list(zip(one, other, strict=True))
    check([batch for batch, _ in both])
    check([batch for _, batch in both])


def test_speech_that_was_written_over_is_no_speech() -> None:
    ring = Ring(1, AHEAD, ROWS, WIDTH)
    ring.numbers[0, 1] = 1
    ring.fetch(0, 1)
    ring.numbers[0, 1] = 1 + ring.places
    with pytest.raises(RuntimeError, match="batch 1 was written over by that of 5"):
        ring.fetch(0, 1)


def test_a_ring_goes_with_its_loader() -> None:
    ring = Ring(1, AHEAD, ROWS, WIDTH)
    key = ring.key
    data = loader(ring, 1)
    next(iter(data))
    del ring, data
    gc.collect()
    assert key not in _rings
