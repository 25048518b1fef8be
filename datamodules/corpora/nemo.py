"""nEMO: acted emotional speech in Polish (Christop, 2024)."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from datamodules.corpora.base import (
    Downloads,
    Fault,
    Reader,
    Repository,
    Utterance,
    audio_files,
    common_emotion,
    directories,
    read_lines,
)
from datamodules.errors import InputError

TABLE = "data.tsv"
EMOTIONS = frozenset({"anger", "fear", "happiness", "neutral", "sadness", "surprised"})
_COLUMNS = ("file_id", "emotion", "speaker_id", "gender")


@dataclass(frozen=True)
class Nemo(Reader):
    """`samples/{speaker}_{emotion}_{sentence}.wav`, labelled by `data.tsv`."""

    name = "nemo"
    folders = ("nemo",)
    licence = "CC BY-NC-SA 4.0"
    how_to_get = "clone https://github.com/amu-cai/nEMO, which holds samples/ and data.tsv"
    language = "pl"
    labelled = True
    downloads: ClassVar[Downloads] = {
        "nemo": Repository(
            "https://github.com/amu-cai/nEMO",
            "06f1f83dde8f1a780443a57d53b2af3971af34ab",
            audio=4481,
            paths=("samples", TABLE, "README.md"),
        )
    }

    def watched(self, root: Path) -> Iterator[str]:
        """All folders, and the table; see `Reader.watched`."""
        yield from directories(root)
        yield TABLE

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields the rows of `data.tsv`; see `Reader.read`."""
        table = root / TABLE
        if not table.is_file():
            raise InputError(f"nemo: {table} does not exist", f"set the root to the folder that holds {TABLE}")
        # Quotation marks belong to the Polish texts; they do not quote fields.
        rows = csv.DictReader(read_lines(table), delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = [column for column in _COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise InputError(f"nemo: {table} has no column {', '.join(missing)}", "restore the corpus's own table")
        audio = {PurePosixPath(path).stem: path for path in audio_files(root)}
        listed = set()
        for row in rows:
            name = (row["file_id"] or "").strip()
            # A converted corpus keeps the names but not the suffix that the table gives.
            stem = PurePosixPath(name).stem
            label, gender = (row["emotion"] or "").strip(), (row["gender"] or "").strip().lower()
            if stem in listed:
                yield Fault(name, f"listed twice in {TABLE}")
            elif stem not in audio:
                yield Fault(name, f"missing file: listed in {TABLE}")
            elif label not in EMOTIONS or gender not in ("female", "male"):
                yield Fault(audio[stem], f"unknown value in {TABLE}: emotion '{label}', gender '{gender}'")
            else:
                yield Utterance(
                    path=audio[stem],
                    speaker=(row["speaker_id"] or "").strip() or None,
                    gender=gender,
                    sentence=stem.rpartition("_")[2],
                    label=label,
                    emotion=common_emotion(label),
                )
            listed.add(stem)
        for stem, path in audio.items():
            if stem not in listed:
                yield Fault(path, f"no label: not listed in {TABLE}")
