"""Corpora of acted, separate utterances."""

import csv
from collections.abc import Sequence
from pathlib import Path

from tests.fakes.sound import speech, write

RAVDESS_EMOTIONS = ("01", "02", "03", "04", "05", "06", "07", "08")
CREMAD_EMOTIONS = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
EMODB_SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
EMODB_EMOTIONS = "WLEAFTN"
NEMO_EMOTIONS = ("anger", "fear", "happiness", "neutral", "sadness", "surprised")


def ravdess(
    root: Path,
    actors: int = 4,
    emotions: Sequence[str] = RAVDESS_EMOTIONS,
    statements: int = 2,
    repetitions: int = 1,
    seconds: float = 0.5,
    rate: int = 48_000,
    suffix: str = ".wav",
) -> Path:
    """Writes RAVDESS, speech, audio only: `Actor_01/03-01-05-01-02-01-01.wav`."""
    for actor in range(1, actors + 1):
        for emotion in emotions:
            for statement in range(1, statements + 1):
                for repetition in range(1, repetitions + 1):
                    name = f"03-01-{emotion}-01-{statement:02}-{repetition:02}-{actor:02}"
                    samples = speech(name, seconds=seconds, rate=rate, speaker=actor, emotion=emotion)
                    write(root / f"Actor_{actor:02}" / f"{name}{suffix}", samples, rate)
    return root


def nemo(
    root: Path,
    speakers: int = 4,
    emotions: Sequence[str] = NEMO_EMOTIONS,
    sentences: int = 2,
    seconds: float = 0.5,
    rate: int = 24_000,
    suffix: str = ".wav",
    newline: str = "\r\n",
) -> Path:
    """Writes nEMO: `samples/AK0_anger_1.wav`; `data.tsv` has spaces before speakers and quotes that do not quote."""
    lines = ["\t".join(("file_id", "emotion", "raw_text", "normalized_text", "speaker_id", "gender", "age"))]
    for number in range(speakers):
        speaker, gender = f"{'ABCDEFGHIJ'[number % 10]}{'KLM'[number // 10]}0", ("female", "male")[number % 2]
        for emotion in emotions:
            for sentence in range(1, sentences + 1):
                name = f"{speaker}_{emotion}_{sentence}"
                samples = speech(name, seconds=seconds, rate=rate, speaker=speaker, emotion=emotion)
                write(root / "samples" / f"{name}{suffix}", samples, rate)
                text = f'"Zażółć gęślą jaźń, {sentence}.'
                lines.append("\t".join((f"{name}.wav", emotion, text, text, f"        {speaker}", gender, "23")))
    (root / "data.tsv").write_text(newline.join([*lines, ""]), encoding="utf-8", newline="")
    return root


def cremad(
    root: Path,
    actors: int = 10,
    emotions: Sequence[str] = CREMAD_EMOTIONS,
    sentences: Sequence[str] = ("IEO", "DFA"),
    seconds: float = 0.4,
    rate: int = 16_000,
    suffix: str = ".wav",
) -> Path:
    """Writes CREMA-D: `AudioWAV/1001_IEO_ANG_HI.wav`, `VideoDemographics.csv` and the two tables of votes.

    Odd actors are male. Of ten raters, those of the voice are divided between anger and disgust where disgust was
    meant, and else six agree with the actor and four hear neutral speech; those of the face all agree; of those of both
    eight agree, and two see sadness.
    """
    people = [["ActorID", "Age", "Sex", "Race", "Ethnicity"]]
    clips = []
    for actor in range(1001, 1001 + actors):
        people.append([str(actor), "33", ("Female", "Male")[actor % 2], "Unknown", "Not Hispanic"])
        for sentence in sentences:
            for emotion in emotions:
                intensity = "HI" if sentence == "IEO" and emotion != "NEU" else "XX"
                clip = f"{actor}_{sentence}_{emotion}_{intensity}"
                samples = speech(clip, seconds=seconds, rate=rate, speaker=actor, emotion=emotion)
                write(root / "AudioWAV" / f"{clip}{suffix}", samples, rate)
                clips.append((clip, emotion[0]))
    levels = ["meanEmoResp", "meanAngerResp", "meanDisgustResp", "meanFearResp", "meanHappyResp", "meanNeutralResp"]
    votes = [["", *"ADFHNS", "fileName", "numResponses", "agreement", "emoVote", *levels, "meanSadResp"]]
    columns = [f"{mode}{what}" for mode in ("Voice", "Face", "MultiModal") for what in ("Vote", "Level")]
    summary = [["", "FileName", *columns]]
    summary += [[str(number), clip] for number, (clip, _) in enumerate(clips, start=1)]
    for modality in (1, 2, 3):
        for number, (clip, meant) in enumerate(clips, start=1):
            counts = dict.fromkeys("ADFHNS", 0)
            if modality == 1 and meant == "D":
                counts |= {"A": 5, "D": 5}
            else:
                agreeing, other = {1: (6, "N"), 2: (10, "N"), 3: (8, "S")}[modality]
                counts[meant] += agreeing
                counts[other] += 10 - agreeing
            most = max(counts.values())
            vote = ":".join(letter for letter, count in counts.items() if count == most)
            row = [str(100_000 * modality + number), *map(str, counts.values()), clip, "10", str(most / 10), vote]
            votes.append([*row, *["-1"] * 7])
            summary[number] += [vote, ":".join(["50.5"] * len(vote.split(":")))]
    for name, rows in (
        ("VideoDemographics.csv", people),
        ("processedResults/summaryTable.csv", summary),
        ("processedResults/tabulatedVotes.csv", votes),
    ):
        (root / name).parent.mkdir(exist_ok=True)
        with (root / name).open("w", newline="") as stream:
            csv.writer(stream, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    return root


def emodb(
    root: Path,
    speakers: Sequence[str] = EMODB_SPEAKERS,
    emotions: str = EMODB_EMOTIONS,
    texts: Sequence[str] = ("a01", "b10"),
    versions: str = "a",
    seconds: float = 0.4,
    rate: int = 16_000,
    suffix: str = ".wav",
) -> Path:
    """Writes EmoDB: `wav/03a01Wa.wav`, and a file of phonetic labels in another folder."""
    for speaker in speakers:
        for text in texts:
            for emotion in emotions:
                for version in versions:
                    name = f"{speaker}{text}{emotion}{version}"
                    samples = speech(name, seconds=seconds, rate=rate, speaker=speaker, emotion=emotion)
                    write(root / "wav" / f"{name}{suffix}", samples, rate)
    (root / "lablaut").mkdir(exist_ok=True)
    (root / "lablaut" / "03a01Fa.lablaut").write_text("signal 03a01Fa\n")
    return root
