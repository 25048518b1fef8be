"""A small study and records of its runs, as if they had been made."""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import filterfalse

import numpy as np

from datamodules.vocabulary import DIMENSIONS
from experiments.config import load
from experiments.study.plan import CurvePlan, Run, Study, SystemPlan, runs
from experiments.study.record import Record, settings_hash

ACCURACY = {
    "full": 0.72,
    "single_task": 0.6,
    "autoencoder": 0.62,
    "egemaps_svm": 0.45,
    "egemaps_svm_per_speaker": 0.5,
}
"""Systems, by how often each is right."""

CLASSES = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")

CURVE = CurvePlan(label="labelled utterances in a batch", points=[{"data.quota": 8}, {"data.quota": 16}])

_PLANS = {
    "full": SystemPlan(label="full AAE"),
    "single_task": SystemPlan(label="single-task CNN", settings={"data.auxiliary": [], "model.decoder.weight": 0}),
    "autoencoder": SystemPlan(label="autoencoder", settings={"model.adversary.weight": 0}),
    "egemaps_svm": SystemPlan(label="eGeMAPSv02 + linear SVM", features="eGeMAPSv02"),
    "egemaps_svm_per_speaker": SystemPlan(
        label="eGeMAPSv02 + linear SVM", features="eGeMAPSv02", per_speaker="egemaps_svm"
    ),
}


def make_study(
    systems: Sequence[str] = tuple(ACCURACY),
    folds: int = 6,
    seeds: Sequence[int] = (0, 1, 2),
    experiments: Sequence[str] = ("ravdess_cat",),
    curve: bool = False,
) -> Study:
    """A study as ``read_study`` gives it; systems on features have one seed.

    Args:
        systems: Names, of ``ACCURACY``.
        folds: Number of folds.
        seeds: Of all systems that are trained.
        experiments: Names of experiments.
        curve: Runs the trained systems along ``CURVE``, and nowhere else.
    """
    plans = {}
    for name in systems:
        known = _PLANS[name]
        trained = not known.features
        plans[name] = SystemPlan(
            label=known.label,
            settings=dict(known.settings),
            features=known.features,
            per_speaker=known.per_speaker,
            seeds=None if trained else [0],
            curves=["quota"] if curve and trained else [],
        )
    return Study(
        name="made_up",
        title="A made-up study",
        experiments=list(experiments),
        folds=list(range(folds)),
        seeds=list(seeds),
        systems=plans,
        curves={"quota": CURVE} if curve else {},
    )


def make_records(
    study: Study | None = None,
    accuracy: Mapping[str, float] = ACCURACY,
    speakers_per_fold: int = 4,
    utterances: int = 6,
    classes: Sequence[str] = CLASSES,
    dimensions: bool = False,
    repeated: bool = False,
    rng_seed: int = 0,
) -> list[Record]:
    """Records of all runs of a study.

    Args:
        study: The study; left out, that of ``make_study``.
        accuracy: How often each system is right; that of all systems varies alike from speaker to speaker.
        speakers_per_fold: Test speakers of a fold.
        utterances: Of each speaker and class.
        classes: Names of the classes.
        dimensions: The three dimensions instead of classes.
        repeated: Every fold tests the same speakers, as from one corpus to another.
        rng_seed: Of the results.
    """
    generator = np.random.default_rng(rng_seed)
    ease: dict[str, float] = {}
    records = []
    for run in runs(study or make_study()):
        first = 0 if repeated else run.fold * speakers_per_fold
        speakers = [f"ravdess/{speaker + 1:02}" for speaker in range(first, first + speakers_per_fold)]
        skill = {
            one: np.clip(accuracy[run.system] + ease.setdefault(one, generator.normal(0, 0.08)), 0.05, 0.95)
            for one in speakers
        }
        confusion = (
            {} if dimensions else {one: _confusion(generator, skill[one], len(classes), utterances) for one in speakers}
        )
        moments = {one: _moments(generator, skill[one], utterances) for one in speakers} if dimensions else {}
        records.append(_record(run, classes, confusion, moments, generator))
    return records


def _record(
    run: Run,
    classes: Sequence[str],
    confusion: dict[str, list[list[int]]],
    moments: dict[str, dict[str, list[float]]],
    generator: np.random.Generator,
) -> Record:
    trained = not run.plan.features
    return Record(
        study=run.study,
        experiment=run.experiment,
        system=run.system,
        fold=run.fold,
        seed=run.seed,
        point=run.point,
        commit="0414629c5a1d1f0b8a3a4f1a2b3c4d5e6f708192",
        settings=_hash(run.experiment, tuple(filterfalse(_numbering, run.settings)), tuple(run.plan.arguments)),
        device="cpu",
        parameters=800_000 if trained else 704,
        best_epoch=int(generator.integers(20, 60)) if trained else None,
        train_seconds=round(float(generator.uniform(220, 260)) if trained else 3.0, 1),
        labelled=960,
        development=round(float(generator.uniform(0.5, 0.7)), 4),
        labels=list(classes) if confusion else [],
        confusion_by_speaker=confusion,
        moments_by_speaker=moments,
    )


def _numbering(setting: str) -> bool:
    return setting.startswith(("split.fold=", "seed="))


@cache
def _hash(experiment: str, settings: tuple[str, ...], features: tuple[str, ...]) -> str:
    return settings_hash(load(experiment, settings), features)


def _confusion(generator: np.random.Generator, skill: float, classes: int, utterances: int) -> list[list[int]]:
    """Of one speaker: each class is right with the probability that ``skill`` says, and else any other."""
    chances = np.full((classes, classes), (1 - skill) / (classes - 1))
    np.fill_diagonal(chances, skill)
    return [generator.multinomial(utterances, row).tolist() for row in chances]


def _moments(generator: np.random.Generator, skill: float, utterances: int) -> dict[str, list[float]]:
    found = {}
    for dimension in DIMENSIONS:
        truth = generator.uniform(size=utterances)
        prediction = skill * truth + (1 - skill) * generator.uniform(size=utterances)
        dx, dy = truth - truth.mean(), prediction - prediction.mean()
        sums = map(float, (dx @ dx, dy @ dy, dx @ dy))
        found[dimension] = [float(utterances), float(truth.mean()), float(prediction.mean()), *sums]
    return found
