import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.features import NORMALISATIONS, LogMel, frame_mask
from lightning_modules.settings import FeatureSettings
from tests.small import numpy

LENGTHS = torch.tensor([8000, 4801, 4800, 4799, 200])


def speech(lengths: Tensor = LENGTHS, seed: int = 0) -> Tensor:
    """Noise whose colour and level change in time, zero past each length."""
    generator = torch.Generator().manual_seed(seed)
    width = int(lengths.max())
    noise = torch.randn(len(lengths), width, generator=generator)
    noise = noise + 0.9 * noise.roll(1, 1)
    return 0.1 * noise * torch.linspace(0.2, 1, width) * frame_mask(lengths, width)


def fitted(normalise: str) -> LogMel:
    features = LogMel(FeatureSettings(normalise=normalise))
    features.mean.copy_(torch.linspace(-6, -2, 64)[:, None])
    features.deviation.copy_(torch.linspace(1, 3, 64)[:, None])
    return features


def reference_log_mel(waveform: NDArray[np.float64], settings: FeatureSettings) -> NDArray[np.float64]:
    """From the definition: centred periodic Hann windows, power spectrum, triangles that are even on HTK's scale."""
    window, hop, size = 400, 160, 512
    padded = np.pad(waveform, size // 2)
    hann = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window), (size - window) // 2)
    frames = [padded[i : i + size] * hann for i in range(0, len(waveform) + 1, hop)]
    power = np.abs(np.fft.rfft(frames)) ** 2
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (settings.low_hz, settings.high_hz))
    mel = np.linspace(low, high, settings.mels + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    hz = np.arange(size // 2 + 1) * settings.sample_rate / size
    rise = (hz - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - hz) / (edges[2:] - edges[1:-1])[:, None]
    triangles = np.maximum(0, np.minimum(rise, fall))
    logarithm: NDArray[np.float64] = np.log(power @ triangles.T + 1e-6).T
    return logarithm


def test_log_mel_is_what_its_definition_says() -> None:
    settings = FeatureSettings(mels=40)
    waveform = speech(torch.tensor([4000]))
    expected = reference_log_mel(numpy(waveform[0]), settings)
    np.testing.assert_allclose(numpy(LogMel(settings).raw(waveform)[0]), expected, atol=2e-3)


def test_default_bands_are_none_empty() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torchaudio warns of a band that no bin of the spectrum falls in
        LogMel(FeatureSettings())


def test_frames_are_counted_as_they_are_made() -> None:
    features = LogMel(FeatureSettings())
    for length in (1, 159, 160, 161, 4799, 4800):
        assert features.raw(torch.zeros(1, length)).shape[-1] == int(features.frames(torch.tensor(length)))


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_padding_and_companions_do_not_change_features(normalise: str) -> None:
    features, waveform = fitted(normalise), speech()
    together, frames = features(waveform, LENGTHS)
    for one, length in enumerate(LENGTHS):
        alone, count = features(waveform[one : one + 1, :length], length[None])
        assert int(frames[one]) == int(count) == alone.shape[-1]
        torch.testing.assert_close(together[one, :, :count], alone[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_frames_past_the_end_are_zero(normalise: str) -> None:
    log_mel, frames = fitted(normalise)(speech(), LENGTHS)
    past = ~frame_mask(frames, log_mel.shape[-1])[:, None].expand_as(log_mel)
    assert past.any()
    assert (log_mel[past] == 0).all()


@pytest.mark.parametrize(("normalise", "axes"), [("utterance", (0, 1)), ("utterance_band", (1,))])
def test_utterance_statistics(normalise: str, axes: tuple[int, ...]) -> None:
    features, waveform = fitted(normalise), speech()
    log_mel, frames = features(waveform, LENGTHS)
    raw = numpy(features.raw(waveform))
    for one, count in enumerate(frames.tolist()):
        mine = raw[one, :, :count]
        deviation = np.maximum(mine.std(axes, keepdims=True), 0.1)
        expected = (mine - mine.mean(axes, keepdims=True)) / deviation
        np.testing.assert_allclose(numpy(log_mel[one, :, :count]), expected, atol=1e-3)


def test_level_vanishes_under_utterance_normalisation() -> None:
    features, waveform = fitted("utterance"), speech()
    torch.testing.assert_close(features(4 * waveform, LENGTHS)[0], features(waveform, LENGTHS)[0], rtol=0, atol=0.01)


@pytest.mark.parametrize("normalise", NORMALISATIONS)
def test_silence_is_finite(normalise: str) -> None:
    log_mel, _ = fitted(normalise)(torch.zeros(2, 1600), torch.tensor([1600, 10]))
    assert log_mel.isfinite().all()


def test_training_statistics_are_those_of_the_valid_frames_it_was_shown() -> None:
    features = LogMel(FeatureSettings(normalise="training", mels=32))
    shown = [(speech(seed=seed), LENGTHS) for seed in (1, 2)]
    frames = [
        numpy(features.raw(waveform[one : one + 1, :length])[0])
        for waveform, lengths in shown
        for one, length in enumerate(lengths)
    ]
    every = np.concatenate(frames, axis=1)
    features.fit(iter(shown))
    np.testing.assert_allclose(numpy(features.mean[:, 0]), every.mean(1), atol=1e-4)
    np.testing.assert_allclose(numpy(features.deviation[:, 0]), every.std(1), rtol=1e-4)

    # Speech that it was not shown is normalised by what it was shown, and changes nothing.
    before = {name: value.clone() for name, value in features.state_dict().items()}
    test = 3 * speech(seed=3)[:1]
    log_mel, _ = features(test, LENGTHS[:1])
    expected = (numpy(features.raw(test)[0]) - every.mean(1)[:, None]) / every.std(1)[:, None]
    np.testing.assert_allclose(numpy(log_mel[0]), expected, atol=1e-3)
    assert all(torch.equal(value, before[name]) for name, value in features.state_dict().items())


def test_training_statistics_are_saved_with_the_model() -> None:
    assert {"mean", "deviation"} <= set(LogMel(FeatureSettings()).state_dict())


def test_features_are_float32_under_autocast() -> None:
    features = fitted("utterance")
    expected, _ = features(speech(), LENGTHS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        log_mel, _ = features(speech(), LENGTHS)
    assert log_mel.dtype == torch.float32
    assert torch.equal(log_mel, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"normalise": "speaker"}, "features.normalise is 'speaker'"),
        ({"high_hz": 9000.0}, "do not fit"),
        ({"low_hz": 8000.0}, "do not fit"),
    ],
)
def test_settings_that_do_not_fit(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LogMel(replace(FeatureSettings(), **change))  # type: ignore[arg-type]
