"""Every kind of damaged, odd and sound file, one by one."""

import os
import signal
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from datamodules.audit import AuditSettings, Inspection, Result, Segment, Unusable, inspect_all, inspect_segment
from tests import fakes


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    return fakes.write(tmp_path / "a.wav", fakes.speech("a", seconds=0.8))


@pytest.fixture
def flac(tmp_path: Path) -> Path:
    return fakes.write(tmp_path / "a.flac", fakes.speech("a", seconds=0.8))


def inspect(file: Path, start: float = 0.0, end: float | None = None, hash_content: bool = True) -> Result:
    return inspect_segment(str(file.parent), (file.name, start, end), AuditSettings(hash_content))


def usable(file: Path, start: float = 0.0, end: float | None = None, hash_content: bool = True) -> Inspection:
    result = inspect(file, start, end, hash_content)
    assert isinstance(result, Inspection), result
    return result


def kind(file: Path, start: float = 0.0, end: float | None = None, hash_content: bool = True) -> str:
    result = inspect(file, start, end, hash_content)
    assert isinstance(result, Unusable), result
    return result.reason.partition(":")[0]


def test_sound_file(wav: Path) -> None:
    found = usable(wav)
    assert (found.start, found.duration, found.sample_rate, found.frames) == (0, 0.8, 16_000, 12_800)
    assert (found.size, found.mtime_ns) == (wav.stat().st_size, wav.stat().st_mtime_ns)


def test_speech_lies_between_the_silent_ends_with_a_margin(wav: Path) -> None:
    found = usable(wav)
    # The fakes have silent ends of 0.1 s; the margin is 0.05 s, a frame 0.02 s.
    assert found.speech_start == pytest.approx(0.05, abs=0.021)
    assert found.speech_end == pytest.approx(0.75, abs=0.021)


def test_trimming_follows_its_threshold(wav: Path) -> None:
    # The ends are some 75 dB below the speech.
    found = inspect_segment(str(wav.parent), (wav.name, 0, None), AuditSettings(trim_db=120))
    assert isinstance(found, Inspection)
    assert (found.speech_start, found.speech_end) == (0, 0.8)


def test_offset_does_not_hide_silence(wav: Path, tmp_path: Path) -> None:
    samples, _ = soundfile.read(wav, dtype="float32")
    shifted = usable(fakes.write(tmp_path / "shifted.wav", samples + np.float32(0.25)))
    assert shifted.speech_start == pytest.approx(usable(wav).speech_start, abs=1e-9)


def test_header_only(wav: Path) -> None:
    found = usable(wav, hash_content=False)
    assert found.content_hash is None
    assert (found.frames, found.speech_start, found.speech_end) == (12_800, 0, 0.8)


@pytest.mark.parametrize("hash_content", [True, False])
@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (fakes.empty, "empty file"),
        (Path.unlink, "missing file"),
        (lambda file: fakes.truncate(file, 0.5), "truncated or damaged"),
        (lambda file: fakes.promise_bytes(file, 10**9), "truncated or damaged"),
        (lambda file: fakes.promise_bytes(file, 30_000), "truncated or damaged"),
        (lambda file: fakes.promise_bytes(file, 0), "empty file"),
        (lambda file: fakes.truncate(file, 44 / file.stat().st_size), "truncated or damaged"),
        (lambda file: file.write_bytes(b"no sound at all" * 100), "unreadable"),
        (lambda file: fakes.truncate(file, 20 / file.stat().st_size), "unreadable"),
        (fakes.shorten, "too short"),
        (lambda file: fakes.resave(file, rate=1000), "sample rate"),
        (lambda file: fakes.resave(file, np.zeros((8000, 40), np.float32)), "channels"),
    ],
)
def test_faults_seen_in_the_header(wav: Path, plant: Callable[[Path], None], expected: str, hash_content: bool) -> None:
    plant(wav)
    assert kind(wav, hash_content=hash_content) == expected


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (fakes.silence, "silent"),
        (lambda file: fakes.resave(file, np.full(8000, 0.5, np.float32)), "silent"),
        (lambda file: fakes.resave(file, 1e-4 * fakes.speech("quiet"), subtype="FLOAT"), "silent"),
        (fakes.plant_nan, "NaN or infinite samples"),
        (
            lambda file: fakes.resave(file, np.full(8000, np.inf, np.float32), subtype="FLOAT"),
            "NaN or infinite samples",
        ),
        (lambda file: fakes.resave(file, 1e30 * fakes.speech("loud"), subtype="FLOAT"), "samples out of range"),
    ],
)
def test_faults_seen_in_the_samples(wav: Path, plant: Callable[[Path], None], expected: str) -> None:
    plant(wav)
    assert kind(wav) == expected


def test_truncated_flac(flac: Path) -> None:
    fakes.truncate(flac, 0.6)
    assert kind(flac) == "truncated or damaged"


def test_damaged_flac(flac: Path) -> None:
    data = bytearray(flac.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = bytes(200)
    flac.write_bytes(data)
    assert kind(flac) == "truncated or damaged"


@pytest.mark.parametrize("hash_content", [True, False])
def test_flac_header_that_promises_weeks(flac: Path, hash_content: bool) -> None:
    data = bytearray(flac.read_bytes())
    data[21] |= 0x0F  # the 36 bits of the number of samples end in byte 25
    data[22:26] = b"\xff\xff\xff\xff"
    flac.write_bytes(data)
    assert kind(flac, hash_content=hash_content) == "truncated or damaged"


@pytest.mark.parametrize("unknown", [0xFFFFFFFF, 0x7FFFFFFF])
def test_wav_written_into_a_pipe_is_sound(wav: Path, unknown: int) -> None:
    before = usable(wav)
    fakes.promise_bytes(wav, unknown)
    assert usable(wav).content_hash == before.content_hash


@pytest.mark.parametrize(
    ("rate", "subtype", "channels"),
    [(8000, "PCM_16", 1), (44_100, "PCM_24", 1), (16_000, "FLOAT", 1), (16_000, "ULAW", 1), (48_000, "PCM_16", 2)],
)
def test_odd_but_sound(tmp_path: Path, rate: int, subtype: str, channels: int) -> None:
    samples = np.stack([fakes.speech("odd", rate=rate)] * channels, axis=1)
    found = usable(fakes.write(tmp_path / "odd.wav", samples, rate, subtype))
    assert (found.sample_rate, found.frames, found.duration) == (rate, rate // 2, 0.5)


def test_content_hash_is_of_the_sound_alone(tmp_path: Path) -> None:
    # As integers, since libsndfile rounds when it turns floats into them.
    values = np.round(fakes.speech("a") * 32768).astype(np.int16)
    floats = values.astype(np.float32) / 32768

    def content(name: str, samples: NDArray[np.generic], subtype: str = "PCM_16", rate: int = 16_000) -> str | None:
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        return usable(tmp_path / name).content_hash

    same = {
        content("a.wav", values),
        content("b.flac", values),
        content("c.aiff", values),
        content("d.wav", values.astype(np.int32) << 16, "PCM_24"),
        content("e.wav", np.stack([values, values], axis=1)),
        content("f.wav", floats, "FLOAT"),
        content("g.wav", np.where(values == 0, np.float32(-0.0), floats), "FLOAT"),
    }
    assert len(same) == 1
    changed = values.copy()
    changed[100] += 1
    other = {content("h.wav", changed), content("i.wav", values[:-1]), content("j.wav", values, rate=8000)}
    assert len(same | other) == 4


def test_blocks_do_not_matter(wav: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = usable(wav)
    monkeypatch.setattr("datamodules.audit._BLOCK_SAMPLES", 1000)
    assert usable(wav) == whole


def test_segments(wav: Path) -> None:
    samples, _ = soundfile.read(wav, dtype="float32")
    found = usable(wav, 0.2, 0.5)
    assert (found.start, found.frames) == (0.2, 4800)
    assert found.duration == pytest.approx(0.3)
    assert 0.2 <= found.speech_start < found.speech_end <= 0.5
    cut = fakes.write(wav.with_name("cut.wav"), samples[3200:8000])
    assert found.content_hash == usable(cut).content_hash
    assert usable(wav, 0.2, 0.85).frames == 9600  # a rounded end


@pytest.mark.parametrize(("start", "end"), [(0.5, 0.5), (0.5, 0.4), (-1.0, 0.5), (2.0, 3.0), (0.5, 1.2), (1.0, None)])
def test_segments_that_are_not_there(wav: Path, start: float, end: float | None) -> None:
    assert kind(wav, start, end) == "segment"


def test_folder_and_pipe_are_not_files(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    assert kind(tmp_path / "folder.wav") == kind(tmp_path / "pipe.wav") == "not a file"


def test_riff_list_after_the_samples_is_sound(wav: Path) -> None:
    before = usable(wav)
    extra = b"LIST" + struct.pack("<I", 12) + b"INFOISFT" + struct.pack("<I", 0)
    data = bytearray(wav.read_bytes() + extra)
    struct.pack_into("<I", data, 4, len(data) - 8)
    wav.write_bytes(data)
    assert usable(wav).content_hash == before.content_hash


def die_at_marked(root: str, segment: Segment, settings: AuditSettings) -> Result:
    """A decoder that some files kill."""
    if "deadly" in segment[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return inspect_segment(root, segment, settings)


def test_processes_give_the_same_in_the_same_order(tmp_path: Path) -> None:
    fakes.folder(tmp_path, files=24)
    fakes.empty(tmp_path / "part0/0004.wav")
    names = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.wav"))
    chunks: list[list[Segment]] = [[(name, 0.0, None) for name in names[i : i + 3]] for i in range(0, 24, 3)]
    alone = list(inspect_all(str(tmp_path), iter(chunks), AuditSettings(), workers=1))
    together = list(inspect_all(str(tmp_path), iter(chunks), AuditSettings(), workers=2))
    assert together == alone
    assert sum(isinstance(result, Unusable) for chunk in alone for result in chunk) == 1


def test_file_that_kills_its_process_is_the_only_one_lost(tmp_path: Path) -> None:
    fakes.folder(tmp_path, files=10)
    fakes.duplicate(tmp_path / "part0/0000.wav", tmp_path / "part0/deadly.wav")
    names = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.wav"))
    chunks: list[list[Segment]] = [[(name, 0.0, None)] for name in names]
    results = inspect_all(str(tmp_path), chunks, AuditSettings(False), workers=2, inspect=die_at_marked)
    lost = [name for name, [result] in zip(names, results, strict=True) if isinstance(result, Unusable)]
    assert lost == ["part0/deadly.wav"]


def test_few_chunks_are_on_their_way_at_once(tmp_path: Path) -> None:
    fakes.folder(tmp_path, files=1)
    drawn = 0

    def chunks() -> Iterator[list[Segment]]:
        nonlocal drawn
        for _ in range(40):
            drawn += 1
            yield [("part0/0000.wav", 0.0, None)]

    results = inspect_all(str(tmp_path), chunks(), AuditSettings(False), workers=2)
    next(results)
    assert drawn < 20
    assert sum(1 for _ in results) == 39
    assert drawn == 40
