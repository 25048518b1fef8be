"""Writers of small corpora in the layouts of the real ones, and of the faults that real ones have.

The speech is short, voiced, not silent, and the same on every machine; its pitch and level depend on the emotion, its
timbre on the speaker, so that there is something to learn.
"""

import csv
import os
import shutil
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.float32]

RAVDESS_EMOTIONS = ("01", "02", "03", "04", "05", "06", "07", "08")
NEMO_EMOTIONS = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")
SILENT_ENDS = 0.1
"""Seconds of near silence before and after the speech of every fake."""


def _seed(*key: object) -> int:
    return zlib.crc32("/".join(map(str, key)).encode())


def speech(
    *key: object, seconds: float = 0.5, rate: int = 16_000, speaker: object = "", emotion: object = ""
) -> Samples:
    """Makes a vowel between two near silences: harmonics under the formants of a speaker, pitch of an emotion.

    Args:
        key: Whatever makes this sound differ from others.
        seconds: Length, ends included.
        rate: Samples a second.
        speaker: Decides on register and formants.
        emotion: Decides on pitch, its slope, and level.

    Returns:
        (samples,), at most 0.6.
    """
    voice, mood = np.random.default_rng(_seed("voice", speaker)), np.random.default_rng(_seed("mood", emotion))
    rng = np.random.default_rng(_seed("sound", *key))
    time = np.arange(round((seconds - 2 * SILENT_ENDS) * rate)) / rate
    pitch = voice.uniform(100, 220) * mood.uniform(0.8, 1.4) * rng.uniform(0.97, 1.03)
    glide = 1 + mood.uniform(-0.3, 0.3) * time / max(seconds, 1e-3)
    phase = 2 * np.pi * np.cumsum(pitch * glide) / rate
    formants = voice.uniform([400, 1000, 2300], [800, 1900, 3200])
    sound = np.zeros(len(time))
    for harmonic in range(1, int(min(4000, rate / 2.2) / (1.4 * pitch)) + 1):
        gain = sum(1 / (1 + ((harmonic * pitch - formant) / 120) ** 2) for formant in formants)
        sound += gain * np.sin(harmonic * phase + rng.uniform(0, 2 * np.pi))
    sound += 0.02 * rng.standard_normal(len(time))
    sound *= mood.uniform(0.2, 0.6) / np.abs(sound).max()
    ends = 1e-4 * rng.standard_normal((2, round(SILENT_ENDS * rate)))
    return np.concatenate([ends[0], sound, ends[1]]).astype(np.float32)


def write(file: Path, samples: Samples, rate: int = 16_000, subtype: str = "PCM_16") -> Path:
    """Writes a file in the format of its suffix, with its folders."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, samples, rate, subtype=subtype)
    return file


def ravdess(
    root: Path,
    actors: int = 4,
    emotions: Sequence[str] = RAVDESS_EMOTIONS,
    statements: int = 2,
    repetitions: int = 1,
    seconds: float = 0.5,
    rate: int = 48_000,
    suffix: str = ".wav",
) -> Path:
    """Writes RAVDESS, speech, audio only: `Actor_01/03-01-05-01-02-01-01.wav`."""
    for actor in range(1, actors + 1):
        for emotion in emotions:
            for statement in range(1, statements + 1):
                for repetition in range(1, repetitions + 1):
                    name = f"03-01-{emotion}-01-{statement:02}-{repetition:02}-{actor:02}"
                    samples = speech(name, seconds=seconds, rate=rate, speaker=actor, emotion=emotion)
                    write(root / f"Actor_{actor:02}" / f"{name}{suffix}", samples, rate)
    return root


def nemo(
    root: Path,
    speakers: int = 4,
    emotions: Sequence[str] = NEMO_EMOTIONS,
    sentences: int = 2,
    seconds: float = 0.5,
    rate: int = 24_000,
    suffix: str = ".wav",
    newline: str = "\r\n",
) -> Path:
    """Writes nEMO: `samples/AK0_anger_1.wav`; `data.tsv` has spaces before speakers and quotes that do not quote."""
    lines = ["\t".join(("file_id", "emotion", "raw_text", "normalized_text", "speaker_id", "gender", "age"))]
    for number in range(speakers):
        speaker, gender = f"{'ABCDEFGHIJ'[number % 10]}{'KLM'[number // 10]}0", ("female", "male")[number % 2]
        for emotion in emotions:
            for sentence in range(1, sentences + 1):
                name = f"{speaker}_{emotion}_{sentence}"
                samples = speech(name, seconds=seconds, rate=rate, speaker=speaker, emotion=emotion)
                write(root / "samples" / f"{name}{suffix}", samples, rate)
                text = f'"Zażółć gęślą jaźń, {sentence}.'
                lines.append("\t".join((f"{name}.wav", emotion, text, text, f"        {speaker}", gender, "23")))
    (root / "data.tsv").write_text(newline.join([*lines, ""]), encoding="utf-8", newline="")
    return root


def librispeech(
    root: Path,
    speakers: int = 6,
    utterances: int = 2,
    subsets: Sequence[str] = ("train-clean-100",),
    seconds: float = 0.6,
    rate: int = 16_000,
) -> Path:
    """Writes LibriSpeech: `<subset>/<speaker>/<chapter>/<speaker>-<chapter>-0000.flac` and `SPEAKERS.TXT`.

    Speakers (14, 17, 20, …) go to the subsets in turn; women and men take turns.
    """
    lines = ["; Some pipe(|) separated metadata about the readers", ";", ";ID  |SEX| SUBSET           |MINUTES| NAME"]
    for number in range(speakers):
        speaker, subset, chapter = str(14 + 3 * number), subsets[number % len(subsets)], str(200 + number)
        name = f"Reader {number} | the | Younger"
        lines.append(f"{speaker:<5}| {'FM'[number % 2]} | {subset:<17}| 25.03 | {name}")
        for utterance in range(utterances):
            stem = f"{speaker}-{chapter}-{utterance:04}"
            samples = speech(stem, seconds=seconds, rate=rate, speaker=speaker)
            write(root / subset / speaker / chapter / f"{stem}.flac", samples, rate)
        transcript = root / subset / speaker / chapter / f"{speaker}-{chapter}.trans.txt"
        transcript.write_text(f"{speaker}-{chapter}-0000 SOME WORDS\n")
    (root / "SPEAKERS.TXT").write_text("\n".join([*lines, ""]), encoding="utf-8")
    return root


def folder(root: Path, files: int = 6, seconds: float = 0.6, rate: int = 16_000) -> Path:
    """Writes recordings without labels, one folder deep."""
    for number in range(files):
        write(root / f"part{number % 2}" / f"{number:04}.wav", speech(number, seconds=seconds, rate=rate), rate)
    return root


def table(file: Path, rows: Iterable[Mapping[str, object]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """Writes a delimited table of the given rows, which share their keys, and the audio they name below its folder."""
    rows = list(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        audio = file.parent / str(row["path"])
        if not audio.exists():
            write(audio, speech(row["path"], seconds=1.0, speaker=row.get("speaker"), emotion=row.get("emotion")))
    return file


# Faults: each changes a file that a corpus writer wrote.


def empty(file: Path) -> None:
    """Leaves nothing of a file."""
    file.write_bytes(b"")


def truncate(file: Path, share: float = 0.5) -> None:
    """Cuts the end off a file; the header stays."""
    os.truncate(file, round(file.stat().st_size * share))


def promise_bytes(file: Path, promise: int) -> None:
    """Lets a plain RIFF header (44 bytes) say that so many bytes of samples follow."""
    data = bytearray(file.read_bytes())
    if data[36:40] != b"data":
        raise ValueError(f"{file} is no plain RIFF file")
    struct.pack_into("<I", data, 4, min(promise + 36, 0xFFFFFFFF))
    struct.pack_into("<I", data, 40, promise)
    file.write_bytes(data)


def resave(file: Path, samples: Samples | None = None, rate: int | None = None, subtype: str = "PCM_16") -> None:
    """Writes a file again with other samples, rate or sample format."""
    old, old_rate = soundfile.read(file, dtype="float32")
    write(file, old if samples is None else samples, rate or old_rate, subtype)


def make_stereo(file: Path) -> None:
    """Gives a file two equal channels."""
    samples, _ = soundfile.read(file, dtype="float32")
    resave(file, np.stack([samples, samples], axis=1))


def plant_nan(file: Path) -> None:
    """Makes it a float file with one sample that is no number."""
    samples, _ = soundfile.read(file, dtype="float32")
    samples[len(samples) // 2] = np.nan
    resave(file, samples, subtype="FLOAT")


def silence(file: Path) -> None:
    """Sets all samples to zero."""
    samples, _ = soundfile.read(file, dtype="float32")
    resave(file, np.zeros_like(samples))


def shorten(file: Path, seconds: float = 0.004) -> None:
    """Leaves a few milliseconds."""
    samples, rate = soundfile.read(file, dtype="float32")
    resave(file, samples[len(samples) // 2 :][: round(seconds * rate)])


def duplicate(file: Path, under: Path) -> None:
    """Copies a recording under another name."""
    under.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, under)


def hide_double(file: Path) -> None:
    """Leaves the double that macOS writes beside a file on foreign disks."""
    file.with_name(f"._{file.name}").write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        ")
