"""The least that a training of this model starts with: imports, the model, a step over noise; prints when it was."""

import sys
import time

import torch

from datamodules.batch import Batch, Labels
from experiments.config import load
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder

SPEAKERS = 251


def main() -> None:
    """Steps once."""
    config = load(sys.argv[1], sys.argv[2:])
    classes = tuple(config.data.classes)
    labels = Labels(classes, (1,) * len(classes), SPEAKERS, ("noise",))
    module = AdversarialAutoencoder(config.model, labels, total_steps=100, seed=0).train()
    size = config.data.quota + sum(one.quota for one in config.data.auxiliary)
    samples = round(config.data.crop_s * config.model.features.sample_rate)
    zeros = torch.zeros(size, dtype=torch.int64)
    batch = Batch(
        waveform=0.1 * torch.randn(size, samples),
        length=torch.full((size,), samples),
        row=zeros,
        sizes=(size, 0, 0),
        targets={
            **dict.fromkeys(("emotion", "speaker", "gender", "corpus"), zeros),
            "dimensions": torch.full((size, 3), 0.5),
        },
    )
    optimiser = module.configure_optimizers()["optimizer"]
    module.training_step(batch, 0)["loss"].backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    print(time.monotonic(), flush=True)


if __name__ == "__main__":
    main()
