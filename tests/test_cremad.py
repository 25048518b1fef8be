"""CREMA-D against its format: names, genders, intended and perceived labels, votes, and every fault."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules.building import build_manifest
from datamodules.corpora import find_root, make_reader
from datamodules.corpora.base import Fault, Utterance
from datamodules.errors import InputError
from datamodules.manifest import Manifest
from tests import fakes

ACTORS = """\
"ActorID","Age","Sex","Race","Ethnicity"
1001,51,"Male","Caucasian","Not Hispanic"
1002,21,"Female","Caucasian","Hispanic"
1040,42,"Male","Caucasian","Not Hispanic"
"""
SUMMARY = """\
"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"
"1","1001_DFA_ANG_XX","A","47.33","N","41.8","D","41.5"
"2","1001_IEO_SAD_HI","N","60.14","A:F","30.67:51.00","N","63.5"
"3","1002_TIE_NEU_XX","F:H:N","50:51:52","N","77","N","90"
"""
VOTES = """\
"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote","meanEmoResp"
"100001",6,2,0,0,1,0,"1001_DFA_ANG_XX",9,0.67,"A",54.7
"100002",0,0,0,1,7,1,"1001_IEO_SAD_HI",9,0.78,"N",NA
"100003",0,0,3,3,3,0,"1002_TIE_NEU_XX",9,0.33,"F:H:N",51
"200001",1,0,0,0,9,0,"1001_DFA_ANG_XX",10,0.9,"N",40
"200002",4,0,4,0,2,0,"1001_IEO_SAD_HI",10,0.4,"A:F",44
"300001",3,7,0,0,0,0,"1001_DFA_ANG_XX",10,0.7,"D",41.5
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree of three clips with all its tables; the audio is empty, since readers do not open it."""
    for name in ("1001_DFA_ANG_XX", "1001_IEO_SAD_HI", "1002_TIE_NEU_XX"):
        add(tmp_path, name)
    (tmp_path / "processedResults").mkdir()
    (tmp_path / "VideoDemographics.csv").write_text(ACTORS)
    (tmp_path / "processedResults/summaryTable.csv").write_text(SUMMARY)
    (tmp_path / "processedResults/tabulatedVotes.csv").write_text(VOTES)
    return tmp_path


def add(root: Path, name: str, suffix: str = ".wav", folder: str = "AudioWAV") -> None:
    (root / folder).mkdir(exist_ok=True)
    (root / folder / f"{name}{suffix}").touch()


def read(root: Path, **options: Any) -> list[Utterance | Fault]:
    return list(make_reader("cremad", options).read(root))


def labels(root: Path, choice: str) -> dict[str, tuple[str | None, str | None]]:
    found = [one for one in read(root, labels=choice) if isinstance(one, Utterance)]
    return {one.path.removeprefix("AudioWAV/"): (one.label, one.emotion) for one in found}


def votes(root: Path, choice: str) -> list[Any]:
    return [one.votes for one in read(root, labels=choice) if isinstance(one, Utterance)]


def faults(found: list[Utterance | Fault]) -> list[tuple[str, str]]:
    return [(one.path, one.reason) for one in found if isinstance(one, Fault)]


# Intended emotions


def test_names_and_genders(root: Path) -> None:
    assert read(root) == [
        Utterance(
            "AudioWAV/1001_DFA_ANG_XX.wav", speaker="1001", gender="male", sentence="DFA", label="ANG", emotion="anger"
        ),
        Utterance(
            "AudioWAV/1001_IEO_SAD_HI.wav",
            speaker="1001",
            gender="male",
            sentence="IEO",
            label="SAD",
            emotion="sadness",
        ),
        Utterance(
            "AudioWAV/1002_TIE_NEU_XX.wav",
            speaker="1002",
            gender="female",
            sentence="TIE",
            label="NEU",
            emotion="neutral",
        ),
    ]


def test_emotions(root: Path) -> None:
    for code, level in (("ANG", "LO"), ("DIS", "MD"), ("FEA", "HI"), ("HAP", "LO"), ("NEU", "XX"), ("SAD", "MD")):
        add(root, f"1040_IEO_{code}_{level}")
    found = [one for one in read(root) if isinstance(one, Utterance) and one.speaker == "1040"]
    assert [(one.label, one.emotion) for one in found] == [
        ("ANG", "anger"),
        ("DIS", "disgust"),
        ("FEA", "fear"),
        ("HAP", "happiness"),
        ("NEU", "neutral"),
        ("SAD", "sadness"),
    ]


def test_only_one_copy_of_the_audio_is_read(root: Path) -> None:
    add(root, "1001_DFA_ANG_XX", ".mp3", folder="AudioMP3")
    add(root, "1001_DFA_ANG_XX", ".flv", folder="VideoFlash")
    (root / "AudioWAV/._1001_DFA_ANG_XX.wav").touch()
    assert len(read(root)) == 3


def test_converted_audio(root: Path) -> None:
    add(root, "1002_WSI_HAP_XX", ".flac")
    assert [one.path for one in read(root)][-1] == "AudioWAV/1002_WSI_HAP_XX.flac"


def test_intended_labels_need_no_votes(root: Path) -> None:
    for name in ("summaryTable.csv", "tabulatedVotes.csv"):
        (root / "processedResults" / name).unlink()
    found = read(root, labels="intended")
    assert [one.votes for one in found if isinstance(one, Utterance)] == [None] * 3


def test_names_that_do_not_fit(root: Path) -> None:
    for name in ("1001_DFA_ANG", "1001_DFA_ANG_YY", "1001-DFA-ANG-XX", "1001_DFA_JOY_XX", "1003_DFA_ANG_XX"):
        add(root, name)
    expected = "as in 1001_DFA_ANG_XX, four fields are expected"
    assert faults(read(root)) == [
        ("AudioWAV/1001-DFA-ANG-XX.wav", f"not a CREMA-D name: {expected}"),
        ("AudioWAV/1001_DFA_ANG.wav", f"not a CREMA-D name: {expected}"),
        ("AudioWAV/1001_DFA_ANG_YY.wav", f"not a CREMA-D name: {expected}"),
        ("AudioWAV/1001_DFA_JOY_XX.wav", "unknown CREMA-D code: emotion JOY"),
        ("AudioWAV/1003_DFA_ANG_XX.wav", "unknown actor: 1003 is not in VideoDemographics.csv"),
    ]


def test_an_unknown_actor_is_one_fault(root: Path) -> None:
    (root / "VideoDemographics.csv").write_text(ACTORS.replace("1002,", "1003,"))
    expected = ("AudioWAV/1002_TIE_NEU_XX.wav", "unknown actor: 1002 is not in VideoDemographics.csv")
    assert faults(read(root, labels="voice")) == [expected]


# Votes


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("voice", [("A", "anger"), ("N", "neutral"), ("F:H:N", None)]),
        ("face", [("N", "neutral"), ("A:F", None), ("N", "neutral")]),
        ("multimodal", [("D", "disgust"), ("N", "neutral"), ("N", "neutral")]),
    ],
)
def test_labels_by_vote(root: Path, choice: str, expected: list[tuple[str, str | None]]) -> None:
    assert list(labels(root, choice).values()) == expected


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (
            "voice",
            [
                {"anger": 6, "disgust": 2, "neutral": 1},
                {"happiness": 1, "neutral": 7, "sadness": 1},
                {"fear": 3, "happiness": 3, "neutral": 3},
            ],
        ),
        ("face", [{"anger": 1, "neutral": 9}, {"anger": 4, "fear": 4, "neutral": 2}, None]),
        ("multimodal", [{"anger": 3, "disgust": 7}, None, None]),
    ],
)
def test_counts_of_the_raters_whose_vote_it_is(root: Path, choice: str, expected: list[Any]) -> None:
    assert votes(root, choice) == expected


def test_votes_without_their_counts(root: Path) -> None:
    (root / "processedResults/tabulatedVotes.csv").unlink()
    assert votes(root, "voice") == [None] * 3
    assert labels(root, "voice")["1001_DFA_ANG_XX.wav"] == ("A", "anger")


def test_the_clip_whose_name_lost_a_letter(root: Path) -> None:
    add(root, "1040_ITH_SAD_X")
    with (root / "processedResults/summaryTable.csv").open("a") as stream:
        stream.write('"4","1040_ITH_SAD_XX","S","50","S","50","S","50"\n')
    with (root / "processedResults/tabulatedVotes.csv").open("a") as stream:
        stream.write('"100004",0,0,0,0,4,6,"1040_ITH_SAD_XX",10,0.6,"S",50\n')
    assert labels(root, "intended")["1040_ITH_SAD_X.wav"] == ("SAD", "sadness")
    assert labels(root, "voice")["1040_ITH_SAD_X.wav"] == ("S", "sadness")
    assert votes(root, "voice")[-1] == {"neutral": 4, "sadness": 6}
    assert faults(read(root, labels="voice")) == []


def test_faults_of_labels(root: Path) -> None:
    add(root, "1002_WSI_HAP_XX")
    add(root, "1002_WSI_SAD_XX")
    with (root / "processedResults/summaryTable.csv").open("a") as stream:
        stream.write('"4","1002_WSI_SAD_XX","Q","50","S","50","","50"\n')
        stream.write('"5","1001_DFA_ANG_XX","N","50","N","50","N","50"\n')
        stream.write('"6","1006_TIE_NEU_XX","N","50","N","50","N","50"\n')
    table = "processedResults/summaryTable.csv"
    listed = ("AudioWAV/1001_DFA_ANG_XX.wav", f"listed twice in {table}")
    unlisted = ("AudioWAV/1002_WSI_HAP_XX.wav", f"no label: not listed in {table}")
    missing = ("AudioWAV/1006_TIE_NEU_XX.wav", f"missing file: listed in {table}")
    odd = "AudioWAV/1002_WSI_SAD_XX.wav"
    assert faults(read(root, labels="voice")) == [
        listed,
        unlisted,
        (odd, f"unknown value in {table}: VoiceVote 'Q'"),
        missing,
    ]
    assert faults(read(root, labels="face")) == [listed, unlisted, missing]
    assert faults(read(root, labels="multimodal")) == [
        listed,
        unlisted,
        (odd, f"unknown value in {table}: MultiModalVote ''"),
        missing,
    ]
    assert labels(root, "voice")["1001_DFA_ANG_XX.wav"] == ("A", "anger")  # the first row counts
    assert faults(read(root)) == []  # the table is nothing to intended labels


# Tables


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("Caucasian", "métis").encode("latin-1"),
        lambda text: text.encode("utf-16"),
    ],
    ids=["byte-order mark", "CRLF", "Latin-1", "UTF-16"],
)
def test_tables_in_any_encoding(root: Path, encode: Callable[[str], bytes]) -> None:
    before = read(root, labels="voice")
    assert len(before) == 3
    for name in ("VideoDemographics.csv", "processedResults/summaryTable.csv", "processedResults/tabulatedVotes.csv"):
        (root / name).write_bytes(encode((root / name).read_text()))
    assert read(root, labels="voice") == before


@pytest.mark.parametrize("choice", ["voice", "face", "multimodal"])
def test_a_vote_needs_its_table(root: Path, choice: str) -> None:
    (root / "processedResults/summaryTable.csv").unlink()
    with pytest.raises(InputError, match=r"summaryTable\.csv does not exist[\s\S]*CheyneyComputerScience"):
        read(root, labels=choice)


def test_genders_are_always_needed(root: Path) -> None:
    (root / "VideoDemographics.csv").unlink()
    with pytest.raises(InputError, match=r"VideoDemographics\.csv does not exist"):
        read(root)


def test_audio_is_needed(root: Path) -> None:
    (root / "AudioWAV").rename(root / "audio")
    with pytest.raises(InputError, match="has no folder AudioWAV"):
        read(root)


@pytest.mark.parametrize(
    ("table", "old", "new", "message"),
    [
        ("VideoDemographics.csv", '"Sex"', '"Gender"', r"VideoDemographics\.csv has no column Sex"),
        ("VideoDemographics.csv", '"Female"', '"F"', r"line 3: Sex 'F' is neither Female nor Male"),
        ("processedResults/summaryTable.csv", "VoiceVote", "Vote", r"summaryTable\.csv has no column VoiceVote"),
        ("processedResults/tabulatedVotes.csv", '"fileName"', '"file"', r"tabulatedVotes\.csv has no column fileName"),
        ("processedResults/tabulatedVotes.csv", '"100002",0', '"1",0', r"line 3 cannot be read: number '1'"),
        ("processedResults/tabulatedVotes.csv", '"200001",1', '"200001",NA', r"line 5 cannot be read.*'A': 'NA'"),
    ],
)
def test_tables_that_cannot_be_read(root: Path, table: str, old: str, new: str, message: str) -> None:
    text = (root / table).read_text()
    assert old in text
    (root / table).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message):
        read(root, labels="voice")


def test_unknown_labels() -> None:
    with pytest.raises(InputError, match=r"no labels 'audio'[\s\S]*intended, voice, face, multimodal"):
        make_reader("cremad", {"labels": "audio"})


@pytest.mark.parametrize("folder", ["CREMA-D", "crema-d", "CREMAD", "cremad"])
def test_is_found_by_its_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    assert find_root(make_reader("cremad"), data_root=str(tmp_path)).name == folder


def test_a_changed_table_is_noticed(root: Path) -> None:
    assert {"VideoDemographics.csv", "processedResults/summaryTable.csv", "processedResults/tabulatedVotes.csv"} < set(
        make_reader("cremad").watched(root)
    )


# Whole trees


def build(root: Path, cache: Path, **options: Any) -> Manifest:
    reader = make_reader("cremad", options)
    return build_manifest(reader, root, cache, hash_content=True, workers=1, max_bad_fraction=1, progress=False)


def test_whole_corpus(tmp_path: Path) -> None:
    root = fakes.cremad(tmp_path / "CREMA-D", sentences=("DFA",))
    manifest = build(root, tmp_path / "cache")
    assert (len(manifest), manifest.faults) == (10 * 6, [])
    rows = [manifest.row(index) for index in range(60)]
    assert Counter(row["emotion"] for row in rows) == dict.fromkeys(
        ("anger", "disgust", "fear", "happiness", "neutral", "sadness"), 10
    )
    assert Counter((row["speaker"], row["gender"]) for row in rows) == {
        (f"cremad/{1001 + actor}", ("male", "female")[actor % 2]): 6 for actor in range(10)
    }
    assert {(row["sentence"], row["votes"], row["split"], row["session"]) for row in rows} == {
        ("DFA", None, None, None)
    }

    voices = build(root, tmp_path / "cache", labels="voice")
    first = {row["path"][18:21]: row for row in (voices.row(index) for index in range(6))}
    assert {code: (row["label"], row["emotion"]) for code, row in first.items()} == {
        "ANG": ("A", "anger"),
        "DIS": ("A:D", None),
        "FEA": ("F", "fear"),
        "HAP": ("H", "happiness"),
        "NEU": ("N", "neutral"),
        "SAD": ("S", "sadness"),
    }
    assert {code: dict(row["votes"]) for code, row in first.items()} == {
        "ANG": {"anger": 6, "neutral": 4},
        "DIS": {"anger": 5, "disgust": 5},
        "FEA": {"fear": 6, "neutral": 4},
        "HAP": {"happiness": 6, "neutral": 4},
        "NEU": {"neutral": 10},
        "SAD": {"sadness": 6, "neutral": 4},
    }
    assert len({manifest.file, voices.file}) == 2


def test_faults_of_audio(tmp_path: Path) -> None:
    root = fakes.cremad(tmp_path / "CREMA-D", actors=2)
    planted = fakes.plant_all(sorted((root / "AudioWAV").iterdir()))
    (root / "AudioWAV/1002_DFA_SAD_XX.wav").unlink()
    fakes.write(root / "AudioWAV/1002_TSI_SAD_XX.wav", fakes.speech("unlisted"))
    expected = {f"AudioWAV/{file.name}": kind for file, kind in planted.items() if kind}
    manifest = build(root, tmp_path / "cache")
    assert {fault.path: fault.kind for fault in manifest.faults} == expected
    assert len(manifest) == 24 - 6
    manifest = build(root, tmp_path / "cache", labels="multimodal")
    assert {fault.path: fault.kind for fault in manifest.faults} == expected | {
        "AudioWAV/1002_DFA_SAD_XX.wav": "missing file",
        "AudioWAV/1002_TSI_SAD_XX.wav": "no label",
    }
    assert len(manifest) == 24 - 6 - 1


def test_real_cremad(real_data: Path, tmp_path: Path) -> None:
    try:
        root = find_root(make_reader("cremad"), None, str(real_data))
    except InputError as error:
        pytest.skip(str(error))
    manifest = build_manifest(make_reader("cremad"), root, tmp_path, hash_content=True)
    assert len(manifest) + len(manifest.faults) == 7442
    assert "AudioWAV/1076_MTI_SAD_XX.wav" in {fault.path for fault in manifest.faults}
    speakers = {(row["speaker"], row["gender"]) for row in map(manifest.row, range(len(manifest)))}
    assert Counter(gender for _, gender in speakers) == {"male": 48, "female": 43}
