import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from datamodules.collection import Span
from datamodules.speech import BadAudioError, Files
from tests import fakes

RATE = 16_000


def ramp(seconds: float, rate: int = RATE) -> fakes.Samples:
    """Each sample tells its own time: seconds / 100."""
    return (np.arange(round(seconds * rate)) / rate / 100 + 0.001).astype(np.float32)


def read(file: Path, start: float, duration: float, skip: float = 0.0) -> fakes.Samples:
    return Files(file.parent, RATE).read(Span(0, 0, file.name, start, 99.0), skip, duration)


@pytest.fixture
def two_seconds(tmp_path: Path) -> Path:
    return fakes.write(tmp_path / "0.wav", ramp(2.0), subtype="FLOAT")


def test_a_span_is_read_to_the_sample(two_seconds: Path) -> None:
    speech = read(two_seconds, 0.25, 0.25, skip=0.25)
    assert speech.dtype == np.float32
    np.testing.assert_array_equal(speech, ramp(2.0)[8000:12000])


def test_a_stretch_of_flac(tmp_path: Path) -> None:
    whole = fakes.speech("one")
    file = fakes.write(tmp_path / "0.flac", whole, subtype="PCM_16")
    expected, _ = soundfile.read(file, dtype="float32", start=4000, stop=12_000)
    np.testing.assert_array_equal(read(file, 0.25, 0.5), expected)
    np.testing.assert_array_equal(
        read(file, len(whole) / RATE - 0.1, 0.5), soundfile.read(file, dtype="float32")[0][-1600:]
    )


def test_to_read_is_to_seek_once(two_seconds: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In FLAC to seek is to decode."""
    sought: list[Any] = []

    def seek(file: soundfile.SoundFile, *place: int, real: Any = soundfile.SoundFile.seek) -> int:
        sought.append(place)
        return int(real(file, *place))

    monkeypatch.setattr(soundfile.SoundFile, "seek", seek)
    read(two_seconds, 0.5, 1.0)
    assert sought == [(8000,)]


def test_channels_are_averaged(tmp_path: Path) -> None:
    left, right = fakes.speech("left"), fakes.speech("right")
    stereo = fakes.write(tmp_path / "stereo.wav", np.stack([left, right], 1), subtype="FLOAT")
    np.testing.assert_allclose(read(stereo, 0, 9), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_other_rates_are_resampled(tmp_path: Path, rate: int) -> None:
    time = np.arange(rate) / rate
    tone = fakes.write(tmp_path / "tone.wav", (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32), rate, "FLOAT")
    speech = read(tone, 0.25, 0.5)
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
        (lambda file: fakes.resave(file, np.full(RATE, np.inf, np.float32), subtype="FLOAT"), "not finite"),
        (lambda file: fakes.resave(file, np.full(RATE, -np.inf, np.float32), subtype="FLOAT"), "not finite"),
        (fakes.silence, "silence"),
        (lambda file: file.unlink(), "0.wav"),
        (fakes.shorten, "silence"),
        (lambda file: file.write_bytes(b"RIFF" + bytes(range(256))), "0.wav"),
        (lambda file: (file.unlink(), file.mkdir()), "0.wav"),
        (lambda file: fakes.resave(file, rate=100), "sample rate of 100 Hz"),
    ],
)
def test_nothing_bad_is_read(two_seconds: Path, fault: Any, message: str) -> None:
    fault(two_seconds)
    with pytest.raises(BadAudioError, match=message):
        read(two_seconds, 0.5, 1.0)


def test_speech_below_zero_is_speech(tmp_path: Path) -> None:
    below = fakes.write(tmp_path / "below.wav", -ramp(1.0), subtype="FLOAT")
    np.testing.assert_array_equal(read(below, 0, 1), -ramp(1.0))


def test_a_path_that_is_none_is_bad_audio(tmp_path: Path) -> None:
    with pytest.raises(BadAudioError):
        Files(tmp_path, RATE).read(Span(0, 0, "a\0b.wav", 0, 1), 0, 1)


def test_files_pickle(two_seconds: Path) -> None:
    files = pickle.loads(pickle.dumps(Files(two_seconds.parent, RATE)))
    assert len(files.read(Span(0, 0, "0.wav", 0, 1), 0, 1)) == RATE
