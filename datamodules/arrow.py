"""Arrays between Arrow and numpy by their buffers.

Arrow's own conversions (`to_numpy`, `pa.array`, `pa.scalar`, and Python values as operands) import pandas wherever it
is installed, which takes up to seconds. What only finds a manifest and reads it does without them.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def to_numpy(column: pa.Array, null: float = np.nan) -> NDArray[Any]:
    """Numbers (rows,), with ``null`` where they are missing; integers among which is a NaN become float64."""
    dtype = np.dtype(column.type.to_pandas_dtype())
    if not len(column):  # it may have no buffers
        return np.empty(0, dtype)
    validity, data = column.buffers()
    values = np.frombuffer(data, dtype, len(column), column.offset * dtype.itemsize)
    if not column.null_count:
        return values
    bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little")
    return np.where(bits[column.offset : column.offset + len(column)], values, null)


def from_integers(values: NDArray[np.int64]) -> pa.Array:
    """Numbers as Arrow has them."""
    values = np.ascontiguousarray(values, np.int64)
    return pa.Array.from_buffers(pa.int64(), len(values), [None, pa.py_buffer(values)])


def from_strings(values: Iterable[str]) -> pa.Array:
    """Strings as Arrow has them."""
    encoded = [value.encode() for value in values]
    ends = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    return pa.Array.from_buffers(pa.string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])
