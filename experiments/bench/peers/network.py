"""The layers of our single-task network, as one writes them in plain PyTorch for another toolkit."""

from typing import Any

import torch
from torch import nn


class Network(nn.Module):
    """Log-mel spectrogram to the logits of the classes: our encoder and its linear head, layer by layer.

    Blocks of 3x3 convolutions with batch normalisation, attentive statistics over time, a code, and the classes.

    Args:
        mels: Bands of the spectrogram.
        classes: Number of classes.
        channels: Of each block.
        layers: Convolutions of each block, the first of which halves bands and frames.
        attention: Width of the hidden layer that weighs the frames.
        code: Size of the code.
        dropout: On the pooled statistics, and on the code.
    """

    def __init__(
        self,
        mels: int,
        classes: int,
        channels: list[int],
        layers: list[int],
        attention: int,
        code: int,
        dropout: tuple[float, float],
    ) -> None:
        super().__init__()
        convolutions: list[nn.Module] = []
        inputs, bands = 1, mels
        for outputs, count in zip(channels, layers, strict=True):
            for stride in (2, *[1] * (count - 1)):
                convolutions += [
                    nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
                    nn.BatchNorm2d(outputs),
                    nn.ReLU(),
                ]
                inputs = outputs
            bands = (bands + 1) // 2
        self.convolutions = nn.Sequential(*convolutions)
        self.score = nn.Sequential(nn.Linear(inputs * bands, attention), nn.Tanh(), nn.Linear(attention, 1))
        self.project = nn.Sequential(nn.Dropout(dropout[0]), nn.Linear(2 * inputs * bands, code))
        self.classes = nn.Sequential(nn.Dropout(dropout[1]), nn.Linear(code, classes))

    def encode(self, log_mel: torch.Tensor) -> torch.Tensor:
        """(batch, frames, mels) to the code, (batch, code)."""
        x = self.convolutions(log_mel.transpose(1, 2)[:, None]).flatten(1, 2).transpose(1, 2)
        weight = self.score(x).softmax(1)
        mean = (weight * x).sum(1)
        variance = (weight * (x - mean[:, None]).square()).sum(1)
        code: torch.Tensor = self.project(torch.cat([mean, (variance + 1e-5).sqrt()], 1))
        return code

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """(batch, frames, mels) to (batch, classes)."""
        logits: torch.Tensor = self.classes(self.encode(log_mel))
        return logits


def network(job: dict[str, Any]) -> Network:
    """The network that a job asks for."""
    return Network(job["mels"], len(job["classes"]), **job["network"])
