"""Our single-task network as a model of autrainer, which its configuration names."""

import json

import torch
from autrainer.models import AbstractModel

from .network import Network


class OurLayers(AbstractModel):  # type: ignore[misc]  # published without types
    """See ``Network``.

    Args:
        output_dim: Number of classes, which autrainer sets.
        layers: The other arguments of ``Network``, as JSON: autrainer writes arguments down, and does so by type.
    """

    def __init__(self, output_dim: int, layers: str) -> None:
        super().__init__(output_dim, None)
        self.layers = layers
        self.network = Network(classes=output_dim, **json.loads(layers))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Log-mel spectrograms (batch, 1, frames, mels) to logits (batch, classes)."""
        logits: torch.Tensor = self.network(features[:, 0])
        return logits

    def embeddings(self, features: torch.Tensor) -> torch.Tensor:
        """Log-mel spectrograms (batch, 1, frames, mels) to codes (batch, code)."""
        return self.network.encode(features[:, 0])
