"""LibriSpeech: read English audio books (Panayotov et al., 2015)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from datamodules.corpora.base import Download, Downloads, Fault, Reader, Utterance, audio_files, directories, read_lines
from datamodules.errors import InputError

TABLE = "SPEAKERS.TXT"
_GENDERS = {"F": "female", "M": "male"}
_ARCHIVES = (
    ("train-clean-100", 28539, "d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2"),
    ("train-clean-360", 104014, "146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf"),
    ("train-other-500", 148688, "ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2"),
    ("dev-clean", 2703, "76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3"),
    ("dev-other", 2864, "12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365"),
    ("test-clean", 2620, "39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23"),
    ("test-other", 2939, "d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29"),
)
"""Subset, number of its recordings, SHA-256 of its archive."""
_SPLITS = {"train": "train", "dev": "development", "test": "test"}


@dataclass(frozen=True)
class LibriSpeech(Reader):
    """`<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac`; `SPEAKERS.TXT` gives the genders.

    Args:
        subsets: Subsets to read, such as "train-clean-100"; none means all that are there.
    """

    name = "librispeech"
    folders = ("LibriSpeech",)
    licence = "CC BY 4.0"
    how_to_get = "download subsets such as train-clean-100.tar.gz from https://www.openslr.org/12 and unpack them"
    language = "en"
    labelled = False
    downloads: ClassVar[Downloads] = {
        f"librispeech-{subset.removeprefix('train-')}": Download(
            f"https://www.openslr.org/resources/12/{subset}.tar.gz",
            f"sha256:{sha256}",
            page="https://www.openslr.org/12",
            audio=audio,
            top="LibriSpeech",
            part=subset,
        )
        for subset, audio, sha256 in _ARCHIVES
    }

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
