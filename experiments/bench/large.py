"""A corpus of very many utterances that takes little room: distinct turns in a few recordings."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import soundfile

from datamodules.audit import AuditSettings
from datamodules.building import DRAFT, declared, is_current, manifest_file, write_manifest
from datamodules.corpora.folder import Folder
from datamodules.freshness import Stamps
from datamodules.settings import CorpusSettings
from datamodules.vocabulary import GENDERS

RATE = 16_000
FILES = 16
SECONDS = 64
TURN_SECONDS = 1
TURNS_PER_SPEAKER = 100
_ROWS_PER_BATCH = 1 << 14


def large_corpus(folder: Path, rows: int) -> tuple[str, CorpusSettings]:
    """Makes recordings and a manifest of them, unless they are there.

    Args:
        folder: The recordings go below it, and the manifest to its ``cache``: set ``data.cache`` to that.
        rows: Utterances; up to 15 million are distinct.

    Returns:
        The corpus's name and its settings; its role may be ``speaker`` or ``unlabelled``, without hashes.
    """
    root = folder / "large"
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for file in range(FILES):
        if not (root / _path(file)).exists():
            soundfile.write(root / _path(file), rng.normal(0, 0.1, SECONDS * RATE), RATE)
    reader = Folder(corpus=f"large{rows}")
    audit = replace(AuditSettings(), hash_content=False)
    manifest = manifest_file(reader, root.resolve(), folder / "cache", audit)
    if not is_current(manifest, root.resolve()):
        stamps = Stamps(root.resolve())
        stamps.watch(reader.watched(root))
        write_manifest(manifest, _Turns(reader.corpus, rows), declared(reader, audit), stamps)
    return reader.corpus, CorpusSettings(root=str(root), reader=reader.name)


def _path(file: int) -> str:
    return f"recording_{file:02}.flac"


@dataclass
class _Turns:
    """Rows of a manifest, each turn beginning a few samples after another one."""

    corpus: str
    rows: int

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        paths = pa.array([_path(file) for file in range(FILES)])
        step = max(1, (SECONDS - TURN_SECONDS) * RATE // -(-self.rows // FILES))  # in samples
        for first in range(0, self.rows, _ROWS_PER_BATCH):
            number = np.arange(first, min(first + _ROWS_PER_BATCH, self.rows))
            start = number // FILES * step / RATE
            speaker = number // TURNS_PER_SPEAKER
            columns = {
                "path": paths.take(pa.array(number % FILES)),
                "start": start,
                "duration": np.full(len(number), float(TURN_SECONDS)),
                "sample_rate": np.full(len(number), RATE),
                "frames": np.full(len(number), TURN_SECONDS * RATE),
                "speech_start": start,
                "speech_end": start + TURN_SECONDS,
                "corpus": [self.corpus] * len(number),
                "speaker": pc.binary_join_element_wise(self.corpus, pa.array(speaker).cast(pa.string()), "/"),
                "gender": pa.array(GENDERS).take(pa.array(speaker % len(GENDERS))),
            }
            nothing = pa.nulls(len(number))
            yield pa.record_batch(
                [
                    column.cast(field.type) if isinstance(column, pa.Array) else pa.array(column, field.type)
                    for field in DRAFT
                    for column in [columns.get(field.name, nothing)]
                ],
                DRAFT,
            )
