"""Log-mel spectrogram of any length to one code."""

from itertools import chain, pairwise, repeat

import torch
from torch import Tensor, nn

from lightning_modules.draws import ALONE, Draws, Dropout
from lightning_modules.features import frame_mask
from lightning_modules.normalisation import NORMALISATIONS, normalisation, normalise
from lightning_modules.settings import EncoderSettings


def halved(frames: Tensor) -> Tensor:
    """Frames after a convolution of stride two."""
    return (frames + 1) // 2


class Layer(nn.Module):
    """A 3x3 convolution, normalised, rectified, and blind past an utterance's end."""

    def __init__(self, inputs: int, outputs: int, stride: int, kind: str) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm = normalisation(kind, outputs)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(batch, channels, bands, frames), of which ``mask`` (batch, 1, 1, frames) marks those valid afterwards."""
        # In place: what layers of this size cost beside their convolutions is the way to memory and back.
        x = normalise(self.norm, self.convolution(x), mask)
        # Detached: the rectifier, which is zero where the mask is, stops gradients there without another pass.
        x.detach().mul_(mask)
        return x.relu_()


class Block(nn.Module):
    """Layers of which the first halves bands and frames."""

    def __init__(self, inputs: int, outputs: int, layers: int, kind: str) -> None:
        super().__init__()
        refining = (Layer(outputs, outputs, 1, kind) for _ in range(layers - 1))
        self.layers = nn.ModuleList([Layer(inputs, outputs, 2, kind), *refining])

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, channels, bands, frames) to half the bands and frames; ``frames`` (batch,) are the valid ones."""
        frames = halved(frames)
        mask = frame_mask(frames, (x.shape[-1] + 1) // 2)[:, None, None]
        for layer in self.layers:
            x = layer(x, mask)
        return x, frames


class AttentiveStatistics(nn.Module):
    """Weighted mean and deviation over time (Okabe et al., Interspeech 2018)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(channels, hidden), nn.Tanh(), nn.Linear(hidden, 1))

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """(batch, frames, channels) to (batch, 2 channels)."""
        x = x.float()
        score = self.score(x).float().squeeze(-1)
        weight = score.masked_fill(~frame_mask(frames, x.shape[1]), -torch.inf).softmax(1)[..., None]
        mean = (weight * x).sum(1)
        variance = (weight * (x - mean[:, None]).square()).sum(1)
        return torch.cat([mean, (variance + 1e-5).sqrt()], 1)


class Encoder(nn.Module):
    """Encodes speech of any length; padding does not change a code.

    Args:
        mels: Bands of the log-mel spectrogram.
        code: Size of the code.
        settings: See ``EncoderSettings``.

    Raises:
        ValueError: The normalisation is unknown, or there is no number of layers.
    """

    def __init__(self, mels: int, code: int, settings: EncoderSettings) -> None:
        super().__init__()
        if settings.normalisation not in NORMALISATIONS:
            raise ValueError(
                f"encoder.normalisation is {settings.normalisation!r}, choose from: {', '.join(NORMALISATIONS)}"
            )
        if not settings.layers:
            raise ValueError("encoder.layers is empty: give the number of convolutions of the first block, as in [2]")
        widths = [1, *settings.channels]
        every = chain(settings.layers, repeat(settings.layers[-1]))
        self.blocks = nn.ModuleList(
            Block(inputs, outputs, layers, settings.normalisation)
            for (inputs, outputs), layers in zip(pairwise(widths), every, strict=False)
        )
        bands = mels
        for _ in settings.channels:
            bands = (bands + 1) // 2
        self.pool = AttentiveStatistics(widths[-1] * bands, settings.attention)
        self.dropout = Dropout(settings.dropout)
        self.project = nn.Linear(2 * widths[-1] * bands, code)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, log_mel: Tensor, frames: Tensor, draws: Draws = ALONE) -> Tensor:
        """Log-mel to code.

        Args:
            log_mel: (batch, mels, frames), zero past the valid frames.
            frames: Valid frames of each utterance, (batch,), at least 1.
            draws: For what is dropped in training.

        Returns:
            Code z, (batch, code), float32.
        """
        x = log_mel[:, None].contiguous(memory_format=torch.channels_last)
        for block in self.blocks:
            x, frames = block(x, frames)
        pooled = self.pool(x.flatten(1, 2).transpose(1, 2), frames)
        code: Tensor = self.project(self.dropout(pooled, draws))
        return code.float()
