"""`epoch_vs_peer`: an epoch of a single-task network beside the toolkits that users have otherwise."""

import tempfile
from contextlib import ExitStack
from pathlib import Path

from experiments.bench.core import Bench, Figure, Measurement, Repeats, at_least, row
from experiments.bench.peer import best
from experiments.config import load

EXPERIMENT = "ravdess_single_task"


@row(
    "epoch_vs_peer",
    "seconds of an epoch of a single-task convolutional network on RAVDESS, fold 0, on the CPU: the quicker of "
    "autrainer and SpeechBrain with the same layers ÷ ours",
    at_least(2),
)
def epoch_vs_peer(bench: Bench) -> Measurement:
    """Trains ours, whose epochs begin when the peers have had their turn."""
    from experiments.bench.toolkits import OWN, SAME, BesideToolkits
    from experiments.run import train

    root = bench.corpora("ravdess")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=bench.scratch)))
        config = load(
            EXPERIMENT,
            [
                *bench.settings,
                f"data.root={root}",
                f"output={folder}",
                "split.fold=0",
                "wandb.enabled=false",
                "trainer.accelerator=cpu",
                f"trainer.epochs={1 + bench.repeats}",
                "trainer.patience=0",
            ],
        )
        beside = BesideToolkits(bench, folder)
        stack.callback(beside.close)
        train(config, [beside])
    ours = Repeats(EXPERIMENT, "s", beside.ours)

    def theirs_by_ours(network: str) -> Figure:
        theirs = best(beside.trained(network), "s", largest=False)
        # The other way round than ``ratio``: these are seconds, of which fewer are better.
        return Figure(theirs.median / ours.median, ours, theirs)

    return Measurement(
        theirs_by_ours(SAME),
        also={"a network of the toolkit's own, of as many parameters": theirs_by_ours(OWN)},
        details={
            "ours": beside.details,
            "peers": {one.name: one.record("s") for one in beside.toolkits.values()},
            "left_out": "installation, manifests, autrainer's preprocessing, development data, checkpoints",
            "in_ours_alone": "features from waveforms in each step, augmentation, average of the weights",
        },
    )
