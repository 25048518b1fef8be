"""A corpus as a table of utterances: one memory-mapped Arrow file, which `datamodules.building` makes."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from datamodules.corpora.base import Fault, Scale
from datamodules.errors import InputError
from datamodules.freshness import read_state
from datamodules.vocabulary import DIMENSIONS

VERSION = 2
"""Raised whenever a column, or what the audit measures, changes its meaning: older manifests are then made again."""

WORD = pa.dictionary(pa.int32(), pa.string())
"""Type of columns whose strings repeat: each string is stored once."""

SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("start", pa.float64()),
        ("duration", pa.float64()),
        ("sample_rate", pa.int32()),
        ("frames", pa.int64()),
        ("speech_start", pa.float64()),
        ("speech_end", pa.float64()),
        ("corpus", WORD),
        ("speaker", WORD),
        ("gender", WORD),
        ("session", WORD),
        ("sentence", WORD),
        ("label", WORD),
        ("emotion", WORD),
        ("votes", pa.map_(pa.string(), pa.float32())),
        *((dimension, pa.float32()) for dimension in DIMENSIONS),
        *((f"{dimension}_original", pa.float32()) for dimension in DIMENSIONS),
        ("split", WORD),
        ("content_hash", pa.string()),
    ]
)
"""One row an utterance; what is unknown is null.

Times are seconds in the file, `frames` those of the utterance at `sample_rate`. Dimensions are on [0, 1], where 1 is
much of it, and as `_original` in the corpus's units. Speakers are qualified by the corpus: "ravdess/01".
"""

META = b"ser_aae"
"""Key of the schema's metadata under which the file says what its reader declares."""


class Manifest:
    """The utterances of one corpus, in the columns of `SCHEMA`.

    The file is memory-mapped when it is first used, once in each process: a manifest pickles as its path, and neither
    pickling nor opening takes time or memory that grow with the number of rows.

    Args:
        file: What `build_manifest` made.

    Attributes:
        file: Its path.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._expected: str | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "_expected": self.sha256}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        return f"Manifest({str(self.file)!r})"

    @cached_property
    def _state(self) -> Mapping[str, Any]:
        """What is known about the file beside its rows: its hash and the corpus root."""
        state = read_state(state_file(self.file))
        if self._expected not in (None, state["sha256"]):
            raise InputError(
                f"the manifest {self.file} was made again while this run was using it", "start the run again"
            )
        return state

    @cached_property
    def _table(self) -> pa.Table:
        _ = self._state  # refuses a file that was replaced
        return pa.ipc.open_file(pa.memory_map(str(self.file))).read_all()

    @cached_property
    def _batches(self) -> list[list[pa.Array]]:
        """The columns of each batch; to take them from the table again would be the slowest part of `row`."""
        return [batch.columns for batch in self._table.to_batches()]

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        return np.cumsum([0] + [len(columns[0]) for columns in self._batches])

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What the reader declares: corpus, reader, options, language, licence, labelled, synthetic, scales."""
        facts: dict[str, Any] = json.loads(self._table.schema.metadata[META])
        return facts

    @property
    def root(self) -> Path:
        """The corpus root, to which paths are relative."""
        return Path(self._state["root"])

    @property
    def corpus(self) -> str:
        """The corpus's name."""
        return str(self.facts["corpus"])

    @property
    def sha256(self) -> str:
        """Hash of the file, the same for the same corpus wherever it lies."""
        return str(self._state["sha256"])

    @cached_property
    def faults(self) -> list[Fault]:
        """What was left out, and why."""
        return [Fault(*fault) for fault in self.facts["faults"]]

    @property
    def labelled(self) -> bool:
        """Whether the corpus has emotions or dimensions."""
        return bool(self.facts["labelled"])

    @property
    def synthetic(self) -> bool:
        """Whether the speech is synthesised."""
        return bool(self.facts["synthetic"])

    def scale(self, dimension: str) -> Scale:
        """The corpus's own range of a dimension."""
        return Scale(*self.facts["scales"][dimension])

    def column(self, name: str) -> NDArray[Any]:
        """A whole column (rows,): numbers with NaN for null; strings as objects with None, for which see `codes`."""
        column: NDArray[Any] = self._table.column(name).to_numpy()
        return column

    def arrow(self, name: str) -> pa.ChunkedArray:
        """A whole column as Arrow has it, not copied."""
        return self._table.column(name)

    def codes(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """A column of strings as numbers.

        Returns:
            For each row the index of its string, int32 (rows,), -1 for null; and the distinct strings in the order of
            their first appearance.
        """
        column = self._table.column(name)
        if column.type != WORD:  # paths and hashes, which rarely repeat
            column = column.dictionary_encode().unify_dictionaries()
        if not column.num_chunks:
            return np.empty(0, np.int32), []
        codes = [np.asarray(chunk.indices.fill_null(-1)) for chunk in column.chunks]
        return np.concatenate(codes), column.chunk(0).dictionary.to_pylist()

    def row(self, index: int) -> dict[str, Any]:
        """One row as a dictionary; null is None.

        Raises:
            IndexError: If there is no such row.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        batch = int(np.searchsorted(self._offsets, index, side="right")) - 1
        place = index - int(self._offsets[batch])
        columns = zip(self._table.column_names, self._batches[batch], strict=True)
        return {name: column[place].as_py() for name, column in columns}

    def class_codes(self, classes: Mapping[str, Sequence[str]], agreeing_raters: int = 0) -> NDArray[np.int64]:
        """Each row's class in a class map.

        Args:
            classes: Class names, each with the common names of the emotions that belong to it.
            agreeing_raters: So many raters at the least must have named the row's emotion.

        Returns:
            Index of the class, int64 (rows,), or -1 where the row has no emotion, too few agree, or the map leaves it
            out.
        """
        index = _class_index(classes)
        codes, emotions = self.codes("emotion")
        chosen = np.array([*(index.get(emotion, -1) for emotion in emotions), -1], np.int64)[codes]  # the last: null's
        if agreeing_raters > 0:
            row, vote, words, raters = self._votes()
            place = {emotion: code for code, emotion in enumerate(emotions)}
            agree = np.array([place.get(word, -2) for word in words], np.int64)[vote] == codes[row]
            agreeing = np.bincount(row[agree], weights=raters[agree], minlength=len(self))
            chosen[agreeing < agreeing_raters] = -1
        return chosen

    def vote_shares(self, classes: Mapping[str, Sequence[str]]) -> NDArray[np.float32]:
        """How the raters' votes are shared among the classes of a class map.

        Args:
            classes: As for `class_codes`.

        Returns:
            Shares, float32 (rows, classes), each row's sum 1; NaN where no rater named an emotion of the map.
        """
        index = _class_index(classes)
        row, vote, words, raters = self._votes()
        column = np.array([index.get(word, -1) for word in words], np.int64)[vote]
        counts = np.zeros((len(self), len(classes)))
        np.add.at(counts, (row[column >= 0], column[column >= 0]), raters[column >= 0])
        with np.errstate(invalid="ignore"):  # 0 / 0 is the NaN that is wanted
            shares: NDArray[np.float64] = counts / counts.sum(axis=1, keepdims=True)
        return shares.astype(np.float32)

    @property
    def has_votes(self) -> bool:
        """Whether any utterance has votes."""
        return bool(self._table.column("votes").null_count < len(self))

    def _votes(self) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str], NDArray[np.float64]]:
        """All votes of all rows: the row, the emotion as an index into words, those words, and the number of raters."""
        votes = pa.concat_arrays(self._table.column("votes").chunks)
        words = votes.keys.dictionary_encode()
        row = np.repeat(np.arange(len(self)), np.diff(votes.offsets.to_numpy()))
        return row, words.indices.to_numpy().astype(np.int64), words.dictionary.to_pylist(), votes.items.to_numpy()


def _class_index(classes: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {emotion: number for number, emotions in enumerate(classes.values()) for emotion in emotions}


def state_file(file: Path) -> Path:
    """Where a manifest keeps what is known about it beside its rows."""
    return file.with_suffix(".state")
