"""Corpora that tables describe."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.fakes.sound import speech, write


def table(file: Path, rows: Iterable[Mapping[str, object]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    """Writes a delimited table of the given rows, which share their keys, and the audio they name below its folder."""
    rows = list(rows)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        audio = file.parent / str(row["path"])
        if not audio.exists():
            write(audio, speech(row["path"], seconds=1.0, speaker=row.get("speaker"), emotion=row.get("emotion")))
    return file


def audformat_table(
    database: Any, name: str, index: Any, columns: Mapping[str, tuple[Any, ...]], split: str | None = None
) -> None:
    """Adds a table to a database of the package audformat.

    Args:
        database: The database.
        name: The table's name.
        index: Of files or of segments, made by audformat; any other makes a miscellaneous table.
        columns: By their names: values, then, where there are, the names of the scheme and of the rater.
        split: The name of the split.
    """
    import audformat

    if audformat.is_filewise_index(index) or audformat.is_segmented_index(index):
        database[name] = audformat.Table(index, split_id=split)
    else:
        database[name] = audformat.MiscTable(index)
    for column, (values, *names) in columns.items():
        database[name][column] = audformat.Column(**dict(zip(("scheme_id", "rater_id"), names, strict=False)))
        database[name][column].set(values)


def audformat_database(root: Path, database: Any, storage_format: str = "csv", seconds: float = 0.5) -> Path:
    """Saves a database with the package audformat, and writes the audio that its tables name."""
    database.save(root, storage_format=storage_format)
    for file in database.files:
        write(root / file, speech(file, seconds=seconds))
    return root
