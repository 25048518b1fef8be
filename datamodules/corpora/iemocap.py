"""IEMOCAP: the Interactive Emotional Dyadic Motion Capture database (Busso et al., 2008)."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from datamodules.corpora.base import (
    Fault,
    Reader,
    Scale,
    Utterance,
    audio_files,
    common_emotion,
    directories,
    read_lines,
)
from datamodules.errors import InputError

AUDIO = "sentences/wav"
EVALUATION = "dialog/EmoEvaluation"
EMOTIONS = {
    "ang": "anger",
    "dis": "disgust",
    "exc": "excitement",
    "fea": "fear",
    "fru": "frustration",
    "hap": "happiness",
    "neu": "neutral",
    "oth": "other",
    "sad": "sadness",
    "sur": "surprise",
    "xxx": None,  # the raters did not agree
}
PARTS = {"impro": "improvised", "script": "scripted"}

# The archives unpack to this folder, which may then lie in one of the user's.
_UNPACKED = "IEMOCAP_full_release"
_DIALOGUE = re.compile(r"Ses\d\d[FM]_(impro|script)")
_TURN = re.compile(r"(Ses\d\d)[FM]_(?:impro|script)\w*_([FM])\w+")
_NAME = re.compile(r"Ses\d\d[FM]_\w+")
_HEADER = re.compile(r"\[[^]]*\]\s+(\S+)\s+(\S+)\s+\[([^]]*)\]")
_RATER = re.compile(r"C-(([A-Z])\w*)\s*:([^(]*)")  # a comment in parentheses may hold anything


@dataclass(frozen=True)
class Iemocap(Reader):
    """Turns, `Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav`, that `EmoEvaluation` labels by dialogue.

    Emotion and dimensions are the consensus of the external raters; turns on which they do not agree (`xxx`) come
    without an emotion. Happiness and excitement stay apart: making one class of them is up to the class map. The letter
    in a dialogue's name says who wears the markers of the motion capture, that in a turn's last field who speaks.

    Args:
        parts: "improvised" and "scripted" dialogues, or one of them.
        self_reports: Whether the votes count the actors' own, too, who have no part in the consensus.
    """

    name = "iemocap"
    folders = ("IEMOCAP_full_release", "IEMOCAP_full_release_withoutVideos", "IEMOCAP")
    licence = "IEMOCAP release agreement"
    how_to_get = "request it on https://sail.usc.edu/iemocap/ and unpack IEMOCAP_full_release"
    language = "en"
    labelled = True
    scales = {"activation": Scale(1, 5), "valence": Scale(1, 5), "dominance": Scale(1, 5)}  # noqa: RUF012

    parts: tuple[str, ...] = ("improvised", "scripted")
    self_reports: bool = False

    def __post_init__(self) -> None:
        if not self.parts or not set(self.parts) <= set(PARTS.values()):
            raise InputError(
                f"iemocap: parts = {list(self.parts)} cannot be read",
                f"give one or both of {', '.join(PARTS.values())}",
            )

    def watched(self, root: Path) -> Iterator[str]:
        """Folders of turns, and annotations; the rest of the release is large, and nothing of it matters."""
        yield from (".", _UNPACKED)  # where sessions are added
        for session in _sessions(root):
            yield from (f"{session}/{AUDIO}", f"{session}/{EVALUATION}")
            if (root / session / AUDIO).is_dir():
                yield from (f"{session}/{AUDIO}/{folder}" for folder in directories(root / session / AUDIO))
            yield from self._annotations(root, session)

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields the turns of the annotations, session by session; see `Reader.read`."""
        sessions = _sessions(root)
        if not sessions:
            raise InputError(
                f"iemocap: {root} holds no folder Session1, Session2, …", "set the root to the unpacked release"
            )
        if not any(self._annotations(root, session) for session in sessions):
            raise InputError(
                f"iemocap: {root} holds no {' or '.join(self.parts)} dialogue in Session*/{EVALUATION}/*.txt",
                "unpack the release again, with its annotations",
            )
        listed: set[str] = set()
        for session in sessions:
            audio = self._audio(root, session)
            for file in self._annotations(root, session):
                yield from self._dialogue(root, session, file, audio, listed)
            for turn, path in audio.items():
                if turn not in listed:
                    yield Fault(path, f"no label: not listed in {session}/{EVALUATION}")

    def _dialogue(
        self, root: Path, session: str, file: str, audio: dict[str, str], listed: set[str]
    ) -> Iterator[Utterance | Fault]:
        """Yields the turns of one annotation file, and notes that they are listed.

        What cannot be understood is a fault, even if it is the whole file: one of 151 dialogues is no reason to stop,
        and a corpus with too many faults is refused anyway, with their files and lines.
        """
        for number, header, raters in _blocks(root / file):
            found = _HEADER.match(header)
            turn = _TURN.fullmatch(found[1]) if found else None
            if not found or not turn:
                yield Fault(file, f"not understood: line {number}: {header[:80]!r}")
                listed.update(_NAME.findall(header))  # whose audio is not one more fault
                continue
            name, code, rated = found.groups()
            speaking_in, letter = turn.groups()
            path = audio.get(name)
            if name in listed:
                yield Fault(path or name, f"listed twice in {EVALUATION}: {file}, line {number}")
            elif path is None:
                dialogue = name.rpartition("_")[0]
                yield Fault(f"{session}/{AUDIO}/{dialogue}/{name}.wav", f"missing file: listed in {file}")
            elif code not in EMOTIONS:
                yield Fault(path, f"unknown emotion: '{code}' in {file}, line {number}")
            else:
                try:
                    valence, activation, dominance = map(_rating, rated.split(","))
                except ValueError:
                    yield Fault(path, f"rating not understood: [{rated}] in {file}, line {number}; it stays without it")
                    valence = activation = dominance = None
                yield Utterance(
                    path=path,
                    speaker=speaking_in + letter,
                    gender="female" if letter == "F" else "male",
                    session=speaking_in,
                    label=code,
                    emotion=EMOTIONS[code],
                    votes=self._votes(raters),
                    activation=activation,
                    valence=valence,
                    dominance=dominance,
                )
            listed.add(name)

    def _votes(self, lines: list[str]) -> dict[str, float] | None:
        """Counts lines such as `C-E2: Neutral; Anger; (comment)`; each emotion that a rater names counts once."""
        named: dict[tuple[str, str], None] = {}  # in order, which a set is not
        for rater, kind, words in (found.groups() for found in map(_RATER.match, lines) if found):
            if kind == "E" or self.self_reports:
                named |= dict.fromkeys((rater, common_emotion(word)) for word in words.split(";") if word.strip())
        return dict(Counter(emotion for _, emotion in named)) or None

    def _annotations(self, root: Path, session: str) -> list[str]:
        """The files of dialogues; those of single raters lie in folders below."""
        names = sorted(file.name for file in (root / session / EVALUATION).glob("*.txt"))
        return [f"{session}/{EVALUATION}/{name}" for name in names if _DIALOGUE.match(name) and self._wants(name)]

    def _audio(self, root: Path, session: str) -> dict[str, str]:
        """The turns' audio files by the turns' names."""
        if not (root / session / AUDIO).is_dir():
            return {}
        files = {PurePosixPath(path).stem: path for path in audio_files(root / session / AUDIO)}
        return {turn: f"{session}/{AUDIO}/{path}" for turn, path in files.items() if self._wants(turn)}

    def _wants(self, name: str) -> bool:
        """Whether a dialogue or turn belongs to the wanted parts, or to none."""
        found = _DIALOGUE.match(name)
        return not found or PARTS[found[1]] in self.parts


def _rating(text: str) -> float | None:
    rating = float(text)
    return None if math.isnan(rating) else rating


def _sessions(root: Path) -> list[str]:
    """The folders `Session1`, `Session2`, …, relative to the root."""
    for above in ("", f"{_UNPACKED}/"):
        names = sorted(folder.name for folder in (root / above).glob("Session[0-9]") if folder.is_dir())
        if names:
            return [above + name for name in names]
    return []


def _blocks(file: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yields each block of an annotation file: number of its first line, that line, and the others.

    A blank line ends a block, and a bracket begins one: votes never count for another turn than their own.
    """
    first, block = 0, list[str]()
    for number, line in enumerate(map(str.strip, [*read_lines(file), ""]), start=1):
        if block and (not line or line.startswith("[")):
            yield first, block[0], block[1:]
            block = []
        if line and not line.startswith("%"):
            if not block:
                first = number
            block.append(line)
