"""What is to be predicted: a file, a folder or a table becomes stretches of recordings, and these become speech."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from datamodules.audit import AuditSettings, Result, Segment, Unusable, inspect_samples, inspect_segment
from datamodules.collection import Span
from datamodules.corpora.base import Utterance, audio_files, suffix
from datamodules.corpora.table import Table, names_of_columns
from datamodules.errors import InputError
from datamodules.speech import BadAudioError, Files, Floats, resample
from experiments.predict.recording import Recording

TABLES = (".csv", ".tsv", ".tab", ".parquet", ".pq")
_HEADER_ALONE = AuditSettings(hash_content=False)
_WITH_CONTENT = AuditSettings()


@dataclass(frozen=True)
class Stretch:
    """What gets a row.

    Attributes:
        file: Its name in the row.
        path: Of the file.
        start: In seconds.
        end: Likewise; None where the file does not tell.
        fault: Why it cannot be read, if that is known.
        recording: What a window is of.
    """

    file: str
    path: str
    start: float
    end: float | None
    fault: str | None = None
    recording: Recording | None = None


class _Segments(Table):
    """A table of what is to be heard; its other columns are of no concern."""

    wanted: ClassVar = ("path", "start", "end")


def find(audio: Path, root: Path | None = None) -> tuple[Path, list[Segment]]:
    """Lists what is to be heard.

    Args:
        audio: An audio file; a folder, below which all visible audio files are taken in sorted order; or a table with a
            column ``file`` (or ``path``) and, where only parts are meant, ``start`` and ``end`` in seconds.
        root: Of a table: the folder that its files are in, and no other; without, that of the table.

    Returns:
        The folder that names are relative to, and the segments.

    Raises:
        InputError: There is nothing, or the table cannot be read or leaves its folder.
    """
    try:
        return _find(audio, root)
    except OSError as error:
        raise InputError(f"audio: {error.filename or audio}: {error.strerror}", "Give what can be read.") from error


def _find(audio: Path, root: Path | None) -> tuple[Path, list[Segment]]:
    if not audio.exists():
        raise InputError(f"audio: {audio} does not exist", "Give an audio file, a folder of them, or a table.")
    is_table = suffix(audio.name) in TABLES
    if root is not None and not (is_table and root.is_dir()):
        what = f"{root} is no folder" if is_table else f"{audio} is no table"
        raise InputError(f"root={root}: {what}", "Give root=<folder> with a table, whose files are in it.")
    found: list[Segment]
    if audio.is_dir():
        root, found = audio, [(file, 0.0, None) for file in audio_files(audio)]
    elif is_table:
        root = (root or audio.parent).resolve()
        found = _of_table(audio.resolve(), root)
    else:
        return audio.parent, [(audio.name, 0.0, None)]
    if not found:
        raise InputError(f"audio: there is no audio file in {audio}", "Give another folder, file or table.")
    return root, found


def _of_table(table: Path, root: Path) -> list[Segment]:
    name = "path" if "file" not in (there := names_of_columns(table)) and "path" in there else "file"
    rows = _Segments(path=str(table), columns={"path": name}, corpus="audio").read(root)
    return [(row.path, row.start, row.end) for row in rows if isinstance(row, Utterance)]


def stretches(root: Path, segments: Iterable[Segment], window_s: float, hop_s: float) -> Iterator[Iterable[Stretch]]:
    """Looks into the header of each file; yields what gets rows of each segment.

    Args:
        root: The folder that files are relative to.
        segments: What is to be heard.
        window_s: What is longer is cut into windows of this length, in seconds.
        hop_s: From the beginning of a window to that of the next one; the last ends where the segment ends.
    """
    for file, start, end in segments:
        path = os.path.abspath(root / file)  # noqa: PTH100 - a Path cannot hold what some file systems can
        shown = file.encode("utf-8", "backslashreplace").decode()
        found = _inspect(path, start, end, _HEADER_ALONE)
        if isinstance(found, Unusable):
            yield [Stretch(shown, path, start, end, found.reason)]
            continue
        spare = found.duration - window_s
        if spare <= 0:
            yield [Stretch(shown, path, found.start, found.start + found.duration)]
            continue
        yield _windows(Stretch(shown, path, found.start, None), spare, window_s, hop_s)


def _windows(whole: Stretch, spare: float, window_s: float, hop_s: float) -> Iterator[Stretch]:
    recording = Recording(whole.path)
    for number in range(1 + int(-(-spare // hop_s))):
        start = whole.start + min(number * hop_s, spare)
        yield Stretch(whole.file, whole.path, start, start + window_s, recording=recording)


def read(stretch: Stretch, sample_rate: int) -> Floats | str:
    """The speech of a stretch as evaluation hears it, without the silence around it; or why there is none."""
    if stretch.fault is not None:
        return stretch.fault
    if stretch.recording is not None:
        try:
            return speech_of(*stretch.recording.window(stretch.start, stretch.end or 0), sample_rate)
        except (BadAudioError, ValueError) as error:
            return str(error)
    found = _inspect(stretch.path, stretch.start, stretch.end, _WITH_CONTENT)
    if isinstance(found, Unusable):
        return found.reason
    folder, name = os.path.split(stretch.path)
    try:
        span = Span(0, 0, name, found.speech_start, found.speech_end)
        return Files(folder, sample_rate).read(span, 0.0, span.end - span.start)
    except BadAudioError as error:
        return str(error)


def speech_of(mono: Floats, rate: int, sample_rate: int) -> Floats:
    """The speech in samples as evaluation would hear it in a file of them.

    Args:
        mono: (samples,).
        rate: Theirs in Hz.
        sample_rate: The wanted one.

    Raises:
        ValueError: There is none; the message says why.
    """
    start, end = inspect_samples(mono, rate, _WITH_CONTENT)
    first = round(start * rate)
    speech = np.ascontiguousarray(mono[first : first + round((end - start) * rate)])
    return speech if rate == sample_rate else resample(speech, rate, sample_rate)


def _inspect(path: str, start: float, end: float | None, settings: AuditSettings) -> Result:
    folder, name = os.path.split(path)
    return inspect_segment(folder, (name, start, end), settings)
