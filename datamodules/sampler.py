"""Which utterances make a batch: fixed quotas from each pool, as a pure function of seed, epoch, batch and process."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import repeat

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from datamodules.errors import InputError

Rows = NDArray[np.int64]

_ROUNDS = 4
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Draw:
    """One utterance of a training batch.

    Attributes:
        pool: Index of the pool.
        position: Position in the pool.
        crop: In [0, 1): where a crop begins, from the first place where it can to the last.
        place: In the batch that all processes share.
    """

    pool: int
    position: int
    crop: float
    place: int = 0


def _scramble(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    # The finaliser of SplitMix64 (Steele et al., OOPSLA 2014): every input bit changes every output bit.
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def permute(positions: Rows, size: int, key: int) -> Rows:
    """Maps positions through a pseudo-random permutation of ``range(size)`` that is never written down.

    A Feistel network over the next even number of bits, walked until it lands inside (Black and Rogaway, "Ciphers with
    arbitrary finite domains", CT-RSA 2002): time and memory do not depend on ``size``.

    Args:
        positions: Values in ``range(size)``, any shape.
        size: Number of elements, at least 1.
        key: Chooses the permutation.

    Returns:
        Values in ``range(size)``, distinct for distinct positions.
    """
    half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    with np.errstate(over="ignore"):
        keys = _scramble(np.uint64(key % 2**64) + _GOLDEN * np.arange(1, _ROUNDS + 1, dtype=np.uint64))

        def network(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
            left, right = x >> half, x & mask
            for round_key in keys:
                left, right = right, left ^ (_scramble(right + round_key) & mask)
            return (left << half) | right

        x = network(positions.astype(np.uint64))
        while (outside := x >= np.uint64(size)).any():
            x[outside] = network(x[outside])
    return x.astype(np.int64)


class QuotaBatchSampler(Sampler[list[Draw]]):
    """Fills every batch with so many utterances of each pool.

    Quotas are those of the global batch, shared evenly by the processes. Each pool is walked in a permutation of its
    own, a new one each time it is exhausted, which goes on from epoch to epoch: a large pool is seen whole, however
    short the epochs.

    Args:
        names: What messages call each pool.
        sizes: Utterances in each pool.
        quotas: Utterances of each pool in the global batch.
        steps: Batches of an epoch.
        seed: Of the permutations and crops.
        rank: This process.
        world_size: Number of processes.

    Raises:
        InputError: A quota has no utterance to fill it, or cannot be shared evenly by the processes.
    """

    def __init__(
        self,
        names: Sequence[str],
        sizes: Sequence[int],
        quotas: Sequence[int],
        steps: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        for name, size, quota in zip(names, sizes, quotas, strict=True):
            if quota < 1:
                raise InputError(
                    f"{name}: a quota of {quota} utterances a batch", "Choose at least 1, or leave it out."
                )
            if size == 0:
                raise InputError(f"{name}: there is no utterance to fill its quota of {quota}")
            if quota % world_size:
                raise InputError(
                    f"{name}: a quota of {quota} utterances cannot be shared evenly by {world_size} processes",
                    "Choose a quota that the number of processes divides.",
                )
        self.sizes = sizes
        self.quotas = quotas
        self.steps = steps
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        return self.steps

    def batch(self, epoch: int, index: int) -> list[Draw]:
        """Batch ``index`` of ``epoch`` for this process."""
        draws: list[Draw] = []
        before = 0  # utterances of the pools so far, in all processes
        for pool, (size, quota) in enumerate(zip(self.sizes, self.quotas, strict=True)):
            share = quota // self.world_size
            first = (epoch * self.steps + index) * quota + self.rank * share
            place = np.arange(first, first + share, dtype=np.int64)
            cycle, inside = np.divmod(place, max(size, 1))
            positions = np.empty_like(place)
            for one in np.unique(cycle):
                chosen = cycle == one
                positions[chosen] = permute(inside[chosen], size, _key(self.seed, pool, int(one)))
            with np.errstate(over="ignore"):
                scrambled = _scramble(place.astype(np.uint64) * _GOLDEN + np.uint64(_key(self.seed, pool, -1)))
            crops = (scrambled >> np.uint64(11)) * 2.0**-53  # as many bits as a float holds
            places = range(before + self.rank * share, before + (self.rank + 1) * share)
            draws += map(Draw, repeat(pool, share), positions.tolist(), crops.tolist(), places)
            before += quota
        return draws

    def __iter__(self) -> Iterator[list[Draw]]:
        epoch = self.epoch
        for index in range(self.start, self.steps):
            yield self.batch(epoch, index)


@lru_cache(maxsize=1024)  # it takes longer than all else of a batch
def _key(seed: int, pool: int, cycle: int) -> int:
    return int(np.random.SeedSequence([seed, pool, cycle + 1]).generate_state(1, np.uint64)[0])


class WholeSetSampler(Sampler[list[int]]):
    """Every utterance once, in batches of similar length, the same number of batches in every process.

    Positions past the end are -1: pads, which metrics leave out.

    Args:
        durations: Of the utterances, any unit.
        batch_size: Utterances of a batch in one process.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, durations: NDArray[np.float64], batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        order = np.argsort(durations, kind="stable")
        each = -(-len(order) // world_size)
        padded = np.full(each * world_size, -1, dtype=np.int64)
        padded[: len(order)] = order
        mine = padded[rank::world_size]
        self.batches: list[list[int]] = [mine[i : i + batch_size].tolist() for i in range(0, each, batch_size)]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)
