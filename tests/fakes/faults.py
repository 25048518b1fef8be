"""Faults that real corpora have: each changes a file that a corpus writer wrote."""

import os
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from tests.fakes.sound import Samples, write


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


def plant_all(files: Sequence[Path]) -> dict[Path, str | None]:
    """Plants each fault of audio files once, in the first of the given plain WAV files, of which 11 are needed.

    Returns:
        The changed files, each with the kind of fault that it must be left out for when it is decoded; None where it
        is unusual and yet usable. Beside the last of them lies a hidden double, which must not be seen at all.
    """
    empty(files[0])
    truncate(files[1])
    promise_bytes(files[2], 10 * files[2].stat().st_size)
    silence(files[3])
    plant_nan(files[4])
    shorten(files[5])
    for file, subtype in zip(files[6:9], ("PCM_24", "FLOAT", "ULAW"), strict=True):
        resave(file, subtype=subtype)
    samples, rate = soundfile.read(files[9], dtype="float32")
    resave(files[9], samples[:: max(1, rate // 8_000)], rate=8_000)
    make_stereo(files[10])
    hide_double(files[10])
    kinds = (
        "empty file",
        "truncated or damaged",
        "truncated or damaged",
        "silent",
        "NaN or infinite samples",
        "too short",
    )
    return dict(zip(files, (*kinds, *[None] * 5), strict=False))
