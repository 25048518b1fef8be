"""Whether an ONNX graph computes what PyTorch does: seen in onnxruntime, on sounds of many lengths and kinds."""

import csv
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datamodules.collection import Span
from datamodules.speech import BadAudioError, Files
from experiments.files import read_json
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder

TOLERANCE = 1e-4

_WINDOWS = (0.02, 0.3, 0.5, 0.9, 1.0, 1.002, 1.4, 2.6)
"""Lengths of the made sounds, in windows of the project's evaluation."""
_BATCHES = (1, 2, 5)
_RECORDING = "a recording"
_RECORDINGS = 8
_LONGEST_S = 30.0


@dataclass(frozen=True)
class Difference:
    """How far an ONNX graph is from PyTorch.

    Attributes:
        largest: Of all numbers of all outputs.
        where: What sound it was found on, and in which output.
        on_recordings: The same of development recordings of the run alone; 0 without any.
        sounds: How many were compared.
        recordings: How many of them were such recordings.
    """

    largest: float
    where: str
    on_recordings: float
    sounds: int
    recordings: int


def compare(onnx: bytes, module: AdversarialAutoencoder, recordings: list[NDArray[np.float32]]) -> Difference:
    """Compares an ONNX graph in onnxruntime, one by one and in padded batches, with PyTorch, one by one.

    Args:
        onnx: The graph.
        module: In evaluation mode.
        recordings: Speech to compare on beside sounds that are made: (samples,) each.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    sounds = [*_made(module), *((_RECORDING, recording) for recording in recordings)]
    with torch.inference_mode():
        expected = [
            {name: scores.numpy()[0] for name, scores in module(torch.from_numpy(sound)[None], _length(sound)).items()}
            for _, sound in sounds
        ]
    largest, where, on_recordings = 0.0, "", 0.0
    for size in _BATCHES:
        # Neighbours differ in length and kind.
        for chosen in np.array_split(np.arange(len(sounds)), math.ceil(len(sounds) / size)):
            scores = session.run(names, batch([sounds[place][1] for place in chosen]))
            for name, found in zip(names, scores, strict=True):
                for place, row in zip(chosen, found, strict=True):
                    kind, sound = sounds[place]
                    apart = float(np.abs(row - expected[place][name]).max())
                    apart = apart if math.isfinite(apart) else math.inf
                    # Digital silence has no spectrum: normalised, it is what PyTorch rounded, many times as large. Its
                    # scores mean nothing but are to be numbers; readers of corpora refuse it.
                    if not sound.any() and math.isfinite(apart):
                        continue
                    if kind == _RECORDING:
                        on_recordings = max(on_recordings, apart)
                    if apart > largest:
                        largest = apart
                        where = f"{name} of {kind}, {len(sound)} samples, {len(chosen)} at once"
    return Difference(largest, where, on_recordings, len(sounds), len(recordings))


def batch(sounds: list[NDArray[np.float32]]) -> dict[str, NDArray[Any]]:
    """What the graph is fed: sounds (samples,) each, padded with zeros, and their lengths."""
    lengths = np.array([len(sound) for sound in sounds], dtype=np.int64)
    waveform = np.zeros((len(sounds), lengths.max()), dtype=np.float32)
    for row, sound in zip(waveform, sounds, strict=True):
        row[: len(sound)] = sound
    return {"waveform": waveform, "lengths": lengths}


def development_recordings(run: Path, sample_rate: int) -> list[NDArray[np.float32]]:
    """The first development recordings of a run that are still where it found them; none where it has none.

    Args:
        run: The run folder.
        sample_rate: Of the model.
    """
    roots = {name: Path(corpus["root"]) for name, corpus in read_json(run / "data_report.json")["corpora"].items()}
    recordings: list[NDArray[np.float32]] = []
    for corpus, path in _development(run / "predictions_dev.csv"):
        if len(recordings) == _RECORDINGS:
            break
        root = roots.get(corpus)
        if root is None or not (root / path).is_file():
            continue
        try:
            recordings.append(Files(root, sample_rate).read(Span(0, 0, path, 0.0, _LONGEST_S), 0.0, _LONGEST_S))
        except BadAudioError:
            continue
    return recordings


def _development(predictions: Path) -> Iterator[tuple[str, str]]:
    """Corpus and path of each utterance."""
    if predictions.exists():
        with predictions.open(encoding="utf-8", newline="") as stream:
            for row in csv.DictReader(stream):
                yield row["corpus"], row["id"]


def _length(sound: NDArray[np.float32]) -> Tensor:
    return torch.tensor([len(sound)])


def _made(module: AdversarialAutoencoder) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Sounds of all lengths, by their kinds."""
    generator = np.random.default_rng(0)
    rate = module.settings.features.sample_rate
    window = module.windows.size * module.features.hop
    for windows in _WINDOWS:
        samples = max(1, round(windows * window))
        time = np.arange(samples) / rate
        noise = generator.standard_normal(samples)
        pulses = np.sin(np.outer(np.arange(1, 20), 2 * np.pi * 120 * time)).sum(0) / 20  # a voice's, in syllables
        kinds = {
            "noise": 0.1 * noise,
            "silence as 16 bits hold it": np.sign(noise) * (abs(noise) > 1) / 32768,
            "digital silence": np.zeros(samples),
            "syllables between digital silence": pulses * np.maximum(np.sin(2 * np.pi * 3 * time), 0),
            "a voice in noise": 0.3 * pulses + 0.003 * noise,
        }
        for kind, sound in kinds.items():
            yield kind, sound.astype(np.float32)
