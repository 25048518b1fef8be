"""openSMILE's functionals of all utterances of a corpus, computed once and kept in the cache."""

from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.bars import bar_of_utterances
from datamodules.collection import Collection, Span
from datamodules.errors import InputError, explained
from datamodules.freshness import durable, lock
from datamodules.manifest import Manifest
from datamodules.processes import work_off
from datamodules.speech import BadAudioError, Source

VERSION = 1
"""Raised whenever the file, or how it is made, changes: older ones are then made again."""

_PER_CHUNK = 16


@dataclass(frozen=True)
class Functionals:
    """One vector for each utterance of a corpus.

    Attributes:
        values: (utterances, features), float32, in the order of the manifest and mapped from the disk; NaN where the
            utterance has none.
        faults: Why not, by row of the manifest.
    """

    values: NDArray[np.float32]
    faults: dict[int, str]


def functionals(
    manifest: Manifest,
    source: Source,
    features: str,
    sample_rate: int,
    cache_dir: Path,
    *,
    workers: int | None = None,
    progress: bool = True,
) -> Functionals:
    """Computes the functionals of each utterance's speech, or finds what was computed before.

    The silence around the speech is left out, as it is for every other system.
    Several processes may ask at once: one computes, the others wait. What could not be read before is tried again: a
    disk that was away must not be remembered for good.

    Args:
        manifest: The corpus.
        source: Where its files are read.
        features: openSMILE's name of the feature set.
        sample_rate: Of the source, in Hz.
        cache_dir: Where the file is kept.
        workers: Number of processes; None is one for each core.
        progress: Show a progress bar on the terminal.

    Raises:
        InputError: The cache cannot be written.
    """
    made_with = f"{features}-opensmile{import_opensmile().__version__}-{sample_rate}-v{VERSION}"
    file = cache_dir.expanduser().resolve() / f"{manifest.corpus}-{manifest.sha256[:16]}-{made_with}.npy"
    with explained(f"the functionals {file}", file.parent, "data.cache"), lock(file.with_suffix(".lock")):
        if not file.is_file():
            _write(file, np.full((len(manifest), _smile(features).num_features), np.nan, np.float32))
        missing = np.flatnonzero(np.isnan(np.load(file, mmap_mode="r")).any(axis=1))
        faults = _compute(file, missing, manifest, source, features, sample_rate, workers, progress)
    return Functionals(np.load(file, mmap_mode="r"), faults)


def _compute(
    file: Path,
    rows: NDArray[np.int64],
    manifest: Manifest,
    source: Source,
    features: str,
    sample_rate: int,
    workers: int | None,
    progress: bool,
) -> dict[int, str]:
    """Computes some rows of a file, and tells what is wrong with those that still have nothing."""
    if not len(rows):
        return {}
    values, faults = np.load(file), {}
    spans = Collection([manifest]).spans(rows)
    chunks = [spans[first : first + _PER_CHUNK] for first in range(0, len(spans), _PER_CHUNK)]
    with bar_of_utterances(progress) as bar:
        task = bar.add_task(f"{features} of {manifest.corpus}", total=len(rows))
        work = partial(_of_utterance, source, features, sample_rate)
        for chunk, found in zip(chunks, work_off(work, chunks, _crashed, workers), strict=True):
            for span, result in zip(chunk, found, strict=True):
                if isinstance(result, str):
                    faults[span.row] = result
                else:
                    values[span.row] = result
            bar.advance(task, len(chunk))
    _write(file, values)
    return faults


def _of_utterance(source: Source, features: str, sample_rate: int, span: Span) -> NDArray[np.float32] | str:
    """The functionals of an utterance (features,), or why it has none."""
    try:
        samples = source.read(span, 0.0, span.end - span.start)
    except BadAudioError as error:
        return str(error)
    found: NDArray[np.float32] = _smile(features)(samples, sample_rate).ravel()
    return found if np.isfinite(found).all() else f"{span.path}: openSMILE finds no {features} in it"


def _crashed(span: Span) -> str:
    return f"{span.path}: openSMILE crashed on it"


@cache
def _smile(features: str) -> Any:
    """The extractor, once in each process: to make it takes longer than to use it.

    Raises:
        InputError: openSMILE is not installed.
    """
    opensmile = import_opensmile()
    return opensmile.Smile(opensmile.FeatureSet[features], opensmile.FeatureLevel.Functionals)


def import_opensmile() -> Any:
    """Imports openSMILE.

    Raises:
        InputError: It is not installed.
    """
    try:
        import opensmile
    except ImportError as error:
        raise InputError(
            "the baselines need the package opensmile, which is not installed", "pip install -e '.[baselines]'"
        ) from error
    return opensmile


def _write(file: Path, values: NDArray[np.float32]) -> None:
    draft = file.with_suffix(".draft")  # whoever holds the lock is the only one to write it
    try:
        with durable(draft) as stream:
            np.save(stream, values)
        draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)
