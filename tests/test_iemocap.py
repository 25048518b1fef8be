"""IEMOCAP's reader against the corpus's format."""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.building import build_manifest
from datamodules.corpora import find_root, make_reader
from datamodules.corpora.base import Fault, Scale, Utterance
from datamodules.errors import InputError
from datamodules.manifest import Manifest
from datamodules.splits import SplitSettings, fold_count
from tests import fakes
from tests.folds import columns, sides

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
IMPROVISED = (
    HEADER
    + """\
[6.2901 - 8.2357]	Ses01F_impro01_F000	neu	[2.5000, 3.0000, 3.5000]
C-E2:	Neutral;	()
C-E3:	Neutral;	()
C-E4:	Neutral; Anger;	(polite (or so); Sadness; café)
C-F1:	Neutral; Frustration;	(curious)
A-E3:	val 3; act 3; dom  3;	()
A-E4:	val 2; act 3; dom  4;	(mildly aggravated, attitude)
A-F1:	val 3; act 2; dom  1;	()

[27.4600 - 31.4900]	Ses01F_impro01_F001	xxx	[2.0000, 2.5000, 3.0000]
C-E2:	Excited; Surprise;	()
C-E3:	Happiness;	()
C-E4:	Other;	(laughs)
C-F1:	Excited;	()

[7.1300 - 9.8900]	Ses01F_impro01_M000	fru	[1.0000, 5.0000, 4.6667]
C-E1:	Frustration;	()
C-E2:	Frustration; Disgust; Frustration;	()
C-E4:	Fear; Sadness;	()
C-M1:	Anger;	()
"""
)
SCRIPTED = HEADER + "[1.0000 - 2.0000]\tSes01M_script01_1b_F012\texc\t[4.5000, 4.0000, 3.0000]\n"
WAV = "Session1/sentences/wav"
FEMALE = {"speaker": "Ses01F", "gender": "female", "session": "Ses01"}


def plant(root: Path, text: str | bytes, dialogue: str = "Ses01F_impro01", turns: str = "", session: int = 1) -> Path:
    """Writes the annotations of a dialogue, and turns of it (given by their last fields) that are empty files."""
    annotation = root / f"Session{session}/dialog/EmoEvaluation/{dialogue}.txt"
    annotation.parent.mkdir(parents=True, exist_ok=True)
    annotation.write_bytes(text if isinstance(text, bytes) else text.encode())
    for turn in turns.split():
        audio = root / f"Session{session}/sentences/wav/{dialogue}/{dialogue}_{turn}.wav"
        audio.parent.mkdir(parents=True, exist_ok=True)
        audio.touch()
    return root


@pytest.fixture
def two_dialogues(tmp_path: Path) -> Path:
    plant(tmp_path, IMPROVISED, turns="F000 F001 M000")
    return plant(tmp_path, SCRIPTED, "Ses01M_script01_1b", "F012")


def read(root: Path, **options: Any) -> list[Utterance | Fault]:
    return list(make_reader("iemocap", options).read(root))


def build(root: Path, cache: Path, **more: Any) -> Manifest:
    reader = make_reader("iemocap", more.pop("options", {}))
    more = {"workers": 1, "progress": False} | more
    return build_manifest(reader, root, cache, hash_content=True, **more)


def rows(manifest: Manifest) -> list[dict[str, Any]]:
    return [manifest.row(index) for index in range(len(manifest))]


# Turns


def test_turns(two_dialogues: Path) -> None:
    assert read(two_dialogues) == [
        Utterance(
            f"{WAV}/Ses01F_impro01/Ses01F_impro01_F000.wav",
            speaker="Ses01F",
            gender="female",
            session="Ses01",
            label="neu",
            emotion="neutral",
            votes={"neutral": 3, "anger": 1},
            valence=2.5,
            activation=3.0,
            dominance=3.5,
        ),
        Utterance(
            f"{WAV}/Ses01F_impro01/Ses01F_impro01_F001.wav",
            speaker="Ses01F",
            gender="female",
            session="Ses01",
            label="xxx",
            emotion=None,
            votes={"excitement": 1, "surprise": 1, "happiness": 1, "other": 1},
            valence=2.0,
            activation=2.5,
            dominance=3.0,
        ),
        Utterance(
            f"{WAV}/Ses01F_impro01/Ses01F_impro01_M000.wav",
            speaker="Ses01M",
            gender="male",
            session="Ses01",
            label="fru",
            emotion="frustration",
            votes={"frustration": 2, "disgust": 1, "fear": 1, "sadness": 1},
            valence=1.0,
            activation=5.0,
            dominance=4.6667,
        ),
        Utterance(
            f"{WAV}/Ses01M_script01_1b/Ses01M_script01_1b_F012.wav",
            speaker="Ses01F",
            gender="female",
            session="Ses01",
            label="exc",
            emotion="excitement",
            valence=4.5,
            activation=4.0,
            dominance=3.0,
        ),
    ]


def test_votes_with_the_actors_own(two_dialogues: Path) -> None:
    found = [one.votes for one in read(two_dialogues, self_reports=True) if isinstance(one, Utterance)]
    assert found == [
        {"neutral": 4, "anger": 1, "frustration": 1},
        {"excitement": 2, "surprise": 1, "happiness": 1, "other": 1},
        {"frustration": 2, "disgust": 1, "fear": 1, "sadness": 1, "anger": 1},
        None,
    ]


@pytest.mark.parametrize(
    ("code", "emotion"),
    [
        ("ang", "anger"),
        ("hap", "happiness"),
        ("exc", "excitement"),
        ("sad", "sadness"),
        ("neu", "neutral"),
        ("fru", "frustration"),
        ("fea", "fear"),
        ("sur", "surprise"),
        ("dis", "disgust"),
        ("oth", "other"),
        ("xxx", None),
    ],
)
def test_codes(tmp_path: Path, code: str, emotion: str | None) -> None:
    [turn] = read(plant(tmp_path, SCRIPTED.replace("exc", code), "Ses01M_script01_1b", "F012"))
    assert isinstance(turn, Utterance)
    assert (turn.label, turn.emotion) == (code, emotion)


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: text.encode("latin-1"),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode("latin-1"),
        lambda text: text.rstrip("\n").encode(),
        lambda text: text.replace("\t", "    ").encode(),
        lambda text: text.replace("\n\n", "\n \t\n\n").encode(),
    ],
)
def test_annotations_as_editors_leave_them(tmp_path: Path, two_dialogues: Path, encode: Callable[[str], bytes]) -> None:
    expected = read(two_dialogues)
    plant(tmp_path, encode(IMPROVISED))
    assert read(tmp_path) == expected


def test_turns_without_blank_lines_between_them_keep_their_votes(tmp_path: Path, two_dialogues: Path) -> None:
    expected = read(two_dialogues)
    plant(tmp_path, IMPROVISED.replace("\n\n", "\n"))
    assert read(tmp_path) == expected


def test_converted_audio(tmp_path: Path) -> None:
    plant(tmp_path, SCRIPTED, "Ses01M_script01_1b", "F012")
    folder = tmp_path / WAV / "Ses01M_script01_1b"
    (folder / "Ses01M_script01_1b_F012.wav").rename(folder / "Ses01M_script01_1b_F012.flac")
    assert [one.path for one in read(tmp_path)] == [f"{WAV}/Ses01M_script01_1b/Ses01M_script01_1b_F012.flac"]


# Options


@pytest.mark.parametrize(
    ("parts", "turns"),
    [
        (["improvised"], ["Ses01F_impro01_F000", "Ses01F_impro01_F001", "Ses01F_impro01_M000"]),
        ("scripted", ["Ses01M_script01_1b_F012"]),
        (
            ["scripted", "improvised"],
            ["Ses01F_impro01_F000", "Ses01F_impro01_F001", "Ses01F_impro01_M000", "Ses01M_script01_1b_F012"],
        ),
    ],
)
def test_parts(two_dialogues: Path, parts: Any, turns: list[str]) -> None:
    # What is not wanted has no faults either.
    assert [Path(one.path).stem for one in read(two_dialogues, parts=parts)] == turns


@pytest.mark.parametrize("parts", [[], ["improvised", "natural"], "impro"])
def test_unknown_parts(parts: Any) -> None:
    with pytest.raises(InputError, match=r"iemocap: parts = .* cannot be read\s+give one or both of improvised, scr"):
        make_reader("iemocap", {"parts": parts})


# Faults


def test_faults(tmp_path: Path) -> None:
    # Lines: 3 and 4, 6, 8, 10, 12, 14, 16, 18 and 19, and on line 21 raters without a turn.
    lines = [
        "[1.0 - 2.0]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\nC-E1:\tNeutral;\t()",
        "[1.0 - 2.0]\tSes01F_impro01_F001\tjoy\t[2.5000, 2.5000, 2.5000]",
        "[1.0 - 2.0]\tSes01F_impro01_F002\tneu\t[2.5000, 2.5000, 2.5000]",
        "[1.0 - 2.0]\tSes01F_impro01_F000\tang\t[2.5000, 2.5000, 2.5000]",
        "[1.0 - 2.0]\tSes01F_impro01_F003\tneu\t[2.5000, , 2.5000]",
        "[1.0 - 2.0]\tSes01F_impro01_F004\tneu",
        "[1.0 - 2.0]\tSes01F_impro01_X005\tneu\t[2.5000, 2.5000, 2.5000]",
        "[1.0 - 2.0\tSes01F_impro01_F006\tneu\t[2.5000, 2.5000, 2.5000\nC-E1:\tAnger;\t()",
        "C-E1:\tAnger;\t()",
        "[1.0 - 2.0]\tSes01F_impro01_F007\tneu\t[2.5000, 2.5000, 2.5000]",
    ]
    plant(tmp_path, HEADER + "\n\n".join(lines) + "\n", turns="F000 F001 F003 F004 X005 F006 F007 F008 notes")
    fakes.hide_double(tmp_path / WAV / "Ses01F_impro01/Ses01F_impro01_F000.wav")
    file = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    folder = f"{WAV}/Ses01F_impro01/Ses01F_impro01"
    found = read(tmp_path)
    assert [(one.path.removeprefix(folder), one.reason if isinstance(one, Fault) else one.votes) for one in found] == [
        ("_F000.wav", {"neutral": 1}),
        ("_F001.wav", f"unknown emotion: 'joy' in {file}, line 6"),
        ("_F002.wav", f"missing file: listed in {file}"),
        ("_F000.wav", f"listed twice in dialog/EmoEvaluation: {file}, line 10"),
        ("_F003.wav", f"rating not understood: [2.5000, , 2.5000] in {file}, line 12; it stays without it"),
        ("_F003.wav", None),
        (file, r"not understood: line 14: '[1.0 - 2.0]\tSes01F_impro01_F004\tneu'"),
        (file, r"not understood: line 16: '[1.0 - 2.0]\tSes01F_impro01_X005\tneu\t[2.5000, 2.5000, 2.5000]'"),
        (file, r"not understood: line 18: '[1.0 - 2.0\tSes01F_impro01_F006\tneu\t[2.5000, 2.5000, 2.5000'"),
        (file, r"not understood: line 21: 'C-E1:\tAnger;\t()'"),
        ("_F007.wav", None),
        ("_F008.wav", "no label: not listed in Session1/dialog/EmoEvaluation"),
        ("_notes.wav", "no label: not listed in Session1/dialog/EmoEvaluation"),
    ]


def test_a_dialogue_that_cannot_be_understood_does_not_cost_the_others(tmp_path: Path) -> None:
    plant(tmp_path, SCRIPTED, "Ses01M_script01_1b", "F012")
    plant(tmp_path, b"\x00\x01binary\x02", "Ses01F_impro01", "F000")
    plant(tmp_path, b"", "Ses01F_impro02", "F000")
    assert Counter(one.kind if isinstance(one, Fault) else "turn" for one in read(tmp_path)) == {
        "turn": 1,
        "not understood": 1,
        "no label": 2,
    }


def test_corpus_that_cannot_be_understood_is_refused_with_files_and_lines(tmp_path: Path) -> None:
    root = plant(tmp_path / "IEMOCAP", "no such\nannotations\n", turns="F000")
    with pytest.raises(InputError, match=r"Ses01F_impro01\.txt: not understood: line 1: 'no such'"):
        build(root, tmp_path / "cache")


def test_folder_that_is_not_the_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no folder Session1, Session2, …\s+set the root"):
        read(tmp_path)
    (tmp_path / WAV).mkdir(parents=True)
    with pytest.raises(InputError, match=r"holds no improvised or scripted dialogue in Session\*/dialog/EmoEvaluation"):
        read(tmp_path)
    plant(tmp_path, SCRIPTED, "Ses01M_script01_1b", "F012")
    with pytest.raises(InputError, match="holds no improvised dialogue"):
        read(tmp_path, parts="improvised")


def test_session_without_audio(tmp_path: Path) -> None:
    [fault] = read(plant(tmp_path, SCRIPTED, "Ses01M_script01_1b"))
    assert fault == Fault(
        f"{WAV}/Ses01M_script01_1b/Ses01M_script01_1b_F012.wav",
        "missing file: listed in Session1/dialog/EmoEvaluation/Ses01M_script01_1b.txt",
    )


# The whole tree

CUSTOMARY = {"angry": ["anger"], "happy": ["happiness", "excitement"], "sad": ["sadness"], "neutral": ["neutral"]}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.iemocap(tmp_path_factory.mktemp("data") / "IEMOCAP_full_release")


@pytest.fixture(scope="module")
def manifest(release: Path) -> Manifest:
    return build(release, release.parent / "cache")


def test_release(manifest: Manifest) -> None:
    assert manifest.faults == []
    assert len(manifest) == 5 * 2 * 12
    assert (manifest.corpus, manifest.labelled, manifest.facts["language"]) == ("iemocap", True, "en")
    found = rows(manifest)
    sessions = ("Ses01", "Ses02", "Ses03", "Ses04", "Ses05")
    assert Counter((row["speaker"], row["gender"], row["session"]) for row in found) == {
        (f"iemocap/{session}{letter}", gender, session): 12
        for session in sessions
        for letter, gender in (("F", "female"), ("M", "male"))
    }
    by_speaker = Counter((row["speaker"], row["label"]) for row in found)
    for session in sessions:
        for letter in "FM":
            counts = {
                code: by_speaker[f"iemocap/{session}{letter}", code] for code in ("neu", "ang", "sad", "hap", "exc")
            }
            assert counts == {"neu": 2, "ang": 2, "sad": 2, "hap": 1, "exc": 1}
    assert Counter(row["emotion"] for row in found) == {
        "neutral": 20, "anger": 20, "sadness": 20, "happiness": 10, "excitement": 10, "fear": 7, "surprise": 7,
        "disgust": 7, "other": 7, "frustration": 6, None: 6,
    }  # fmt: skip
    assert {row["label"] for row in found if row["emotion"] is None} == {"xxx"}
    assert {row["sample_rate"] for row in found} == {16_000}
    assert {row["path"].split("/")[-1][6:12] for row in found} == {"_impro", "_scrip"}


def test_rows_of_the_release(manifest: Manifest) -> None:
    found = {row["path"].rpartition("/")[2]: row for row in rows(manifest)}
    row = found["Ses03M_script02_1_F001.wav"]
    assert {name: row[name] for name in row if name not in ("content_hash", "speech_start", "speech_end")} == {
        "path": "Session3/sentences/wav/Ses03M_script02_1/Ses03M_script02_1_F001.wav",
        "start": 0.0,
        "duration": 0.4,
        "sample_rate": 16_000,
        "frames": 6400,
        "corpus": "iemocap",
        "speaker": "iemocap/Ses03F",
        "gender": "female",
        "session": "Ses03",
        "sentence": None,
        "label": "ang",
        "emotion": "anger",
        "votes": [("anger", 2.0), ("other", 1.0), ("surprise", 1.0)],
        "activation": 0.875,
        "valence": 0.25,
        "dominance": 0.75,
        "activation_original": 4.5,
        "valence_original": 2.0,
        "dominance_original": 4.0,
        "split": None,
    }
    row = found["Ses01F_impro01_M004.wav"]
    assert (row["speaker"], row["label"], row["emotion"]) == ("iemocap/Ses01M", "xxx", None)
    assert row["votes"] == [("anger", 1.0), ("sadness", 1.0), ("fear", 1.0), ("other", 1.0)]
    assert (row["activation_original"], row["activation"]) == (3.5, 0.625)
    for dimension in ("activation", "valence", "dominance"):
        assert manifest.scale(dimension) == Scale(1, 5)


def test_parts_of_the_release(release: Path) -> None:
    for part, turns in (("improvised", 80), ("scripted", 40)):
        built = build(release, release.parent / "cache", options={"parts": part})
        assert (len(built), built.faults) == (turns, [])


def test_some_sessions_are_a_corpus(tmp_path: Path) -> None:
    root = fakes.iemocap(tmp_path / "IEMOCAP", sessions=2, codes=["neu"])
    (root / "Session1").rename(root / "Session4")
    assert {Path(one.path).parts[0] for one in read(root)} == {"Session2", "Session4"}


def test_nothing_but_turns_and_annotations_is_looked_at(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned: list[str] = []

    def scandir(folder: str) -> Iterator[os.DirEntry[str]]:
        scanned.append(os.path.relpath(folder, release))
        return original(folder)

    original = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    reader = make_reader("iemocap")
    watched = list(reader.watched(release))
    assert len(list(reader.read(release))) == 120
    of_interest = re.compile(
        r"\.|IEMOCAP_full_release|Session\d/(sentences/wav(/\.|/\w+)?|dialog/EmoEvaluation(/Ses\w+\.txt)?)"
    )
    assert [path for path in (*scanned, *watched) if not of_interest.fullmatch(path)] == []
    assert "Session5/sentences/wav/Ses05F_impro01" in scanned
    assert "Session5/sentences/wav/Ses05F_impro01" in watched
    assert "Session5/dialog/EmoEvaluation/Ses05F_impro01.txt" in watched


def test_audio_faults(tmp_path: Path) -> None:
    root = fakes.iemocap(tmp_path / "IEMOCAP", sessions=1)
    files = sorted((root / WAV).rglob("Ses*.wav"))
    expected = fakes.plant_all(files)
    (root / WAV / "Ses01M_script02_1/Ses01M_script02_1_M003.wav").unlink()
    built = build(root, tmp_path / "cache", max_bad_fraction=0.5)
    paths = {file.relative_to(root).as_posix(): kind for file, kind in expected.items()}
    assert {fault.path: fault.kind for fault in built.faults} == {
        **{path: kind for path, kind in paths.items() if kind},
        f"{WAV}/Ses01M_script02_1/Ses01M_script02_1_M003.wav": "missing file",
    }
    assert len(built) == 24 - 7
    assert {path for path, kind in paths.items() if not kind} <= {row["path"] for row in rows(built)}


def test_a_rating_that_is_no_number_is_missing(tmp_path: Path) -> None:
    plant(tmp_path, HEADER + "[1.0 - 2.0]\tSes01F_impro01_F000\tang\t[2.5000, NaN, 3.0000]\n", turns="F000")
    (turn,) = read(tmp_path)
    assert isinstance(turn, Utterance)
    assert (turn.emotion, turn.valence, turn.activation, turn.dominance) == ("anger", 2.5, None, 3.0)


def test_rating_outside_of_its_scale(tmp_path: Path) -> None:
    root = fakes.iemocap(tmp_path / "IEMOCAP", sessions=1, codes=["neu", "ang"])
    file = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    text = file.read_text("latin-1")
    text = text.replace("[3.0000, 2.5000, 3.0000]", "[3.0000, 0.5000, 5.5000]", 1)
    file.write_text(text, "latin-1")
    built = build(root, tmp_path / "cache", max_bad_fraction=0.5)
    path = f"{WAV}/Ses01F_impro01/Ses01F_impro01_F000.wav"
    assert [(fault.path, fault.reason.partition(";")[0]) for fault in built.faults] == [
        (path, "rating outside its scale: activation 0.5 is not in 1 to 5"),
        (path, "rating outside its scale: dominance 5.5 is not in 1 to 5"),
    ]
    row = built.row(0)
    assert (row["path"], row["emotion"]) == (path, "neutral")
    assert (row["valence"], row["activation"], row["dominance"]) == (0.5, None, None)


@pytest.mark.parametrize("folder", ["IEMOCAP_full_release", "IEMOCAP", "iemocap", "IEMOCAP_full_release_withoutVideos"])
def test_root_as_people_have_it(tmp_path: Path, folder: str) -> None:
    reader = make_reader("iemocap")
    plant(tmp_path / folder, SCRIPTED, "Ses01M_script01_1b", "F012")
    assert find_root(reader, None, str(tmp_path)) == tmp_path / folder
    expected = [f"{WAV}/Ses01M_script01_1b/Ses01M_script01_1b_F012.wav"]
    assert [one.path for one in reader.read(tmp_path / folder)] == expected


def test_archive_that_was_unpacked_into_a_folder(tmp_path: Path) -> None:
    plant(tmp_path / "IEMOCAP_full_release", SCRIPTED, "Ses01M_script01_1b", "F012")
    expected = [f"IEMOCAP_full_release/{WAV}/Ses01M_script01_1b/Ses01M_script01_1b_F012.wav"]
    assert [one.path for one in read(tmp_path)] == expected


def test_missing_corpus_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"https://sail\.usc\.edu/iemocap/"):
        find_root(make_reader("iemocap"), None, str(tmp_path))


def test_manifest_is_made_again_when_the_corpus_changes(tmp_path: Path) -> None:
    root = fakes.iemocap(tmp_path / "IEMOCAP", sessions=1, codes=["neu", "ang"])

    def labels() -> Counter[str]:
        return Counter(build(root, tmp_path / "cache", max_bad_fraction=0.5).column("label"))

    assert labels() == {"neu": 2, "ang": 2}
    file = root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    file.write_text(file.read_text("latin-1").replace("F001\tang", "F001\tsadd").replace("sadd", "sad"), "latin-1")
    assert labels() == {"neu": 2, "ang": 1, "sad": 1}
    (root / WAV / "Ses01F_impro01/Ses01F_impro01_M000.wav").unlink()
    assert labels() == {"neu": 1, "ang": 1, "sad": 1}
    fakes.iemocap(tmp_path / "more", sessions=2, codes=["fru"])
    (tmp_path / "more/Session2").rename(root / "Session2")
    assert labels() == {"neu": 1, "ang": 1, "sad": 1, "fru": 2}


def test_customary_classes_in_their_proportions(tmp_path: Path) -> None:
    # A hundredth of 1103, 595 + 1041, 1084, 1708, 1849 and, without agreement, 2507 turns, for each of two speakers.
    codes = ["ang"] * 11 + ["hap"] * 6 + ["exc"] * 10 + ["sad"] * 11 + ["neu"] * 17 + ["fru"] * 18 + ["xxx"] * 25
    root = fakes.iemocap(tmp_path / "IEMOCAP", sessions=1, codes=codes, seconds=0.25)
    built = build(root, tmp_path / "cache")
    found = built.class_codes(CUSTOMARY)
    assert np.bincount(found[found >= 0]).tolist() == [22, 32, 22, 34]
    assert (found < 0).sum() == 2 * (18 + 25)
    assert Counter(built.column("label"))["xxx"] == 50


# Splits

SPEAKERS = [f"iemocap/Ses0{session}{letter}" for session in range(1, 6) for letter in "FM"]


@pytest.mark.parametrize("development", ["same_session", "next"])
def test_leave_one_session_out(manifest: Manifest, development: str) -> None:
    settings = SplitSettings(protocol="leave_one_session_out", development=development)
    corpus = columns(manifest, CUSTOMARY)
    assert corpus.rows.size == 80
    assert fold_count([corpus], settings) == 5
    for fold in range(5):
        female, male = SPEAKERS[2 * fold : 2 * fold + 2]
        held_out = [female, male]
        following = SPEAKERS[2 * ((fold + 1) % 5) :][:2]
        train, chosen, test = sides(corpus, replace(settings, fold=fold))
        if development == "same_session":
            assert (chosen, test) == ([female], [male])
        else:
            assert (chosen, test) == (following, held_out)
        assert train == [speaker for speaker in SPEAKERS if speaker not in chosen + test]


@pytest.mark.parametrize("development", ["same_session", "next"])
def test_leave_one_speaker_out(manifest: Manifest, development: str) -> None:
    settings = SplitSettings(protocol="leave_one_speaker_out", development=development)
    corpus = columns(manifest, CUSTOMARY)
    assert corpus.rows.size == 80
    assert fold_count([corpus], settings) == 10
    for fold, speaker in enumerate(SPEAKERS):
        partner = speaker[:-1] + {"F": "M", "M": "F"}[speaker[-1]]
        expected = partner if development == "same_session" else SPEAKERS[(fold + 1) % 10]
        train, chosen, test = sides(corpus, replace(settings, fold=fold))
        assert (chosen, test) == ([expected], [speaker])
        assert train == [other for other in SPEAKERS if other not in (speaker, expected)]
