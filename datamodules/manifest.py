"""A corpus as a table of utterances: one Arrow file, which `datamodules.building` makes."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from datamodules.arrow import from_integers, from_strings, to_numpy
from datamodules.cells import Cells, Integers, Rows, take
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

_LOOKED_UP = ["path", "speech_start", "speech_end", "speaker", "gender"]
"""Columns that are read utterance by utterance."""

META = b"ser_aae"
"""Key of the schema's metadata under which the file says what its reader declares."""


class Manifest:
    """The utterances of one corpus, in the columns of `SCHEMA`.

    The file is opened when it is first used, once in each process, and what is asked for is read from it batch by batch
    or cell by cell. A manifest pickles as its path, and all it holds is a few numbers for each batch of the file.

    Args:
        file: What `build_manifest` made.

    Attributes:
        file: Its path.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self._expected: str | None = None
        self._last: tuple[int, list[pa.Array]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"file": self.file, "_expected": self.sha256, "_last": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def __len__(self) -> int:
        return int(self.cells.first[-1])

    def __repr__(self) -> str:
        return f"Manifest({str(self.file)!r})"

    @cached_property
    def _state(self) -> Mapping[str, Any]:
        """What is known about the file beside its rows: its hash and the corpus root."""
        try:
            state = read_state(state_file(self.file))
            _ = {state[name] for name in ("sha256", "root")}
        except (OSError, pa.ArrowException, LookupError, TypeError, ValueError) as error:
            raise damaged(self.file, str(error)) from error
        if self._expected not in (None, state["sha256"]):
            raise InputError(
                f"the manifest {self.file} was made again while this run was using it", "start the run again"
            )
        return state

    @cached_property
    def _opened(self) -> tuple[pa.OSFile, Cells]:
        """The file for both ways to read it, opened at once: it may be replaced later."""
        _ = self._state  # refuses a file that was replaced before
        # Not mapped: what is read of a mapped file counts as memory of this process.
        return pa.OSFile(str(self.file)), Cells(self.file, _LOOKED_UP)

    @property
    def cells(self) -> Cells:
        """Single cells of the columns that are read utterance by utterance."""
        return self._opened[1]

    def _open(self, columns: Sequence[str] | None = None) -> pa.ipc.RecordBatchFileReader:
        wanted = None if columns is None else [SCHEMA.get_field_index(name) for name in columns]
        return pa.ipc.open_file(self._opened[0], options=pa.ipc.IpcReadOptions(included_fields=wanted))

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        """What the reader declares: corpus, reader, options, language, licence, labelled, synthetic, scales."""
        facts: dict[str, Any] = json.loads(self._open().schema.metadata[META])
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

    def missing(self, name: str) -> bool:
        """Whether no row has anything in a column; nothing is read."""
        return bool(self.cells.nulls[name] == len(self))

    def scan(self, columns: Sequence[str], rows: Rows | None = None) -> Iterator[tuple[Rows, pa.RecordBatch]]:
        """Reads columns batch by batch, in memory that does not grow with the number of rows.

        Args:
            columns: Their names.
            rows: The rows wanted, ascending; None is all.

        Yields:
            Numbers of rows, and the columns at these rows.
        """
        reader = self._open(columns)
        for index, (first, end) in enumerate(pairwise(self.cells.first.tolist())):
            if rows is None:
                wanted: Rows = range(first, end)
            elif isinstance(rows, range):
                wanted = range(max(first, rows.start), min(end, rows.stop))
            else:
                wanted = rows[slice(*np.searchsorted(rows, (first, end)))]
            if len(wanted):
                batch = reader.get_batch(index).select(list(columns))
                if isinstance(wanted, range):
                    yield wanted, batch.slice(wanted.start - first, len(wanted))
                else:
                    yield wanted, batch.take(from_integers(wanted - first))

    def arrow(self, name: str) -> pa.ChunkedArray:
        """A whole column as Arrow has it."""
        return pa.chunked_array([batch.column(0) for _, batch in self.scan([name])], SCHEMA.field(name).type)

    def column(self, name: str) -> NDArray[Any]:
        """A whole column (rows,): numbers with NaN for null; strings as objects with None, for which see `codes`."""
        column = self.arrow(name)
        if pa.types.is_primitive(column.type):
            return np.concatenate([np.empty(0, column.type.to_pandas_dtype()), *map(to_numpy, column.chunks)])
        return np.array(column.to_pylist(), object)

    def codes(self, name: str) -> tuple[NDArray[np.int32], list[str]]:
        """A column of strings as numbers.

        Returns:
            For each row the index of its string, int32 (rows,), -1 for null; and the distinct strings in the order of
            their first appearance.
        """
        column = self.arrow(name)
        if column.type != WORD:  # paths and hashes, which rarely repeat
            column = column.dictionary_encode().unify_dictionaries()
        if not column.num_chunks:
            return np.empty(0, np.int32), []
        return np.concatenate([codes_of(chunk) for chunk in column.chunks]), column.chunk(0).dictionary.to_pylist()

    def words(self, name: str) -> list[str]:
        """The distinct strings of a column whose strings repeat, in the order of their codes."""
        words: list[str] = self._dictionary(name).to_pylist()
        return words

    def _dictionary(self, name: str) -> pa.Array:
        first = next(self.scan([name]), None)
        return pa.array([], pa.string()) if first is None else first[1].column(0).dictionary

    def values(self, name: str, rows: Rows) -> set[str]:
        """The distinct strings that some rows have in a column whose strings repeat."""
        words = self.words(name)
        if len(rows) == len(self):
            return set(words)
        present = np.zeros(len(words) + 1, bool)  # the last: null
        for _, batch in self.scan([name], rows):
            present[codes_of(batch.column(0))] = True
        return {words[code] for code in np.flatnonzero(present[:-1])}

    def without(self, name: str, values: Iterable[str]) -> Integers:
        """Rows that have none of these strings in a column whose strings repeat; null is kept."""
        keep = np.array([*np.isin(self.words(name), list(values), invert=True), True])
        kept = [take(rows, np.flatnonzero(keep[codes_of(batch.column(0))])) for rows, batch in self.scan([name])]
        return np.concatenate(kept)

    def first_rows(self, name: str, rows: Rows, among: Iterable[str] | None = None) -> dict[str, int]:
        """The first of some rows with each value of a column of strings.

        Args:
            name: The column.
            rows: Rows to look at, ascending.
            among: The values looked for; None is any.
        """
        if self.missing(name):
            return {}
        wanted = None if among is None else from_strings(among)
        repeats = SCHEMA.field(name).type == WORD
        if wanted is not None and repeats and not pc.any(pc.is_in(self._dictionary(name), wanted)).as_py():
            return {}
        found: dict[str, int] = {}
        for numbers, batch in self.scan([name], rows):
            column = batch.column(0).dictionary_decode() if repeats else batch.column(0)
            hits = pc.indices_nonzero(column.is_valid() if wanted is None else pc.is_in(column, wanted))
            places = take(numbers, to_numpy(hits).astype(np.int64))
            for value, row in zip(column.take(hits).to_pylist(), places.tolist(), strict=True):
                found.setdefault(value, row)
        return found

    def row(self, index: int) -> dict[str, Any]:
        """One row as a dictionary; null is None. Quick for rows near the last one; of many, see `cells` and `scan`.

        Raises:
            IndexError: If there is no such row.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        number = int(np.searchsorted(self.cells.first, index, side="right")) - 1
        if self._last is None or self._last[0] != number:
            self._last = number, self._reader.get_batch(number).columns
        place = index - int(self.cells.first[number])
        return {name: column[place].as_py() for name, column in zip(SCHEMA.names, self._last[1], strict=True)}

    @cached_property
    def _reader(self) -> pa.ipc.RecordBatchFileReader:
        return self._open()

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
        return not self.missing("votes")

    def _votes(self) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str], NDArray[np.float64]]:
        """All votes of all rows: the row, the emotion as an index into words, those words, and the number of raters."""
        votes = pa.concat_arrays(self.arrow("votes").chunks)
        words = votes.keys.dictionary_encode()
        row = np.repeat(np.arange(len(self)), np.diff(to_numpy(votes.offsets)))
        return row, to_numpy(words.indices).astype(np.int64), words.dictionary.to_pylist(), to_numpy(votes.items)


def is_whole(file: Path, state: Mapping[str, Any]) -> bool:
    """Whether a manifest is, byte for byte, what its state says."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == str(state["sha256"])


def check_sound(file: Path) -> None:
    """Checks a manifest that comes from elsewhere, before anything of it is used: what is damaged may point anywhere.

    Raises:
        InputError: It is not what its state says, not all that a manifest is, or its audio lies outside of its root.
    """
    try:
        if not is_whole(file, read_state(state_file(file))):
            raise ValueError("it is not what its state says")
        with pa.OSFile(str(file)) as source:
            reader = pa.ipc.open_file(source)
            if not reader.schema.equals(SCHEMA):
                raise ValueError("its columns are others")
            for index in range(reader.num_record_batches):
                batch = reader.get_batch(index)
                batch.validate(full=True)
                _check_rows(batch)
            _check_facts(json.loads(reader.schema.metadata[META]))
    except (OSError, pa.ArrowException, AttributeError, LookupError, TypeError, ValueError) as error:
        raise damaged(file, str(error)) from error


def _check_rows(batch: pa.RecordBatch) -> None:
    for name in _LOOKED_UP[:3]:
        if batch.column(name).null_count:
            raise ValueError(f"it has rows without {name}")
    start, end, rate = (to_numpy(batch.column(name)) for name in ("speech_start", "speech_end", "sample_rate"))
    if not (np.isfinite(end).all() and (start >= 0).all() and (start < end).all() and (rate > 0).all()):
        raise ValueError("it has times that are none")
    for path in batch.column("path").to_pylist():
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise ValueError(f"{path!r} leaves the corpus")


def _check_facts(facts: Any) -> None:
    kinds: dict[str, type] = {
        "corpus": str,
        "reader": str,
        "options": dict,
        "language": str,
        "licence": str,
        "audit": dict,
    }
    kinds |= {"labelled": bool, "synthetic": bool, "scales": dict, "faults": list, "version": int}
    for name, kind in kinds.items():
        if not isinstance(facts[name], kind):
            raise TypeError(f"its {name} is {facts[name]!r}")
    for name in DIMENSIONS:
        low, high, reversed_ = facts["scales"][name]
        if not (isinstance(reversed_, bool) and -np.inf < low < high < np.inf):
            raise ValueError(f"its scale of {name} is none")
    if not all(isinstance(word, str) and isinstance(why, str) for word, why in facts["faults"]):
        raise TypeError("its faults are none")
    if not isinstance(facts["audit"]["hash_content"], bool):
        raise TypeError("its audit is none")


def damaged(file: Path, why: str) -> InputError:
    """The error of a manifest that cannot be used."""
    return InputError(
        f"the manifest {file} is damaged: {why}",
        "remove it, and it is made again; a pack is to be copied again",
    )


def codes_of(column: pa.DictionaryArray) -> NDArray[np.int32]:
    """Codes of strings in a dictionary, -1 for null."""
    return to_numpy(column.indices, null=-1)


def _class_index(classes: Mapping[str, Sequence[str]]) -> dict[str, int]:
    return {emotion: number for number, emotions in enumerate(classes.values()) for emotion in emotions}


def state_file(file: Path) -> Path:
    """Where a manifest keeps what is known about it beside its rows."""
    return file.with_suffix(".state")
