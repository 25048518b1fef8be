"""Code back to a log-mel spectrogram of any length."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.settings import DecoderSettings


class Decoder(nn.Module):
    """Decodes a code by cosines over time, refined by convolutions.

    A code has no time axis. The first layer reads it as the amplitudes of cosine waves over the length of the utterance
    (a discrete cosine transform in reverse) for coarse bands, at an eighth of the resolution; convolutions and two
    enlargements add detail. The work at full resolution is a rearrangement only, so the decoder costs a fraction of
    the encoder.

    Args:
        mels: Bands of the log-mel spectrogram.
        code: Size of the code.
        settings: See ``DecoderSettings``.
    """

    REDUCTION = 8

    def __init__(self, mels: int, code: int, settings: DecoderSettings) -> None:
        super().__init__()
        self.mels = mels
        self.channels = settings.channels
        self.waves = settings.waves
        self.bands = math.ceil(mels / self.REDUCTION)
        self.amplitudes = nn.Linear(code, settings.channels * self.bands * settings.waves)
        self.coarse = nn.Conv2d(settings.channels, settings.channels, 3, padding=1)
        self.fine = nn.Conv2d(settings.channels, settings.channels, 3, padding=1)
        # Sixteen values a position, rearranged to 4x4 bands and frames.
        self.paint = nn.Conv2d(settings.channels, 16, 3, padding=1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, code: Tensor, frames: Tensor, size: int) -> Tensor:
        """Code to log-mel.

        Args:
            code: (batch, code).
            frames: Valid frames of each utterance, (batch,): the span of its waves.
            size: Frames of the padded batch.

        Returns:
            (batch, mels, size), normalised log-mel; arbitrary past the valid frames.
        """
        steps = math.ceil(size / self.REDUCTION)
        centre = (torch.arange(steps, device=code.device) + 0.5) * self.REDUCTION / frames[:, None]
        wave = torch.arange(self.waves, device=code.device)
        basis = torch.cos(math.pi * wave[None, :, None] * centre.clamp(max=1.0)[:, None, :])
        amplitudes = self.amplitudes(code).view(len(code), self.channels * self.bands, self.waves)
        x = torch.bmm(amplitudes, basis.to(amplitudes.dtype)).view(len(code), self.channels, self.bands, steps)
        x = x.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.coarse(F.relu(x)))
        x = F.relu(self.fine(F.interpolate(x, scale_factor=2.0)))
        x = F.pixel_shuffle(self.paint(x), 4)[:, 0]
        return x[:, : self.mels, :size].float()
