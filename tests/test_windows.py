from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_modules.features import frame_mask
from lightning_modules.windows import Cut, Windows


def numbered(frames: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """A one-band batch whose valid frames hold their own number, counted from 1."""
    valid, width = torch.tensor(frames), max(frames)
    number = torch.arange(1, width + 1).expand(len(frames), 1, width)
    return (number * frame_mask(valid, width)[:, None]).float(), valid


@given(st.lists(st.integers(1, 70), min_size=1, max_size=5), st.integers(2, 20))
def test_windows_cover_every_frame_and_overlap_by_half(frames: list[int], size: int) -> None:
    log_mel, valid = numbered(frames)
    cut = Windows(size).cut(log_mel, valid)
    assert cut.utterances == len(frames)
    for one, count in enumerate(frames):
        mine = [w[0, :n].tolist() for w, n in zip(cut.log_mel, cut.frames, strict=True)]
        mine = [window for window, of in zip(mine, cut.utterance.tolist(), strict=True) if of == one]
        assert {number for window in mine for number in window} == set(range(1, count + 1))
        assert all(window == list(range(int(window[0]), int(window[0]) + min(count, size))) for window in mine)
        assert all(after[0] - before[0] <= size // 2 for before, after in pairwise(mine))
        assert len(mine) == 1 or count > size


def test_windows_are_averaged_by_utterance() -> None:
    cut = Cut(torch.zeros(4, 1, 1), torch.ones(4), torch.tensor([0, 1, 1, 1]), 2)
    outputs = torch.tensor([[5.0, 1.0], [0.0, 1.0], [3.0, 2.0], [6.0, 3.0]])
    assert cut.average(outputs).tolist() == [[5.0, 1.0], [3.0, 2.0]]


def test_windows_that_cannot_overlap() -> None:
    with pytest.raises(ValueError, match="1 frames are too short"):
        Windows(1)
