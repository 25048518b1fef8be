"""Any database in audformat, the format in which many of the field's corpora are published."""

import difflib
import math
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
import yaml  # type: ignore[import-untyped]

from datamodules.corpora.base import Fault, Reader, Scale, Utterance, common_emotion
from datamodules.corpora.options import Inside, check_columns, check_name, check_ranges, scale_of, without_outside
from datamodules.errors import InputError
from datamodules.vocabulary import DIMENSIONS
from datamodules.yaml_text import read_yaml_text

HEADER = "db.yaml"

# What publishers call the columns and schemes, without dots, dashes, underscores and blanks.
_NAMES = {
    "emotion": {"emotion", "emotions", "emotioncategory", "emotioncategories", "emotionlabel"},
    "activation": {"activation", "arousal"},
    "valence": {"valence"},
    "dominance": {"dominance"},
    "speaker": {"speaker", "speakerid"},
    "gender": {"gender", "sex"},
    "session": {"session", "sessionid"},
    "sentence": {"sentence", "sentenceid"},
}
_LABELS = ("emotion", *DIMENSIONS)
_FACTS = ("speaker", "gender", "session", "sentence")
_NO_AGREEMENT = {"noagreement", "disagreement", "ambiguous", "undefined", "unknown", "xxx"}
_GENDERS = {"female": "female", "f": "female", "woman": "female", "male": "male", "m": "male", "man": "male"}
_SPLITS = {"train": "train", "dev": "development", "test": "test"}
# Large enough for any row; a row must not be longer.
_CSV_BLOCK_BYTES = 1 << 23

Segment = tuple[str, float, float]
"""File, start and end in seconds; a segment to the end of its file ends at infinity."""


@dataclass(frozen=True)
class AudformatDatabase(Reader):
    """A database that was written by audformat: `db.yaml`, a CSV or Parquet file of each table, and the audio.

    Columns are found by their scheme or, where that has another name, by their own name: emotion; activation or
    arousal, valence, dominance; speaker; gender or sex, which may also be a property of the speakers; session;
    sentence. Genders other than female and male are not kept. Columns of one scheme are one label, spread over several
    tables: two that contradict each other are refused, and so are two schemes that could both be meant.

    Of the columns of a label, the gold standard counts: those in a table that is called so or of a rater who is, or
    whose rater is a vote or the ground truth. Where there is none, columns without a rater count. Columns of single
    raters are votes; where they are all there is, the emotion is what more raters named than anything else, and a
    dimension is the raters' mean. Tables `….votes` with a column for each emotion hold votes as well. What machines
    rated counts only when it is asked for. A word such as "no_agreement" is a label without an emotion.

    Information about a file holds for each segment of it that has none of its own, and a file with segments is no
    utterance itself. The corpus's own split is that of the tables' `split_id`.

    Pickled tables (`.pkl`) are never opened, since they can run code.

    Args:
        tables: Tables with the utterances, their labels and splits; none means all with an emotion, a dimension or a
            split, or, where there is none, all that list files. Speakers and the like are looked up in every table.
        columns: A column ("table.column" or "column") or a scheme by our name, where the guess is wrong, for example
            `{"emotion": "emotion-felt"}`; an empty name means that there is none.
        ranges: Lowest and highest rating of a dimension where its scheme has no minimum and maximum; highest first
            when it is reversed.
        corpus: The corpus's name in manifests and reports.
        outside: Whether media files may be elsewhere than below the root; whoever wrote the database then chooses which
            files are read.
    """

    name = "audformat"
    licence = "the database's own"
    how_to_get = f"set its root to the folder of the database, which holds {HEADER}"
    language = "various"
    labelled = True

    tables: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    corpus: str = "audformat"
    outside: bool = False

    def options(self) -> dict[str, Any]:
        """See `Reader.options`; as it was before there was `outside`, where that is not given."""
        return without_outside(super().options())

    def __post_init__(self) -> None:
        check_name(self.corpus)
        check_columns(self.corpus, self.columns, _NAMES)
        check_ranges(self.corpus, self.ranges)

    def watched(self, root: Path) -> Iterator[str]:
        """The header and the tables; audio files are watched one by one, and other files do not matter."""
        yield HEADER
        # The folder too: a Parquet file that is added stands in for the CSV file of its table.
        yield "."
        yield from sorted(path.name for path in root.glob("db.*") if path.suffix in (".csv", ".parquet"))

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields the database's segments and files, sorted; see `Reader.read`."""
        header = self._header(root)
        try:
            layout = _Layout(self, header)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise self._no_header(root / HEADER, error) from error
        languages = header.languages or ["various"]
        # What other readers declare for their class, each database declares in its header.
        vars(self).update(
            licence=header.license or f"none named, {header.usage} use",
            language=languages[0] if len(languages) == 1 else "various",
            scales=layout.scales,
        )
        content = _Content(layout, root)
        yield from content.faults
        yield from content.utterances()

    def _header(self, root: Path) -> Any:
        """The header as audformat understands it, without any table."""
        try:
            from audformat import Database
        except ImportError as error:
            raise InputError(
                f"{self.corpus}: databases in audformat need the package audformat, which is not installed",
                "pip install 'ser-aae[audformat]'",
            ) from error
        file = root / HEADER
        if not file.is_file():
            raise InputError(f"{self.corpus}: {file} does not exist", self.how_to_get)
        text = read_yaml_text(file, most_bytes=64 << 20, most_values=5_000_000)  # speakers may be listed there
        try:
            # audformat's own loader makes any Python object that the header asks for.
            plain = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
            return Database.load_header_from_yaml(plain)
        except (
            yaml.YAMLError,
            ArithmeticError,
            AssertionError,
            AttributeError,
            LookupError,
            TypeError,
            ValueError,
        ) as e:
            raise self._no_header(file, e) from e

    def _no_header(self, file: Path, error: Exception) -> InputError:
        return InputError(
            f"{self.corpus}: {file} is not the header of a database in audformat: {type(error).__name__}: {error}",
            "write it again with audformat; it may hold plain values only",
        )


_Level = Literal["gold", "plain", "rater", "machine"]
_LEVELS: tuple[_Level, ...] = ("gold", "plain", "rater", "machine")


class _Column(NamedTuple):
    """A column of a table, as the header describes it."""

    table: str
    name: str
    scheme_id: str | None
    scheme: Any
    rater: str | None
    level: _Level

    def __str__(self) -> str:
        return f"{self.table}.{self.name}"

    @property
    def topic(self) -> str:
        """What the column is about: columns of one scheme are about the same."""
        return self.scheme_id or self.name

    def is_about(self, ours: str) -> bool:
        """Whether its scheme or its name says that it holds one of our labels or facts, and its type can hold it."""
        if not any(_is_called(name, ours) for name in (self.scheme_id, self.name) if name):
            return False
        if self.scheme is None:
            return True
        numeric = self.scheme.dtype in ("int", "float")
        if ours in DIMENSIONS:
            return numeric
        # Emotions as numbers are intensities, unless the numbers are labels.
        return self.scheme.dtype in ("str", "object") or (
            self.scheme.dtype == "int" and (ours != "emotion" or self.scheme.labels is not None)
        )


def _is_called(name: str, ours: str) -> bool:
    """Whether a name, or its part after the last dot, is one of those that publishers use."""
    return any(_plain(part) in _NAMES[ours] for part in (name, name.rpartition(".")[2]))


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


class _Layout:
    """Which columns of a database mean what; made from the header alone.

    Attributes:
        tables: Tables with the utterances.
        label: Columns that hold the consensus, by label.
        raters: Columns of single raters, by label.
        facts: Columns of what else is known, by our name.
        votes: Columns that count votes, and the emotion that each counts.
        scales: Range of each dimension that was found.
    """

    def __init__(self, reader: AudformatDatabase, header: Any) -> None:
        self.reader, self.header = reader, header
        for table in reader.tables:
            if table not in header.tables:
                near = difflib.get_close_matches(table, header.tables, 1)
                raise self.error(
                    f"there is no table '{table}'; there are: {', '.join(header.tables)}",
                    f"set tables to '{near[0]}'?" if near else "set tables to some of these",
                )
        self._columns = [
            self._describe(table, name, column)
            for table in header.tables
            for name, column in header.tables[table].columns.items()
        ]
        labels = {ours: self._find(ours) for ours in _LABELS}
        self.tables = self._choose({column.table for columns in labels.values() for column in columns})
        self.label: dict[str, list[_Column]] = {}
        self.raters: dict[str, list[_Column]] = {}
        for ours, columns in labels.items():
            levels = {level: [one for one in columns if one.level == level] for level in _LEVELS}
            self.label[ours] = self._one_topic(ours, levels["gold"] or levels["plain"] or levels["machine"])
            topics = {column.topic for column in self.label[ours]}
            self.raters[ours] = self._one_topic(
                ours, [one for one in levels["rater"] if not topics or one.topic in topics]
            )
        self.facts = {ours: self._one_topic(ours, self._find(ours)) for ours in _FACTS}
        emotions = {_plain(str(word)) for column in self.label["emotion"] for word in _labels(column.scheme) or ()}
        self.votes = [
            column
            for column in self._columns
            if "votes" in column.table.split(".") and _plain(column.name) in emotions and self._is_allowed(column.table)
        ]
        self.scales = {ours: self._scale(ours) for ours in DIMENSIONS if self.label[ours] or self.raters[ours]}

    def error(self, problem: str, remedy: str) -> InputError:
        return InputError(f"{self.reader.corpus}: {problem}", remedy)

    def _describe(self, table: str, name: str, column: Any) -> _Column:
        kind = column.rater.type if column.rater_id is not None else None
        level: _Level
        if kind == "machine":
            level = "machine"
        elif kind in ("vote", "ground truth") or "gold" in f"{table} {column.rater_id}".lower():
            level = "gold"
        else:
            level = "plain" if kind is None else "rater"
        return _Column(table, name, column.scheme_id, column.scheme, column.rater_id, level)

    def _is_allowed(self, table: str) -> bool:
        return not self.reader.tables or table in self.reader.tables

    def _find(self, ours: str) -> list[_Column]:
        """The columns that the user names for a label or fact, else those that seem to hold it."""
        columns = [one for one in self._columns if ours in _FACTS or self._is_allowed(one.table)]
        wanted = self.reader.columns.get(ours)
        if wanted is None:
            return [column for column in columns if column.level != "machine" and column.is_about(ours)]
        for names in (str, lambda column: column.name, lambda column: column.scheme_id):
            if found := [column for column in columns if wanted == names(column)]:
                return found
        if wanted:
            near = difflib.get_close_matches(wanted, map(str, columns), 1)
            raise self.error(
                f"columns.{ours} = '{wanted}' is no column and no scheme of the tables; there are: "
                + ", ".join(map(str, columns)),
                f"set columns.{ours} to " + (f"'{near[0]}'?" if near else "one of these"),
            )
        return []

    def _choose(self, labelled: Collection[str]) -> list[str]:
        """The tables with the utterances."""
        tables = self.header.tables
        if self.reader.tables:
            return [table for table in tables if table in self.reader.tables]
        chosen = [one for one in tables if one in labelled or (tables[one].split and tables[one].split.type in _SPLITS)]
        # Without labels, segments may be words or phones: whole files are the safer utterances.
        return chosen or [one for one in tables if tables[one].is_filewise] or list(tables)

    def _one_topic(self, ours: str, columns: list[_Column]) -> list[_Column]:
        if len({column.topic for column in columns}) > 1:
            raise self.error(
                f"more than one column could be the {ours}: " + ", ".join(map(str, columns)),
                f"set columns.{ours} to one of them, or to a scheme: "
                + ", ".join(sorted({column.topic for column in columns})),
            )
        return columns

    def _scale(self, dimension: str) -> Scale:
        """The range that the options give, else the one that the dimension's scheme has."""
        column = (self.label[dimension] or self.raters[dimension])[0]
        bounds: Sequence[float | None] = (None, None)
        if dimension in self.reader.ranges:
            bounds = self.reader.ranges[dimension]
        elif column.scheme is not None:
            bounds = (column.scheme.minimum, column.scheme.maximum)
            ratings = [float(one) for one in _labels(column.scheme) or () if isinstance(one, int | float)]
            if ratings:
                bounds = (min(ratings), max(ratings))
        low, high = bounds
        if low is None or high is None or low == high:
            raise self.error(
                f"{dimension} has no range: the scheme of {column} has the minimum {low} and the maximum {high}",
                f"set the range that was used, as in ranges.{dimension}=[1,5]",
            )
        return scale_of((low, high))


def _labels(scheme: Any) -> Mapping[Any, Any] | None:
    """The labels that a scheme itself lists, with what it says of each; None where it lists none."""
    if scheme is None or scheme.labels is None or isinstance(scheme.labels, str):
        return None
    return scheme.labels if isinstance(scheme.labels, Mapping) else dict.fromkeys(scheme.labels)


_Key = tuple[str, str | None]
"""Our name, and the rater, or the emotion that votes are counted for; None is the consensus, or a fact."""


class _Rows:
    """Files or segments, numbered as they come, and what is known of each."""

    def __init__(self) -> None:
        self.number: dict[Any, int] = {}
        self.values: dict[_Key, list[Any]] = {}

    def put(self, key: _Key, numbers: Sequence[int | None], values: Sequence[Any]) -> tuple[int, Any, Any] | None:
        """Keeps values; returns the first row that has another value already, and both values."""
        known = self.values.setdefault(key, [])
        known.extend([None] * (len(self.number) - len(known)))
        for row, value in zip(numbers, values, strict=True):
            if row is not None and value is not None:
                if known[row] is None:
                    known[row] = value
                elif known[row] != value:
                    return row, known[row], value
        return None

    def get(self, key: _Key, row: int | None) -> Any:
        values = self.values.get(key, ())
        return values[row] if row is not None and row < len(values) else None


class _Content:
    """The values of a database's tables.

    Attributes:
        faults: Rows and labels that cannot be used.
    """

    def __init__(self, layout: _Layout, root: Path) -> None:
        self.layout, self.root = layout, root
        self._inside = Inside(root, layout.reader.outside)
        self.faults: list[Fault] = []
        self._files, self._segments = _Rows(), _Rows()
        self._emotions: dict[str, str | None] = {}  # by the corpus's own label
        wanted: dict[str, list[tuple[_Key, _Column]]] = {}
        for ours, columns in (layout.label | layout.facts).items():
            for column in columns:
                wanted.setdefault(column.table, []).append(((ours, None), column))
        for ours, columns in layout.raters.items():
            for column in columns:
                wanted.setdefault(column.table, []).append(((ours, column.rater), column))
        for column in layout.votes:
            wanted.setdefault(column.table, []).append((("votes", column.name), column))
        for table in layout.tables:
            self._load(table, wanted.pop(table, []), is_new=True)
        for file, _, _ in self._segments.number:
            self._files.number.setdefault(file, len(self._files.number))
        for table, columns_of_table in wanted.items():
            self._load(table, columns_of_table, is_new=False)
        self._genders = self._genders_of_speakers()

    def utterances(self) -> Iterator[Utterance]:
        """Yields the segments, and the files without any, sorted."""
        files, segments = self._files.number, self._segments.number
        segmented = {file for file, _, _ in segments}
        everything: list[Segment] = [(file, 0.0, math.inf) for file in files if file not in segmented]
        everything.extend(segments)
        everything.sort()
        for segment in everything:
            rows = segments.get(segment), files[segment[0]]
            label, emotion, votes = self._emotion(rows)
            speaker = self._get(("speaker", None), rows)
            gender = self._get(("gender", None), rows)
            yield Utterance(
                path=self._path(segment[0]),
                start=segment[1],
                end=None if segment[2] == math.inf else segment[2],
                speaker=speaker,
                gender=gender if self.layout.facts["gender"] else self._genders.get(speaker),
                session=self._get(("session", None), rows),
                sentence=self._get(("sentence", None), rows),
                label=label,
                emotion=emotion,
                votes=votes,
                activation=self._rating("activation", rows),
                valence=self._rating("valence", rows),
                dominance=self._rating("dominance", rows),
                split=self._get(("split", None), rows),
            )

    def _get(self, key: _Key, rows: tuple[int | None, int]) -> Any:
        own = self._segments.get(key, rows[0])
        return self._files.get(key, rows[1]) if own is None else own

    def _emotion(self, rows: tuple[int | None, int]) -> tuple[str | None, str | None, dict[str, float] | None]:
        """The label, the emotion and the votes."""
        raters = dict.fromkeys(column.rater for column in self.layout.raters["emotion"])
        words = [word for rater in raters if (word := self._get(("emotion", rater), rows)) is not None]
        votes = Counter[str](emotion for word in words if (emotion := self._emotions[word]))
        if not raters:
            counts = {column.name: self._get(("votes", column.name), rows) for column in self.layout.votes}
            votes = Counter({common_emotion(name): count for name, count in counts.items() if count})
        kept = {name: float(count) for name, count in votes.items()} or None
        if self.layout.label["emotion"]:
            label = self._get(("emotion", None), rows)
            return label, self._emotions.get(label), kept
        leaders = [name for name, count in votes.items() if count == max(votes.values())]
        if len(leaders) != 1 or not raters:
            return None, None, kept
        return next(word for word in words if self._emotions[word] == leaders[0]), leaders[0], kept

    def _rating(self, dimension: str, rows: tuple[int | None, int]) -> float | None:
        """The consensus, or where the database has none, the raters' mean."""
        if self.layout.label[dimension] or not self.layout.raters[dimension]:
            return self._get((dimension, None), rows)  # type: ignore[no-any-return]
        raters = dict.fromkeys(column.rater for column in self.layout.raters[dimension])
        ratings = [one for rater in raters if (one := self._get((dimension, rater), rows)) is not None]
        return sum(ratings) / len(ratings) if ratings else None

    def _path(self, file: str) -> str:
        """A media path, POSIX and relative to the root, which it must not leave."""
        below = self._inside.below(file.replace("\\", "/"))  # in a database made on Windows
        if below is None:
            raise self.layout.error(
                f"the media file '{file}' leaves {self.root}",
                "set a root that holds all audio, or the reader's option outside=true if you trust the database",
            )
        return below

    def _load(self, table: str, columns: list[tuple[_Key, _Column]], is_new: bool) -> None:
        """Reads a table's columns; the rows of a new table are utterances, those of others only describe them."""
        described = self.layout.header.tables[table]
        index = ["file"] if described.is_filewise else ["file", "start", "end"]
        file = self._file(table)
        data = self._read(file, [*index, *dict.fromkeys(column.name for _, column in columns)])
        keys: list[Any] = _text(data.column("file")).to_pylist()
        if None in keys:
            raise self.layout.error(f"{file}: row {keys.index(None) + 1} names no file", "each row needs one")
        if not described.is_filewise:
            starts, ends = (self._seconds(file, name, data.column(name)) for name in ("start", "end"))
            keys = list(
                zip(keys, np.nan_to_num(starts).tolist(), np.nan_to_num(ends, nan=math.inf).tolist(), strict=True)
            )
        rows = self._files if described.is_filewise else self._segments
        if is_new:
            for key in keys:
                rows.number.setdefault(key, len(rows.number))
        numbers: list[int | None] = [rows.number.get(key) for key in keys]
        if len(set(keys)) < len(keys):
            self._leave_out_repeated(file, keys, numbers)
        if is_new and described.split and described.split.type in _SPLITS:
            self._put(rows, ("split", None), numbers, [_SPLITS[described.split.type]] * len(keys), table)
        for key, column in columns:
            values = self._values(file, key[0], column, data.column(column.name), keys)
            self._put(rows, key, numbers, values, str(column))

    def _leave_out_repeated(self, file: Path, keys: list[Any], numbers: list[int | None]) -> None:
        seen = set()
        for row, key in enumerate(keys):
            if key in seen:
                numbers[row] = None
                self.faults.append(Fault(_file_of(key), f"listed twice in {file.name}: its first row counts"))
            seen.add(key)

    def _put(self, rows: _Rows, key: _Key, numbers: list[int | None], values: Sequence[Any], where: str) -> None:
        clash = rows.put(key, numbers, values)
        if clash is None:
            return
        row, first, second = clash
        media = _file_of(list(rows.number)[row])
        ours = key[0]
        if ours == "split":
            tables = [one for one in self.layout.tables if self.layout.header.tables[one].split]
            raise self.layout.error(
                f"{media} is in the split '{first}' and, in the table {where}, in '{second}'",
                f"set tables to those of one split; with a split are: {', '.join(tables)}",
            )
        columns = (self.layout.label | self.layout.facts).get(ours, []) + self.layout.raters.get(ours, [])
        raise self.layout.error(
            f"the {ours} of {media} is '{first}' and, in {where}, '{second}'; it could be any of: "
            + ", ".join(map(str, columns or self.layout.votes)),
            f"set columns.{ours} to the one that is meant, or tables to the tables that are",
        )

    def _values(self, file: Path, ours: str, column: _Column, data: pa.ChunkedArray, keys: list[Any]) -> list[Any]:
        """The values of a column as we keep them, None where one is missing."""
        # Each distinct text is kept and looked at once.
        encoded = _text(data).combine_chunks().dictionary_encode()
        words: list[Any] = encoded.dictionary.to_pylist()
        if ours in DIMENSIONS or ours == "votes":
            words = [self._number(file, column, word) for word in words]
        elif ours == "gender":
            words = [_gender(word) for word in words]
        elif ours == "emotion":
            named = _labels(column.scheme)
            meanings = {str(label): meaning for label, meaning in (named or {}).items()}
            for code, word in enumerate(words):
                if named is not None and word not in meanings:
                    row = pc.index(encoded.indices, code).as_py()
                    reason = f"unknown label: '{word}' in {column} is none of scheme '{column.scheme_id}'"
                    self.faults.append(Fault(_file_of(keys[row]), f"{reason}; its rows stay without it"))
                    words[code] = None
                    continue
                # A scheme may say what its codes mean.
                meaning = meanings.get(word)
                spoken = meaning if isinstance(meaning, str) else word
                self._emotions[word] = None if _plain(spoken) in _NO_AGREEMENT else common_emotion(spoken)
        return [None if code is None else words[code] for code in encoded.indices.to_pylist()]

    def _number(self, file: Path, column: _Column, text: str) -> float | None:
        try:
            number = float(text)
        except ValueError as error:
            problem = f"{file}: '{text}' in {column} is not a number"
            raise self.layout.error(problem, "write numbers as in 3.5, or nothing") from error
        return number if math.isfinite(number) else None

    def _genders_of_speakers(self) -> dict[str | None, str | None]:
        """Genders by speaker, where they are a property of the speakers' scheme."""
        if self.layout.facts["gender"] or "gender" in self.layout.reader.columns:
            return {}
        found: dict[str | None, str | None] = {}
        for scheme in {id(one.scheme): one.scheme for one in self.layout.facts["speaker"] if one.scheme}.values():
            for speaker, name, gender in self._properties(scheme):
                if _is_called(name, "gender"):
                    found[speaker] = _gender(gender)
        return found

    def _properties(self, scheme: Any) -> Iterator[tuple[str, str, str | None]]:
        """Yields what a scheme says of its labels: label, name of the property, value."""
        if isinstance(scheme.labels, str):
            table = self.layout.header.misc_tables[scheme.labels]
            (level,) = table.levels
            names = list(table.columns)
            data = self._read(self._file(scheme.labels), [level, *names])
            labels = _text(data.column(level)).to_pylist()
            for name in names:
                for label, value in zip(labels, _text(data.column(name)).to_pylist(), strict=True):
                    yield label, name, value
        for label, properties in (_labels(scheme) or {}).items():
            if isinstance(properties, Mapping):
                for name, value in properties.items():
                    yield str(label), str(name), None if value is None else str(value)

    def _file(self, table: str) -> Path:
        """A table's file; pickles, which audformat itself would prefer, are out of the question."""
        if "/" in table or "\\" in table:
            raise self.layout.error(f"'{table}' is no name of a table", "rename it with audformat")
        for suffix in ("parquet", "csv"):  # as audformat does it where there are both
            file = self.root / f"db.{table}.{suffix}"
            if file.is_file():
                return file
        pickled = self.root / f"db.{table}.pkl"
        if pickled.is_file():
            raise self.layout.error(
                f"the table '{table}' is there only as {pickled}, and pickles are not opened, since they can run code",
                "save the database again as CSV or Parquet: database.save(root, storage_format='parquet')",
            )
        raise self.layout.error(
            f"{self.root} has no file of the table '{table}'", f"restore db.{table}.csv or .parquet"
        )

    def _read(self, file: Path, names: list[str]) -> pa.Table:
        """Reads columns of a table: all as text from CSV, as they are from Parquet."""
        try:
            if file.suffix == ".parquet":
                # What comes may be more: a name before a dot is taken for that of a group.
                table = pq.ParquetFile(file).read(columns=names).select(names)
                table.validate(full=True)
                return table
            return pa.csv.read_csv(
                file,
                read_options=pa.csv.ReadOptions(block_size=_CSV_BLOCK_BYTES),
                parse_options=pa.csv.ParseOptions(newlines_in_values=True),
                convert_options=pa.csv.ConvertOptions(
                    include_columns=names, column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True
                ),
            )
        # Of damaged pages Arrow says that they could not be read, and of damaged names that they are no text.
        except (pa.ArrowException, KeyError, OSError, UnicodeDecodeError) as error:
            raise self.layout.error(
                f"{file} is not the table that {HEADER} describes: {error}", "save the database again with audformat"
            ) from error

    def _seconds(self, file: Path, name: str, data: pa.ChunkedArray) -> Any:
        import pandas as pd

        try:
            return pd.to_timedelta(data.to_pandas()).dt.total_seconds().to_numpy()
        except ValueError as error:
            raise self.layout.error(
                f"{file}, {name}: {error}", "times look like this: 0 days 00:00:01.500000"
            ) from error


def _gender(word: str | None) -> str | None:
    """One of the two that are told apart; children and others are neither."""
    return None if word is None else _GENDERS.get(word.strip().lower())


def _file_of(key: str | Segment) -> str:
    return key if isinstance(key, str) else key[0]


def _text(data: pa.ChunkedArray) -> pa.ChunkedArray:
    """Any column as text; numbers without a fraction have none."""
    if pa.types.is_dictionary(data.type):
        data = pc.cast(data, data.type.value_type)
    return pc.cast(data, pa.string())
