"""EmoDB: the Berlin database of emotional speech, acted in German (Burkhardt et al., 2005)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from datamodules.corpora.base import Download, Downloads, Fault, Reader, Utterance, audio_files
from datamodules.errors import InputError

AUDIO = "wav"
EMOTIONS = {
    "W": "anger",  # Wut
    "L": "boredom",  # Langeweile
    "E": "disgust",  # Ekel
    "A": "fear",  # Angst
    "F": "happiness",  # Freude
    "T": "sadness",  # Trauer
    "N": "neutral",
}
_MALE, _FEMALE = ("03", "10", "11", "12", "15"), ("08", "09", "13", "14", "16")
_GENDERS = dict.fromkeys(_MALE, "male") | dict.fromkeys(_FEMALE, "female")
_NAME = re.compile(r"([0-9]{2})([ab][0-9]{2})([A-Z])([a-z])")


@dataclass(frozen=True)
class Emodb(Reader):
    """`wav/03a01Fa.wav`: speaker 03, text a01, emotion F, version a; the corpus's other folders are not read.

    The classic release has the 535 recordings that at least 80 % of the listeners recognised; a later one adds those
    that fewer did, which nothing in their names tells apart.
    """

    name = "emodb"
    folders = ("EmoDB", "Berlin")
    licence = "CC BY 4.0"
    how_to_get = "download emodb.zip from https://zenodo.org/records/7447302 and unpack it"
    language = "de"
    labelled = True
    downloads: ClassVar[Downloads] = {
        "emodb": Download(
            "https://zenodo.org/records/7447302/files/emodb.zip",
            "md5:9d21362dbc5676ef3ab4745d83ced0db",
            page="https://zenodo.org/records/7447302",
            audio=535,
            top="emodb",
        )
    }

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields what the file names say; see `Reader.read`."""
        if not (root / AUDIO).is_dir():
            raise InputError(f"emodb: {root} has no folder {AUDIO}", f"set the root to the folder that holds {AUDIO}/")
        for below in audio_files(root / AUDIO):
            path = f"{AUDIO}/{below}"
            name = _NAME.fullmatch(PurePosixPath(below).stem)
            if name is None:
                yield Fault(path, "not an EmoDB name: as in 03a01Fa, speaker, text, emotion and version are expected")
                continue
            speaker, text, emotion, _version = name.groups()
            if speaker not in _GENDERS or emotion not in EMOTIONS:
                yield Fault(path, f"unknown EmoDB code: speaker {speaker}, emotion {emotion}")
                continue
            yield Utterance(
                path=path,
                speaker=speaker,
                gender=_GENDERS[speaker],
                sentence=text,
                label=emotion,
                emotion=EMOTIONS[emotion],
            )
