"""CREMA-D: crowd-sourced emotional multimodal actors dataset (Cao et al., 2014)."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
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
    directories,
    read_lines,
)
from datamodules.errors import InputError

AUDIO = "AudioWAV"
ACTORS = "VideoDemographics.csv"
SUMMARY = "processedResults/summaryTable.csv"
VOTES = "processedResults/tabulatedVotes.csv"
EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
LETTERS = {code[0]: emotion for code, emotion in EMOTIONS.items()}
"""What raters chose among: A, D, F, H, N, S."""

INTENDED = "intended"
MODALITIES = {"voice": ("VoiceVote", "1"), "face": ("FaceVote", "2"), "multimodal": ("MultiModalVote", "3")}
"""What raters were given: column of the summary, and first digit of a row's number in the table of votes."""

# Intensities LO MD HI XX; the corpus's own 1040_ITH_SAD_X.wav lost a letter, which its tables have.
_NAME = re.compile(r"([0-9]{4})_([A-Z]{3})_([A-Z]{3})_(LO|MD|HI|XX?)")
_VOTE_NUMBER = re.compile(r"[123][0-9]{5}")


@dataclass(frozen=True)
class Cremad(Reader):
    """`AudioWAV/1001_DFA_ANG_XX.wav`: actor, sentence, intended emotion and intensity; genders from a table.

    Those who only heard the voice named the intended emotion in 41 % of their answers (Cao et al., 2014), so results
    depend on the labels that are chosen. A clip whose vote is a tie ("A:N") has no emotion; its label is the tie.

    Args:
        labels: "intended" (what the actor was asked for), or the vote of the raters who were given the "voice" alone,
            the "face" alone or both ("multimodal"). With a vote, the raters' counts come along where the corpus's
            table of them is there.
    """

    name = "cremad"
    folders = ("CREMA-D",)
    licence = "ODbL 1.0"
    how_to_get = (
        "clone https://github.com/CheyneyComputerScience/CREMA-D with Git LFS, "
        f"which holds {AUDIO}/, {ACTORS} and processedResults/"
    )
    language = "en"
    labelled = True
    downloads: ClassVar[Downloads] = {
        "cremad": Repository(
            "https://github.com/CheyneyComputerScience/CREMA-D",
            "1658cd342dff90010aa843eaeebd53610a08b1dc",
            audio=7442,
            paths=(AUDIO, ACTORS, "SentenceFilenames.csv", "processedResults", "LICENSE.txt", "README.md"),
            mirrors=("https://gitlab.com/cs-cooper-lab/crema-d-mirror",),
        )
    }

    labels: str = INTENDED

    def __post_init__(self) -> None:
        if self.labels not in (INTENDED, *MODALITIES):
            raise InputError(
                f"cremad: there are no labels '{self.labels}'", f"there are: {', '.join((INTENDED, *MODALITIES))}"
            )

    def watched(self, root: Path) -> Iterator[str]:
        """All folders, and the tables; see `Reader.watched`."""
        yield from directories(root)
        yield from (ACTORS, SUMMARY, VOTES)

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields what the file names and the tables say; see `Reader.read`."""
        if not (root / AUDIO).is_dir():
            raise InputError(f"cremad: {root} has no folder {AUDIO}", self.how_to_get)
        genders = _genders(root / ACTORS)
        summary: dict[str, str] = {}
        votes: Mapping[str, Mapping[str, float]] = {}
        column, digit = MODALITIES.get(self.labels, ("", ""))
        if column:
            for row in _rows(root / SUMMARY, ("FileName", column)):
                clip = row["FileName"].strip()
                if clip in summary:
                    yield Fault(f"{AUDIO}/{clip}.wav", f"listed twice in {SUMMARY}")
                else:
                    summary[clip] = row[column].strip()
            if (root / VOTES).is_file():
                votes = _votes(root / VOTES, digit)
        found = set()
        for below in audio_files(root / AUDIO):
            path = f"{AUDIO}/{below}"
            name = _NAME.fullmatch(PurePosixPath(below).stem)
            if name is None:
                yield Fault(path, "not a CREMA-D name: as in 1001_DFA_ANG_XX, four fields are expected")
                continue
            actor, sentence, code, intensity = name.groups()
            clip = f"{actor}_{sentence}_{code}_{'XX' if intensity == 'X' else intensity}"
            found.add(clip)
            if code not in EMOTIONS:
                yield Fault(path, f"unknown CREMA-D code: emotion {code}")
                continue
            if actor not in genders:
                yield Fault(path, f"unknown actor: {actor} is not in {ACTORS}")
                continue
            label, emotion = code, EMOTIONS.get(code)
            if column:
                if clip not in summary:
                    yield Fault(path, f"no label: not listed in {SUMMARY}")
                    continue
                label, emotion = summary[clip], LETTERS.get(summary[clip])
                if not set(label.split(":")) <= LETTERS.keys():
                    yield Fault(path, f"unknown value in {SUMMARY}: {column} '{label}'")
                    continue
            yield Utterance(
                path=path,
                speaker=actor,
                gender=genders[actor],
                sentence=sentence,
                label=label,
                emotion=emotion,
                votes=votes.get(clip),
            )
        for clip in summary:
            if clip not in found:
                yield Fault(f"{AUDIO}/{clip}.wav", f"missing file: listed in {SUMMARY}")


def _rows(table: Path, columns: Sequence[str]) -> "csv.DictReader[str]":
    if not table.is_file():
        raise InputError(f"cremad: {table} does not exist", f"to get it: {Cremad.how_to_get}")
    rows = csv.DictReader(read_lines(table), restval="")
    missing = [column for column in columns if column not in (rows.fieldnames or ())]
    if missing:
        raise InputError(f"cremad: {table} has no column {', '.join(missing)}", "restore the corpus's own table")
    return rows


def _genders(table: Path) -> dict[str, str]:
    """Reads lines such as `1001,51,"Male","Caucasian","Not Hispanic"`."""
    genders = {}
    rows = _rows(table, ("ActorID", "Sex"))
    for row in rows:
        gender = row["Sex"].strip().lower()
        if gender not in ("female", "male"):
            raise InputError(
                f"cremad: {table}, line {rows.line_num}: Sex '{row['Sex']}' is neither Female nor Male",
                "restore the corpus's own table",
            )
        genders[row["ActorID"].strip()] = gender
    return genders


def _votes(table: Path, digit: str) -> dict[str, dict[str, float]]:
    """Reads how many raters of one modality named each emotion, for each clip.

    A row's number, in a first column without a name, is 100000 × modality + number of the clip.
    """
    votes = {}
    rows = _rows(table, ("fileName", *LETTERS))
    first_column = (rows.fieldnames or [""])[0]
    for row in rows:
        number = row[first_column].strip()
        counts = {letter: row[letter].strip() for letter in LETTERS}
        if not _VOTE_NUMBER.fullmatch(number) or not all(count.isdecimal() for count in counts.values()):
            raise InputError(
                f"cremad: {table}, line {rows.line_num} cannot be read: number '{number}', votes {counts}",
                "expected: a number such as 100001, and counts; restore the corpus's own table",
            )
        if number.startswith(digit):
            votes[row["fileName"].strip()] = {
                LETTERS[letter]: float(count) for letter, count in counts.items() if int(count)
            }
    return votes
