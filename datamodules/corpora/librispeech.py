"""LibriSpeech: read English audio books (Panayotov et al., 2015)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datamodules.corpora.base import Fault, Reader, Utterance, audio_files, directories, read_lines
from datamodules.errors import InputError

TABLE = "SPEAKERS.TXT"
_GENDERS = {"F": "female", "M": "male"}
_SPLITS = {"train": "train", "dev": "development", "test": "test"}


@dataclass(frozen=True)
class LibriSpeech(Reader):
    """`<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac`; `SPEAKERS.TXT` gives the genders.

    Args:
        subsets: Subsets to read, such as "train-clean-100"; none means all that are there.
    """

    name = "librispeech"
    folders = ("LibriSpeech", "librispeech")
    licence = "CC BY 4.0"
    how_to_get = "download subsets such as train-clean-100.tar.gz from https://www.openslr.org/12 and unpack them"
    language = "en"
    labelled = False

    subsets: tuple[str, ...] = ()

    def watched(self, root: Path) -> Iterator[str]:
        """All folders, and the table; see `Reader.watched`."""
        yield from directories(root)
        yield TABLE

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields what the folders and `SPEAKERS.TXT` say; see `Reader.read`."""
        genders = _genders(root / TABLE)
        there = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
        unknown = sorted(set(self.subsets) - set(there))
        if unknown:
            raise InputError(
                f"librispeech: subset {', '.join(unknown)} is not in {root}", f"there are: {', '.join(there)}"
            )
        for subset in there if not self.subsets else sorted(set(self.subsets)):
            for below in audio_files(root / subset):
                path = f"{subset}/{below}"
                folders, fields = PurePosixPath(below).parts[:-1], PurePosixPath(below).stem.split("-")
                if len(fields) != 3 or tuple(fields[:2]) != folders:
                    yield Fault(path, "not a LibriSpeech name: speaker/chapter/speaker-chapter-utterance is expected")
                    continue
                speaker, chapter, _utterance = fields
                yield Utterance(
                    path=path,
                    speaker=speaker,
                    gender=genders.get(speaker),
                    session=chapter,
                    split=_SPLITS.get(subset.partition("-")[0]),
                )


def _genders(table: Path) -> dict[str, str]:
    """Reads lines such as `14   | F | train-clean-360  | 25.03 | Some Name`; a name may hold `|`, `;` comments."""
    if not table.is_file():
        raise InputError(
            f"librispeech: {table} does not exist", f"every LibriSpeech archive holds {TABLE}: put it in the root"
        )
    genders = {}
    for number, line in enumerate(read_lines(table), start=1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        fields = [field.strip() for field in line.split("|", maxsplit=4)]
        if len(fields) < 3 or fields[1] not in _GENDERS:
            raise InputError(
                f"librispeech: {table}, line {number} cannot be read: {line!r}",
                "expected: speaker | F or M | subset | minutes | name",
            )
        genders[fields[0]] = _GENDERS[fields[1]]
    return genders
