"""Speech of the fakes: short, voiced, and the same on every machine."""

import zlib
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.float32]

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
