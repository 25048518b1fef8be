"""What every corpus reader shares: the rows it yields, its declaration, and how a folder is walked."""

import dataclasses
import inspect
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

_SUFFIXES = "wav flac ogg oga opus mp3 aif aiff aifc au snd caf w64 rf64 sph nist voc"
AUDIO_SUFFIXES = frozenset(f".{suffix}" for suffix in _SUFFIXES.split())
"""File suffixes (lower case) that libsndfile reads."""

COMMON_EMOTIONS = (
    "anger",
    "boredom",
    "calm",
    "contempt",
    "disgust",
    "excitement",
    "fear",
    "frustration",
    "happiness",
    "neutral",
    "sadness",
    "surprise",
    "other",
)
"""The names that labels of different corpora are compared under."""

_SYNONYMS = {
    "angry": "anger",
    "bored": "boredom",
    "calmness": "calm",
    "disgusted": "disgust",
    "excited": "excitement",
    "afraid": "fear",
    "anxiety": "fear",
    "fearful": "fear",
    "frustrated": "frustration",
    "happy": "happiness",
    "joy": "happiness",
    "neutrality": "neutral",
    "sad": "sadness",
    "surprised": "surprise",
}


def common_emotion(word: str) -> str:
    """Returns the common name of an emotion word ("Angry" gives "anger"); an unknown word comes back in lower case."""
    word = word.strip().lower()
    return _SYNONYMS.get(word, word)


@dataclass(frozen=True, slots=True)
class Utterance:
    """One labelled or unlabelled stretch of speech, as its corpus describes it.

    Attributes:
        path: Audio file, POSIX, relative to the corpus root.
        start: Where the utterance begins in the file, in seconds.
        end: Where it ends, in seconds; None is the end of the file.
        speaker: The corpus's own id, a string ("03" stays "03").
        gender: "female" or "male".
        session: Recording session, dialogue or chapter.
        sentence: Which text was spoken, where the corpus repeats texts.
        label: The corpus's own word or code for the emotion.
        emotion: The common name of that emotion, usually one of `COMMON_EMOTIONS`.
        votes: How many raters named each emotion, by its common name; those of the raters whose consensus `emotion` is.
        activation: In the corpus's own units, as are valence and dominance.
        split: The corpus's own: "train", "development" or "test".
    """

    path: str
    start: float = 0.0
    end: float | None = None
    speaker: str | None = None
    gender: str | None = None
    session: str | None = None
    sentence: str | None = None
    label: str | None = None
    emotion: str | None = None
    votes: Mapping[str, float] | None = None
    activation: float | None = None
    valence: float | None = None
    dominance: float | None = None
    split: str | None = None


@dataclass(frozen=True, slots=True)
class Fault:
    """Something in a corpus that cannot be used, and why.

    Attributes:
        path: The file, relative to the corpus root.
        reason: "kind" or "kind: details"; reports count by the kind.
    """

    path: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason without its details."""
        return self.reason.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Scale:
    """The range on which a corpus rates a dimension, and its direction.

    Attributes:
        low: The lowest rating of the corpus.
        high: The highest rating of the corpus.
        reversed: Whether a high rating means little of the dimension.
    """

    low: float
    high: float
    reversed: bool = False

    def to_unit(self, rating: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Maps ratings in the corpus's units to [0, 1], where 1 is much of the dimension."""
        unit = (rating - self.low) / (self.high - self.low)
        return 1 - unit if self.reversed else unit

    def from_unit(self, unit: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Maps [0, 1] back to the corpus's units."""
        return self.low + (1 - unit if self.reversed else unit) * (self.high - self.low)


@dataclass(frozen=True, slots=True)
class Download:
    """An archive that a corpus's owners offer to everybody.

    Attributes:
        url: Where.
        checksum: "md5:…" or "sha256:…", as published.
        page: Where the owners describe the corpus, its licence and how to cite it.
        audio: How many recordings it holds.
        top: The archive's folder that becomes the corpus root; empty if the archive has none above it.
        part: The folder of the corpus root that this archive fills, where several archives share a root.
    """

    url: str
    checksum: str
    page: str
    audio: int
    top: str = ""
    part: str = ""


@dataclass(frozen=True, slots=True)
class Repository:
    """A corpus that its owners offer in a Git repository; of the commit everything in it follows, as of a checksum.

    Attributes:
        page: Its address.
        commit: Which of its states.
        audio: How many recordings it holds.
        paths: The files and folders that are needed.
        mirrors: The owners' other repositories that have the same files in Git LFS.
    """

    page: str
    commit: str
    audio: int
    paths: tuple[str, ...]
    mirrors: tuple[str, ...] = ()
    part: ClassVar[str] = ""


Downloads = Mapping[str, Download | Repository]
"""What can be fetched, by the name that it is asked for."""


class Reader(ABC):
    """Turns the folder of a corpus, as its owners ship it, into utterances; it never opens audio.

    Options are the constructor's keyword arguments, all with defaults, each kept in an attribute of its name (a frozen
    dataclass does this by itself).

    Attributes:
        name: Key in the registry.
        folders: Names of the corpus's folder that are looked for under `data.root`, in order; one spelling of each.
        licence: Short name of the licence.
        how_to_get: One sentence.
        language: ISO 639-1 code, or "various".
        labelled: Whether utterances carry emotions or dimensions.
        synthetic: Whether the speech is synthesised; results on it are marked.
        scales: Range of each rated dimension; one that is missing is rated on [0, 1].
        downloads: What `make data` fetches.
    """

    name: ClassVar[str]
    folders: ClassVar[tuple[str, ...]] = ()
    licence: ClassVar[str]
    how_to_get: ClassVar[str]
    language: ClassVar[str]
    labelled: ClassVar[bool]
    synthetic: ClassVar[bool] = False
    scales: ClassVar[Mapping[str, Scale]] = {}
    downloads: ClassVar[Downloads] = {}

    @property
    def corpus(self) -> str:
        """The corpus's name in manifests; differs from `name` where one reader serves several corpora."""
        return self.name

    def options(self) -> dict[str, Any]:
        """The constructor's arguments by name, as plain data."""
        if dataclasses.is_dataclass(self):
            return dataclasses.asdict(self)
        return {option: getattr(self, option) for option in inspect.signature(type(self)).parameters}

    def scale(self, dimension: str) -> Scale:
        """The range on which this corpus rates a dimension."""
        return self.scales.get(dimension, Scale(0.0, 1.0))

    def own_root(self) -> Path | None:
        """Where the options themselves say that the corpus lies, if they do."""
        return None

    def prepare(self, root: Path) -> None:  # noqa: B027 - most corpora need nothing
        """Makes what the corpus needs below `root`; quick when it is already there."""

    def watched(self, root: Path) -> Iterator[str]:
        """Folders and metadata files, relative to `root`, whose change makes a manifest stale."""
        return directories(root)

    @abstractmethod
    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields the corpus's utterances in a fixed order, and what cannot be one.

        Raises:
            InputError: Where the folder is not this corpus, or its metadata cannot be understood.
        """


def walk(root: Path, closed: re.Pattern[str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """Yields (folder relative to root with a trailing slash, sorted visible file names), depth first in sorted order.

    Symbolic links to folders are followed, each target once, so that a loop ends.

    Args:
        root: Where to begin.
        closed: Folders whose names it matches are not looked into: they are yielded without files.
    """
    followed: set[str] = set()
    stack = [""]
    while stack:
        folder = stack.pop()
        files: list[str] = []
        folders: list[str] = []
        if closed and closed.fullmatch(folder.rstrip("/").rpartition("/")[2]):
            yield folder, files
            continue
        with os.scandir(f"{root}/{folder}") as entries:
            for entry in entries:
                if entry.name.startswith("."):  # hidden, among them the `._*` doubles that macOS leaves
                    continue
                if not entry.is_dir():
                    files.append(entry.name)
                    continue
                if entry.is_symlink():
                    target = os.path.realpath(entry.path)
                    here = os.path.realpath(f"{root}/{folder}")
                    if target in followed or os.path.commonpath([here, target]) == target:
                        continue
                    followed.add(target)
                folders.append(f"{folder}{entry.name}/")
        yield folder, sorted(files)
        stack.extend(sorted(folders, reverse=True))


def directories(root: Path) -> Iterator[str]:
    """Yields all visible folders at and below a root, relative to it ("." is the root itself)."""
    for folder, _ in walk(root):
        yield folder.rstrip("/") or "."


def suffix(path: str) -> str:
    """Returns what a path ends in, from the last full stop on, in lower case; cheaper than a `Path`."""
    return path[path.rfind(".") :].lower()


def audio_files(root: Path, suffixes: Collection[str] = AUDIO_SUFFIXES) -> Iterator[str]:
    """Yields all visible audio files below a root in sorted order, POSIX paths relative to it."""
    for folder, files in walk(root):
        for file in files:
            if suffix(file) in suffixes:
                yield folder + file


def decode_text(data: bytes) -> str:
    """Decodes a metadata file: UTF-8, UTF-16 with a byte-order mark, or else Latin-1; all its lines end in LF."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        text = data.decode("utf-16", errors="replace")
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(file: Path) -> list[str]:
    """Reads a metadata file as lines without their ends, whatever its encoding and line ends."""
    # str.splitlines would also split at separators that occur inside transcripts.
    return decode_text(file.read_bytes()).removesuffix("\n").split("\n")
