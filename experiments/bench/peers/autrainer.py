"""autrainer: its dataset of audio files, and its own commands ``preprocess`` and ``train``.

It reads whole files, so for the loader the segments are given to it as files of their own, in the corpus's format; its
dataset, file handler and ``create_train_loader`` are those of its shipped ``*-wav`` configurations.

The epoch is what its documentation shows for speech emotion recognition: ``autrainer preprocess`` makes log-mel
spectrograms of all files once (``log_mel_16k``: 64 bands, a hop of 10 ms), which is not in the epoch's time, and
``autrainer train`` trains a network on random crops of them, which is, on its default settings but for the device
(CPU). The network is the one that the job gives, as a model of one's own, with the job's hop; or else the shipped
convolutional one whose parameters come nearest to the number that it is asked for, without pretrained weights. The
clock runs from the beginning of an epoch to the end of its last step; development data and checkpoints are not in it.
"""

import csv
import importlib
import importlib.util
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch

from .turns import Turns, measure_loader, mega_multiply_adds, versions

PACKAGES = ("autrainer", "torch", "torchvision", "audiofile")
HOP_MS = 10
"""Of the log-mels that it ships."""
MODELS = {"ShuffleNetV2-0.5x": 349_992, "MnasNet-0.5": 947_760, "ShuffleNetV2-1.0x": 1_261_804, "Cnn10": 4_953_032}
"""Small convolutional networks among those that ship, and their parameters for eight classes."""

DATASET = """
id: Bench
_target_: autrainer.datasets.BaseClassificationDataset
path: {folder}
features_subdir: {features}
index_column: filename
target_column: emotion
file_type: npy
file_handler: autrainer.datasets.utils.NumpyFileHandler
criterion: autrainer.criterions.BalancedCrossEntropyLoss
metrics: [autrainer.metrics.Accuracy, autrainer.metrics.UAR, autrainer.metrics.F1]
tracking_metric: autrainer.metrics.UAR
transform:
  type: grayscale
  base:
    - autrainer.transforms.RandomCrop: {{size: {frames}, axis: -2}}
"""
OWN_MODEL = "OurLayers"
MODEL = """
id: {name}
_target_: peers.autrainer_model.OurLayers
layers: '{layers}'
transform: {{type: grayscale}}
"""
PREPROCESSING = """
file_handler: {{autrainer.datasets.utils.AudioFileHandler: {{target_sample_rate: {sample_rate}}}}}
pipeline:
  - autrainer.transforms.StereoToMono
  - autrainer.transforms.PannMel:
      sample_rate: {sample_rate}
      window_size: 512
      hop_size: {hop}
      mel_bins: {mels}
      fmin: 50
      fmax: 8000
      ref: 1.0
      amin: 1e-10
      top_db: null
"""
"""As in ``log_mel_16k``, but for the hop."""
CONFIG = """
defaults: [_autrainer_, _self_]
results_dir: {folder}/results
experiment_id: bench
iterations: 1000000
device: cpu
progress_bar: false
hydra:
  sweeper:
    params:
      +seed: 1
      +batch_size: {batch}
      +learning_rate: 0.001
      dataset: Bench
      model: {model}
      optimizer: Adam
"""


def loader(turns: Turns) -> None:
    """One worker reads ahead."""
    from autrainer.datasets import BaseClassificationDataset

    job = turns.job
    folder = Path(job["folder"])
    for side in ("train", "dev", "test"):
        _write_table(folder / f"{side}.csv", [(name, "none") for name in job["files"]])
    dataset = BaseClassificationDataset(
        path=str(folder),
        features_subdir="default",
        seed=1,
        metrics=["autrainer.metrics.Accuracy"],
        tracking_metric="autrainer.metrics.Accuracy",
        index_column="filename",
        target_column="emotion",
        file_type=None,
        file_handler="autrainer.datasets.utils.AudioFileHandler",
    )
    batches = dataset.create_train_loader(job["batch"], num_workers=job["workers"])
    measure_loader(turns, batches, lambda batch: len(batch.target), versions=versions(*PACKAGES))


def epoch(turns: Turns) -> None:
    """Prepares the log-mels, and trains, an epoch each turn."""
    import autrainer.cli
    from autrainer.core.callbacks import CallbackMixin

    job = turns.job
    torch.set_num_threads(job["threads"])
    folder = Path(job["folder"])
    model = OWN_MODEL if job["network"] else min(MODELS, key=lambda name: abs(MODELS[name] - job["parameters"]))
    for side in ("train", "dev", "test"):
        # The test set is no one's affair here: the development data take its place.
        rows = job["train" if side == "train" else "dev"]
        _write_table(folder / f"{side}.csv", [(name, emotion) for name, emotion, _ in rows])
    conf = folder / "conf"
    for kind in ("dataset", "model", "preprocessing"):
        (conf / kind).mkdir(parents=True)
    features, frames = "log_mel_16k", round(1000 * job["crop_s"] / HOP_MS) + 1
    if job["network"]:
        features, frames = "log_mel", job["frames"]
        mel = PREPROCESSING.format(
            sample_rate=job["sample_rate"], hop=round(job["sample_rate"] * job["hop_ms"] / 1000), mels=job["mels"]
        )
        (conf / "preprocessing" / f"{features}.yaml").write_text(mel)
        layers = json.dumps({"mels": job["mels"], **job["network"]})
        (conf / "model" / f"{OWN_MODEL}.yaml").write_text(MODEL.format(name=OWN_MODEL, layers=layers))
    dataset = DATASET.format(folder=folder, features=features, frames=frames)
    (conf / "dataset" / "Bench.yaml").write_text(dataset)
    (conf / "config.yaml").write_text(CONFIG.format(folder=folder, batch=job["batch"], model=model))

    class EpochTurns(CallbackMixin):  # type: ignore[misc]
        """Epochs that wait for their turn."""

        def cb_on_train_begin(self, trainer: Any) -> None:
            self.answer: dict[str, Any] = {
                "versions": versions(*PACKAGES),
                "model": model,
                "parameters": sum(parameter.numel() for parameter in trainer.model.parameters()),
                "mega_multiply_adds": mega_multiply_adds(
                    trainer.model, trainer.data.train_dataset[0].features.unsqueeze(0)
                ),
            }

        def cb_on_iteration_begin(self, trainer: Any, iteration: int) -> None:
            turns.next(self.answer)
            self.started = time.perf_counter()

        def cb_on_step_end(self, trainer: Any, iteration: int, batch_idx: int, loss: float) -> None:
            if batch_idx + 1 == len(trainer.train_loader):
                self.answer = {"value": time.perf_counter() - self.started}

    callback = EpochTurns()  # registers itself, and is forgotten when no one holds it
    autrainer.cli.preprocess(update_frequency=0)  # the working directory's conf/config.yaml, both
    autrainer.cli.train()
    del callback


def _write_table(path: Path, rows: list[tuple[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("filename", "emotion"), *rows])


def _import_torchvision() -> None:
    """Imports torchvision, of which autrainer needs no operator of its own, also beside another build of PyTorch.

    The published torchvision is built for CUDA. Beside a PyTorch without it the library with its operators does not
    load, and the import stops where their shapes are declared; so they are declared by name, and cannot be called.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        spec = importlib.util.find_spec("torchvision")
        if "torchvision::" not in str(error) or spec is None or spec.origin is None:
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        declarations = Path(spec.origin).with_name("_meta_registrations.py").read_text(encoding="utf-8")
        for name in re.findall(r'register_fake\("torchvision::(\w+)"\)', declarations):
            _OPERATORS.define(f"{name}(Tensor x) -> Tensor")  # type: ignore[no-untyped-call]
        importlib.import_module("torchvision")


if __name__ == "__main__":
    # Forgotten when no one holds it.
    _OPERATORS = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    _import_torchvision()
    both = {"loader": loader, "epoch": epoch}
    turns = Turns()
    both[turns.job["task"]](turns)
