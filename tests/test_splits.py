from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from datamodules.errors import InputError
from datamodules.guard import guard
from datamodules.splits import (
    SIDES,
    Codes,
    CorpusColumns,
    Split,
    SplitSettings,
    fold_count,
    make_split,
    natural_key,
)


def coded(strings: Sequence[str | None]) -> Codes:
    values = list(dict.fromkeys(string for string in strings if string is not None))
    places = {value: code for code, value in enumerate(values)}
    return np.array([-1 if string is None else places[string] for string in strings], dtype=np.int32), values


def corpus(
    speakers: Sequence[str | None],
    *,
    name: str = "acted",
    genders: Sequence[str | None] | None = None,
    sessions: Sequence[str | None] | None = None,
    splits: Sequence[str | None] | None = None,
    first_row: int = 0,
) -> CorpusColumns:
    """A corpus with one row for each entry; columns that are not given are all null."""
    nothing = [None] * len(speakers)
    return CorpusColumns(
        corpus=name,
        rows=np.arange(first_row, first_row + len(speakers)),
        speaker=coded([None if speaker is None else f"{name}/{speaker}" for speaker in speakers]),
        gender=coded(genders or nothing),
        session=coded(sessions or nothing),
        split=coded(splits or nothing),
    )


def speakers_at(columns: CorpusColumns, rows: NDArray[np.int64]) -> set[str]:
    codes, values = columns.speaker
    here = codes[np.isin(columns.rows, rows)]
    return {values[code].split("/")[1] for code in here if code >= 0}


def sides_of(columns: CorpusColumns, split: Split) -> tuple[set[str], set[str], set[str]]:
    return (
        speakers_at(columns, split.train),
        speakers_at(columns, split.development),
        speakers_at(columns, split.test),
    )


def side(report: dict[str, object], name: str) -> dict[str, Any]:
    found = report[name]
    assert isinstance(found, dict)
    return found


def names(*numbers: int) -> set[str]:
    return {f"{number:02d}" for number in numbers}


RAVDESS = corpus(
    [f"{actor:02d}" for actor in range(1, 25) for _ in range(3)],
    name="ravdess",
    genders=["male" if actor % 2 else "female" for actor in range(1, 25) for _ in range(3)],
)
# Ten speakers in five sessions, with the speakers' ids in the corpus's own form.
IEMOCAP = corpus(
    [f"Ses{session:02d}{letter}" for session in range(1, 6) for letter in "FM" for _ in range(2)],
    name="iemocap",
    genders=[gender for _ in range(5) for gender in ("female", "male") for _ in range(2)],
    sessions=[str(session) for session in range(1, 6) for _ in range(4)],
)
SIX_FOLDS = SplitSettings(protocol="speaker_groups", folds=6)
SPEAKER_OUT = SplitSettings(protocol="leave_one_speaker_out")
SESSION_OUT = SplitSettings(protocol="leave_one_session_out")
OWN = SplitSettings(protocol="corpus")


@st.composite
def corpora(draw: st.DrawFn) -> CorpusColumns:
    """Three to fourteen speakers with one to four rows each, in any order, of known and unknown gender."""
    ids = draw(st.lists(st.text("ab019", min_size=1, max_size=4), min_size=3, max_size=14, unique=True))
    gender_of = {name: draw(st.sampled_from(["female", "male", None])) for name in ids}
    rows = draw(st.permutations([name for name in ids for _ in range(draw(st.integers(1, 4)))]))
    return corpus(rows, genders=[gender_of[name] for name in rows], first_row=draw(st.integers(0, 50)))


@given(
    columns=corpora(),
    data=st.data(),
    order=st.sampled_from(["sorted", "shuffled"]),
    seed=st.integers(0, 5),
    balance=st.booleans(),
)
def test_speaker_groups_cover_every_row_and_keep_speakers_apart(
    columns: CorpusColumns, data: st.DataObject, order: str, seed: int, balance: bool
) -> None:
    everyone = speakers_at(columns, columns.rows)
    folds = data.draw(st.integers(3, len(everyone)), label="folds")
    wanted = data.draw(st.none() | st.integers(1, len(everyone) - -(-len(everyone) // folds) - 1), label="wanted")
    settings = SplitSettings(folds=folds, order=order, seed=seed, balance_gender=balance, development_speakers=wanted)
    assert fold_count([columns], settings) == folds
    tested: list[str] = []
    for fold in range(folds):
        split = make_split([columns], replace(settings, fold=fold))
        rows = np.concatenate([split.train, split.development, split.test])
        assert sorted(rows.tolist()) == columns.rows.tolist()
        assert all(one.dtype == np.int64 and (np.diff(one) > 0).all() for one in (split.train, split.test))
        train, development, test = sides_of(columns, split)
        assert not train & development
        assert not test & (train | development)
        assert train
        assert len(development) == wanted if wanted else development
        assert len(test) in (len(everyone) // folds, -(-len(everyone) // folds))
        tested += sorted(test)
    assert sorted(tested) == sorted(everyone)


@given(columns=corpora())
def test_leave_one_speaker_out_tests_each_speaker_once(columns: CorpusColumns) -> None:
    everyone = sorted(speakers_at(columns, columns.rows), key=natural_key)
    assert fold_count([columns], SPEAKER_OUT) == len(everyone)
    for fold, held_out in enumerate(everyone):
        train, development, test = sides_of(columns, make_split([columns], replace(SPEAKER_OUT, fold=fold)))
        assert test == {held_out}
        assert development == {everyone[(fold + 1) % len(everyone)]}
        assert train == set(everyone) - test - development


def test_ravdess_in_its_customary_order() -> None:
    for fold in range(6):
        split = make_split([RAVDESS], replace(SIX_FOLDS, fold=fold))
        train, development, test = sides_of(RAVDESS, split)
        following = (fold + 1) % 6
        assert test == names(*range(4 * fold + 1, 4 * fold + 5))
        assert development == names(*range(4 * following + 1, 4 * following + 5))
        assert train == names(*range(1, 25)) - test - development
    assert sides_of(RAVDESS, make_split([RAVDESS], SIX_FOLDS))[1] == names(5, 6, 7, 8)


def test_report_says_who_is_where() -> None:
    report = make_split([RAVDESS], SIX_FOLDS).report
    assert (report["protocol"], report["fold"], report["folds"]) == ("speaker_groups", 0, 6)
    assert report["left_out"] == {}
    assert report["test"] == {
        "utterances": 12,
        "female": 2,
        "male": 2,
        "other": 0,
        "unknown_speaker": 0,
        "speakers": ["ravdess/01", "ravdess/02", "ravdess/03", "ravdess/04"],
    }
    assert side(report, "train")["utterances"] == 48


def test_few_development_speakers_are_of_both_genders_and_the_others_are_trained_on() -> None:
    # Odd actors are male: in order 05 06; here all women come first.
    assert sides_of(RAVDESS, make_split([RAVDESS], replace(SIX_FOLDS, development_speakers=2)))[1] == names(5, 6)
    sorted_by_gender = corpus([f"{speaker:02d}" for speaker in range(1, 9)], genders=["female"] * 4 + ["male"] * 4)
    settings = SplitSettings(folds=4, fold=3, development_speakers=2)
    train, development, test = sides_of(sorted_by_gender, make_split([sorted_by_gender], settings))
    assert test == names(7, 8)
    assert development == names(1, 5)
    assert train == names(2, 3, 4, 6)


def test_groups_balanced_by_gender() -> None:
    columns = corpus([f"{number:02d}" for number in range(1, 13)], genders=["female"] * 6 + ["male"] * 6)
    for fold in range(3):
        test = side(make_split([columns], SplitSettings(folds=3, fold=fold, balance_gender=True)).report, "test")
        assert (test["female"], test["male"]) == (2, 2)
    unbalanced = side(make_split([columns], SplitSettings(folds=3)).report, "test")
    assert (unbalanced["female"], unbalanced["male"]) == (4, 0)


def test_shuffled_order_depends_on_its_seed_only_and_survives_a_new_speaker() -> None:
    def tested(columns: CorpusColumns, seed: int) -> list[set[str]]:
        settings = replace(SPEAKER_OUT, order="shuffled", seed=seed)
        return [
            sides_of(columns, make_split([columns], replace(settings, fold=fold)))[2]
            for fold in range(fold_count([columns], settings))
        ]

    first = tested(RAVDESS, 1)
    assert first == tested(RAVDESS, 1)
    assert first != tested(RAVDESS, 2)
    assert first != [names(number) for number in range(1, 25)]
    codes, values = RAVDESS.speaker
    larger = corpus([values[code].split("/")[1] for code in codes] + ["99"], name="ravdess")
    assert [one for one in tested(larger, 1) if one != {"99"}] == first


def test_sessions_out() -> None:
    assert fold_count([IEMOCAP], SESSION_OUT) == 5
    train, development, test = sides_of(IEMOCAP, make_split([IEMOCAP], replace(SESSION_OUT, fold=4)))
    assert test == {"Ses05F", "Ses05M"}
    assert development == {"Ses01F", "Ses01M"}
    assert len(train) == 6


def test_session_out_with_a_development_speaker_from_it() -> None:
    settings = replace(SESSION_OUT, development="same_session", fold=1)
    train, development, test = sides_of(IEMOCAP, make_split([IEMOCAP], settings))
    assert (development, test) == ({"Ses02F"}, {"Ses02M"})
    assert len(train) == 8
    with pytest.raises(InputError, match="no speaker of iemocap is left for test"):
        make_split([IEMOCAP], replace(settings, development_speakers=2))


def test_speaker_out_develops_on_the_other_speaker_of_the_session() -> None:
    settings = replace(SPEAKER_OUT, development="same_session")
    assert fold_count([IEMOCAP], settings) == 10
    for fold in range(10):
        train, development, test = sides_of(IEMOCAP, make_split([IEMOCAP], replace(settings, fold=fold)))
        session = fold // 2 + 1
        assert test | development == {f"Ses{session:02d}F", f"Ses{session:02d}M"}
        assert len(test) == 1
        assert len(train) == 8


def test_several_labelled_corpora_are_divided_each_by_itself() -> None:
    other = replace(IEMOCAP, rows=IEMOCAP.rows + RAVDESS.rows.size)
    settings = SplitSettings(folds=5, fold=1)
    split = make_split([other, RAVDESS], settings)
    assert all((np.diff(rows) > 0).all() for rows in (split.train, split.development, split.test))
    assert sides_of(RAVDESS, split)[2] == names(6, 7, 8, 9, 10)
    assert sides_of(other, split)[2] == {"Ses02F", "Ses02M"}
    assert split.train.size + split.development.size + split.test.size == RAVDESS.rows.size + other.rows.size


def test_cross_corpus_tests_all_of_one_and_develops_on_the_other() -> None:
    other = replace(corpus(["x", "x", None, "y"], name="other"), rows=np.arange(100, 104))
    settings = SplitSettings(protocol="cross_corpus", folds=6, fold=2, test_corpora=["other"])
    split = make_split([RAVDESS, other], settings)
    assert split.test.tolist() == [100, 101, 102, 103]
    train, development, _ = sides_of(RAVDESS, split)
    assert development == names(9, 10, 11, 12)
    assert train == names(*range(1, 25)) - development
    assert side(split.report, "test")["unknown_speaker"] == 1
    assert split.report["folds"] == 6
    fewer = make_split([RAVDESS, other], replace(settings, development_speakers=1))
    assert sides_of(RAVDESS, fewer)[1] == names(9)


def test_adaptation_speakers_of_each_test_corpus_are_on_no_side() -> None:
    genders = ["female", "female", "female", "male", "male", "female"]
    others = [
        corpus(["1", "2", "3", "4", "5", "1"], name=name, genders=genders, first_row=first)
        for name, first in (("one", 100), ("two", 200))
    ]
    settings = SplitSettings(protocol="cross_corpus", folds=6, test_corpora=["one", "two"], adaptation_speakers=3)
    split = make_split([RAVDESS, *others], settings)
    assert split.adaptation.tolist() == [100, 101, 103, 105, 200, 201, 203, 205]  # 1 and 4, and the next woman
    assert split.test.tolist() == [102, 104, 202, 204]
    assert split.report["adaptation"] == {
        "utterances": 8,
        "female": 4,
        "male": 2,
        "other": 0,
        "unknown_speaker": 0,
        "speakers": ["one/1", "one/2", "one/4", "two/1", "two/2", "two/4"],
    }
    without = make_split([RAVDESS, *others], replace(settings, adaptation_speakers=0))
    assert without.adaptation.size == 0
    assert "adaptation" not in without.report
    for fold in range(6):
        again = make_split([RAVDESS, *others], replace(settings, fold=fold))
        assert again.adaptation.tolist() == split.adaptation.tolist()
    shuffled = make_split([RAVDESS, *others], replace(settings, order="shuffled", seed=3))
    assert shuffled.adaptation.tolist() != split.adaptation.tolist()


def test_an_unknown_speaker_may_be_one_of_those_set_apart() -> None:
    other = corpus(["1", "2", None, "3"], name="other", first_row=100)
    settings = SplitSettings(protocol="cross_corpus", folds=6, test_corpora=["other"], adaptation_speakers=1)
    with pytest.raises(InputError, match="1 utterances of other have no speaker"):
        make_split([RAVDESS, other], settings)
    for choice in ("train", "leave_out"):
        split = make_split([RAVDESS, other], replace(settings, unknown_speakers=choice))
        assert (split.adaptation.tolist(), split.test.tolist()) == ([100], [101, 103])
        assert split.report["left_out"] == {"unknown speaker": 1}


@pytest.mark.parametrize("wanted", [3, 4])
def test_somebody_is_left_to_test_on(wanted: int) -> None:
    other = corpus(["1", "2", "3"], name="other", first_row=100)
    settings = SplitSettings(protocol="cross_corpus", folds=6, test_corpora=["other"], adaptation_speakers=wanted)
    with pytest.raises(InputError, match="leaves nobody to test on: other has 3 speakers"):
        make_split([RAVDESS, other], settings)


@pytest.mark.parametrize(
    ("test_corpora", "message"),
    [([], "trains on the others"), (["nowhere"], "ravdess, iemocap"), (["ravdess", "iemocap"], "trains on the others")],
)
def test_cross_corpus_needs_corpora_on_both_ends(test_corpora: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_split([RAVDESS, IEMOCAP], SplitSettings(protocol="cross_corpus", test_corpora=test_corpora))


def test_own_split_is_taken_as_it_is() -> None:
    columns = corpus(
        ["1", "2", None, "3", "4", "1"], splits=["train", "development", "train", "test", None, "train"], first_row=7
    )
    split = make_split([columns], OWN)
    assert split.train.tolist() == [7, 9, 12]
    assert split.development.tolist() == [8]
    assert split.test.tolist() == [10]
    assert split.report["left_out"] == {"not in the corpus's own split": 1}
    assert side(split.report, "train")["unknown_speaker"] == 1
    assert fold_count([columns], OWN) == 1


def test_unknown_speakers_never_stand_on_two_sides_of_the_own_split() -> None:
    columns = corpus(
        ["1", "2", None, "3", None, None], splits=["train", "development", "train", "test", "test", "development"]
    )
    with pytest.raises(InputError, match="3 utterances of acted have no speaker"):
        make_split([columns], OWN)
    split = make_split([columns], replace(OWN, unknown_speakers="train"))
    assert (split.train.tolist(), split.development.tolist(), split.test.tolist()) == ([0, 2], [1], [3])
    assert split.report["left_out"] == {"unknown speaker": 2}
    split = make_split([columns], replace(OWN, unknown_speakers="leave_out"))
    assert (split.train.tolist(), split.development.tolist(), split.test.tolist()) == ([0], [1], [3])
    assert split.report["left_out"] == {"unknown speaker": 3}


def test_own_split_without_a_development_side() -> None:
    columns = corpus(
        ["1", "2", "2", "3", "10", "1"],
        genders=["male", "male", "male", "male", "female", "male"],
        splits=["train", "train", "train", "test", "train", "train"],
    )
    with pytest.raises(InputError, match="nothing is left for development in acted"):
        make_split([columns], OWN)
    split = make_split([columns], replace(OWN, development_speakers=2))
    assert sides_of(columns, split) == ({"2"}, {"1", "10"}, {"3"})
    with pytest.raises(InputError, match="nothing is left for train"):
        make_split([columns], replace(OWN, development_speakers=3))
    whole = corpus(["1", "2", "3"], splits=list(SIDES))
    with pytest.raises(InputError, match="has a development side"):
        make_split([whole], replace(OWN, development_speakers=1))
    # Development speakers are taken from training, where an unknown speaker may be one of them.
    unknown = corpus(["1", "2", None, "3"], splits=["train", "train", "train", "test"])
    with pytest.raises(InputError, match="1 utterances of acted have no speaker"):
        make_split([unknown], replace(OWN, development_speakers=1))


def test_unknown_speakers_in_folds() -> None:
    columns = corpus(["1", "2", None, "3", None, "4"])
    settings = SplitSettings(folds=4)
    with pytest.raises(InputError, match="2 utterances of acted have no speaker"):
        make_split([columns], settings)
    split = make_split([columns], replace(settings, unknown_speakers="train"))
    assert (split.train.tolist(), split.development.tolist(), split.test.tolist()) == ([2, 3, 4, 5], [1], [0])
    assert side(split.report, "train")["unknown_speaker"] == 2
    split = make_split([columns], replace(settings, unknown_speakers="leave_out"))
    assert split.train.tolist() == [3, 5]
    assert split.report["left_out"] == {"unknown speaker": 2}


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        (RAVDESS, replace(SIX_FOLDS, fold=6), r"split.fold=6 does not exist(?s:.*)from 0 to 5"),
        (RAVDESS, replace(SIX_FOLDS, fold=-1), r"split.fold=-1 does not exist(?s:.*)from 0 to 5"),
        (IEMOCAP, replace(SESSION_OUT, fold=5), r"split.fold=5 does not exist(?s:.*)from 0 to 4"),
        (corpus(["1", "2"], splits=["train", "test"]), replace(OWN, fold=1), r"has 1 fold (?s:.*)split.fold=0"),
        (RAVDESS, replace(SIX_FOLDS, folds=25), r"split.folds=25(?s:.*)24 speakers of ravdess(?s:.*)2 to 24"),
        (RAVDESS, replace(SIX_FOLDS, folds=1), "split.folds=1"),
        (RAVDESS, SESSION_OUT, "needs sessions, and ravdess has none for ravdess/01, .* and 19 more"),
        (RAVDESS, replace(SPEAKER_OUT, development="same_session"), "needs sessions"),
        (RAVDESS, OWN, "ravdess has no split of its own"),
        (RAVDESS, replace(SIX_FOLDS, folds=2), "no speaker of ravdess is left for train"),
        (RAVDESS, replace(SIX_FOLDS, development_speakers=0), "leaves nobody to choose the epoch by"),
        (RAVDESS, replace(SIX_FOLDS, development_speakers=21), "21 development speakers are wanted(?s:.*)20 who could"),
        (RAVDESS, replace(SIX_FOLDS, development_speakers=20), "no speaker of ravdess is left for train"),
        (RAVDESS, replace(SIX_FOLDS, protocol="random"), r"split.protocol=random(?s:.*)leave_one_session_out"),
        (RAVDESS, replace(SIX_FOLDS, order="random"), "split.order=random"),
        (RAVDESS, replace(SIX_FOLDS, development="previous"), "split.development=previous"),
        (RAVDESS, replace(SIX_FOLDS, unknown_speakers="test"), "split.unknown_speakers=test"),
        (RAVDESS, replace(SIX_FOLDS, development="same_session"), "does not go with split.protocol=speaker_groups"),
        (RAVDESS, replace(SIX_FOLDS, test_corpora=["nemo"]), "does not go with split.protocol=speaker_groups"),
        (
            RAVDESS,
            replace(SIX_FOLDS, adaptation_speakers=1),
            "adaptation_speakers=1 does not go with (?s:.*)cross_corpus",
        ),
        (RAVDESS, replace(SIX_FOLDS, adaptation_speakers=-1), "adaptation_speakers=-1 does not go with"),
        (corpus([None, None]), SIX_FOLDS, "needs speakers, and acted has none"),
        (corpus(["1", "1"]), SPEAKER_OUT, "only one speaker"),
        (corpus(["1", "2"], sessions=["a", "a"]), SESSION_OUT, "only one speaker or session"),
        (corpus(["1", "1", "2"], sessions=["a", "b", "b"]), SESSION_OUT, "acted/1 of acted speak in several sessions"),
        (
            corpus(["1", "2", "3"], sessions=["a", "b", "b"]),
            replace(SPEAKER_OUT, development="same_session"),
            "1 development speakers are wanted, and acted has 0",
        ),
    ],
)
def test_what_cannot_be_is_told(columns: CorpusColumns, settings: SplitSettings, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_split([columns], settings)


@pytest.mark.parametrize("labelled", [[], [RAVDESS, RAVDESS]])
def test_each_labelled_corpus_is_needed_once(labelled: list[CorpusColumns]) -> None:
    with pytest.raises(InputError, match="at least one, and each of them once"):
        make_split(labelled, SIX_FOLDS)


def test_speakers_sort_naturally() -> None:
    assert sorted(["10", "2", "03", "3", "1", "03b", "a10", "a9", "a"], key=natural_key) == [
        "1", "2", "03", "3", "03b", "10", "a", "a9", "a10",
    ]  # fmt: skip
    columns = corpus(["10", "9", "03", "1"])
    assert [sides_of(columns, make_split([columns], replace(SPEAKER_OUT, fold=fold)))[2] for fold in range(4)] == [
        {"1"}, {"03"}, {"9"}, {"10"},
    ]  # fmt: skip


@given(st.lists(st.text("a0129. "), max_size=6))
def test_natural_order_is_one_order_for_all_strings(texts: list[str]) -> None:
    backwards = texts[::-1]
    assert sorted(texts, key=natural_key) == sorted(backwards, key=natural_key)
    numbers = [text for text in texts if text.isdigit()]
    assert [int(text) for text in sorted(numbers, key=natural_key)] == sorted(map(int, numbers))


@dataclass
class Piece:
    """Utterances of one corpus on one side."""

    corpus: str
    speakers: Sequence[str | None]
    hashes: Sequence[str | None]
    folder: str

    def first_rows(self, column: str, among: Collection[str] | None = None) -> dict[str, int]:
        values = self.speakers if column == "speaker" else self.hashes
        there = {value for value in values if value is not None and (among is None or value in among)}
        return {value: values.index(value) for value in there}

    def path(self, row: int) -> str:
        return f"{self.folder}/{row}.wav"


def piece(
    speakers: Sequence[str | None], hashes: Sequence[str | None], name: str = "acted", folder: str = "a"
) -> Piece:
    return Piece(name, speakers, hashes, folder)


def test_guard_lets_a_clean_split_pass() -> None:
    guard(
        {
            "train": [
                piece(["acted/1", None, "acted/1"], ["aa", "bb", None]),
                piece([None, "read/7"], [None, None], name="read"),
            ],
            "development": [piece(["acted/2", None], ["cc", None])],
            "test": [piece(["acted/3"], ["dd"]), piece([], [])],
        }
    )


def test_guard_names_a_speaker_on_two_sides_with_a_path_on_either() -> None:
    sides = {
        "train": [
            piece(["acted/1"], ["aa"]),
            piece(["read/7", "read/8"], [None, None], "read", "r"),
        ],
        "development": [piece(["acted/2"], ["cc"])],
        "test": [
            piece(["acted/3"], ["dd"]),
            piece(["read/9", "read/8"], [None, "ee"], "read", "t"),
        ],
    }
    with pytest.raises(InputError) as raised:
        guard(sides)
    assert "speaker read/8 is in train (read/r/1.wav) and test (read/t/1.wav)" in raised.value.problem
    assert raised.value.problem.count("speaker") == 1


@pytest.mark.parametrize("pair", [("train", "development"), ("train", "test"), ("development", "test")])
def test_guard_names_a_recording_on_two_sides(pair: tuple[str, str]) -> None:
    sides = {name: [piece([f"acted/{name}"] * 2, [f"{name}1", f"{name}2"], folder=name)] for name in SIDES}
    for name in pair:
        sides[name].append(piece([None, None], [None, "f00d"], folder=f"{name}-copy"))
    with pytest.raises(InputError) as raised:
        guard(sides)
    first, second = pair
    assert raised.value.problem == (
        "The split leaks:\n  recording with the hash f00d is in "
        f"{first} (acted/{first}-copy/1.wav) and {second} (acted/{second}-copy/1.wav)"
    )


def test_guard_counts_the_culprits_that_it_does_not_name() -> None:
    speakers = [f"acted/{number}" for number in range(12)]
    nothing: list[str | None] = [None] * 12
    with pytest.raises(InputError, match="and 7 more like it in train and test"):
        guard({"train": [piece(speakers, nothing)], "test": [piece(speakers, nothing)]})


@given(columns=corpora(), data=st.data())
def test_guard_accepts_every_fold_and_finds_every_planted_leak(columns: CorpusColumns, data: st.DataObject) -> None:
    folds = len(speakers_at(columns, columns.rows))
    settings = replace(SPEAKER_OUT, fold=data.draw(st.integers(0, folds - 1)))
    split = make_split([columns], settings)
    rows = {"train": split.train, "development": split.development, "test": split.test}
    codes, values = columns.speaker

    def side(at: NDArray[np.int64]) -> list[Piece]:
        places = (at - columns.rows[0]).tolist()
        speakers = [values[codes[place]] if codes[place] >= 0 else None for place in places]
        hashes = [f"{place:x}" for place in places]
        return [Piece("acted", speakers, hashes, "/".join(hashes))]

    guard({name: side(at) for name, at in rows.items()})
    origin, target = data.draw(st.permutations(SIDES))[:2]
    planted = data.draw(st.sampled_from(rows[origin].tolist()))
    rows[target] = np.append(rows[target], planted)
    with pytest.raises(InputError, match=f"recording with the hash {planted - columns.rows[0]:x} is in"):
        guard({name: side(at) for name, at in rows.items()})
