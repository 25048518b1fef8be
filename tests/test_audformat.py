"""Databases in audformat, written by the package audformat itself, in the layouts of its publishers."""

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from datamodules.building import build_manifest
from datamodules.corpora import make_reader
from datamodules.corpora.base import Fault, Scale, Utterance
from datamodules.errors import InputError
from datamodules.manifest import Manifest
from experiments.__main__ import main
from tests import fakes, runs

audformat = pytest.importorskip("audformat")

STORAGE = pytest.mark.parametrize("storage", ["csv", "parquet"])


def database(**header: Any) -> Any:
    return audformat.Database("mine", **{"source": "https://example.org", "usage": "research"} | header)


def files(*names: str) -> Any:
    return audformat.filewise_index(list(names))


def segments(*rows: tuple[str, str | None, str | None]) -> Any:
    names, starts, ends = zip(*rows, strict=True)
    return audformat.segmented_index(list(names), list(starts), list(ends))


def emotions(**header: Any) -> Any:
    """A database with a scheme of emotions, and no table."""
    db = database(**header)
    db.schemes["emotion"] = audformat.Scheme("str", labels=["anger", "happiness", "no_agreement", "sadness"])
    return db


def read(root: Path, **options: Any) -> tuple[list[Utterance], list[Fault]]:
    found = list(make_reader("audformat", options).read(root))
    return [one for one in found if isinstance(one, Utterance)], [one for one in found if isinstance(one, Fault)]


def build(root: Path, **more: Any) -> Manifest:
    options = more.pop("options", {})
    more = {"workers": 1, "progress": False, "hash_content": True} | more
    return build_manifest(make_reader("audformat", options), root, root.parent / "cache", **more)


def by_path(root: Path, *fields: str, **options: Any) -> dict[str, Any]:
    """What is read, by path: the value of one field, or the values of several."""
    utterances, faults = read(root, **options)
    assert faults == []
    values = {one.path: tuple(getattr(one, name) for name in fields) for one in utterances}
    assert len(values) == len(utterances)
    return values if len(fields) > 1 else {path: value for path, (value,) in values.items()}


# Layouts of publishers


@STORAGE
def test_gold_standard_by_split_and_speakers_in_a_miscellaneous_table(tmp_path: Path, storage: str) -> None:
    pd = pytest.importorskip("pandas")
    db = database(languages=["deu"], license="CC-BY-4.0")
    db.raters["gold"] = audformat.Rater("human")
    for split in ("train", "test"):
        db.splits[split] = audformat.Split(split)
    db.schemes["emotion"] = audformat.Scheme("str", labels=["anger", "boredom", "happiness"])
    db.schemes["confidence"] = audformat.Scheme("float", minimum=0, maximum=1)
    db.schemes["duration"] = audformat.Scheme("time")
    db.schemes["gender"] = audformat.Scheme("str", labels=["female", "male"])
    db.schemes["age"] = audformat.Scheme("int", minimum=0)
    speakers = pd.Index([3, 8], dtype="Int64", name="speaker")
    columns = {"age": ([31, None], "age"), "gender": (["male", "female"], "gender")}
    fakes.audformat_table(db, "speaker", speakers, columns)
    db.schemes["speaker"] = audformat.Scheme("int", labels="speaker")
    db.schemes["transcription"] = audformat.Scheme("str", labels={"a01": "Der Lappen", "a02": "Das will sie"})
    names = ["wav/03a01Fa.wav", "wav/03a01Wb.wav", "wav/08a02La.wav"]
    labels = ["happiness", "anger", "boredom"]
    rated: dict[str, tuple[Any, ...]] = {
        "emotion": (labels, "emotion", "gold"),
        "emotion.confidence": ([0.9, 1.0, None], "confidence", "gold"),
    }
    fakes.audformat_table(db, "emotion", files(*names), rated)
    for split, chosen in (("train", slice(0, 2)), ("test", slice(2, 3))):
        part = {name: (values[chosen], *more) for name, (values, *more) in rated.items()}
        fakes.audformat_table(db, f"emotion.categories.{split}.gold_standard", files(*names[chosen]), part, split=split)
    facts = {
        "duration": (pd.to_timedelta([0.5, 0.5, 0.5], unit="s"), "duration"),
        "speaker": ([3, 3, 8], "speaker"),
        "transcription": (["a01", "a01", "a02"], "transcription"),
    }
    fakes.audformat_table(db, "files", files(*names), facts)
    root = fakes.audformat_database(tmp_path / "db", db, storage)

    manifest = build(root, options={"corpus": "berlin"})
    assert manifest.faults == []
    shown = ("path", "corpus", "speaker", "gender", "label", "emotion", "votes", "split", "start", "duration")
    assert [tuple(manifest.row(row)[name] for name in shown) for row in range(len(manifest))] == [
        (names[0], "berlin", "berlin/3", "male", "happiness", "happiness", None, "train", 0.0, 0.5),
        (names[1], "berlin", "berlin/3", "male", "anger", "anger", None, "train", 0.0, 0.5),
        (names[2], "berlin", "berlin/8", "female", "boredom", "boredom", None, "test", 0.0, 0.5),
    ]
    assert (manifest.facts["licence"], manifest.facts["language"]) == ("CC-BY-4.0", "deu")


@STORAGE
def test_desired_emotions_votes_and_no_agreement_beside_the_gold_standard(tmp_path: Path, storage: str) -> None:
    db = emotions()
    db.schemes["votes"] = audformat.Scheme("int", minimum=0)
    db.schemes["emotion.agreement"] = audformat.Scheme("float", minimum=0, maximum=1)
    people = {1001: {"age": 51, "sex": "male"}, 1002: {"age": 21, "sex": "female"}, 1003: {"age": 30, "sex": "other"}}
    db.schemes["speaker"] = audformat.Scheme(labels=people)
    names = ["1001/a.wav", "1002/b.wav", "1003/c.wav"]
    for number, split in enumerate(("train", "dev", "test")):
        db.splits[split] = audformat.Split(split)
        index = files(names[number])
        perceived = (["anger", "no_agreement", "sadness"][number], ["anger", "anger", "sadness"][number])
        second = [None, "sadness", None][number]
        table = f"emotion.categories.{split}"
        fakes.audformat_table(
            db, table, index, {"emotion.0": ([perceived[1]], "emotion"), "emotion.1": ([second], "emotion")}
        )
        fakes.audformat_table(
            db, f"emotion.categories.desired.{split}", index, {"emotion": (["happiness"], "emotion")}, split=split
        )
        gold = {"emotion": ([perceived[0]], "emotion"), "emotion.agreement": ([0.5], "emotion.agreement")}
        fakes.audformat_table(db, f"{table}.gold_standard", index, gold)
        counts = [(2, 0, 1), (2, 0, 2), (0, 0, 9)][number]
        votes = {
            name: ([count], "votes") for name, count in zip(("anger", "happiness", "sadness"), counts, strict=True)
        }
        fakes.audformat_table(db, f"{table}.votes", index, votes)
    fakes.audformat_table(db, "files", files(*names), {"speaker": ([1001, 1002, 1003], "speaker")})
    root = fakes.audformat_database(tmp_path / "db", db, storage)

    fields = ("speaker", "gender", "label", "emotion", "votes", "split")
    assert by_path(root, *fields) == {
        names[0]: ("1001", "male", "anger", "anger", {"anger": 2.0, "sadness": 1.0}, "train"),
        names[1]: ("1002", "female", "no_agreement", None, {"anger": 2.0, "sadness": 2.0}, "development"),
        names[2]: ("1003", None, "sadness", "sadness", {"sadness": 9.0}, "test"),
    }
    desired = [f"emotion.categories.desired.{split}" for split in ("train", "dev", "test")]
    assert by_path(root, *fields, tables=desired) == {
        names[0]: ("1001", "male", "happiness", "happiness", None, "train"),
        names[1]: ("1002", "female", "happiness", "happiness", None, "development"),
        names[2]: ("1003", None, "happiness", "happiness", None, "test"),
    }
    build(root)  # votes and all go into a manifest


@STORAGE
def test_columns_named_after_raters(tmp_path: Path, storage: str) -> None:
    """A table of all raters for each scheme, and one of the gold standard, as audformat's conventions have it."""
    db = emotions()
    db.schemes["arousal"] = audformat.Scheme("float", minimum=1, maximum=7)
    for rater in ("rater1", "rater2", "rater3"):
        db.raters[rater] = audformat.Rater()
    db.raters["gold_standard"] = audformat.Rater("vote")
    index = files("a.wav", "b.wav", "c.wav")
    said = {
        "rater1": ["anger", "anger", None],
        "rater2": ["anger", "sadness", None],
        "rater3": ["sadness", "no_agreement", None],
    }
    rated: dict[str, list[float | None]] = {
        "rater1": [1.0, 7.0, None],
        "rater2": [2.0, None, None],
        "rater3": [6.0, 4.0, None],
    }
    fakes.audformat_table(db, "emotion", index, {rater: (values, "emotion", rater) for rater, values in said.items()})
    fakes.audformat_table(db, "arousal", index, {rater: (values, "arousal", rater) for rater, values in rated.items()})
    root = fakes.audformat_database(tmp_path / "raters", db, storage)
    assert by_path(root, "label", "emotion", "votes", "activation") == {
        "a.wav": ("anger", "anger", {"anger": 2.0, "sadness": 1.0}, 3.0),
        "b.wav": (None, None, {"anger": 1.0, "sadness": 1.0}, 5.5),  # a tie
        "c.wav": (None, None, None, None),
    }

    gold = {"emotion": (["sadness", "anger", None], "emotion", "gold_standard")}
    fakes.audformat_table(db, "emotion.gold_standard", index, gold)
    average = {"arousal": ([2.5, 5.0, 3.0], "arousal", "gold_standard")}
    fakes.audformat_table(db, "arousal.gold_standard", index, average)
    root = fakes.audformat_database(tmp_path / "gold", db, storage)
    assert by_path(root, "label", "emotion", "votes", "activation") == {
        "a.wav": ("sadness", "sadness", {"anger": 2.0, "sadness": 1.0}, 2.5),
        "b.wav": ("anger", "anger", {"anger": 1.0, "sadness": 1.0}, 5.0),
        "c.wav": (None, None, None, 3.0),
    }


def test_columns_of_no_rater_and_of_a_vote_are_the_consensus(tmp_path: Path) -> None:
    db = emotions()
    db.raters["eva"], db.raters["majority"] = audformat.Rater(), audformat.Rater("vote")
    columns: dict[str, tuple[Any, ...]] = {"eva": (["anger"], "emotion", "eva"), "word": (["sadness"], "emotion")}
    fakes.audformat_table(db, "emotion", files("a.wav"), columns)
    root = fakes.audformat_database(tmp_path / "plain", db)
    assert by_path(root, "emotion", "votes") == {"a.wav": ("sadness", {"anger": 1.0})}
    columns |= {"majority": (["happiness"], "emotion", "majority")}
    fakes.audformat_table(db, "emotion", files("a.wav"), columns)
    root = fakes.audformat_database(tmp_path / "vote", db)
    assert by_path(root, "emotion", "votes") == {"a.wav": ("happiness", {"anger": 1.0})}


def test_words_of_two_raters_for_one_emotion_count_together(tmp_path: Path) -> None:
    db = database()
    db.schemes["emotion"] = audformat.Scheme("str", labels=["happy", "joy", "sad"])
    for rater in "123":
        db.raters[rater] = audformat.Rater()
    columns = {rater: ([word], "emotion", rater) for rater, word in zip("123", ("sad", "joy", "happy"), strict=True)}
    fakes.audformat_table(db, "emotion", files("a.wav"), columns)
    root = fakes.audformat_database(tmp_path / "db", db)
    expected = ("joy", "happiness", {"sadness": 1.0, "happiness": 2.0})
    assert by_path(root, "label", "emotion", "votes") == {"a.wav": expected}


def test_a_rater_has_one_vote_and_a_machine_has_none(tmp_path: Path) -> None:
    db = emotions()
    db.raters["eva"] = audformat.Rater()
    db.raters["model"] = audformat.Rater("machine")
    columns = {"eva": (["anger", "sadness"], "emotion", "eva"), "model": (["sadness", "anger"], "emotion", "model")}
    fakes.audformat_table(db, "emotion", files("a.wav", "b.wav"), columns)
    fakes.audformat_table(db, "emotion.again", files("a.wav"), {"eva": (["anger"], "emotion", "eva")})
    root = fakes.audformat_database(tmp_path / "db", db)
    assert by_path(root, "emotion", "votes") == {
        "a.wav": ("anger", {"anger": 1.0}),
        "b.wav": ("sadness", {"sadness": 1.0}),
    }
    assert by_path(root, "emotion", columns={"emotion": "model"}) == {"a.wav": "sadness", "b.wav": "anger"}


@STORAGE
def test_segments_and_what_is_known_of_their_files(tmp_path: Path, storage: str) -> None:
    db = emotions()
    db.schemes["speaker"] = audformat.Scheme("str")
    db.schemes["session"] = audformat.Scheme("int")
    for split in ("train", "test"):
        db.splits[split] = audformat.Split(split)
    turns = segments(("b.wav", "0.5s", "1.25s"), ("a.wav", "1s", None), ("a.wav", "0s", "0.75s"))
    fakes.audformat_table(db, "emotion", turns, {"emotion": (["anger", None, "sadness"], "emotion")})
    # Rows in another order, one of them of no turn.
    known = segments(("a.wav", "0s", "0.75s"), ("b.wav", "0.5s", "1.25s"), ("b.wav", "0s", "0.5s"))
    fakes.audformat_table(db, "segments", known, {"speaker": (["03", "007", "x"], "speaker")})
    facts = {"speaker": (["99", "99", "42"], "speaker"), "session": ([1, None, 3], "session")}
    fakes.audformat_table(db, "files", files("a.wav", "b.wav", "unlisted.wav"), facts)
    fakes.audformat_table(db, "train", files("a.wav"), {}, split="train")
    fakes.audformat_table(db, "test", files("b.wav", "whole.wav"), {}, split="test")
    root = fakes.audformat_database(tmp_path / "db", db, storage, seconds=1.5)
    assert read(root) == (
        [
            Utterance("a.wav", 0.0, 0.75, speaker="03", session="1", label="sadness", emotion="sadness", split="train"),
            Utterance("a.wav", 1.0, None, speaker="99", session="1", split="train"),
            Utterance("b.wav", 0.5, 1.25, speaker="007", label="anger", emotion="anger", split="test"),
            Utterance("whole.wav", split="test"),
        ],
        [],
    )
    assert [build(root).row(row)["duration"] for row in range(4)] == [0.75, 0.5, 0.75, 1.5]


@STORAGE
def test_dimensions_with_the_ranges_of_their_schemes(tmp_path: Path, storage: str) -> None:
    db = database()
    db.schemes["emotion.dimensions.arousal"] = audformat.Scheme("float", minimum=1, maximum=7)
    db.schemes["valence"] = audformat.Scheme("float", minimum=-1, maximum=1)
    db.schemes["dominance"] = audformat.Scheme("int", labels=[1, 2, 3, 4, 5])
    columns = {
        "arousal": ([1.0, 4.0, None], "emotion.dimensions.arousal"),
        "valence": ([-1.0, 0.5, 1.0], "valence"),
        "dominance": ([5, 2, None], "dominance"),
    }
    fakes.audformat_table(db, "emotion.dimensions", files("a.wav", "b.wav", "c.wav"), columns)
    root = fakes.audformat_database(tmp_path / "db", db, storage)
    dimensions = ("activation", "valence", "dominance")
    assert by_path(root, *dimensions) == {
        "a.wav": (1.0, -1.0, 5.0),
        "b.wav": (4.0, 0.5, 2.0),
        "c.wav": (None, 1.0, None),
    }
    manifest = build(root)
    assert [[manifest.row(row)[name] for name in dimensions] for row in range(3)] == [
        [0.0, 0.0, 1.0],
        [0.5, 0.75, 0.25],
        [None, 1.0, None],
    ]
    assert [manifest.scale(name) for name in dimensions] == [Scale(1, 7), Scale(-1, 1), Scale(1, 5)]
    manifest = build(root, options={"ranges": {"activation": [9, -1]}})
    assert manifest.scale("activation") == Scale(-1, 9, reversed=True)
    assert manifest.row(1)["activation"] == 0.5


def test_codes_that_the_scheme_explains(tmp_path: Path) -> None:
    db = database()
    db.schemes["emotion"] = audformat.Scheme("str", labels={"W": "anger", "F": "happy"})
    db.schemes["speaker"] = audformat.Scheme(labels={"03": {"gender": "M"}, "08": {"gender": "Female"}, "09": {}})
    columns = {"emotion": (["W", "F", "W"], "emotion"), "speaker": (["03", "08", "09"], "speaker")}
    fakes.audformat_table(db, "emotion", files("a.wav", "b.wav", "c.wav"), columns)
    root = fakes.audformat_database(tmp_path / "db", db)
    assert by_path(root, "label", "emotion", "speaker", "gender") == {
        "a.wav": ("W", "anger", "03", "male"),
        "b.wav": ("F", "happiness", "08", "female"),
        "c.wav": ("W", "anger", "09", None),
    }


def test_columns_without_schemes_and_texts_of_several_lines(tmp_path: Path) -> None:
    db = database()
    text = 'She said: "no,\nnever"'
    columns = {"text": ([text, text],), "emotion": (["Angry", None],), "Speaker_ID": (["007", "08"],)}
    fakes.audformat_table(db, "all", files("a, b.wav", "ü.wav"), columns)
    root = fakes.audformat_database(tmp_path / "db", db)
    assert by_path(root, "label", "emotion", "speaker") == {
        "a, b.wav": ("Angry", "anger", "007"),
        "ü.wav": (None, None, "08"),
    }


@STORAGE
@pytest.mark.parametrize("dtype", ["float", "int", "bool"])
def test_intensities_of_emotions_are_no_emotion(tmp_path: Path, storage: str, dtype: str) -> None:
    """A database without labels: its files, and not its words."""
    db = database()
    db.schemes["emotion"] = audformat.Scheme(dtype)
    db.schemes["speaker"] = audformat.Scheme("int")
    fakes.audformat_table(db, "words", segments(("a.wav", "0s", "0.1s")), {"emotion": ([1], "emotion")})
    fakes.audformat_table(db, "files", files("b.wav", "a.wav"), {"speaker": ([7, None], "speaker")})
    root = fakes.audformat_database(tmp_path / "db", db, storage)
    assert read(root) == ([Utterance("a.wav"), Utterance("b.wav", speaker="7")], [])
    assert read(root, tables=["words"]) == ([Utterance("a.wav", 0.0, 0.1)], [])


def test_only_segments(tmp_path: Path) -> None:
    db = database()
    fakes.audformat_table(db, "voiced", segments(("a.wav", "0.1s", "0.4s")), {})
    root = fakes.audformat_database(tmp_path / "db", db)
    assert read(root) == ([Utterance("a.wav", 0.1, 0.4)], [])


# Options


def test_a_table_and_a_column_can_be_chosen(tmp_path: Path) -> None:
    db = emotions()
    db.schemes["mood-felt"] = audformat.Scheme("str")
    columns = {"emotion": (["anger"], "emotion"), "felt": (["calm"], "mood-felt")}
    fakes.audformat_table(db, "speech.labels", files("a.wav"), columns)
    fakes.audformat_table(db, "song", files("b.wav"), {"emotion": (["sadness"], "emotion")})
    root = fakes.audformat_database(tmp_path / "db", db)
    assert by_path(root, "emotion") == {"a.wav": "anger", "b.wav": "sadness"}
    assert by_path(root, "emotion", tables="speech.labels") == {"a.wav": "anger"}
    for choice in ("speech.labels.felt", "felt", "mood-felt"):
        assert by_path(root, "emotion", columns={"emotion": choice}) == {"a.wav": "calm"}
    assert by_path(root, "emotion", tables=["song"], columns={"emotion": ""}) == {"b.wav": None}


def test_a_gender_of_the_speakers_can_be_left_out(tmp_path: Path) -> None:
    db = emotions()
    db.schemes["speaker"] = audformat.Scheme(labels={"eva": {"sex": "f"}})
    fakes.audformat_table(db, "files", files("a.wav"), {"speaker": (["eva"], "speaker")})
    root = fakes.audformat_database(tmp_path / "db", db)
    assert by_path(root, "speaker", "gender") == {"a.wav": ("eva", "female")}
    assert by_path(root, "speaker", "gender", columns={"gender": ""}) == {"a.wav": ("eva", None)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corpus": "a/b"}, r"corpus = 'a/b' is not a name"),
        ({"columns": {"mood": "emotion"}}, r"columns names 'mood'[\s\S]*possible keys: emotion, activation"),
        ({"ranges": {"arousal": [1, 5]}}, r"ranges names 'arousal'[\s\S]*activation"),
        ({"ranges": {"valence": [2, 2]}}, r"ranges.valence = \[2, 2\] is no range"),
        ({"tables": "emotions"}, r"there is no table 'emotions'[\s\S]*set tables to 'emotion'\?"),
        ({"columns": {"emotion": "emotion.emotoin"}}, r"'emotion.emotoin' is no column[\s\S]*'emotion.emotion'\?"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    db = emotions()
    fakes.audformat_table(db, "emotion", files("a.wav"), {"emotion": (["anger"], "emotion")})
    root = fakes.audformat_database(tmp_path / "db", db)
    with pytest.raises(InputError, match=message):
        read(root, **options)


# What could be meant in two ways


def refusal(root: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        read(root, **options)
    return str(caught.value)


def test_two_schemes_that_could_be_the_emotion(tmp_path: Path) -> None:
    db = emotions()
    db.schemes["emotion.categories"] = audformat.Scheme("str")
    columns = {"emotion": (["anger"], "emotion"), "told": (["sadness"], "emotion.categories")}
    fakes.audformat_table(db, "labels", files("a.wav"), columns)
    root = fakes.audformat_database(tmp_path / "db", db)
    message = refusal(root)
    assert "more than one column could be the emotion: labels.emotion, labels.told" in message
    assert "set columns.emotion to one of them, or to a scheme: emotion, emotion.categories" in message
    assert by_path(root, "emotion", columns={"emotion": "emotion.categories"}) == {"a.wav": "sadness"}


def test_two_columns_of_one_scheme_that_contradict_each_other(tmp_path: Path) -> None:
    db = emotions()
    fakes.audformat_table(db, "felt", files("a.wav", "b.wav"), {"emotion": (["anger", "sadness"], "emotion")})
    fakes.audformat_table(db, "acted", files("b.wav", "a.wav"), {"emotion": (["anger", "anger"], "emotion")})
    root = fakes.audformat_database(tmp_path / "db", db)
    message = refusal(root)
    assert "the emotion of b.wav is 'anger' and, in felt.emotion, 'sadness'" in message
    assert "it could be any of: acted.emotion, felt.emotion" in message
    assert "set columns.emotion" in message
    assert by_path(root, "emotion", tables=["felt"]) == {"a.wav": "anger", "b.wav": "sadness"}
    assert by_path(root, "emotion", columns={"emotion": "acted.emotion"}) == {"a.wav": "anger", "b.wav": "anger"}


def test_two_speakers_of_one_file(tmp_path: Path) -> None:
    db = emotions()
    db.schemes["speaker"] = audformat.Scheme("int")
    fakes.audformat_table(db, "files", files("a.wav"), {"speaker": ([1], "speaker")})
    fakes.audformat_table(db, "age", files("a.wav"), {"speaker": ([2], "speaker")})
    message = refusal(fakes.audformat_database(tmp_path / "db", db))
    assert "the speaker of a.wav is '2' and, in files.speaker, '1'" in message


def test_two_splits_of_one_file(tmp_path: Path) -> None:
    db = emotions()
    for name, kind in (("train", "train"), ("fold-2", "test"), ("extra", "other")):
        db.splits[name] = audformat.Split(kind)
    fakes.audformat_table(db, "part.1", files("a.wav"), {}, split="train")
    fakes.audformat_table(db, "part.2", files("a.wav"), {}, split="fold-2")
    fakes.audformat_table(db, "part.3", files("a.wav"), {}, split="extra")
    root = fakes.audformat_database(tmp_path / "db", db)
    message = refusal(root)
    assert "a.wav is in the split 'train' and, in the table part.2, in 'test'" in message
    assert "set tables to those of one split" in message
    assert by_path(root, "split", tables=["part.2", "part.3"]) == {"a.wav": "test"}


@pytest.mark.parametrize("limits", [{}, {"minimum": 1}, {"maximum": 5}])
def test_a_dimension_without_a_range(tmp_path: Path, limits: dict[str, float]) -> None:
    db = database()
    db.schemes["valence"] = audformat.Scheme("float", **limits)
    fakes.audformat_table(db, "valence", files("a.wav"), {"valence": ([2.0], "valence")})
    root = fakes.audformat_database(tmp_path / "db", db)
    message = refusal(root)
    assert "valence has no range: the scheme of valence.valence" in message
    assert "ranges.valence=[1,5]" in message
    assert by_path(root, "valence", ranges={"valence": [1, 5]}) == {"a.wav": 2.0}
    assert by_path(root, "valence", columns={"valence": ""}) == {"a.wav": None}


# Faults


def test_faults_of_audio_files(tmp_path: Path) -> None:
    names = [f"{number:02}.wav" for number in range(13)]
    db = emotions()
    fakes.audformat_table(db, "emotion", files(*names, "gone.wav"), {"emotion": ("anger", "emotion")})
    root = fakes.audformat_database(tmp_path / "db", db)
    (root / "gone.wav").unlink()
    kinds = fakes.plant_all([root / name for name in names])
    manifest = build(root, max_bad_fraction=1)
    expected = {file.name: kind for file, kind in kinds.items() if kind} | {"gone.wav": "missing file"}
    assert {fault.path: fault.kind for fault in manifest.faults} == expected
    assert len(manifest) == 14 - len(expected)


def test_a_file_listed_twice_and_labels_that_the_scheme_does_not_have(tmp_path: Path) -> None:
    db = emotions()
    names = ("a.wav", "b.wav", "c.wav")
    fakes.audformat_table(db, "emotion", files(*names), {"emotion": (["anger", "sadness", "anger"], "emotion")})
    root = fakes.audformat_database(tmp_path / "db", db)
    (root / "db.emotion.csv").write_text("file,emotion\na.wav,anger\nb.wav,Trauer\na.wav,sadness\nc.wav,\n")
    utterances, faults = read(root)
    assert [(one.path, one.label) for one in utterances] == [("a.wav", "anger"), ("b.wav", None), ("c.wav", None)]
    assert [(fault.path, fault.kind) for fault in faults] == [
        ("a.wav", "listed twice in db.emotion.csv"),
        ("b.wav", "unknown label"),
    ]
    assert "'Trauer' in emotion.emotion" in faults[1].reason


def test_a_segment_listed_twice(tmp_path: Path) -> None:
    db = emotions()
    fakes.audformat_table(db, "emotion", segments(("a.wav", "0s", "1s")), {"emotion": (["anger"], "emotion")})
    root = fakes.audformat_database(tmp_path / "db", db)
    line = "a.wav,0 days,0 days 00:00:01,anger\n"
    (root / "db.emotion.csv").write_text("file,start,end,emotion\n" + line + line)
    utterances, faults = read(root)
    assert [(one.start, one.end) for one in utterances] == [(0.0, 1.0)]
    assert [(fault.path, fault.kind) for fault in faults] == [("a.wav", "listed twice in db.emotion.csv")]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("file,mood\na.wav,anger\n", r"db.emotion.csv is not the table that db.yaml describes: .*emotion"),
        ("file,emotion\na.wav,anger,1\n", r"db.emotion.csv is not the table that db.yaml describes"),
        ("file,emotion\n,anger\n", r"db.emotion.csv: row 1 names no file"),
    ],
)
def test_a_damaged_table(tmp_path: Path, table: str, message: str) -> None:
    db = emotions()
    fakes.audformat_table(db, "emotion", files("a.wav"), {"emotion": (["anger"], "emotion")})
    root = fakes.audformat_database(tmp_path / "db", db)
    (root / "db.emotion.csv").write_text(table)
    with pytest.raises(InputError, match=message):
        read(root)


def test_times_and_ratings_that_are_none(tmp_path: Path) -> None:
    db = database()
    db.schemes["valence"] = audformat.Scheme("float", minimum=0, maximum=1)
    fakes.audformat_table(db, "valence", segments(("a.wav", "0s", "1s")), {"valence": ([0.5], "valence")})
    root = fakes.audformat_database(tmp_path / "db", db)
    (root / "db.valence.csv").write_text("file,start,end,valence\na.wav,soon,0 days 00:00:01,0.5\n")
    assert "db.valence.csv, start" in refusal(root)
    (root / "db.valence.csv").write_text("file,start,end,valence\na.wav,0 days,0 days 00:00:01,high\n")
    assert "db.valence.csv: 'high' in valence.valence is not a number" in refusal(root)


def test_a_damaged_parquet_table(tmp_path: Path) -> None:
    db = emotions()
    fakes.audformat_table(db, "emotion", files("a.wav"), {"emotion": (["anger"], "emotion")})
    root = fakes.audformat_database(tmp_path / "db", db, "parquet")
    fakes.truncate(root / "db.emotion.parquet")
    assert "db.emotion.parquet is not the table" in refusal(root)
    (root / "db.emotion.parquet").unlink()
    assert "has no file of the table 'emotion'" in refusal(root)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, r"db.yaml does not exist[\s\S]*set its root"),
        ("", r"db.yaml is not the header"),
        ("- a\n- b\n", r"db.yaml is not the header"),
        ("name: [\n", r"db.yaml cannot be read as YAML"),
        ("name: x\nsource: y\n", r"db.yaml is not the header of a database in audformat: KeyError: 'usage'"),
        ("name: x\nsource: y\nusage: fun\n", r"db.yaml is not the header"),
        (
            "name: x\nsource: y\nusage: other\ntables:\n  ../t: {type: filewise}\n",
            r"'../t' is no name of a table",
        ),
    ],
)
def test_a_folder_that_is_no_database(tmp_path: Path, header: str | None, message: str) -> None:
    if header is not None:
        (tmp_path / "db.yaml").write_text(header)
    with pytest.raises(InputError, match=message):
        read(tmp_path)


# Security


class Hostile:
    """Makes a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


@STORAGE
def test_pickled_tables_are_not_opened(tmp_path: Path, storage: str) -> None:
    trace = tmp_path / "trace"
    db = emotions()
    fakes.audformat_table(db, "emotion", files("a.wav"), {"emotion": (["anger"], "emotion")})
    root = fakes.audformat_database(tmp_path / "db", db, storage)
    pickled = root / "db.emotion.pkl"
    pickled.write_bytes(pickle.dumps(Hostile(trace)))  # the newest of the table's files, which audformat opens

    assert by_path(root, "emotion") == {"a.wav": "anger"}
    build(root)
    (root / f"db.emotion.{storage}").unlink()
    message = refusal(root)
    assert "pickles are not opened" in message
    assert "storage_format='parquet'" in message
    assert not trace.exists()

    with pytest.raises(Exception, match="DataFrame"):  # the trap is a real one
        audformat.Database.load(str(root), load_data=True)
    assert trace.exists()


def test_a_header_that_would_run_code(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    root = fakes.audformat_database(tmp_path / "db", emotions())
    header = root / "db.yaml"
    header.write_text(header.read_text() + f"trap: !!python/object/apply:os.mkdir ['{trace}']\n")
    assert "it may hold plain values only" in refusal(root)
    assert not trace.exists()

    audformat.Database.load(str(root))  # the trap is a real one
    assert trace.exists()


@pytest.mark.parametrize("name", ["../secret.wav", "/secret.wav", "a/../../secret.wav", "..\\secret.wav"])
def test_audio_outside_of_the_root_is_refused(tmp_path: Path, name: str) -> None:
    fakes.write(tmp_path / "secret.wav", fakes.speech("secret"))
    db = emotions()
    path = str(tmp_path / name) if name.startswith("/") else name
    fakes.audformat_table(db, "emotion", files(path), {"emotion": (["anger"], "emotion")})
    db.save(str(tmp_path / "db"))
    assert "leaves" in refusal(tmp_path / "db")


def test_unusual_paths_inside_of_the_root(tmp_path: Path) -> None:
    root = (tmp_path / "db").resolve()
    names = (f"{root}/absolute.wav", "./dot.wav", "there/../back.wav", "windows\\file.wav", "..strange.wav")
    db = emotions()
    fakes.audformat_table(db, "emotion", files(*names), {"emotion": ("anger", "emotion")})
    db.save(str(root))
    expected = {"absolute.wav", "dot.wav", "back.wav", "windows/file.wav", "..strange.wav"}
    assert set(by_path(root, "emotion")) == expected


# The whole way


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fakes.audformat_database(tmp_path / "db", emotions())
    monkeypatch.setitem(sys.modules, "audformat", None)
    assert "pip install 'ser-aae[audformat]'" in refusal(root)


def test_a_changed_table_is_read_again(tmp_path: Path) -> None:
    db = emotions()
    fakes.audformat_table(db, "emotion", files("a.wav"), {"emotion": (["anger"], "emotion")})
    root = fakes.audformat_database(tmp_path / "db", db)
    assert build(root).row(0)["emotion"] == "anger"
    table = root / "db.emotion.csv"
    table.write_text(table.read_text().replace("anger", "sadness"))
    os.utime(table, (0, 0))
    assert build(root).row(0)["emotion"] == "sadness"
    db.save(str(tmp_path), storage_format="parquet")
    (tmp_path / "db.emotion.parquet").rename(root / "db.emotion.parquet")  # stands in for the CSV file, as in audformat
    assert build(root).row(0)["emotion"] == "anger"


def test_header_facts(tmp_path: Path) -> None:
    fakes.audformat_database(tmp_path / "one", emotions(languages=["en"]))
    fakes.audformat_database(tmp_path / "two", emotions(languages=["en", "de"], license="CC0-1.0"))
    facts = []
    for name in ("one", "two"):
        reader = make_reader("audformat")
        list(reader.read(tmp_path / name))
        facts.append((reader.licence, reader.language))
    assert facts == [("none named, research use", "eng"), ("CC0-1.0", "various")]
    assert make_reader("audformat").language == "various"


def test_a_database_trains_with_settings_alone(tmp_path: Path) -> None:
    """Labelled turns of one database, speech without labels of another."""
    labels = ("anger", "happiness", "neutral", "sadness")
    db = database()
    db.schemes["emotion"] = audformat.Scheme("str", labels=list(labels))
    people = {f"{number:02}": {"gender": "female" if number % 2 else "male"} for number in range(1, 8)}
    db.schemes["speaker"] = audformat.Scheme(labels=people)
    turns = [(speaker, label) for speaker in people for label in labels]
    index = files(*(f"{speaker}/{label}.wav" for speaker, label in turns))
    fakes.audformat_table(db, "emotion", index, {"emotion": ([label for _, label in turns], "emotion")})
    fakes.audformat_table(db, "files", index, {"speaker": ([speaker for speaker, _ in turns], "speaker")})
    fakes.audformat_database(tmp_path / "mine", db, "parquet")
    db = database()
    fakes.audformat_table(db, "files", files(*(f"{number}.wav" for number in range(6))), {})
    fakes.audformat_database(tmp_path / "other", db)

    settings = [
        f"data.corpora.mydb={{reader: audformat, root: {tmp_path / 'mine'}}}",
        f"data.corpora.more={{reader: audformat, root: {tmp_path / 'other'}}}",
        "data.labelled=[mydb]",
        "data.auxiliary=[{corpus: more, role: unlabelled, quota: 4}]",
        "data.classes={angry: [anger], happy: [happiness], neutral: [neutral], sad: [sadness]}",
        "split.protocol=speaker_groups",
        "split.folds=3",
        "run=mine",
    ]
    folder = runs.train("ravdess_cat", tmp_path, tmp_path / "runs", *settings)
    assert main(["evaluate", str(folder)]) == 0
    predictions = (folder / "predictions_test.csv").read_text()
    assert "mydb/01" in predictions
