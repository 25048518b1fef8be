"""What was read before: manifests, packs, decoded speech."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np

from datamodules.building import (
    build_manifest,
    check_usable,
    is_current,
)
from datamodules.collection import Collection
from datamodules.corpora import make_reader
from datamodules.corpora.base import Reader
from datamodules.freshness import Stamps, read_state
from datamodules.manifest import SCHEMA, Manifest, state_file
from datamodules.packing import DESCRIPTION, Pack, pack_corpus
from datamodules.report import data_report
from datamodules.speech import BadAudioError, Decoded, Files
from tests import fakes
from tests.fuzzing.breaking import BYTES, broken, broken_json
from tests.fuzzing.kind import Act

CLASSES = {"happy": ["happiness"], "sad": ["sadness"], "neutral": ["neutral"], "angry": ["anger"]}


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
