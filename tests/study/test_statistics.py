"""Scores, intervals and tests of studies against scikit-learn, SciPy and the metrics of the trainings."""

from collections.abc import Iterator
from dataclasses import replace
from time import process_time

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import balanced_accuracy_score

from callbacks.metrics import concordance as torch_concordance
from callbacks.metrics import merge_moments
from callbacks.metrics import moments as torch_moments
from callbacks.metrics import uar as torch_uar
from datamodules.errors import InputError
from experiments.study.record import Record
from experiments.study.statistics import (
    Array,
    Results,
    by_seed,
    comparable,
    concordance,
    gain_interval,
    holm,
    interval,
    mean_and_deviation,
    mean_concordance,
    of_classes,
    of_dimensions,
    permutation_p,
    pooled,
    power_sums,
    recalls,
    uar,
)
from tests.study.records import make_records, make_study


def records_of(system: str, **options: object) -> list[Record]:
    found = make_records(make_study([system, "single_task"], folds=3, seeds=(0, 1)), **options)  # type: ignore[arg-type]
    return [record for record in found if record.system == system]


def of_speakers(sums: Array) -> Results:
    """One pass of confusion matrices."""
    speakers = tuple(f"{number:03}" for number in range(len(sums)))
    return Results(("a", "b"), speakers, (0,), sums[None], uar)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_uar_is_the_mean_recall_of_the_classes_with_support() -> None:
    confusion = np.array([[3, 1, 0], [0, 2, 2], [0, 0, 0]])
    truth, prediction = (np.repeat(index.ravel(), confusion.ravel()) for index in np.indices((3, 3)))
    assert recalls(confusion)[:2].tolist() == [0.75, 0.5]
    assert np.isnan(recalls(confusion)[2])
    assert uar(confusion) == pytest.approx(balanced_accuracy_score(truth, prediction))
    assert uar(confusion) == pytest.approx(torch_uar(torch.from_numpy(confusion)).item())


def test_ccc_of_summed_sums_is_that_of_merged_moments() -> None:
    generator = torch.Generator().manual_seed(0)
    truths = 1 + 6 * torch.rand(3, 40, 2, generator=generator, dtype=torch.float64)
    predictions = 0.5 * truths + torch.randn(3, 40, 2, generator=generator)
    parts = [torch_moments(*both) for both in zip(predictions, truths, strict=True)]
    merged = merge_moments(merge_moments(parts[0], parts[1]), parts[2])
    summed = power_sums(torch.stack(parts).numpy()).sum(axis=0)
    assert concordance(summed) == pytest.approx(torch_concordance(merged).numpy(), abs=1e-12)
    assert mean_concordance(summed) == pytest.approx(torch_concordance(merged).mean().item(), abs=1e-12)


@pytest.mark.parametrize("truth", [[0.1, 0.2, 0.7], [0.3, 0.3, 0.3]])
def test_a_constant_has_no_concordance(truth: list[float]) -> None:
    prediction = torch.full((3, 1), 0.3, dtype=torch.float64)
    parts = [torch_moments(prediction[part], torch.tensor(truth).double()[part, None]) for part in ([0, 1], [2])]
    assert concordance(power_sums(torch.stack(parts).numpy()).sum(axis=0)).tolist() == [0.0]
    assert np.isnan(concordance(np.zeros(6)))


def test_folds_of_a_seed_that_test_different_speakers_are_one_pass() -> None:
    records = records_of("full")
    results = of_classes(records)
    assert results.sums.shape == (2, 12, 8, 8)
    assert results.seeds == (0, 1)
    for seed, score in enumerate(pooled(results)):
        matrices = [rows for one in records if one.seed == seed for rows in one.confusion_by_speaker.values()]
        assert score == pytest.approx(uar(np.sum(matrices, axis=0)))


def test_folds_that_test_the_same_speakers_are_passes_by_themselves() -> None:
    records = records_of("full", repeated=True)
    results = of_classes(records)
    assert results.sums.shape == (6, 4, 8, 8)
    of_folds = [uar(np.sum(list(one.confusion_by_speaker.values()), axis=0)) for one in records if one.seed == 1]
    assert by_seed(results)[1] == pytest.approx(np.mean(of_folds))


def test_dimensions_that_a_speaker_lacks_add_nothing() -> None:
    records = records_of("full", dimensions=True)
    whole = of_dimensions(records)
    assert whole.names == ("activation", "valence", "dominance")
    speaker, moments = next(iter(records[0].moments_by_speaker.items()))
    less = {**records[0].moments_by_speaker, speaker: {"valence": moments["valence"]}}
    results = of_dimensions([replace(records[0], moments_by_speaker=less), *records[1:]])
    assert results.sums[0, 0, 0].tolist() == [0.0] * 6
    assert (results.sums[:, :, 1] == whole.sums[:, :, 1]).all()


def test_passes_over_different_speakers_or_classes_are_refused() -> None:
    records = records_of("full")
    with pytest.raises(InputError, match=r"full on ravdess_cat have different test speakers.*\n.*made again"):
        of_classes(records[:-1])
    with pytest.raises(InputError, match="different classes"):
        of_classes([replace(records[0], labels=records[0].labels[::-1]), *records[1:]])


def test_deviation_needs_two_seeds() -> None:
    assert mean_and_deviation(np.array([0.5, 0.7])) == pytest.approx((0.6, np.std([0.5, 0.7], ddof=1)))
    assert mean_and_deviation(np.array([0.5])) == (0.5, None)


@pytest.mark.parametrize("dimensions", [False, True])
def test_interval_is_the_bootstrap_over_speakers(dimensions: bool) -> None:
    results = (of_dimensions if dimensions else of_classes)(records_of("full", dimensions=dimensions))

    def statistic(drawn: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        return float(results.score(results.sums[:, drawn].sum(axis=1)).mean())

    reference = stats.bootstrap(
        (np.arange(12),), statistic, vectorized=False, method="percentile", n_resamples=3000, rng=1
    ).confidence_interval
    assert interval(results) == pytest.approx(tuple(reference), abs=0.006)
    assert interval(results) == interval(results)
    narrow = interval(results, level=0.5)
    assert interval(results)[0] < narrow[0] < statistic(np.arange(12)) < narrow[1] < interval(results)[1]


def test_the_interval_of_a_gain_draws_the_same_speakers_for_both() -> None:
    one, other = (of_classes(records_of(system)) for system in ("full", "single_task"))

    def statistic(drawn: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        scores = [each.score(each.sums[:, drawn].sum(axis=1)).mean() for each in (one, other)]
        return float(scores[0] - scores[1])

    reference = stats.bootstrap(
        (np.arange(12),), statistic, vectorized=False, method="percentile", n_resamples=3000, rng=1
    ).confidence_interval
    assert gain_interval(one, other) == pytest.approx(tuple(reference), abs=0.008)
    assert gain_interval(other, one) == pytest.approx([-end for end in gain_interval(one, other)][::-1])
    assert gain_interval(one, one) == (0, 0)


def test_interval_is_a_matter_of_a_second() -> None:
    results = of_classes([one for one in make_records() if one.system == "full"])
    assert results.sums.shape == (3, 24, 8, 8)
    start = process_time()
    interval(results)
    assert process_time() - start < 1


@pytest.mark.parametrize("dimensions", [False, True])
def test_permutation_test_is_that_of_scipy(dimensions: bool) -> None:
    make = of_dimensions if dimensions else of_classes
    accuracy = {"full": 0.62, "single_task": 0.55}
    records = make_records(
        make_study(["full", "single_task"], folds=2, seeds=(0, 1)), accuracy, dimensions=dimensions, rng_seed=3
    )
    one = make([record for record in records if record.system == "full"])
    other = make([record for record in records if record.system != "full" and record.seed == 0])

    def statistic(first: Array, second: Array) -> float:
        both = (one.sums.mean(axis=0), other.sums.mean(axis=0))
        chosen = [
            np.sum([both[int(number >= 8)][int(number) % 8] for number in numbers], axis=0)
            for numbers in (first, second)
        ]
        return float(one.score(chosen[0]) - one.score(chosen[1]))

    reference = stats.permutation_test(
        (np.arange(8), np.arange(8, 16)),
        statistic,
        permutation_type="samples",
        vectorized=False,
        n_resamples=np.inf,
    )
    assert 0.005 < reference.pvalue < 0.9
    assert permutation_p(one, other) == pytest.approx(reference.pvalue)
    assert permutation_p(other, one) == pytest.approx(reference.pvalue)


def test_random_swaps_agree_with_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    *_, (one, other) = null_pairs(speakers=10, pairs=3)
    exact = permutation_p(one, other)
    monkeypatch.setattr("experiments.study.statistics.ENUMERATED", 5)
    assert permutation_p(one, other) == pytest.approx(exact, abs=0.01)


def test_p_is_never_zero() -> None:
    right, wrong = np.array([[[5.0, 0.0], [0.0, 5.0]]] * 40), np.array([[[0.0, 5.0], [5.0, 0.0]]] * 40)
    assert permutation_p(of_speakers(right), of_speakers(wrong)) == 1 / 100_001
    assert permutation_p(of_speakers(right[:8]), of_speakers(wrong[:8])) == 2 / 2**8
    assert permutation_p(of_speakers(right), of_speakers(right)) == 1


def two_classes(right: np.ndarray[tuple[int, int], np.dtype[np.int64]]) -> Array:
    """Confusion matrices of speakers who said 1000 utterances of each class, so many of which are right."""
    matrices = np.zeros((len(right), 2, 2))
    matrices[:, [0, 1], [0, 1]], matrices[:, [0, 1], [1, 0]] = right, 1000 - right
    return matrices


def null_pairs(speakers: int, pairs: int) -> Iterator[tuple[Results, Results]]:
    """Pairs of systems of the same accuracy, which varies from speaker to speaker."""
    generator = np.random.default_rng(0)
    for _ in range(pairs):
        accuracy = generator.uniform(0.3, 0.9, size=(speakers, 1))
        first, second = generator.binomial(1000, accuracy, size=(2, speakers, 2))
        yield of_speakers(two_classes(first)), of_speakers(two_classes(second))


def test_p_is_uniform_where_systems_do_not_differ() -> None:
    ps = np.array([permutation_p(one, other) for one, other in null_pairs(speakers=8, pairs=400)])
    assert stats.kstest(ps, "uniform").statistic < 0.07
    assert 0.02 < (ps <= 0.05).mean() < 0.08


def test_systems_on_other_speakers_are_not_compared() -> None:
    whole = of_classes(records_of("full"))
    assert comparable(whole, of_classes(records_of("full", rng_seed=1)))
    assert not comparable(whole, of_classes([one for one in records_of("full") if one.fold < 2]))
    assert not comparable(whole, of_dimensions(records_of("full", dimensions=True)))


def test_holm() -> None:
    # 3 × 0.01, then max of it and 2 × 0.03, then that again
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
