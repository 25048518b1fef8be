"""The ONNX graph of any model computes what the model does, whatever length, batch and sound."""

from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from experiments.export.checking import TOLERANCE, batch, compare
from experiments.export.graph import to_onnx
from experiments.export.reading import build, for_inference
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.settings import AdversarySettings, EncoderSettings, FeatureSettings, HeadSettings
from tests.small import LABELS, settings

MODELS: dict[str, dict[str, Any]] = {
    "batch normalisation, mixture, dimensions alone, statistics of training": {
        "features": FeatureSettings(mels=24, normalise="training"),
        "adversary": AdversarySettings(hidden=8, prior="mixture"),
        "heads": {"emotion": HeadSettings(weight=0), "dimensions": HeadSettings(hidden=6), "speaker": HeadSettings()},
    },
    "group normalisation, variational, parts of a code, bands by themselves": {
        "features": FeatureSettings(mels=25, normalise="utterance_band", hop_ms=12.5, sample_rate=8000, high_hz=4000),
        "encoder": EncoderSettings(channels=[4, 8], attention=8, normalisation="group", layers=[1, 2]),
        "variational": 0.1,
        "code": {"affect": 6, "voice": 5},
        "heads": {
            "forgotten": HeadSettings(task="emotion", adversarial=True),
            "emotion": HeadSettings(reads=["affect"]),
            "dimensions": HeadSettings(reads=["voice", "affect"]),
        },
        "window_s": 1.0,
    },
}


def model(**changes: Any) -> AdversarialAutoencoder:
    """A small model whose statistics are not those that it begins with."""
    torch.manual_seed(0)
    module = build(for_inference(settings(**changes)), LABELS.emotions)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    module.features.mean.normal_(-8)
    module.features.deviation.uniform_(1, 3)
    return module.eval()


@pytest.mark.parametrize("name", MODELS)
def test_graph_and_model_agree(name: str) -> None:
    module = model(**MODELS[name])
    onnx = to_onnx(module, {"classes": '["calm"]'})
    found = compare(onnx, module, recordings=[])
    assert found.largest <= TOLERANCE, found.where
    assert found.sounds >= 40

    session = onnxruntime.InferenceSession(onnx)
    outputs = {one.name: one.shape for one in session.get_outputs()}
    with torch.no_grad():
        scores = module(torch.zeros(1, 800), torch.tensor([800]))
    assert outputs == {name: ["batch", score.shape[1]] for name, score in scores.items()}
    assert list(outputs)[-1] == "code"

    rate = module.settings.features.sample_rate
    sounds = [np.random.default_rng(seed).standard_normal(rate * (1 + seed)).astype(np.float32) for seed in range(2)]
    fed = batch(sounds)
    quiet = session.run(None, fed)
    fed["waveform"][0, rate:] = 1.0  # past the end of the first
    for one, other in zip(quiet, session.run(None, fed), strict=True):
        np.testing.assert_array_equal(one, other)

    assert session.get_modelmeta().custom_metadata_map == {"classes": '["calm"]'}
    assert b"experiments/export" not in onnx, "it tells where on this machine it was made"

    with torch.no_grad():
        module.encoder.project.bias.add_(2e-4)
    found = compare(onnx, module, recordings=[sounds[0][:1600]])
    assert found.largest > TOLERANCE, "that it is of another model is not found out"
    assert found.where
    assert found.recordings == 1
    assert found.on_recordings > TOLERANCE
    with torch.no_grad():
        module.encoder.project.bias.fill_(torch.nan)
    assert compare(onnx, module, recordings=[]).largest == float("inf")
