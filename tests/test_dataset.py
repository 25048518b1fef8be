from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from datamodules.batch import LABELLED, UNLABELLED
from datamodules.collection import Collection
from datamodules.dataset import BadAudioError, Collate, Item, Pool, SpeechDataset, read_speech
from datamodules.sampler import Draw
from tests import fakes

RATE = 16_000


class Files:
    """Stands for a collection: the whole of each file is an utterance, but for its first and last tenth of a second."""

    def __init__(self, files: Sequence[Path], seconds: Sequence[float]) -> None:
        self.files, self.seconds = files, seconds

    def row(self, row: int) -> Mapping[str, Any]:
        return {"file": self.files[row], "speech_start": 0.1, "speech_end": self.seconds[row] - 0.1}


def ramp(seconds: float, rate: int = RATE) -> fakes.Samples:
    """Each sample tells its own time: seconds / 100."""
    return (np.arange(round(seconds * rate)) / rate / 100 + 0.001).astype(np.float32)


def dataset(
    files: Sequence[Path], seconds: float = 2.0, crop_s: float = 0.5, rows: Sequence[int] = ()
) -> SpeechDataset:
    collection = cast(Collection, Files(files, [seconds] * len(files)))
    chosen = np.array(rows or range(len(files)), dtype=np.int64)
    labelled = Pool(chosen, LABELLED, {"emotion": 10 + chosen, "ratings": np.full((len(chosen), 3), 0.5)})
    return SpeechDataset(collection, [labelled, Pool(chosen[::-1].copy(), UNLABELLED, {})], RATE, crop_s)


@pytest.fixture
def ramps(tmp_path: Path) -> list[Path]:
    return [fakes.write(tmp_path / f"{n}.wav", ramp(2.0), subtype="FLOAT") for n in range(3)]


# Reading


def test_a_span_is_read_to_the_sample(ramps: list[Path]) -> None:
    speech = read_speech(ramps[0], 0.5, 0.25, RATE)
    assert speech.dtype == np.float32
    np.testing.assert_array_equal(speech, ramp(2.0)[8000:12000])


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = fakes.speech("left"), fakes.speech("right")
    stereo = fakes.write(tmp_path / "stereo.wav", np.stack([left, right], 1), subtype="FLOAT")
    np.testing.assert_allclose(read_speech(stereo, 0, 9, RATE), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    time = np.arange(rate) / rate
    tone = fakes.write(tmp_path / "tone.wav", (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32), rate, "FLOAT")
    speech = read_speech(tone, 0.25, 0.5, RATE)
    assert len(speech) == 8000
    expected = 0.5 * np.sin(2 * np.pi * 1000 * (0.25 + np.arange(8000) / RATE))
    if rate != 22_050:  # 0.25 s is no whole number of its samples: half a sample of delay
        np.testing.assert_allclose(speech[200:-200], expected[200:-200], atol=5e-3)
    spectrum = np.abs(np.fft.rfft(speech))
    assert np.argmax(spectrum) == 500
    assert spectrum[500] == pytest.approx(0.5 * 8000 / 2, rel=0.02)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (fakes.empty, "0.wav"),
        (fakes.plant_nan, "not finite"),
        (fakes.silence, "silence"),
        (lambda file: file.unlink(), "0.wav"),
        (fakes.shorten, "silence"),
    ],
)
def test_nothing_bad_is_read(ramps: list[Path], fault: Any, message: str) -> None:
    fault(ramps[0])
    with pytest.raises(BadAudioError, match=message):
        read_speech(ramps[0], 0.5, 1.0, RATE)


# Crops and whole utterances


def test_crops_are_a_function_of_their_seed(ramps: list[Path]) -> None:
    data = dataset(ramps)
    crops = [data[Draw(0, 1, seed)].waveform for seed in (7, 7, 8)]
    assert np.array_equal(crops[0], crops[1])
    assert not np.array_equal(crops[0], crops[2])


def test_crops_lie_anywhere_within_the_speech(ramps: list[Path]) -> None:
    data = dataset(ramps)
    starts = []
    for seed in range(1000):
        crop = data[Draw(0, 0, seed)].waveform
        assert len(crop) == 8000
        starts.append((crop[0] - 0.001) * 100)
    assert 0.1 - 1e-3 < min(starts) < 0.12
    assert 1.38 < max(starts) < 1.4 + 1e-3
    assert np.mean(starts) == pytest.approx(0.75, abs=0.06)


def test_short_utterances_are_not_cropped(ramps: list[Path]) -> None:
    whole = dataset(ramps, crop_s=5.0)[Draw(0, 0, 3)].waveform
    np.testing.assert_array_equal(whole, ramp(2.0)[1600:30400])


def test_evaluation_reads_whole_utterances(ramps: list[Path]) -> None:
    item = dataset(ramps)[2]
    np.testing.assert_array_equal(item.waveform, ramp(2.0)[1600:30400])
    assert (item.row, item.part, item.fault) == (2, LABELLED, None)


def test_labels_go_with_their_utterance_and_others_are_missing(ramps: list[Path]) -> None:
    data = dataset(ramps, rows=[2, 0, 1])
    assert len(data) == 6
    item = data[Draw(0, 0, 1)]
    assert item.row == 2
    assert item.targets["emotion"] == 12
    assert item.targets["ratings"].tolist() == [0.5] * 3
    unlabelled = data[Draw(1, 0, 1)]
    assert (unlabelled.row, unlabelled.part) == (1, UNLABELLED)
    assert unlabelled.targets["emotion"] == -1
    assert np.isnan(unlabelled.targets["ratings"]).tolist() == [True] * 3


def test_a_pad_is_marked() -> None:
    item = dataset([])[-1]
    assert item.row == -1
    assert len(item.waveform) > 0
    assert item.targets["emotion"] == -1


# Faults


def test_an_unreadable_file_is_replaced_by_the_next_and_reported(ramps: list[Path]) -> None:
    fakes.empty(ramps[2])
    item = dataset(ramps)[Draw(0, 2, 5)]
    assert item.row == 0  # after the last comes the first
    assert item.targets["emotion"] == 10
    assert item.fault is not None
    assert "2.wav" in item.fault
    assert np.array_equal(item.waveform, dataset(ramps)[Draw(0, 0, 5)].waveform)


def test_an_unreadable_file_becomes_a_pad_in_evaluation(ramps: list[Path]) -> None:
    fakes.empty(ramps[1])
    item = dataset(ramps)[1]
    assert item.row == -1
    assert item.targets["emotion"] == -1
    assert item.fault is not None
    assert "1.wav" in item.fault


def test_an_unreadable_file_with_none_better_after_it_becomes_a_pad(ramps: list[Path]) -> None:
    for file in ramps:
        fakes.empty(file)
    item = dataset(ramps)[Draw(0, 0, 5)]
    assert item.row == -1
    assert item.fault is not None
    assert "0.wav" in item.fault


# Collating


def item(samples: int, row: int, fault: str | None = None, **targets: Any) -> Item:
    waveform = np.full(samples, row + 1, dtype=np.float32)
    missing = {"emotion": np.array(-1), "dimensions": np.full(3, np.nan)}
    return Item(waveform, row, LABELLED, missing | targets, fault)


def test_batches_are_padded_with_zeros() -> None:
    batch = Collate()([item(5, 0), item(8, 1, fault="broken"), item(2, 2)])
    assert batch.waveform.tolist() == [[1] * 5 + [0] * 3, [2] * 8, [3] * 2 + [0] * 6]
    assert batch.waveform.dtype == torch.float32
    assert batch.length.tolist() == [5, 8, 2]
    assert batch.row.tolist() == [0, 1, 2]
    assert batch.faults == ["broken"]
    assert len(batch) == 3


def test_training_batches_have_one_width() -> None:
    batch = Collate(6)([item(5, 0), item(8, 1)])
    assert batch.waveform.tolist() == [[1] * 5 + [0], [2] * 6]
    assert batch.length.tolist() == [5, 6]


def test_targets_have_the_types_of_losses() -> None:
    ratings = np.array([0.1, 0.2, 0.3])
    batch = Collate()([item(5, 0, emotion=np.int32(3)), item(5, 1, dimensions=ratings)])
    assert batch.targets["emotion"].tolist() == [3, -1]
    assert batch.targets["emotion"].dtype == torch.int64
    assert batch.targets["dimensions"].dtype == torch.float32
    assert batch.targets["dimensions"].isnan().tolist() == [[True] * 3, [False] * 3]
    torch.testing.assert_close(batch.targets["dimensions"][1], torch.tensor([0.1, 0.2, 0.3]))
    assert set(batch.targets) == {"emotion", "dimensions"}
