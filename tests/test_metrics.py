"""The metrics against audmetric and scikit-learn, on one process and on two."""

import doctest
from pathlib import Path

import audmetric
import numpy as np
import pytest
import torch
import torch.distributed
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from callbacks import metrics
from callbacks.metrics import ConcordanceCorrelation, ConfusionMatrix, accuracy, concordance, moments, recall, uar

CLASSES = 5


def emotions(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions and truths of n utterances; class 4 is predicted but never true."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(0, CLASSES - 1, (n,), generator=generator)
    wrong = torch.randint(0, CLASSES, (n,), generator=generator)
    return torch.where(torch.rand(n, generator=generator) < 0.6, truth, wrong), truth


def dimensions(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions and truths (n, 3) of n utterances, on [0, 1] and a little off."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(n, 3, generator=generator)
    return 0.4 * truth + 0.3 + 0.1 * torch.randn(n, 3, generator=generator), truth


def reference_ccc(prediction: Tensor, truth: Tensor) -> list[float]:
    """audmetric's coefficient of each dimension, over the utterances whose truth is known."""
    pairs = zip(prediction.double().T.numpy(), truth.double().T.numpy(), strict=True)
    return [audmetric.concordance_cc(y, x, ignore_nan=True) for x, y in pairs]


def test_doctests() -> None:
    result = doctest.testmod(metrics)
    assert result.attempted >= 15
    assert result.failed == 0


@pytest.mark.parametrize("seed", range(3))
def test_uar_and_accuracy_agree_with_references(seed: int) -> None:
    prediction, truth = emotions(300, seed)
    confusion = metrics.confusion_matrix(prediction, truth, CLASSES)
    with_support = sorted(set(truth.tolist()))
    expected = audmetric.recall_per_class(truth.tolist(), prediction.tolist(), list(range(CLASSES)))
    assert uar(confusion).item() == pytest.approx(np.mean([expected[k] for k in with_support]), abs=1e-15)
    assert accuracy(confusion).item() == pytest.approx(accuracy_score(truth, prediction), abs=1e-15)
    assert recall(confusion)[:4].tolist() == pytest.approx([expected[k] for k in range(4)], abs=1e-15)
    assert confusion.tolist() == audmetric.confusion_matrix(truth.tolist(), prediction.tolist(), list(range(CLASSES)))


def test_uar_agrees_with_audmetric_where_every_class_occurs() -> None:
    prediction, truth = emotions(200)
    prediction = prediction.clamp(max=CLASSES - 2)
    expected = audmetric.unweighted_average_recall(truth.tolist(), prediction.tolist())
    assert uar(metrics.confusion_matrix(prediction, truth, CLASSES)).item() == pytest.approx(expected, abs=1e-15)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_a_class_that_is_never_true_has_no_recall_but_costs_others() -> None:
    prediction, truth = torch.tensor([0, 2, 1, 1]), torch.tensor([0, 0, 1, 1])
    confusion = metrics.confusion_matrix(prediction, truth, 3)
    assert recall(confusion)[:2].tolist() == [0.5, 1.0]
    assert recall(confusion)[2].isnan()
    assert uar(confusion).item() == 0.75 == balanced_accuracy_score(truth, prediction)


def test_missing_truths_and_padding_are_not_counted() -> None:
    prediction, truth = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, -1, 1])
    valid = torch.tensor([True, True, True, False])
    assert metrics.confusion_matrix(prediction, truth, 2, valid).tolist() == [[1, 1], [0, 0]]


def test_nothing_counted_is_nan_and_not_zero() -> None:
    confusion = metrics.confusion_matrix(torch.tensor([0, 1]), torch.tensor([-1, -1]), 2)
    assert uar(confusion).isnan()
    assert accuracy(confusion).isnan()


@pytest.mark.parametrize(("prediction", "truth"), [([0, 2], [0, 1]), ([0, 1], [0, 2]), ([0, -1], [0, 1])])
def test_a_class_out_of_range_is_an_error(prediction: list[int], truth: list[int]) -> None:
    with pytest.raises(ValueError, match="is no class"):
        metrics.confusion_matrix(torch.tensor(prediction), torch.tensor(truth), 2)


@pytest.mark.parametrize("n", [2, 3, 8, 1000])
def test_ccc_agrees_with_audmetric(n: int) -> None:
    prediction, truth = dimensions(n)
    assert concordance(moments(prediction, truth)).tolist() == pytest.approx(
        reference_ccc(prediction, truth), abs=1e-12
    )


def test_ccc_uses_lins_variances() -> None:
    """With n - 1 in place of n the coefficient would be 0.018 off here."""
    x, y = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[2.0], [3.0], [5.0]])
    # Deviations -1, 0, 1 and -4/3, -1/3, 5/3: products 3, squares 2 and 42/9, difference of the means 4/3.
    assert concordance(moments(x, y)).item() == pytest.approx(2 * 3 / (2 + 42 / 9 + 3 * 16 / 9), abs=1e-15)


def test_ccc_leaves_out_missing_truths_of_each_dimension() -> None:
    prediction, truth = dimensions(50)
    truth[:10, 0] = torch.nan
    truth[5:30, 2] = torch.nan
    assert concordance(moments(prediction, truth)).tolist() == pytest.approx(
        reference_ccc(prediction, truth), abs=1e-12
    )


def test_ccc_leaves_out_padding_whatever_it_holds() -> None:
    prediction, truth = dimensions(20)
    expected = concordance(moments(prediction[:15], truth[:15]))
    prediction[15:], truth[15:] = torch.nan, 7.0
    padded = concordance(moments(prediction, truth, torch.arange(20) < 15))
    torch.testing.assert_close(padded, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_ccc_of_a_constant_is_zero(dtype: torch.dtype, batch: int) -> None:
    constant, varied = torch.full((100,), 0.1, dtype=dtype), torch.rand(100, dtype=dtype)
    prediction = torch.stack((constant, varied, constant), dim=1)
    truth = torch.stack((varied, constant, constant), dim=1)
    metric = ConcordanceCorrelation(3)
    for x, y in zip(torch.split(prediction, batch), torch.split(truth, batch), strict=True):
        metric.update(x, y)
    assert metric.compute().tolist() == [0, 0, 0]


def test_ccc_of_one_utterance_is_zero_and_of_none_nan() -> None:
    prediction, truth = torch.tensor([[0.2, 0.5, 0.5]]), torch.tensor([[0.4, 0.5, torch.nan]])
    coefficients = concordance(moments(prediction, truth))
    assert coefficients[:2].tolist() == [0, 0]
    assert coefficients[2].isnan()
    assert concordance(moments(prediction[:0], truth[:0])).isnan().all()


def test_ccc_shows_a_prediction_that_is_nan() -> None:
    prediction, truth = dimensions(10)
    prediction[3, 1] = torch.nan
    coefficients = concordance(moments(prediction, truth))
    assert coefficients.isnan().tolist() == [False, True, False]


def test_ccc_does_not_cancel_far_from_zero() -> None:
    """Sums of squares in float64 would have no digit left here."""
    prediction, truth = (values.double() + 1e8 for values in dimensions(1000))
    metric = ConcordanceCorrelation(3)
    for x, y in zip(torch.split(prediction, 7), torch.split(truth, 7), strict=True):
        metric.update(x, y)
    assert metric.compute().tolist() == pytest.approx(reference_ccc(prediction, truth), abs=1e-6)


@given(n=st.integers(1, 40), batch=st.integers(1, 40), seed=st.integers(0, 1000), missing=st.floats(0, 1))
def test_metrics_do_not_depend_on_the_batch_size(n: int, batch: int, seed: int, missing: float) -> None:
    class_prediction, class_truth = emotions(n, seed)
    prediction, truth = dimensions(n, seed)
    truth[torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)) < missing] = torch.nan
    confusion, ccc = ConfusionMatrix(CLASSES), ConcordanceCorrelation(3)
    for i in range(0, n, batch):
        confusion.update(class_prediction[i : i + batch], class_truth[i : i + batch])
        ccc.update(prediction[i : i + batch], truth[i : i + batch])
    assert torch.equal(confusion.compute(), metrics.confusion_matrix(class_prediction, class_truth, CLASSES))
    whole = concordance(moments(prediction, truth))
    torch.testing.assert_close(ccc.compute(), whole, rtol=0, atol=1e-12, equal_nan=True)
    assert (whole[~whole.isnan()].abs() <= 1 + 1e-12).all()


def test_a_metric_can_be_used_again_after_a_reset() -> None:
    metric = ConcordanceCorrelation(3)
    metric.update(*dimensions(10, seed=1))
    metric.reset()
    metric.update(*dimensions(20, seed=2))
    assert torch.equal(metric.compute(), concordance(moments(*dimensions(20, seed=2))))


N = 31


def score_share(rank: int, folder: Path) -> None:
    """What each of two processes does: its share of the utterances, padded to equally many, and a result of all."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    share = torch.arange(rank, N, 2)
    valid = torch.arange(16) < len(share)
    share = torch.cat((share, share[:1]))[:16]
    confusion, ccc = ConfusionMatrix(CLASSES), ConcordanceCorrelation(3)
    for rows, counted in zip(torch.split(share, 5), torch.split(valid, 5), strict=True):
        class_prediction, class_truth = (values[rows] for values in emotions(N))
        confusion.update(class_prediction, class_truth, counted)
        prediction, truth = (values[rows] for values in dimensions(N))
        ccc.update(prediction, truth, counted)
    torch.save({"confusion": confusion.compute(), "ccc": ccc.compute()}, folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_result_of_one(tmp_path: Path) -> None:
    spawn(score_share, args=(tmp_path,), nprocs=2)  # type: ignore[no-untyped-call]
    results = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert torch.equal(results[0]["ccc"], results[1]["ccc"])
    for result in results:
        assert torch.equal(result["confusion"], metrics.confusion_matrix(*emotions(N), CLASSES))
        torch.testing.assert_close(result["ccc"], concordance(moments(*dimensions(N))), rtol=0, atol=1e-12)
