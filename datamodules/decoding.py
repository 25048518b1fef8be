"""Decodes the speech of a small corpus once, into one file of 16-bit samples that all processes and runs share."""

import os
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.arrow import to_numpy
from datamodules.audit import FRAME_SECONDS
from datamodules.bars import bar_of_utterances
from datamodules.collection import Span
from datamodules.errors import explained
from datamodules.freshness import durable, lock
from datamodules.manifest import Manifest
from datamodules.processes import work_off
from datamodules.speech import RECORD, BadAudioError, Decoded, Floats, Source

VERSION = 1
"""Raised whenever the file, or how it is made, changes: older ones are then made again."""

_COLUMNS = ["path", "speech_start", "speech_end", "sample_rate"]
_STEP = 1 / 32768
_LARGEST = 32767
_ROWS_PER_CHUNK = 16
_REMEDIES = "data.cache, or data.decoded_gb=0"


class _Row(NamedTuple):
    """An utterance's speech and its place in the file: seconds of it, and an offset and so many bytes at the most."""

    span: Span
    seconds: float
    offset: int
    bytes: int


def decoded_bytes(manifest: Manifest, sample_rate: int, limit: float) -> int | None:
    """The size of a corpus's speech as 16-bit samples; none if it is above a limit, or its content is not hashed.

    It follows from the manifest, so that all processes and all runs choose the same. Without content hashes a manifest
    stays the same when samples change, and what was decoded before would be taken for theirs.
    """
    if not manifest.facts["audit"]["hash_content"]:
        return None
    if len(manifest) * FRAME_SECONDS * sample_rate * 2 > limit:  # no row has less: what is large need not be read
        return None
    seconds = sum(
        float(np.sum(to_numpy(batch.column("speech_end")) - to_numpy(batch.column("speech_start"))))
        for _, batch in manifest.scan(["speech_start", "speech_end"])
    )
    size = round(seconds * sample_rate) * 2
    return size if size <= limit else None


def decode_corpus(
    manifest: Manifest,
    source: Source,
    sample_rate: int,
    cache_dir: Path,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Decoded:
    """Decodes the speech of all utterances, or finds what was decoded before.

    Several processes may ask at once: one decodes, the others wait. What was cut off is made again; a row that cannot
    be read now is left to the source, each time it is drawn: a disk that was away must not be remembered for good.

    Args:
        manifest: The corpus.
        source: Where its speech is read.
        sample_rate: Wanted rate in Hz, that of the source.
        cache_dir: Where the file is kept.
        workers: Number of processes; None is one for each core.
        progress: Show a progress bar on the terminal.

    Raises:
        InputError: The cache cannot be written.
    """
    name = f"{manifest.corpus}-{manifest.sha256[:16]}-{sample_rate}-v{VERSION}.pcm"
    file = cache_dir.expanduser().resolve() / name
    size = _size(manifest, sample_rate)
    if not _is_whole(file, size):
        with explained(f"the decoded speech {file}", file.parent, _REMEDIES), lock(file.with_suffix(".lock")):
            if not _is_whole(file, size):  # another process may have made it in the meantime
                _make(file, size, manifest, source, sample_rate, workers, progress)
    return Decoded(file, sample_rate, source)


def _is_whole(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _make(
    file: Path,
    size: int,
    manifest: Manifest,
    source: Source,
    sample_rate: int,
    workers: int | None,
    progress: bool,
) -> None:
    draft = file.with_suffix(".draft")  # whoever holds the lock is the only one to write it
    try:
        with bar_of_utterances(progress) as bar, durable(draft) as stream:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(stream.fileno(), 0, size)  # a full disk is noticed before the work, not after it
            else:
                stream.truncate(size)
            task = bar.add_task(f"Decoding {manifest.corpus}", total=len(manifest))
            decode = partial(_decode, draft, source)
            rows = _rows(manifest, sample_rate)
            chunks = iter(lambda: list(islice(rows, _ROWS_PER_CHUNK)), [])
            for done in work_off(decode, chunks, _leave, workers):
                bar.advance(task, len(done))
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


def _size(manifest: Manifest, sample_rate: int) -> int:
    """Bytes of the whole file."""
    speech = sum(int(2 * _samples(batch, sample_rate)[1].sum()) for _, batch in manifest.scan(_COLUMNS))
    return len(manifest) * RECORD.size + speech


def _rows(manifest: Manifest, sample_rate: int) -> Iterator[_Row]:
    """All rows, each with a place of its own: processes can write them in any order."""
    offset = len(manifest) * RECORD.size
    for numbers, batch in manifest.scan(_COLUMNS):
        paths, starts, ends, rates = (column.to_pylist() for column in batch.columns)
        frames, samples = (counts.tolist() for counts in _samples(batch, sample_rate))
        for place, number in enumerate(numbers):
            span = Span(0, int(number), paths[place], starts[place], ends[place])
            yield _Row(span, frames[place] / rates[place], offset, 2 * samples[place])
            offset += 2 * samples[place]


def _samples(batch: pa.RecordBatch, sample_rate: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each row the frames of its file that are decoded, and at most so many samples that they become."""
    starts, ends, rates = (to_numpy(batch.column(name)) for name in _COLUMNS[1:])
    # One more than speech has: beginning and length of a crop are rounded apart, and it may end there.
    frames = (np.rint(ends * rates) + 1 - np.rint(starts * rates)).astype(np.int64)
    resampled = -(-frames * sample_rate // rates)
    return frames, np.where(rates == sample_rate, frames, resampled)


def _decode(draft: Path, source: Source, row: _Row) -> None:
    """Decodes one row to its place in the draft."""
    try:
        speech = source.read(row.span, 0.0, row.seconds)
    except BadAudioError:
        _leave(row)
        return
    samples, step = _quantise(speech)
    content = samples[: row.bytes // 2].tobytes()
    with draft.open("r+b", buffering=0) as stream:
        os.pwrite(stream.fileno(), content, row.offset)
        os.pwrite(stream.fileno(), RECORD.pack(row.offset, len(content), step), row.span.row * RECORD.size)


def _leave(_: _Row) -> None:
    """Leaves the row's record empty, as the draft begins: the row is read from the source."""


def _quantise(speech: Floats) -> tuple[NDArray[np.int16], float]:
    """16-bit samples and the value of one step.

    What was recorded with 16 bits, or fewer, comes back as it was. Of all else the loudest sample becomes the largest
    number: nothing is clipped, and what is quiet loses nothing that can be heard.
    """
    steps = speech / np.float32(_STEP)
    samples = np.rint(steps)
    if np.array_equal(samples, steps) and samples.min() >= -_LARGEST - 1 and samples.max() <= _LARGEST:
        return samples.astype("<i2"), _STEP
    step = np.abs(speech).max() / np.float32(_LARGEST)
    return np.rint(speech / step).astype("<i2"), float(step)
