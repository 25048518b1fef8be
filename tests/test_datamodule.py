from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import torch

from datamodules.batch import Batch
from datamodules.building import build_manifest
from datamodules.datamodule import EpochLoader, SpeechDataModule
from datamodules.errors import InputError
from datamodules.manifest import Manifest
from datamodules.settings import AuxiliarySettings, CorpusSettings, DataSettings
from datamodules.splits import SplitSettings
from lightning_modules.features import LogMel
from lightning_modules.settings import FeatureSettings
from tests import fakes
from tests.pools import rows
from tests.small import numpy

EMOTIONS = ("01", "03", "04", "05")
CLASSES = {"neutral": ["neutral"], "happy": ["happiness"], "sad": ["sadness"], "angry": ["anger"]}
SPLIT = SplitSettings(protocol="speaker_groups", folds=3)
AUXILIARY = [AuxiliarySettings("librispeech", "speaker", 4), AuxiliarySettings("librispeech", "unlabelled", 2)]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RAVDESS with six actors, four emotions and two statements, 48 utterances; LibriSpeech with five speakers."""
    root = tmp_path_factory.mktemp("corpora")
    fakes.ravdess(root / "RAVDESS", actors=6, emotions=EMOTIONS, seconds=0.7, rate=16_000)
    fakes.librispeech(root / "LibriSpeech", speakers=5, utterances=2)
    return root


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def settings(root: Path, cache: Path, **changes: Any) -> DataSettings:
    small = DataSettings(
        root=str(root),
        cache=str(cache),
        labelled=["ravdess"],
        auxiliary=AUXILIARY,
        classes=CLASSES,
        quota=8,
        crop_s=0.25,
        evaluation_batch=7,
    )
    return replace(small, **changes)


def make(root: Path, cache: Path, split: SplitSettings = SPLIT, seed: int = 0, **changes: Any) -> SpeechDataModule:
    data = SpeechDataModule(settings(root, cache, **changes), split, 16_000, seed)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture(scope="module")
def data(corpora: Path, cache: Path) -> SpeechDataModule:
    return make(corpora, cache)


def columns(data: SpeechDataModule, batch: Batch, name: str) -> list[Any]:
    return [data.collection.row(row)[name] for row in batch.row.tolist()]


# The collection


def test_the_collection_numbers_all_corpora_through(data: SpeechDataModule) -> None:
    collection = data.collection
    assert collection.corpora == ["ravdess", "librispeech"]
    assert len(collection) == 48 + 10
    every = np.arange(58)
    each = [collection.row(row) for row in every.tolist()]
    assert all(row["file"].is_file() for row in each)
    assert [row["corpus"] for row in each] == ["ravdess"] * 48 + ["librispeech"] * 10
    assert collection.corpus_index(every).tolist() == [0] * 48 + [1] * 10
    mixed = np.array([57, 3, 50, 3, 0])
    for name in ("speaker", "emotion", "gender", "content_hash"):
        codes, values = collection.strings(name, mixed)
        assert values == sorted(values)
        found = [None if code < 0 else values[code] for code in codes]
        assert found == [each[row][name] for row in mixed]
        assert set(values) == {value for value in found if value is not None}
    assert collection.numbers("duration", mixed).tolist() == [each[row]["duration"] for row in mixed]
    assert np.isnan(collection.numbers("valence", mixed)).all()
    assert collection.lookup(mixed[:2]) == {
        "id": [each[57]["path"], each[3]["path"]],
        "speaker": [each[57]["speaker"], each[3]["speaker"]],
        "corpus": ["librispeech", "ravdess"],
    }


# Training batches


def test_batches_hold_the_quotas_labelled_first(data: SpeechDataModule) -> None:
    batches = list(data.train_dataloader())
    assert len(batches) == data.steps_per_epoch == 2  # 16 utterances of two actors, 8 a batch
    for batch in batches:
        assert batch.sizes == (8, 4, 2)
        assert batch.waveform.shape == (14, 4000)
        assert batch.waveform.dtype == torch.float32
        assert (batch.length == 4000).all()
        assert batch.waveform.abs().amax(1).min() > 0.01
        assert columns(data, batch, "corpus") == ["ravdess"] * 8 + ["librispeech"] * 6
    # Each labelled utterance once.
    assert sorted(row for batch in batches for row in batch.row[:8].tolist()) == data.split.train.tolist()


def test_labels_are_the_corpus_s_and_missing_where_it_has_none(data: SpeechDataModule) -> None:
    speakers: dict[int, str] = {}
    for batch in data.train_dataloader():
        targets = batch.targets
        classes = [list(CLASSES.values()).index([name]) for name in columns(data, batch, "emotion")[:8]]
        assert targets["emotion"].tolist() == classes + [-1] * 6
        assert targets["dimensions"].isnan().all()
        genders = [("female", "male").index(name) for name in columns(data, batch, "gender")]
        assert targets["gender"].tolist() == genders[:12] + [-1] * 2
        assert targets["speaker"][12:].tolist() == [-1, -1]
        assert targets["corpus"].tolist() == [0] * 8 + [1] * 6
        for index, name in zip(targets["speaker"][:12].tolist(), columns(data, batch, "speaker")[:12], strict=True):
            assert speakers.setdefault(index, name) == name
    assert len(set(speakers.values())) == len(speakers)
    assert set(speakers) <= set(range(data.labels.speakers))
    assert data.labels.speakers == 2 + 5
    assert data.labels.emotions == tuple(CLASSES)
    assert data.labels.emotion_counts == (4, 4, 4, 4)
    assert data.labels.corpora == ("ravdess", "librispeech")


def test_steps_can_be_set(corpora: Path, cache: Path) -> None:
    data = make(corpora, cache, steps=5)
    assert len(list(data.train_dataloader())) == data.steps_per_epoch == 5


def test_epochs_differ_and_seeds_repeat(corpora: Path, cache: Path) -> None:
    def drawn(seed: int, epochs: int) -> list[list[list[int]]]:
        loader = make(corpora, cache, seed=seed).train_dataloader()
        return [
            [[*batch.row.tolist(), int(1e6 * batch.waveform.abs().sum())] for batch in loader] for _ in range(epochs)
        ]

    one = drawn(seed=1, epochs=3)
    assert one == drawn(seed=1, epochs=3)
    assert one[0] != one[1] != one[2]
    assert one != drawn(seed=2, epochs=3)


class Listener(pl.LightningModule):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.rows: list[list[list[int]]] = []

    def on_train_epoch_start(self) -> None:
        self.rows.append([])

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.rows[-1].append(batch.row.tolist())
        return 0 * self.weight

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("workers", [0, 1])
def test_lightning_walks_through_the_epochs_of_the_sampler(
    corpora: Path, cache: Path, tmp_path: Path, workers: int
) -> None:
    data, module = make(corpora, cache, workers=workers), Listener()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=3,
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(module, datamodule=data)
    loader = make(corpora, cache).train_dataloader()
    assert isinstance(loader, EpochLoader)
    expected = [
        [[int(rows(data.pools[draw.pool])[draw.position]) for draw in loader.quotas.batch(epoch, b)] for b in range(2)]
        for epoch in range(3)
    ]
    assert module.rows == expected


# Sides


def test_held_out_speakers_are_never_trained_on(corpora: Path, cache: Path) -> None:
    for fold in range(3):
        data = make(corpora, cache, replace(SPLIT, fold=fold))
        speakers = {
            name: {speaker for batch in loader for speaker in columns(data, batch, "speaker")}
            for name, loader in (
                ("train", data.train_dataloader()),
                ("development", data.val_dataloader()),
                ("test", data.test_dataloader()),
            )
        }
        assert speakers["test"] == {f"ravdess/{actor:02}" for actor in (2 * fold + 1, 2 * fold + 2)}
        assert not speakers["train"] & (speakers["development"] | speakers["test"])
        assert not speakers["development"] & speakers["test"]
        assert len(speakers["development"]) == 2


@pytest.mark.parametrize("side", ["development", "test"])
def test_evaluation_reads_every_utterance_whole_and_once(data: SpeechDataModule, side: str) -> None:
    batches = list(data.val_dataloader() if side == "development" else data.test_dataloader())
    read = [row for batch in batches for row in batch.row.tolist()]
    assert sorted(read) == getattr(data.split, side).tolist()
    assert [len(batch) for batch in batches] == [7, 7, 2]
    for batch in batches:
        for row, length in zip(batch.row.tolist(), batch.length.tolist(), strict=True):
            columns = data.collection.row(row)
            assert length == pytest.approx(16_000 * (columns["speech_end"] - columns["speech_start"]), abs=2)
        assert (batch.targets["emotion"] >= 0).all()
        assert (batch.targets["gender"] >= 0).all()
        assert (batch.targets["speaker"] == -1).all()  # nobody that training knows


def test_evaluation_batches_hold_speech_of_similar_length(tmp_path: Path) -> None:
    """Whatever silence recordings begin and end with: it is not read."""
    root = fakes.ravdess(tmp_path / "RAVDESS", actors=6, emotions=EMOTIONS, seconds=0.8, rate=16_000)
    for number, file in enumerate(sorted(root.rglob("*.wav"))):
        samples, _ = soundfile.read(file, dtype="float32")
        samples[len(samples) // (1 + number % 4) :] = 0
        fakes.resave(file, samples)
    lengths = [batch.length for batch in make(tmp_path, tmp_path / "cache", auxiliary=[]).val_dataloader()]
    assert len(lengths) == 3
    assert all(shorter.max() <= longer.min() for shorter, longer in pairwise(lengths))
    assert lengths[0].min() < lengths[-1].max() / 2


def test_cross_corpus(corpora: Path, cache: Path) -> None:
    fakes.nemo(corpora / "nEMO", speakers=2, emotions=("anger", "sadness"), rate=16_000)
    split = SplitSettings(protocol="cross_corpus", folds=3, test_corpora=["nemo"])
    data = make(corpora, cache, split, auxiliary=[])
    assert {name for batch in data.test_dataloader() for name in columns(data, batch, "corpus")} == {"nemo"}
    assert {name for batch in data.val_dataloader() for name in columns(data, batch, "corpus")} == {"ravdess"}
    assert {name for batch in data.train_dataloader() for name in columns(data, batch, "corpus")} == {"ravdess"}
    truths = Counter(truth for batch in data.test_dataloader() for truth in batch.targets["emotion"].tolist())
    assert truths == {2: 4, 3: 4}


def test_classes_that_the_map_leaves_out_are_left_out(corpora: Path, cache: Path) -> None:
    data = make(corpora, cache, classes={"low": ["sadness", "neutral"], "high": ["anger"]})
    assert data.labels.emotion_counts == (8, 4)
    assert len(data.split.train) == 12
    assert {columns(data, batch, "emotion")[0] for batch in data.test_dataloader()} <= {"sadness", "neutral", "anger"}


def test_an_auxiliary_corpus_with_a_test_recording_is_stopped(tmp_path: Path, cache: Path, corpora: Path) -> None:
    found = fakes.librispeech(tmp_path / "LibriSpeech", speakers=2) / "train-clean-100" / "14" / "200"
    (secret,) = (corpora / "RAVDESS" / "Actor_01").glob("03-01-01-01-01-*")
    samples, rate = soundfile.read(secret, dtype="int16")
    soundfile.write(found / "14-200-0009.flac", samples, rate)
    corpus = {"librispeech": CorpusSettings(root=str(tmp_path / "LibriSpeech"))}
    for part in AUXILIARY:
        with pytest.raises(InputError, match="14-200-0009") as caught:
            make(corpora, cache, auxiliary=[part], corpora=corpus)
        assert secret.name in str(caught.value)
    make(corpora, cache, replace(SPLIT, fold=1), auxiliary=[], corpora=corpus)


def test_a_corpus_that_is_tested_on_cannot_be_auxiliary(corpora: Path, cache: Path) -> None:
    fakes.nemo(corpora / "nemo", speakers=3, rate=16_000)
    cross = SplitSettings(protocol="cross_corpus", test_corpora=["nemo"])
    with pytest.raises(InputError, match="nemo is tested on"):
        make(corpora, cache, cross, auxiliary=[AuxiliarySettings("nemo", "unlabelled", 2)])


# Statistics


def test_normalisation_comes_from_training_data_only(corpora: Path, cache: Path) -> None:
    def statistics(folder: Path) -> LogMel:
        data = make(folder, cache)
        features = LogMel(FeatureSettings(normalise="training"))
        features.fit(data.training_utterances())
        return features

    features, data = statistics(corpora), make(corpora, cache)
    frames = []
    for row in data.split.train.tolist():
        columns = data.collection.row(row)
        samples, rate = soundfile.read(columns["file"], dtype="float32")
        first = round(columns["speech_start"] * rate)
        speech = samples[first : first + round((columns["speech_end"] - columns["speech_start"]) * rate)]
        frames.append(numpy(features.raw(torch.from_numpy(speech)[None])[0]))
    every = np.concatenate(frames, axis=1)
    np.testing.assert_allclose(numpy(features.mean[:, 0]), every.mean(1), atol=1e-3)
    np.testing.assert_allclose(numpy(features.deviation[:, 0]), every.std(1), rtol=1e-3)


def test_unreadable_files_leave_no_trace_in_the_statistics(tmp_path: Path) -> None:
    fakes.ravdess(tmp_path / "RAVDESS", actors=3, emotions=EMOTIONS, statements=1, rate=16_000)
    data = make(tmp_path, tmp_path / "cache", auxiliary=[], decoded_gb=0)
    before = [(waveform, length) for waveform, length in data.training_utterances()]
    lost = data.collection.row(int(data.split.train[0]))["file"]
    fakes.empty(lost)
    after = [length for _, lengths in data.training_utterances() for length in lengths.tolist()]
    assert len(after) == sum(len(length) for _, length in before) - 1
    assert min(after) > 1600  # not the tenth of a second of a pad


# What a user may get wrong


def test_unreadable_files_are_counted_and_too_many_stop(tmp_path: Path) -> None:
    fakes.ravdess(tmp_path / "RAVDESS", actors=3, emotions=EMOTIONS, statements=1, rate=16_000)
    data = make(tmp_path, tmp_path / "cache", auxiliary=[], quota=4, max_bad_fraction=0.001, decoded_gb=0)
    first, second = (data.collection.row(row)["file"] for row in data.split.train[:2].tolist())
    fakes.empty(first)
    (batch,) = data.train_dataloader()
    assert len(batch.faults) == 1
    assert data.on_before_batch_transfer(batch, 0) is batch
    data.on_before_batch_transfer(batch, 0)  # the same file again
    assert len(data.faults) == 1
    assert first.name in data.faults[0]

    fakes.silence(second)
    (batch,) = data.train_dataloader()
    with pytest.raises(InputError, match=r"2 of 12 utterances") as caught:
        data.on_before_batch_transfer(batch, 0)
    assert first.name in str(caught.value)
    assert second.name in str(caught.value)
    assert "data.max_bad_fraction" in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_cannot_be_filled_stops(tmp_path: Path, workers: int) -> None:
    fakes.ravdess(tmp_path / "RAVDESS", actors=3, emotions=EMOTIONS, statements=1, rate=16_000)
    data = make(tmp_path, tmp_path / "cache", auxiliary=[], quota=4, max_bad_fraction=1.0, workers=workers)
    for row in data.split.train.tolist():
        fakes.empty(data.collection.row(row)["file"])
    data.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.trainer.training = True
    (batch,) = data.train_dataloader()
    with pytest.raises(InputError, match=r"^10 utterances in a row could not be read") as caught:
        data.on_before_batch_transfer(batch, 0)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labelled": []}, r"data\.labelled names no corpus"),
        ({"auxiliary": [AuxiliarySettings("librispeech", "teacher", 4)]}, "unknown role 'teacher'"),
        ({"auxiliary": [AuxiliarySettings("librispeech", "speaker", 0)]}, r"data\.auxiliary: librispeech.*quota of 0"),
        ({"quota": 0}, r"data\.quota is 0"),
        ({"crop_s": 0.0}, r"data\.crop_s is 0"),
        ({"evaluation_batch": -1}, r"data\.evaluation_batch is -1"),
        ({"classes": {**CLASSES, "bored": ["boredom"]}}, "bored"),
        ({"labelled": ["ravdes"]}, "ravdes"),
    ],
)
def test_settings_that_cannot_be(corpora: Path, cache: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(corpora, cache, **change).train_dataloader()


def test_a_missing_auxiliary_corpus_can_be_done_without(tmp_path: Path, cache: Path, corpora: Path) -> None:
    root = tmp_path / "only"
    root.mkdir()
    (root / "RAVDESS").symlink_to(corpora / "RAVDESS")
    with pytest.raises(InputError, match=r"librispeech(.|\n)*data\.auxiliary=\[\]"):
        make(root, cache)


def test_speakers_without_names_are_no_speaker_corpus(tmp_path: Path, cache: Path, corpora: Path) -> None:
    fakes.folder(tmp_path / "talks")
    nameless = {"talks": CorpusSettings(root=str(tmp_path / "talks"), reader="folder")}
    with pytest.raises(InputError, match="talks knows neither speakers nor genders"):
        make(corpora, cache, auxiliary=[AuxiliarySettings("talks", "speaker", 2)], corpora=nameless)
    data = make(corpora, cache, auxiliary=[AuxiliarySettings("talks", "unlabelled", 2)], corpora=nameless)
    assert columns(data, next(iter(data.train_dataloader())), "corpus")[8:] == ["talks"] * 2


# Manifests


def test_a_corpus_in_two_parts_is_hashed_if_one_wants_it(corpora: Path, cache: Path) -> None:
    for wanted in ([True, False], [False, True]):
        parts = [replace(part, hash_content=hashed) for part, hashed in zip(AUXILIARY, wanted, strict=True)]
        data = make(corpora, cache, auxiliary=parts)
        assert data.collection.row(50)["content_hash"] is not None


def test_manifests_are_built_anew_once(corpora: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(*args: Any, rebuild: bool, **kwargs: Any) -> Manifest:
        asked.append(rebuild)
        return build_manifest(*args, rebuild=rebuild, **kwargs)

    monkeypatch.setattr("datamodules.gathering.build_manifest", spy)
    data = make(corpora, cache, auxiliary=[], rebuild=True)
    data.prepare_data()  # as Lightning does
    data.setup("fit")
    assert asked == [True, False]
