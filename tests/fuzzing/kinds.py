"""The kinds of input that strangers hand out: how each is made whole, broken, and read as the product reads it."""

import functools
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import soundfile
from omegaconf import OmegaConf
from rich.console import Console

import datamodules.audio  # noqa: F401 - what loads late would be taken for what a case does
from datamodules.audit import AuditSettings, Inspection, inspect_segment
from datamodules.building import (
    _rows,
    build_manifest,
    check_usable,
    declared,
    explained_corpus,
    is_current,
    write_manifest,
)
from datamodules.collection import Collection, Span
from datamodules.corpora import make_reader
from datamodules.corpora.base import AUDIO_SUFFIXES, Fault, Reader, Utterance
from datamodules.errors import InputError
from datamodules.freshness import Stamps, read_state
from datamodules.manifest import SCHEMA, Manifest, state_file
from datamodules.packing import DESCRIPTION, Pack, pack_corpus
from datamodules.report import data_report, print_report
from datamodules.speech import BadAudioError, Decoded, Files
from experiments.config import load, load_run
from experiments.files import BEST, LAST, read_json, read_scores, understood
from experiments.study.plan import read_study
from experiments.study.record import read_records, record_of
from experiments.sweep.plan import read_sweep
from tests import fakes, trees
from tests.fuzzing.breaking import BYTES, TEXT, WORDS, broken, broken_json, broken_tree

Act = Callable[[], None]

ROOT = Path(__file__).parents[2]
CLASSES = {"happy": ["happiness"], "sad": ["sadness"], "neutral": ["neutral"], "angry": ["anger"]}


class Opened(Protocol):
    """A kind in one process, with whole input of its own."""

    def case(self, draw: random.Random, place: Path) -> Act:
        """Breaks input in a folder of the case; returns what is done with it."""

    def restore(self) -> None:
        """Makes whole what the case broke outside its folder."""


class Kind(Protocol):
    """A kind of input."""

    name: str

    def prepare(self, seeds: Path) -> None:
        """Writes whole input, once."""

    def opened(self, seeds: Path) -> Opened:
        """Is ready for cases, in a process that has a copy of that input."""


class Simple:
    """A kind whose cases write to their own folder alone.

    Args:
        name: Of the kind.
        prepare: Writes whole input into a folder.
        case: From the draw, whole input and the case's folder; breaks it and returns what is done with it.
    """

    def __init__(
        self, name: str, prepare: Callable[[Path], None], case: Callable[[random.Random, Path, Path], Act]
    ) -> None:
        self.name, self.prepare, self._case = name, prepare, case
        self.seeds = Path()

    def opened(self, seeds: Path) -> "Simple":
        self.seeds = seeds
        return self

    def case(self, draw: random.Random, place: Path) -> Act:
        return self._case(draw, self.seeds, place)

    def restore(self) -> None:
        pass


# Audio


def write_audio(seeds: Path) -> None:
    """A file of each format and coding that libsndfile writes."""
    speech = fakes.speech("fuzz", seconds=0.4, rate=16_000)
    for container in sorted(set(soundfile.available_formats()) - {"RAW"}):
        for coding in soundfile.available_subtypes(container):
            file = seeds / f"{container}-{coding}.{container.lower()}"
            try:
                soundfile.write(file, speech, 16_000, subtype=coding, format=container)
                soundfile.info(file)
            except (soundfile.LibsndfileError, TypeError, ValueError):  # RAW, and codings for other rates
                file.unlink(missing_ok=True)


def break_audio(draw: random.Random, seeds: Path, place: Path) -> Act:
    file = place / draw.choice(sorted(seeds.iterdir())).name
    content = (seeds / file.name).read_bytes()
    if draw.random() < 0.05:  # one format's beginning before another's end
        other = draw.choice(sorted(seeds.iterdir())).read_bytes()
        content = content[: draw.choice((12, 40, 100))] + other
    file.write_bytes(broken(content, draw, BYTES))
    span = draw.choice(((0.0, None), (0.0, None), (0.05, 0.2), (0.3, 5.0)))
    settings = AuditSettings(hash_content=draw.random() < 0.7)

    def act() -> None:
        found = inspect_segment(str(place), (file.name, *span), settings)
        # A file may also change after it was inspected.
        start, end = (found.speech_start, found.speech_end) if isinstance(found, Inspection) else (0.0, 0.4)
        try:
            Files(place, 16_000).read(Span(0, 0, file.name, start, end), 0.0, end - start)
        except BadAudioError as error:
            if not isinstance(found, Inspection):
                raise InputError(str(found)) from error

    return act


# Corpora


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
        self.changed.append(lambda: _drop(renamed.rename(file)))

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


# YAML

STUDY = b"""title: small
experiments: [demo]
folds: [0]
seeds: [0, 1]
systems:
  full: {}
  single_task: {}
  mine:
    label: of the user's own
    settings: {data.quota: 8, model.adversary.weight: 0}
curves:
  labels:
    label: share
    points: [{data.labelled_share: 0.1}, {data.labelled_share: 1}]
"""

SWEEP = b"""name: small
method: random
run_cap: 3
metric: {name: dev/uar, goal: maximize}
early_terminate: {type: hyperband, min_iter: 7, eta: 3}
parameters:
  model.optimiser.learning_rate: {distribution: log_uniform_values, min: 0.0005, max: 0.008}
  data.quota: {values: [24, 32]}
command: ["${env}", "${interpreter}", -m, experiments, train, demo, trainer.test=false, "${args_no_hyphens}"]
"""

HOSTILE = (
    b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
    b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n"
    b"g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n",
    b"data: " + b"[" * 5000,
    b"data: " + b"{a: " * 2000,
    b"data: &a {corpora: *a}\n",
    b"wandb: {project: '${oc.env:HOME}'}\n",
    b"wandb: {project: '${oc.env:HOME,x}${oc.create:x}'}\n",
    b"experiment: ${run}\nrun: ${experiment}\n",
    b"experiment: ${" * 500 + b"}" * 500,
    b"!!python/object/apply:os.system ['touch owned']\n",
    b"seed: !!python/name:os.system\n",
    b"seed: " + b"9" * 10_000 + b"\n",
    b"seed: 2024-99-99\n",
    b"extends: /etc/passwd\n",
    b"extends: ../../../etc/passwd\n",
    b"extends: [a, b]\n",
    b"extends: " + b"x" * 5000 + b"\n",
    b"wandb: {group: aaaaaaaaaa, entity: '${wandb.group}${wandb.group}', project: '${wandb.entity}${wandb.entity}'}\n",
    *(
        b"data: {corpora: {demo: {options: {a0: "
        + b"x" * 1000
        + b", "
        + b", ".join(
            b"a%d: '${data.corpora.demo.options.a%d}${data.corpora.demo.options.a%d}'" % (n + 1, n, n)
            for n in range(40)
        )
        + b"}}}}\n",
    ),
    b"---\na: 1\n---\nb: 2\n",
    b"? [1, 2]\n: 3\n",
    b"1: 2\n",
    b"null: 2\n",
    b"data: null\n",
    b"%YAML 9.9\n---\na: 1\n",
)


def write_yaml(seeds: Path) -> None:
    for folder in ("experiment", "sweep", "study"):
        (seeds / folder).mkdir()
    for file in (ROOT / "experiments").glob("*.yaml"):
        (seeds / "experiment" / file.name).write_bytes(file.read_bytes())
    (seeds / "sweep" / "small.yaml").write_bytes(SWEEP)
    (seeds / "study" / "small.yaml").write_bytes(STUDY)


def break_yaml(draw: random.Random, seeds: Path, place: Path) -> Act:
    what = draw.choice(("experiment", "experiment", "experiment", "experiment", "study", "sweep"))
    content = draw.choice(sorted((seeds / what).iterdir())).read_bytes()
    way = draw.random()
    if way < 0.04:
        content = draw.choice(HOSTILE)
    elif way < 0.08:
        content += draw.choice(HOSTILE)
    elif way < 0.5:
        import yaml  # type: ignore[import-untyped]

        tree = broken_tree(yaml.safe_load(content), draw)
        try:
            content = yaml.safe_dump(tree, allow_unicode=draw.random() < 0.5).encode("utf-8", "surrogatepass")
        except ValueError:  # more digits than Python writes
            content += b"seed: 0x" + b"f" * 9000
    else:
        content = broken(content, draw, TEXT)
    file = place / "x.yaml"
    file.write_bytes(content)
    if what == "study":
        return lambda: _drop(read_study(str(file)))
    if what == "sweep":
        return lambda: _drop(read_sweep(str(file)))
    settings = []
    if draw.random() < 0.3:
        setting = draw.choice(
            (b"data.quota=8", b"data.auxiliary.0.quota=3", b"model.code={a: 3}", b"data.classes={a: [b]}")
        )
        settings = [broken(setting, draw, TEXT).decode(errors="surrogateescape")]

    def act() -> None:
        config = load(str(file), settings)
        OmegaConf.to_yaml(OmegaConf.structured(config))

    return act


def _drop(_: Any) -> None:
    """Only whether it can be read is of interest."""


# Manifests, packs, caches


def write_corpus(seeds: Path) -> tuple[Manifest, Reader]:
    reader = make_reader("ravdess")
    root = seeds / "ravdess"
    fakes.ravdess(root, actors=2, statements=1, rate=16_000)
    return build_manifest(reader, root, seeds / "cache", hash_content=True, workers=1, progress=False), reader


def write_manifests(seeds: Path) -> None:
    write_corpus(seeds)


def break_manifest(draw: random.Random, seeds: Path, place: Path) -> Act:
    (whole,) = (seeds / "cache").glob("*.arrow")
    file = place / whole.name
    shutil.copy(whole, file)
    shutil.copy(state_file(whole), state_file(file))
    root = Path(read_state(state_file(whole))["root"])
    target = draw.choice((file, file, state_file(file)))
    content = broken(target.read_bytes(), draw, BYTES)
    if draw.random() < 0.6:  # of the same size: nothing is noticed at a glance
        content = (content + target.read_bytes()[len(content) :])[: target.stat().st_size]
    target.write_bytes(content)

    def act() -> None:
        if is_current(file, root):
            use_manifest(Manifest(file))

    return act


def use_manifest(manifest: Manifest) -> None:
    """What a run does with a manifest."""
    check_usable(manifest, 1.0)
    manifest.class_codes({"happy": ["happiness"]})
    for name in ("speaker", "gender", "emotion", "split"):
        manifest.values(name, range(len(manifest)))
    for name in SCHEMA.names:
        manifest.column(name)
    collection = Collection([manifest])
    collection.spans(np.arange(len(manifest)))
    data_report([manifest], CLASSES, 0)
    if len(manifest):
        manifest.row(0)


def write_packs(seeds: Path) -> None:
    manifest, _ = write_corpus(seeds)
    pack_corpus(manifest, seeds / "packs", 200_000)


def break_pack(draw: random.Random, seeds: Path, place: Path) -> Act:
    whole = seeds / "packs" / "ravdess"
    folder = place / "ravdess"
    folder.mkdir()
    for file in whole.iterdir():
        os.link(file, folder / file.name)
    target = folder / draw.choice(
        (DESCRIPTION, "manifest.arrow", "manifest.arrow", "manifest.state", "rows.index", "shard-00000.bin")
    )
    content = target.read_bytes()
    target.unlink()
    changed = broken_json(content, draw) if target.name == DESCRIPTION else broken(content, draw, BYTES)
    if draw.random() < 0.5 and target.name != DESCRIPTION:
        changed = (changed + content[len(changed) :])[: len(content)]
    target.write_bytes(changed)
    if target.name != DESCRIPTION and draw.random() < 0.8:  # whoever means harm also writes down what it is
        description = json.loads((folder / DESCRIPTION).read_text())
        description["files"][target.name] = len(changed)
        if target.name == "manifest.arrow":
            import hashlib

            digest = hashlib.sha256(changed).hexdigest()
            description["manifest"] = digest
            known = read_state(whole / "manifest.state")
            (folder / "manifest.state").unlink()
            Stamps(Path(known["root"])).write(
                folder / "manifest.state", known | {"sha256": digest, "bytes": len(changed)}
            )
            description["files"]["manifest.state"] = (folder / "manifest.state").stat().st_size
        (folder / DESCRIPTION).unlink()
        (folder / DESCRIPTION).write_text(json.dumps(description))
    reader = make_reader("ravdess")

    def act() -> None:
        pack = Pack(folder)
        pack.check(reader, True)
        use_manifest(pack.manifest)
        source = pack.source(16_000)
        for span in Collection([pack.manifest]).spans(np.arange(min(4, len(pack.manifest)))):
            try:
                source.read(span, 0.0, min(span.end - span.start, 60.0))
            except BadAudioError:
                continue

    return act


def write_decoded(seeds: Path) -> None:
    from datamodules.decoding import decode_corpus

    manifest, _ = write_corpus(seeds)
    source = Files(manifest.root, 16_000)
    decode_corpus(manifest, source, 16_000, seeds / "cache", workers=1, progress=False)


def break_decoded(draw: random.Random, seeds: Path, place: Path) -> Act:
    (whole,) = (seeds / "cache").glob("*.pcm")
    (known,) = (seeds / "cache").glob("*.arrow")
    content = whole.read_bytes()
    head = content[:400]  # offsets and sizes
    content = broken(head, draw, BYTES) + content[400:] if draw.random() < 0.8 else broken(content, draw, BYTES)
    file = place / whole.name
    file.write_bytes(content)
    manifest = Manifest(known)
    source = Decoded(file, 16_000, Files(seeds / "ravdess", 16_000))

    def act() -> None:
        for span in Collection([manifest]).spans(np.arange(len(manifest))):
            try:
                source.read(span, 0.0, span.end - span.start)
            except BadAudioError:
                continue

    return act


# Runs


def write_runs(seeds: Path) -> None:
    """A run of one small epoch, made by the command line, in a process of its own: it starts threads."""
    from tests import runs

    fakes.ravdess(seeds / "corpora" / "ravdess", actors=6, statements=1)
    fakes.librispeech(seeds / "corpora" / "librispeech")
    settings = [*runs.SMALL, *runs.places(seeds / "corpora", seeds / "runs"), "wandb.enabled=false", "run=whole"]
    command = [sys.executable, "-m", "experiments", "train", "ravdess_cat", *settings, "split.folds=3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    shutil.rmtree(seeds / "corpora")
    # Imported here, and not by each process that takes cases.
    import experiments.comparison
    import experiments.study.tables
    import experiments.teachers  # noqa: F401


def copied(seeds: Path, place: Path) -> tuple[Path, Path]:
    """The whole run, and a copy of it that can be broken file by file."""
    whole, folder = seeds / "runs" / "ravdess_cat" / "whole", place / "run"
    shutil.copytree(whole, folder, copy_function=os.link, ignore=shutil.ignore_patterns("figures", "wandb"))
    return whole, folder


def replaced(file: Path, content: bytes) -> None:
    file.unlink(missing_ok=True)  # the whole one stays what it is
    file.write_bytes(content)


def break_run(draw: random.Random, seeds: Path, place: Path) -> Act:
    from experiments.comparison import print_comparison
    from experiments.resuming import unfinished

    whole, folder = copied(seeds, place)
    names = (
        "results.json",
        "environment.json",
        "data_report.json",
        "config.yaml",
        "metrics.csv",
        "predictions_test.csv",
    )
    name = draw.choice(names)
    content = (folder / name).read_bytes()
    if name.endswith(".json"):
        content = broken_json(content, draw)
    elif name == "config.yaml" and draw.random() < 0.1:
        content = draw.choice(HOSTILE)
    else:
        content = broken(content, draw, TEXT)
    replaced(folder / name, content)
    records = place / "records.jsonl"
    known = _record(whole)
    records.write_bytes(broken_json(known, draw) if draw.random() < 0.5 else broken(known * 3, draw, TEXT))
    way = draw.choice((0, 1, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 4, 4, 4))

    def act() -> None:
        # To read a configuration takes longer than all else.
        config = load_run(folder) if name == "config.yaml" or way in (0, 2) else _config(whole)
        if way == 0:
            print_comparison(folder, [whole])
        elif way == 1:
            record_of("s", "full", {}, config, folder)
        elif way == 2:
            read_scores(folder, "dev/uar")
            read_json(folder / "data_report.json")
            (folder / "results.json").unlink()
            config.output, config.run, config.experiment = str(place.parent), "run", place.name
            unfinished(config)
        elif way == 3:
            make_report(records, place)
        else:
            read_teacher(whole, folder)

    _study()
    return act


@functools.cache
def _config(whole: Path) -> Any:
    return load_run(whole)


@functools.cache
def _record(whole: Path) -> bytes:
    from dataclasses import asdict

    return json.dumps(asdict(record_of("small", "full", {}, _config(whole), whole))).encode() + b"\n"


def make_report(records: Path, place: Path) -> None:
    """Tables of a study from records of a stranger."""
    from experiments.study.tables import write_tables

    write_tables(_study(), read_records(records), place / "tables")


@functools.cache
def _study() -> Any:
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write("name: small\nexperiments: [ravdess_cat]\nsystems: {full: {}, single_task: {}}\n")
        file.flush()
        return read_study(file.name)


def read_teacher(whole: Path, folder: Path) -> None:
    from experiments.teachers import _reasons_against

    here: Any = SimpleNamespace(report=read_json(whole / "data_report.json"))
    with understood(folder / "data_report.json"):
        _reasons_against(folder, _config(whole), _config(whole), here)


def break_checkpoint(draw: random.Random, seeds: Path, place: Path) -> Act:
    import torch

    from experiments.comparison import compare
    from experiments.records import last_checkpoint, read_checkpoint

    whole, folder = copied(seeds, place)
    name = draw.choice((BEST, LAST))
    content = (folder / name).read_bytes()
    way = draw.random()
    if way < 0.5:
        content = broken(content, draw, BYTES)
    elif way < 0.8:
        content = saved(broken_tree(torch.load(io.BytesIO(content), weights_only=True), draw), content)
    else:
        content = hostile_checkpoint(content, draw, place)
    replaced(folder / name, content)
    step = draw.choice((0, 0, 0, 0, 1, 1, 1, 1, 2))  # the last reads configurations, too, which takes long

    def act() -> None:
        if step == 0:
            read_checkpoint(folder / name)
        elif step == 1:
            last_checkpoint(folder)
        else:
            compare(whole, folder)

    return act


def saved(tree: Any, otherwise: bytes) -> bytes:
    import torch

    stream = io.BytesIO()
    try:
        torch.save(tree, stream)
    except (UnicodeEncodeError, ValueError, OverflowError):
        return otherwise[:-100]
    return stream.getvalue()


def hostile_checkpoint(content: bytes, draw: random.Random, place: Path) -> bytes:
    """A checkpoint whose pickle would do something, or grow; whose archive would."""
    import pickle
    import zipfile

    touch = f"touch {place.parent / 'owned'}"
    head = b"\x80\x02"
    pickles = [
        head + b"cposix\nsystem\n" + pickle_text(touch) + b"\x85R.",
        head + b"cbuiltins\neval\n" + pickle_text(f"open({str(place.parent / 'owned')!r}, 'w')") + b"\x85R.",
        head + b"cbuiltins\ngetattr\ncos\nsystem\n" + pickle_text("x") + b"\x86R.",
        head + b"ctorch.serialization\nload\n" + pickle_text("/etc/passwd") + b"\x85R.",
        head + b"ctorch\nload\n" + pickle_text("/etc/passwd") + b"\x85R.",
        head + b"ctorch._utils\n_rebuild_tensor_v2\n(" + pickle_text("x") + b"K\x00(K\x05tK\x01tR.",
        head + b"(" * 100_000 + b"t" * 100_000 + b".",
        head + b"]q\x00h\x00a" * 10_000 + b".",
        head + b"X\xff\xff\xff\x7fabc.",
        head + b"\x8b\xff\xff\xff\x7fabc.",
        head + b"B\xff\xff\xff\x7fabc.",
        head + b"]" + b"(" + b"N" * 100_000 + b"e.",
        head + b"}" + b"r\xff\xff\xff\x7f.",
        head + b"K\x01" + b"2\x86" * 40 + b".",
        head + b"ccollections\nOrderedDict\n)R}(" + pickle_text("state_dict") + b"NutR.",
    ]
    chosen = draw.choice(pickles)
    if draw.random() < 0.2:
        return chosen
    if draw.random() < 0.3:
        chosen = pickle.dumps({"state_dict": [pickle.PickleBuffer(b"x") and None], "epoch": draw.choice(WORDS[:20])}, 2)
    bomb = draw.random() < 0.3
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as known, zipfile.ZipFile(stream, "w") as archive:
        for member in known.infolist():
            data = known.read(member)
            if member.filename.endswith("data.pkl") and not bomb:
                data = chosen
            elif bomb and "/data/" in member.filename:
                archive.writestr(member.filename, bytes(1 << 20), zipfile.ZIP_DEFLATED)
                bomb = draw.random() < 0.8
                continue
            archive.writestr(member.filename, data)
    return stream.getvalue()


def pickle_text(text: str) -> bytes:
    """A text as pickles of protocol 2 hold it."""
    encoded = text.encode()
    return b"X" + len(encoded).to_bytes(4, "little") + encoded


def _by_name(*kinds: Kind) -> Mapping[str, Kind]:
    return {kind.name: kind for kind in kinds}


KINDS = _by_name(
    Simple("audio", write_audio, break_audio),
    Annotations(),
    Simple("tables", write_tables, break_table),
    Simple("yaml", write_yaml, break_yaml),
    Simple("manifests", write_manifests, break_manifest),
    Simple("packs", write_packs, break_pack),
    Simple("decoded", write_decoded, break_decoded),
    Simple("checkpoints", write_runs, break_checkpoint),
    Simple("runs", write_runs, break_run),
)
