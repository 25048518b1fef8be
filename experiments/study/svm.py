"""A linear SVM on openSMILE's functionals: from the corpora of an experiment to a run folder."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

from callbacks.evaluation import Predictions, score_by_corpus, score_predictions, write_predictions
from callbacks.summary import print_summary
from datamodules.datamodule import SpeechDataModule
from datamodules.errors import InputError
from datamodules.manifest import Manifest
from datamodules.pool import Pool
from datamodules.vocabulary import DIMENSIONS
from experiments.config import Config, save
from experiments.files import make_folder, write_json
from experiments.records import environment
from experiments.run import make_data
from experiments.study.functionals import Functionals, functionals, import_opensmile

COMPLEXITIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Weights of the errors against the norm of the weights, times the number of features.

The squared norm of an utterance, with which the errors' effect grows, is about that number, since each feature has
variance 1: on this scale sets of different sizes have their best complexity in the same range.
"""

_MOST_ITERATIONS = 100_000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Side:
    """The N utterances of one side of the split that have functionals.

    Attributes:
        rows: Of the collection, (N,).
        features: (N, features).
        labels: As of ``Pool.labels``.
    """

    rows: NDArray[np.int64]
    features: Array
    labels: dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Head:
    """What an SVM, or several, say of utterances.

    Attributes:
        predict: From (N, features) to probabilities of the classes (N, K), or to dimensions (N, 3).
        svms: Their number.
    """

    predict: Callable[[Array], NDArray[np.float32]]
    svms: int


def train(config: Config, features: str, per_speaker: bool) -> Path:
    """Trains on training speakers, chooses the complexity on development speakers, scores test speakers once.

    See ``experiments.study.baselines.train_baseline``, which checks the arguments.
    """
    data = make_data(config)
    name = config.run or f"{datetime.now():%Y%m%d-%H%M%S}-{features}-fold{config.split.fold}-seed{config.seed}"
    folder = Path(config.output, config.experiment, name)
    make_folder(folder)
    save(config, folder / "config.yaml")
    write_json(folder / "data_report.json", data.report)
    versions = {"opensmile": import_opensmile().__version__, "scikit-learn": sklearn.__version__}
    about = environment(data.collection)
    write_json(folder / "environment.json", about | {"packages": about["packages"] | versions})

    corpora = _functionals(config, data, features)
    sides, faults = _sides(data, corpora, per_speaker)
    count = sides["train"].features.shape[1]
    complexities = [relative / count for relative in COMPLEXITIES]
    started = time.monotonic()
    sides = _rotated(sides)
    found = {
        task: _search(fit, task, sides, data.labels.emotions, complexities, config.seed)
        for task, fit in HEADS.items()
        if task in config.model.tasks
    }
    train_seconds = time.monotonic() - started

    classes = data.labels.emotions
    heads = {task: head for task, (_, head) in found.items()}
    chosen = {task: complexity for task, (complexity, _) in found.items()}
    scales = {one.corpus: {name: one.scale(name) for name in DIMENSIONS} for one in data.collection.manifests}
    scores = {}
    for split in ("dev", "test"):
        predictions = _predict(heads, sides[split])
        write_predictions(folder / f"predictions_{split}.csv", predictions, data.collection.lookup, classes)
        by_corpus = score_by_corpus(predictions, classes, scales)
        scores[split] = score_predictions(predictions, classes) | {"corpora": by_corpus}
    results = {
        "experiment": config.experiment,
        "seed": config.seed,
        "fold": config.split.fold,
        "synthetic": data.synthetic,
        "best_epoch": None,
        "parameters": sum(head.svms for head in heads.values()) * (count + 1),
        "labelled": len(data.pools[0]),
        "device": "cpu",
        "train_seconds": train_seconds,
        "unreadable_files": faults,
        "baseline": {"features": features, "per_speaker": per_speaker, "complexity": chosen},
        **scores,
    }
    # The last of the files: where it is, the run is complete.
    write_json(folder / "results.json", results)
    print_summary(results, data.report)
    print(folder, flush=True)
    return folder


def _functionals(config: Config, data: SpeechDataModule, features: str) -> dict[int, Functionals]:
    """The functionals of the corpora that are split, by their index in the collection."""
    rate = data.sample_rate
    found = {}
    for corpus in dict.fromkeys([*config.data.labelled, *config.split.test_corpora]):
        index = data.collection.corpora.index(corpus)
        manifest = data.collection.manifests[index]
        source = data.gathering.source(manifest, rate, decode=False)
        found[index] = functionals(manifest, source, features, rate, Path(config.data.cache))
        if len(found[index].faults) > config.data.max_bad_fraction * len(manifest):
            raise InputError(
                f"{len(found[index].faults)} of {len(manifest)} utterances of {corpus} have no functionals, the first: "
                f"{next(iter(found[index].faults.values()))}",
                "Repair or remove the files, or raise data.max_bad_fraction.",
            )
    return found


def _sides(
    data: SpeechDataModule, corpora: dict[int, Functionals], per_speaker: bool
) -> tuple[dict[str, Side], list[str]]:
    """Standardised features of each side, and what is wrong with utterances that have none."""
    pools = {"train": data.pools[0], "dev": data.development_pool, "test": data.test_pool}
    sides, faults = {}, []
    for name, pool in pools.items():
        sides[name] = _side(data, corpora, pool, per_speaker)
        for index, _, local in data.collection.by_manifest(pool.rows(np.arange(len(pool)))):
            faults += [fault for row, fault in corpora[index].faults.items() if row in local]
    if not per_speaker:
        scaler = StandardScaler(copy=False).fit(sides["train"].features)
        for side in sides.values():
            scaler.transform(side.features)
    return sides, faults


def _side(data: SpeechDataModule, corpora: dict[int, Functionals], pool: Pool, per_speaker: bool) -> Side:
    rows = pool.rows(np.arange(len(pool)))
    count = next(iter(corpora.values())).values.shape[1]
    features = np.empty((len(rows), count))
    for index, places, local in data.collection.by_manifest(rows):
        values = corpora[index].values
        standardised = _by_speaker(data.collection.manifests[index], values, local) if per_speaker else values[local]
        features[places] = standardised
    there = np.flatnonzero(np.isfinite(features).all(axis=1))
    return Side(rows[there], features[there], pool.labels(there))


def _by_speaker(manifest: Manifest, values: NDArray[np.float32], rows: NDArray[np.int64]) -> Array:
    """Rows of a corpus in standard deviations from the mean of all recordings of their speaker."""
    codes, _ = manifest.codes("speaker")
    if (codes[rows] < 0).any():
        raise InputError(
            f"per_speaker: {(codes[rows] < 0).sum()} utterances of {manifest.corpus} have no speaker",
            "Give split.unknown_speakers=leave_out, or per_speaker=false.",
        )
    standardised = np.empty((len(rows), values.shape[1]))
    for code in np.unique(codes[rows]):
        own = codes[rows] == code
        scaler = StandardScaler().fit(values[codes == code].astype(np.float64))
        standardised[own] = scaler.transform(values[rows[own]].astype(np.float64))
    return standardised


def _rotated(sides: dict[str, Side]) -> dict[str, Side]:
    """Features in the space that training utterances span: where these are fewer than features, that is quicker.

    The weights of an SVM are a sum of training utterances, and a rotation changes no scalar product: so the SVM is the
    same. Source: Schölkopf, Herbrich, Smola: A Generalized Representer Theorem, COLT 2001.
    """
    training = sides["train"].features
    if len(training) >= training.shape[1]:
        return sides
    basis = np.linalg.qr(training.T).Q
    return {name: replace(side, features=side.features @ basis) for name, side in sides.items()}


def _search(
    fit: Callable[[Side, float, int], Head],
    task: str,
    sides: dict[str, Side],
    classes: Sequence[str],
    complexities: Sequence[float],
    seed: int,
) -> tuple[float, Head]:
    """The complexity with the best development score, the smallest of several, and the head that has it."""

    def development(head: Head) -> float:
        scores = score_predictions(_predict({task: head}, sides["dev"]), classes)
        if "uar" in scores:
            return float(scores["uar"])
        if "ccc" in scores:
            return float(np.mean([value for value in scores["ccc"].values() if value is not None]))
        raise InputError(
            f"no development utterance has a label that the head {task} learns",
            "Choose another split, or switch the head off: its weight is 0 then.",
        )

    heads = {complexity: fit(sides["train"], complexity, seed) for complexity in complexities}
    best = max(heads, key=lambda complexity: development(heads[complexity]))
    return best, heads[best]


def fit_emotion(side: Side, complexity: float, seed: int) -> Head:
    r"""A linear SVM for each class against the others.

    It minimises $\frac{1}{2} \|w\|^2 + C \sum_i c_i \max(0, 1 - y_i w^T x_i)^2$, where $c_i$ is 1 for the others and $N
    / (K N_k)$ for the $N_k$ of all $N$ utterances that have the class: the score, UAR, counts all K classes alike.
    Source: Fan et al.: LIBLINEAR: A Library for Large Linear Classification, Journal of Machine Learning Research 9,
    2008.

    Args:
        side: Training utterances, of which those with a class count.
        complexity: $C$.
        seed: Of the order in which the solver goes through utterances.
    """
    known = side.labels["emotion"] >= 0
    # The quicker problem is the smaller one; rotated features are as many as utterances.
    dual = known.sum() <= side.features.shape[1]
    svm = LinearSVC(C=complexity, class_weight="balanced", dual=dual, max_iter=_MOST_ITERATIONS, random_state=seed)
    svm.fit(side.features[known], side.labels["emotion"][known])

    def predict(features: Array) -> NDArray[np.float32]:
        decision = svm.decision_function(features)
        if decision.ndim == 1:  # of two classes there is one SVM
            decision = np.stack([-decision, decision], axis=1)
        # Not calibrated: they put the classes in the order of the decision values, which is all that is scored.
        return np.asarray(softmax(decision, axis=1), np.float32)

    return Head(predict, len(svm.coef_))


def fit_dimensions(side: Side, complexity: float, seed: int) -> Head:
    r"""A linear support vector regression for each dimension, with squared errors.

    It minimises $\frac{1}{2} \|w\|^2 + C \sum_i (y_i - \bar{y} - w^T x_i)^2$. Source: Ho, Lin: Large-scale Linear
    Support Vector Regression, Journal of Machine Learning Research 13, 2012, with $\epsilon = 0$.

    Args:
        side: Training utterances, of which those that are rated in a dimension count for it; what is never rated is
            predicted as 0.5, the middle of the scale.
        complexity: $C$.
        seed: Of the order in which the solver goes through utterances.
    """
    svms = {}
    for column, truth in enumerate(side.labels["dimensions"].T.astype(np.float64)):
        known = np.isfinite(truth)
        if known.any():
            svr = LinearSVR(
                C=complexity,
                loss="squared_epsilon_insensitive",
                max_iter=_MOST_ITERATIONS,
                random_state=seed,
            )
            # The solver shrinks the bias as it does the weights: without the mean there is little of it to shrink.
            svms[column] = TransformedTargetRegressor(svr, transformer=StandardScaler(with_std=False))
            svms[column].fit(side.features[known], truth[known])

    def predict(features: Array) -> NDArray[np.float32]:
        predicted = np.full((len(features), len(DIMENSIONS)), 0.5, np.float32)
        for column, svm in svms.items():
            predicted[:, column] = svm.predict(features)
        return predicted

    return Head(predict, len(svms))


HEADS = {"emotion": fit_emotion, "dimensions": fit_dimensions}


def _predict(heads: Mapping[str, Head], side: Side) -> Predictions:
    predicted = {task: head.predict(side.features) for task, head in heads.items()}
    return Predictions(
        row=side.rows,
        corpus=side.labels["corpus"],
        speaker=side.labels["speaker"],
        gender=side.labels["gender"],
        code=np.empty((len(side.rows), 0), np.float32),
        emotion_truth=side.labels["emotion"].astype(np.int64),
        dimensions_truth=side.labels["dimensions"].astype(np.float32),
        probabilities=predicted.get("emotion"),
        dimensions=predicted.get("dimensions"),
    )
