"""Where samples come from: the files of a corpus, a pack of them, or the decoded speech of a small corpus."""

import functools
import io
import math
import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import numpy as np
import soundfile
from numpy.typing import NDArray

from datamodules.audit import MAX_CHANNELS, SAMPLE_RATES
from datamodules.collection import Span

Floats = NDArray[np.float32]

SILENCE = 1e-5
"""Speech with no sample above this (-100 dB) is as good as none."""


_MOST_WEIGHTS = 1 << 22
"""A filter has as many weights as both rates, without what divides both, multiplied: 15 999 Hz would take gigabytes.

Beyond this the nearest ratio that has fewer is taken, which is less than a thousandth beside it: no ear hears that.
"""


class BadAudioError(Exception):
    """A file cannot be read or holds no speech."""


class Source(Protocol):
    """One corpus's speech, mono and at one sample rate."""

    def read(self, span: Span, skip: float, duration: float) -> Floats:
        """Reads some of an utterance.

        Args:
            span: Where the utterance's speech is.
            skip: Seconds after its start.
            duration: In seconds.

        Returns:
            (samples,), float32.

        Raises:
            BadAudioError: The speech cannot be read, or there is none: it is empty, silent or not finite.
        """
        ...


class Forwards(soundfile.SoundFile):  # type: ignore[misc]  # published without types
    """An audio file of which one stretch is read, or one after the other.

    After a read, SoundFile seeks to where the next one would begin, and to seek in FLAC is to decode. It does not where
    a file says that it cannot; ``seek`` works all the same.
    """

    def seekable(self) -> bool:
        """Says no."""
        return False


class Files:
    """The files as their owners ship them, in any format that libsndfile reads.

    Args:
        root: Folder that paths are relative to.
        sample_rate: Wanted rate in Hz.
    """

    def __init__(self, root: Path | str, sample_rate: int) -> None:
        self.root = str(root)
        self.sample_rate = sample_rate

    def read(self, span: Span, skip: float, duration: float) -> Floats:
        """Seeks, decodes, averages the channels, resamples; see ``Source``."""
        start = span.start + skip
        try:
            with Forwards(self._file(span)) as file:
                rate = file.samplerate
                if not SAMPLE_RATES[0] <= rate <= SAMPLE_RATES[1]:
                    raise BadAudioError(f"{self.root}/{span.path}: a sample rate of {rate} Hz")
                if file.channels > MAX_CHANNELS:
                    raise BadAudioError(f"{self.root}/{span.path}: {file.channels} channels")
                first = file.seek(min(round(start * rate), file.frames))
                speech: Floats = file.read(min(round(duration * rate), file.frames - first), dtype="float32")
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise BadAudioError(f"{self.root}/{span.path}: {error}") from error
        if speech.ndim > 1:
            speech = speech.mean(axis=1)
        if rate != self.sample_rate and len(speech):
            speech = resample(speech, rate, self.sample_rate)
        _check(speech, f"{self.root}/{span.path}", start)
        return speech

    def _file(self, span: Span) -> str | BinaryIO:
        return f"{self.root}/{span.path}"


class Place(NamedTuple):
    """Where a file is in a pack: so many bytes of a shard from an offset on."""

    shard: int
    offset: int
    bytes: int


PLACE = struct.Struct("<qqq")
"""A ``Place`` on the disk: the index of a pack has one for each row of the manifest."""

_OPEN_FILES = 256
"""A process may have some thousand files open, and a large pack has more shards."""


class Packed(Files):
    """The same files inside the shards of a pack (see ``datamodules.packing``), opened when they are first used.

    Args:
        folder: The corpus's folder in the pack.
        index: Its file of ``PLACE``s.
        shard: Names a shard's file.
        sample_rate: Wanted rate in Hz.
    """

    def __init__(self, folder: Path, index: str, shard: Callable[[int], str], sample_rate: int) -> None:
        super().__init__(folder, sample_rate)
        self.index = index
        self.shard = shard
        self._opened: dict[str, BinaryIO] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": {}}

    def _file(self, span: Span) -> BinaryIO:
        record = os.pread(self._open(self.index).fileno(), PLACE.size, span.row * PLACE.size)
        if len(record) < PLACE.size:
            raise BadAudioError(f"{self.root}/{self.index}: is cut off before row {span.row}")
        place = Place(*PLACE.unpack(record))
        return _Slice(self._open(self.shard(place.shard)), place)  # type: ignore[return-value]

    def _open(self, name: str) -> BinaryIO:
        if name not in self._opened:
            if len(self._opened) >= _OPEN_FILES:
                self._opened.pop(next(iter(self._opened))).close()  # the one that was opened first
            self._opened[name] = open(f"{self.root}/{name}", "rb", buffering=0)  # noqa: PTH123, SIM115
        return self._opened[name]


class _Slice(io.RawIOBase):
    """Some bytes of a file as a file of their own, with a position of its own."""

    def __init__(self, file: BinaryIO, place: Place) -> None:
        self.descriptor = file.fileno()
        self.place = place
        self.position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.position = offset + (0, self.position, self.place.bytes)[whence]
        return self.position

    def readinto(self, buffer: Any) -> int:
        left = max(0, self.place.bytes - self.position)
        count = os.preadv(self.descriptor, [memoryview(buffer)[:left]], self.place.offset + self.position)
        self.position += count
        return count


RECORD = struct.Struct("<qqd")
"""What the decoded speech of a corpus says of each row: offset and bytes of its samples, and the value of one step.

Where the last is 0 there are no samples: the row could not be decoded.
"""


class Decoded:
    """Speech that was decoded before, as 16-bit samples in one file (see ``datamodules.decoding``).

    Read by position, and opened when it is first used: processes share it through the system's cache of files, and it
    is no process's memory.

    Args:
        file: ``RECORD``s, one for each row of the manifest, and samples.
        sample_rate: Of the samples, in Hz.
        source: Where they were decoded from. Rows that could not be decoded are read there, which tells why.
    """

    def __init__(self, file: Path, sample_rate: int, source: Source) -> None:
        self.file = file
        self.sample_rate = sample_rate
        self.source = source
        self._opened: BinaryIO | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}

    def read(self, span: Span, skip: float, duration: float) -> Floats:
        """Copies the samples; see ``Source``."""
        rate = self.sample_rate
        try:
            if self._opened is None:
                self._opened = self.file.open("rb", buffering=0)
            descriptor = self._opened.fileno()
            offset, size, step = RECORD.unpack(os.pread(descriptor, RECORD.size, span.row * RECORD.size))
            if not step:
                return self.source.read(span, skip, duration)
            first = round((span.start + skip) * rate) - round(span.start * rate)
            count = min(round(duration * rate), size // 2 - first)
            samples = np.empty(max(count, 0), "<i2")
            if os.preadv(descriptor, [samples.data], offset + 2 * first) < samples.nbytes:
                raise BadAudioError(f"{self.file}: is cut off")
        except (OSError, struct.error) as error:
            raise BadAudioError(f"{self.file}: {error}") from error
        _check(samples, span.path, span.start + skip, step)
        speech: Floats = np.multiply(samples, np.float32(step), dtype=np.float32)
        return speech


def _check(samples: NDArray[Any], name: str, start: float, step: float = 1.0) -> None:
    """Refuses what no one can learn from; two passes, which make no copy, since every crop is looked at.

    Args:
        samples: As they are stored.
        name: Of the file.
        start: Where they begin, in seconds.
        step: The value of one step of the samples.
    """
    peak = step * max(float(samples.max()), -float(samples.min())) if len(samples) else 0.0
    if not math.isfinite(peak):
        raise BadAudioError(f"{name}: not finite from {start:.2f} s on")
    if peak < SILENCE:
        raise BadAudioError(f"{name}: silence from {start:.2f} s on")


def resample(speech: Floats, rate: int, wanted: int) -> Floats:
    """Samples (samples,) at another rate."""
    import torch  # as late as this: most corpora have the wanted rate, and processes that decode start without it

    resampled: Floats = _resampler(rate, wanted)(torch.from_numpy(speech)).numpy()
    return resampled


@functools.lru_cache(maxsize=16)
def _resampler(rate: int, wanted: int) -> Any:
    """A filter, kept: to make it takes as long as to use it."""
    import torch

    from datamodules.audio import torchaudio

    ratio = Fraction(rate, wanted)
    if ratio.numerator * ratio.denominator > _MOST_WEIGHTS:
        ratio = ratio.limit_denominator(max(1, math.isqrt(int(_MOST_WEIGHTS / ratio))))
    return torchaudio.transforms.Resample(ratio.numerator, ratio.denominator, dtype=torch.float32)
