from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules.errors import InputError
from datamodules.sampler import QuotaBatchSampler, WholeSetSampler, permute

SIZES, QUOTAS, STEPS = (37, 11, 5), (8, 4, 4), 6


def sampler(
    seed: int = 0,
    rank: int = 0,
    world_size: int = 1,
    sizes: Sequence[int] = SIZES,
    quotas: Sequence[int] = QUOTAS,
    steps: int = STEPS,
) -> QuotaBatchSampler:
    names = [f"pool {index}" for index in range(len(sizes))]
    return QuotaBatchSampler(names, sizes, quotas, steps, seed, rank, world_size)


# The permutation


@given(st.integers(1, 3000), st.integers(-(2**63), 2**64))
def test_permute_is_a_bijection(size: int, key: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(size), size, key)), np.arange(size))


@pytest.mark.parametrize("size", [*range(1, 70), 255, 256, 257, 4095, 4096, 4097])
def test_permute_is_a_bijection_about_powers_of_two(size: int) -> None:
    assert np.array_equal(np.sort(permute(np.arange(size), size, 7)), np.arange(size))


@pytest.mark.parametrize("size", [2**31 + 11, 10**12])
def test_permute_needs_no_memory_for_huge_sets(size: int) -> None:
    positions = np.arange(size - 1000, size)
    places = permute(positions, size, 1)
    assert len(np.unique(places)) == 1000
    assert 0 <= places.min() < places.max() < size
    assert np.corrcoef(positions - positions[0], places)[0, 1] < 0.2
    assert places.std() == pytest.approx(size / 12**0.5, rel=0.1)


def test_permute_maps_each_position_by_itself_in_any_shape() -> None:
    whole = permute(np.arange(100), 100, 5)
    assert permute(np.array([17]), 100, 5)[0] == whole[17]
    assert np.array_equal(permute(np.arange(100).reshape(4, 25), 100, 5), whole.reshape(4, 25))
    positions = np.arange(100)
    permute(positions, 100, 5)
    assert np.array_equal(positions, np.arange(100))


def test_permutations_of_different_keys_are_unrelated() -> None:
    # Over many keys every position goes everywhere alike: a chi-square test with 49 degrees of freedom.
    places = np.array([permute(np.array([0, 1]), 50, key) for key in range(5000)])
    for column in places.T:
        counts = np.bincount(column, minlength=50)
        assert ((counts - 100) ** 2 / 100).sum() < 90
    assert abs(np.corrcoef(places.T)[0, 1]) < 0.06


# Quotas


@pytest.mark.parametrize("world_size", [1, 2, 4])
def test_quotas_are_exact_and_the_first_pool_comes_first(world_size: int) -> None:
    for rank in range(world_size):
        for batch in sampler(rank=rank, world_size=world_size):
            pools = [draw.pool for draw in batch]
            assert pools == sorted(pools)
            assert Counter(pools) == {pool: quota // world_size for pool, quota in enumerate(QUOTAS)}


def test_batches_are_a_function_of_seed_epoch_and_index() -> None:
    one, other = sampler(seed=5), sampler(seed=5)
    one.epoch = 3
    in_order = list(one)
    assert len(one) == len(in_order) == STEPS
    backwards = [other.batch(3, index) for index in reversed(range(STEPS))]
    assert in_order == backwards[::-1]
    everything = [
        tuple(s.batch(epoch, index)) for s in (one, sampler(seed=6)) for epoch in range(3) for index in (0, 1)
    ]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_batches_that_one_process_draws(world_size: int) -> None:
    ranks = [sampler(rank=rank, world_size=world_size) for rank in range(world_size)]
    alone = sampler()
    for epoch in range(3):
        for index in range(STEPS):
            shares = [rank.batch(epoch, index) for rank in ranks]
            together = [draw for share in shares for draw in share]
            # Crops too: they are part of the draws.
            assert sorted(together, key=lambda draw: draw.place) == alone.batch(epoch, index)


@pytest.mark.parametrize("pool", range(3))
def test_every_utterance_comes_once_in_each_cycle_across_epochs(pool: int) -> None:
    size = SIZES[pool]
    epochs = range(4 * size // (QUOTAS[pool] * STEPS) + 1)
    drawn = [draw.position for e in epochs for i in range(STEPS) for draw in sampler().batch(e, i) if draw.pool == pool]
    cycles = [tuple(drawn[first : first + size]) for first in range(0, len(drawn) - size + 1, size)]
    assert len(cycles) >= 4
    assert all(sorted(cycle) == list(range(size)) for cycle in cycles)
    assert len(set(cycles)) == len(cycles)


def test_a_quota_larger_than_its_pool_goes_round_it() -> None:
    (batch,) = sampler(sizes=[3], quotas=[8], steps=1)
    assert sorted(Counter(draw.position for draw in batch).values()) == [2, 3, 3]
    assert len({draw.crop for draw in batch}) == 8  # the same utterance, another crop


def test_crops_are_spread_evenly_and_do_not_repeat() -> None:
    draws = [draw for epoch in range(100) for index in range(STEPS) for draw in sampler().batch(epoch, index)]
    crops = np.array([draw.crop for draw in draws])
    assert len(np.unique(crops)) == len(crops) == 100 * STEPS * sum(QUOTAS)
    assert 0 <= crops.min() < 0.001
    assert 0.999 < crops.max() < 1
    counts = np.histogram(crops, bins=50, range=(0, 1))[0]
    expected = len(crops) / 50
    assert ((counts - expected) ** 2 / expected).sum() < 90  # chi-square with 49 degrees of freedom
    assert abs(np.corrcoef(crops[:-1], crops[1:])[0, 1]) < 0.04
    assert [type(value) for value in vars(draws[0]).values()] == [int, int, float, int]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": (37, 0, 5)}, r"pool 1: there is no utterance to fill its quota of 4"),
        ({"world_size": 3, "quotas": (9, 4, 3)}, r"pool 1: .*4 .*evenly by 3 processes"),
    ],
)
def test_quotas_that_cannot_be(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        sampler(**change)  # type: ignore[arg-type]


# Whole sets


@given(st.lists(st.floats(0.1, 30), max_size=60), st.integers(1, 9), st.sampled_from([1, 2, 3, 4]))
def test_whole_sets_come_once_in_equally_many_batches(durations: list[float], size: int, world_size: int) -> None:
    ranks = [list(WholeSetSampler(np.array(durations), size, rank, world_size)) for rank in range(world_size)]
    assert len({tuple(len(batch) for batch in batches) for batches in ranks}) == 1  # no process waits for another
    assert all(len(batch) <= size for batch in ranks[0])
    drawn = [position for batches in ranks for batch in batches for position in batch]
    assert sorted(position for position in drawn if position >= 0) == list(range(len(durations)))
    assert set(drawn) - {-1} == set(range(len(durations)))
    assert drawn.count(-1) == -len(durations) % world_size


def test_whole_sets_are_batched_by_length() -> None:
    durations = np.random.default_rng(0).uniform(1, 10, 101)
    batches = WholeSetSampler(durations, 8)
    assert len(batches) == len(list(batches)) == 13
    longest = [durations[batch].max() for batch in batches]
    shortest = [durations[batch].min() for batch in batches]
    assert all(low >= high for low, high in zip(shortest[1:], longest, strict=False))
