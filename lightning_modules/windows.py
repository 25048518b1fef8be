"""Long utterances in evaluation: cut into windows, score each, average."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Cut:
    """Windows of a batch of utterances.

    Attributes:
        log_mel: (windows, mels, frames).
        frames: Valid frames of each window, (windows,).
        utterance: Utterance that each window comes from, (windows,).
        utterances: Number of utterances.
    """

    log_mel: Tensor
    frames: Tensor
    utterance: Tensor
    utterances: int

    def average(self, outputs: Tensor) -> Tensor:
        """Mean of the windows' outputs (windows, n) by utterance, (utterances, n)."""
        total = outputs.new_zeros(self.utterances, outputs.shape[1]).index_add_(0, self.utterance, outputs)
        count = torch.bincount(self.utterance, minlength=self.utterances)
        return total / count[:, None]


class Windows:
    """Cuts utterances into overlapping windows.

    Args:
        frames: Length of a window; neighbours overlap by half at least.

    Raises:
        ValueError: A window has fewer than two frames.
    """

    def __init__(self, frames: int) -> None:
        if frames < 2:
            raise ValueError(f"window_s: windows of {frames} frames are too short, choose longer ones")
        self.size = frames

    def cut(self, log_mel: Tensor, frames: Tensor) -> Cut:
        """Windows of (batch, mels, frames) with ``frames`` (batch,) valid ones; short utterances stay whole."""
        batch, _, width = log_mel.shape
        if width <= self.size:
            return Cut(log_mel, frames, torch.arange(batch, device=log_mel.device), batch)
        beyond = (frames - self.size).clamp(min=0)
        counts = 1 + -(-beyond // (self.size // 2))
        utterance = torch.repeat_interleave(torch.arange(batch, device=log_mel.device), counts)
        nth = torch.arange(len(utterance), device=log_mel.device) - (counts.cumsum(0) - counts)[utterance]
        # Spread evenly from the first frame to the last.
        start = (nth * beyond[utterance]) // (counts[utterance] - 1).clamp(min=1)
        index = start[:, None] + torch.arange(self.size, device=log_mel.device)
        # Windows alone are copied: with the whole utterance for each, memory would grow with the square of its length.
        windows = log_mel.transpose(1, 2)[utterance[:, None], index].transpose(1, 2).contiguous()
        return Cut(windows, frames[utterance].clamp(max=self.size), utterance, batch)
