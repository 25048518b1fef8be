"""Shares of labels and of auxiliary speech, and speakers of a test corpus who are set apart to adapt to it."""

import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from datamodules.cells import Rows
from datamodules.collection import Collection
from datamodules.datamodule import SpeechDataModule
from datamodules.errors import InputError
from datamodules.report import print_report
from datamodules.settings import AuxiliarySettings, CorpusSettings, DataSettings
from datamodules.shares import auxiliary_share, labelled_share
from datamodules.splits import SplitSettings
from tests import fakes
from tests.pools import labels, rows

CLASSES = {"neutral": ["neutral"], "happy": ["happiness"], "angry": ["anger"]}
SPLIT = SplitSettings(folds=3)
CROSS = SplitSettings(protocol="cross_corpus", folds=3, test_corpora=["nemo"], adaptation_speakers=2)
SPEAKER, UNLABELLED = (AuxiliarySettings("ravdess", role, 2) for role in ("speaker", "unlabelled"))
READ = AuxiliarySettings("librispeech", "speaker", 2)
ADAPT = AuxiliarySettings("nemo", "unlabelled", 2)


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RAVDESS with six actors, 24 training utterances in three classes of eight; nEMO; LibriSpeech, 40 utterances."""
    root = tmp_path_factory.mktemp("corpora")
    fakes.ravdess(root / "ravdess", actors=6, emotions=("01", "03", "05"), repetitions=2, rate=16_000)
    fakes.nemo(root / "nemo", speakers=4, emotions=("anger", "neutral", "fear"), rate=16_000)
    fakes.librispeech(root / "librispeech", speakers=5, utterances=8)
    return root


def make(root: Path, split: SplitSettings = SPLIT, seed: int = 0, **changes: Any) -> SpeechDataModule:
    settings = DataSettings(root=str(root), cache=str(root / "cache"), labelled=["ravdess"], classes=CLASSES, quota=4)
    data = SpeechDataModule(replace(settings, **changes), split, 16_000, seed)
    data.prepare_data()
    data.setup()
    return data


def paths(data: SpeechDataModule, chosen: Rows) -> set[str]:
    return {str(data.collection.row(row)["path"]) for row in np.asarray(chosen).tolist()}


def speakers(data: SpeechDataModule, chosen: Rows) -> set[str]:
    return set(data.collection.values("speaker", [chosen]))


# Labels


def test_a_share_of_each_class_keeps_its_labels(corpora: Path) -> None:
    whole = make(corpora)
    for share, each in ((0.01, 1), (0.25, 2), (0.5, 4), (1.0, 8)):
        data = make(corpora, labelled_share=share)
        assert data.labels.emotion_counts == (each, each, each)
        assert len(data.pools[0]) == 3 * each
        assert data.steps_per_epoch == -(-3 * each // 4)
        kept = {"utterances": 3 * each, "lost_labels": 24 - 3 * each}
        assert data.report["split"]["train"] == whole.report["split"]["train"] | kept
        assert data.report["split"]["test"] == whole.report["split"]["test"]
        assert Counter(labels(data.pools[0])["emotion"].tolist()) == {0: each, 1: each, 2: each}
        np.testing.assert_array_equal(data.split.development, whole.split.development)
        np.testing.assert_array_equal(data.split.test, whole.split.test)


def test_a_smaller_share_is_part_of_a_larger_one(corpora: Path) -> None:
    kept = [paths(data, data.split.train) for data in (make(corpora, labelled_share=one) for one in (0.125, 0.25, 0.8))]
    assert kept[0] < kept[1] < kept[2]


def test_what_is_chosen_is_the_seed_s_and_no_other_corpus_s(corpora: Path) -> None:
    def kept(**changes: Any) -> set[str]:
        data = make(corpora, labelled_share=0.5, **changes)
        return {path for path in paths(data, data.split.train) if path.startswith("Actor")}

    first = kept()
    assert len(first) == 12
    assert first == kept() == kept(auxiliary=[READ])
    assert first != kept(seed=1) == kept(seed=2, labelled_seed=1)
    swapped = {name: CLASSES[name] for name in reversed(CLASSES)}
    assert first == kept(classes=swapped)
    data = make(corpora, labelled_share=0.5, auxiliary=[READ])
    turned = Collection(data.collection.manifests[::-1])
    train = make(corpora).split.train + 40
    classes = turned.class_codes(CLASSES, train)
    assert set(turned.lookup(labelled_share(turned, train, classes, 0.5, seed=0))["id"]) == first


def test_what_loses_its_label_is_speech_of_training_speakers(corpora: Path) -> None:
    whole, data = make(corpora), make(corpora, labelled_share=0.25, auxiliary=[UNLABELLED, SPEAKER])
    lost = paths(whole, whole.split.train) - paths(data, data.split.train)
    assert len(lost) == 18
    for pool in data.pools[1:]:
        assert paths(data, rows(pool)) == lost
    assert [one["utterances"] for one in data.report["auxiliary"]] == [18, 18]
    index: dict[str, int] = {}
    for pool in data.pools[:2]:
        for row, speaker in zip(rows(pool).tolist(), labels(pool)["speaker"].tolist(), strict=True):
            assert index.setdefault(data.collection.row(row)["speaker"], speaker) == speaker
    assert sorted(index.values()) == [0, 1]
    assert data.labels.speakers == 2
    batch = next(iter(data.train_dataloader()))
    assert batch.sizes == (4, 2, 2)
    assert (batch.targets["emotion"][4:] == -1).all()
    assert (batch.targets["speaker"][:6] >= 0).all()
    assert (batch.targets["gender"][:6] >= 0).all()
    assert (batch.targets["speaker"][6:] == -1).all()


def test_a_corpus_that_keeps_all_labels_has_no_other_speech(corpora: Path) -> None:
    with pytest.raises(InputError, match=r"no utterance without a label(?s:.*)if_any: true"):
        make(corpora, auxiliary=[UNLABELLED])


def test_where_there_may_be_no_other_speech_there_is_none(corpora: Path) -> None:
    own = [replace(UNLABELLED, if_any=True), READ]
    whole = make(corpora, auxiliary=own)
    assert [one["corpus"] for one in whole.report["auxiliary"]] == [READ.corpus]
    assert next(iter(whole.train_dataloader())).sizes == (4, READ.quota, 0)
    data = make(corpora, auxiliary=own, labelled_share=0.25)
    assert [one["utterances"] for one in data.report["auxiliary"]] == [40, 18]


def test_the_printed_report_tells_a_share(corpora: Path) -> None:
    def printed(**changes: Any) -> str:
        console = Console(width=160)
        with console.capture() as captured:
            print_report(make(corpora, **changes).report, console)
        return captured.get()

    assert "6 and 18 without label" in printed(labelled_share=0.25)
    assert "without label" not in printed()
    assert "adaptation" in printed(split=CROSS)
    assert "adaptation" not in printed()


# Auxiliary speech


def test_a_share_of_auxiliary_speech_is_used(corpora: Path) -> None:
    used = []
    for share, count in ((0.001, 1), (0.25, 10), (0.5, 20), (1.0, 40)):
        data = make(corpora, auxiliary_share=share, auxiliary=[READ, replace(READ, role="unlabelled")])
        assert [len(pool) for pool in data.pools] == [24, count, count]
        assert paths(data, rows(data.pools[1])) == paths(data, rows(data.pools[2]))
        used.append(paths(data, rows(data.pools[1])))
        assert data.labels.speakers == 2 + len(speakers(data, rows(data.pools[1])))
    assert used[0] < used[1] < used[2] < used[3]
    other = make(corpora, auxiliary_share=0.25, auxiliary=[READ], seed=1)
    assert paths(other, rows(other.pools[1])) != used[1]


def test_what_is_labelled_or_tested_on_is_used_in_full_as_auxiliary_speech(corpora: Path) -> None:
    auxiliary = [UNLABELLED, READ, ADAPT]
    whole = make(corpora, CROSS, labelled_share=0.5, auxiliary=auxiliary)
    less = make(corpora, CROSS, labelled_share=0.5, auxiliary=auxiliary, auxiliary_share=0.1)
    assert [len(pool) for pool in whole.pools] == [24, 40, 24, 12]
    assert [len(pool) for pool in less.pools] == [24, 4, 24, 12]


def test_without_auxiliary_speech_its_corpus_is_not_needed(corpora: Path, tmp_path: Path) -> None:
    (tmp_path / "ravdess").symlink_to(corpora / "ravdess")
    exclude = {"librispeech": CorpusSettings(exclude_speakers=["14"])}
    data = make(tmp_path, auxiliary=[READ, SPEAKER], auxiliary_share=0.0, labelled_share=0.5, corpora=exclude)
    assert data.collection.corpora == ["ravdess"]
    assert data.quotas == [4, 2]
    assert next(iter(data.train_dataloader())).sizes == (4, 2, 0)


def test_a_share_of_speech_without_excluded_speakers(corpora: Path) -> None:
    exclude = {"librispeech": CorpusSettings(exclude_speakers=["14", "17"])}
    data = make(corpora, auxiliary=[READ], auxiliary_share=0.5, corpora=exclude)
    assert len(data.pools[1]) == 12
    assert not speakers(data, rows(data.pools[1])) & {"librispeech/14", "librispeech/17"}


def test_shares_of_very_many_rows_take_little_memory() -> None:
    every = range(5, 5 + 10**6)
    assert auxiliary_share("large", every, 1.0, 0) is every
    tracemalloc.start()
    some = auxiliary_share("large", every, 0.01, 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8e6  # less than the numbers of all rows
    chosen = np.asarray(some)
    assert len(chosen) == 10_000
    assert (np.diff(chosen) > 0).all()
    assert chosen[0] >= 5
    assert chosen[-1] < 5 + 10**6
    # At random: so many in each tenth, give or take four standard errors.
    counts, _ = np.histogram(chosen, bins=10, range=(5, 5 + 10**6))
    assert np.abs(counts - 1000).max() < 4 * 30
    assert len(np.intersect1d(chosen, np.asarray(auxiliary_share("another", every, 0.01, 0)))) < 200
    offset = np.asarray(auxiliary_share("large", np.arange(7, 7 + 10**6), 0.01, 0))
    np.testing.assert_array_equal(offset, chosen + 2)


# Adaptation


def test_speakers_set_apart_are_not_tested_whether_or_not_they_are_used(corpora: Path) -> None:
    for auxiliary in ([], [ADAPT], [replace(ADAPT, role="speaker")]):
        data = make(corpora, CROSS, auxiliary=auxiliary)
        apart = speakers(data, data.split.adaptation)
        tested = speakers(data, data.split.test)
        assert (len(apart), len(tested)) == (2, 2)
        assert not apart & tested
        assert {data.collection.row(row)["gender"] for row in data.split.adaptation.tolist()} == {"female", "male"}
        assert data.split.report["adaptation"]["speakers"] == sorted(apart)
        batches = [batch.row for batch in data.test_dataloader()]
        assert {data.collection.row(row)["speaker"] for batch in batches for row in batch.tolist()} == tested


def test_speakers_set_apart_bring_all_their_speech_and_no_label_but_their_own(corpora: Path) -> None:
    data = make(corpora, CROSS, auxiliary=[ADAPT, replace(ADAPT, role="speaker")])
    apart = speakers(data, data.split.adaptation)
    for pool in data.pools[1:]:
        assert len(pool) == 2 * 6  # of fear too, which is no class
        assert speakers(data, rows(pool)) == apart
        assert "emotion" not in labels(pool)
    assert len(set(labels(data.pools[1])["speaker"].tolist())) == 2
    assert data.labels.speakers == 4 + 2
    assert data.labels.emotion_counts == (16, 16, 16)
    batch = next(iter(data.train_dataloader()))
    assert (batch.targets["emotion"][4:] == -1).all()


def test_models_adapt_to_all_speech_of_the_speakers_set_apart(corpora: Path) -> None:
    data = make(corpora, CROSS, evaluation_batch=5)
    apart = speakers(data, data.split.adaptation)
    assert len(data.adaptation_pool) == 2 * 6
    assert speakers(data, rows(data.adaptation_pool)) == apart
    for _ in range(2):
        heard = list(data.adaptation_utterances())
        assert [len(waveform) for waveform, _ in heard] == [5, 5, 2]
        assert all(waveform.shape[1] == length.max() for waveform, length in heard)
    assert len(make(corpora).adaptation_pool) == 0


def test_excluded_speakers_of_a_test_corpus_are_not_set_apart(corpora: Path) -> None:
    first = make(corpora, CROSS, auxiliary=[ADAPT])
    (one, other) = first.split.report["adaptation"]["speakers"]
    exclude = {"nemo": CorpusSettings(exclude_speakers=[one])}
    data = make(corpora, CROSS, auxiliary=[ADAPT], corpora=exclude)
    assert one not in speakers(data, rows(data.pools[1])) | speakers(data, data.split.test)
    assert len(speakers(data, data.split.test)) == 1
    assert other in speakers(data, rows(data.pools[1])) | speakers(data, data.split.test)


def test_a_recording_of_a_speaker_set_apart_that_is_tested_on_stops(corpora: Path, tmp_path: Path) -> None:
    (tmp_path / "ravdess").symlink_to(corpora / "ravdess")
    root = fakes.nemo(tmp_path / "nemo", speakers=4, emotions=("anger", "neutral"), rate=16_000)
    data = make(tmp_path, CROSS)
    source, target = (data.collection.row(int(side[0]))["path"] for side in (data.split.adaptation, data.split.test))
    (root / target).write_bytes((root / source).read_bytes())
    with pytest.raises(InputError, match=r"recording with the hash \w+ is in train .* and test"):
        make(tmp_path, CROSS, rebuild=True)


def test_a_corpus_that_is_tested_on_is_auxiliary_only_with_speakers_set_apart(corpora: Path) -> None:
    with pytest.raises(InputError, match=r"nemo is tested on(?s:.*)split\.adaptation_speakers=2"):
        make(corpora, replace(CROSS, adaptation_speakers=0), auxiliary=[ADAPT])
