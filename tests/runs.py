"""The command line over small corpora: what tests of whole runs share."""

from pathlib import Path

from experiments.__main__ import main

SMALL = (
    "data.quota=8",
    "data.steps=2",
    "data.evaluation_batch=8",
    "data.max_bad_fraction=0.1",
    "data.corpora.demo.options={voices: 8, sentences: 1}",
    "data.corpora.demo_speakers.options={voices: 4, sentences: 2}",
    "data.corpora.demo_unlabelled.options={voices: 2, sentences: 4}",
    "model.features.mels=24",
    "model.encoder.channels=[4, 8]",
    "model.encoder.attention=8",
    "model.code.shared=12",
    "model.decoder.channels=4",
    "model.adversary.hidden=8",
    "trainer.epochs=1",
    "trainer.accelerator=cpu",
)
"""Settings that make every experiment small: two steps of a model of a few thousand weights."""


def places(root: Path, output: Path) -> list[str]:
    """Settings that let a command read under ``root`` and write under ``output``."""
    return [f"data.root={root}", f"data.cache={root / 'cache'}", f"output={output}"]


def train(experiment: str, root: Path, output: Path, *settings: str, wandb: bool = False) -> Path:
    """Trains a small model through the command line, and returns the run folder."""
    before = set(output.glob("*/*"))
    small = [*SMALL, f"wandb.enabled={wandb}".lower(), *places(root, output)]
    assert main(["train", experiment, *small, *settings]) == 0
    (folder,) = set(output.glob("*/*")) - before
    return folder
