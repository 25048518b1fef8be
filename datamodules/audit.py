"""Looks into audio files, many at a time: what they hold, and whether it can be used.

Workers import nothing but numpy and soundfile, so that they start fast and stay small.
"""

import errno
import hashlib
import os
import re
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

from datamodules.processes import work_off

Segment = tuple[str, float, float | None]
"""A file relative to the corpus root, and start and end in it in seconds; None is the end of the file."""

FRAME_SECONDS = 0.02
MARGIN_SECONDS = 0.05
SAMPLE_RATES = (4_000, 384_000)
MAX_CHANNELS = 32
MAX_HOURS = 24
MAX_AMPLITUDE = 1e6
"""Float files may be scaled as integers are (to 2**15, some to 2**19), but no sound needs more."""
MAX_FRAMES_PER_BYTE = 8192
"""FLAC at its best stores silence in about 14 bytes for 65535 frames; no format stores more frames in a byte."""
END_TOLERANCE_SECONDS = 0.1
"""Annotated ends are rounded, and may lie that far behind the end of the file."""

_BLOCK_SAMPLES = 1 << 20
_UNKNOWN_LENGTH = 0x7FFFF000
"""Programs that write WAV into a pipe put this or more where they cannot know the length; such files are sound."""
_PROMISED_AND_HELD = re.compile(r"^ *(?:data|SSND) *: (\d+) \(should be (\d+)\)", re.MULTILINE)


@dataclass(frozen=True)
class AuditSettings:
    """What is looked at, and what counts as unusable.

    Attributes:
        hash_content: Decode the samples (else only headers are read): finds damage and silence, and gives the content
            hash and the ends of speech.
        trim_db: A frame this far below the utterance's loudest one is not speech, at its beginning and end (dB).
        min_seconds: Shorter segments are unusable.
        silence_db: A segment whose loudest frame is below this is silent (dB relative to full scale).
    """

    hash_content: bool = True
    trim_db: float = 40.0
    min_seconds: float = 0.1
    silence_db: float = -70.0


class Inspection(NamedTuple):
    """What was found in a usable segment; times in seconds in the file, `size` and `mtime_ns` of the file."""

    start: float
    duration: float
    sample_rate: int
    frames: int
    speech_start: float
    speech_end: float
    content_hash: str | None
    size: int
    mtime_ns: int


_WHOLE = len(Inspection._fields)


class Unusable(NamedTuple):
    """Why a segment is unusable ("kind: details"); `size` and `mtime_ns` are -1 where there is no file."""

    reason: str
    size: int
    mtime_ns: int


Result = Inspection | Unusable
Inspect = Callable[[str, Segment, AuditSettings], Result]


class _UnusableError(Exception):
    """Carries the reason."""


def file_stamp(path: str) -> tuple[int, int]:
    """Returns (size, mtime in ns) of a file, (0, mtime in ns) of anything else, (-1, -1) where there is nothing."""
    try:
        status = os.stat(path)  # noqa: PTH116 - called for each of very many files
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return -1, -1
        raise
    return (status.st_size if stat.S_ISREG(status.st_mode) else 0), status.st_mtime_ns


def inspect_segment(root: str, segment: Segment, settings: AuditSettings) -> Result:
    """Inspects one segment; whatever is wrong with the file becomes the result, never an exception.

    Args:
        root: The corpus root.
        segment: What to inspect.
        settings: What to look at, and what counts as unusable.
    """
    path = f"{root}/{segment[0]}"
    size, mtime_ns = -1, -1
    try:
        size, mtime_ns = file_stamp(path)
        if size < 0:
            raise _UnusableError("missing file")
        if size == 0:  # before it is opened: a pipe would block
            raise _UnusableError("empty file" if Path(path).is_file() else "not a file")
        with soundfile.SoundFile(path) as sound:
            return Inspection(*_inspect(sound, segment, size, settings), size, mtime_ns)
    except _UnusableError as error:
        return Unusable(str(error), size, mtime_ns)
    except soundfile.LibsndfileError as error:
        return Unusable(f"unreadable: {error.error_string}", size, mtime_ns)
    except (OSError, ValueError, RuntimeError) as error:
        return Unusable(f"unreadable: {error}", size, mtime_ns)


def _inspect(
    sound: soundfile.SoundFile, segment: Segment, size: int, settings: AuditSettings
) -> tuple[float, float, int, int, float, float, str | None]:
    rate, total = sound.samplerate, sound.frames
    if not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
        raise _UnusableError(f"sample rate: {rate} Hz is not between {SAMPLE_RATES[0]} and {SAMPLE_RATES[1]}")
    if sound.channels > MAX_CHANNELS:
        raise _UnusableError(f"channels: {sound.channels} are more than {MAX_CHANNELS}")
    # libsndfile silently reads what is left of a file that was cut off, but notes it in its log of the header.
    log = sound.extra_info
    lie = _PROMISED_AND_HELD.search(log) if "should be" in log else None  # the search alone takes ten times as long
    if lie and int(lie[2]) + 1 < int(lie[1]) < _UNKNOWN_LENGTH:
        raise _UnusableError(f"truncated or damaged: the header promises {lie[1]} bytes of samples, there are {lie[2]}")
    if total > size * MAX_FRAMES_PER_BYTE:
        raise _UnusableError(f"truncated or damaged: the header promises {total} frames in {size} bytes")
    if total > MAX_HOURS * 3600 * rate:
        raise _UnusableError(f"too long: {total / rate / 3600:.1f} h are more than {MAX_HOURS}; cut it into pieces")

    first, stop = _bounds(segment, rate, total)
    if stop - first < settings.min_seconds * rate:
        raise _UnusableError(f"too short: {(stop - first) / rate:.3f} s")
    start, end = first / rate, stop / rate
    if not settings.hash_content:
        return start, end - start, rate, stop - first, start, end, None

    digest, power = _decode(sound, first, stop)
    return start, end - start, rate, stop - first, *_ends_of_speech(power, start, end, rate, settings), digest


def inspect_samples(samples: NDArray[np.float32], rate: int, settings: AuditSettings) -> tuple[float, float]:
    """Where the speech in samples (samples,) begins and ends, in seconds, as it would be found in a file of them.

    Raises:
        ValueError: They cannot be used; the message is the reason that a file would get.
    """
    if len(samples) < settings.min_seconds * rate:
        raise ValueError(f"too short: {len(samples) / rate:.3f} s")
    if not np.abs(samples).max() <= MAX_AMPLITUDE:
        kind = "samples out of range" if np.isfinite(samples).all() else "NaN or infinite samples"
        raise ValueError(kind)
    try:
        power = np.concatenate(list(_powers(samples, _frame(rate))))
        return _ends_of_speech(power, 0.0, len(samples) / rate, rate, settings)
    except _UnusableError as error:
        raise ValueError(str(error)) from error


def _ends_of_speech(
    power: NDArray[np.float64], start: float, end: float, rate: int, settings: AuditSettings
) -> tuple[float, float]:
    """Beginning and end of the speech in a segment, of which ``power`` is that of each frame (frames,)."""
    threshold = power.max()
    if threshold < 10 ** (settings.silence_db / 10):
        level = "digital silence" if threshold == 0 else f"{10 * np.log10(threshold):.0f} dB at the loudest"
        raise _UnusableError(f"silent: {level}")
    speech, frame = np.flatnonzero(power >= threshold * 10 ** (-settings.trim_db / 10)), _frame(rate)
    speech_start = max(start, start + int(speech[0]) * frame / rate - MARGIN_SECONDS)
    speech_end = min(end, start + (int(speech[-1]) + 1) * frame / rate + MARGIN_SECONDS)
    return speech_start, speech_end


def _frame(rate: int) -> int:
    """Samples of a frame."""
    return round(FRAME_SECONDS * rate)


def _powers(mono: NDArray[np.float32], frame: int) -> Iterator[NDArray[np.float64]]:
    """Mean power of each frame without its offset; of the rest, if there is one, too."""
    whole = len(mono) // frame * frame
    yield mono[:whole].reshape(-1, frame).var(axis=1, dtype=np.float64)
    if whole < len(mono):
        yield mono[whole:].var(dtype=np.float64, keepdims=True)


def _bounds(segment: Segment, rate: int, total: int) -> tuple[int, int]:
    """First frame of the segment, and the one after its last."""
    _, start, end = segment
    first = round(start * rate)
    stop = total if end is None else round(end * rate)
    if total == 0:
        raise _UnusableError("empty file: a header without samples")
    if not 0 <= first < stop:
        raise _UnusableError(f"segment: {start} to {end} s is none in a file of {total / rate:.3f} s")
    if stop > total + END_TOLERANCE_SECONDS * rate or first >= total:
        raise _UnusableError(f"segment: {start} to {end} s lies outside of the file's {total / rate:.3f} s")
    return first, min(stop, total)


def _decode(sound: soundfile.SoundFile, first: int, stop: int) -> tuple[str, NDArray[np.float64]]:
    """Decodes a segment in blocks.

    Returns:
        Hash of the samples, and mean power of each frame without its offset (frames,). The hash is that of the
        channels' average in float32 and of the rate: containers and sample formats do not change it as long as they
        hold the same values.
    """
    rate, channels = sound.samplerate, sound.channels
    frame = _frame(rate)
    block = max(1, _BLOCK_SAMPLES // channels // frame) * frame
    digest = hashlib.blake2b(struct.pack("<I", rate), digest_size=16)
    powers: list[NDArray[np.float64]] = []
    position = first
    if first:
        sound.seek(first)
    while position < stop:
        wanted = min(block, stop - position)
        try:
            samples = sound.read(wanted, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise _UnusableError(f"truncated or damaged: {error.error_string}") from error
        if len(samples) < wanted:
            decoded = (position + len(samples) - first) / rate
            raise _UnusableError(f"truncated or damaged: {decoded:.3f} s of {(stop - first) / rate:.3f} s are there")
        peak = np.abs(samples).max()
        if not peak <= MAX_AMPLITUDE:
            kind = "samples out of range" if np.isfinite(samples).all() else "NaN or infinite samples"
            raise _UnusableError(f"{kind}: near {position / rate:.3f} s")
        mono = samples[:, 0] if channels == 1 else samples.mean(axis=1)
        mono += np.float32(0)  # makes -0 and 0 the same
        digest.update(np.ascontiguousarray(mono, "<f4").data)  # without a copy, which would take as long as the hash
        powers += _powers(mono, frame)
        position += len(samples)
    return digest.hexdigest(), np.concatenate(powers)


def inspect_all(
    root: str,
    chunks: Iterable[list[Segment]],
    settings: AuditSettings,
    workers: int | None = None,
    inspect: Inspect = inspect_segment,
) -> Iterator[list[Result]]:
    """Inspects chunks of segments in several processes; yields each chunk's results, in order (see `work_off`).

    A file that kills its process becomes an unusable one.

    Args:
        root: The corpus root.
        chunks: May be a generator; it is drawn from in this process.
        settings: What to look at, and what counts as unusable.
        workers: Number of processes; None is one for each core that this process may use.
        inspect: What is done with each segment; a function that processes can import.

    Raises:
        InputError: Processes cannot even start.
    """
    work = partial(_inspect_plainly, root, settings, inspect)
    for results in work_off(work, chunks, partial(_crashed, root), workers):
        yield [(Inspection if len(one) == _WHOLE else Unusable)._make(one) for one in results]


def _inspect_plainly(root: str, settings: AuditSettings, inspect: Inspect, segment: Segment) -> tuple[Any, ...]:
    """The result as a plain tuple: named ones take three times as long from one process to another."""
    return tuple(inspect(root, segment, settings))


def _crashed(root: str, segment: Segment) -> tuple[Any, ...]:
    return "crashed the decoder", *file_stamp(f"{root}/{segment[0]}")
