"""Speakers who are left out of a corpus, by a list of the user's."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from datamodules.corpora.base import read_lines
from datamodules.errors import InputError

_FILE = "file:"


def excluded(corpus: str, entries: Sequence[str], speakers: Sequence[str]) -> list[str]:
    """Finds the speakers of a corpus that a list names.

    A file may name speakers who are not there, as lists of others do; an id among the settings may not.

    Args:
        corpus: The corpus's name.
        entries: Ids, with the corpus's name before them or without, or `file:<path>` for a text file with one id a
            line, where `#` begins a comment.
        speakers: The corpus's speakers, "corpus/id".

    Returns:
        Those of `speakers` that are named, in their order.

    Raises:
        InputError: If a file cannot be read, an id is not of the corpus, or a file names no speaker of it.
    """
    setting = f"data.corpora.{corpus}.exclude_speakers"
    named: set[str] = set()
    for entry in entries:
        names = _listed(entry.removeprefix(_FILE), setting) if entry.startswith(_FILE) else [entry]
        ids = {_qualified(corpus, name) for name in names}
        if not ids.intersection(speakers):
            near = difflib.get_close_matches(f"{corpus}/{entry}", speakers, 3)
            known = ", ".join(speaker.removeprefix(f"{corpus}/") for speaker in near or speakers[:3])
            raise InputError(
                f"{setting}: {entry} names no speaker of {corpus}",
                f"Of its {len(speakers)} speakers, some are: {known or 'none'}; "
                "an id that looks like a number needs quotes, as in ['03'].",
            )
        named |= ids
    return [speaker for speaker in speakers if speaker in named]


def _qualified(corpus: str, name: str) -> str:
    return name if name.startswith(f"{corpus}/") else f"{corpus}/{name}"


def _listed(file: str, setting: str) -> list[str]:
    path = Path(file).expanduser()
    try:
        lines = read_lines(path)
    except OSError as error:
        raise InputError(
            f"{setting}: {path} cannot be read: {error.strerror}", "Give the path of a text file."
        ) from error
    names = [line.partition("#")[0].strip() for line in lines]
    return [name for name in names if name]
