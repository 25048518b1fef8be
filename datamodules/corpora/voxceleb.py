"""VoxCeleb 1 and 2: interviews from YouTube (Nagrani et al., 2017; Chung et al., 2018)."""

import csv
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datamodules.corpora.base import (
    AUDIO_SUFFIXES,
    Fault,
    Reader,
    Utterance,
    audio_files,
    directories,
    read_lines,
    suffix,
    walk,
)
from datamodules.errors import InputError

_SPEAKER = re.compile(r"id\d{5}")
_NO_NAME = "not a VoxCeleb name: speaker/video/number is expected"
_RELEASED = ".m4a"
_GENDERS = {"f": "female", "female": "female", "m": "male", "male": "male"}
_SETS = {"dev": "train", "train": "train", "test": "test"}
# Column names of the tables that circulate, letters only: "VoxCeleb1 ID", "VoxCeleb2 ID ", "voxceleb2_id", "id".
_COLUMNS = {
    "speaker": ("voxcelebid", "id", "speaker", "speakerid"),
    "gender": ("gender", "sex"),
    "split": ("set", "split"),
}


@dataclass(frozen=True)
class _Speaker:
    """What the metadata or a folder's name say of a speaker."""

    gender: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class VoxCeleb(Reader):
    """`<speaker>/<video>/<number>.wav`, below whatever folders the archives were unpacked into; a table of genders.

    An utterance that is there in several formats or folders, as the released one and the converted one are, is read
    once. The two corpora's speakers have different ids, so that both corpora may lie in one folder. Speakers of the
    table who are not there are not missed: many people have a part of the corpus.

    Args:
        sets: "dev" or "test" to read one of them; none means both. A speaker's set is the table's, else that of a
            folder's name, as in `vox1_dev_wav`.
        genders: Whether genders and sets are read from the table; without, it is not needed.
        metadata: The table, relative to the root or to the working directory; none means that it is looked for, under
            the name that its owners give it, in the folders above the speakers'.
    """

    licence = "CC BY 4.0"
    language = "various"
    labelled = False

    title: ClassVar[str]
    table: ClassVar[str]
    own_speaker: ClassVar[re.Pattern[str]]

    sets: tuple[str, ...] = ()
    genders: bool = True
    metadata: str = ""

    def __post_init__(self) -> None:
        for name in self.sets:
            if name not in ("dev", "test"):
                raise InputError(f"{self.name}: there is no set '{name}'", "there are: dev, test")

    def watched(self, root: Path) -> Iterator[str]:
        """All folders, and the table; see `Reader.watched`."""
        yield from directories(root)
        if table := self._table(root, _Survey(root).files):
            yield table

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        """Yields the recordings speaker by speaker; see `Reader.read`."""
        survey = _Survey(root)
        folders = {name: places for name, places in survey.speakers.items() if self.own_speaker.fullmatch(name)}
        if not folders:
            others = f", but there are those of others, such as {min(survey.speakers)}" if survey.speakers else ""
            raise InputError(
                f"{self.name}: {root} holds no folder of a {self.title} speaker ({self.own_speaker.pattern}){others}",
                "set the root to the folder that the archives were unpacked into",
            )
        listed: dict[str, _Speaker] = {}
        if self.genders:
            listed, faults = self._listed(root, self._table(root, survey.files), folders)
            yield from faults
        for path in survey.files:
            if suffix(path) in (_RELEASED, *AUDIO_SUFFIXES):
                yield Fault(path, _NO_NAME)
        speakers = {}
        for name in sorted(folders):
            told = listed.get(name, _Speaker())
            split = told.split or _split_of_folders(folders[name])
            if self.sets and split is None:
                yield Fault(folders[name][0], "no label: neither a table nor a folder's name tells dev from test")
            elif not self.sets or split in {_SETS[wanted] for wanted in self.sets}:
                speakers[name] = _Speaker(told.gender, split)
        self._check_converted(root, [folder for name in speakers for folder in folders[name]])
        for name, speaker in speakers.items():
            for key, path in sorted(_recordings(root, folders[name]).items()):
                video, _, number = key.partition("/")
                if not number or "/" in number:
                    yield Fault(path, _NO_NAME)
                elif suffix(path) == _RELEASED:
                    yield Fault(path, f"not converted: {_RELEASED} files cannot be read")
                else:
                    yield Utterance(path, speaker=name, gender=speaker.gender, session=video, split=speaker.split)

    def _table(self, root: Path, files: list[str]) -> str | None:
        """The table of genders, relative to the root, if it is there and wanted."""
        if not self.genders:
            return None
        if not self.metadata:
            return next((file for file in files if file.rpartition("/")[2].lower() == self.table), None)
        for candidate in (root / Path(self.metadata).expanduser(), Path(self.metadata).absolute()):
            if candidate.is_file():
                return os.path.relpath(candidate, root)
        raise InputError(
            f"{self.name}: the metadata '{self.metadata}' do not exist in {root} or {Path.cwd()}",
            f"set the option metadata to the path of {self.table}",
        )

    def _listed(
        self, root: Path, table: str | None, folders: Mapping[str, list[str]]
    ) -> tuple[dict[str, _Speaker], list[Fault]]:
        """Reads the table, and compares it with the speakers that are there."""
        offered = f"it is offered at https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/{self.table}"
        if table is None:
            raise InputError(
                f"{self.name}: {self.table}, which tells the speakers' genders, is not in {root}",
                f"{offered}; or go without: data.corpora.{self.name}.options.genders=false",
            )
        listed, faults = _read_table(root, table)
        missing = sorted(name for name in folders if name not in listed)
        if len(missing) == len(folders):
            raise InputError(f"{self.name}: {root / table} lists none of the speakers in {root}", offered)
        for name in missing:
            faults.append(Fault(folders[name][0], f"no label: not listed in {table}; the speaker stays without gender"))
        return listed, faults

    def _check_converted(self, root: Path, folders: list[str]) -> None:
        """Refuses a corpus as it is released, of which nothing can be read."""
        if any(True for folder in folders for _ in audio_files(root / folder)):  # looks no further than to the first
            return
        if released := sum(1 for folder in folders for _ in audio_files(root / folder, {_RELEASED})):
            raise InputError(
                f"{self.name}: all {released} recordings in {root} are {_RELEASED} files, which cannot be read",
                f"convert each beside itself with ffmpeg: find {shlex.quote(str(root))} -name '*{_RELEASED}' "
                """-exec sh -c 'ffmpeg -nostdin -v error -i "$1" -ac 1 -ar 16000 "${1%.m4a}.wav"' _ {} \\;""",
            )


class VoxCeleb1(VoxCeleb):
    """VoxCeleb 1: 1251 speakers, 153 thousand utterances; options and layout as `VoxCeleb`."""

    name = "voxceleb1"
    folders = ("VoxCeleb1", "vox1", "VoxCeleb")
    how_to_get = (
        "request it at https://mm.kaist.ac.kr/datasets/voxceleb and unpack vox1_dev_wav.zip and vox1_test_wav.zip, "
        "with vox1_meta.csv beside them"
    )
    title = "VoxCeleb1"
    table = "vox1_meta.csv"
    own_speaker = re.compile(r"id1\d{4}")


class VoxCeleb2(VoxCeleb):
    """VoxCeleb 2: 6112 speakers, 1.13 million utterances; options and layout as `VoxCeleb`."""

    name = "voxceleb2"
    folders = ("VoxCeleb2", "vox2", "VoxCeleb")
    how_to_get = (
        "request it at https://mm.kaist.ac.kr/datasets/voxceleb, unpack vox2_dev_aac.zip and vox2_test_aac.zip, with "
        "vox2_meta.csv beside them, and convert the recordings to wav or flac"
    )
    title = "VoxCeleb2"
    table = "vox2_meta.csv"
    own_speaker = re.compile(r"id0\d{4}")


class _Survey:
    """The folders of each speaker, and the files in the folders above them; paths relative to the root."""

    def __init__(self, root: Path) -> None:
        self.speakers: dict[str, list[str]] = {}
        self.files: list[str] = []
        for folder, files in walk(root, closed=_SPEAKER):
            name = folder.rstrip("/").rpartition("/")[2]
            if _SPEAKER.fullmatch(name):
                self.speakers.setdefault(name, []).append(folder)
            else:
                self.files += [folder + file for file in files]


def _recordings(root: Path, folders: list[str]) -> dict[str, str]:
    """A speaker's recordings, `<video>/<number>`, each with its path; one that can be read goes before others."""
    paths: dict[str, str] = {}
    for folder in folders:
        for below in audio_files(root / folder, {_RELEASED, *AUDIO_SUFFIXES}):
            key = below[: below.rfind(".")]
            if key not in paths or suffix(paths[key]) == _RELEASED:
                paths[key] = folder + below
    return paths


def _split_of_folders(folders: list[str]) -> str | None:
    """The set that names such as `vox1_dev_wav` or `test` tell."""
    words = [word for folder in folders for word in re.split("[^a-z]+", folder.lower())]
    return next((_SETS[word] for word in words if word in _SETS), None)


def _read_table(root: Path, table: str) -> tuple[dict[str, _Speaker], list[Fault]]:
    """Reads the speakers' table: TAB separated in VoxCeleb 1, whatever its name, by padded commas in VoxCeleb 2."""
    lines = read_lines(root / table)
    reader = csv.reader(lines, delimiter=next((mark for mark in ",;" if mark in lines[0]), "\t"), skipinitialspace=True)
    try:
        header, *rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader] or [(1, [])]
    except csv.Error as error:
        raise InputError(
            f"{root / table}, line {reader.line_num} cannot be read: {error}",
            "is a quotation mark before it not closed?",
        ) from error
    titles = [re.sub("[^a-z]", "", cell.lower()) for cell in header[1]]
    place = {column: titles.index(name) for column, names in _COLUMNS.items() for name in names if name in titles}
    if "speaker" not in place or "gender" not in place:
        raise InputError(
            f"{root / table} needs a column of the speakers' ids and one of their genders, but begins: {lines[0]!r}",
            "restore the corpus's own header: VoxCeleb ID, VGGFace ID, Gender, Set",
        )
    listed: dict[str, _Speaker] = {}
    faults = []
    for number, row in rows:
        if not any(row):
            continue
        cells = {column: row[index] if index < len(row) else "" for column, index in place.items()}
        name, gender, split = cells["speaker"], cells["gender"], cells.get("split")
        if not _SPEAKER.fullmatch(name):
            faults.append(Fault(table, f"unknown speaker: '{name}' in line {number}"))
            continue
        if name in listed:
            faults.append(Fault(table, f"listed twice in {table}: {name}, again in line {number}"))
            continue
        listed[name] = _Speaker(_GENDERS.get(gender.lower()), _SETS.get((split or "").lower()))
        if listed[name].gender is None:
            faults.append(Fault(table, f"unknown gender: '{gender}' of {name} in line {number}"))
        if split is not None and listed[name].split is None:
            faults.append(Fault(table, f"unknown set: '{split}' of {name} in line {number}"))
    return listed, faults
