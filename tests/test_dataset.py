import pickle
from collections.abc import Sequence
from dataclasses import fields
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.batch import LABELLED, UNLABELLED
from datamodules.cells import Integers
from datamodules.collection import Collection, Span
from datamodules.dataset import Collate, Item, SpeechDataset
from datamodules.pool import Pool
from datamodules.ring import CollateInRing, Ring
from datamodules.sampler import Draw
from datamodules.speech import Files
from tests import fakes

RATE = 16_000


class Whole:
    """Stands for a collection: the whole of each file is an utterance, but for its first and last tenth of a second."""

    def __init__(self, files: Sequence[Path], seconds: float) -> None:
        self.files, self.seconds = files, seconds
        self.asked: list[int] = []

    def spans(self, rows: Integers) -> list[Span]:
        self.asked.append(len(rows))
        return [Span(0, row, self.files[row].name, 0.1, self.seconds - 0.1) for row in rows.tolist()]


def ramp(seconds: float, rate: int = RATE) -> fakes.Samples:
    """Each sample tells its own time: seconds / 100."""
    return (np.arange(round(seconds * rate)) / rate / 100 + 0.001).astype(np.float32)


def dataset(
    files: Sequence[Path], seconds: float = 2.0, crop_s: float = 0.5, rows: Sequence[int] = ()
) -> SpeechDataset:
    collection = cast(Collection, Whole(files, seconds))
    chosen = np.array(rows or range(len(files)), dtype=np.int64)
    labelled = Pool(chosen, LABELLED, {"emotion": 10 + chosen, "ratings": np.full((len(chosen), 3), 0.5)})
    pools = [labelled, Pool(chosen[::-1].copy(), UNLABELLED)]
    root = files[0].parent if files else Path()
    return SpeechDataset(collection, [Files(root, RATE)], pools, RATE, crop_s)


@pytest.fixture
def ramps(tmp_path: Path) -> list[Path]:
    return [fakes.write(tmp_path / f"{n}.wav", ramp(2.0), subtype="FLOAT") for n in range(3)]


# Crops and whole utterances


def test_a_crop_begins_where_the_draw_says(ramps: list[Path]) -> None:
    data = dataset(ramps)
    for crop in (0.0, 0.25, 0.5, 1 - 2**-53):
        begin = round((0.1 + crop * 1.3) * RATE)  # of 1.8 s of speech 0.5 s are cropped
        np.testing.assert_array_equal(data[Draw(0, 1, crop)].waveform, ramp(2.0)[begin : begin + 8000])


def test_a_batch_is_looked_up_at_once_and_keeps_its_order(ramps: list[Path]) -> None:
    data = dataset(ramps, rows=[2, 0, 1])
    draws = [Draw(0, 1, 0.5), Draw(0, 0, 0.1), Draw(1, 0, 0.2), Draw(1, 2, 0.3)]
    together = data.__getitems__(draws)
    assert cast(Whole, data.collection).asked == [2, 2]
    assert [item.row for item in together] == [0, 2, 1, 2]
    for item, draw in zip(together, draws, strict=True):
        alone = data[draw]
        assert (item.row, item.part, item.targets["emotion"]) == (alone.row, alone.part, alone.targets["emotion"])
        np.testing.assert_array_equal(item.waveform, alone.waveform)


def test_a_batch_of_whole_utterances_may_hold_pads(ramps: list[Path]) -> None:
    assert [item.row for item in dataset(ramps).__getitems__([2, -1, 0, -1])] == [2, -1, 0, -1]


def test_short_utterances_are_not_cropped(ramps: list[Path]) -> None:
    whole = dataset(ramps, crop_s=5.0)[Draw(0, 0, 0.3)].waveform
    np.testing.assert_array_equal(whole, ramp(2.0)[1600:30400])


def test_evaluation_reads_whole_utterances(ramps: list[Path]) -> None:
    item = dataset(ramps)[2]
    np.testing.assert_array_equal(item.waveform, ramp(2.0)[1600:30400])
    assert (item.row, item.part, item.fault) == (2, LABELLED, None)


def test_labels_go_with_their_utterance_and_others_are_missing(ramps: list[Path]) -> None:
    data = dataset(ramps, rows=[2, 0, 1])
    assert len(data) == 6
    item = data[Draw(0, 0, 0.1)]
    assert item.row == 2
    assert item.targets["emotion"] == 12
    assert item.targets["ratings"].tolist() == [0.5] * 3
    unlabelled = data[Draw(1, 0, 0.1)]
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
    item = dataset(ramps)[Draw(0, 2, 0.5)]
    assert item.row == 0  # after the last comes the first
    assert item.targets["emotion"] == 10
    assert item.fault is not None
    assert "2.wav" in item.fault
    assert np.array_equal(item.waveform, dataset(ramps)[Draw(0, 0, 0.5)].waveform)


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
    item = dataset(ramps)[Draw(0, 0, 0.5)]
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


def test_training_batches_hold_nothing_but_speech_and_zeros() -> None:
    for _ in range(3):  # memory that is used again holds what was there before
        waveform = Collate(100_000)([item(7, 0), item(0, 1)]).waveform
        assert waveform[0, :7].tolist() == [1] * 7
        assert waveform.sum() == 7


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("ring", [False, True])
def test_batches_of_workers_are_those_of_this_process(ramps: list[Path], workers: int, ring: bool) -> None:
    batches = [[Draw(0, 1, 0.5, 2), Draw(1, 0, 0.9, 4)], [Draw(0, 2, 0.1, 3), Draw(1, 1, 0.0, 5)]] * 8
    data = dataset(ramps)
    collate = CollateInRing(Collate(9000), Ring(workers, 2, 2, 9000)) if ring and workers else Collate(9000)
    loader: DataLoader[Any] = DataLoader(
        data, batch_sampler=cast(Any, batches), collate_fn=collate, num_workers=workers
    )
    # All are there before the first is looked at: none may change when later ones come.
    for batch, draws in zip(list(loader), batches, strict=True):
        expected = Collate(9000)(data.__getitems__(draws))
        torch.testing.assert_close(batch.waveform, expected.waveform, rtol=0, atol=0)
        assert batch.sizes == expected.sizes
        assert batch.places == tuple(draw.place for draw in draws)
        for name in ("length", "row"):
            assert torch.equal(getattr(batch, name), getattr(expected, name))
        assert batch.targets["emotion"].tolist() == expected.targets["emotion"].tolist()


def test_a_batch_travels_with_all_that_it_has() -> None:
    batch = Collate()([item(5, 0), item(8, 1, fault="broken")])
    arrived = pickle.loads(ForkingPickler.dumps(batch))
    for one in fields(batch):
        there, expected = getattr(arrived, one.name), getattr(batch, one.name)
        torch.testing.assert_close(there, expected, equal_nan=True) if one.name != "faults" else None
        assert type(there) is type(expected)
    assert arrived.faults == ["broken"]
