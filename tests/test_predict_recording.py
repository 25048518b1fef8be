"""Windows of long recordings: read once and in order, whatever the format."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from datamodules.speech import BadAudioError, Forwards
from experiments.predict.inputs import read, stretches
from experiments.predict.recording import Recording

RATE = 16_000


def write(path: Path, seconds: float, channels: int = 1, **options: Any) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, (round(seconds * RATE), channels)).cumsum(axis=0)
    soundfile.write(path, 0.5 * samples / np.abs(samples).max(), RATE, **options)


class Counting(Forwards):
    """Counts frames that are decoded, and how often another place is looked for."""

    frames_read = 0
    seeks = 0

    def read(self, frames: int = -1, **options: Any) -> Any:
        samples = super().read(frames, **options)
        Counting.frames_read += len(samples)
        return samples

    def seek(self, frames: int, whence: int = 0) -> int:
        Counting.seeks += 1
        return int(super().seek(frames, whence))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("hop", [0.5, 1.0])
def test_each_sample_is_decoded_once(tmp_path: Path, suffix: str, hop: float, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / f"long.{suffix}"
    write(file, 5.25, channels=2)
    whole = soundfile.read(file, dtype="float32")[0].mean(axis=1)
    monkeypatch.setattr("experiments.predict.recording.Forwards", Counting)
    Counting.frames_read = Counting.seeks = 0
    recording = Recording(str(file))
    starts = [*np.arange(0, len(whole) / RATE - 1, hop), len(whole) / RATE - 1]
    for start in starts:
        found, rate = recording.window(start, start + 1)
        first = round(start * RATE)
        assert rate == RATE
        assert found == pytest.approx(whole[first : first + RATE], abs=1e-6)  # after a seek, MP3 is rounded otherwise
    assert Counting.frames_read == len(whole)
    assert Counting.seeks == 0


def test_windows_apart_or_from_the_middle_on_are_found(tmp_path: Path) -> None:
    write(tmp_path / "long.flac", 5)
    whole = soundfile.read(tmp_path / "long.flac", dtype="float32")[0]
    recording = Recording(str(tmp_path / "long.flac"))
    for start in (2.0, 4.0, 1.0):
        found, _ = recording.window(start, start + 0.5)
        assert np.array_equal(found, whole[round(start * RATE) :][: RATE // 2])


def test_silence_is_told_of_its_window_and_damage_of_all_behind_it(tmp_path: Path) -> None:
    file = tmp_path / "long.wav"
    samples = np.random.default_rng(0).normal(0, 0.1, 8 * RATE).astype(np.float32)
    samples[2 * RATE : 4 * RATE] = 0
    samples[5 * RATE] = np.nan
    soundfile.write(file, samples, RATE, subtype="FLOAT")
    windows = [one for of_file in stretches(tmp_path, [(file.name, 0.0, None)], 2, 2) for one in of_file]
    found = [read(one, RATE) for one in windows]
    assert found[1] == "silent: digital silence"
    assert found[2] == "NaN or infinite samples"
    assert not isinstance(found[0], str)
    assert not isinstance(found[3], str)
    file.write_bytes(file.read_bytes()[: 3 * 4 * RATE])
    with pytest.raises(BadAudioError, match="truncated"):
        Recording(str(file)).window(2, 4)
    with pytest.raises(BadAudioError, match="truncated"):
        Recording(str(tmp_path / "not-there.wav")).window(0, 1)
