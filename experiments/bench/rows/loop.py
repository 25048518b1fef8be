"""`loop_ratio`: the whole framework in steady state beside a bare PyTorch loop of the same model."""

import tempfile

from experiments.bench.core import Bench, Measurement, Repeats, at_least, ratio, row
from experiments.config import load


@row(
    "loop_ratio",
    "utterances/s of whole epochs of `train ravdess_cat` (reading, callbacks, loggers) ÷ the same model, losses and "
    "optimiser in a bare loop over batches in memory",
    at_least(0.95),
)
def loop_ratio(bench: Bench) -> Measurement:
    """Trains for some epochs, with the bare loop in turn in the same process."""
    import torch

    from experiments.bench.bare import BesideABareLoop
    from experiments.run import train

    root = bench.corpora("ravdess", "librispeech")
    with tempfile.TemporaryDirectory(dir=bench.scratch) as folder:
        config = load(
            "ravdess_cat",
            [
                *bench.settings,
                f"data.root={root}",
                f"output={folder}",
                "wandb.enabled=false",
                f"trainer.epochs={bench.repeats + 1}",
                *(["data.steps=4"] if bench.quick else []),
            ],
        )
        beside = BesideABareLoop(config)
        train(config, [beside])
    ours = Repeats("Trainer.fit, an epoch's steps", "utterances/s", beside.ours)
    bare = Repeats("bare PyTorch loop", "utterances/s", beside.bare)
    return Measurement(
        ratio(ours, bare, at_least(0.90) if beside.device.type == "cuda" else None),
        details={
            "device": str(beside.device),
            "workers": beside.workers,
            "threads": torch.get_num_threads(),
            "precision": config.trainer.precision,
            "not_in_the_bare_loop": "gradient clipping, learning rate schedule, average of the weights, logs",
        },
    )
