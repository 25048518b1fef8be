"""Conversions beside Arrow's own, and that no training imports what those do."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from datamodules.arrow import from_integers, from_strings, to_numpy
from tests import fakes


@pytest.mark.parametrize("kind", [pa.int32(), pa.int64(), pa.uint64(), pa.float32(), pa.float64()])
@pytest.mark.parametrize("values", [[], [1, 2, 3] * 5, [None] * 3, [1, None, 3, None, None, 6, 7, 8, None, 10, 11]])
@pytest.mark.parametrize("first", [0, 1, 9])
def test_numbers_are_those_of_arrow(values: list[Any], kind: pa.DataType, first: int) -> None:
    column = pa.array(values, kind)[first:]
    numbers = to_numpy(column)
    np.testing.assert_array_equal(numbers, column.to_numpy(zero_copy_only=False))
    assert numbers.dtype == (column.to_numpy(zero_copy_only=False).dtype)
    known = to_numpy(column, null=-1) if pa.types.is_signed_integer(kind) else None
    assert known is None or (known.tolist(), known.dtype) == (column.fill_null(-1).to_pylist(), kind.to_pandas_dtype())


def test_arrays_are_those_of_arrow() -> None:
    for numbers in ([], [3, -1, 7]):
        assert from_integers(np.array(numbers, np.int64)) == pa.array(numbers, pa.int64())
    assert from_integers(np.arange(6)[::2]).to_pylist() == [0, 2, 4]
    for strings in ([], ["a", "", "Müller/03", "語"]):
        made = from_strings(strings)
        made.validate(full=True)
        assert made == pa.array(strings, pa.string())


def test_no_training_imports_pandas(tmp_path: Path) -> None:
    """Where the manifests are there: to make them, it takes longer anyway."""
    pytest.importorskip("pandas")
    fakes.ravdess(tmp_path / "RAVDESS", actors=6, emotions=("01", "03", "04", "05"), seconds=0.7, rate=16_000)
    fakes.librispeech(tmp_path / "LibriSpeech", speakers=5, utterances=2)
    setup = f"""
import sys
from datamodules.datamodule import SpeechDataModule
from datamodules.settings import AuxiliarySettings, DataSettings
from datamodules.splits import SplitSettings

data = SpeechDataModule(
    DataSettings(
        root={str(tmp_path)!r},
        cache={str(tmp_path / "cache")!r},
        labelled=["ravdess"],
        auxiliary=[AuxiliarySettings("librispeech", role, 4, hash_content=True) for role in ("speaker", "unlabelled")],
        classes={{"neutral": ["neutral"], "happy": ["happiness"], "sad": ["sadness"], "angry": ["anger"]}},
        quota=8,
    ),
    SplitSettings(protocol="speaker_groups", folds=3),
    16_000,
    0,
)
data.prepare_data()
data.setup()
next(iter(data.train_dataloader()))
print("pandas" in sys.modules)
"""
    # The first makes the manifests and the decoded speech, the second finds them.
    first, second = (
        subprocess.run([sys.executable, "-c", setup], capture_output=True, text=True, check=True) for _ in range(2)
    )
    assert first.stdout.split() == ["True"]  # else this would test nothing
    assert second.stdout.split() == ["False"]
