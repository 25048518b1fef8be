"""How far speech is from what a model was trained on, told by its code."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save
from torch import Tensor

from datamodules.datamodule import SpeechDataModule
from datamodules.errors import InputError
from experiments.files import replacing
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder

FILE = "novelty.safetensors"
"""Of a run folder."""
MOST = 1000
"""Training utterances that the statistics are made of, and distances of development utterances that are kept."""
SHRINKAGE = 0.1
"""Weight of a covariance without directions, so that none of the code's is without variance."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Novelty:
    """Statistics of the training utterances' codes: means of the classes, and one covariance within all of them.

    Attributes:
        means: Of each class, (K, Z), or of all utterances, (1, Z).
        precision: The inverse of the covariance, (Z, Z).
        distances: Of development utterances, ascending, (N,).
    """

    means: Floats
    precision: Floats
    distances: Floats

    def distance(self, code: NDArray[np.floating]) -> Floats:
        """Squared Mahalanobis distance to the nearest mean, of codes (N, Z): (N,).

        Lee et al., "A Simple Unified Framework for Detecting Out-of-Distribution Samples", NeurIPS 2018.
        """
        apart = np.asarray(code, np.float64)[:, None] - self.means
        return np.asarray(np.einsum("nki,ij,nkj->nk", apart, self.precision, apart, optimize=True).min(axis=1))

    def score(self, code: NDArray[np.floating]) -> Floats:
        """The share of development utterances that are nearer, 0 to 1, of codes (N, Z): (N,)."""
        return np.searchsorted(self.distances, self.distance(code)) / len(self.distances)


def fit(code: NDArray[np.floating], emotion: NDArray[np.int64], development: NDArray[np.floating]) -> Novelty:
    """Computes the statistics.

    Args:
        code: Of training utterances, (N, Z).
        emotion: Their classes, (N,), -1 where one has none; those count only where none has one.
        development: Codes of development utterances, (M, Z), who tell what is far.
    """
    code = np.asarray(code, np.float64)
    if (emotion >= 0).any():
        code, emotion = code[emotion >= 0], emotion[emotion >= 0]
    _, emotion = np.unique(emotion, return_inverse=True)
    means = np.stack([code[emotion == one].mean(axis=0) for one in range(emotion.max() + 1)])
    within = code - means[emotion]
    covariance = within.T @ within / len(code)
    round_ = np.eye(len(covariance)) * max(np.trace(covariance) / len(covariance), 1e-12)
    precision = np.linalg.inv((1 - SHRINKAGE) * covariance + SHRINKAGE * round_)
    found = Novelty(means, precision, np.empty(0))
    distances = np.sort(found.distance(development))
    return Novelty(means, precision, distances[evenly(len(distances), MOST)])


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """At most so many places of ``count``, from the first to the last at even steps."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


@torch.no_grad()
def describe(
    module: AdversarialAutoencoder, weights: dict[str, Tensor], data: SpeechDataModule, development: NDArray[np.float32]
) -> Novelty:
    """Computes the statistics of a model, on the device where it is, from some of its training utterances.

    Args:
        module: The model.
        weights: Of the chosen epoch.
        data: What it was trained on.
        development: Codes of the development utterances, (M, Z), by the same weights.
    """
    module.load_state_dict(weights)
    module.eval()
    pool = data.pools[0]
    codes, classes = [], []
    for batch in data.whole(pool, evenly(len(pool), MOST)):
        there = batch.row >= 0
        speech, length = (one[there].to(module.device) for one in (batch.waveform, batch.length))
        codes.append(module(speech, length)["code"].cpu().numpy())
        classes.append(batch.targets["emotion"][there].numpy())
    return fit(np.concatenate(codes), np.concatenate(classes), development)


def write(folder: Path, novelty: Novelty) -> None:
    """Writes the statistics into a run folder."""
    with replacing(folder / FILE) as stream:
        stream.write(save({name: np.ascontiguousarray(values) for name, values in asdict(novelty).items()}))


def read(folder: Path) -> Novelty | None:
    """Reads the statistics of a run; none where it has none.

    Raises:
        InputError: The file is damaged.
    """
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        found = Novelty(**load(file.read_bytes()))
        size = len(found.precision)
        shapes = [found.means.shape[1:], found.precision.shape, found.distances.shape[:0]]
        if shapes != [(size,), (size, size), ()] or found.distances.ndim != 1 or not len(found.distances):
            raise ValueError(f"its parts do not fit each other: {shapes}")
    except (SafetensorError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{file} cannot be read: {error}", "Remove it, `make novelty RUN=…` makes it again."
        ) from error
    return found
