"""The demo's corpora: emotional speech, speakers and unlabelled speech, synthesised on the user's machine.

An utterance has a point in the space of activation, valence and dominance: its emotion's direction times a random
intensity, plus a deviation of its own. Rules turn the point into pitch, range, rate and voice quality, relative to a
voice that differs from the next one in the same respects; the recording adds a level, a channel and a room's noise that
say nothing of the emotion. Weak portrayals, differing voices and channels make the classes overlap.

That dimensions of emotion control the prosody of synthetic speech is M. Schröder's idea (2006, "Expressing degree of
activation in synthetic speech"). The directions of the rules are those that P. N. Juslin and P. Laukka found in human
speech (2003, "Communication of emotions in vocal expression and music performance"); their sizes were chosen here.
"""

import csv
import hashlib
import io
import shutil
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from datamodules.corpora.base import Fault, Reader, Scale, Utterance
from datamodules.errors import InputError
from datamodules.synthesis import Delivery, record_all
from datamodules.vocabulary import DIMENSIONS

RECIPE = 1
"""Raised when the same plan would sound different, so that a corpus made by an older recipe is not taken for it."""

EMOTIONS = {
    "anger": (0.8, -0.7, 0.7),
    "happiness": (0.7, 0.8, 0.2),
    "sadness": (-0.8, -0.6, -0.6),
    "neutral": (0.0, 0.0, 0.0),
}
"""Where a full portrayal lies: activation, valence, dominance, on [-1, 1]."""

RULES = {
    #            activation, valence, dominance
    "pitch": (5.0, 2.5, -1.5),  # semitones
    "span": (1.1, 0.6, 0.0),  # octaves of pitch range
    "rate": (0.45, 0.05, 0.05),  # octaves of words a minute
    "tract": (0.0, 0.05, -0.03),  # octaves of the resonances: smiling shortens the vocal tract
    "tilt": (3.5, 0.0, 1.5),  # dB per octave
    "breath": (-7.0, 0.0, -5.0),  # dB
    "roughness": (0.2, -0.4, 0.4),  # depth
}
"""How far each dimension moves the delivery, from its middle to its end."""

DEVIATION = {"pitch": 0.7, "span": 0.15, "rate": 0.05, "tract": 0.01, "tilt": 0.6, "breath": 2.0, "roughness": 0.05}
"""Standard deviations of an utterance's delivery that mean nothing."""

SENTENCES = (
    "The bus to the station stops beside the bakery.",
    "There are two cups on the shelf above the sink.",
    "She puts the letters in the drawer of the desk.",
    "The library opens at nine on weekdays.",
    "He keeps his bicycle in the shed behind the house.",
    "The meeting has moved to the room upstairs.",
    "A blue folder is lying on the kitchen table.",
    "They are going to repaint the fence in spring.",
    "The train from the coast comes in on platform four.",
    "My neighbour waters the plants every second day.",
    "We left the umbrella in the back of the car.",
    "The recipe needs flour, water and a little salt.",
    "Somebody has parked a van across the street.",
    "The lift in this building holds eight people.",
    "He told them about it on the telephone.",
    "The river runs under the road near the mill.",
    "I will bring the boxes down this afternoon.",
    "Her brother works at the post office in town.",
    "The shop on the corner sells paper and pens.",
    "They have changed the time of the lecture.",
    "You can see the tower from the second bridge.",
    "The clock in the hall is ten minutes slow.",
    "It is the third door on the left.",
    "We bought the carpet at the market on Saturday.",
    "The coats are hanging next to the mirror.",
    "He reads the paper before he goes to work.",
    "The children walk to school along the canal.",
    "There was a parcel for you at the front desk.",
    "She has put the chairs out on the terrace.",
    "The film begins at a quarter past eight.",
    "They say it will be cloudy again tomorrow.",
    "The key is under the pot beside the steps.",
    "He is standing at the window with a book.",
    "The ferry takes half an hour to the island.",
    "We have to turn right after the bank.",
    "The bread is in the basket by the stove.",
    "Our teacher lives in the house with the green roof.",
    "Tonight I could ask her about the tickets.",
    "The new lamp stands between the two beds.",
    "They have carried the piano into the hall.",
    "You will find the form on the last page.",
    "The gardener comes on the first of the month.",
    "It takes seven hours to drive to the border.",
    "He has written the number on the calendar.",
    "The window of the office looks onto the yard.",
    "She will fetch the shoes from the cobbler.",
    "The tea is from the shop near the harbour.",
    "In the evening they close the gate of the park.",
)

# eSpeak's names of the voices: an accent of English, and a variant. Women and men take turns. No variant of the
# emotional part speaks in the others; those share women's variants, which are few, with other accents and habits.
EMOTIONAL_VOICES = (
    *("en-us+f1", "en-us+m1", "en-gb-x-rp+f2", "en-gb-x-rp+m2", "en-gb-scotland+f3", "en-gb-scotland+m3"),
    *("en-us+f4", "en-029+m4", "en-us-nyc+f5", "en-us-nyc+m5", "en+Alicia", "en+m6"),
    *("en-gb-x-gbclan+Andrea", "en-gb-x-gbclan+m7", "en-us+Annie", "en-us+m8", "en-029+linda", "en-gb-x-gbcwmd+Andy"),
    *("en+steph", "en+Denis"),
)
SPEAKER_VOICES = (
    *("en-us+anika", "en-us+Alex", "en-gb-x-rp+aunty", "en-gb-x-rp+Gene", "en+belinda", "en+Jacky"),
    *("en-us-nyc+steph2", "en-us-nyc+Lee", "en-gb-scotland+steph3", "en-gb-scotland+Marco", "en-us+grandma"),
    *("en-us+Michael", "en+anika", "en+Mike", "en-029+aunty", "en-029+adam", "en-us+belinda", "en-us+antonio"),
    *("en-gb-x-gbclan+steph2", "en-gb-x-gbclan+benjamin", "en-gb-x-rp+steph3", "en-gb-x-rp+boris"),
    *("en+grandma", "en+paul"),
)
UNLABELLED_VOICES = (
    *("en-gb-x-gbcwmd+anika", "en-us+david", "en-gb-scotland+aunty", "en-gb-scotland+ed", "en-029+belinda"),
    *("en+edward", "en-us+steph2", "en-gb-x-rp+ian", "en-us-nyc+steph3", "en-us+john"),
)


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker: one of eSpeak's voices, and habits of delivery that the rules start from."""

    name: str
    gender: str
    expressiveness: float
    """Factor on the rules."""
    pitch: float
    span: float
    rate: float
    tract: float
    tilt: float
    breath: float
    roughness: float

    @classmethod
    def of(cls, name: str, gender: str) -> "Voice":
        """The voice of this name; its habits depend on nothing else."""
        rng = _generator("voice", name)
        return cls(
            name,
            gender,
            expressiveness=rng.uniform(0.85, 1.15),
            pitch=rng.uniform(-2, 2),
            span=rng.uniform(-0.4, -0.2),
            rate=np.log2(rng.uniform(155, 180)),
            tract=rng.uniform(-0.08, 0.08),
            tilt=rng.uniform(-1.5, 0.5),
            breath=rng.uniform(-24, -16),
            roughness=rng.uniform(0.0, 0.1),
        )


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a part's table: what a recorded corpus would tell of an utterance."""

    path: str
    speaker: str | None = None
    gender: str | None = None
    sentence: str | None = None
    emotion: str | None = None
    activation: float | None = None
    valence: float | None = None
    dominance: float | None = None


Point = NDArray[np.float64]
"""Activation, valence, dominance, on [-1, 1]."""
Plan = list[list[tuple[Line, Delivery]]]
"""For each voice what it speaks, in order."""
TABLE = "utterances.tsv"


def _generator(*key: object) -> np.random.Generator:
    digest = hashlib.sha256("/".join(map(str, (RECIPE, *key))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8]))


def _deliver(voice: Voice, emotion: str, sentence: str) -> tuple[Point, Delivery]:
    """An utterance's point (activation, valence, dominance, on [-1, 1]) and how it is spoken and recorded."""
    rng = _generator("utterance", voice.name, emotion, sentence)
    intensity = rng.uniform(0.5, 1.0)
    point = np.clip(intensity * np.array(EMOTIONS[emotion]) + rng.normal(0, 0.1, 3), -1, 1)
    moved = {
        rule: getattr(voice, rule)
        + voice.expressiveness * float(np.dot(weights, point))
        + rng.normal(0, DEVIATION[rule])
        for rule, weights in RULES.items()
    }
    colour = rng.normal(0, (2.5, 2.0, 2.0, 1.5, 1.0, 1.0))
    return point, Delivery(
        text=sentence,
        voice=voice.name,
        pitch=moved["pitch"],
        span=moved["span"],
        rate=2 ** moved["rate"],
        tract=2 ** moved["tract"],
        tilt=moved["tilt"],
        breath=moved["breath"],
        roughness=float(np.clip(moved["roughness"], 0, 1)),
        level=rng.uniform(-34, -20),
        snr=rng.uniform(14, 35),
        colour=tuple(map(float, colour)),
        seed=int(rng.integers(2**32)),
    )


class SyntheticReader(Reader):
    """A part of the demo. It makes itself in a folder `<name>-<fingerprint of its plan>`, which appears when complete.

    Attributes:
        voices: How many of the part's voices are used; women and men take turns.
        sentences: How many sentences each voice speaks.
        voice_names: eSpeak's names of all voices of the part.
        first_speaker: Number of the first of them; no number is in two parts.
    """

    licence = "yours: it is made on your machine, by eSpeak NG, a program under the GPL-3.0"
    how_to_get = "it makes itself, with the package espeakng-loader"
    language = "en"
    synthetic = True
    voice_names: ClassVar[tuple[str, ...]]
    first_speaker: ClassVar[int]

    voices: int
    sentences: int

    def __post_init__(self) -> None:
        """Checks the options.

        Raises:
            InputError: There are not so many voices or sentences.
        """
        for option, most in (("voices", len(self.voice_names)), ("sentences", len(SENTENCES))):
            value = getattr(self, option)
            if not isinstance(value, int) or not 1 <= value <= most:
                raise InputError(f"corpus '{self.name}': {option}={value!r}", f"give a number from 1 to {most}")

    def watched(self, root: Path) -> Iterator[str]:
        """The part's folder: other parts, or the same with other options, may lie beside it."""
        folder = self._folder(self._plan(), root)
        return iter((folder.name, f"{folder.name}/{TABLE}"))

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """The rows of the part's table.

        Raises:
            InputError: The part has not been made in this root.
        """
        folder = self._folder(self._plan(), root)
        try:
            table = (folder / TABLE).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise InputError(
                f"corpus {self.name!r} has not been made: {folder} is missing", "it is made when its manifest is built"
            ) from error
        for row in csv.DictReader(io.StringIO(table), dialect="excel-tab"):
            activation, valence, dominance = (float(row[name]) if row[name] else None for name in DIMENSIONS)
            yield Utterance(
                path=f"{folder.name}/{row['path']}",
                speaker=row["speaker"] or None,
                gender=row["gender"] or None,
                sentence=row["sentence"] or None,
                label=row["emotion"] or None,
                emotion=row["emotion"] or None,
                activation=activation,
                valence=valence,
                dominance=dominance,
            )

    def prepare(self, root: Path) -> None:
        """Synthesises the part if it is not there complete; an interrupted call leaves nothing that looks complete.

        Raises:
            InputError: eSpeak NG cannot be used on this machine.
            OSError: The part cannot be written.
        """
        plan = self._plan()
        folder = self._folder(plan, root)
        if _is_complete(folder, plan):
            return
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=root, prefix=f".{self.name}-") as scratch:
            made = Path(scratch) / folder.name
            made.mkdir()
            sessions = [[(made / line.path, delivery) for line, delivery in session] for session in plan]
            for _ in track(record_all(sessions), f"Speaking {self.name}", total=len(sessions)):
                pass
            _write_table(made / TABLE, [line for session in plan for line, _ in session])
            try:
                if not _is_complete(folder, plan):
                    shutil.rmtree(folder, ignore_errors=True)  # some of its files were lost
                made.replace(folder)
            except OSError:
                if not _is_complete(folder, plan):  # else another process was as busy, and quicker
                    raise

    def _plan(self) -> Plan:
        voices = [Voice.of(name, ("female", "male")[i % 2]) for i, name in enumerate(self.voice_names[: self.voices])]
        return [list(self._session(voice, f"{self.first_speaker + i:02d}")) for i, voice in enumerate(voices)]

    def _session(self, voice: Voice, speaker: str) -> Iterator[tuple[Line, Delivery]]:
        rng = _generator("session", voice.name)
        for number in rng.permutation(len(SENTENCES))[: self.sentences]:
            for emotion in self._emotions(rng):
                point, delivery = _deliver(voice, emotion, SENTENCES[number])
                yield self._line(voice, speaker, f"s{number + 1:02d}", emotion, point), delivery

    def _folder(self, plan: Plan, root: Path) -> Path:
        return root / f"{self.name}-{hashlib.sha256(repr((RECIPE, plan)).encode()).hexdigest()[:8]}"

    def _emotions(self, rng: np.random.Generator) -> list[str]:
        """In which emotions a sentence is spoken; one at random."""
        return [str(rng.choice(list(EMOTIONS)))]

    @abstractmethod
    def _line(self, voice: Voice, speaker: str, sentence: str, emotion: str, point: Point) -> Line:
        """What the part's table tells of an utterance."""


def _is_complete(folder: Path, plan: Plan) -> bool:
    return all((folder / name).is_file() for name in (TABLE, *(line.path for session in plan for line, _ in session)))


def _write_table(file: Path, lines: list[Line]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, dialect="excel-tab", lineterminator="\n")
        writer.writerow(field.name for field in fields(Line))
        writer.writerows(map(astuple, lines))


@dataclass(frozen=True)
class Demo(SyntheticReader):
    """Emotional speech: every voice speaks each of its sentences in each of four emotions."""

    name = "demo"
    labelled = True
    scales: ClassVar[dict[str, Scale]] = {dimension: Scale(1, 5) for dimension in DIMENSIONS}
    voice_names = EMOTIONAL_VOICES
    first_speaker = 1

    voices: int = 20
    sentences: int = 15

    def _emotions(self, rng: np.random.Generator) -> list[str]:
        return list(EMOTIONS)

    def _line(self, voice: Voice, speaker: str, sentence: str, emotion: str, point: Point) -> Line:
        dimensions = [round(3 + 2 * float(value), 2) for value in point]  # on the scale of 1 to 5 that raters often use
        return Line(f"{speaker}_{emotion}_{sentence}.flac", speaker, voice.gender, sentence, emotion, *dimensions)


@dataclass(frozen=True)
class DemoSpeakers(SyntheticReader):
    """Speech of many speakers, in whatever emotion: only the speaker and the gender are known."""

    name = "demo_speakers"
    labelled = False
    voice_names = SPEAKER_VOICES
    first_speaker = 21

    voices: int = 24
    sentences: int = 15

    def _line(self, voice: Voice, speaker: str, sentence: str, emotion: str, point: Point) -> Line:
        return Line(f"{speaker}_{sentence}.flac", speaker, voice.gender, sentence)


@dataclass(frozen=True)
class DemoUnlabelled(SyntheticReader):
    """Speech of which nothing is known."""

    name = "demo_unlabelled"
    labelled = False
    voice_names = UNLABELLED_VOICES
    first_speaker = 45

    voices: int = 10
    sentences: int = 30

    def _line(self, voice: Voice, speaker: str, sentence: str, emotion: str, point: Point) -> Line:
        return Line(f"{speaker}_{sentence}.flac")
