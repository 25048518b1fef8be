"""A corpus of the user's own, described by one table."""

import csv
import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Never

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from datamodules.corpora.base import Fault, Reader, Scale, Utterance, common_emotion, decode_text
from datamodules.corpora.options import Inside, check_columns, check_name, check_ranges, scale_of, without_outside
from datamodules.errors import InputError
from datamodules.vocabulary import DIMENSIONS

_TEXTS = ("speaker", "session", "sentence", "emotion")
_TIMES = ("start", "end")
_NUMBERS = (*_TIMES, *DIMENSIONS)
COLUMNS = ("path", "gender", "split", *_TEXTS, *_NUMBERS)

_GENDERS: dict[str, str | None] = {"unknown": None, "other": None}
_GENDERS |= {"female": "female", "f": "female", "woman": "female", "male": "male", "m": "male", "man": "male"}
_SPLITS: dict[str, str | None] = {
    "train": "train",
    "training": "train",
    "development": "development",
    "dev": "development",
}
_SPLITS |= {"devel": "development", "validation": "development", "valid": "development", "val": "development"}
_SPLITS |= {"test": "test", "testing": "test"}
_MISSING = ["", "NA", "NaN", "nan"]
_TIME = re.compile(r"(\d+) days? (\d\d):(\d\d):(\d\d(?:\.\d+)?)")
"""As audformat and pandas write times: 0 days 00:00:01.500000."""


@dataclass(frozen=True)
class Table(Reader):
    """A CSV, TSV or Parquet table with a `path` column and any of the other `COLUMNS`.

    Paths are relative to the corpus root, which is the table's own folder unless it is set; a path that leaves the root
    is refused, be it by `..`, from `/` on or through a link, unless `outside` allows it. Everything but times and
    dimensions is read as text, so that speaker "03" stays "03".

    Args:
        path: The table; relative to the root or to the working directory.
        columns: Own column names by ours, for example `{"emotion": "label", "path": "file"}`.
        ranges: Lowest and highest rating of a dimension where it is not [0, 1]; highest first when it is reversed.
        corpus: The corpus's name in manifests and reports.
        outside: Whether paths may leave the root; whoever wrote the table then chooses which files are read.
    """

    name = "table"
    licence = "the user's own"
    how_to_get = "set its path to a CSV, TSV or Parquet table with at least a column of paths"
    language = "various"
    labelled = True
    wanted: ClassVar[tuple[str, ...]] = COLUMNS
    """Those that are read, where the table has them."""

    path: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, Sequence[float]] = field(default_factory=dict)
    corpus: str = "table"
    outside: bool = False

    def options(self) -> dict[str, Any]:
        """See `Reader.options`; as it was before there was `outside`, where that is not given."""
        return without_outside(super().options())

    def __post_init__(self) -> None:
        check_name(self.corpus)
        if not self.path:
            raise InputError(f"{self.corpus}: no table is given", "set the reader's option 'path' to the table")
        check_columns(self.corpus, self.columns, COLUMNS)
        check_ranges(self.corpus, self.ranges)

    def scale(self, dimension: str) -> Scale:
        """The range that `ranges` declares, else [0, 1]."""
        return scale_of(self.ranges.get(dimension, (0.0, 1.0)))

    def own_root(self) -> Path | None:
        """The table's folder."""
        table = Path(self.path).expanduser()
        return table.resolve().parent if table.is_file() else None

    def watched(self, root: Path) -> Iterator[str]:
        """The table alone; audio files are watched one by one, and other files do not matter."""
        yield str(self._file(root))

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields the table's rows; see `Reader.read`."""
        file = self._file(root)
        batches = _parquet(file) if file.suffix.lower() in (".parquet", ".pq") else _delimited(file)
        first_row, unit = 1, "row {} (counted from 1)"
        inside = Inside(root, self.outside)
        if file.suffix.lower() not in (".parquet", ".pq"):
            first_row, unit = 2, "row {} (the header is row 1)"
        for batch in batches:
            yield from _Batch(self, file, batch, first_row, unit, inside).utterances(root)
            first_row += len(batch)

    def _file(self, root: Path) -> Path:
        for candidate in (root / Path(self.path).expanduser(), Path(self.path).absolute()):
            with suppress(OSError, ValueError):  # what cannot be the name of a file
                if candidate.is_file():
                    return candidate.resolve()
        raise InputError(
            f"{self.corpus}: the table '{self.path}' does not exist in {root} or {Path.cwd()}", self.how_to_get
        )


class _Batch:
    """Some rows of a table on their way to utterances; every complaint names the row."""

    def __init__(
        self, reader: Table, file: Path, batch: pa.RecordBatch, first_row: int, unit: str, inside: Inside
    ) -> None:
        self.reader, self.file, self.first_row, self.unit = reader, file, first_row, unit
        self.inside = inside
        names = [name.strip() for name in batch.schema.names]
        self.columns: dict[str, pa.Array] = {}
        for ours in reader.wanted:
            wanted = reader.columns.get(ours, ours)
            if wanted in names:
                self.columns[ours] = batch.column(names.index(wanted))
            elif ours == "path" or ours in reader.columns:
                near = difflib.get_close_matches(wanted, names, 1)
                raise InputError(
                    f"{reader.corpus}: {file} has no column '{wanted}' ({ours}); it has: {', '.join(names)}",
                    f"set columns.{ours} to " + (f"'{near[0]}'?" if near else "the name of one of these"),
                )

    def utterances(self, root: Path) -> Iterator[Utterance]:
        texts = {name: self._text(name).to_pylist() for name in _TEXTS if name in self.columns}
        for name, words in (("gender", _GENDERS), ("split", _SPLITS)):
            if name in self.columns:
                texts[name] = self._words(name, words)
        numbers = {name: self._number(name) for name in _NUMBERS if name in self.columns}
        labels = texts.pop("emotion", None)
        for row, path in enumerate(self._paths(root)):
            label = labels[row] if labels else None
            values: dict[str, Any] = {name: column[row] for name, column in texts.items()}
            values |= {name: column[row] for name, column in numbers.items() if column[row] is not None}
            yield Utterance(path, label=label, emotion=label and common_emotion(label), **values)

    def _text(self, name: str) -> pa.Array:
        try:
            text = pc.utf8_trim_whitespace(pc.cast(self.columns[name], pa.string()))
        except pa.ArrowException as error:  # of a kind that is no text, or of bytes that are none
            raise InputError(
                f"{self.reader.corpus}: {self.file}, column '{self.reader.columns.get(name, name)}': {error}",
                "write the column as text, in UTF-8",
            ) from error
        return pc.if_else(pc.is_in(text, pa.array(_MISSING)), None, text)

    def _words(self, name: str, known: Mapping[str, str | None]) -> list[str | None]:
        """Translates words of a closed set; each distinct word is looked up once."""
        codes = pc.dictionary_encode(pc.utf8_lower(self._text(name)))
        words = codes.dictionary.to_pylist()
        for code, word in enumerate(words):
            if word not in known:
                row = pc.index(codes.indices, code).as_py()
                self._refuse(row, name, f"'{word}' is not a {name}", f"known are: {', '.join(known)}")
        translated = pa.array([known[word] for word in words], pa.string())
        return translated.take(codes.indices).to_pylist()  # type: ignore[no-any-return]

    def _number(self, name: str) -> list[float | None]:
        if name in _TIMES:
            self.columns[name] = _seconds(self.columns[name])
        column = self.columns[name]
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            column = self._text(name)
        try:
            numbers = pc.cast(column, pa.float64())
        except pa.ArrowInvalid:
            for row, text in enumerate(column.to_pylist()):
                try:
                    pc.cast(pa.scalar(text, pa.string()), pa.float64())
                except pa.ArrowInvalid:
                    self._refuse(row, name, f"'{text}' is not a number", "write numbers as in 3.5, or nothing")
            raise
        numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
        low, high = 0.0, sys.float_info.max
        remedy = "give times in seconds from the beginning of the file"
        if name in DIMENSIONS:
            scale = self.reader.scale(name)
            low, high = scale.low, scale.high
            remedy = f"declare the range that the table uses, as in ranges.{name}=[1,5]"
        outside = pc.fill_null(pc.or_(pc.less(numbers, low), pc.greater(numbers, high)), False)
        if pc.any(outside).as_py():
            row = pc.index(outside, True).as_py()
            self._refuse(row, name, f"{numbers[row].as_py()} is outside {low:g} to {high:g}", remedy)
        return numbers.to_pylist()  # type: ignore[no-any-return]

    def _paths(self, root: Path) -> Iterator[str]:
        for row, path in enumerate(self._text("path").to_pylist()):
            if path is None:
                self._refuse(row, "path", "the path is missing", "each row needs one")
            # Tables made on Windows; a file name with a real backslash has no chance to be meant.
            below = self.inside.below(path.replace("\\", "/"))
            if below is None:
                self._refuse(
                    row,
                    "path",
                    f"'{path}' leaves the corpus root {root}",
                    "set a root that holds all audio, or the reader's option outside=true if you trust the table",
                )
            yield below

    def _refuse(self, row: int, name: str, problem: str, remedy: str) -> Never:
        where = self.unit.format(self.first_row + row)
        column = self.reader.columns.get(name, name)
        raise InputError(f"{self.reader.corpus}: {self.file}, {where}, column '{column}': {problem}", remedy)


def names_of_columns(file: Path) -> list[str]:
    """The columns of a table.

    Raises:
        InputError: It cannot be read.
    """
    batches = _parquet(file) if file.suffix.lower() in (".parquet", ".pq") else _delimited(file)
    return [name.strip() for batch in islice(batches, 1) for name in batch.schema.names]


def _seconds(times: pa.Array) -> pa.Array:
    """Times in seconds, where they are written as durations or as audformat writes them; others as they are."""
    if pa.types.is_duration(times.type):
        nanoseconds = pc.cast(pc.cast(times, pa.duration("ns")), pa.int64())
        return pc.divide(pc.cast(nanoseconds, pa.float64()), 1e9)
    if not (pa.types.is_string(times.type) or pa.types.is_large_string(times.type)):
        return times
    return pa.array([_in_seconds(text) for text in times.to_pylist()], pa.string())


def _in_seconds(text: str | None) -> str | None:
    if text is None or text.strip() == "NaT":
        return None
    if (found := _TIME.fullmatch(text.strip())) is None:
        return text
    days, hours, minutes, seconds = map(float, found.groups())
    return repr(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _parquet(file: Path) -> Iterator[pa.RecordBatch]:
    try:
        for batch in pq.ParquetFile(file).iter_batches():
            batch.validate(full=True)
            yield batch
    # Of damaged pages it says that they could not be read, and of damaged names that they are no text.
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is not a Parquet table: {error}", "write the table again") from error


def _delimited(file: Path) -> Iterator[pa.RecordBatch]:
    """Streams a delimited text table, every column as text, with the delimiter that its header uses."""
    with file.open("rb") as stream:
        head = stream.readline()
    utf16 = head.startswith((b"\xff\xfe", b"\xfe\xff"))
    if utf16:
        raise InputError(f"{file} is encoded in UTF-16", "save it as UTF-8")
    header = decode_text(head).rstrip("\n")
    delimiter = "\t" if file.suffix.lower() in (".tsv", ".tab") else max(",;\t", key=header.count)
    try:
        names = next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error as error:
        raise InputError(f"{file} needs a header of column names, but begins: {header[:200]!r}") from error
    if len(set(names)) < len(names) or not names:
        raise InputError(f"{file} needs a header of distinct column names, but begins: {header[:200]!r}")
    try:
        yield from pa.csv.open_csv(
            file,
            read_options=pa.csv.ReadOptions(
                column_names=names, skip_rows=1, encoding="utf8" if _is_utf8(file) else "latin-1"
            ),
            parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True, null_values=_MISSING
            ),
        )
    except pa.ArrowInvalid as error:
        remedy = "each row needs as many fields as the header"
        raise InputError(f"{file} cannot be read as a table: {error}", remedy) from error


def _is_utf8(file: Path) -> bool:
    try:
        with file.open(encoding="utf-8") as stream:
            while stream.read(1 << 20):
                pass
    except UnicodeDecodeError:
        return False
    return True
