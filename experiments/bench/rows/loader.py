"""`loader_ratio`: the data loader alone beside a bare loop of soundfile reads."""

import time
from typing import cast

import numpy as np
import soundfile

from datamodules.corpora import find_root, make_reader
from datamodules.settings import CorpusSettings
from experiments.bench.core import Bench, Measurement, Repeats, alternate, at_least, ratio, row

CORPUS = "librispeech"
CROP_SECONDS = 2.5
QUOTA = 39


@row(
    "loader_ratio",
    "utterances/s that the loader alone delivers (LibriSpeech, FLAC at 16 kHz: seek, decode, crop, collate), one "
    "worker ÷ a bare loop of soundfile reads of the same segments",
    at_least(0.85),
)
def loader_ratio(bench: Bench) -> Measurement:
    """Reads the same segments on both sides; the warm-up brings the files into memory."""
    from datamodules.datamodule import EpochLoader
    from experiments.bench.generated import SAMPLE_RATE, mixed

    root = find_root(make_reader(CORPUS, {}), None, str(bench.corpora(CORPUS)), made_in=bench.scratch)
    steps = bench.size(100, quick=3)
    data = mixed(
        bench, CORPUS, CorpusSettings(root=str(root)), QUOTA, "unlabelled", steps=steps, crop_s=CROP_SECONDS, workers=1
    )
    loader = cast(EpochLoader, data.train_dataloader())
    segments: list[tuple[str, float, float]] = []
    for step in range(steps):
        for draw in loader.quotas.batch(0, step):
            (span,) = data.collection.spans(data.pools[draw.pool].rows(np.array([draw.position])))
            spare = max(0.0, span.end - span.start - CROP_SECONDS)
            path = data.collection.manifests[span.corpus].root / span.path
            segments.append((str(path), span.start + draw.crop * spare, min(CROP_SECONDS, span.end - span.start)))

    def ours() -> float:
        loader.epoch = 0  # the same segments each time
        started = time.perf_counter()
        utterances = sum(len(batch) for batch in loader)
        return utterances / (time.perf_counter() - started)

    def bare() -> float:
        started = time.perf_counter()
        for path, start, duration in segments:
            with soundfile.SoundFile(path) as file:
                file.seek(round(start * SAMPLE_RATE))
                file.read(round(duration * SAMPLE_RATE), dtype="float32")
        return len(segments) / (time.perf_counter() - started)

    rates = alternate(ours, bare, bench.repeats)
    return Measurement(
        ratio(
            Repeats("train_dataloader, one worker", "utterances/s", rates[0]),
            Repeats("a loop of SoundFile, seek, read", "utterances/s", rates[1]),
        ),
        details={"segments": len(segments), "files": len({path for path, *_ in segments}), "batch": QUOTA + 1},
    )
