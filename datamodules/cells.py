"""Single cells of an Arrow file, read by position."""

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Integers = NDArray[np.int64]

Rows = range | Integers
"""Numbers of rows, ascending: an interval, which takes no memory, or an array."""


def take(rows: Rows, positions: Integers) -> Integers:
    """The numbers at ``positions``."""
    return rows.start + positions if isinstance(rows, range) else rows[positions]


class Cells:
    """Looks cells up in an Arrow IPC file, in time and memory that do not grow with its rows.

    The file is not mapped: a look-up in a mapped file maps the pages around it too, and they stay and count as memory
    of each process. Only where the columns lie is kept, a few numbers a record batch; cells are read from there.

    Args:
        file: An Arrow IPC file, not compressed.
        columns: Those that cells are to be read of: numbers, strings, or strings in a dictionary.

    Attributes:
        first: First row of each record batch and, at the end, the number of rows, (batches + 1,).
        nulls: How many cells of each column of the file are null.
    """

    def __init__(self, file: Path, columns: Sequence[str]) -> None:
        self._descriptor = os.open(file, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        with pa.memory_map(str(file)) as source:
            base = source.read_buffer().address
            source.seek(0)
            reader = pa.ipc.open_file(source)
            batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
            self.first = np.cumsum([0, *(len(batch) for batch in batches)])
            self.nulls = {
                name: sum(batch.column(index).null_count for batch in batches)
                for index, name in enumerate(reader.schema.names)
            }
            self._types = {name: _stored(reader.schema.field(name).type) for name in columns}
            self._places = {
                name: np.array([_places(batch.column(name), base) for batch in batches], np.int64).reshape(-1, 3)
                for name in columns
            }

    def numbers(self, name: str, rows: Integers) -> NDArray[Any]:
        """Cells of a column of numbers, or codes of strings in a dictionary, (rows,); -1 where null."""
        batch, inside = self._find(rows)
        validity, values, _ = self._places[name][batch].T
        dtype = self._types[name]
        found = np.frombuffer(self._read(values + inside * dtype.itemsize, dtype.itemsize), dtype)
        if (checked := np.flatnonzero(validity)).size:
            bits = np.frombuffer(self._read((validity + inside // 8)[checked], 1), np.uint8)
            found = found.copy()
            found[checked[(bits >> (inside[checked] % 8)) & 1 == 0]] = -1
        return found

    def strings(self, name: str, rows: Integers) -> list[str]:
        """Cells of a column of strings without nulls."""
        batch, inside = self._find(rows)
        _, offsets, data = self._places[name][batch].T
        dtype = self._types[name]
        ends = np.frombuffer(self._read(offsets + inside * dtype.itemsize, 2 * dtype.itemsize), dtype).reshape(-1, 2)
        starts, lengths = data + ends[:, 0], ends[:, 1] - ends[:, 0]
        return [
            os.pread(self._descriptor, length, start).decode()
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True)
        ]

    def _find(self, rows: Integers) -> tuple[Integers, Integers]:
        """The record batch of each row, and its place there."""
        batch = np.searchsorted(self.first, rows, side="right") - 1
        return batch, rows - self.first[batch]

    def _read(self, places: Integers, size: int) -> bytes:
        return b"".join([os.pread(self._descriptor, size, place) for place in places.tolist()])


def _stored(kind: pa.DataType) -> np.dtype[Any]:
    """What the file holds for a cell of a column: its number, its code, or where its string begins."""
    if pa.types.is_dictionary(kind):
        kind = kind.index_type
    return np.dtype(np.int32 if pa.types.is_string(kind) else kind.to_pandas_dtype())


def _places(column: pa.Array, base: int) -> tuple[int, int, int]:
    """Where in the file validity, values or offsets, and the strings' bytes of a record batch lie; 0: nowhere."""
    validity, values, *data = (buffer.address - base if buffer else 0 for buffer in column.buffers())
    return validity if column.null_count else 0, values, data[0] if data else 0
