"""Small models and batches, for tests that need no corpus."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.utils.data import DataLoader

from datamodules.batch import LABELLED, SPEAKER, UNLABELLED, Batch, Labels
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.settings import (
    AdversarySettings,
    AugmentationSettings,
    DecoderSettings,
    EncoderSettings,
    FeatureSettings,
    HeadSettings,
    ModelSettings,
)

LABELS = Labels(
    emotions=("neutral", "happy", "sad", "angry"),
    emotion_counts=(8, 4, 2, 2),
    speakers=5,
    corpora=("acted", "read"),
)

NO_AUGMENTATION = AugmentationSettings(gain_db=0, noise=0, rate=0, shift=0, band_masks=0, frame_masks=0)
"""Nothing is changed."""


def settings(**changes: Any) -> ModelSettings:
    """A model of a few thousand weights with every part; ``changes`` replaces fields of ``ModelSettings``."""
    small = ModelSettings(
        features=FeatureSettings(mels=24),
        encoder=EncoderSettings(channels=[4, 8], attention=8),
        code={"shared": 12},
        decoder=DecoderSettings(channels=4, waves=4),
        adversary=AdversarySettings(hidden=8),
        heads={name: HeadSettings() for name in ("emotion", "dimensions", "speaker", "gender")},
    )
    return replace(small, **changes)


def model(seed: int = 0, total_steps: int = 100, **changes: Any) -> AdversarialAutoencoder:
    """A small model with weights drawn from ``seed``."""
    torch.manual_seed(seed)
    return AdversarialAutoencoder(settings(**changes), LABELS, total_steps, seed)


def batch(labelled: int = 6, speaker: int = 3, unlabelled: int = 2, samples: int = 6400, seed: int = 0) -> Batch:
    """Coloured noise of different lengths, with the labels that each part of a batch has."""
    generator = torch.Generator().manual_seed(seed)
    part = torch.tensor([LABELLED] * labelled + [SPEAKER] * speaker + [UNLABELLED] * unlabelled)
    size = len(part)
    length = torch.randint(samples // 2, samples + 1, (size,), generator=generator)
    length[0] = samples
    waveform = 0.1 * torch.randn(size, samples, generator=generator).cumsum(1) / 30
    waveform[torch.arange(samples) >= length[:, None]] = 0

    def index(classes: int, known: torch.Tensor) -> torch.Tensor:
        return torch.where(known, torch.randint(classes, (size,), generator=generator), -1)

    dimensions = torch.rand(size, 3, generator=generator)
    dimensions[part != LABELLED] = torch.nan
    return Batch(
        waveform=waveform,
        length=length,
        row=torch.arange(size),
        sizes=(labelled, speaker, unlabelled),
        targets={
            "emotion": index(4, part == LABELLED),
            "dimensions": dimensions,
            "speaker": index(5, part != UNLABELLED),
            "gender": index(2, part != UNLABELLED),
            "corpus": (part != LABELLED).long(),
        },
    )


def first(whole: Batch, count: int) -> Batch:
    """The first rows of a batch."""
    sizes = [max(0, min(size, count - sum(whole.sizes[:part]))) for part, size in enumerate(whole.sizes)]
    return Batch(
        waveform=whole.waveform[:count],
        length=whole.length[:count],
        row=whole.row[:count],
        sizes=(sizes[0], sizes[1], sizes[2]),
        targets={name: target[:count] for name, target in whole.targets.items()},
    )


def fit(
    module: AdversarialAutoencoder,
    batches: Sequence[Batch],
    folder: Path,
    epochs: int = 1,
    callbacks: Sequence[pl.Callback] = (),
    **trainer: Any,
) -> pl.Trainer:
    """Trains on ``batches``, once an epoch, as Lightning does it."""
    fitted = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=list(callbacks),
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **trainer,
    )
    loader: DataLoader[Any] = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    fitted.fit(module, loader)
    return fitted


def numpy(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A tensor's values, float64, for formulas that are written without PyTorch."""
    return tensor.detach().double().numpy()
