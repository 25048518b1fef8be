"""Corpora: annotation files of every reader, and tables of the user's own."""

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from datamodules.audit import AuditSettings, Inspection
from datamodules.building import (
    _rows,
    check_usable,
    declared,
    explained_corpus,
    write_manifest,
)
from datamodules.corpora import make_reader
from datamodules.corpora.base import AUDIO_SUFFIXES, Fault, Reader, Utterance
from datamodules.freshness import Stamps
from datamodules.manifest import Manifest
from datamodules.report import data_report, print_report
from tests import fakes, trees
from tests.fuzzing.breaking import BYTES, TEXT, WORDS, broken, broken_tree
from tests.fuzzing.kind import Act, drop

CLASSES = {"happy": ["happiness"], "sad": ["sadness"], "neutral": ["neutral"], "angry": ["anger"]}


def read_corpus(reader: Reader, root: Path, place: Path, told: bool) -> None:
    """Reads a corpus as the product does, but for its audio: manifest, report and tables."""
    file = place / "m.arrow"
    odd, utterances = [], []
    with explained_corpus(reader.corpus, root, file):
        found = list(reader.read(root))
    for one in found:
        name = one.path.encode(errors="backslashreplace").decode()
        if isinstance(one, Fault) or name != one.path:
            odd.append(Fault(name, getattr(one, "reason", "file name")))
        else:
            utterances.append(one)
    if outside := [one.path for one in utterances if _leaves(root, one)]:
        raise AssertionError(f"it would read outside its root: {outside[0]}")
    seen = Inspection(0.0, 1.0, 16_000, 16_000, 0.0, 1.0, "0" * 32, 1, 1)
    batch, unusable = _rows(reader, utterances, [seen] * len(utterances))
    write_manifest(file, [batch], declared(reader, AuditSettings(), [*odd, *unusable]), Stamps(root))
    manifest = Manifest(file)
    check_usable(manifest, 1.0)
    report = data_report([manifest], CLASSES, 0)
    json.dumps(report, allow_nan=False)
    if told:
        print_report(report, Console(file=io.StringIO(), width=120))


def _leaves(root: Path, one: Utterance) -> bool:
    path = os.path.normpath(f"{root}/{one.path}")
    return not f"{path}/".startswith(f"{root}/")


CORPORA: dict[str, Callable[[Path], Any]] = {
    "ravdess": lambda root: fakes.ravdess(root, actors=2, statements=1),
    "nemo": lambda root: fakes.nemo(root, speakers=2, sentences=1),
    "librispeech": fakes.librispeech,
    "voxceleb1": fakes.voxceleb1,
    "voxceleb2": fakes.voxceleb2,
    "iemocap": trees.iemocap,
    "msp_improv": trees.msp_improv,
    "msp_podcast": trees.msp_podcast,
    "cremad": fakes.cremad,
    "emodb": fakes.emodb,
    "audformat": lambda root: write_audformat(root),
    "folder": lambda root: fakes.ravdess(root, actors=1, statements=1),
}
"""By reader; where there is no annotation, names of files and folders are."""


def write_audformat(root: Path) -> None:
    """A database with a table of each kind; half of them in Parquet."""
    import audformat
    import pandas as pd

    db = audformat.Database("mine", source="https://example.org", usage="research", languages=["deu"])
    db.raters["gold"] = audformat.Rater("human")
    db.splits["train"] = audformat.Split("train")
    db.schemes["emotion"] = audformat.Scheme("str", labels=["anger", "happiness", "sadness"])
    db.schemes["arousal"] = audformat.Scheme("float", minimum=1, maximum=5)
    db.schemes["gender"] = audformat.Scheme("str", labels=["female", "male"])
    people = pd.Index([3, 8], dtype="Int64", name="speaker")
    fakes.audformat_table(db, "speaker", people, {"gender": (["male", "female"], "gender")})
    db.schemes["speaker"] = audformat.Scheme("int", labels="speaker")
    names = ["wav/a.wav", "wav/b.wav", "wav/c.wav"]
    index = audformat.segmented_index(names, ["0s", "0.1s", "0s"], ["0.4s", "0.5s", None])
    rated = {
        "emotion": (["anger", "happiness", None], "emotion", "gold"),
        "arousal": ([1.5, 5, None], "arousal", "gold"),
    }
    fakes.audformat_table(db, "emotion", index, rated, split="train")
    fakes.audformat_table(db, "files", audformat.filewise_index(names), {"speaker": ([3, 3, 8], "speaker")})
    fakes.audformat_database(root, db, "csv", seconds=0.5)
    (root / "other").mkdir()
    db.save(root / "other", storage_format="parquet")
    (root / "other" / "db.emotion.parquet").rename(root / "db.emotion.parquet")
    shutil.rmtree(root / "other")


class Annotations:
    """Annotation files, and names, of every corpus that there is a reader for."""

    name = "annotations"

    def prepare(self, seeds: Path) -> None:
        for name, write in CORPORA.items():
            write(seeds / name)

    def opened(self, seeds: Path) -> "Annotations":
        self.seeds = seeds
        self.files: dict[str, list[Path]] = {}
        self.audio: dict[str, list[Path]] = {}
        for name in CORPORA:
            files = [file for file in sorted((seeds / name).rglob("*")) if file.is_file()]
            self.audio[name] = [file for file in files if file.suffix.lower() in AUDIO_SUFFIXES]
            self.files[name] = [file for file in files if file.suffix.lower() not in AUDIO_SUFFIXES]
        self.whole = {file: file.read_bytes() for files in self.files.values() for file in files}
        self.changed: list[Callable[[], None]] = []
        return self

    def case(self, draw: random.Random, place: Path) -> Act:
        name = draw.choice(list(CORPORA))
        if not self.files[name] and draw.random() < 0.7:  # names alone are soon gone through
            name = draw.choice([one for one in CORPORA if self.files[one]])
        for _ in range(draw.choice((1, 1, 2))):
            if self.files[name] and draw.random() < 0.85:
                self._break(draw.choice(self.files[name]), draw)
            else:
                self._rename(draw.choice(self.audio[name]), draw)
        options = {"subsets": ("dev-clean",)} if name == "librispeech" and draw.random() < 0.2 else {}
        reader, root, told = make_reader(name, options), self.seeds / name, draw.random() < 0.25
        return lambda: read_corpus(reader, root, place, told)

    def _break(self, file: Path, draw: random.Random) -> None:
        content = self.whole[file]
        if not file.is_file():  # it was broken before
            return
        if draw.random() < 0.03:  # it is gone, or something else has its name
            file.unlink()
            if draw.random() < 0.5:
                file.symlink_to(file) if draw.random() < 0.5 else file.mkdir()
        else:
            file.write_bytes(broken(content, draw, BYTES if file.suffix == ".parquet" else TEXT))

        def undo() -> None:
            if file.is_dir() and not file.is_symlink():
                file.rmdir()
            file.unlink(missing_ok=True)
            file.write_bytes(content)

        self.changed.append(undo)

    def _rename(self, file: Path, draw: random.Random) -> None:
        if draw.random() < 0.3 and file.parent.name not in CORPORA:
            file = file.parent
        old = file.name.encode()
        new = draw.choice(
            (broken(old, draw, TEXT), draw.choice(WORDS).encode("utf-8", "surrogatepass") + old, old[::-1])
        )
        new = new.replace(b"/", b"-").replace(b"\x00", b"0")[-200:]
        to = os.fsencode(file.parent) + b"/" + new
        if new in (b"", b".", b"..") or os.path.lexists(to) or not file.exists():
            return
        renamed = Path(os.fsdecode(to))
        file.rename(renamed)
        self.changed.append(lambda: drop(renamed.rename(file)))

    def restore(self) -> None:
        while self.changed:
            self.changed.pop()()


def write_tables(seeds: Path) -> None:
    rows = [
        {
            "path": f"a/{number}.wav",
            "speaker": f"0{number % 3}",
            "gender": ("female", "male", "other")[number % 3],
            "emotion": ("angry", "happy", "sad", "")[number % 4],
            "start": ("", "0.5")[number % 2],
            "end": ("", "1.5")[number % 2],
            "activation": 0.1 * number,
            "split": ("train", "dev", "test")[number % 3],
        }
        for number in range(9)
    ]
    (seeds / "a").mkdir()
    for number in range(9):
        (seeds / f"a/{number}.wav").write_bytes(b"RIFF")
    (seeds / "out").symlink_to("/etc")
    fakes.table(seeds / "t.csv", rows)
    fakes.table(seeds / "t.tsv", rows, delimiter="\t")
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = {name: [row[name] for row in rows] for name in rows[0]}
    columns["start"] = columns["end"] = [0.0, 0.5, None] * 3
    pq.write_table(pa.table(columns), seeds / "t.parquet")
    pq.write_table(pa.table(columns), seeds / "u.parquet", compression="gzip", row_group_size=4)


def break_table(draw: random.Random, seeds: Path, place: Path) -> Act:
    file = draw.choice([one for one in sorted(seeds.iterdir()) if one.is_file()])
    (place / file.name).write_bytes(broken(file.read_bytes(), draw, BYTES if file.suffix == ".parquet" else TEXT))
    options: dict[str, Any] = {"path": str(place / file.name)}
    if draw.random() < 0.2:
        options = broken_tree(
            options
            | {"columns": {"emotion": "label", "path": "file"}, "ranges": {"valence": [1, 5]}, "corpus": "mine"},
            draw,
        )
    told = draw.random() < 0.25

    def act() -> None:
        if isinstance(options, dict) and all(isinstance(key, str) for key in options):  # the configuration sees to that
            read_corpus(make_reader("table", options), seeds, place, told)

    return act
