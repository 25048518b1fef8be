"""Files of strangers: nothing in them is run, they cost little, and nobody's own files are read or written over."""

import hashlib
import io
import json
import pickle
import shutil
import struct
import time
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch

from datamodules.audit import MAX_HOURS, AuditSettings, Unusable, inspect_segment
from datamodules.building import build_manifest, is_current
from datamodules.collection import Span
from datamodules.corpora import make_reader
from datamodules.corpora.base import Utterance
from datamodules.errors import InputError
from datamodules.freshness import Stamps, read_state
from datamodules.locks import open_unlinked
from datamodules.manifest import Manifest, state_file
from datamodules.packing import DESCRIPTION, Pack, pack_corpus
from datamodules.speech import BadAudioError, Files, _resampler
from datamodules.yaml_text import read_yaml_text
from experiments.__main__ import main
from experiments.config import load
from experiments.files import BEFORE, BEST, LAST, check_links, check_ours, read_json, read_scores, replacing
from experiments.records import read_checkpoint
from experiments.study.plan import read_study
from experiments.study.record import read_records
from experiments.sweep.plan import read_sweep
from tests import fakes, runs

EXPERIMENT = "ravdess_cat"
SETTINGS = ("wandb.enabled=false", "split.folds=3")


class Creates:
    """Unpickled, creates a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.file), "w")


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    fakes.ravdess(root / "ravdess", actors=6, statements=1)
    fakes.librispeech(root / "librispeech")
    return root


@pytest.fixture(scope="module")
def finished(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder."""
    return runs.train(EXPERIMENT, corpora, tmp_path_factory.mktemp("runs"), *SETTINGS, wandb=False)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must be refused, and returns its message."""

    def run(*arguments: object) -> str:
        capsys.readouterr()
        assert main([str(argument) for argument in arguments]) == 2
        told = capsys.readouterr().err
        assert "Traceback" not in told
        assert told.count("error: ") == 1
        return told

    return run


# Checkpoints


def poison(checkpoint: Path, file: Path) -> None:
    """Puts something into a checkpoint that creates a file when it is unpickled."""
    content = torch.load(checkpoint, weights_only=True)
    checkpoint.unlink()
    torch.save(content | {"epoch_note": Creates(file)}, checkpoint)


def test_the_hostile_checkpoint_of_these_tests_does_harm_where_it_is_trusted(finished: Path, tmp_path: Path) -> None:
    checkpoint = Path(shutil.copy(finished / BEST, tmp_path))
    poison(checkpoint, tmp_path / "created")
    torch.load(checkpoint, weights_only=False)
    assert (tmp_path / "created").exists()


@pytest.mark.parametrize("command", ["resume", "evaluate", "compare", "teachers"])
def test_a_hostile_checkpoint_is_refused(
    command: str, corpora: Path, finished: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(finished, folder)
    name = LAST if command == "resume" else BEST
    poison(folder / name, tmp_path / "created")
    arguments: dict[str, list[object]] = {
        "resume": ["resume", folder],
        "evaluate": ["evaluate", folder],
        "compare": ["compare", finished, folder],
    }
    if command == "resume":
        (folder / "results.json").unlink()
    if command == "teachers":
        taught = [f"trainer.teachers=[{folder}]", "model.consistency.weight=1", "run=taught"]
        arguments["teachers"] = ["train", EXPERIMENT, *runs.SMALL, *SETTINGS, *runs.places(corpora, tmp_path), *taught]
    told = refused(*arguments[command])
    assert f"{folder / name} asks for" in told
    assert "open, and was not opened" in told
    assert not (tmp_path / "created").exists()
    assert (folder / name).exists(), "it was put aside, as a damaged one is"
    assert not (tmp_path / EXPERIMENT / "taught").exists()


def test_a_bare_pickle_is_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "x.ckpt"
    file.write_bytes(pickle.dumps(Creates(tmp_path / "created"), 2))
    with pytest.raises(InputError, match="cannot be read"):
        read_checkpoint(file)
    assert not (tmp_path / "created").exists()


def test_an_archive_that_would_grow_is_refused(finished: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(finished / BEST) as known, zipfile.ZipFile(tmp_path / "x.ckpt", "w") as archive:
        for member in known.infolist():
            way = zipfile.ZIP_DEFLATED if "/data/" in member.filename else zipfile.ZIP_STORED
            archive.writestr(member.filename, known.read(member), way)
    with pytest.raises(InputError, match="compressed"):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    "change",
    [
        {"state_dict": None},
        {"state_dict": {"weight": "none"}},
        {"epoch": "last"},
    ],
)
def test_a_checkpoint_of_something_else(change: dict[str, Any], finished: Path, tmp_path: Path) -> None:
    torch.save(torch.load(finished / BEST, weights_only=True) | change, tmp_path / "x.ckpt")
    with pytest.raises(InputError, match="is no checkpoint of a run"):
        read_checkpoint(tmp_path / "x.ckpt")


@pytest.mark.parametrize("change", [{"loops": None}, {"optimizer_states": [{"state": 3, "param_groups": []}]}])
def test_a_checkpoint_that_lacks_what_a_training_goes_on_from(
    change: dict[str, Any], finished: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(finished, folder)
    for name in ("results.json", BEFORE):
        (folder / name).unlink(missing_ok=True)
    content = torch.load(folder / LAST, weights_only=True)
    key = next(iter(change))
    if change[key] is None:
        del content[key]
    else:
        content |= change
    torch.save(content, folder / LAST)
    if change[key] is None:  # as a damaged one: it is begun again
        assert main(["resume", str(folder)]) == 0
        assert (folder / LAST.with_suffix(".damaged")).exists()
    else:
        assert f"cannot go on from {folder / LAST}: " in refused("resume", folder)


# YAML

BOMB = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in pairwise("abcdefghij")
)
"""A thousand million values."""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "values"),
        ("data: &a {corpora: *a}\n", "within what it stands for"),
        ("data: " + "[" * 100_000, "levels"),
        ("data: " + "{a: " * 100_000, "levels"),
        ("# " + "x" * (1 << 20), "bytes"),
        ("seed: !!python/object/apply:os.system ['touch created']\n", "python/object"),
        ("seed: " + "9" * 10_000, "digits"),
        ("seed: 2024-99-99\n", "could not be converted to Integer"),
        ("seed: \x07\n", "special characters|control characters"),
        ("seed: [1, 2\n", "YAML"),
        ("wandb: {project: '${oc.env:HOME}'}\n", "resolver"),
        ("wandb: {project: '${oc.create:x}'}\n", "resolver"),
        ("wandb: {tags: [" + "'${seed}', " * 20 + "]}\n", "more than 10 settings"),
        ("wandb: {project: '${wandb.entity}', entity: '${wandb.project}'}\n", "nterpolation"),
        ("experiment: ../../elsewhere\n", "no name of a folder"),
        ("run: /elsewhere\n", "no name of a folder"),
        ("3.5\n", "YAML|no settings"),
        ("3\n", "YAML|no settings"),
        ("[a, b]\n", "no settings"),
        ("extends: '${seed}'\n", "extends refers to a setting"),
        ("extends: [demo]\n", "extends is"),
        (f"extends: {'x' * 5000}\n", "unknown experiment"),
        (f"seed: 0x{'f' * 5000}\n", "a number of 20000 bits"),
        ("data: {labelled: [[]]}\n", "data.labelled"),
    ],
    ids=lambda value: value[:24],
)  # fmt: skip
def test_settings_of_a_stranger(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/secret")
    (tmp_path / "x.yaml").write_text(text)
    began = time.process_time()
    with pytest.raises(InputError, match=told):
        load("x.yaml")
    assert time.process_time() - began < 5
    assert "/secret" not in refused("manifest", "x.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["x.yaml"]


def test_resolvers_in_studies_and_sweeps(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(
        "experiments: [demo]\nsystems: {full: {settings: {wandb.project: '${oc.env:HOME}'}}, single_task: {}}\n"
    )
    with pytest.raises(InputError, match="resolver"):
        read_study(str(tmp_path / "x.yaml"))
    (tmp_path / "y.yaml").write_text(
        "method: random\nrun_cap: 1\nmetric: {name: dev/uar, goal: maximize}\n"
        "parameters: {wandb.project: {values: ['${oc.env:HOME}', b]}}\n"
        "command: [python, -m, experiments, train, demo, trainer.test=false, '${args_no_hyphens}']\n"
    )
    with pytest.raises(InputError, match="resolver"):
        read_sweep(str(tmp_path / "y.yaml"))


def test_a_study_whose_experiments_are_none(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("experiments: [{a: b}]\nsystems: {full: {}, single_task: {}}\n")
    with pytest.raises(InputError, match="experiments"):
        read_study(str(tmp_path / "x.yaml"))


def test_large_files_that_a_corpus_may_have_are_read(tmp_path: Path) -> None:
    (tmp_path / "db.yaml").write_text("speakers: [" + "a, " * 200_000 + "]\n")
    with pytest.raises(InputError, match="values"):
        read_yaml_text(tmp_path / "db.yaml")
    assert read_yaml_text(tmp_path / "db.yaml", most_values=1_000_000)


# Messages


def test_a_message_moves_no_cursor_and_fills_no_terminal() -> None:
    told = str(InputError("a\x1b[2Jb\rc\u202ed\x00\ud800", "x" * 10_000))
    assert told.startswith("a\\x1b[2Jb\\rc\\u202ed\\x00\\ud800\n  xxx")
    assert len(told) < 2000
    assert len(str(InputError("\x00" * 10_000))) < 2000


# Tables


def read_table(root: Path, *paths: str, **options: Any) -> list[Utterance]:
    table = root / "t.csv"
    table.write_text("\n".join(["path", *paths]) + "\n")
    found = make_reader("table", {"path": str(table), **options}).read(root)
    return [one for one in found if isinstance(one, Utterance)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A corpus beside which there is something else, and links from one to the other."""
    (tmp_path / "root" / "a").mkdir(parents=True)
    (tmp_path / "else").mkdir()
    fakes.write(tmp_path / "else" / "secret.wav", fakes.speech("x", seconds=0.5))
    fakes.write(tmp_path / "root" / "a" / "own.wav", fakes.speech("y", seconds=0.5))
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "else")
    (tmp_path / "root" / "file.wav").symlink_to(tmp_path / "else" / "secret.wav")
    (tmp_path / "root" / "own.wav").symlink_to("a/own.wav")
    (tmp_path / "root" / "b").symlink_to("a")
    return tmp_path / "root"


@pytest.mark.parametrize(
    "path",
    ["../else/secret.wav", "a/../../else/secret.wav", "{root}/../else/secret.wav", "folder/secret.wav", "file.wav",
     "a/../folder/secret.wav", "..\\else\\secret.wav", "..", "/etc/passwd"],
)  # fmt: skip
def test_a_table_does_not_leave_its_root_unless_it_says_so(path: str, root: Path) -> None:
    path = path.format(root=root)
    with pytest.raises(InputError, match=r"leaves the corpus root[\s\S]*outside=true"):
        read_table(root, "a/own.wav", path)
    found = read_table(root, "a/own.wav", path, outside=True)
    assert (root / found[1].path).resolve() == Path(root, path.replace("\\", "/")).resolve()


def test_links_within_the_root_are_followed(root: Path) -> None:
    paths = ["a/own.wav", "own.wav", "b/own.wav", f"{root}/a/own.wav", "missing.wav", "x" * 300 + ".wav"]
    assert [one.path for one in read_table(root, *paths)] == [*paths[:3], "a/own.wav", *paths[4:]]


def test_the_option_changes_no_manifest_that_does_without(root: Path) -> None:
    assert "outside" not in make_reader("table", {"path": "t.csv"}).options()
    assert make_reader("table", {"path": "t.csv", "outside": True}).options()["outside"] is True
    assert "outside" not in make_reader("audformat").options()


def parquet(file: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), file)
    return file


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"columns": "emotion"}, "columns is 'emotion'"),
        ({"columns": {"emotion": 3}}, "columns.emotion is 3"),
        ({"ranges": "valence"}, "ranges is 'valence'"),
        ({"ranges": {"valence": 5}}, "ranges.valence = 5 is no range"),
        ({"ranges": {"valence": ["a", "b"]}}, "is no range"),
        ({"ranges": {"valence": [1, [5]]}}, "is no range"),
        ({"ranges": {"valence": [0, float("nan")]}}, "is no range"),
        ({"path": "x" * 5000}, "the table 'xxx"),
        ({"path": "a\0b"}, "does not exist"),
    ],
)
def test_options_of_a_table(options: dict[str, Any], told: str, root: Path) -> None:
    with pytest.raises(InputError, match=told):
        list(make_reader("table", {"path": "t.csv", **options}).read(root))


def test_tables_whose_text_is_none(root: Path) -> None:
    words = pa.array([b"a/own.wav", b"\xff\xfe.wav"])
    cast = pa.Array.from_buffers(pa.string(), 2, words.buffers())
    for name, columns in (("bytes", {"path": words}), ("string", {"path": cast})):
        file = parquet(root / f"{name}.parquet", **columns)
        with pytest.raises(InputError, match="UTF"):
            list(make_reader("table", {"path": str(file)}).read(root))
    content = bytearray(parquet(root / "page.parquet", path=["a/own.wav"] * 100).read_bytes())
    content[8:40] = bytes(32)
    (root / "page.parquet").write_bytes(content)
    with pytest.raises(InputError, match="is not a Parquet table"):
        list(make_reader("table", {"path": str(root / "page.parquet")}).read(root))
    (root / "t.csv").write_bytes(b"path,emo\rtion\na/own.wav,x\n")
    with pytest.raises(InputError, match=r"header of column names|has no column|cannot be read as a table"):
        list(make_reader("table", {"path": "t.csv"}).read(root))


# Corpora


@pytest.mark.parametrize("kind", ["folder", "loop", "field"])
def test_an_annotation_that_is_no_table_is_told_with_the_corpus(kind: str, tmp_path: Path) -> None:
    fakes.nemo(tmp_path / "nemo", speakers=2, sentences=1)
    table = tmp_path / "nemo" / "data.tsv"
    content = table.read_bytes()
    table.unlink()
    if kind == "folder":
        table.mkdir()
    elif kind == "loop":
        table.symlink_to(table)
    else:
        table.write_bytes(content + b"x" * 200_000 + b"\tanger\n")
    with pytest.raises(InputError, match="nemo"):
        build_manifest(
            make_reader("nemo"), tmp_path / "nemo", tmp_path / "cache", hash_content=True, workers=1, progress=False
        )


# Audio


def wav(file: Path, channels: int = 1, rate: int = 16_000, data: int = 3200, promised: int | None = None) -> Path:
    size = data if promised is None else promised
    form = struct.pack("<HHIIHH", 1, channels, rate, rate * 2 & 0xFFFFFFFF, 2 * channels & 0xFFFF, 16)
    head = struct.pack("<4sI4s4sI16s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, form, b"data", size)
    samples = (1000 * np.sin(np.arange(data // 2))).astype("<i2")
    file.write_bytes(head + samples.tobytes())
    return file


def au(file: Path, channels: int, rate: int, size: int) -> Path:
    samples = (1000 * np.sin(np.arange(1600))).astype(">i2")
    file.write_bytes(struct.pack(">4sIIIII", b".snd", 24, size, 3, rate, channels) + samples.tobytes())
    return file


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda file: wav(file, promised=0x7000_0000), "promises"),
        (lambda file: wav(file, channels=60_000), "channels|unreadable"),
        (lambda file: au(file.with_suffix(".au"), 100_000, 16_000, 3200), "channels|unreadable"),
        (lambda file: au(file.with_suffix(".au"), 100, 16_000, 3200), "channels: 100 are more than 32"),
        (lambda file: wav(file, rate=1), "sample rate: 1 Hz"),
        (lambda file: wav(file, rate=2**31 - 1), "sample rate|unreadable"),
    ],
)
@pytest.mark.parametrize("decoded", [True, False])
def test_a_header_that_lies_costs_nothing(
    make: Callable[[Path], Path], told: str, decoded: bool, tmp_path: Path
) -> None:
    file = make(tmp_path / "x.wav")
    began = time.process_time()
    found = inspect_segment(str(tmp_path), (file.name, 0.0, None), AuditSettings(hash_content=decoded))
    assert isinstance(found, Unusable)
    assert any(part in found.reason for part in told.split("|")), found.reason
    assert time.process_time() - began < 1
    if "promise" not in told:
        with pytest.raises(BadAudioError):
            Files(tmp_path, 16_000).read(Span(0, 0, file.name, 0.0, 1.0), 0.0, 0.1)


def w64(file: Path, promised: int) -> Path:
    """A file whose header has eight bytes for its size."""
    soundfile.write(file, np.sin(np.arange(1600)) / 9, 16_000, format="W64")
    content = bytearray(file.read_bytes())
    place = content.index(b"data\xf3\xac\xd3\x11") + 16
    content[place : place + 8] = struct.pack("<Q", promised)
    file.write_bytes(content)
    return file


def test_a_header_that_promises_a_terabyte_is_read_as_far_as_the_file_goes(tmp_path: Path) -> None:
    file = w64(tmp_path / "x.w64", 10**12)
    found = inspect_segment(str(tmp_path), (file.name, 0.0, None), AuditSettings())
    assert isinstance(found, Unusable) or found.frames == 1600


def test_a_recording_of_days_is_refused_before_it_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_HOURS == 24
    monkeypatch.setattr("datamodules.audit.MAX_HOURS", 1)
    soundfile.write(tmp_path / "x.flac", np.zeros(4000 * 4000, np.int16), 4000)
    found = inspect_segment(str(tmp_path), ("x.flac", 0.0, None), AuditSettings())
    assert isinstance(found, Unusable)
    assert found.reason == "too long: 1.1 h are more than 1; cut it into pieces"


@pytest.mark.parametrize("rate", [15_999, 16_001, 383_987, 4001])
def test_an_odd_rate_takes_no_gigabytes(rate: int) -> None:
    resample = _resampler(rate, 16_000)
    if resample.orig_freq != resample.new_freq:  # then there is nothing to do
        assert resample.kernel.numel() < 20e6
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    speech = resample(torch.from_numpy(tone)).numpy()
    assert abs(len(speech) - 16_000) <= 16
    spectrum = np.abs(np.fft.rfft(speech[:16_000], 160_000))
    assert spectrum.argmax() / 10 == pytest.approx(440, abs=0.5)


def test_usual_rates_are_resampled_exactly() -> None:
    for rate in (8000, 11_025, 22_050, 24_000, 32_000, 44_100, 48_000, 96_000, 192_000):
        resample = _resampler(rate, 16_000)
        assert resample.orig_freq * 16_000 == resample.new_freq * rate


# Manifests and packs


@pytest.fixture
def made(tmp_path: Path) -> Manifest:
    fakes.ravdess(tmp_path / "ravdess", actors=2, statements=1, rate=16_000)
    return build_manifest(
        make_reader("ravdess"), tmp_path / "ravdess", tmp_path / "cache", hash_content=True, workers=1, progress=False
    )


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 0xFF
    file.unlink()
    file.write_bytes(content)


def test_a_manifest_with_another_byte_is_made_again(made: Manifest, tmp_path: Path) -> None:
    assert is_current(made.file, tmp_path / "ravdess")
    size = made.file.stat().st_size
    for place in (20, size // 3, size // 2, size - 30):
        flip(made.file, place)
        assert not is_current(made.file, tmp_path / "ravdess")
        flip(made.file, place)
    assert is_current(made.file, tmp_path / "ravdess")
    assert not is_current(made.file, tmp_path / "elsewhere")


@pytest.mark.parametrize("what", ["column", "outside", "times", "facts", "text"])
def test_a_pack_of_a_stranger_is_looked_through(what: str, made: Manifest, tmp_path: Path) -> None:
    pack_corpus(made, tmp_path / "packs", 10**6)
    folder = tmp_path / "packs" / "ravdess"
    Pack(folder).check(make_reader("ravdess"), True)
    file = folder / "manifest.arrow"
    table = pa.ipc.open_file(file).read_all()
    meta = dict(table.schema.metadata)
    if what == "column":
        table = table.drop_columns(["session"])
    elif what == "outside":
        table = table.set_column(0, "path", pa.array(["../../etc/passwd"] * len(table)))
    elif what == "times":
        table = table.set_column(5, "speech_start", pa.array([-1.0] * len(table)))
    elif what == "facts":
        meta[b"ser_aae"] = json.dumps(json.loads(meta[b"ser_aae"]) | {"scales": {}}).encode()
    else:
        words = pa.array([b"\xff\xff"] * len(table))
        table = table.set_column(0, "path", pa.Array.from_buffers(pa.string(), len(table), words.buffers()))
    with pa.OSFile(str(file), "wb") as stream:
        schema = table.schema.with_metadata(meta)
        with pa.ipc.new_file(stream, schema) as writer:
            writer.write_table(table.combine_chunks())
    sign(folder, made)
    with pytest.raises(InputError, match="is damaged"):
        Pack(folder).check(make_reader("ravdess"), True)


def sign(folder: Path, made: Manifest) -> None:
    """Writes down sizes and checksums of a manifest that was changed, as whoever means harm would."""
    file = folder / "manifest.arrow"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    known = read_state(state_file(made.file)) | {"sha256": digest, "bytes": file.stat().st_size}
    Stamps(Path(known["root"])).write(state_file(file), known)
    description = json.loads((folder / DESCRIPTION).read_text())
    for name in ("manifest.arrow", "manifest.state"):
        description["files"][name] = (folder / name).stat().st_size
    (folder / DESCRIPTION).write_text(json.dumps(description))


def test_a_pack_whose_state_is_damaged(made: Manifest, tmp_path: Path) -> None:
    pack_corpus(made, tmp_path / "packs", 10**6)
    folder = tmp_path / "packs" / "ravdess"
    flip(folder / "manifest.state", 20)
    (folder / "manifest.state").write_bytes(b"x" * (folder / "manifest.state").stat().st_size)
    with pytest.raises(InputError, match="is damaged"):
        _ = Pack(folder).manifest.sha256


# What is written


def test_files_of_others_are_not_written_over(
    corpora: Path, finished: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    own = tmp_path / EXPERIMENT / "data_report.json"
    own.parent.mkdir()
    own.write_text('{"mine": 1}')
    settings = [*runs.SMALL, *SETTINGS, *runs.places(corpora, tmp_path)]
    assert f"{own} is in the way" in refused("manifest", EXPERIMENT, *settings)
    assert own.read_text() == '{"mine": 1}'
    own.unlink()
    assert main(["manifest", EXPERIMENT, *settings]) == 0
    assert main(["manifest", EXPERIMENT, *settings]) == 0, "its own file it may replace"
    own.unlink()
    own.mkdir()
    assert f"{own} is in the way" in refused("manifest", EXPERIMENT, *settings)


@pytest.mark.parametrize(("name", "mark"), [("tables.md", "## commands"), ("report.html", "finding")])
def test_tables_of_others(name: str, mark: str, tmp_path: Path) -> None:
    check_ours(tmp_path / name, mark)
    (tmp_path / name).write_text("mine")
    with pytest.raises(InputError, match="is in the way: this program did not write it"):
        check_ours(tmp_path / name, mark)


@pytest.mark.parametrize(
    "name", ["results.json", ".lock", "metrics.csv", "predictions_test.csv", "checkpoints", "wandb"]
)
def test_a_run_folder_with_links_is_not_gone_on_with(
    name: str, finished: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder, victim = tmp_path / "theirs", tmp_path / "victim"
    shutil.copytree(finished, folder)
    (folder / "results.json").unlink()
    if (folder / name).is_dir():
        (folder / name).rename(victim)
    else:
        (folder / name).unlink(missing_ok=True)
        victim.write_text("mine")
    (folder / name).symlink_to(victim)
    if name == "results.json":  # then it has ended
        with pytest.raises(InputError, match="is a link"):
            check_links(folder)
    else:
        assert f"{folder / name} is a link" in refused("resume", folder)
    assert victim.is_dir() or victim.read_text() == "mine"


def test_drafts_and_locks_do_not_follow_links(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".x.json.draft").symlink_to(victim)
    with replacing(tmp_path / "x.json") as stream:
        stream.write(b"new")
    (tmp_path / "lock").symlink_to(victim)
    with pytest.raises(InputError, match="is a link"):
        open_unlinked(tmp_path / "lock")
    assert victim.read_text() == "mine"
    assert (tmp_path / "x.json").read_text() == "new"
    open_unlinked(tmp_path / "new").close()
    assert (tmp_path / "new").exists()


# Run folders


@pytest.mark.parametrize(
    ("name", "content", "command"),
    [
        ("results.json", b"[]", "evaluate"),
        ("results.json", b"\xff", "compare"),
        ("results.json", b"[" * 100_000, "evaluate"),
        ("environment.json", b'{"manifests": 3}', "resume"),
        ("environment.json", b'{"manifests": {}, "resumed": [], "wandb": "../x"}', "resume"),
        ("config.yaml", b"seed: '${oc.env:HOME}'", "evaluate"),
        ("config.yaml", b"experiment: ${run}\nrun: ${experiment}\n", "evaluate"),
    ],
)
def test_files_of_a_run_that_say_something_else(
    name: str, content: bytes, command: str, finished: Path, tmp_path: Path, refused: Callable[..., str]
) -> None:
    folder = tmp_path / "theirs"
    shutil.copytree(finished, folder)
    (folder / name).write_bytes(content)
    if command == "resume":
        (folder / "results.json").unlink()
    told = refused(command, *([finished] if command == "compare" else []), folder)
    assert str(folder) in told or folder.parent.name in told


def test_scores_and_records_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"epoch,dev/uar\nx,0.5\n")
    with pytest.raises(InputError, match=r"metrics.csv is damaged"):
        read_scores(tmp_path, "dev/uar")
    (tmp_path / "metrics.csv").write_bytes(b"epoch,dev/uar\n1,\xff\n")
    with pytest.raises(InputError, match=r"metrics.csv is damaged"):
        read_scores(tmp_path, "dev/uar")
    for content in (b"3", b'{"device": "\\ud800"}'):
        (tmp_path / "results.json").write_bytes(content)
        with pytest.raises(InputError, match=r"results.json is damaged"):
            read_json(tmp_path / "results.json")


@pytest.mark.parametrize(
    "change",
    [
        {"fold": "0"}, {"development": None}, {"development": float("inf")}, {"labels": [3]}, {"parameters": 10**400},
        {"confusion_by_speaker": {"a": [[1, 2]]}}, {"confusion_by_speaker": {"a": [[1, -2], [0, 0]]}},
        {"confusion_by_speaker": 3}, {"moments_by_speaker": {"a": {"valence": [1, 2]}}},
        {"moments_by_speaker": {"a": {"mood": [1, 2, 3, 4, 5, 6]}}}, {"train_seconds": True}, {"device": "\ud800"},
    ],
)  # fmt: skip
def test_a_record_is_checked(change: dict[str, Any], tmp_path: Path) -> None:
    known = json.loads(Path("docs/studies/ravdess/records.jsonl").read_text().splitlines()[0])
    known |= {"labels": ["a", "b"], "confusion_by_speaker": {"a": [[1, 2], [3, 4]]}}
    file = tmp_path / "records.jsonl"
    file.write_text(json.dumps(known) + "\n")
    assert len(read_records(file)) == 1
    file.write_text(json.dumps(known) + "\n" + json.dumps(known | change) + "\n")
    with pytest.raises(InputError, match=r"line 2, is no record"):
        read_records(file)
    file.write_bytes(b"\xff\xfe\n")
    with pytest.raises(InputError, match=r"line 1, is no record"):
        read_records(file)


def test_a_stream_is_no_checkpoint() -> None:
    """What `torch.save` writes is stored, not compressed: what `read_checkpoint` takes for granted."""
    stream = io.BytesIO()
    torch.save({"a": torch.zeros(1000)}, stream)
    with zipfile.ZipFile(stream) as archive:
        assert {one.compress_type for one in archive.infolist()} == {zipfile.ZIP_STORED}
