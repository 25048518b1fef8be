"""EmoDB against its format: what the names say, and every fault."""

from collections import Counter
from pathlib import Path

import pytest

from datamodules.building import build_manifest
from datamodules.corpora import find_root, make_reader
from datamodules.corpora.base import Fault, Utterance
from datamodules.errors import InputError
from tests import fakes


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def read(root: Path) -> list[Utterance | Fault]:
    return list(make_reader("emodb").read(root))


def test_a_name_says_everything(tmp_path: Path) -> None:
    touch(tmp_path, "wav/03a01Fa.wav", "wav/16b10Ld.flac", "wav/._03a01Fa.wav", "wav/notes.txt")
    assert read(tmp_path) == [
        Utterance("wav/03a01Fa.wav", speaker="03", gender="male", sentence="a01", label="F", emotion="happiness"),
        Utterance("wav/16b10Ld.flac", speaker="16", gender="female", sentence="b10", label="L", emotion="boredom"),
    ]


@pytest.mark.parametrize(
    ("letter", "emotion"),
    [
        ("W", "anger"),
        ("L", "boredom"),
        ("E", "disgust"),
        ("A", "fear"),
        ("F", "happiness"),
        ("T", "sadness"),
        ("N", "neutral"),
    ],
)
def test_emotions_by_their_german_initials(tmp_path: Path, letter: str, emotion: str) -> None:
    [found] = read(touch(tmp_path, f"wav/08a02{letter}b.wav"))
    assert isinstance(found, Utterance)
    assert (found.label, found.emotion) == (letter, emotion)


def test_five_men_and_five_women(tmp_path: Path) -> None:
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    found = read(touch(tmp_path, *(f"wav/{speaker}a01Na.wav" for speaker in speakers)))
    assert {one.speaker: one.gender for one in found if isinstance(one, Utterance)} == {
        "03": "male",
        "08": "female",
        "09": "female",
        "10": "male",
        "11": "male",
        "12": "male",
        "13": "female",
        "14": "female",
        "15": "male",
        "16": "female",
    }


def test_other_folders_are_not_read(tmp_path: Path) -> None:
    touch(tmp_path, "wav/03a01Fa.wav", "laryngo/03a01Fa.wav", "lablaut/03a01Fa.lablaut", "03a01Na.wav")
    assert [one.path for one in read(tmp_path)] == ["wav/03a01Fa.wav"]


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "wav/03a01Fa.wav",
        "wav/03a01F.wav",  # no version
        "wav/03a01Faa.wav",
        "wav/03c01Fa.wav",  # texts are a or b
        "wav/3a01Fa.wav",
        "wav/04a01Fa.wav",  # there is no speaker 04
        "wav/03a01Xa.wav",
    )
    found = read(tmp_path)
    assert [one.path for one in found if isinstance(one, Utterance)] == ["wav/03a01Fa.wav"]
    assert [(one.path, one.reason) for one in found if isinstance(one, Fault) and one.kind.startswith("unknown")] == [
        ("wav/03a01Xa.wav", "unknown EmoDB code: speaker 03, emotion X"),
        ("wav/04a01Fa.wav", "unknown EmoDB code: speaker 04, emotion F"),
    ]
    assert [one.path for one in found if isinstance(one, Fault) and one.kind == "not an EmoDB name"] == [
        "wav/03a01F.wav",
        "wav/03a01Faa.wav",
        "wav/03c01Fa.wav",
        "wav/3a01Fa.wav",
    ]


def test_the_folder_of_recordings_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no folder wav[\s\S]*set the root to the folder that holds wav/"):
        read(touch(tmp_path, "03a01Fa.wav"))


@pytest.mark.parametrize("folder", ["EmoDB", "emodb", "Berlin"])
def test_is_found_by_its_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    assert find_root(make_reader("emodb"), data_root=str(tmp_path)).name == folder


def test_whole_corpus(tmp_path: Path) -> None:
    root = fakes.emodb(tmp_path / "emodb", texts=("a01",))
    manifest = build_manifest(make_reader("emodb"), root, tmp_path / "cache", hash_content=True, workers=1)
    assert (len(manifest), manifest.faults) == (10 * 7, [])
    rows = [manifest.row(index) for index in range(70)]
    assert Counter(row["emotion"] for row in rows) == dict.fromkeys(
        ("anger", "boredom", "disgust", "fear", "happiness", "sadness", "neutral"), 10
    )
    assert Counter((row["speaker"], row["gender"]) for row in rows) == {
        (f"emodb/{speaker}", "male" if speaker in ("03", "10", "11", "12", "15") else "female"): 7
        for speaker in fakes.EMODB_SPEAKERS
    }
    assert {row["sentence"] for row in rows} == {"a01"}
    assert {(row["votes"], row["split"], row["session"], row["activation"]) for row in rows} == {(None,) * 4}


def test_faults_of_audio(tmp_path: Path) -> None:
    root = fakes.emodb(tmp_path / "emodb", speakers=("03", "08"), texts=("a01",))
    planted = fakes.plant_all(sorted((root / "wav").iterdir()))
    touch(root, "wav/readme.wav")
    reader = make_reader("emodb")
    manifest = build_manifest(reader, root, tmp_path / "cache", hash_content=True, workers=1, max_bad_fraction=1)
    expected = {f"wav/{file.name}": kind for file, kind in planted.items() if kind}
    assert {fault.path: fault.kind for fault in manifest.faults} == expected | {"wav/readme.wav": "not an EmoDB name"}
    assert len(manifest) == 14 - 6


def test_real_emodb(real_data: Path, tmp_path: Path) -> None:
    try:
        root = find_root(make_reader("emodb"), None, str(real_data))
    except InputError as error:
        pytest.skip(str(error))
    manifest = build_manifest(make_reader("emodb"), root, tmp_path, hash_content=True)
    counts = Counter(manifest.row(index)["emotion"] for index in range(len(manifest)))
    assert counts == {
        "anger": 127,
        "boredom": 81,
        "disgust": 46,
        "fear": 69,
        "happiness": 71,
        "sadness": 62,
        "neutral": 79,
    }
    assert (len(manifest.codes("speaker")[1]), manifest.faults) == (10, [])
