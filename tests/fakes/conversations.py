"""Corpora of two people's conversations, in licensed releases."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.fakes.faults import hide_double
from tests.fakes.sound import speech, write

_CUSTOMARY = ("neu", "ang", "sad", "hap", "neu", "ang", "sad", "exc")
_RARER = ("xxx", "fru", "fea", "sur", "dis", "oth")

# Each code's word, and a rater's valence, activation and dominance.
_IEMOCAP = {
    "ang": ("Anger", 2, 4, 4),
    "hap": ("Happiness", 4, 3, 3),
    "exc": ("Excited", 4, 4, 3),
    "sad": ("Sadness", 2, 1, 2),
    "neu": ("Neutral", 3, 2, 3),
    "fru": ("Frustration", 2, 3, 3),
    "fea": ("Fear", 2, 3, 2),
    "sur": ("Surprise", 3, 4, 3),
    "dis": ("Disgust", 2, 3, 3),
    "oth": ("Other", 3, 2, 3),
    "xxx": ("Anger", 3, 3, 2),
}


def iemocap(
    root: Path,
    sessions: int = 5,
    codes: Sequence[str] | None = None,
    seconds: float = 0.4,
    rate: int = 16_000,
    newline: str = "\r\n",
    encoding: str = "latin-1",
) -> Path:
    """Writes IEMOCAP with all that lies around its turns: the raters' own files, whole dialogues, motion capture.

    Args:
        root: The folder `IEMOCAP_full_release`.
        sessions: How many, with two speakers each.
        codes: The emotions of each speaker's turns, by fours in improvised and scripted dialogues; None is eight turns
            of the customary classes and four of the rarer codes, which all occur in each session.
        seconds: Length of a turn.
        rate: Samples a second.
        newline: What ends a line of the annotations.
        encoding: Of the annotations, whose comments hold an é.
    """
    for session in range(1, sessions + 1):
        folder = root / f"Session{session}"
        for dialogue, turns in _iemocap_dialogues(session, codes).items():
            lines = ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
            for number, (name, letter, code) in enumerate(turns):
                # The actors take turns, and yet all of her turns come first.
                start = 6.2901 + 15 * int(name[-3:]) + (7.5 if letter == "M" else 0)
                lines += _iemocap_block(name, code, letter, start, start + seconds)
                sound = speech(name, seconds=seconds, rate=rate, speaker=f"Ses{session:02}{letter}", emotion=code)
                file = write(folder / "sentences/wav" / dialogue / f"{name}.wav", sound, rate)
                if number == 0:
                    hide_double(file)
            annotation = folder / "dialog/EmoEvaluation" / f"{dialogue}.txt"
            _write_lines(annotation, lines, newline, encoding)
            hide_double(annotation)
            _iemocap_surroundings(folder, dialogue, [(name, code) for name, _, code in turns])
    return root


def _iemocap_dialogues(session: int, codes: Sequence[str] | None) -> dict[str, list[tuple[str, str, str]]]:
    """The turns of a session's dialogues: name, letter of the speaker, and code."""
    dialogues: dict[str, list[tuple[str, str, str]]] = {}
    for place, letter in enumerate("FM"):
        first = 4 * (2 * session + place)
        # She is happy in improvised dialogues and excited in scripted ones, he the other way round.
        customary = (*_CUSTOMARY[4:], *_CUSTOMARY[:4]) if letter == "M" else _CUSTOMARY
        spoken = codes or (*customary, *(_RARER[(first + rarer) % len(_RARER)] for rarer in range(4)))
        for number, code in enumerate(spoken):
            dialogue = f"Ses{session:02}{'M_script02_1' if number // 4 % 2 else 'F_impro01'}"
            turn = number // 8 * 4 + number % 4
            dialogues.setdefault(dialogue, []).append((f"{dialogue}_{letter}{turn:03}", letter, code))
    return dialogues


def _iemocap_block(name: str, code: str, letter: str, start: float, end: float) -> list[str]:
    """A turn's consensus, what each rater said of it, and what the actor."""
    word, valence, activation, dominance = _IEMOCAP[code]
    words = ("Anger;", "Sadness;", "Fear; Other;") if code == "xxx" else (f"{word};", f"{word};", "Other; Surprise;")
    return [
        f"[{start:.4f} - {end:.4f}]\t{name}\t{code}\t[{valence:.4f}, {activation + 0.5:.4f}, {dominance:.4f}]",
        f"C-E2:\t{words[0]}\t()",
        f"C-E3:\t{words[1]}\t(tense; blasé)",
        f"C-E4:\t{words[2]}\t()",
        f"C-{letter}1:\tNeutral; Anger;\t()",
        f"A-E3:\tval {valence}; act {activation}; dom  {dominance};\t()",
        f"A-E4:\tval {valence}; act {activation + 1}; dom  {dominance};\t(polite, attitude)",
        f"A-{letter}1:\tval 3; act 3; dom  3;\t()",
        "",
    ]


def _iemocap_surroundings(folder: Path, dialogue: str, turns: Sequence[tuple[str, str]]) -> None:
    evaluation = folder / "dialog/EmoEvaluation"
    words = [f"{turn} :{_IEMOCAP[code][0]}; ()" for turn, code in turns]
    ratings = [f"{turn} :act 3; :val 3; :dom  3; ()" for turn, _ in turns]
    _write_lines(evaluation / f"Categorical/{dialogue}_e2_cat.txt", words)
    _write_lines(evaluation / f"Attribute/{dialogue}_e3_atr.txt", ratings)
    _write_lines(evaluation / f"Self-evaluation/{dialogue}_f1_cat.txt", words)
    _write_lines(folder / f"dialog/transcriptions/{dialogue}.txt", [f"{turns[0][0]} [006.2901-008.2357]: Excuse me."])
    _write_lines(folder / f"dialog/MOCAP_rotated/{dialogue}.txt", ["Frame# Time CH1 CH1 CH1"])
    _write_lines(folder / f"sentences/MOCAP_head/{dialogue}/{turns[0][0]}.txt", ["Frame# Time pitch roll yaw"])
    for decoy in (f"dialog/wav/{dialogue}.wav", f"sentences/MOCAP_head/{dialogue}/{turns[0][0]}.wav"):
        write(folder / decoy, speech("decoy", dialogue))


# Each class's word and a rater's activation (1 is very active), valence and dominance.
_MSP_IMPROV = {
    "A": ("Angry", 2, 2, 4),
    "H": ("Happy", 2, 4, 3),
    "S": ("Sad", 4, 2, 2),
    "N": ("Neutral", 3, 3, 3),
    "O": ("Other", 3, 3, 3),
    "X": ("Angry", 3, 3, 3),
}
_MSP_IMPROV_TEXTS = 2


def msp_improv(
    root: Path,
    sessions: int = 6,
    seconds: float = 0.3,
    rate: int = 44_100,
    table: str = "Evalution.txt",
    newline: str = "\n",
) -> Path:
    """Writes MSP-IMPROV: each speaker has four turns of each of the classes A, H, S and N, one for each scenario.

    The class is what the scenario aims at, but for two more turns of each speaker: one on which raters do not agree
    (X), one with an emotion beyond the classes (O). The lines of the table vary as those of the corpus do.

    Args:
        root: The folder `MSP-IMPROV`.
        sessions: How many, with two speakers each.
        seconds: Length of a turn.
        rate: Samples a second.
        table: Name of the table of labels.
        newline: What ends a line of it.
    """
    lines: list[str] = []
    for session in range(1, sessions + 1):
        for letter in "FM":
            speaker = f"{letter}{session:02}"
            for number, (text, scenario, turn, code) in enumerate(_msp_improv_turns(session)):
                name = f"IMPROV-{text}-{speaker}-{scenario}-{letter * 2 if scenario == 'R' else 'FM'}{turn:02}"
                samples = speech(name, seconds=seconds, rate=rate, speaker=speaker, emotion=code)
                folder = f"session{session}/{text}/{scenario}"
                hidden = write(root / "Audio" / folder / f"MSP-{name}.wav", samples, rate)
                video = root / "Video" / folder / f"UTD-{name}.avi"
                video.parent.mkdir(parents=True, exist_ok=True)
                video.touch()
                lines += _msp_improv_block(f"UTD-{name}.avi", code, number)
            hide_double(hidden)
    _write_lines(root / table, lines, newline)
    hide_double(root / table)
    return root


def _msp_improv_turns(session: int) -> Iterator[tuple[str, str, int, str]]:
    """Text with the emotion aimed at, scenario, number of the turn, and class."""
    text = f"S{(session - 1) % _MSP_IMPROV_TEXTS + 1:02}"
    for scenario in "RSPT":
        for code in "AHSN":
            yield f"{text}{code}", scenario, 1, code
    yield f"{text}A", "T", 2, "X"
    yield f"{text}H", "P", 2, "O"


def _msp_improv_block(video: str, code: str, number: int) -> list[str]:
    """A turn's consensus and its raters' lines, the last of which stands twice."""
    word, activation, valence, dominance = _MSP_IMPROV[code]
    values = [f"A:{activation - 0.2:.6f}", f"V:{valence:.6f}", f"D:{dominance:.6f}", "N:3.800000"]
    if number % 4 == 1:
        values[2:] = ["D:NaN ", "N:NaN"]
    elif number % 4 == 2:
        values = values[1::-1] + values[2:3]
    elif number % 4 == 3:
        values = values[:2]
    words = ("Angry", "Sad", "Happy") if code == "X" else (word, word, "Other")
    raters = [
        f"WORKER00000070; {words[0]}; {words[0]},Depressed; A:2.000000; V:2.000000; D:3.000000; N:4.000000;",
        f"student-p03_b; {words[1]}; ; A:2.000000; V:2.000000; D:NaN; N:NaN;",
        f"WORKER00000071; {words[2]}; Other (bored; or so); A:3.000000; V:2.000000; D:3.000000; N:4.000000;",
    ]
    return [f"{video}; {code}; {'; '.join(values)};", *raters, raters[-1], ""]


def _write_lines(file: Path, lines: Sequence[str], newline: str = "\n", encoding: str = "utf-8") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(newline.join([*lines, ""]), encoding=encoding, newline="")
