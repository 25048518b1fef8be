"""MSP-Podcast against its format: columns, speakers, splits, ratings, votes in each layout, and every fault."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules.building import build_manifest
from datamodules.corpora import find_root, make_reader
from datamodules.corpora.base import Fault, Scale, Utterance
from datamodules.errors import InputError
from datamodules.manifest import Manifest
from tests import fakes

TABLE = "Labels/labels_consensus.csv"
CONSENSUS = """\
FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set
MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,30,Male,Test1
MSP-PODCAST_0002_0033.wav,A,5.8,2.25,5.666667,127,Female,Train
MSP-PODCAST_0002_0040.wav,X,4.0,3.4,4.8,Unknown,Unknown,Train
MSP-PODCAST_0153_0003.wav,H,5.0,6.2,5.0,030,Female,Development
"""
AUDIO = (
    "MSP-PODCAST_0001_0008",
    "MSP-PODCAST_0002_0033",
    "MSP-PODCAST_0002_0040",
    "MSP-PODCAST_0153_0003",
)


def add(root: Path, *names: str, folder: str = "Audios", suffix: str = ".wav") -> None:
    (root / folder).mkdir(exist_ok=True)
    for name in names:
        (root / folder / f"{name}{suffix}").touch()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A release of four utterances; the audio is empty, since readers do not open it."""
    add(tmp_path, *AUDIO)
    (tmp_path / "Labels").mkdir()
    (tmp_path / TABLE).write_text(CONSENSUS)
    return tmp_path


def read(root: Path, **options: Any) -> list[Utterance | Fault]:
    return list(make_reader("msp_podcast", options).read(root))


def utterances(root: Path, **options: Any) -> list[Utterance]:
    return [one for one in read(root, **options) if isinstance(one, Utterance)]


def append(root: Path, *rows: str) -> None:
    with (root / TABLE).open("a") as stream:
        stream.writelines(f"{row}\n" for row in rows)


EXPECTED = [
    Utterance(
        "Audios/MSP-PODCAST_0001_0008.wav",
        speaker="30",
        gender="male",
        session="0001",
        label="N",
        emotion="neutral",
        activation=2.2,
        valence=4.0,
        dominance=2.6,
        split="test",
    ),
    Utterance(
        "Audios/MSP-PODCAST_0002_0033.wav",
        speaker="127",
        gender="female",
        session="0002",
        label="A",
        emotion="anger",
        activation=5.8,
        valence=2.25,
        dominance=5.666667,
        split="train",
    ),
    Utterance(
        "Audios/MSP-PODCAST_0002_0040.wav",
        session="0002",
        label="X",
        activation=4.0,
        valence=3.4,
        dominance=4.8,
        split="train",
    ),
    Utterance(
        "Audios/MSP-PODCAST_0153_0003.wav",
        speaker="030",
        gender="female",
        session="0153",
        label="H",
        emotion="happiness",
        activation=5.0,
        valence=6.2,
        dominance=5.0,
        split="development",
    ),
]


# The table of consensus labels


def test_rows(root: Path) -> None:
    assert read(root) == EXPECTED


def test_columns_go_by_their_names(root: Path) -> None:
    rows = [line.split(",") for line in CONSENSUS.splitlines()]
    (root / TABLE).write_text("".join(f"{','.join(row[::-1])},9,\n" for row in rows))
    assert read(root) == EXPECTED


def test_columns_that_older_releases_lack(root: Path) -> None:
    rows = [line.split(",") for line in CONSENSUS.splitlines()]
    (root / TABLE).write_text("".join(f"{row[0]},{row[1]},{row[7]}\n" for row in rows))
    assert utterances(root)[1] == Utterance(
        "Audios/MSP-PODCAST_0002_0033.wav", session="0002", label="A", emotion="anger", split="train"
    )


@pytest.mark.parametrize("folder", ["Labels", "labels", "label"])
@pytest.mark.parametrize("name", ["labels_consensus.csv", "labels_concensus.csv"])
@pytest.mark.parametrize("audio", ["Audios", "Audio"])
def test_names_of_older_releases(root: Path, folder: str, name: str, audio: str) -> None:
    (root / TABLE).rename(root / "Labels" / name)
    (root / "Labels").rename(root / folder)
    (root / "Audios").rename(root / audio)
    assert [one.path for one in utterances(root)] == [f"{audio}/{stem}.wav" for stem in AUDIO]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("Split_Set", "Split_Set,Título").encode("latin-1"),
        lambda text: text.encode("utf-16"),
        lambda text: text.rstrip("\n").encode(),
    ],
    ids=["byte-order mark", "CRLF", "Latin-1", "UTF-16", "no end of line"],
)
def test_tables_in_any_encoding(root: Path, encode: Callable[[str], bytes]) -> None:
    (root / TABLE).write_bytes(encode(CONSENSUS))
    assert read(root) == EXPECTED


@pytest.mark.parametrize(
    ("letter", "emotion"),
    [
        ("A", "anger"),
        ("H", "happiness"),
        ("S", "sadness"),
        ("N", "neutral"),
        ("U", "surprise"),
        ("F", "fear"),
        ("D", "disgust"),
        ("C", "contempt"),
        ("O", "other"),
        ("X", None),
    ],
)
def test_classes(root: Path, letter: str, emotion: str | None) -> None:
    add(root, "MSP-PODCAST_0300_0001")
    append(root, f"MSP-PODCAST_0300_0001.wav,{letter},4,4,4,8,Male,Train")
    assert (utterances(root)[-1].label, utterances(root)[-1].emotion) == (letter, emotion)


def test_scales() -> None:
    reader = make_reader("msp_podcast")
    for dimension in ("activation", "valence", "dominance"):
        assert reader.scale(dimension) == Scale(1, 7, reversed=False)


# Splits


def with_all_splits(root: Path) -> None:
    for number, split in enumerate(("Validation", "Test2", "Test3"), start=1):
        add(root, f"MSP-PODCAST_0400_000{number}")
        append(root, f"MSP-PODCAST_0400_000{number}.wav,S,,,,{number},Male,{split}")


@pytest.mark.parametrize(
    ("test_sets", "expected"),
    [
        (("Test1",), ["test", "train", "train", "development", "development", None, None]),
        (("Test2",), [None, "train", "train", "development", "development", "test", None]),
        (("Test1", "Test3"), ["test", "train", "train", "development", "development", None, "test"]),
        ((), [None, "train", "train", "development", "development", None, None]),
    ],
)
def test_splits(root: Path, test_sets: tuple[str, ...], expected: list[str | None]) -> None:
    with_all_splits(root)
    assert [one.split for one in utterances(root, test_sets=test_sets)] == expected


def test_one_test_set_may_be_given_as_a_word(root: Path) -> None:
    with_all_splits(root)
    assert [one.split for one in utterances(root, test_sets="Test2")].count("test") == 1


def test_ratings_may_be_missing(root: Path) -> None:
    with_all_splits(root)
    assert utterances(root)[-1] == Utterance(
        "Audios/MSP-PODCAST_0400_0003.wav", speaker="3", gender="male", session="0400", label="S", emotion="sadness"
    )


def test_labels_may_be_missing(root: Path) -> None:
    add(root, "MSP-PODCAST_test3_0001")
    append(root, "MSP-PODCAST_test3_0001.wav,,nan,,NA,,,Test3")
    assert utterances(root)[-1] == Utterance("Audios/MSP-PODCAST_test3_0001.wav", session="test3")


def test_test_set_that_is_not_there(root: Path) -> None:
    with_all_splits(root)
    with pytest.raises(InputError, match=r"no utterance of Test9\n[\s\S]*Test1, Test2, Test3"):
        read(root, test_sets=["Test2", "Test9"])
    (root / TABLE).write_text(CONSENSUS.replace("Test1", "Train"))
    with pytest.raises(InputError, match=r"no utterance of Test1\n[\s\S]*set test_sets=\[\]"):
        read(root)
    assert len(read(root, test_sets=[])) == 7
    with pytest.raises(InputError, match="'Train' is no test set"):
        make_reader("msp_podcast", {"test_sets": ["Train"]})


# Recordings and rows without each other


def test_recordings_without_a_row_are_speech_of_which_nothing_is_known(root: Path) -> None:
    add(root, "MSP-PODCAST_test3_0002", "MSP-PODCAST_test3_0001")
    assert read(root) == [
        *EXPECTED,
        Utterance("Audios/MSP-PODCAST_test3_0001.wav"),
        Utterance("Audios/MSP-PODCAST_test3_0002.wav"),
    ]


def test_only_the_folder_of_recordings_is_read(root: Path) -> None:
    add(root, "._MSP-PODCAST_0001_0008")
    (root / "Previous_releases_information").mkdir()
    add(root, "MSP-PODCAST_0009_0001", folder="Previous_releases_information/removed")
    assert read(root) == EXPECTED


def test_converted_audio(root: Path) -> None:
    for name in AUDIO:
        (root / f"Audios/{name}.wav").rename(root / f"Audios/{name}.flac")
    assert [one.path for one in read(root)] == [f"Audios/{name}.flac" for name in AUDIO]


def test_faults_of_labels(root: Path) -> None:
    added = [f"MSP-PODCAST_0500_000{number}" for number in range(1, 7)]
    add(root, *added)
    append(
        root,
        "MSP-PODCAST_0001_0008.wav,A,7,1,7,99,Female,Train",
        "MSP-PODCAST_0600_0001.wav,A,5,2,5,7,Male,Train",
        "MSP-PODCAST_0500_0001.wav,Z,5,2,5,7,Male,Train",
        "MSP-PODCAST_0500_0002.wav,A,five,2,5,7,Male,Train",
        "MSP-PODCAST_0500_0003.wav,A,5,2,5,7,M,Train",
        "MSP-PODCAST_0500_0004.wav,A,5,2,5,7,Male,Training",
        "MSP-PODCAST_0500_0005.wav,A,5",  # the table was cut off
        "MSP-PODCAST_0500_0006.wav,A,5,2,5,7,Male,Train,extra",
    )
    found = read(root)
    assert [(one.path, one.reason) for one in found if isinstance(one, Fault)] == [
        ("Audios/MSP-PODCAST_0001_0008.wav", f"listed twice in {TABLE}"),
        ("Audios/MSP-PODCAST_0600_0001.wav", f"missing file: listed in {TABLE}"),
        ("Audios/MSP-PODCAST_0500_0001.wav", f"unknown value in {TABLE}: EmoClass 'Z'"),
        ("Audios/MSP-PODCAST_0500_0002.wav", f"rating not understood: EmoAct 'five' in {TABLE}; it stays without it"),
        ("Audios/MSP-PODCAST_0500_0003.wav", f"unknown value in {TABLE}: Gender 'M'"),
        ("Audios/MSP-PODCAST_0500_0004.wav", f"unknown value in {TABLE}: Split_Set 'Training'"),
        ("Audios/MSP-PODCAST_0500_0005.wav", f"unknown value in {TABLE}: Split_Set ''"),
    ]
    *expected, without, extra = [one for one in found if isinstance(one, Utterance)]
    assert expected == EXPECTED
    assert without.path == "Audios/MSP-PODCAST_0500_0002.wav"
    assert (without.emotion, without.activation, without.valence, without.dominance) == ("anger", None, 2, 5)
    assert extra.path == "Audios/MSP-PODCAST_0500_0006.wav"


def test_tables_that_cannot_be_read(root: Path) -> None:
    (root / TABLE).write_text(CONSENSUS.replace("EmoClass", "Emotion").replace("Split_Set", "Split"))
    with pytest.raises(InputError, match="has no column Split_Set"):
        read(root)
    (root / TABLE).write_text(CONSENSUS.replace("EmoClass", "Emotion").replace("FileName", "File"))
    with pytest.raises(InputError, match="has no column FileName, EmoClass"):
        read(root)
    (root / TABLE).write_text(CONSENSUS.replace("MSP-PODCAST_0002_0033", f'"{"x" * 200_000}'))
    with pytest.raises(InputError, match=r"labels_consensus\.csv, line \d+: field larger"):
        read(root)
    (root / TABLE).write_text("")
    with pytest.raises(InputError, match="has no column Split_Set"):
        read(root)


@pytest.mark.parametrize("name", [TABLE, "Audios"])
def test_what_must_be_there(root: Path, name: str) -> None:
    (root / name).rename(root / "elsewhere")
    with pytest.raises(InputError, match=rf"has no {name}[\s\S]*release from 1\.6 on"):
        read(root)


# Votes

COLUMNS = """\
FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom
MSP-PODCAST_0001_0008.wav,WORKER00000001,Neutral,"Neutral,Other-Concerned",2,4,3
MSP-PODCAST_0001_0008.wav,WORKER00000094,Neutral,Neutral,3,4,2
MSP-PODCAST_0001_0008.wav,WORKER00000007,Other-Bored,"Sad,Other-Bored",1,4,3
MSP-PODCAST_0002_0033.wav,WORKER00000001,Angry,"Angry,Disgust",6,2,6
MSP-PODCAST_0002_0033.wav,WORKER00000003,Contempt,Contempt,5,2,5
MSP-PODCAST_0002_0040.wav,WORKER00000003,Surprise,Happy,5,4,5
MSP-PODCAST_0002_0040.wav,WORKER00000004,Fear,Fear,5,4,5
MSP-PODCAST_0002_0040.wav,WORKER00000005,Sad,Sad,5,4,5
MSP-PODCAST_0002_0040.wav,WORKER00000006,Disgust,Sad,5,4,5
MSP-PODCAST_0002_0040.wav,WORKER00000008,,Sad,5,4,5
MSP-PODCAST_0900_0001.wav,WORKER00000003,Happy,Happy,5,6,5
"""
DETAIL = """\
FileName,EmoDetail
MSP-PODCAST_0001_0008.wav,"WORKER00000001; Neutral; Neutral,Concerned; A:2.000000; V:4.000000; D:3.000000;"
MSP-PODCAST_0001_0008.wav,WORKER00000094; Neutral; ; A:3.000000; V:4.000000; D:2.000000;
MSP-PODCAST_0001_0008.wav,"WORKER00000007; Other (bored, tired); Sad,Other (bored); A:1.000000; V:4.0; D:3.0;"
MSP-PODCAST_0002_0033.wav,"WORKER00000001; Angry; Angry,Disgust; A:6.000000; V:2.000000; D:6.000000;"
MSP-PODCAST_0002_0033.wav,WORKER00000003; Contempt; Contempt; A:5.000000; V:2.000000; D:5.000000;
MSP-PODCAST_0002_0040.wav,WORKER00000003; Surprise; Happy; A:5.000000; V:4.000000; D:5.000000;
MSP-PODCAST_0002_0040.wav,WORKER00000004; Fear; Fear; A:5.000000; V:4.000000; D:5.000000;
MSP-PODCAST_0002_0040.wav,WORKER00000005; Sad; Sad; A:5.000000; V:4.000000; D:5.000000;
MSP-PODCAST_0002_0040.wav,WORKER00000006; Disgust; Sad; A:5.000000; V:4.000000; D:5.000000;
MSP-PODCAST_0900_0001.wav,WORKER00000003; Happy; Happy; A:5.000000; V:6.000000; D:5.000000;
"""
TEXT = """\
MSP-PODCAST_0001_0008.wav; N; A:2.200000; V:4.000000; D:2.600000;
WORKER00000001; Neutral; Neutral,Concerned; A:2.000000; V:4.000000; D:3.000000;
WORKER00000094; Neutral; ; A:3.000000; V:4.000000; D:2.000000;
WORKER00000007; Other (bored, tired); Sad,Other (bored); A:1.000000; V:4.000000; D:3.000000;

MSP-PODCAST_0002_0033.wav; A; A:5.800000; V:2.250000; D:5.666667;
WORKER00000001; Angry; Angry,Disgust; A:6.000000; V:2.000000; D:6.000000;
WORKER00000003; Contempt; Contempt; A:5.000000; V:2.000000; D:5.000000;

MSP-PODCAST_0002_0040.wav; X; A:4.000000; V:3.400000; D:4.800000;
WORKER00000003; Surprise; Happy; A:5.000000; V:4.000000; D:5.000000;
WORKER00000004; Fear; Fear; A:5.000000; V:4.000000; D:5.000000;
WORKER00000005; Sad; Sad; A:5.000000; V:4.000000; D:5.000000;
WORKER00000006; Disgust; Sad; A:5.000000; V:4.000000; D:5.000000;

MSP-PODCAST_0900_0001.wav; H; A:5.000000; V:6.000000; D:5.000000;
WORKER00000003; Happy; Happy; A:5.000000; V:6.000000; D:5.000000;
"""
VOTES = [
    {"neutral": 2, "other": 1},
    {"anger": 1, "contempt": 1},
    {"surprise": 1, "fear": 1, "sadness": 1, "disgust": 1},
    None,
]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("name", "text"),
    [("labels_detailed.csv", COLUMNS), ("labels_detailed.csv", DETAIL), ("labels.txt", TEXT)],
    ids=["columns", "detail", "text"],
)
def test_votes(root: Path, name: str, text: str, newline: str) -> None:
    (root / "Labels" / name).write_text(text, newline=newline)
    found = utterances(root)
    assert [one.votes for one in found] == VOTES
    assert [one.label for one in found] == ["N", "A", "X", "H"]  # the consensus stays the table's


def test_votes_of_the_table_go_before_those_of_the_text(root: Path) -> None:
    (root / "Labels/labels.txt").write_text(TEXT.replace("Neutral;", "Happy;"))
    (root / "Labels/labels_detailed.csv").write_text(COLUMNS)
    assert utterances(root)[0].votes == {"neutral": 2, "other": 1}


def test_votes_in_latin_1(root: Path) -> None:
    (root / "Labels/labels_detailed.csv").write_text(COLUMNS.replace("Other-Bored", "Other-Blasé"), encoding="latin-1")
    assert [one.votes for one in utterances(root)] == VOTES


def test_table_of_votes_without_its_columns(root: Path) -> None:
    (root / "Labels/labels_detailed.csv").write_text(COLUMNS.replace("EmoClass_Major", "Primary"))
    with pytest.raises(InputError, match=r"labels_detailed\.csv has no column EmoClass_Major"):
        read(root)


def test_tables_are_watched(root: Path) -> None:
    watched = set(make_reader("msp_podcast").watched(root))
    assert {"Audios", TABLE, "Labels/labels_concensus.csv", "Labels/labels_detailed.csv"} < watched


@pytest.mark.parametrize("folder", ["MSP-Podcast", "msp_podcast", "MSP-PODCAST-Publish-1.11"])
def test_is_found_by_its_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    assert find_root(make_reader("msp_podcast"), data_root=str(tmp_path)).name == folder


# Whole trees


def build(root: Path, cache: Path, **options: Any) -> Manifest:
    reader = make_reader("msp_podcast", options)
    return build_manifest(reader, root, cache, hash_content=True, workers=1, max_bad_fraction=1, progress=False)


@pytest.mark.parametrize("votes", ["columns", "detail", "text"])
def test_whole_corpus(tmp_path: Path, votes: str) -> None:
    root = fakes.msp_podcast(tmp_path / "MSP-Podcast", speakers=3, unlisted=2, votes=votes)
    manifest = build(root, tmp_path / "cache")
    assert manifest.faults == []
    rows = [manifest.row(index) for index in range(len(manifest))]
    assert Counter((row["split"], row["label"]) for row in rows) == {
        (split, label): 4 for split in ("train", "development", "test", None) for label in "AHSNX"
    } | {(None, None): 2}
    known = {"train": {"1", "2", "3"}, "development": {"101", "102", "103"}, "test": {"201", "202", "203"}}
    for split, speakers in known.items():
        side = [row for row in rows if row["split"] == split]
        assert {row["speaker"] for row in side} == {f"msp_podcast/{speaker}" for speaker in speakers} | {None}
        assert Counter(row["gender"] for row in side) == {"female": 10, "male": 5, None: 5}
    assert len({row["session"] for row in rows if row["session"]}) == 4 * 4
    first = {row["label"]: row for row in rows[:5]}
    assert first["A"]["emotion"] == "anger"
    assert first["A"]["activation_original"] == pytest.approx(6.2)
    assert [first["A"][name] for name in ("activation", "valence", "dominance")] == pytest.approx(
        [(6.2 - 1) / 6, (2.0 - 1) / 6, (5.8 - 1) / 6]
    )
    assert dict(first["A"]["votes"]) == {"anger": 4, "other": 1}
    assert (first["X"]["emotion"], dict(first["X"]["votes"])) == (None, {"anger": 2, "sadness": 2, "other": 1})
    assert first["X"]["valence"] == pytest.approx((3.8 - 1) / 6)
    for row in rows[-2:]:
        told = ("speaker", "gender", "session", "label", "emotion", "votes", "activation", "valence", "split")
        assert [row[name] for name in told] == [None] * len(told)


def test_faults_of_audio_and_labels(tmp_path: Path) -> None:
    root = fakes.msp_podcast(
        tmp_path / "MSP-Podcast", audio="Audio", consensus="Labels/labels_concensus.csv", votes=None, newline="\r\n"
    )
    files = sorted((root / "Audio").iterdir())
    planted = fakes.plant_all(files)
    files[11].unlink()
    table = root / "Labels/labels_concensus.csv"
    lines = table.read_text().splitlines()
    lines[13] = lines[13].replace(",S,", ",Q,")
    lines[14] = lines[14].replace(",3.6,", ",0.6,")
    table.write_text("\n".join([*lines, lines[15], ""]))
    manifest = build(root, tmp_path / "cache")
    inside = {f"Audio/{file.name}": kind for file, kind in planted.items() if kind}
    expected = inside | {
        "Audio/MSP-PODCAST_0003_0002.wav": "missing file",
        "Audio/MSP-PODCAST_0003_0003.wav": "unknown value in Labels/labels_concensus.csv",
        "Audio/MSP-PODCAST_0003_0004.wav": "rating outside its scale",  # and yet a row
        "Audio/MSP-PODCAST_0003_0005.wav": "listed twice in Labels/labels_concensus.csv",  # and yet a row
    }
    assert {fault.path: fault.kind for fault in manifest.faults} == expected
    assert len(manifest) == len(files) - len(expected) + 2
    rows = {row["path"]: row for row in map(manifest.row, range(len(manifest)))}
    assert rows["Audio/MSP-PODCAST_0003_0004.wav"]["activation"] is None
    assert rows["Audio/MSP-PODCAST_0003_0004.wav"]["dominance_original"] == pytest.approx(4.4)
    assert {row["votes"] for row in rows.values()} == {None}
