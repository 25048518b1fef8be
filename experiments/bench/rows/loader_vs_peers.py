"""`loader_vs_peers`: the data loader beside those that users have otherwise."""

import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile

from datamodules.sampler import Draw, QuotaBatchSampler
from experiments.bench.core import Bench, Measurement, Repeats, at_least, ratio, row
from experiments.bench.environments import peer_python
from experiments.bench.peer import Contender, Peer, best
from experiments.config import load

if TYPE_CHECKING:
    from datamodules.datamodule import SpeechDataModule

BATCH = 40
UNIT = "utterances/s"
POOL = 1
"""LibriSpeech's in `ravdess_cat`."""

Segment = tuple[str, float, float]
"""File, start and duration in seconds."""


@row(
    "loader_vs_peers",
    "utterances/s that the loader alone delivers (LibriSpeech, FLAC at 16 kHz, crops), one worker, default settings ÷ "
    "the best of a plain PyTorch Dataset, lhotse, SpeechBrain's and autrainer's with the same segments",
    at_least(1.2),
)
def loader_vs_peers(bench: Bench) -> Measurement:
    """Everyone reads the same segments in turn; the warm-up brings the files into memory."""
    steps = bench.size(100, quick=3)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=bench.scratch)))
        data = _data(bench, [])
        segments, batches = same_segments(data, steps)
        sides = {
            "train_dataloader's dataset, default settings: decoded once": _ours(data, batches),
            "the same, data.decoded_gb=0: seeking in the files": _ours(_data(bench, ["data.decoded_gb=0"]), batches),
        }
        values: dict[str, list[float]] = {name: [] for name in sides}
        contenders = start(bench, segments, data.sample_rate, folder)
        for one in contenders:
            stack.callback(one.close)
        for turn in range(1 + bench.repeats):
            for name, side in sides.items():
                value = side()
                if turn:
                    values[name].append(value)
            for one in contenders:
                one.turn(counts=turn > 0)
        counterpart = best(contenders, UNIT, largest=True)
        default, seeking = (Repeats(name, UNIT, found) for name, found in values.items())
        return Measurement(
            ratio(default, counterpart),
            also={"seeking": ratio(seeking, counterpart)},
            details={
                "peers": {one.name: one.record(UNIT) for one in contenders},
                "segments": len(segments),
                "files": len({file for file, _, _ in segments}),
                "batch": BATCH,
                "autrainer_reads": "whole files: the segments as FLAC files of their own",
            },
        )


def start(bench: Bench, segments: list[Segment], sample_rate: int, folder: Path) -> list[Contender]:
    """Starts the peers' processes, each in its own environment."""
    job: dict[str, Any] = {
        "task": "loader",
        "segments": segments,
        "sample_rate": sample_rate,
        "batch": BATCH,
        "workers": 1,
    }

    def plain(variant: str) -> Callable[[], Peer]:
        return lambda: Peer(sys.executable, "plain", {**job, "variant": variant}, folder)

    def installed(peer: str, job: dict[str, Any]) -> Callable[[], Peer]:
        return lambda: Peer(peer_python(peer, bench), peer, job, folder)

    cut = {**job, "segments": [], "folder": str(folder), "files": _cut(segments, folder / "default")}
    return [
        Contender("plain Dataset, soundfile.read(start, stop)", plain("seek")),
        Contender("plain Dataset, soundfile.read and crop", plain("whole")),
        Contender("lhotse", installed("lhotse", job)),
        Contender("SpeechBrain", installed("speechbrain", job)),
        Contender("autrainer", installed("autrainer", cut)),
    ]


def same_segments(data: "SpeechDataModule", steps: int) -> tuple[list[Segment], list[list[Draw]]]:
    """Segments that everyone reads, and the draws that stand for them here; all are as long as a crop.

    Args:
        data: Set up.
        steps: Batches.

    Returns:
        The segments (steps times the batch), and the draws batch by batch.
    """
    pool, crop_s = data.pools[POOL], data.settings.crop_s
    sampler = QuotaBatchSampler(["segments"], [len(pool)], [BATCH], 10 * steps, data.seed)
    segments: list[Segment] = []
    draws: list[Draw] = []
    for step in range(len(sampler)):
        drawn = sampler.batch(0, step)
        spans = data.collection.spans(pool.rows(np.array([draw.position for draw in drawn])))
        for draw, span in zip(drawn, spans, strict=True):
            if (spare := span.end - span.start - crop_s) >= 0 and len(draws) < steps * BATCH:
                file = data.collection.manifests[span.corpus].root / span.path
                segments.append((str(file), span.start + draw.crop * spare, crop_s))
                draws.append(replace(draw, pool=POOL))
    return segments, [draws[first : first + BATCH] for first in range(0, len(draws), BATCH)]


def _data(bench: Bench, settings: list[str]) -> "SpeechDataModule":
    from experiments.run import make_data

    root = bench.corpora("ravdess", "librispeech")
    config = load("ravdess_cat", [*bench.settings, f"data.root={root}", *settings])
    return make_data(config)


def _ours(data: "SpeechDataModule", batches: list[list[Draw]]) -> Callable[[], float]:
    from torch.utils.data import DataLoader

    training = data.train_dataloader()
    loader: DataLoader[Any] = DataLoader(
        training.dataset,
        batch_sampler=batches,
        collate_fn=training.collate_fn,
        num_workers=1,
        persistent_workers=True,
    )

    def measure() -> float:
        started = time.perf_counter()
        utterances = sum(len(batch) for batch in loader)
        return utterances / (time.perf_counter() - started)

    return measure


def _cut(segments: list[Segment], folder: Path) -> list[str]:
    """Writes segments as FLAC files of their own; returns their names."""
    folder.mkdir()
    names = []
    for number, (file, start, duration) in enumerate(segments):
        with soundfile.SoundFile(file) as stream:
            stream.seek(round(start * stream.samplerate))
            speech = stream.read(round(duration * stream.samplerate), dtype="int16")
            names.append(f"{number}.flac")
            soundfile.write(folder / names[-1], speech, stream.samplerate, subtype="PCM_16")
    return names
