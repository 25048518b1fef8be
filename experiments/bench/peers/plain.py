"""What most people write first: soundfile in a PyTorch ``Dataset``, the default sampler, the default collate.

``variant`` says how a crop is read: ``seek`` reads the samples that are wanted, as soundfile's documentation shows
(``soundfile.read(file, start=…, stop=…)``); ``whole`` reads the file and cuts the crop out of it, as tutorials do.
``torchaudio.load`` is not among them: it needs torchcodec now, which does not load beside every PyTorch, and for FLAC
it decodes the same samples.
"""

from typing import Any

import soundfile
import torch
from torch.utils.data import DataLoader, Dataset

from .turns import Turns, measure_loader, versions


class Segments(Dataset[torch.Tensor]):
    """Segments of files.

    Args:
        segments: File, start and duration in seconds of each.
        sample_rate: In Hz.
        whole: Whether to read the whole file.
    """

    def __init__(self, segments: list[tuple[str, float, float]], sample_rate: int, whole: bool) -> None:
        self.segments = segments
        self.sample_rate = sample_rate
        self.whole = whole

    def __len__(self) -> int:
        return len(self.segments)

    def __getitem__(self, index: int) -> torch.Tensor:
        """One segment, (samples,)."""
        file, start, duration = self.segments[index]
        first = round(start * self.sample_rate)
        last = first + round(duration * self.sample_rate)
        if self.whole:
            speech, _ = soundfile.read(file, dtype="float32")
            return torch.from_numpy(speech[first:last])
        speech, _ = soundfile.read(file, start=first, stop=last, dtype="float32")
        return torch.from_numpy(speech)


def loader(turns: Turns) -> None:
    """One worker reads ahead."""
    job = turns.job
    segments = Segments(job["segments"], job["sample_rate"], job["variant"] == "whole")
    batches: DataLoader[Any] = DataLoader(
        segments, job["batch"], shuffle=True, num_workers=job["workers"], persistent_workers=True
    )
    measure_loader(turns, batches, len, versions=versions("torch", "soundfile"))


if __name__ == "__main__":
    loader(Turns())
