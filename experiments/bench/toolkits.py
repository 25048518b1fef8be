"""Other toolkits' training, measured in turn with the epochs of ours."""

import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
import soundfile
import torch

from datamodules.datamodule import SpeechDataModule
from datamodules.pool import Pool
from experiments.bench.core import Bench
from experiments.bench.environments import peer_python
from experiments.bench.peer import Contender, Peer
from experiments.bench.peers.turns import mega_multiply_adds
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder

SPEECH = "default"
"""The folder of the speech, as autrainer calls it."""


class Toolkit(NamedTuple):
    """A toolkit and what it trains.

    Attributes:
        name: What people call it.
        peer: Its script among ``peers``.
        network: ``SAME`` or ``OWN``.
    """

    name: str
    peer: str
    network: str


SAME = "our layers"
OWN = "its own network"

TOOLKITS = [
    Toolkit(f"{name}, {network}", peer, network)
    for name, peer in (("autrainer", "autrainer"), ("SpeechBrain", "speechbrain"))
    for network in (SAME, OWN)
]
"""Each trains our network's layers, written in plain PyTorch, and a network that it ships, of as many parameters."""


class BesideToolkits(pl.Callback):
    """Times the steps of each epoch; before each, the toolkits train one epoch in turn. The first warms up.

    Args:
        bench: What rows are given.
        folder: For the toolkits' files.

    Attributes:
        ours: Seconds of each epoch of ours that counts: reading, steps and callbacks, no development data.
        toolkits: The others.
        details: Sizes of our side.
    """

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.bench = bench
        self.folder = folder
        self.ours: list[float] = []
        self.toolkits: dict[Toolkit, Contender] = {}
        self.details: dict[str, Any] = {}
        self._started = 0.0

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Prepares the same speech for the toolkits, and starts them."""
        assert isinstance(pl_module, AdversarialAutoencoder)
        data: SpeechDataModule = trainer.datamodule  # type: ignore[attr-defined]
        job = job_of(pl_module, data, torch.get_num_threads(), self.folder)
        frames = torch.tensor([job["frames"]])
        self.details = {
            "parameters": pl_module.parameter_count,
            "mega_multiply_adds": mega_multiply_adds(
                pl_module.encoder, torch.zeros(1, job["mels"], job["frames"]), frames
            ),
            "batch": job["batch"],
            "crop_s": job["crop_s"],
            "threads": job["threads"],
            "training_utterances": len(job["train"]),
        }
        for one in TOOLKITS:
            self.toolkits[one] = Contender(one.name, partial(self._start, one, job))

    def _start(self, toolkit: Toolkit, job: dict[str, Any]) -> Peer:
        """Starts a toolkit's process in a folder of its own, with the same speech."""
        folder = self.folder / toolkit.name.replace(", ", "-").replace(" ", "_")
        folder.mkdir()
        (folder / SPEECH).symlink_to(self.folder / SPEECH)
        job = {**job, "folder": str(folder), "network": job["network"] if toolkit.network == SAME else None}
        return Peer(peer_python(toolkit.peer, self.bench), toolkit.peer, job, folder)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lets the toolkits train, and starts the clock."""
        for one in self.toolkits.values():
            one.turn(counts=trainer.current_epoch > 0)
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stops the clock after the last batch."""
        if batch_idx + 1 == trainer.num_training_batches and trainer.current_epoch > 0:
            self.ours.append(time.perf_counter() - self._started)

    def close(self) -> None:
        """Ends the toolkits' processes."""
        for one in self.toolkits.values():
            one.close()

    def trained(self, network: str) -> list[Contender]:
        """The toolkits that trained our layers (``SAME``), or a network of their own (``OWN``)."""
        return [contender for toolkit, contender in self.toolkits.items() if toolkit.network == network]


def job_of(module: AdversarialAutoencoder, data: SpeechDataModule, threads: int, folder: Path) -> dict[str, Any]:
    """What the toolkits are to train: the same utterances, written for them as 16-bit WAV files at our sample rate.

    They are quicker to read than the corpus's own files, which is in the toolkits' favour.
    """
    crop_s, sample_rate = data.settings.crop_s, data.sample_rate
    audio = folder / SPEECH
    audio.mkdir()
    return {
        "task": "epoch",
        "train": _write(data, data.pools[0], audio),
        "dev": _write(data, data.development_pool, audio),
        "classes": list(data.labels.emotions),
        "crop_s": crop_s,
        "sample_rate": sample_rate,
        "frames": int(module.features.frames(torch.tensor(round(crop_s * sample_rate)))),
        "hop_ms": module.features.settings.hop_ms,
        "mels": module.features.settings.mels,
        "batch": data.settings.quota,
        "threads": threads,
        "parameters": module.parameter_count,
        "network": network_of(module),
    }


def network_of(module: AdversarialAutoencoder) -> dict[str, Any]:
    """The layers of a single-task model, for ``peers.network``."""
    settings = module.settings
    encoder, head = settings.encoder, settings.heads["emotion"]
    return {
        "channels": encoder.channels,
        "layers": [len(block.layers) for block in module.encoder.blocks],  # type: ignore[arg-type]
        "attention": encoder.attention,
        "code": sum(settings.code.values()),
        "dropout": (encoder.dropout, head.dropout),
    }


def _write(data: SpeechDataModule, pool: Pool, folder: Path) -> list[tuple[str, str, float]]:
    """Writes the utterances of a pool; returns name, class and duration in seconds of each."""
    positions = np.arange(len(pool))
    rows, emotions = pool.rows(positions), pool.labels(positions)["emotion"]
    written = []
    for number, span, emotion in zip(rows, data.collection.spans(rows), emotions, strict=True):
        speech = data.sources[span.corpus].read(span, 0.0, span.end - span.start)
        name = f"{number}.wav"
        soundfile.write(folder / name, speech, data.sample_rate, subtype="PCM_16")
        written.append((name, data.labels.emotions[emotion], len(speech) / data.sample_rate))
    return written
