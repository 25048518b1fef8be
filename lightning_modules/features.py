"""Waveform to normalised log-mel spectrogram, in batches, on the device, in float32."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from datamodules.audio import torchaudio
from lightning_modules.settings import FeatureSettings

NORMALISATIONS = ("utterance", "utterance_band", "training")


def frame_mask(frames: Tensor, size: int) -> Tensor:
    """Marks the valid frames.

    Args:
        frames: Number of valid frames of each utterance, (batch,).
        size: Frames of the padded batch.

    Returns:
        (batch, size), bool.
    """
    return torch.arange(size, device=frames.device) < frames[:, None]


class LogMel(nn.Module):
    """Computes normalised log-mel spectrograms.

    Frames are centred on multiples of the hop and the waveform is padded with zeros, so that the frames of an utterance
    do not depend on how far the batch is padded. Frames past an utterance's end are zero, which is the mean.

    Args:
        settings: See ``FeatureSettings``.

    Raises:
        ValueError: The normalisation is unknown, or the bands do not fit below half the sample rate.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, settings: FeatureSettings) -> None:
        super().__init__()
        if settings.normalise not in NORMALISATIONS:
            raise ValueError(f"features.normalise is {settings.normalise!r}, choose from: {', '.join(NORMALISATIONS)}")
        if not 0 <= settings.low_hz < settings.high_hz <= settings.sample_rate / 2:
            raise ValueError(
                f"features: bands from low_hz={settings.low_hz:g} to high_hz={settings.high_hz:g} do not fit between 0 "
                f"and half of sample_rate={settings.sample_rate}"
            )
        self.settings = settings
        self.hop = round(settings.sample_rate * settings.hop_ms / 1000)
        window = round(settings.sample_rate * settings.window_ms / 1000)
        size = 2 ** math.ceil(math.log2(window))
        self.spectrum = torchaudio.transforms.Spectrogram(
            n_fft=size, win_length=window, hop_length=self.hop, pad_mode="constant", power=None
        )
        self.bands = torchaudio.transforms.MelScale(
            n_mels=settings.mels,
            sample_rate=settings.sample_rate,
            f_min=settings.low_hz,
            f_max=settings.high_hz,
            n_stft=size // 2 + 1,
        )
        self.register_buffer("mean", torch.zeros(settings.mels, 1))
        self.register_buffer("deviation", torch.ones(settings.mels, 1))

    def frames(self, length: Tensor) -> Tensor:
        """Number of frames of utterances of ``length`` samples."""
        return length // self.hop + 1

    def raw(self, waveform: Tensor) -> Tensor:
        """Log-mel spectrogram before normalisation, (batch, mels, frames), natural logarithm of power."""
        # Half precision cannot hold the power of quiet bands: features are float32 under any autocast.
        with torch.autocast(waveform.device.type, enabled=False):
            spectrum = self.spectrum(waveform.float())
            # Not its absolute value, squared: the root alone takes longer than the Fourier transform.
            power = spectrum.real.square() + spectrum.imag.square()
            log_mel: Tensor = (self.bands(power) + 1e-6).log()
        return log_mel

    def forward(self, waveform: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
        """Waveform to features.

        Args:
            waveform: (batch, samples), zero padded.
            length: Samples of each utterance, (batch,).

        Returns:
            Normalised log-mel spectrogram (batch, mels, frames), and the number of valid frames (batch,).
        """
        log_mel = self.raw(waveform)
        frames = self.frames(length)
        mask = frame_mask(frames, log_mel.shape[-1])[:, None]
        if self.settings.normalise == "training":
            normal = (log_mel - self.mean) / self.deviation
        else:
            over = (1, 2) if self.settings.normalise == "utterance" else (2,)
            count = mask.expand_as(log_mel).sum(over, keepdim=True)
            mean = (log_mel * mask).sum(over, keepdim=True) / count
            variance = ((log_mel - mean).square() * mask).sum(over, keepdim=True) / count
            # Below a deviation of 0.1 (under half a decibel) there is no spectrum, only rounding to amplify.
            normal = (log_mel - mean) / variance.sqrt().clamp(min=0.1)
        return normal * mask, frames

    def fit(self, utterances: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Takes the bands' mean and deviation from training data (only needed for ``normalise: training``).

        Args:
            utterances: Batches of waveform (batch, samples) and length (batch,) of training utterances.
        """
        count = 0
        total = torch.zeros(self.settings.mels, dtype=torch.float64)
        squares = torch.zeros(self.settings.mels, dtype=torch.float64)
        for waveform, length in utterances:
            log_mel = self.raw(waveform).double()
            mask = frame_mask(self.frames(length), log_mel.shape[-1])[:, None]
            count += int(mask.sum())
            total += (log_mel * mask).sum((0, 2)).cpu()
            squares += (log_mel.square() * mask).sum((0, 2)).cpu()
        mean = total / count
        self.mean.copy_(mean[:, None])
        self.deviation.copy_((squares / count - mean.square()).clamp(min=1e-4).sqrt()[:, None])
