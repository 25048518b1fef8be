"""Calibration: the temperature, and the error before and after."""

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from experiments.calibration import calibrated, calibration_error, fit_temperature, temperature_of_rows


def logits(temperature: float, utterances: int = 4000) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits of a model that is too sure by a factor, and classes drawn as it should have said."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1.5, (utterances, 4))
    cumulative = softmax(true, axis=1).cumsum(axis=1)
    return true * temperature, (rng.random((utterances, 1)) > cumulative).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_that_of_another_search_and_near_the_truth(temperature: float) -> None:
    values, truth = logits(temperature)

    def loss(log: float) -> float:
        return -float(log_softmax(values / np.exp(log), axis=1)[np.arange(len(truth)), truth].mean())

    found = fit_temperature(softmax(values, axis=1), truth)
    assert found == pytest.approx(np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x), rel=1e-3)
    assert found == pytest.approx(temperature, rel=0.1)


def test_utterances_without_a_class_do_not_count() -> None:
    values, truth = logits(2.0, 300)
    probabilities = softmax(values, axis=1)
    more = np.concatenate([probabilities, np.full((50, 4), 0.25)]), np.concatenate([truth, np.full(50, -1)])
    assert fit_temperature(*more) == fit_temperature(probabilities, truth)
    assert calibration_error(*more) == calibration_error(probabilities, truth)


def test_a_temperature_stays_within_bounds_where_nothing_is_wrong_or_a_probability_is_zero() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    assert fit_temperature(sure * 0.2 + 0.4, np.array([0, 1])) == pytest.approx(0.05, rel=1e-3)
    assert fit_temperature(sure, np.array([1, 0])) == pytest.approx(20, rel=1e-3)
    assert np.isfinite(calibrated(sure, 3.0)).all()


def test_calibration_leaves_the_order_of_the_classes_and_at_one_all_as_it_is() -> None:
    probabilities = softmax(logits(2.0, 200)[0], axis=1)
    assert calibrated(probabilities, 1.0) == pytest.approx(probabilities)
    after = calibrated(probabilities, 1.7)
    assert (after.argsort(axis=1) == probabilities.argsort(axis=1)).all()
    assert after.sum(axis=1) == pytest.approx(1)


def test_the_error_is_the_gap_of_each_bin_weighted() -> None:
    # Two at 0.6, one of them right; two at 0.9, both right; one at exactly 1 and wrong.
    confidence = np.array([0.6, 0.6, 0.9, 0.9, 1.0])
    probabilities = np.stack([confidence, 1 - confidence], axis=1)
    truth = np.array([0, 1, 0, 0, 1])
    expected = (2 * abs(0.5 - 0.6) + 2 * abs(1 - 0.9) + 1 * abs(0 - 1)) / 5
    assert calibration_error(probabilities, truth) == pytest.approx(expected)


def test_calibration_lessens_the_error_of_a_model_that_is_too_sure() -> None:
    values, truth = logits(3.0)
    probabilities = softmax(values, axis=1)
    temperature = fit_temperature(probabilities[:2000], truth[:2000])
    before, after = (
        calibration_error(one[2000:], truth[2000:]) for one in (probabilities, calibrated(probabilities, temperature))
    )
    assert before > 0.1
    assert after < before / 3


def test_the_temperature_is_read_from_the_predictions_of_a_run(tmp_path: Path) -> None:
    values, truth = logits(2.0, 100)
    probabilities, classes = softmax(values, axis=1), ["a", "b", "c", "d"]
    with (tmp_path / "predictions.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["id", "truth", *(f"probability_{name}" for name in classes)])
        table.writerows([i, classes[truth[i]], *probabilities[i].tolist()] for i in range(100))
        table.writerow(["x", "", 0.25, 0.25, 0.25, 0.25])
    with (tmp_path / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert temperature_of_rows(rows, classes) == fit_temperature(probabilities, truth)
    assert temperature_of_rows(rows[-1:], classes) is None
    assert temperature_of_rows(rows, ["a", "e"]) is None
