"""openSMILE with a linear SVM: ``python -m experiments.study.baselines <experiment> features=<set> [key=value …]``."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path

from datamodules.errors import InputError
from experiments.commands import finish, own_settings
from experiments.config import Config, load
from experiments.hush import hush
from experiments.importing import importing

FEATURE_SETS = ("eGeMAPSv02", "ComParE_2016")
"""openSMILE's sets of functionals: 88 and 6373 of each utterance.

Eyben et al.: The Geneva Minimalistic Acoustic Parameter Set (GeMAPS) for Voice Research and Affective Computing, IEEE
Transactions on Affective Computing 7(2), 2016; Schuller et al.: The INTERSPEECH 2016 Computational Paralinguistics
Challenge, 2016.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains a baseline; returns 0, or 2 where the input cannot be used."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.study.baselines", description="openSMILE with a linear SVM."
    )
    parser.add_argument("experiment", help="name of an experiment, or a YAML file")
    parser.add_argument("settings", nargs="*", help="features=<set>, per_speaker=true, and any setting as key=value")
    given, rest = parser.parse_known_args(arguments)
    hush()

    def command() -> None:
        train_baseline(*_read(given.experiment, [*given.settings, *rest]))

    return finish(command)


def train_baseline(config: Config, features: str, per_speaker: bool) -> Path:
    """Trains a linear SVM on openSMILE's functionals, and writes a run folder as a training does.

    Sides, classes, labelled share and the speech that is heard of an utterance are those of every other system of the
    experiment. (On the development speakers of RAVDESS, functionals of the speech alone do better than those of whole
    recordings: eGeMAPSv02 has a UAR of 0.534 instead of 0.523, in the mean over folds.) Features are standardised with
    mean and deviation of the labelled training utterances. The complexity is chosen on the development speakers, and
    the test speakers are scored once.

    Args:
        config: What ``load`` reads.
        features: One of ``FEATURE_SETS``.
        per_speaker: Standardise each speaker's features with mean and deviation of all recordings of that speaker in
            the corpus, on all sides. No label is used, but to score an utterance takes other utterances of its
            speaker: the system is transductive, and cannot be compared with one that hears each utterance by itself.

    Returns:
        The run folder.

    Raises:
        InputError: There is no such feature set, openSMILE is not installed, or the configuration or the corpora
            cannot be used.
    """
    if features not in FEATURE_SETS:
        near = difflib.get_close_matches(features, FEATURE_SETS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"features: there is no set {features!r}", f"{hint}There are: {', '.join(FEATURE_SETS)}.")
    with importing():
        from experiments.study.functionals import import_opensmile

        import_opensmile()
        from experiments.study.svm import train
    return train(config, features, per_speaker)


def _read(experiment: str, settings: Sequence[str]) -> tuple[Config, str, bool]:
    own, others = own_settings(settings, {"features": "", "per_speaker": "false"})
    if not own["features"]:
        raise InputError("features is missing", f"Give features=<set>, one of: {', '.join(FEATURE_SETS)}.")
    config = load(experiment, others)
    if not config.trainer.test:
        raise InputError("a system on features is always tested, and trainer.test is false", "Leave it out.")
    if own["per_speaker"] not in ("true", "false"):
        raise InputError(f"per_speaker is {own['per_speaker']!r}", "Give true or false.")
    return config, own["features"], own["per_speaker"] == "true"


if __name__ == "__main__":
    sys.exit(main())
