"""`real_time_factor`: predictions from recordings on one core, beside openSMILE with a linear SVM."""

import importlib.util
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from experiments.bench.core import Bench, Measurement, Repeats, SkippedError, at_most, ratio, row
from experiments.config import load
from experiments.study.baselines import FEATURE_SETS

if TYPE_CHECKING:
    from datamodules.speech import Floats
    from experiments.predict.recogniser import Recogniser

EXPERIMENT = "ravdess_cat"
UNIT = "s of computing for 1 s of sound"
BATCH = 16
RANDOM = 400
"""Utterances of no meaning that SVM and novelty are made of: what they say is not looked at."""


@row(
    "real_time_factor",
    "time that `predict` takes for recordings of RAVDESS, one at a time, on one core ÷ that of the quicker of "
    "openSMILE's eGeMAPSv02 and ComParE_2016 with a linear SVM",
    at_most(1),
)
def real_time_factor(bench: Bench) -> Measurement:
    """Everyone goes from the same files to probabilities in turn; models are in memory before."""
    if importlib.util.find_spec("opensmile") is None:
        raise SkippedError("needs opensmile: pip install -e '.[baselines]'")
    import torch

    from datamodules.corpora import find_root, make_reader
    from experiments.predict.inputs import Stretch, find, read, stretches

    folder = find_root(make_reader("ravdess", {}), None, str(bench.corpora("ravdess")), made_in=bench.scratch)
    if hasattr(os, "sched_setaffinity"):  # this process is the row's own
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    _, every = find(folder)
    some = every[:: max(1, len(every) // bench.size(60, quick=3))]
    wanted = [one for of_file in stretches(folder, some, np.inf, np.inf) for one in of_file]
    seconds = sum((one.end or 0) - one.start for one in wanted)
    recogniser = _recogniser(bench)
    rate = recogniser.sample_rate

    def ours(batch: int) -> Callable[[], object]:
        return lambda: list(recogniser.rows(wanted, batch))

    def theirs(features: str) -> Callable[[], object]:
        system = _Functionals(features, rate, len(recogniser.emotions))

        def of(one: Stretch) -> object:
            speech = read(one, rate)
            return None if isinstance(speech, str) else system.predict(speech)

        return lambda: [of(one) for one in wanted]

    sides = {"one at a time": ours(1), f"batches of {BATCH}": ours(BATCH)}
    sides |= {f"{features} and SVM": theirs(features) for features in FEATURE_SETS}
    values: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(1 + bench.repeats):
        for name, side in sides.items():
            started = time.perf_counter()
            side()
            if turn:
                values[name].append((time.perf_counter() - started) / seconds)
    one, batched, *others = (Repeats(name, UNIT, found) for name, found in values.items())
    quicker = min(others, key=lambda side: side.median)
    return Measurement(
        ratio(one, quicker),
        also={"batched": ratio(batched, quicker)} | {f"beside {other.what}": ratio(one, other) for other in others},
        details={"recordings": len(wanted), "seconds": seconds, "included": "decoding, trimming, resampling, novelty"},
    )


def _recogniser(bench: Bench) -> "Recogniser":
    """A recogniser with weights as they are before training, which take as long."""
    import torch

    from experiments.export.reading import build, for_inference
    from experiments.novelty import fit
    from experiments.predict.model import Model
    from experiments.predict.recogniser import Recogniser

    config = load(EXPERIMENT, bench.settings)
    settings = for_inference(config.model)
    module = build(settings, list(config.data.classes)).eval()
    labels = module.labels
    rng = np.random.default_rng(0)
    code = rng.normal(size=(RANDOM, sum(settings.code.values())))
    novelty = fit(code, rng.integers(0, len(labels.emotions), RANDOM), code)
    return Recogniser(Model(settings, labels, module, "", (), 1.5, novelty), torch.device("cpu"))


class _Functionals:
    """openSMILE's functionals, standardised, and the study's linear SVM."""

    def __init__(self, features: str, rate: int, classes: int) -> None:
        from sklearn.preprocessing import StandardScaler

        from experiments.study.functionals import import_opensmile
        from experiments.study.svm import Side, fit_emotion

        opensmile = import_opensmile()
        self.rate = rate
        self.smile = opensmile.Smile(opensmile.FeatureSet[features], opensmile.FeatureLevel.Functionals)
        rng = np.random.default_rng(0)
        values = rng.normal(size=(RANDOM, self.smile.num_features))
        self.scaler = StandardScaler().fit(values)
        emotion = rng.integers(0, classes, RANDOM)
        self.head = fit_emotion(Side(np.arange(RANDOM), values, {"emotion": emotion}), 1 / values.shape[1], 0)

    def predict(self, speech: "Floats") -> object:
        functionals = self.smile(speech, self.rate).reshape(1, -1).astype(np.float64)
        return self.head.predict(self.scaler.transform(functionals))
