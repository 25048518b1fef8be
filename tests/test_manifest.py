"""What a manifest holds, when it is made again, and what is refused."""

import errno
import importlib
import os
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from datamodules import building as module
from datamodules.audit import AuditSettings
from datamodules.building import build_manifest
from datamodules.corpora import find_root, make_reader
from datamodules.corpora.base import Fault, Reader, Scale, Utterance
from datamodules.errors import InputError
from datamodules.manifest import SCHEMA, Manifest
from tests import fakes


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def build(name: str, root: Path, cache: Path, hash_content: bool = True, **more: Any) -> Manifest:
    options = more.pop("options", {})
    more = {"workers": 1, "progress": False} | more
    return build_manifest(make_reader(name, options), root, cache, hash_content=hash_content, **more)


def rows(manifest: Manifest) -> list[dict[str, Any]]:
    return [manifest.row(index) for index in range(len(manifest))]


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The corpora that were built, whenever one is."""
    built: list[str] = []
    original = module._build

    def counted(reader: Reader, *rest: Any) -> None:
        built.append(reader.corpus)
        original(reader, *rest)

    monkeypatch.setattr(module, "_build", counted)
    return built


# Rows


def test_ravdess_rows(tmp_path: Path, cache: Path) -> None:
    manifest = build("ravdess", fakes.ravdess(tmp_path / "ravdess", actors=3, statements=1), cache)
    assert len(manifest) == 3 * 8
    assert manifest.faults == []
    assert (manifest.corpus, manifest.root, manifest.labelled) == ("ravdess", tmp_path / "ravdess", True)
    row = manifest.row(8 + 4)
    content_hash = row.pop("content_hash")
    speech_start, speech_end = row.pop("speech_start"), row.pop("speech_end")
    assert row == {
        "path": "Actor_02/03-01-05-01-01-01-02.wav",
        "start": 0.0,
        "duration": 0.5,
        "sample_rate": 48_000,
        "frames": 24_000,
        "corpus": "ravdess",
        "speaker": "ravdess/02",
        "gender": "female",
        "session": "speech",
        "sentence": "01",
        "label": "angry",
        "emotion": "anger",
        "votes": None,
        "activation": None,
        "valence": None,
        "dominance": None,
        "activation_original": None,
        "valence_original": None,
        "dominance_original": None,
        "split": None,
    }
    assert len(content_hash) == 32
    assert 0 < speech_start < 0.1
    assert 0.4 < speech_end < 0.5


def test_nemo_rows(tmp_path: Path, cache: Path) -> None:
    manifest = build("nemo", fakes.nemo(tmp_path / "nemo", speakers=3, sentences=2), cache)
    found = rows(manifest)
    assert len(found) == 3 * 6 * 2
    assert {(row["speaker"], row["gender"]) for row in found} == {
        ("nemo/AK0", "female"),
        ("nemo/BK0", "male"),
        ("nemo/CK0", "female"),
    }
    assert Counter(row["emotion"] for row in found) == dict.fromkeys(
        ("anger", "fear", "happiness", "neutral", "sadness", "surprise"), 6
    )
    assert {row["sample_rate"] for row in found} == {24_000}


def test_librispeech_rows_from_headers(tmp_path: Path, cache: Path) -> None:
    root = fakes.librispeech(tmp_path / "LibriSpeech", speakers=4, utterances=3)
    manifest = build("librispeech", root, cache, hash_content=False)
    assert len(manifest) == 12
    assert Counter(row["gender"] for row in rows(manifest)) == {"female": 6, "male": 6}
    assert {row["content_hash"] for row in rows(manifest)} == {None}
    assert {(row["speech_start"], row["speech_end"], row["frames"]) for row in rows(manifest)} == {(0.0, 0.6, 9600)}
    hashed = build("librispeech", root, cache, hash_content=True)
    assert len({row["content_hash"] for row in rows(hashed)}) == 12


def test_labelled_corpora_are_always_hashed(tmp_path: Path, cache: Path) -> None:
    manifest = build("nemo", fakes.nemo(tmp_path / "nemo", speakers=1, sentences=1), cache, hash_content=False)
    assert all(row["content_hash"] for row in rows(manifest))


def test_table_rows_with_segments_and_dimensions(tmp_path: Path, cache: Path) -> None:
    lines: list[dict[str, object]] = [
        {"path": "a.wav", "start": 0, "end": 0.5, "speaker": "03", "valence": 1, "activation": 5, "split": "train"},
        {"path": "a.wav", "start": 0.5, "end": 1, "speaker": "03", "valence": 3, "activation": 4, "split": "dev"},
        {"path": "b.wav", "start": "", "end": "", "speaker": "3", "valence": "", "activation": "", "split": "test"},
    ]
    table = fakes.table(tmp_path / "mine/t.csv", lines)
    options = {"path": str(table), "ranges": {"valence": [1, 5], "activation": [5, 1]}, "corpus": "mine"}
    reader = make_reader("table", options)
    manifest = build_manifest(reader, find_root(reader), cache, hash_content=True, workers=1, progress=False)
    found = rows(manifest)
    assert [row["speaker"] for row in found] == ["mine/03", "mine/03", "mine/3"]
    assert [(row["start"], row["duration"], row["frames"]) for row in found] == [
        (0.0, 0.5, 8000),
        (0.5, 0.5, 8000),
        (0.0, 1.0, 16_000),
    ]
    assert [row["valence"] for row in found] == [0.0, 0.5, None]
    assert [row["valence_original"] for row in found] == [1.0, 3.0, None]
    assert [row["activation"] for row in found] == [0.0, 0.25, None]
    assert [row["split"] for row in found] == ["train", "development", "test"]
    assert manifest.scale("activation") == Scale(1, 5, reversed=True)
    np.testing.assert_array_equal(manifest.column("valence"), np.array([0, 0.5, np.nan], np.float32))


def test_faults_are_left_out_and_counted(tmp_path: Path, cache: Path) -> None:
    root = fakes.ravdess(tmp_path / "ravdess", actors=2, repetitions=1)
    files = sorted(root.rglob("*.wav"))
    plants = [fakes.empty, fakes.truncate, fakes.silence, fakes.plant_nan, fakes.shorten]
    for plant, file in zip(plants, files, strict=False):
        plant(file)
    fakes.promise_bytes(files[5], 10**8)
    fakes.resave(files[6], rate=8000)
    fakes.resave(files[7], subtype="PCM_24")
    fakes.make_stereo(files[8])
    fakes.hide_double(files[9])
    fakes.duplicate(files[10], root / "Actor_02" / "copy.wav")
    manifest = build("ravdess", root, cache, max_bad_fraction=0.5)
    paths = [str(file.relative_to(root)) for file in files]
    assert {fault.path: fault.kind for fault in manifest.faults} == {
        paths[0]: "empty file",
        paths[1]: "truncated or damaged",
        paths[2]: "silent",
        paths[3]: "NaN or infinite samples",
        paths[4]: "too short",
        paths[5]: "truncated or damaged",
        "Actor_02/copy.wav": "not a RAVDESS name",
    }
    assert [row["path"] for row in rows(manifest)] == paths[6:]


def test_file_name_in_another_encoding(tmp_path: Path, cache: Path, builds: list[str]) -> None:
    root = fakes.folder(tmp_path / "mine", files=4)
    try:
        (root / "part0/0000.wav").rename(os.fsdecode(os.fsencode(root) + b"/part0/caf\xe9.wav"))
        (root / "part1").rename(os.fsdecode(os.fsencode(root) + b"/Gespr\xe4ch"))
    except OSError:
        pytest.skip("this file system holds no names that are not UTF-8")
    for _ in range(2):
        manifest = build("folder", root, cache, max_bad_fraction=1)
        assert [fault.path for fault in manifest.faults] == [
            "Gespr\\udce4ch/0001.wav",
            "Gespr\\udce4ch/0003.wav",
            "part0/caf\\udce9.wav",
        ]
        assert {fault.kind for fault in manifest.faults} == {"file name"}
        assert len(manifest) == 1
    assert len(builds) == 1


def test_a_rating_outside_of_the_declared_scale_is_a_fault_and_lost_but_not_its_utterance(
    tmp_path: Path, cache: Path
) -> None:
    fakes.write(tmp_path / "corpus/a.wav", fakes.speech("a"))
    fakes.write(tmp_path / "corpus/b.wav", fakes.speech("b"))
    reader = Rated([Utterance("a.wav", valence=6.0, emotion="anger"), Utterance("b.wav", valence=1.0)])
    manifest = build_manifest(reader, tmp_path / "corpus", cache, hash_content=True, max_bad_fraction=1, progress=False)
    assert [(fault.path, fault.kind) for fault in manifest.faults] == [("a.wav", "rating outside its scale")]
    assert [(row["emotion"], row["valence"]) for row in rows(manifest)] == [("anger", None), (None, 1.0)]  # reversed


def test_votes_are_kept(tmp_path: Path, cache: Path) -> None:
    for name in "ab":
        fakes.write(tmp_path / f"corpus/{name}.wav", fakes.speech(name))
    reader = Rated([Utterance("a.wav", votes={"anger": 2, "neutral": 1}), Utterance("b.wav")])
    manifest = build_manifest(reader, tmp_path / "corpus", cache, hash_content=True, progress=False)
    assert [row["votes"] for row in rows(manifest)] == [[("anger", 2.0), ("neutral", 1.0)], None]


def test_reader_that_breaks_its_promise_is_a_bug(tmp_path: Path, cache: Path) -> None:
    fakes.write(tmp_path / "corpus/a.wav", fakes.speech("a"))
    for wrong in (Utterance("a.wav", gender="F"), Utterance("a.wav", split="dev")):
        with pytest.raises(ValueError, match="the reader of rated gives a"):
            build_manifest(Rated([wrong]), tmp_path / "corpus", cache, hash_content=True, progress=False)


@dataclass(frozen=True)
class Rated(Reader):
    """A corpus of whatever utterances it is given."""

    name = "rated"
    licence = "none"
    how_to_get = "nowhere"
    language = "en"
    labelled = True
    scales = {"valence": Scale(1, 5, reversed=True)}  # noqa: RUF012

    found: list[Utterance]

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        yield from self.found


# Access


def test_columns_and_codes(tmp_path: Path, cache: Path) -> None:
    manifest = build("ravdess", fakes.ravdess(tmp_path / "ravdess", actors=2, statements=1), cache)
    codes, words = manifest.codes("label")
    assert words == ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"]
    np.testing.assert_array_equal(codes, [*range(8), *range(8)])
    assert codes.dtype == np.int32
    codes, words = manifest.codes("split")
    assert (set(codes.tolist()), words) == ({-1}, [])
    codes, words = manifest.codes("content_hash")
    assert [words[code] for code in codes] == [row["content_hash"] for row in rows(manifest)]
    assert manifest.column("frames").tolist() == [24_000] * 16
    assert manifest.column("gender").tolist() == ["male"] * 8 + ["female"] * 8
    assert np.isnan(manifest.column("valence")).all()
    with pytest.raises(IndexError):
        manifest.row(16)
    with pytest.raises(IndexError):
        manifest.row(-1)


def test_class_codes(tmp_path: Path, cache: Path) -> None:
    manifest = build("ravdess", fakes.ravdess(tmp_path / "ravdess", actors=1, statements=1), cache)
    codes = manifest.class_codes({"negative": ["anger", "sadness"], "rest": ["neutral"]})
    np.testing.assert_array_equal(codes, [1, -1, -1, 0, 0, -1, -1, -1])


def test_many_batches_are_one_table(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fakes.nemo(tmp_path / "nemo", speakers=3, sentences=2)
    whole = build("nemo", root, cache / "whole")
    monkeypatch.setattr(module, "_ROWS_PER_BATCH", 7)
    monkeypatch.setattr(module, "_SEGMENTS_PER_CHUNK", {True: 5, False: 5})
    parts = build("nemo", root, cache / "parts")
    assert parts.arrow("path").num_chunks > 3
    assert rows(parts) == rows(whole)
    for name in ("speaker", "label", "content_hash"):
        np.testing.assert_array_equal(parts.codes(name)[0], whole.codes(name)[0])
        assert parts.codes(name)[1] == whole.codes(name)[1]


def test_manifest_pickles_as_its_path(tmp_path: Path, cache: Path) -> None:
    manifest = build("nemo", fakes.nemo(tmp_path / "nemo"), cache)
    before = rows(manifest)
    pickled = pickle.dumps(manifest)
    assert len(pickled) < 1000
    assert rows(pickle.loads(pickled)) == before


def test_manifest_that_was_replaced_is_refused(tmp_path: Path, cache: Path) -> None:
    root = fakes.nemo(tmp_path / "nemo", speakers=1)
    manifest = build("nemo", root, cache)
    before = rows(manifest)
    pickled = pickle.dumps(manifest)
    (root / "samples/AK0_anger_1.wav").unlink()
    build("nemo", root, cache, max_bad_fraction=1)
    with pytest.raises(InputError, match="made again while this run was using it"):
        len(pickle.loads(pickled))
    assert rows(manifest) == before  # an open one stays what it was
    assert manifest.column("path").tolist() == [row["path"] for row in before]


def test_schema_is_as_documented(tmp_path: Path, cache: Path) -> None:
    manifest = build("nemo", fakes.nemo(tmp_path / "nemo", speakers=1), cache)
    with pa.memory_map(str(manifest.file)) as source:
        reader = pa.ipc.open_file(source)
        assert reader.schema.equals(SCHEMA)
        assert reader.read_all().num_rows == 12


def test_hash_does_not_depend_on_where_the_corpus_lies(tmp_path: Path, cache: Path) -> None:
    one = build("nemo", fakes.nemo(tmp_path / "one/nemo", speakers=2), cache)
    two = build("nemo", fakes.nemo(tmp_path / "two/nemo", speakers=2), cache)
    other = build("nemo", fakes.nemo(tmp_path / "three/nemo", speakers=3), cache)
    assert one.file != two.file
    assert one.sha256 == two.sha256 != other.sha256


def test_processes_make_the_same_manifest(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fakes.nemo(tmp_path / "nemo", speakers=3)
    monkeypatch.setattr(module, "_SEGMENTS_PER_CHUNK", {True: 4, False: 4})
    assert build("nemo", root, cache / "two", workers=2).sha256 == build("nemo", root, cache / "one").sha256


# When it is made again


def test_made_once(tmp_path: Path, cache: Path, builds: list[str]) -> None:
    root = fakes.nemo(tmp_path / "nemo", speakers=1)
    first = build("nemo", root, cache)
    again = build("nemo", root, cache)
    assert builds == ["nemo"]
    assert (again.file, again.sha256) == (first.file, first.sha256)
    build("nemo", root, cache, rebuild=True)
    assert builds == ["nemo", "nemo"]
    assert not [file for file in cache.iterdir() if file.suffix not in (".arrow", ".state", ".lock")]


def add_file(root: Path) -> None:
    fakes.write(root / "samples/AK0_anger_9.wav", fakes.speech("new"))


def remove_file(root: Path) -> None:
    (root / "samples/AK0_anger_1.wav").unlink()


def change_samples_in_place(root: Path) -> None:
    with (root / "samples/AK0_anger_1.wav").open("r+b") as stream:
        stream.seek(1000)
        stream.write(b"\x01\x02")


def change_table(root: Path) -> None:
    text = (root / "data.tsv").read_bytes()
    (root / "data.tsv").write_bytes(text.replace(b"AK0_anger_1.wav\tanger", b"AK0_anger_1.wav\tfear"))


def add_folder(root: Path) -> None:
    (root / "samples/more").mkdir()


@pytest.mark.parametrize("change", [add_file, remove_file, change_samples_in_place, change_table, add_folder])
def test_made_again_when_the_corpus_changed(tmp_path: Path, cache: Path, builds: list[str], change: Any) -> None:
    root = fakes.nemo(tmp_path / "nemo", speakers=1)
    build("nemo", root, cache)
    change(root)
    build("nemo", root, cache, max_bad_fraction=1)
    assert len(builds) == 2
    build("nemo", root, cache, max_bad_fraction=1)
    assert len(builds) == 2


def test_missing_and_faulty_files_are_watched_too(tmp_path: Path, cache: Path, builds: list[str]) -> None:
    lines = [{"path": name, "emotion": "anger"} for name in ("a.wav", "b.wav", "c.wav")]
    table = fakes.table(tmp_path / "mine/t.csv", lines)
    fakes.empty(tmp_path / "mine/a.wav")
    (tmp_path / "mine/b.wav").unlink()
    for expected in (2, 1, 0):
        options = {"path": str(table)}
        manifest = build("table", tmp_path / "mine", cache, options=options, max_bad_fraction=1)
        assert len(manifest.faults) == expected
        fakes.write(tmp_path / "mine" / ("a.wav" if expected == 2 else "b.wav"), fakes.speech(expected))
    assert len(builds) == 3


def test_unlabelled_files_are_watched_by_their_folders(tmp_path: Path, cache: Path, builds: list[str]) -> None:
    root = fakes.folder(tmp_path / "mine")
    build("folder", root, cache, hash_content=False)
    fakes.write(root / "part0/new.wav", fakes.speech("new"))
    assert len(build("folder", root, cache, hash_content=False)) == 7
    assert len(builds) == 2


def test_options_and_settings_have_manifests_of_their_own(tmp_path: Path, cache: Path) -> None:
    root = fakes.librispeech(tmp_path / "LibriSpeech", subsets=("train-clean-100", "test-other"))
    files = {
        build("librispeech", root, cache, hash_content=False).file,
        build("librispeech", root, cache, hash_content=True).file,
        build("librispeech", root, cache, options={"subsets": ["test-other"]}).file,
        build("librispeech", root, cache, audit=AuditSettings(trim_db=30)).file,
    }
    assert len(files) == 4


def test_reader_whose_source_changed_has_another_manifest(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes.write(tmp_path / "corpus/a.wav", fakes.speech("a"))
    source = tmp_path / "a_reader_of_mine.py"
    shutil.copyfile(Path(__file__).parents[1] / "datamodules/corpora/folder.py", source)
    monkeypatch.syspath_prepend(tmp_path)
    reader = importlib.import_module(source.stem).Folder()

    def file() -> Path:
        return build_manifest(reader, tmp_path / "corpus", cache, hash_content=False, progress=False).file

    before = file()
    assert file() == before
    source.write_text(source.read_text() + "# changed\n")
    assert file() != before


@pytest.mark.parametrize("suffix", [".arrow", ".state"])
@pytest.mark.parametrize("damage", [lambda file: fakes.truncate(file, 0.5), Path.unlink, fakes.empty])
def test_damaged_manifest_is_made_again(
    tmp_path: Path, cache: Path, builds: list[str], suffix: str, damage: Any
) -> None:
    root = fakes.nemo(tmp_path / "nemo", speakers=1)
    manifest = build("nemo", root, cache)
    damage(manifest.file.with_suffix(suffix))
    assert len(build("nemo", root, cache)) == 12
    assert len(builds) == 2


def test_interrupted_build_leaves_the_old_manifest_and_nothing_else(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = fakes.nemo(tmp_path / "nemo", speakers=1)
    sha256 = build("nemo", root, cache).sha256
    before = sorted(cache.iterdir())

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "_write_encoded", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build("nemo", root, cache, rebuild=True)
    assert sorted(cache.iterdir()) == before
    assert build("nemo", root, cache).sha256 == sha256


def test_several_at_once_make_it_once(tmp_path: Path, cache: Path, builds: list[str]) -> None:
    root = fakes.nemo(tmp_path / "nemo", speakers=2)
    with ThreadPoolExecutor(4) as pool:  # the lock is the file's, whether threads or processes hold it
        made = list(pool.map(lambda _: build("nemo", root, cache), range(4)))
    assert builds == ["nemo"]
    assert len({manifest.sha256 for manifest in made}) == 1


# What is refused


def test_too_many_faults(tmp_path: Path, cache: Path, builds: list[str]) -> None:
    root = fakes.nemo(tmp_path / "nemo", speakers=2)
    for number in (1, 2):
        fakes.silence(root / f"samples/AK0_anger_{number}.wav")
    fakes.empty(root / "samples/BK0_fear_1.wav")
    with pytest.raises(InputError) as caught:
        build("nemo", root, cache)
    for expected in (
        "3 of 24 utterances",
        "2 silent, 1 empty file",
        "samples/AK0_anger_1.wav: silent",
        "data.max_bad_fraction = 0.01",
    ):
        assert expected in str(caught.value)
    assert len(build("nemo", root, cache, max_bad_fraction=3 / 24)) == 21
    assert builds == ["nemo"]  # the other limit needs no other manifest
    with pytest.raises(InputError):
        build("nemo", root, cache, max_bad_fraction=2.9 / 24)


def test_all_faulty_is_never_allowed(tmp_path: Path, cache: Path) -> None:
    root = fakes.folder(tmp_path / "mine", files=2)
    for file in root.rglob("*.wav"):
        fakes.empty(file)
    with pytest.raises(InputError, match=r"2 of 2 utterances .*\(2 empty file\);"):
        build("folder", root, cache, max_bad_fraction=1)


def test_empty_corpus(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "ravdess").mkdir()
    with pytest.raises(InputError, match="ravdess: no utterance was found in"):
        build("ravdess", tmp_path / "ravdess", cache)


def test_missing_root(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere does not exist[\s\S]*zenodo"):
        build("ravdess", tmp_path / "nowhere", cache)


@pytest.mark.parametrize(
    ("number", "message"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "Read-only file system")]
)
def test_cache_that_cannot_be_written(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    root = fakes.nemo(tmp_path / "nemo", speakers=1)

    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(InputError, match=message):
        build("nemo", root, cache)
    assert [file.suffix for file in cache.iterdir()] == [".lock"]


# Real corpora


def test_real_ravdess(real_data: Path, cache: Path) -> None:
    try:
        root = find_root(make_reader("ravdess"), None, str(real_data))
    except InputError as error:
        pytest.skip(str(error))
    manifest = build("ravdess", root, cache, workers=None)
    assert (len(manifest), len(manifest.codes("speaker")[1]), manifest.faults) == (1440, 24, [])
    assert Counter(row["label"] for row in rows(manifest)) == {"neutral": 96} | dict.fromkeys(
        ("calm", "happy", "sad", "angry", "fearful", "disgust", "surprised"), 192
    )
    # The corpus holds one recording twice.
    assert len({row["content_hash"] for row in rows(manifest)}) == 1439
