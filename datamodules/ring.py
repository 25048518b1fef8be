"""Shared memory that workers fill again and again: what a batch's speech takes from a worker to the main process."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from datamodules.batch import Batch

_keys = itertools.count()
_rings: "WeakValueDictionary[int, Ring]" = WeakValueDictionary()


class Ring:
    """Places for the speech of batches that are on their way.

    Shared memory of a batch's own is new to the system each time, which clears every page of it. A ring is made once,
    by the main process, before its workers start.

    A ``DataLoader`` has a worker make another batch only when the main process has fetched one of its batches, and here
    to fetch is to copy. So no place is filled again before its speech has been copied, if there are more places than
    batches are read ahead; places are numbered, to check this rather than to believe it.

    Args:
        workers: Number of workers.
        ahead: Batches that each of them reads ahead.
        rows: Utterances of a batch.
        width: Samples of each.
    """

    def __init__(self, workers: int, ahead: int, rows: int, width: int) -> None:
        self.places = ahead + 2
        self.speech = _shared(torch.empty(workers, self.places, rows, width))
        self.numbers = _shared(torch.full((workers, self.places), -1))
        self.key = next(_keys)
        self._filled = itertools.count()
        _rings[self.key] = self

    def fill(self) -> tuple[int, Tensor]:
        """Called by a worker: the number of its batch, and the place for its speech, (rows, width), float32."""
        number = next(self._filled)
        worker = _worker()
        self.numbers[worker, number % self.places] = number
        return number, self.speech[worker, number % self.places]

    def fetch(self, worker: int, number: int) -> Tensor:
        """Called by the main process: a copy of the speech of a worker's batch, (rows, width), float32.

        Raises:
            RuntimeError: The place holds another batch already.
        """
        speech = self.speech[worker, number % self.places].clone()
        found = int(self.numbers[worker, number % self.places])
        if found != number:  # looked at when all is copied
            raise RuntimeError(f"worker {worker}: the speech of batch {number} was written over by that of {found}")
        return speech


class CollateInRing:
    """Has a worker stack its batches in a ring.

    Args:
        collate: Stacks items in the memory that it is given.
        ring: With places as large as the batches.
    """

    def __init__(self, collate: Callable[[list[Any], Tensor], Batch], ring: Ring) -> None:
        self.collate = collate
        self.ring = ring

    def __call__(self, items: list[Any]) -> "Travelling":
        """Items to a batch that is a ``Batch`` as soon as the main process has received it."""
        number, place = self.ring.fill()
        batch = self.collate(items, place)
        return Travelling(replace(batch, waveform=_ELSEWHERE), self.ring.key, _worker(), number)


_ELSEWHERE = torch.empty(0)


class Travelling(NamedTuple):
    """What is sent of a batch whose speech is in a ring: the rest of it, and where the speech is."""

    rest: Batch
    ring: int
    worker: int
    number: int

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, tuple(self)


def _arrived(rest: Batch, ring: int, worker: int, number: int) -> Batch:
    return replace(rest, waveform=_rings[ring].fetch(worker, number))


def _shared(tensor: Tensor) -> Tensor:
    return tensor.share_memory_()  # type: ignore[no-any-return, no-untyped-call]


def _worker() -> int:
    info = get_worker_info()
    assert info is not None, "a ring is filled by workers"
    return info.id
