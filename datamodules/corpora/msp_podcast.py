"""MSP-Podcast: natural emotional speech from podcasts, rated by crowds (Lotfian and Busso, 2019)."""

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path, PurePosixPath

from datamodules.corpora.base import (
    Fault,
    Reader,
    Scale,
    Utterance,
    audio_files,
    common_emotion,
    decode_text,
    directories,
)
from datamodules.errors import InputError

# As releases spell them, the newest first.
AUDIO = ("Audios", "Audio")
_LABELS = ("Labels", "labels", "label")
CONSENSUS = tuple(map("/".join, product(_LABELS, ("labels_consensus.csv", "labels_concensus.csv"))))
VOTES = tuple(map("/".join, product(_LABELS, ("labels_detailed.csv", "labels.txt"))))

EMOTIONS = {
    "A": "anger",
    "H": "happiness",
    "S": "sadness",
    "N": "neutral",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "O": "other",
}
NO_AGREEMENT = "X"
_LETTERS = {emotion: letter for letter, emotion in EMOTIONS.items()}
_SPLITS = {"Train": "train", "Development": "development", "Validation": "development"}
_TEST = "Test"  # Test1, Test2, Test3
_RATINGS = {"activation": "EmoAct", "valence": "EmoVal", "dominance": "EmoDom"}
_NEEDED = ("FileName", "EmoClass", "Split_Set")
_OTHERS = ("SpkrID", "Gender", *_RATINGS.values())
_UNKNOWN = frozenset({"", "unknown", "na", "nan"})


@dataclass(frozen=True)
class MspPodcast(Reader):
    """`Audios/MSP-PODCAST_0001_0008.wav`, labelled by `Labels/labels_consensus.csv`; release 1.6 or newer.

    An utterance's session is its podcast, the first number of its name. Turns without agreement (X) have no emotion
    and keep their ratings. Recordings that the table does not list, as those of Test3, whose labels are not published,
    have neither label nor speaker nor split: under the corpus's own split nothing is trained or tested on them, and
    elsewhere they are unlabelled speech of unknown speakers.

    The raters' votes are their primary emotions, from `labels_detailed.csv` or else from `labels.txt`, where a release
    has one of them; emotions beyond those of the consensus count as other.

    Args:
        test_sets: Which of the corpus's test sets ("Test1", "Test2", "Test3") are tested on; the utterances of the
            others have no split, and under the corpus's own split they are never trained on.
    """

    name = "msp_podcast"
    folders = (
        "MSP-Podcast",
        "MSP-PODCAST-Publish-2.0",
        "MSP-PODCAST-Publish-1.12",
        "MSP-PODCAST-Publish-1.11",
        "MSP-PODCAST-Publish-1.10",
    )
    licence = "by agreement with UT Dallas"
    how_to_get = (
        "sign the agreement of https://lab-msp.com/MSP/MSP-Podcast.html "
        "and unpack the release, of which Audios/ and Labels/ are needed"
    )
    language = "en"
    labelled = True
    scales = dict.fromkeys(_RATINGS, Scale(1, 7))

    test_sets: tuple[str, ...] = ("Test1",)

    def __post_init__(self) -> None:
        for name in self.test_sets:
            if not name.startswith(_TEST):
                raise InputError(f"msp_podcast: '{name}' is no test set", "name such as Test1 or Test2")

    def watched(self, root: Path) -> Iterator[str]:
        """All folders, and the tables of all releases; see `Reader.watched`."""
        yield from directories(root)
        yield from (*CONSENSUS, *VOTES)

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields the rows of the table, then the recordings without a row; see `Reader.read`."""
        table, folder = _place(root, CONSENSUS), _place(root, AUDIO)
        self._check_test_sets(root / table)
        audio = {PurePosixPath(path).stem: f"{folder}/{path}" for path in audio_files(root / folder)}
        votes = _votes(root)
        listed = set()
        for row in _rows(root / table, _NEEDED, _OTHERS):
            stem = PurePosixPath(row["FileName"]).stem
            if stem in listed:
                yield Fault(f"{folder}/{row['FileName']}", f"listed twice in {table}")
            elif stem not in audio:
                yield Fault(f"{folder}/{row['FileName']}", f"missing file: listed in {table}")
            else:
                ratings = {}
                for dimension, column in _RATINGS.items():
                    try:
                        ratings[dimension] = _rating(row[column])
                    except ValueError:
                        told = f"{column} '{row[column]}' in {table}"
                        yield Fault(audio[stem], f"rating not understood: {told}; it stays without it")
                try:
                    yield self._utterance(audio[stem], row, votes.get(stem), ratings)
                except ValueError as error:
                    yield Fault(audio[stem], f"unknown value in {table}: {error}")
            listed.add(stem)
        for stem, path in audio.items():
            if stem not in listed:
                yield Utterance(path)

    def _check_test_sets(self, table: Path) -> None:
        """Refuses a test set that the table does not have, before hours are spent on the audio."""
        there = {row["Split_Set"] for row in _rows(table, ("Split_Set",))}
        absent = [name for name in self.test_sets if name not in there]
        if absent:
            tests = sorted(name for name in there if name.startswith(_TEST))
            raise InputError(
                f"msp_podcast: {table} has no utterance of {', '.join(absent)}",
                f"set test_sets to some of: {', '.join(tests)}"
                if tests
                else "it has no test set: set test_sets=[] and split.protocol=speaker_groups",
            )

    def _utterance(
        self, path: str, row: dict[str, str], votes: str | None, ratings: Mapping[str, float | None]
    ) -> Utterance:
        """Makes an utterance of a row; raises ValueError where one of its values is not the corpus's."""
        known = {column: None if value.lower() in _UNKNOWN else value for column, value in row.items()}
        label, gender, split = known["EmoClass"], known["Gender"] and known["Gender"].lower(), row["Split_Set"]
        if not (label is None or label == NO_AGREEMENT or label in EMOTIONS):
            raise ValueError(f"EmoClass '{label}'")
        if gender not in ("female", "male", None):
            raise ValueError(f"Gender '{row['Gender']}'")
        if not (split in _SPLITS or split.startswith(_TEST)):
            raise ValueError(f"Split_Set '{split}'")
        return Utterance(
            path=path,
            speaker=known["SpkrID"],
            gender=gender,
            session=_podcast(PurePosixPath(path).stem),
            label=label,
            emotion=EMOTIONS.get(label or ""),
            votes=Counter(EMOTIONS[letter] for letter in votes) if votes else None,
            activation=ratings.get("activation"),
            valence=ratings.get("valence"),
            dominance=ratings.get("dominance"),
            split="test" if split in self.test_sets else _SPLITS.get(split),
        )


def _place(root: Path, names: Sequence[str]) -> str:
    """Finds the first of several names under which releases have something."""
    for name in names:
        if (root / name).exists():
            return name
    raise InputError(
        f"msp_podcast: {root} has no {names[0]}",
        f"set the root to the folder of a release from 1.6 on, which holds {AUDIO[0]}/ and {_LABELS[0]}/",
    )


def _podcast(stem: str) -> str | None:
    fields = stem.split("_")
    return fields[1] if len(fields) > 2 else None


def _rating(text: str) -> float | None:
    return None if text.lower() in _UNKNOWN else float(text)


def _votes(root: Path) -> dict[str, str]:
    """Reads the primary emotion of each rater of a file, one letter each: there are 260 thousand files."""
    votes: dict[str, str] = {}
    table = next((root / name for name in VOTES if (root / name).is_file()), None)
    if table is None:
        return votes
    for name, word in _ballots(table):
        if word:
            stem = PurePosixPath(name).stem
            votes[stem] = votes.get(stem, "") + _LETTERS.get(common_emotion(word), "O")
    return votes


def _ballots(table: Path) -> Iterator[tuple[str, str]]:
    """Yields the file and the primary emotion of each rating.

    Releases have a column of primary emotions, or a column such as `WORKER0001; Neutral; Neutral,Concerned; A:3; …`,
    or a text in which such lines follow a line of the file: `MSP-PODCAST_0001_0008.wav; N; A:2.2; V:4.0; D:2.6;`.
    """
    if table.suffix == ".txt":
        name = ""
        for line in _lines(table):
            if line.startswith("MSP-PODCAST"):
                name = line.partition(";")[0].strip()
            elif name:
                yield name, _primary(line)
        return
    header = [column.strip() for column in next(csv.reader(_lines(table)), [])]
    column = "EmoDetail" if "EmoDetail" in header else "EmoClass_Major"
    for row in _rows(table, ("FileName", column)):
        yield row["FileName"], _primary(row[column]) if column == "EmoDetail" else row[column]


def _primary(rating: str) -> str:
    """The second field of a rating; nothing where it has none."""
    return rating.partition(";")[2].partition(";")[0].strip()


def _rows(table: Path, needed: Sequence[str], others: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """Streams a table's rows by the names of its columns, every value as text; what a row lacks is empty."""
    rows = csv.DictReader(_lines(table), restval="")
    try:
        rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
        missing = [column for column in needed if column not in rows.fieldnames]
        if missing:
            raise InputError(
                f"msp_podcast: {table} has no column {', '.join(missing)}", "restore the release's own table"
            )
        for row in rows:
            yield {column: row.get(column, "").strip() for column in (*needed, *others)}
    except csv.Error as error:
        raise InputError(
            f"msp_podcast: {table}, line {rows.line_num}: {error}", "restore the release's own table"
        ) from error


def _lines(file: Path) -> Iterator[str]:
    """Streams a text's lines in whatever encoding; the table of all ratings is too large to be read at once."""
    with file.open("rb") as stream:
        utf16 = stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        stream.seek(0)
        yield from io.TextIOWrapper(stream, "utf-16") if utf16 else map(decode_text, stream)
