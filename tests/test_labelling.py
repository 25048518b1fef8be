"""Which labels an experiment takes from its corpora, and what becomes of utterances without one."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.batch import LABELLED, SPEAKER, UNLABELLED
from datamodules.building import build_manifest
from datamodules.collection import Collection
from datamodules.corpora import CORPORA
from datamodules.corpora.base import Fault, Reader, Scale, Utterance
from datamodules.datamodule import SpeechDataModule
from datamodules.errors import InputError
from datamodules.exclusion import excluded
from datamodules.labelling import Labelling
from datamodules.settings import AuxiliarySettings, CorpusSettings, DataSettings
from datamodules.splits import SplitSettings
from tests import fakes
from tests.pools import labels, rows

CLASSES = {"neutral": ["neutral"], "positive": ["happiness", "excitement"], "negative": ["anger"]}
ACTED = {"neutral": ["neutral"], "happy": ["happiness"], "angry": ["anger"]}

# Code -> emotion of the consensus, raters who named each emotion, activation on 1 to 5.
TURNS: dict[str, tuple[str | None, dict[str, float] | None, float | None]] = {
    "0": ("neutral", {"neutral": 3}, 2.0),
    "1": ("happiness", {"happiness": 2, "excitement": 1}, 4.0),
    "2": ("excitement", {"excitement": 2, "neutral": 1, "sadness": 1}, 5.0),
    "3": ("anger", {"anger": 2, "frustration": 2}, None),
    "4": ("frustration", {"frustration": 3}, 4.0),  # of no class
    "5": (None, {"anger": 1, "neutral": 1, "sadness": 1}, 3.0),  # no agreement
    "6": (None, None, None),  # nothing is known
    "7": ("neutral", None, None),  # a label, and no votes
}
SPEAKERS = "ABCDEF"
SIDES = {"A": "train", "B": "train", "C": "development", "D": "test", "E": None}


@dataclass(frozen=True)
class Voted(Reader):
    """Six speakers, each with all of `TURNS`; F's speaker is unknown."""

    name = "voted"
    folders = ("voted",)
    licence = "none"
    how_to_get = "the test writes it"
    language = "en"
    labelled = True
    scales = {"activation": Scale(1, 5)}  # noqa: RUF012

    def read(self, root: Path) -> Iterator[Utterance | Fault]:
        for speaker in SPEAKERS:
            for turn, (emotion, votes, activation) in TURNS.items():
                yield Utterance(
                    f"{speaker}{turn}.wav",
                    speaker=None if speaker == "F" else speaker,
                    gender="female" if speaker in "ACE" else "male",
                    label=emotion or "xxx",
                    emotion=emotion,
                    votes=votes,
                    activation=activation,
                    split=SIDES.get(speaker),
                )


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    for speaker in SPEAKERS:
        for turn in TURNS:
            fakes.write(root / "voted" / f"{speaker}{turn}.wav", fakes.speech(speaker, turn))
    fakes.ravdess(root / "ravdess", actors=3, emotions=("01", "03", "05"), statements=1, rate=16_000)
    fakes.librispeech(root / "librispeech", speakers=4)
    return root


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CORPORA, "voted", Voted)


SPLIT = SplitSettings(protocol="leave_one_speaker_out", unknown_speakers="leave_out")


def make(
    root: Path, split: SplitSettings = SPLIT, tasks: tuple[str, ...] = ("emotion",), **changes: Any
) -> SpeechDataModule:
    settings = DataSettings(root=str(root), cache=str(root / "cache"), labelled=["voted"], classes=CLASSES, quota=4)
    data = SpeechDataModule(replace(settings, **changes), split, 16_000, 0, tasks)
    data.prepare_data()
    data.setup()
    return data


def names(data: SpeechDataModule, chosen: np.ndarray[Any, Any]) -> set[str]:
    return {str(data.collection.row(int(row))["path"]).removesuffix(".wav") for row in chosen}


def every(*speakers: str, turns: str) -> set[str]:
    return {speaker + turn for speaker in speakers for turn in turns}


# Which utterances carry a label


def test_without_a_head_for_dimensions_only_classes_are_labels(corpora: Path) -> None:
    data = make(corpora)  # A is tested, B develops
    assert names(data, data.split.test) == every("A", turns="01237")
    assert names(data, data.split.development) == every("B", turns="01237")
    assert names(data, data.split.train) == every("C", "D", "E", turns="01237")


def test_with_a_head_for_dimensions_ratings_are_labels_too(corpora: Path) -> None:
    data = make(corpora, tasks=("emotion", "dimensions"))
    assert names(data, data.split.test) == every("A", turns="0123457")
    assert names(data, data.split.train) == every("C", "D", "E", turns="0123457")


def test_without_classes_ratings_alone_are_labels(corpora: Path) -> None:
    data = make(corpora, tasks=("dimensions",), classes={})
    assert names(data, data.split.test) == every("A", turns="01245")
    assert data.labels.emotions == ()


def test_a_corpus_without_any_label_of_the_experiment_is_told(corpora: Path) -> None:
    split = SplitSettings(protocol="leave_one_speaker_out")
    with pytest.raises(InputError, match="no utterance of ravdess has a label that this experiment learns"):
        make(corpora, split, ("dimensions",), labelled=["ravdess"], classes={})
    with pytest.raises(InputError, match="no utterance of voted has a label that this experiment learns"):
        make(corpora, agreeing_raters=99)


def test_a_head_for_dimensions_without_ratings_to_learn_is_told(corpora: Path) -> None:
    split = SplitSettings(protocol="leave_one_speaker_out")
    with pytest.raises(InputError, match="no training utterance of ravdess is rated in any dimension"):
        make(corpora, split, ("emotion", "dimensions"), labelled=["ravdess"], classes=ACTED)


# Utterances without a label


def test_what_carries_no_label_is_unlabelled_speech_of_training_speakers(corpora: Path) -> None:
    auxiliary = [AuxiliarySettings("voted", "unlabelled", 2), AuxiliarySettings("voted", "speaker", 2)]
    data = make(corpora, auxiliary=auxiliary)
    for pool in data.pools[1:]:
        assert names(data, rows(pool)) == every("C", "D", "E", turns="456")
    assert [pool.part for pool in data.pools] == [LABELLED, SPEAKER, UNLABELLED]  # in a batch's order
    assert set(labels(data.pools[2])) == {"corpus"}
    assert set(labels(data.pools[1])["speaker"]) == set(labels(data.pools[0])["speaker"]) == {0, 1, 2}
    batch = next(iter(data.train_dataloader()))
    assert batch.sizes == (4, 2, 2)
    assert (batch.targets["emotion"][4:] == -1).all()


@pytest.mark.parametrize(("unknown", "also"), [("train", ["F"]), ("leave_out", [])])
def test_unlabelled_speech_of_unknown_speakers_is_used_where_they_are_known_to_be_others(
    corpora: Path, unknown: str, also: list[str]
) -> None:
    split = replace(SPLIT, unknown_speakers=unknown)
    data = make(corpora, split, auxiliary=[AuxiliarySettings("voted", "unlabelled", 2)])
    assert names(data, rows(data.pools[1])) == every("C", "D", "E", *also, turns="456")
    assert names(data, data.split.train) == every("C", "D", "E", *also, turns="01237")


def test_with_a_split_of_the_corpus_s_own_unlabelled_speech_is_of_its_training_side(corpora: Path) -> None:
    split = SplitSettings(protocol="corpus", unknown_speakers="leave_out")
    data = make(corpora, split, auxiliary=[AuxiliarySettings("voted", "unlabelled", 2)])
    assert names(data, data.split.train) == every("A", "B", turns="01237")
    # E is on no side, and is of no use, since nobody knows why it was left out.
    assert names(data, rows(data.pools[1])) == every("A", "B", turns="456")


def test_what_loses_its_label_joins_what_never_had_one(corpora: Path) -> None:
    data = make(corpora, labelled_share=0.34, auxiliary=[AuxiliarySettings("voted", "unlabelled", 2)])
    assert data.labels.emotion_counts == (2, 2, 1)  # of 6, 6 and 3
    kept = names(data, data.split.train)
    everything = every("C", "D", "E", turns="01234567")
    assert names(data, rows(data.pools[1])) == everything - kept


def test_ratings_lose_their_utterances_at_random_where_there_are_no_classes(corpora: Path) -> None:
    data = make(corpora, tasks=("dimensions",), classes={}, labelled_share=0.4)
    assert len(data.split.train) == 6  # of 15
    assert names(data, data.split.train) < every("C", "D", "E", turns="01245")
    joint = make(corpora, tasks=("emotion", "dimensions"), labelled_share=0.34)
    assert joint.labels.emotion_counts == (2, 2, 1)
    assert len(joint.split.train) == 2 + 2 + 1 + 2  # of the 6 that have a rating alone


def test_an_unknown_speaker_whom_the_corpus_trains_on_may_lose_a_label(
    corpora: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIDES, "F", "train")
    split = SplitSettings(protocol="corpus")
    auxiliary = [AuxiliarySettings("voted", "unlabelled", 2)]
    data = make(corpora, split, labelled_share=0.1, auxiliary=auxiliary, cache=str(corpora / "another"))
    kept = names(data, data.split.train)
    assert len(kept) == 3
    assert names(data, rows(data.pools[1])) == every("A", "B", "F", turns="01237") - kept | every("A", "B", turns="456")


def test_a_corpus_without_unlabelled_speech_is_told(corpora: Path) -> None:
    with pytest.raises(InputError, match="ravdess is labelled, and its training speakers have no utterance without"):
        make(
            corpora,
            SplitSettings(protocol="leave_one_speaker_out"),
            labelled=["ravdess"],
            classes=ACTED,
            auxiliary=[AuxiliarySettings("ravdess", "unlabelled", 2)],
        )


# Votes


def test_classes_that_nobody_agrees_on_are_told(corpora: Path) -> None:
    with pytest.raises(InputError, match="no training utterance has the class positive, negative"):
        make(corpora, agreeing_raters=3)


def test_agreement_is_on_the_emotion_and_reported(corpora: Path) -> None:
    data = make(corpora, agreeing_raters=2)
    assert names(data, data.split.test) == every("A", turns="0123")  # not 7, which has no votes
    report = data.report["corpora"]["voted"]
    assert report["classes"] == {"neutral": 6, "positive": 12, "negative": 6}
    assert report["disputed"] == 6
    assert report["left_out"] == {"frustration": 6, "xxx": 12}
    assert report["voted"] == 6 * 6
    data = make(corpora, agreeing_raters=2, auxiliary=[AuxiliarySettings("voted", "unlabelled", 2)])
    assert names(data, rows(data.pools[1])) == every("C", "D", "E", turns="4567")


def test_votes_are_soft_labels(corpora: Path) -> None:
    data = make(corpora, soft_labels=True)
    shares = {}
    for row, votes in zip(rows(data.test_pool), labels(data.test_pool)["votes"], strict=True):
        shares[str(data.collection.row(int(row))["path"])[1]] = votes.tolist()
    assert shares == {
        "0": [1, 0, 0],
        "1": [0, 1, 0],  # both of its emotions are of one class
        "2": pytest.approx([1 / 3, 2 / 3, 0]),  # sadness is of no class
        "3": [0, 0, 1],
        "7": [1, 0, 0],  # no votes: the label
    }
    assert data.labels.soft
    batch = next(iter(data.train_dataloader()))
    assert batch.targets["votes"].shape == (4, 3)
    assert torch.allclose(batch.targets["votes"].sum(1), torch.ones(4))
    # Evaluation goes by the consensus.
    assert Counter(labels(data.test_pool)["emotion"].tolist()) == {0: 2, 1: 2, 2: 1}


def test_soft_labels_are_missing_where_there_is_no_class(corpora: Path) -> None:
    data = make(corpora, soft_labels=True, tasks=("emotion", "dimensions"))
    missing = np.isnan(labels(data.test_pool)["votes"]).all(axis=1)
    assert missing.tolist() == (labels(data.test_pool)["emotion"] < 0).tolist()
    assert missing.sum() == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [({"soft_labels": True}, "soft_labels needs raters' votes"), ({"agreeing_raters": 2}, "ravdess tells no raters'")],
)
def test_a_corpus_without_votes_is_refused_where_they_count(
    corpora: Path, setting: dict[str, Any], message: str
) -> None:
    split = SplitSettings(protocol="leave_one_speaker_out")
    with pytest.raises(InputError, match=message):
        make(corpora, split, labelled=["ravdess"], classes=ACTED, **setting)


def test_soft_labels_without_a_head_or_classes_to_learn_them_are_refused(corpora: Path) -> None:
    for changes in ({"classes": {}, "tasks": ("dimensions",)}, {"tasks": ("dimensions",)}):
        with pytest.raises(InputError, match=r"soft_labels needs data\.classes and the head emotion"):
            make(corpora, soft_labels=True, **changes)


def test_votes_of_many_corpora_are_gathered(corpora: Path, tmp_path: Path) -> None:
    manifests = [
        build_manifest(reader(), corpora / reader.name, tmp_path, hash_content=True, progress=False)
        for reader in (CORPORA["ravdess"], Voted)
    ]
    labelling = Labelling(Collection(manifests), CLASSES, 0, rated=False)
    found = labelling.votes(np.array([9 + 2, 0, 9 + 5]))
    np.testing.assert_allclose(found, np.array([[1 / 3, 2 / 3, 0], [1, 0, 0], [np.nan] * 3]), rtol=1e-6)


# Excluded speakers


def test_excluded_speakers_are_nowhere(corpora: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("# who also speak elsewhere\r\n14\r\nlibrispeech/20 # a comment\r\n\r\n999\r\n")
    exclude = {
        "librispeech": CorpusSettings(exclude_speakers=[f"file:{listed}", "23"]),
        "voted": CorpusSettings(exclude_speakers=["A"]),
    }
    data = make(corpora, corpora=exclude, auxiliary=[AuxiliarySettings("librispeech", "speaker", 2)])
    assert names(data, data.split.test) == every("B", turns="01237")
    _, speakers = data.collection.strings("speaker", rows(data.pools[1]))
    assert speakers == ["librispeech/17"]
    assert data.report["excluded_speakers"] == {
        "voted": {"speakers": ["voted/A"], "utterances": 8},
        "librispeech": {"speakers": ["librispeech/14", "librispeech/20", "librispeech/23"], "utterances": 6},
    }


def test_a_list_that_names_nobody_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"exclude_speakers: id1001 names no speaker of vox") as caught:
        excluded("vox", ["id1001"], ["vox/id10001", "vox/id10002"])
    assert "id10001" in str(caught.value)
    empty = tmp_path / "empty.txt"
    empty.write_text("# nobody\n")
    with pytest.raises(InputError, match="names no speaker"):
        excluded("vox", [f"file:{empty}"], ["vox/id10001"])
    with pytest.raises(InputError, match=r"no\.txt cannot be read: No such file"):
        excluded("vox", ["file:no.txt"], ["vox/id10001"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vote", r"data\.corpora\.vote: there is no corpus of that name\s+Did you mean: voted"),
        ("nemo", r"data\.corpora\.nemo\.exclude_speakers: the experiment does not use nemo\s+It uses: voted"),
    ],
)
def test_an_exclusion_that_would_not_happen_is_told(corpora: Path, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(corpora, corpora={name: CorpusSettings(exclude_speakers=["A"])})


# What is missing


def test_all_that_is_missing_is_told_with_what_could_be_done_without(corpora: Path, tmp_path: Path) -> None:
    auxiliary = [
        AuxiliarySettings("librispeech", "speaker", 4),
        AuxiliarySettings("voted", "unlabelled", 2),
        AuxiliarySettings("nemo", "unlabelled", 8),
    ]
    with pytest.raises(InputError) as caught:
        make(corpora, auxiliary=auxiliary)
    assert str(caught.value).splitlines()[-1].strip() == (
        "nemo is auxiliary speech; to train without it: "
        "'data.auxiliary=[{corpus: librispeech, role: speaker, quota: 4}, {corpus: voted, role: unlabelled, quota: 2}]'"
    )
    with pytest.raises(InputError) as caught:
        make(tmp_path, auxiliary=auxiliary)
    told = str(caught.value)
    assert told.startswith("3 corpora were not found:")
    for name in ("voted", "librispeech", "nemo"):
        assert f"  {name}: looked for {tmp_path}" in told
    assert "librispeech, nemo is auxiliary speech" in told
    assert told.endswith("'data.auxiliary=[{corpus: voted, role: unlabelled, quota: 2}]'")
