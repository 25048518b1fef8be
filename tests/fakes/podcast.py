"""MSP-Podcast, the corpus of speech from podcasts."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.fakes.sound import speech, write

PODCAST_EMOTIONS = {"A": "Angry", "H": "Happy", "S": "Sad", "N": "Neutral"}
PODCAST_SPLITS = ("Train", "Development", "Test1", "Test2")
_RATINGS = {  # activation, valence, dominance
    "A": ("6.2", "2.0", "5.8"),
    "H": ("5.4", "6.0", "4.6"),
    "S": ("2.4", "2.6", "2.8"),
    "N": ("3.6", "4.0", "4.4"),
    "X": ("4.2", "3.8", "4.0"),
}


def msp_podcast(
    root: Path,
    speakers: int = 3,
    utterances: int = 1,
    splits: Sequence[str] = PODCAST_SPLITS,
    unlisted: int = 3,
    consensus: str = "Labels/labels_consensus.csv",
    audio: str = "Audios",
    votes: str | None = "columns",
    seconds: float = 0.4,
    rate: int = 16_000,
    newline: str = "\n",
) -> Path:
    """Writes MSP-Podcast: `Audios/MSP-PODCAST_0001_0001.wav` and its labels.

    Each split has speakers of its own ("1", "2", … in the first, "101", … in the second), women and men in turn, and
    one more, unknown. Each has so many utterances of each of four emotions, and one without agreement. Each fills a
    podcast of his own.

    Args:
        root: Where.
        speakers: Known speakers of each split.
        utterances: Of each speaker and emotion.
        splits: Names in the column Split_Set.
        unlisted: How many recordings of Test3 lie there without labels.
        consensus: The table of labels, as the release calls it.
        audio: The folder of recordings, as the release calls it.
        votes: How raters are told: in "columns", as a "detail" of one column (both `labels_detailed.csv`), as "text"
            (`labels.txt`), or not at all.
        seconds: Length of an utterance.
        rate: Samples a second.
        newline: How lines of tables end.
    """
    rows = [["FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set"]]
    podcast = 0
    for place, split in enumerate(splits):
        for speaker in range(1, speakers + 2):
            podcast += 1
            known = speaker <= speakers
            identity = str(100 * place + speaker) if known else "Unknown"
            gender = ("Male", "Female")[speaker % 2] if known else "Unknown"
            for turn, emotion in enumerate([*list(PODCAST_EMOTIONS) * utterances, "X"], start=1):
                name = f"MSP-PODCAST_{podcast:04}_{turn:04}.wav"
                rows.append([name, emotion, *_RATINGS[emotion], identity, gender, split])
                samples = speech(name, seconds=seconds, rate=rate, speaker=podcast, emotion=emotion)
                write(root / audio / name, samples, rate)
    for number in range(1, unlisted + 1):
        name = f"MSP-PODCAST_test3_{number:04}.wav"
        write(root / audio / name, speech(name, seconds=seconds, rate=rate), rate)
    _write(root / consensus, rows, newline)
    labels = (root / consensus).parent
    if votes == "columns":
        head = ["FileName", "WorkerID", "EmoClass_Major", "EmoClass_Second", "EmoAct", "EmoVal", "EmoDom"]
        ballots = [
            [row[0], worker, word, f"{word},Other-Calm", "4", "3", "5"]
            for row in rows[1:]
            for worker, word in _raters(row[1])
        ]
        _write(labels / "labels_detailed.csv", [head, *ballots], newline)
    elif votes == "detail":
        ballots = [[row[0], _line(*rater)] for row in rows[1:] for rater in _raters(row[1])]
        _write(labels / "labels_detailed.csv", [["FileName", "EmoDetail"], *ballots], newline)
    elif votes == "text":
        lines = []
        for row in rows[1:]:
            lines.append(f"{row[0]}; {row[1]}; A:{row[2]}; V:{row[3]}; D:{row[4]};")
            lines += [*(_line(*rater) for rater in _raters(row[1])), ""]
        (labels / "labels.txt").write_text(newline.join([*lines, ""]), newline="")
    return root


def _raters(emotion: str) -> Iterator[tuple[str, str]]:
    """Five raters: four agree and one heard something else; without agreement, two hear anger and two sadness."""
    words = ["Angry", "Angry", "Sad", "Sad"] if emotion == "X" else [PODCAST_EMOTIONS[emotion]] * 4
    for number, word in enumerate([*words, "Other-Concerned"], start=1):
        yield f"WORKER{number:08}", word


def _line(worker: str, word: str) -> str:
    return f"{worker}; {word}; {word},Other-Calm; A:4.000000; V:3.000000; D:5.000000;"


def _write(file: Path, rows: Sequence[Sequence[str]], newline: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        csv.writer(stream, lineterminator=newline).writerows(rows)
