"""How far a model's probabilities can be believed: a temperature from development data, and the calibration error."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from callbacks.evaluation import Predictions

BINS = 15
DEFINITION = (
    "expected calibration error: |accuracy − mean probability| of the likeliest class, in 15 bins of equal width, "
    "weighted by their utterances"
)
_SHARPEST, _FLATTEST = 0.05, 20.0
"""Temperatures between which one is looked for: of data that the model makes no mistake on, none is sharp enough."""
_HALVINGS = 60
_LEAST = 1e-12
"""What float32 rounds to 0 has a logarithm, too."""

Floats = NDArray[np.floating[Any]]
Integers = NDArray[np.int64]


def calibrated(probabilities: Floats, temperature: float) -> Floats:
    """Probabilities whose logarithms are divided by a temperature, (N, K).

    Where an utterance is a single window these are its logits; of several windows, it is their mean that is calibrated.
    """
    scaled = np.log(np.maximum(np.asarray(probabilities, np.float64), _LEAST)) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def fit_temperature(probabilities: Floats, truth: Integers) -> float:
    """The temperature with the least negative log-likelihood (Guo et al., "On Calibration of Modern Neural Networks").

    The loss is convex in the temperature's inverse: where its slope changes sign is found by halving.

    Args:
        probabilities: Of development utterances, (N, K).
        truth: Index of the true class, (N,), -1 where it is not known; one at least is.

    Returns:
        Between 0.05 and 20.
    """
    known = truth >= 0
    logs = np.log(np.maximum(np.asarray(probabilities[known], np.float64), _LEAST))
    of_truth = logs[np.arange(len(logs)), truth[known]].mean()
    low, high = np.log(1 / _FLATTEST), np.log(1 / _SHARPEST)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        expected = (calibrated(probabilities[known], float(np.exp(-middle))) * logs).sum(axis=1).mean()
        low, high = (middle, high) if expected < of_truth else (low, middle)
    return float(np.exp(-(low + high) / 2))


def calibration_error(probabilities: Floats, truth: Integers, bins: int = BINS) -> float:
    r"""Expected calibration error of the likeliest class.

    $\sum_b \frac{n_b}{N} |\mathrm{accuracy}_b - \mathrm{confidence}_b|$ over bins of equal width, of which each takes
    in its upper end (Naeini, Cooper, Hauskrecht, AAAI 2015; Guo et al., ICML 2017).

    Args:
        probabilities: (N, K).
        truth: Index of the true class, (N,), -1 where it is not known.
        bins: Their number.
    """
    known = truth >= 0
    chosen, truth = np.asarray(probabilities[known], np.float64), truth[known]
    confidence, right = chosen.max(axis=1), chosen.argmax(axis=1) == truth
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(truth))


def calibration(predictions: Mapping[str, Predictions]) -> dict[str, Any] | None:
    """What ``results.json`` says of a run's calibration.

    Args:
        predictions: By split, ``dev`` among them, which the temperature is fitted on.

    Returns:
        ``temperature``, ``definition``, and of each split the error ``before`` and ``after``; none without a head for
        emotion, or without labels for it.
    """
    development = predictions["dev"]
    if development.probabilities is None or not (development.emotion_truth >= 0).any():
        return None
    temperature = fit_temperature(development.probabilities, development.emotion_truth)
    errors = {
        split: {
            "before": calibration_error(one.probabilities, one.emotion_truth),
            "after": calibration_error(calibrated(one.probabilities, temperature), one.emotion_truth),
        }
        for split, one in predictions.items()
        if one.probabilities is not None and (one.emotion_truth >= 0).any()
    }
    return {"temperature": temperature, "definition": DEFINITION, **errors}


def temperature_of_rows(rows: Sequence[Mapping[str, str]], classes: Sequence[str]) -> float | None:
    """The temperature from the rows of ``predictions_dev.csv``; none where these hold no truth or no probabilities.

    Raises:
        ValueError: A probability is no number.
    """
    known = [row for row in rows if row.get("truth") in classes]
    if not known or any(f"probability_{name}" not in known[0] for name in classes):
        return None
    probabilities = np.array([[float(row[f"probability_{name}"]) for name in classes] for row in known])
    return fit_temperature(probabilities, np.array([classes.index(row["truth"]) for row in known], np.int64))
