"""lhotse: cuts of recordings, batched by a sampler, read on the fly.

As its documentation recommends for PyTorch: a ``CutSet``, a ``DynamicCutSampler`` (here of so many cuts a batch), a
dataset that hands the sampled cuts to ``AudioSamples``, and ``DataLoader(dataset, sampler=sampler, batch_size=None)``.
Each segment is a ``MonoCut`` of its recording, whose header is read once, before anything is measured. lhotse tries one
audio library after the other; it is told to take libsndfile, which is the quickest of them here.
"""

from typing import Any

import torch
from lhotse import CutSet, MonoCut, Recording
from lhotse.audio.backend import LibsndfileBackend, set_current_audio_backend
from lhotse.dataset import DynamicCutSampler
from lhotse.dataset.input_strategies import AudioSamples
from torch.utils.data import DataLoader

from .turns import Turns, measure_loader, versions


class Speech(torch.utils.data.Dataset[Any]):
    """From the cuts of a batch to their samples."""

    def __init__(self) -> None:
        self.read = AudioSamples()

    def __getitem__(self, cuts: CutSet) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples (batch, samples) and lengths (batch,)."""
        audio, lengths = self.read(cuts)
        return audio, lengths


def loader(turns: Turns) -> None:
    """One worker reads ahead; the sampler is in the main process."""
    job = turns.job
    set_current_audio_backend(LibsndfileBackend())
    files = {file for file, _, _ in job["segments"]}
    recordings = {file: Recording.from_file(file) for file in files}
    cuts = CutSet.from_cuts(
        MonoCut(id=str(number), start=start, duration=duration, channel=0, recording=recordings[file])
        for number, (file, start, duration) in enumerate(job["segments"])
    )
    sampler = DynamicCutSampler(cuts, max_cuts=job["batch"], shuffle=True)
    batches: DataLoader[Any] = DataLoader(
        Speech(), sampler=sampler, batch_size=None, num_workers=job["workers"], persistent_workers=True
    )
    measure_loader(turns, batches, lambda batch: len(batch[1]), versions=versions("lhotse", "torch", "soundfile"))


if __name__ == "__main__":
    loader(Turns())
