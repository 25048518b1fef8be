"""Run folders: their checkpoints, and all else that is in them."""

import functools
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from experiments.config import load_run
from experiments.files import BEST, LAST, read_json, read_scores, understood
from experiments.study.plan import read_study
from experiments.study.record import read_records, record_of
from tests import fakes
from tests.fuzzing.breaking import BYTES, TEXT, WORDS, broken, broken_json, broken_tree
from tests.fuzzing.kind import Act
from tests.fuzzing.settings import HOSTILE

ROOT = Path(__file__).parents[2]


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
