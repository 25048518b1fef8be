"""A model that is called with speech: with samples, with files, and by audinterface."""

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.audit import SAMPLE_RATES
from datamodules.errors import InputError
from datamodules.processes import available_cores
from datamodules.speech import Floats
from datamodules.vocabulary import DIMENSIONS
from experiments.calibration import calibrated
from experiments.predict.inputs import Stretch, read, speech_of, stretches
from experiments.predict.model import Model

WINDOW_S = 30.0
BATCH = 16
_BATCHES_AHEAD = 4
"""Read at once: the more, the more alike in length are those of a batch."""
_MOST_THREADS = 8


@dataclass(frozen=True)
class Recognition:
    """What a model says of an utterance.

    Attributes:
        probabilities: Of each emotion; empty without that head.
        dimensions: Activation, valence and dominance from 0 to 1, upwards, as far as the training rated them.
        novelty: The share of the development utterances that are nearer to what the model was trained on, 0 to 1; NaN
            where the model cannot tell.
        code: Latent code z, (Z,) float32.
    """

    probabilities: dict[str, float]
    dimensions: dict[str, float]
    novelty: float
    code: NDArray[np.float32]

    @property
    def emotion(self) -> str | None:
        """The likeliest emotion."""
        return max(self.probabilities, key=self.probabilities.__getitem__) if self.probabilities else None


@dataclass(frozen=True)
class Row:
    """A recording, or a window of a long one.

    Attributes:
        file: Its name.
        start: In seconds in the file.
        end: Likewise; None where the file cannot be read.
        found: What the model says; none where it cannot.
        error: Why not; else empty.
    """

    file: str
    start: float
    end: float | None
    found: Recognition | None
    error: str = ""


class Recogniser:
    """Applies a model to speech; whole utterances are scored as evaluation scores them.

    Args:
        model: What ``read_model`` read.
        device: Where to compute.

    Attributes:
        names: Of what is told of each utterance: ``probability_<class>``, dimensions, ``novelty``.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        self.model = model
        self.device = device
        self.module = model.module.to(device)
        self.sample_rate = model.settings.features.sample_rate
        tasks = {head.task.prediction for _, head in self.module._heads()}
        self.emotions = model.labels.emotions if "emotion" in tasks else ()
        self.dimensions = model.dimensions if "dimensions" in tasks else ()
        self.names = [*(f"probability_{name}" for name in self.emotions), *self.dimensions, "novelty"]

    def __call__(self, samples: NDArray[Any], rate: int) -> Recognition:
        """Recognises an utterance, without the silence around it.

        Args:
            samples: (samples,) or (channels, samples), floats in [-1, 1] or 16-bit integers.
            rate: In Hz.

        Raises:
            InputError: There is no speech in them, or the rate is none.
        """
        (found,) = self.score([self._speech(samples, rate)])
        if isinstance(found, str):
            raise InputError(found, "Give other samples.")
        return found

    def process(self, signal: NDArray[Any], sampling_rate: int) -> NDArray[np.float32]:
        """The same for ``audinterface``: as ``process_func``, with ``feature_names=recogniser.names``.

        Returns:
            (names,), float32; NaN where there is no speech.
        """
        try:
            return self.numbers(self(signal, sampling_rate))
        except InputError:
            return np.full(len(self.names), np.nan, np.float32)

    def numbers(self, found: Recognition) -> NDArray[np.float32]:
        """What is told of an utterance in the order of ``names``."""
        return np.array([*found.probabilities.values(), *found.dimensions.values(), found.novelty], np.float32)

    def files(
        self,
        paths: str | Path | Iterable[str | Path],
        *,
        window_s: float = WINDOW_S,
        hop_s: float | None = None,
        batch: int = BATCH,
    ) -> Iterator[Row]:
        """Recognises files in any format that libsndfile reads; a bad one gets its row, with the reason.

        Args:
            paths: The files, one or many.
            window_s: What is longer is cut into windows of this length, in seconds.
            hop_s: From the beginning of a window to that of the next one; half a window by itself.
            batch: Utterances that are scored at once.
        """
        some = [paths] if isinstance(paths, str | Path) else paths
        segments = ((os.fspath(path), 0.0, None) for path in some)
        found = stretches(Path(), segments, window_s, hop_s or window_s / 2)
        for rows in self.rows((one for of_file in found for one in of_file), batch):
            yield from rows

    def index(self, index: Any, root: str | Path = ".", batch: int = BATCH) -> Any:
        """Recognises the segments of an audformat table.

        Args:
            index: ``pandas.MultiIndex`` of ``file``, ``start`` and ``end``, or index of files; each is one utterance.
            root: The folder that files are relative to.
            batch: Utterances that are scored at once.

        Returns:
            ``pandas.DataFrame`` with that index and a column for each of ``names``; NaN where a file is bad.
        """
        import pandas as pd

        def seconds(time: Any) -> float | None:
            return None if pd.isna(time) else time.total_seconds()

        whole = (pd.Timedelta(0), pd.NaT)
        keys = ((one if isinstance(one, tuple) else (one, *whole)) for one in index)
        segments = ((file, seconds(start) or 0.0, seconds(end)) for file, start, end in keys)
        found = (one for (one,) in stretches(Path(root), segments, math.inf, math.inf))
        bad = np.full(len(self.names), np.nan, np.float32)
        numbers = [
            bad if row.found is None else self.numbers(row.found) for rows in self.rows(found, batch) for row in rows
        ]
        return pd.DataFrame(np.reshape(numbers, (len(index), len(self.names))), index, self.names)

    def rows(self, wanted: Iterable[Stretch], batch: int = BATCH) -> Iterator[list[Row]]:
        """Recognises stretches of files, some batches at a time, in their order; reads ahead meanwhile."""
        wanted = iter(wanted)
        with ThreadPoolExecutor(min(_MOST_THREADS, available_cores())) as threads, ThreadPoolExecutor(1) as one_by_one:

            def begin() -> tuple[list[Stretch], list[Future[Floats | str]]]:
                some = list(islice(wanted, batch * _BATCHES_AHEAD))
                # Windows are read in their order, by one thread.
                return some, [
                    (threads if one.recording is None else one_by_one).submit(read, one, self.sample_rate)
                    for one in some
                ]

            some, reading = begin()
            while some:
                ahead = begin()
                yield self._rows(some, [one.result() for one in reading], batch)
                some, reading = ahead

    def _rows(self, some: list[Stretch], speech: list[Floats | str], batch: int) -> list[Row]:
        found: list[Recognition | str] = [one if isinstance(one, str) else "" for one in speech]
        there = [place for place, one in enumerate(speech) if not isinstance(one, str)]
        there.sort(key=lambda place: len(speech[place]))  # little is padded where neighbours are of a length
        for places in self._batches(there, [len(one) for one in speech], batch):
            scored = self.score([one for place in places if not isinstance(one := speech[place], str)])
            for place, result in zip(places, scored, strict=True):
                found[place] = result
        return [
            Row(one.file, one.start, one.end, None, result)
            if isinstance(result, str)
            else Row(one.file, one.start, one.end, result)
            for one, result in zip(some, found, strict=True)
        ]

    def _batches(self, places: list[int], lengths: list[int], most: int) -> Iterator[list[int]]:
        """So many of the places at once, and of long utterances fewer: no more sound than of so many windows."""
        limit = most * self.model.settings.window_s * self.sample_rate
        some: list[int] = []
        for place in places:
            if some and (len(some) == most or (len(some) + 1) * lengths[place] > limit):
                yield some
                some = []
            some.append(place)
        if some:
            yield some

    @torch.inference_mode()
    def score(self, speech: Sequence[Floats]) -> list[Recognition | str]:
        """Scores whole utterances together.

        Args:
            speech: Each (samples,), mono, at ``sample_rate``.

        Returns:
            What the model says of each, or why nothing.
        """
        length = torch.tensor([len(one) for one in speech])
        waveform = torch.zeros(len(speech), int(length.max()))
        for row, one in zip(waveform.numpy(), speech, strict=True):
            row[: len(one)] = one
        outputs = self.module(waveform.to(self.device), length.to(self.device))
        values = {name: value.float().cpu().numpy() for name, value in outputs.items()}
        finite = np.all([np.isfinite(value).all(axis=1) for value in values.values()], axis=0)
        novelty = np.full(len(speech), np.nan)
        if self.model.novelty is not None:
            novelty = self.model.novelty.score(np.nan_to_num(values["code"]))
        if self.emotions and self.model.temperature != 1:
            values["emotion"] = calibrated(values["emotion"], self.model.temperature)
        none = np.empty((len(speech), 0))
        found: list[Recognition | str] = []
        for place in range(len(speech)):
            if not finite[place]:
                found.append("the model computes no finite numbers from it")
                continue
            probabilities = values["emotion"][place] if self.emotions else none[place]
            dimensions = dict(zip(DIMENSIONS, values.get("dimensions", none)[place].tolist(), strict=False))
            found.append(
                Recognition(
                    dict(zip(self.emotions, probabilities.tolist(), strict=True)),
                    {name: dimensions[name] for name in self.dimensions},
                    float(novelty[place]),
                    values["code"][place],
                )
            )
        return found

    def _speech(self, samples: NDArray[Any], rate: int) -> Floats:
        given = np.asarray(samples)
        if given.dtype == np.int16:
            given = given / np.float32(32768)
        if given.ndim > 2 or given.size == 0 or given.dtype.kind != "f":
            raise InputError(
                f"samples are {given.dtype}, {given.shape}", "Give floats (samples,) or (channels, samples)."
            )
        if not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1] or rate != int(rate):
            raise InputError(f"a sample rate of {rate} Hz", f"Give one from {SAMPLE_RATES[0]} to {SAMPLE_RATES[1]}.")
        mono: Floats = np.atleast_2d(given).mean(axis=0, dtype=np.float32)
        try:
            return speech_of(mono, int(rate), self.sample_rate)
        except ValueError as error:
            raise InputError(str(error), "Give other samples.") from error
