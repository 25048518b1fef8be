"""Scores of systems from their records, and how sure they are; the unit of all of it is the test speaker.

Utterances of one speaker resemble each other and are no independent sample, but speakers are. A speaker's results
therefore stay together, over all folds and seeds, wherever something is drawn or swapped.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from datamodules.errors import InputError
from datamodules.vocabulary import DIMENSIONS
from experiments.study.record import Record

Array = NDArray[np.float64]

Score = Callable[[Array], Array]
"""Of what adds up over speakers: from (..., K, K) or (..., D, 6) to (...)."""

RESAMPLES = 10_000
SWAPS = 100_000
ENUMERATED = 14
"""With so many speakers, or fewer, a permutation test goes through all swaps."""

_SEED = 20_240_229
_BLOCK = 10_000


def recalls(confusion: Array) -> Array:
    r"""Recall of each class, $\mathrm{TP}_k / (\mathrm{TP}_k + \mathrm{FN}_k)$.

    Args:
        confusion: (..., K, K); rows are the truth.

    Returns:
        (..., K) in [0, 1]; NaN for a class that is never true.
    """
    with np.errstate(invalid="ignore"):
        return np.asarray(np.diagonal(confusion, axis1=-2, axis2=-1) / confusion.sum(axis=-1))


def uar(confusion: Array) -> Array:
    """Unweighted average recall: the mean over the classes with support, as ``callbacks.metrics.uar`` defines it.

    Args:
        confusion: (..., K, K); rows are the truth.

    Returns:
        (...) in [0, 1].
    """
    return np.asarray(np.nanmean(recalls(confusion), axis=-1))


def power_sums(moments: ArrayLike) -> Array:
    r"""What adds up over speakers: the sums of $1, x, y, x^2, y^2, xy$, from counts, means and squared deviations.

    $\sum x^2 = M + n \bar{x}^2$. The variance of summed sums is that of Chan, Golub, LeVeque: Algorithms for Computing
    the Sample Variance, The American Statistician 37(3), 1983. The cancellation that they warn of is harmless: ratings
    lie within a few standard deviations of 0, where float64 loses one or two of its 16 digits.

    Args:
        moments: (..., 6), as in a ``Record``.

    Returns:
        (..., 6).
    """
    count, x, y, xx, yy, xy = np.moveaxis(np.asarray(moments, dtype=np.float64), -1, 0)
    return np.stack([count, count * x, count * y, xx + count * x * x, yy + count * y * y, xy + count * x * y], axis=-1)


def concordance(sums: Array) -> Array:
    r"""Concordance correlation coefficient, as ``callbacks.metrics.concordance`` defines it.

    $\rho_c = \frac{2 s_{xy}}{s_x^2 + s_y^2 + (\bar{x} - \bar{y})^2}$ with variances that divide by $n$. Source: Lin:
    A Concordance Correlation Coefficient to Evaluate Reproducibility, Biometrics 45(1), 1989.

    Args:
        sums: (..., 6), of ``power_sums``.

    Returns:
        (...) in [-1, 1]; 0 where truth or prediction is constant, NaN where there is no utterance.
    """
    count = sums[..., 0]
    with np.errstate(invalid="ignore"):
        x, y, xx, yy, xy = np.moveaxis(sums[..., 1:] / count[..., None], -1, 0)
        variances = xx - x * x, yy - y * y
        coefficient = 2 * (xy - x * y) / (sum(variances) + (x - y) ** 2)
    # Of a constant, rounding leaves a little.
    constant = (variances[0] <= 1e-12 * xx) | (variances[1] <= 1e-12 * yy)
    return np.where(count == 0, np.nan, np.where(constant, 0.0, coefficient))


def mean_concordance(sums: Array) -> Array:
    """Mean over the dimensions with support.

    Args:
        sums: (..., D, 6), of ``power_sums``.

    Returns:
        (...) in [-1, 1].
    """
    return np.asarray(np.nanmean(concordance(sums), axis=-1))


@dataclass(frozen=True)
class Results:
    """Test results of a system, in quantities that add up over speakers.

    A pass is a test of every speaker once. Folds of a seed that test different speakers make one pass together, as in
    cross-validation; where each fold tests the same speakers, as from one corpus to another, each is a pass by itself.

    Attributes:
        names: Of the K classes or D dimensions.
        speakers: Of the S test speakers, sorted.
        seeds: (P,), of the passes.
        sums: (P, S, K, K) confusion matrices or (P, S, D, 6) ``power_sums``.
        score: Either ``uar`` or ``mean_concordance``.
    """

    names: tuple[str, ...]
    speakers: tuple[str, ...]
    seeds: tuple[int, ...]
    sums: Array
    score: Score


def of_classes(records: Sequence[Record]) -> Results:
    """Confusion matrices of a system's passes, to be scored by UAR.

    Args:
        records: All folds of each seed, of one system and experiment.

    Raises:
        InputError: Their classes or speakers are not the same in each pass.
    """
    if len({tuple(record.labels) for record in records}) > 1:
        raise _differ(records, "classes")
    found = [{one: np.array(rows, float) for one, rows in record.confusion_by_speaker.items()} for record in records]
    return _passes(records, found, tuple(records[0].labels), uar)


def of_dimensions(records: Sequence[Record]) -> Results:
    """Power sums of a system's passes, to be scored by the mean CCC.

    Args:
        records: All folds of each seed, of one system and experiment.

    Raises:
        InputError: Their speakers are not the same in each pass.
    """
    known = {name for record in records for moments in record.moments_by_speaker.values() for name in moments}
    names = tuple(name for name in DIMENSIONS if name in known)
    found = [
        {
            one: power_sums([moments.get(name, [0.0] * 6) for name in names])
            for one, moments in record.moments_by_speaker.items()
        }
        for record in records
    ]
    return _passes(records, found, names, mean_concordance)


def _passes(
    records: Sequence[Record],
    found: Sequence[dict[str, Array]],
    names: tuple[str, ...],
    score: Score,
) -> Results:
    passes: list[tuple[int, dict[str, Array]]] = []
    for seed in sorted({record.seed for record in records}):
        folds = [sums for record, sums in zip(records, found, strict=True) if record.seed == seed]
        pooled = {speaker: sums for fold in folds for speaker, sums in fold.items()}
        disjoint = len(pooled) == sum(map(len, folds))
        passes += [(seed, one) for one in ([pooled] if disjoint else folds)]
    speakers = sorted(passes[0][1])
    if any(sorted(one) != speakers for _, one in passes):
        raise _differ(records, "test speakers")
    return Results(
        names=names,
        speakers=tuple(speakers),
        seeds=tuple(seed for seed, _ in passes),
        sums=np.stack([[one[speaker] for speaker in speakers] for _, one in passes]),
        score=score,
    )


def _differ(records: Sequence[Record], what: str) -> InputError:
    one = records[0]
    return InputError(
        f"study {one.study}: runs of {one.system} on {one.experiment} have different {what}",
        "They were made with different settings or corpora: remove their records, so that they are made again.",
    )


def pooled(results: Results) -> Array:
    """Score of each pass, over the utterances of all its speakers: (P,)."""
    return results.score(results.sums.sum(axis=1))


def by_seed(results: Results) -> Array:
    """Score of each seed: of its pass, or the mean over its passes."""
    seeds, scores = np.array(results.seeds), pooled(results)
    return np.array([scores[seeds == seed].mean() for seed in np.unique(seeds)])


def mean_and_deviation(scores: Array) -> tuple[float, float | None]:
    """Mean and standard deviation (dividing by n - 1) over seeds; none of a single one."""
    return float(scores.mean()), float(scores.std(ddof=1)) if scores.size > 1 else None


def interval(results: Results, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval of the mean pooled score, by a bootstrap over speakers.

    As many speakers as there are get drawn with replacement, each with the results of all passes; the score is the mean
    of the passes' pooled scores. Source: Efron, Tibshirani: An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        results: Of a system.
        level: Share of the resamples' scores that lies within.
    """
    return _percentiles(_resampled(results), level)


def gain_interval(one: Results, other: Results, level: float = 0.95) -> tuple[float, float]:
    """The same of the difference between two systems, each time of the same speakers.

    Args:
        one: Of a system.
        other: Of another one, ``comparable``.
        level: Share of the resamples' differences that lies within.
    """
    return _percentiles(_resampled(one) - _resampled(other), level)


def _resampled(results: Results) -> Array:
    """Scores of the resamples, which draw the same of as many speakers each time: (``RESAMPLES``,)."""
    speakers = len(results.speakers)
    generator = np.random.default_rng(_SEED)
    times = generator.multinomial(speakers, np.full(speakers, 1 / speakers), size=RESAMPLES).astype(np.float64)
    return np.asarray(results.score(np.tensordot(times, results.sums, axes=(1, 1))).mean(axis=1))


def _percentiles(scores: Array, level: float) -> tuple[float, float]:
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def comparable(one: Results, other: Results) -> bool:
    """Whether two systems were tested for the same on the same speakers."""
    return (one.names, one.speakers, one.score) == (other.names, other.speakers, other.score)


def permutation_p(one: Results, other: Results) -> float:
    r"""Two-sided p of a paired permutation test over speakers.

    Where it makes no difference which system is used, a speaker's results may as well be swapped between the two, all
    passes together. The statistic is the difference of the systems' pooled scores, each of the mean over passes of what
    adds up: so swapping is defined for different numbers of seeds, too. As all passes test the same utterances, the UAR
    of the mean matrix is the mean of the passes' UAR; the CCC of the mean sums is that of the predictions of all passes
    together. Up to ``ENUMERATED`` speakers all $2^S$ swaps are made; else ``SWAPS`` random ones, with
    $p = (b + 1) / (m + 1)$. Source: Phipson, Smyth: Permutation P-values Should Never Be Zero, Statistical Applications
    in Genetics and Molecular Biology 9(1), 2010.

    Args:
        one: Of a system.
        other: Of another one, ``comparable``.
    """
    first, second = one.sums.mean(axis=0), other.sums.mean(axis=0)
    totals = first.sum(axis=0), second.sum(axis=0)
    observed = abs(one.score(totals[0]) - one.score(totals[1]))
    speakers = len(one.speakers)
    enumerated = speakers <= ENUMERATED
    extreme = made = 0
    for swaps in _all_swaps(speakers) if enumerated else _random_swaps(speakers):
        moved = np.tensordot(swaps, second - first, axes=(1, 0))
        differences = abs(one.score(totals[0] + moved) - one.score(totals[1] - moved))
        extreme += int((differences >= observed - 1e-12).sum())  # equal ones differ by rounding
        made += len(swaps)
    return extreme / made if enumerated else (extreme + 1) / (made + 1)


def _all_swaps(speakers: int) -> Iterator[Array]:
    yield (np.arange(2**speakers)[:, None] >> np.arange(speakers) & 1).astype(np.float64)


def _random_swaps(speakers: int) -> Iterator[Array]:
    generator = np.random.default_rng(_SEED)
    for _ in range(SWAPS // _BLOCK):  # in blocks, for corpora of many speakers
        yield generator.integers(0, 2, size=(_BLOCK, speakers)).astype(np.float64)


def holm(ps: Sequence[float]) -> list[float]:
    r"""Corrects a family of p values, so that any false discovery in it is as rare as the level says.

    Sorted, $\tilde{p}_{(i)} = \max_{j \le i} \min(1, (m - j + 1)\, p_{(j)})$. Source: Holm: A Simple Sequentially
    Rejective Multiple Test Procedure, Scandinavian Journal of Statistics 6(2), 1979.

    Args:
        ps: Of the tests, in any order.

    Returns:
        In the same order.
    """
    values = np.array(ps, dtype=np.float64)
    order = np.argsort(values)
    corrected = np.empty_like(values)
    corrected[order] = np.maximum.accumulate(np.minimum(1.0, values[order] * np.arange(len(values), 0, -1)))
    return [float(p) for p in corrected]
