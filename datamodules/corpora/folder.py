"""A folder of recordings without labels."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datamodules.corpora.base import Fault, Reader, Utterance, audio_files
from datamodules.errors import InputError


def corpus_name(option: str) -> str:
    """Checks a corpus name of the user's own: it becomes part of file names and of speaker ids."""
    if not re.fullmatch(r"\w[\w.-]*", option):
        raise InputError(f"corpus = '{option}' is not a name", "use letters, digits, '_', '-' and '.'")
    return option


@dataclass(frozen=True)
class Folder(Reader):
    """All audio below a folder, one utterance a file: an unlabelled corpus.

    Args:
        corpus: The corpus's name in manifests and reports.
    """

    name = "folder"
    licence = "the user's own"
    how_to_get = "set its root to a folder of recordings"
    language = "various"
    labelled = False

    corpus: str = "folder"

    def __post_init__(self) -> None:
        corpus_name(self.corpus)

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields the audio files; see `Reader.read`."""
        for path in audio_files(root):
            yield Utterance(path)
