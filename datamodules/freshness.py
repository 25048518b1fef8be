"""Whether what was made from a folder is still true of it: stamps of files and folders, and a lock for the maker."""

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from datamodules.audit import file_stamp
from datamodules.locks import open_unlinked
from datamodules.processes import refuse_to_begin_again

# Paths in bytes: the file systems of others hold names in all encodings.
_SCHEMA = pa.schema([("path", pa.binary()), ("size", pa.int64()), ("mtime_ns", pa.int64())])
_META = b"ser_aae"
_ROWS = 1 << 16


class Stamps:
    """Sizes and times of modification, kept in Arrow, since there may be very many.

    Args:
        root: What paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._batches: list[pa.RecordBatch] = []

    def watch(self, paths: Iterable[str]) -> None:
        """Looks at files and folders, which need not exist, and keeps their stamps."""
        paths = iter(paths)
        while some := list(islice(paths, _ROWS)):
            stamps = [file_stamp(_below(self.root, path)) for path in some]
            self.add(some, [size for size, _ in stamps], [mtime for _, mtime in stamps])

    def add(self, paths: list[str], sizes: list[int], mtimes_ns: list[int]) -> None:
        """Keeps stamps that were taken elsewhere."""
        encoded = [os.fsencode(path) for path in paths]
        self._batches.append(pa.record_batch([encoded, sizes, mtimes_ns], _SCHEMA))

    def write(self, file: Path, state: Mapping[str, Any]) -> None:
        """Writes the stamps with some facts of the caller's."""
        table = pa.Table.from_batches(self._batches, _SCHEMA).combine_chunks()
        table = table.replace_schema_metadata({_META: json.dumps(state)})
        with durable(file) as stream, pa.ipc.new_file(stream, table.schema) as writer:
            writer.write_table(table, max_chunksize=_ROWS)


def _below(root: Path, path: str) -> str:
    return path if path.startswith("/") else f"{root}/{path}"  # joining a `Path` takes longer than the stamp


def read_state(file: Path) -> dict[str, Any]:
    """Reads the facts beside the stamps, and no stamp."""
    with pa.memory_map(str(file)) as source:
        state: dict[str, Any] = json.loads(pa.ipc.open_file(source).schema.metadata[_META])
    return state


def unchanged(file: Path, root: Path) -> bool:
    """Whether everything below the root still has the size and time that the stamps say."""
    with pa.memory_map(str(file)) as source:
        for batch in pa.ipc.open_file(source).read_all().to_batches():
            batch.validate(full=True)  # what is damaged may point anywhere
            for encoded, *stamp in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                if file_stamp(_below(root, os.fsdecode(encoded))) != tuple(stamp):
                    return False
    return True


@contextlib.contextmanager
def lock(file: Path) -> Iterator[int]:
    """Holds a lock file, after whoever has it now; the system lets go of it however this process ends.

    Yields:
        Its descriptor: programs that inherit it hold the lock, too, until they end.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with open_unlinked(file) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            refuse_to_begin_again()
            print(f"Waiting for another process that is at work: it holds {file}", file=sys.stderr, flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream.fileno()


@contextlib.contextmanager
def durable(file: Path) -> Iterator[Any]:
    """Opens a file to write bytes; they are on the disk when the block ends well."""
    with file.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
