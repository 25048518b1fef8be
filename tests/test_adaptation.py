"""Adaptation of a model to another corpus."""

from typing import Any

import torch
from torch import nn

from datamodules.batch import Batch
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.encoder import Layer
from lightning_modules.normalisation import BatchNorm
from lightning_modules.settings import AdaptationSettings, AdversarySettings, DecoderSettings, HeadSettings
from tests.small import LABELS, batch, model

SINGLE: dict[str, Any] = {
    "decoder": DecoderSettings(weight=0),
    "adversary": AdversarySettings(weight=0),
    "heads": {"emotion": HeadSettings()},
}


def elsewhere() -> Batch:
    """Speech that is darker than what the model was trained on."""
    given = batch(labelled=8, speaker=0, unlabelled=0, seed=3)
    given.waveform = given.waveform.cumsum(1) / 20
    return given


def adapted(**which: bool) -> tuple[AdversarialAutoencoder, Batch]:
    module, given = model(adaptation=AdaptationSettings(**which), **SINGLE), elsewhere()
    halves = [(given.waveform[of], given.length[of]) for of in (slice(4), slice(4, 8))]
    module.adapt(lambda: iter(halves))
    return module, given


def test_adapted_statistics_are_those_of_the_speech() -> None:
    module, given = adapted(statistics=True)
    log_mel, _ = module.features(given.waveform, given.length)
    first = next(layer for layer in module.encoder.modules() if isinstance(layer, Layer))
    assert isinstance(first.norm, BatchNorm)
    halves = [first.convolution(log_mel[of, None]) for of in (slice(4), slice(4, 8))]
    torch.testing.assert_close(first.norm.running_mean, torch.stack([x.mean((0, 2, 3)) for x in halves]).mean(0))
    torch.testing.assert_close(first.norm.running_var, torch.stack([x.var((0, 2, 3)) for x in halves]).mean(0))
    assert first.norm.momentum == nn.BatchNorm2d(1).momentum
    assert not any(one.training for one in module.modules())
    assert torch.equal(module.emotion_ratio, torch.ones(4))


def test_adapted_priors_are_those_of_training() -> None:
    module, given = adapted(priors=True)
    plain = model(**SINGLE).eval()(given.waveform, given.length)["emotion"]
    shares = torch.tensor(LABELS.emotion_counts) / sum(LABELS.emotion_counts)
    scaled = plain * shares / plain.mean(0)
    found = module(given.waveform, given.length)["emotion"]
    torch.testing.assert_close(found, scaled / scaled.sum(1, keepdim=True))
    # Closer to what is assumed than it was.
    assert (found.mean(0) - shares).abs().sum() < (plain.mean(0) - shares).abs().sum()


def test_other_weights_undo_an_adaptation() -> None:
    module, given = adapted(statistics=True, priors=True)
    module.load_state_dict(model(**SINGLE).state_dict())
    plain = model(**SINGLE).eval()(given.waveform, given.length)["emotion"]
    torch.testing.assert_close(module(given.waveform, given.length)["emotion"], plain)
