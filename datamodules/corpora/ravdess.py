"""RAVDESS: The Ryerson Audio-Visual Database of Emotional Speech and Song (Livingstone and Russo, 2018)."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from datamodules.corpora.base import Download, Downloads, Fault, Reader, Utterance, audio_files, common_emotion

EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happy",
    "04": "sad",
    "05": "angry",
    "06": "fearful",
    "07": "disgust",
    "08": "surprised",
}
_AUDIO_ONLY = "03"
_CHANNELS = {"01": "speech", "02": "song"}


@dataclass(frozen=True)
class Ravdess(Reader):
    """Audio-only recordings, `Actor_01/03-01-05-01-02-01-01.wav`: the file's name says everything.

    Its seven fields: modality, vocal channel, emotion, intensity, statement, repetition, actor (odd actors are male).

    Args:
        song: Whether the sung recordings are read too.
    """

    name = "ravdess"
    folders = ("ravdess", "Audio_Speech_Actors_01-24")
    licence = "CC BY-NC-SA 4.0"
    how_to_get = "download Audio_Speech_Actors_01-24.zip from https://zenodo.org/records/1188976 and unpack it"
    language = "en"
    labelled = True
    downloads: ClassVar[Downloads] = {
        "ravdess": Download(
            "https://zenodo.org/records/1188976/files/Audio_Speech_Actors_01-24.zip",
            "md5:bc696df654c87fed845eb13823edef8a",
            page="https://zenodo.org/records/1188976",
            audio=1440,
        )
    }

    song: bool = False

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields what the file names say; see `Reader.read`."""
        for path in audio_files(root):
            fields = PurePosixPath(path).stem.split("-")
            if len(fields) != 7 or not all(len(field) == 2 and field.isdecimal() for field in fields):
                yield Fault(path, "not a RAVDESS name: seven two-digit fields are expected")
                continue
            modality, channel, emotion, _intensity, statement, _repetition, actor = fields
            if modality != _AUDIO_ONLY or (channel == "02" and not self.song):
                continue
            if channel not in _CHANNELS or emotion not in EMOTIONS:
                yield Fault(path, f"unknown RAVDESS code: channel {channel}, emotion {emotion}")
                continue
            yield Utterance(
                path=path,
                speaker=actor,
                gender="male" if int(actor) % 2 else "female",
                session=_CHANNELS[channel],
                sentence=statement,
                label=EMOTIONS[emotion],
                emotion=common_emotion(EMOTIONS[emotion]),
            )
