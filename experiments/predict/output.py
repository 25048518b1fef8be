"""The table that predictions are written to: rows stay once written, and a later command goes on after them."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.errors import InputError
from experiments.files import replacing, write_json

FORMATS = (".csv", ".jsonl", ".parquet")
_MADE_BY = "ser-aae predict"
_ROWS_AT_ONCE = 10_000
_TEXTS = ("file", "emotion", "error")

Cells = Mapping[str, Any]
Key = tuple[str, float, float | None]
"""File, start and end, which tell rows apart."""


class Output:
    """A table of predictions, and beside it a file that says what made it and how much of it is whole.

    A Parquet table cannot be added to: its rows are kept as JSON lines beside it until all are there.

    Args:
        path: Its suffix is one of ``FORMATS``.
        columns: Of the table, ``file``, ``start`` and ``end`` the first.
        settings: What rows depend on, as plain JSON: to go on, they must be the same.

    Raises:
        InputError: Something else is there, what is there was made with other settings, or it has been changed since.
    """

    def __init__(self, path: Path, columns: Sequence[str], settings: Mapping[str, Any]) -> None:
        if path.suffix.lower() not in FORMATS:
            raise InputError(f"out={path}: unknown kind of table", f"Choose from: {', '.join(FORMATS)}.")
        self.path = path
        self.columns = list(columns)
        self.settings = json.loads(json.dumps(settings))
        self.beside = path.with_name(f"{path.name}.json")
        self.parquet = path.suffix.lower() == ".parquet"
        self.rows = path.with_name(f"{path.name}.rows.jsonl") if self.parquet else path
        self.is_csv = path.suffix.lower() == ".csv"
        self._bytes = 0
        self._complete = False
        self._begin()

    def _begin(self) -> None:
        if not os.path.lexists(self.beside):
            for file in (self.path, self.rows):
                if os.path.lexists(file):
                    raise InputError(
                        f"out={self.path}: {file} is there already, and no {self.beside.name} beside it",
                        "Nothing is overwritten that this command did not write: give another out=<file>.",
                    )
            self._remember()
            return
        state = self._state()
        for key, value in self.settings.items():
            if state["settings"].get(key) != value:
                raise InputError(
                    f"{self.path} was begun with {key}={state['settings'].get(key)!r}, and now it is {value!r}",
                    f"Give the same settings, or another out=<file>; or remove {self.path} and {self.beside}.",
                )
        self._bytes, self._complete = state["bytes"], state["complete"]
        if not (self.parquet and self._complete):
            size = self.rows.stat().st_size if self.rows.exists() else 0
            if size < self._bytes or (self._complete and size != self._bytes):
                raise self._changed(self.rows)
            if size > self._bytes:  # what was being written when the last command ended
                os.truncate(self.rows, self._bytes)

    def written(self) -> Counter[Key]:
        """The rows that are there."""
        try:
            return Counter((row["file"], float(row["start"]), _number(row["end"])) for row in self._read())
        except (KeyError, TypeError, ValueError, csv.Error, pa.ArrowException, OSError) as error:
            raise self._changed(self.path if self.parquet and self._complete else self.rows) from error

    def add(self, rows: Sequence[Cells]) -> None:
        """Adds rows, which are on the disk when this returns."""
        if self._complete and self.parquet:  # its rows are taken up again
            self._bytes = 0
            self.rows.unlink(missing_ok=True)
            kept = self._of_parquet()
            while some := list(islice(kept, _ROWS_AT_ONCE)):
                self._append(some)
        self._complete = False
        self._append(rows)
        self._remember()

    def finish(self) -> None:
        """Writes down that all rows are there."""
        if self._complete:
            return
        if not self._bytes:
            self._append([])
        if self.parquet:
            self._write_parquet()
        self._complete = True
        self._remember()
        if self.parquet:
            self.rows.unlink()

    def _append(self, rows: Sequence[Cells]) -> None:
        text = io.StringIO(newline="")
        if self.is_csv:
            writer = csv.DictWriter(text, self.columns, lineterminator="\n")
            if not self._bytes:
                writer.writeheader()
            writer.writerows(rows)
        else:
            for row in rows:
                text.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        try:
            with self.rows.open("ab") as stream:
                stream.write(text.getvalue().encode())
                stream.flush()
                os.fsync(stream.fileno())
                self._bytes = stream.tell()
        except OSError as error:
            error.filename = error.filename or str(self.rows)
            raise

    def _read(self) -> Iterator[dict[str, Any]]:
        if self.parquet and self._complete:
            yield from self._of_parquet()
        elif self._bytes:
            with self.rows.open(encoding="utf-8", newline="" if self.is_csv else "\n") as stream:
                yield from csv.DictReader(stream) if self.is_csv else map(json.loads, stream)

    def _of_parquet(self) -> Iterator[dict[str, Any]]:
        for batch in pq.ParquetFile(self.path).iter_batches(_ROWS_AT_ONCE):
            yield from batch.to_pylist()

    def _write_parquet(self) -> None:
        schema = pa.schema([(name, pa.string() if name in _TEXTS else pa.float64()) for name in self.columns])
        rows = self._read()
        with replacing(self.path) as stream, pq.ParquetWriter(stream, schema) as writer:
            while some := list(islice(rows, _ROWS_AT_ONCE)):
                writer.write_table(pa.Table.from_pylist(some, schema))

    def _remember(self) -> None:
        state = {"made_by": _MADE_BY, "settings": self.settings, "bytes": self._bytes, "complete": self._complete}
        write_json(self.beside, state)

    def _state(self) -> dict[str, Any]:
        try:
            state: dict[str, Any] = json.loads(self.beside.read_text(encoding="utf-8"))
            if state["made_by"] != _MADE_BY or type(state["bytes"]) is not int or state["bytes"] < 0:
                raise ValueError("it is something else")
            if not isinstance(state["settings"], dict) or type(state["complete"]) is not bool:
                raise ValueError("it is damaged")
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise InputError(
                f"out={self.path}: {self.beside} was not written by this command ({error})",
                "Nothing is overwritten that this command did not write: give another out=<file>.",
            ) from error
        return state

    def _changed(self, file: Path) -> InputError:
        return InputError(
            f"{file} is not as the last command left it", f"Give another out=<file>, or remove it and {self.beside}."
        )


def _number(value: Any) -> float | None:
    return None if value in (None, "") else float(value)
