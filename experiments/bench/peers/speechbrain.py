"""SpeechBrain: a ``DynamicItemDataset`` whose pipeline reads the audio, ``make_dataloader``, and a ``Brain``.

Segments are read as its documentation shows, ``read_audio({"file", "start", "stop"})``, and padded by ``PaddedBatch``.

The epoch follows ``templates/speaker_id``, which SpeechBrain offers as "a basic example for any signal classification
task such as language_id, emotion recognition": ``Fbank``, ``InputNormalization`` by sentence, the convolutions over
time of ``Xvector``, its ``Classifier``, Adam; with as many mel bands as we have, random crops read as the VoxCeleb
recipes read them, and all widths scaled by one factor, so that it has the parameters that it is asked for. Where the
job gives a network, that one takes the place of ``Xvector`` and ``Classifier``, with the job's hop. Left out, which is
in its favour: noise and speed changes, checkpoints, the progress bar. (The ECAPA-TDNN of its IEMOCAP recipe takes twice
the time at the same number of parameters.)
"""

import random
import time
from typing import Any

import torch
from speechbrain import Brain, Stage
from speechbrain.dataio.dataio import read_audio
from speechbrain.dataio.dataloader import make_dataloader
from speechbrain.dataio.dataset import DynamicItemDataset
from speechbrain.lobes.features import Fbank
from speechbrain.lobes.models.Xvector import Classifier, Xvector
from speechbrain.nnet.losses import nll_loss
from speechbrain.processing.features import InputNormalization

from .network import network
from .turns import Turns, measure_loader, mega_multiply_adds, versions

PACKAGES = ("speechbrain", "torch", "soundfile")
HOP_MS = 10
"""Of its features, if nothing else is asked for."""


def loader(turns: Turns) -> None:
    """One worker reads ahead."""
    job = turns.job
    rate = job["sample_rate"]
    items = {
        str(number): {"wav": {"file": file, "start": round(start * rate), "stop": round((start + duration) * rate)}}
        for number, (file, start, duration) in enumerate(job["segments"])
    }
    dataset = DynamicItemDataset(items)
    dataset.add_dynamic_item(read_audio, takes="wav", provides="sig")
    dataset.set_output_keys(["id", "sig"])
    batches = make_dataloader(
        dataset, batch_size=job["batch"], shuffle=True, num_workers=job["workers"], persistent_workers=True
    )
    measure_loader(turns, batches, len, versions=versions(*PACKAGES))


def epoch(turns: Turns) -> None:
    """Trains, an epoch each turn."""
    job = turns.job
    torch.set_num_threads(job["threads"])
    torch.manual_seed(0)
    hop_ms = job["hop_ms"] if job["network"] else HOP_MS
    frames = torch.zeros(1, round(1000 * job["crop_s"] / hop_ms) + 1, job["mels"])
    modules: dict[str, Any]
    if job["network"] is None:
        width, modules = _of_size(job["parameters"], job["mels"], len(job["classes"]))
        model, counted = f"Xvector of {width} channels", modules["embedding_model"]
    else:
        modules = {"network": network(job)}
        model, counted = "our layers", modules["network"]
    brain = Emotion(
        modules={
            "compute_features": Fbank(sample_rate=job["sample_rate"], hop_length=hop_ms, n_mels=job["mels"]),
            "mean_var_norm": InputNormalization(norm_type="sentence", std_norm=False),
            **modules,
        },
        opt_class=lambda parameters: torch.optim.Adam(parameters, lr=1e-3),
        run_opts={"device": "cpu", "noprogressbar": True},
    )
    brain.turns = turns
    brain.answer = {
        "versions": versions(*PACKAGES),
        "model": model,
        "parameters": _parameters(modules),
        "mega_multiply_adds": mega_multiply_adds(counted, frames),
    }
    options = {"batch_size": job["batch"]}
    brain.fit(
        range(1, 10**6),  # the bench ends it
        _utterances(job, "train", crop=True),
        _utterances(job, "dev", crop=False),
        train_loader_kwargs={**options, "shuffle": True},
        valid_loader_kwargs=options,
    )


class Emotion(Brain):  # type: ignore[misc]
    """The template's training loop, whose epochs wait for their turn."""

    turns: Turns
    answer: dict[str, Any]

    def compute_forward(self, batch: Any, stage: Any) -> Any:
        """Log-probabilities of the classes."""
        batch = batch.to(self.device)
        waveforms, lengths = batch.sig
        features = self.modules.mean_var_norm(self.modules.compute_features(waveforms), lengths)
        if "network" in self.modules:
            return self.modules.network(features).log_softmax(1).unsqueeze(1)
        return self.modules.classifier(self.modules.embedding_model(features, lengths))

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
        """Cross-entropy."""
        return nll_loss(predictions, batch.emotion.data.unsqueeze(1))

    def on_stage_start(self, stage: Any, epoch: int | None = None) -> None:
        """Waits before each epoch of training."""
        if stage == Stage.TRAIN:
            self.turns.next(self.answer)
            self.started = time.perf_counter()

    def on_stage_end(self, stage: Any, stage_loss: float, epoch: int | None = None) -> None:
        """The epoch's seconds, without the development data."""
        if stage == Stage.TRAIN:
            self.answer = {"value": time.perf_counter() - self.started}


def _utterances(job: dict[str, Any], side: str, crop: bool) -> DynamicItemDataset:
    rate, samples = job["sample_rate"], round(job["crop_s"] * job["sample_rate"])
    items = {
        name: {"wav": f"{job['folder']}/default/{name}", "duration": duration, "emotion": job["classes"].index(emotion)}
        for name, emotion, duration in job[side]
    }

    def read(wav: str, duration: float) -> torch.Tensor:
        spare = int(duration * rate) - samples
        if not crop or spare <= 0:
            return read_audio(wav)  # type: ignore[no-any-return]
        start = random.randint(0, spare)
        return read_audio({"file": wav, "start": start, "stop": start + samples})  # type: ignore[no-any-return]

    dataset = DynamicItemDataset(items)
    dataset.add_dynamic_item(read, takes=["wav", "duration"], provides="sig")
    dataset.set_output_keys(["id", "sig", "emotion"])
    return dataset


def _of_size(parameters: int, mels: int, classes: int) -> tuple[int, dict[str, Any]]:
    """The template's network at the width that comes nearest to a number of parameters."""
    width = min(range(32, 513, 8), key=lambda width: abs(_parameters(_network(width, mels, classes)) - parameters))
    return width, _network(width, mels, classes)


def _network(width: int, mels: int, classes: int) -> dict[str, Any]:
    # The template has 512 channels, 1500 before the pooling, and embeddings of 512.
    channels = [width] * 4 + [round(width * 1500 / 512)]
    return {
        "embedding_model": Xvector(in_channels=mels, tdnn_channels=channels, lin_neurons=width),
        "classifier": Classifier(input_shape=[None, None, width], lin_neurons=width, out_neurons=classes),
    }


def _parameters(modules: dict[str, Any]) -> int:
    return sum(parameter.numel() for module in modules.values() for parameter in module.parameters())


if __name__ == "__main__":
    both = {"loader": loader, "epoch": epoch}
    turns = Turns()
    both[turns.job["task"]](turns)
