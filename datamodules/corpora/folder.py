"""A folder of recordings without labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datamodules.corpora.base import Fault, Reader, Utterance, audio_files
from datamodules.corpora.options import check_name


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
        check_name(self.corpus)

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields the audio files; see `Reader.read`."""
        for path in audio_files(root):
            yield Utterance(path)
