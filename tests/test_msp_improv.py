"""MSP-IMPROV's reader against the corpus's format."""

from collections import Counter
from collections.abc import Callable
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

TABLE = """\
UTD-IMPROV-S01A-F01-S-FM01.avi; N; A:3.000000; V:3.500000; D:2.500000;
WORKER00000070; Neutral; Neutral; A:3.000000; V:3.000000; D:3.000000; N:4.000000;
WORKER00000071; Other; Other (bored; café), Sad; A:3.000000; V:4.000000; D:2.000000; N:4.000000;
student-p03_b; Neutral; ; A:3.000000; V:4.000000; D:NaN; N:NaN;
WORKER00000071; Other; Other (bored; café), Sad; A:3.000000; V:4.000000; D:2.000000; N:4.000000;

UTD-IMPROV-S12H-M06-R-MM02.avi; H; A:1.400000; V:NaN; D:NaN ; N:4.000000;
WORKER00000009; Happy; Happy,Excited; A:1.000000; V:NaN; D:NaN; N:4.000000;

UTD-IMPROV-S03S-F04-P-MF11.avi; X; D : 4.000000 ; V:2.000000;
WORKER00000070; Angry; Angry,Frustrated; A:2.000000; V:2.000000; D:3.000000; N:4.000000;
WORKER00000071; Sad; Sad; A:2.000000; V:2.000000; D:3.000000; N:4.000000;

UTD-IMPROV-S20N-M02-T-FM03.avi; O; V:2.200000; A:4.600000;
"""
TURNS = (
    "session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM01",
    "session6/S12H/R/MSP-IMPROV-S12H-M06-R-MM02",
    "session4/S03S/P/MSP-IMPROV-S03S-F04-P-MF11",
    "session2/S20N/T/MSP-IMPROV-S20N-M02-T-FM03",
)


def plant(root: Path, text: str | bytes, *turns: str, table: str = "Evalution.txt", audio: str = "Audio") -> Path:
    """Writes the table, and turns that are empty files."""
    for turn in turns:
        file = root / audio / f"{turn}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (root / table).parent.mkdir(parents=True, exist_ok=True)
    (root / table).write_bytes(text if isinstance(text, bytes) else text.encode())
    return root


def read(root: Path, **options: Any) -> list[Utterance | Fault]:
    return list(make_reader("msp_improv", options).read(root))


def build(root: Path, cache: Path, **more: Any) -> Manifest:
    reader = make_reader("msp_improv", more.pop("options", {}))
    more = {"workers": 1, "progress": False} | more
    return build_manifest(reader, root, cache, hash_content=True, **more)


def rows(manifest: Manifest) -> list[dict[str, Any]]:
    return [manifest.row(index) for index in range(len(manifest))]


# Turns

EXPECTED = [
    Utterance(
        "Audio/session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM01.wav",
        speaker="F01",
        gender="female",
        session="session1",
        sentence="S01",
        label="N",
        emotion="neutral",
        votes={"neutral": 2, "other": 1},
        activation=3.0,
        valence=3.5,
        dominance=2.5,
    ),
    Utterance(
        "Audio/session6/S12H/R/MSP-IMPROV-S12H-M06-R-MM02.wav",
        speaker="M06",
        gender="male",
        session="session6",
        sentence="S12",
        label="H",
        emotion="happiness",
        votes={"happiness": 1},
        activation=1.4,
    ),
    Utterance(
        "Audio/session4/S03S/P/MSP-IMPROV-S03S-F04-P-MF11.wav",
        speaker="F04",
        gender="female",
        session="session4",
        label="X",
        emotion=None,
        votes={"anger": 1, "sadness": 1},
        valence=2.0,
        dominance=4.0,
    ),
    Utterance(
        "Audio/session2/S20N/T/MSP-IMPROV-S20N-M02-T-FM03.wav",
        speaker="M02",
        gender="male",
        session="session2",
        label="O",
        emotion="other",
        activation=4.6,
        valence=2.2,
    ),
]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: text.encode("latin-1"),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.rstrip("\n").encode(),
        lambda text: text.replace("\n\n", "\n").encode(),
        lambda text: text.replace("\n\n", "\n \n\n").encode(),
        lambda text: text.replace("; ", ";").encode(),
        lambda text: f"% a comment\n\n{text}".encode(),
    ],
)
def test_turns(tmp_path: Path, encode: Callable[[str], bytes]) -> None:
    assert read(plant(tmp_path, encode(TABLE), *TURNS)) == EXPECTED


@pytest.mark.parametrize("table", ["Evaluation.txt", "Labels/Evalution.txt", "a/b/Evaluation.txt"])
def test_table_under_another_name(tmp_path: Path, table: str) -> None:
    assert read(plant(tmp_path, TABLE, *TURNS, table=table)) == EXPECTED
    assert table in list(make_reader("msp_improv").watched(tmp_path))


def test_table_in_the_root_under_its_own_name_goes_first(tmp_path: Path) -> None:
    plant(tmp_path, TABLE, *TURNS)
    plant(tmp_path, "edited", table="Evaluation.txt")
    plant(tmp_path, "copied", table="Audio/Evalution.txt")
    fakes.hide_double(tmp_path / "Evalution.txt")
    assert read(tmp_path) == EXPECTED


@pytest.mark.parametrize("audio", [".", "MSP-IMPROV/Audio"])
def test_audio_elsewhere(tmp_path: Path, audio: str) -> None:
    found = read(plant(tmp_path, TABLE, *TURNS, audio=audio))
    prefix = "" if audio == "." else f"{audio}/"
    assert [one.path for one in found] == [f"{prefix}{turn}.wav" for turn in TURNS]


def test_converted_audio(tmp_path: Path) -> None:
    plant(tmp_path, TABLE, *TURNS)
    for file in list(tmp_path.rglob("*.wav")):
        file.rename(file.with_suffix(".flac"))
    assert [one.path for one in read(tmp_path)] == [f"Audio/{turn}.flac" for turn in TURNS]


# Options


@pytest.mark.parametrize(
    ("scenarios", "turns"),
    [(["P", "R", "S", "T"], [0, 1, 2, 3]), ("P", [2]), ("R", [1]), ("S", [0]), (["T"], [3]), (["T", "S"], [0, 3])],
)
def test_scenarios(tmp_path: Path, scenarios: Any, turns: list[int]) -> None:
    # What is not wanted has no faults either: not for labels without audio, nor for audio without labels.
    listed = "UTD-IMPROV-S01A-F01-{0}-FM77.avi; N; A:3.000000; V:3.500000; D:2.500000;\n\n"
    unwanted = [letter for letter in "PRST" if letter not in scenarios]
    plant(tmp_path, TABLE + "\n" + "".join(map(listed.format, unwanted)), *TURNS)
    for letter in unwanted:
        (tmp_path / f"Audio/MSP-IMPROV-S01A-F01-{letter}-FM88.wav").touch()
    assert read(tmp_path, scenarios=scenarios) == [EXPECTED[turn] for turn in turns]


@pytest.mark.parametrize("scenarios", [[], ["P", "Q"], "natural"])
def test_unknown_scenarios(scenarios: Any) -> None:
    with pytest.raises(InputError, match=r"scenarios = .* cannot be read\s+give some of P \(natural interaction\), R"):
        make_reader("msp_improv", {"scenarios": scenarios})


# Faults


def test_faults(tmp_path: Path) -> None:
    values = "A:3.000000; V:3.500000; D:2.500000;"
    lines = [
        f"UTD-IMPROV-S01A-F01-S-FM01.avi; N; {values}",
        f"UTD-IMPROV-S01A-F01-S-FM02.avi; Q; {values}",
        f"UTD-IMPROV-S01A-F01-S-FM03.avi; {values}",
        f"UTD-IMPROV-S01A-F01-S-FM04.avi; N; {values}",
        f"UTD-IMPROV-S01A-F01-S-FM01.avi; A; {values}\nWORKER00000070; Angry; Angry; {values}",
        "UTD-IMPROV-S01A-F01-S-FM05.avi; N; A:three; V:3.500000; D:2.500000;",
        f"UTD-IMPROV-S01A-F01-Q-FM06.avi; N; {values}",
        f"UTD-IMPROV-S01A-F01-S-FM07.avi\nWORKER00000070; Angry; Angry; {values}",
        f"WORKER00000070; Angry; Angry; {values}",
        f"UTD-IMPROV-S01A-F01-S-FM08.avi; N; {values}",
    ]
    folder = "Audio/session1/S01A/S/MSP-IMPROV-S01A-F01-S-"
    turns = [
        f"session1/S01A/S/MSP-IMPROV-S01A-F01-S-{turn}" for turn in ("FM01", "FM02", "FM03", "FM05", "FM07", "FM08")
    ]
    plant(tmp_path, "\n\n".join(lines) + "\n", *turns, "session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM09", "readme")
    fakes.hide_double(tmp_path / f"{folder}FM01.wav")
    found = read(tmp_path)
    assert [(one.path.removeprefix(folder), one.reason if isinstance(one, Fault) else one.votes) for one in found] == [
        ("FM01.wav", None),
        ("FM02.wav", "unknown emotion: 'Q' in Evalution.txt, line 3"),
        ("FM03.wav", "unknown emotion: 'A:3.000000' in Evalution.txt, line 5"),
        ("MSP-IMPROV-S01A-F01-S-FM04.wav", "missing file: listed in Evalution.txt, line 7"),
        ("FM01.wav", "listed twice in Evalution.txt: line 9"),
        (
            "FM05.wav",
            "rating not understood: A:three; V:3.500000; D:2.500000 in Evalution.txt, line 12; it stays without it",
        ),
        ("FM05.wav", None),
        (
            "Evalution.txt",
            "not understood: line 14: 'UTD-IMPROV-S01A-F01-Q-FM06.avi; N; A:3.000000; V:3.500000; D:2.500000;'",
        ),
        ("FM07.wav", "unknown emotion: '' in Evalution.txt, line 16"),
        ("FM08.wav", None),
        ("Audio/readme.wav", "no label: not listed in Evalution.txt"),
        ("FM09.wav", "no label: not listed in Evalution.txt"),
    ]


def test_folder_that_is_not_the_corpus(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no Evalution\.txt\s+set the root to the folder that holds"):
        read(tmp_path)
    plant(tmp_path, "name;emotion\nMSP;N\n", *TURNS)
    with pytest.raises(InputError, match=r"Evalution\.txt has no line such as 'UTD-IMPROV-S01A[\s\S]*own file"):
        read(tmp_path)


# The whole tree

CUSTOMARY = {"angry": ["anger"], "happy": ["happiness"], "sad": ["sadness"], "neutral": ["neutral"]}
SPEAKERS = [f"msp_improv/{letter}0{session}" for letter in "FM" for session in range(1, 7)]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fakes.msp_improv(tmp_path_factory.mktemp("data") / "MSP-IMPROV")


@pytest.fixture(scope="module")
def manifest(release: Path) -> Manifest:
    return build(release, release.parent / "cache")


def test_release(manifest: Manifest) -> None:
    assert manifest.faults == []
    found = rows(manifest)
    assert len(found) == 12 * 18
    assert Counter((row["speaker"], row["gender"], row["session"]) for row in found) == {
        (f"msp_improv/{letter}0{session}", gender, f"session{session}"): 18
        for session in range(1, 7)
        for letter, gender in (("F", "female"), ("M", "male"))
    }
    assert Counter((row["label"], row["emotion"]) for row in found) == {
        ("A", "anger"): 48,
        ("H", "happiness"): 48,
        ("S", "sadness"): 48,
        ("N", "neutral"): 48,
        ("O", "other"): 12,
        ("X", None): 12,
    }
    assert {row["sample_rate"] for row in found} == {44_100}
    assert Counter((row["path"].split("/")[-2], row["sentence"]) for row in found) == {
        ("R", "S01"): 24, ("R", "S02"): 24, ("S", "S01"): 24, ("S", "S02"): 24, ("P", None): 60, ("T", None): 60,
    }  # fmt: skip
    codes = manifest.class_codes(CUSTOMARY)
    assert np.bincount(codes[codes >= 0]).tolist() == [48, 48, 48, 48]


def test_rows_of_the_release(manifest: Manifest) -> None:
    found = {row["path"].rpartition("/")[2]: row for row in rows(manifest)}
    row = found["MSP-IMPROV-S01A-M03-S-FM01.wav"]
    approximate = {name: pytest.approx(row.pop(name)) for name in ("activation", "activation_original")}
    assert approximate == {"activation": 0.8, "activation_original": 1.8}
    assert {name: row[name] for name in row if name not in ("content_hash", "speech_start", "speech_end")} == {
        "path": "Audio/session3/S01A/S/MSP-IMPROV-S01A-M03-S-FM01.wav",
        "start": 0.0,
        "duration": 0.3,
        "sample_rate": 44_100,
        "frames": 13_230,
        "corpus": "msp_improv",
        "speaker": "msp_improv/M03",
        "gender": "male",
        "session": "session3",
        "sentence": "S01",
        "label": "A",
        "emotion": "anger",
        "votes": [("anger", 2.0), ("other", 1.0)],
        "valence": 0.25,
        "dominance": 0.75,
        "valence_original": 2.0,
        "dominance_original": 4.0,
        "split": None,
    }
    # Missing dominance is NaN for H, and not there for N; for S the order is another.
    for code, dimensions in (("H", (0.8, 0.75, None)), ("S", (0.3, 0.25, 0.25)), ("N", (0.55, 0.5, None))):
        row = found[f"MSP-IMPROV-S01{code}-M03-S-FM01.wav"]
        assert (row["activation"], row["valence"], row["dominance"]) == pytest.approx(dimensions)
    row = found["MSP-IMPROV-S02A-F06-T-FM02.wav"]
    assert (row["label"], row["emotion"]) == ("X", None)
    assert row["votes"] == [("anger", 1.0), ("sadness", 1.0), ("happiness", 1.0)]


def test_activation_is_turned(manifest: Manifest) -> None:
    """As rated, 1 is very active; on the common scale, 1 is much activation, as it is for IEMOCAP's 5."""
    assert manifest.scale("activation") == Scale(1, 5, reversed=True)
    assert manifest.scale("valence") == manifest.scale("dominance") == Scale(1, 5)
    rated, common = (manifest.column(name) for name in ("activation_original", "activation"))
    np.testing.assert_allclose(common, (5 - rated) / 4, atol=1e-6)
    labels = manifest.column("label")
    assert common[labels == "A"].mean() > 0.7 > 0.4 > common[labels == "S"].mean()


@pytest.mark.parametrize(("scenarios", "turns"), [("R", 48), (["S", "R"], 96), (["P", "T"], 120)])
def test_scenarios_of_the_release(release: Path, scenarios: Any, turns: int) -> None:
    built = build(release, release.parent / "cache", options={"scenarios": scenarios})
    assert (len(built), built.faults) == (turns, [])


def test_audio_faults(tmp_path: Path) -> None:
    root = fakes.msp_improv(tmp_path / "MSP-IMPROV", sessions=1, table="Evaluation.txt", newline="\r\n")
    files = sorted((root / "Audio").rglob("MSP*.wav"))
    expected = {file.relative_to(root).as_posix(): kind for file, kind in fakes.plant_all(files).items()}
    files[11].unlink()
    files[12].rename(files[12].with_stem("MSP-IMPROV-S01A-F01-S-FM99"))
    built = build(root, tmp_path / "cache", max_bad_fraction=0.5)
    assert {fault.path: fault.kind for fault in built.faults} == {
        **{path: kind for path, kind in expected.items() if kind},
        files[11].name: "missing file",
        files[12].name: "missing file",
        files[12].with_stem("MSP-IMPROV-S01A-F01-S-FM99").relative_to(root).as_posix(): "no label",
    }
    assert len(built) == 36 - 8
    assert {path for path, kind in expected.items() if not kind} <= {row["path"] for row in rows(built)}


def test_rating_outside_of_its_scale(tmp_path: Path) -> None:
    root = fakes.msp_improv(tmp_path / "MSP-IMPROV", sessions=1)
    text = (root / "Evalution.txt").read_text()
    (root / "Evalution.txt").write_text(text.replace("A:1.800000", "A:0.000000", 1))
    built = build(root, tmp_path / "cache", max_bad_fraction=0.5)
    assert [(fault.path, fault.kind) for fault in built.faults] == [
        ("Audio/session1/S01A/R/MSP-IMPROV-S01A-F01-R-FF01.wav", "rating outside its scale")
    ]
    assert (built.row(0)["emotion"], built.row(0)["activation"], built.row(0)["valence"]) == ("anger", None, 0.25)


@pytest.mark.parametrize("folder", ["MSP-IMPROV", "MSP_IMPROV", "MSP-Improv", "msp_improv", "msp-improv"])
def test_root_as_people_have_it(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    assert find_root(make_reader("msp_improv"), None, str(tmp_path)) == tmp_path / folder


def test_missing_corpus_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"https://ecs\.utdallas\.edu/research/researchlabs/msp-lab/MSP-Improv\.html"):
        find_root(make_reader("msp_improv"), None, str(tmp_path))


def test_manifest_is_made_again_when_the_table_changes(tmp_path: Path) -> None:
    root = fakes.msp_improv(tmp_path / "MSP-IMPROV", sessions=1)
    before = Counter(build(root, tmp_path / "cache").column("label"))
    text = (root / "Evalution.txt").read_text()
    (root / "Evalution.txt").write_text(text.replace("F01-R-FF01.avi; A;", "F01-R-FF01.avi; O ;"))
    after = Counter(build(root, tmp_path / "cache").column("label"))
    assert (before["A"], before["O"]) == (8, 2)
    assert (after["A"], after["O"]) == (7, 3)


# Splits


@pytest.mark.parametrize("development", ["same_session", "next"])
def test_leave_one_session_out(manifest: Manifest, development: str) -> None:
    settings = SplitSettings(protocol="leave_one_session_out", development=development)
    corpus = columns(manifest, CUSTOMARY)
    assert corpus.rows.size == 12 * 16
    assert fold_count([corpus], settings) == 6
    for fold in range(6):
        held_out, following = ([SPEAKERS[one % 6], SPEAKERS[6 + one % 6]] for one in (fold, fold + 1))
        train, chosen, test = sides(corpus, replace(settings, fold=fold))
        if development == "same_session":
            assert (chosen, test) == (held_out[:1], held_out[1:])
        else:
            assert (chosen, test) == (following, held_out)
        assert train == [speaker for speaker in SPEAKERS if speaker not in chosen + test]


@pytest.mark.parametrize("development", ["same_session", "next"])
def test_leave_one_speaker_out(manifest: Manifest, development: str) -> None:
    settings = SplitSettings(protocol="leave_one_speaker_out", development=development)
    corpus = columns(manifest, CUSTOMARY)
    assert corpus.rows.size == 12 * 16
    assert fold_count([corpus], settings) == 12
    for fold, speaker in enumerate(SPEAKERS):
        expected = SPEAKERS[(fold + (6 if development == "same_session" else 1)) % 12]
        train, chosen, test = sides(corpus, replace(settings, fold=fold))
        assert (chosen, test) == ([expected], [speaker])
        assert train == [other for other in SPEAKERS if other not in (speaker, expected)]
