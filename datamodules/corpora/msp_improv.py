"""MSP-IMPROV: acted dyadic interactions to study emotion perception (Busso et al., 2017)."""

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

TABLES = ("Evalution.txt", "Evaluation.txt")
"""The corpus's own spelling, and that of people who corrected it."""

EMOTIONS = {
    "A": "anger",
    "H": "happiness",
    "N": "neutral",
    "O": "other",
    "S": "sadness",
    "X": None,  # the raters did not agree
}
SCENARIOS = {
    "P": "natural interaction",
    "R": "target sentence, read",
    "S": "target sentence, improvised",
    "T": "other turns of the improvisation",
}

# The videos that were rated are called UTD-…, their audio MSP-….
_TURN = re.compile(
    r"(?:UTD|MSP)-IMPROV-(?P<text>S\d+)[AHNS]-(?P<speaker>[FM](?P<session>\d+))-(?P<scenario>[PRST])-\w+"
)
_VALUE = re.compile(r"([AVD])\s*:\s*(.*)")


@dataclass(frozen=True)
class MspImprov(Reader):
    """Turns, `Audio/session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM01.wav`, that one table labels: `Evalution.txt`.

    A turn's name says: text and the emotion that the scenario aims at (`S01A`: text S01, anger), speaker, scenario. The
    text is known for the target sentences alone (scenarios R and S). Emotion and dimensions are the raters' consensus;
    turns on which they do not agree (`X`) come without an emotion.

    Activation is rated from 1, very active, to 5, very calm, the other way round than in IEMOCAP: so say the projects
    that use both and turn it, each by itself. The declared scale turns it here.

    Args:
        scenarios: Which of P (natural interaction), R (target sentence, read), S (target sentence, improvised) and T
            (other turns of the improvisation) are read.
    """

    name = "msp_improv"
    folders = ("MSP-IMPROV",)
    licence = "MSP-IMPROV academic licence"
    how_to_get = "request it on https://ecs.utdallas.edu/research/researchlabs/msp-lab/MSP-Improv.html and unpack it"
    language = "en"
    labelled = True
    scales = {  # noqa: RUF012
        "activation": Scale(1, 5, reversed=True),
        "valence": Scale(1, 5),
        "dominance": Scale(1, 5),
    }

    scenarios: tuple[str, ...] = tuple(SCENARIOS)

    def __post_init__(self) -> None:
        if not self.scenarios or not set(self.scenarios) <= set(SCENARIOS):
            known = ", ".join(f"{letter} ({meaning})" for letter, meaning in SCENARIOS.items())
            raise InputError(f"msp_improv: scenarios = {list(self.scenarios)} cannot be read", f"give some of {known}")

    def watched(self, root: Path) -> Iterator[str]:
        """All folders, and the table; see `Reader.watched`."""
        yield from directories(root)
        if table := _table(root):
            yield table

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields the turns of `Evalution.txt`; see `Reader.read`."""
        table = _table(root)
        if not table:
            raise InputError(
                f"msp_improv: {root} holds no {TABLES[0]}",
                f"set the root to the folder that holds {TABLES[0]} and Audio/",
            )
        audio = {PurePosixPath(path).stem: path for path in audio_files(root)}
        listed: set[str] = set()
        for number, header, raters in _blocks(root / table):
            video, _, rest = header.partition(";")
            code, *values = (field.strip() for field in rest.split(";"))
            turn = _TURN.fullmatch(PurePosixPath(video).stem)
            if not turn:
                yield Fault(table, f"not understood: line {number}: {header[:80]!r}")
                continue
            name = f"MSP{turn[0][3:]}"
            first, path = name not in listed, audio.get(name)
            listed.add(name)
            if turn["scenario"] not in self.scenarios:
                continue
            if not first:
                yield Fault(path or name, f"listed twice in {table}: line {number}")
            elif path is None:
                yield Fault(f"{name}.wav", f"missing file: listed in {table}, line {number}")
            elif code not in EMOTIONS:
                yield Fault(path, f"unknown emotion: '{code}' in {table}, line {number}")
            else:
                ratings = _ratings(values)
                if ratings is None:
                    told = f"{'; '.join(filter(None, values))} in {table}, line {number}"
                    yield Fault(path, f"rating not understood: {told}; it stays without it")
                    ratings = {}
                yield Utterance(
                    path=path,
                    speaker=turn["speaker"],
                    gender="female" if turn["speaker"].startswith("F") else "male",
                    session=f"session{int(turn['session'])}",
                    sentence=turn["text"] if turn["scenario"] in "RS" else None,
                    label=code,
                    emotion=EMOTIONS[code],
                    votes=_votes(raters),
                    activation=ratings.get("A"),
                    valence=ratings.get("V"),
                    dominance=ratings.get("D"),
                )
        if not listed:
            raise InputError(
                f"msp_improv: {root / table} has no line such as "
                "'UTD-IMPROV-S01A-F01-S-FM01.avi; N; A:3.000000; V:3.500000; D:3.000000;'",
                "restore the corpus's own file",
            )
        for name, path in audio.items():
            turn = _TURN.fullmatch(name)
            if name not in listed and not (turn and turn["scenario"] not in self.scenarios):
                yield Fault(path, f"no label: not listed in {table}")


def _table(root: Path) -> str | None:
    """Where the labels are, relative to the root: in it or in the first folder below that has them."""
    for folder in directories(root):
        for name in TABLES:
            if (root / folder / name).is_file():
                return str(PurePosixPath(folder, name))
    return None


def _blocks(file: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Yields each turn's number of its consensus line, that line, and its raters' lines."""
    first, block = 0, list[str]()
    for number, line in enumerate(map(str.strip, [*read_lines(file), ""]), start=1):
        begins = line.startswith(("UTD-IMPROV-", "MSP-IMPROV-"))
        if block and (begins or not line):
            yield first, block[0], block[1:]
            block = []
        if begins:
            first = number
        if begins or block:
            block.append(line)


def _ratings(values: list[str]) -> dict[str, float | None] | None:
    """Reads `A:3.000000`, `V:…` and `D:…` in any order, NaN as missing; None if one of them is no number."""
    ratings: dict[str, float | None] = {}
    for letter, text in (found.groups() for found in map(_VALUE.fullmatch, values) if found):
        try:
            rating = float(text)
        except ValueError:
            return None
        ratings[letter] = None if math.isnan(rating) else rating
    return ratings


def _votes(lines: list[str]) -> dict[str, float] | None:
    """Counts the first word of lines such as `WORKER00000070; Sad; Sad,Depressed; A:2.000000; …`.

    Some raters' lines stand twice, and count once.
    """
    named: dict[str, str] = {}
    for rater, word, *_ in (line.split(";") for line in lines if ";" in line):
        if word.strip():
            named.setdefault(rater.strip(), common_emotion(word))
    return dict(Counter(named.values())) or None
