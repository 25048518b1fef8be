import csv
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.linear_model import Ridge
from sklearn.metrics import balanced_accuracy_score
from sklearn.svm import LinearSVC

from callbacks.evaluation import Predictions, score_predictions
from datamodules.building import build_manifest
from datamodules.collection import Collection, Span
from datamodules.corpora import make_reader
from datamodules.errors import InputError
from datamodules.speech import BadAudioError, Files
from experiments.config import Config, load, load_run
from experiments.files import read_json
from experiments.run import make_data
from experiments.study import functionals as extraction
from experiments.study import svm
from experiments.study.baselines import main, train_baseline
from experiments.study.record import record_of
from tests import fakes

RATE = 16_000
LEVELS = {"anger": 0.4, "neutral": 0.2, "sadness": 0.1}
SPEAKERS = 6
TAKES = 2


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Tones: their level tells the emotion, their offset the speaker."""
    root = tmp_path / "corpus"
    generator = np.random.default_rng(0)
    lines = ["path,speaker,emotion,activation,valence"]
    for speaker in range(SPEAKERS):
        for emotion, level in LEVELS.items():
            for take in range(TAKES):
                tone = level * generator.uniform(0.9, 1.1) * np.sin(np.arange(RATE // 4) * 0.3) + 0.05 * (speaker + 1)
                noise = 0.01 * generator.standard_normal(len(tone))
                name = f"{speaker}-{emotion}-{take}.wav"
                fakes.write(root / name, (tone + noise).astype(np.float32), RATE)
                lines.append(f"{name},{speaker},{emotion},{level + 0.02 * take},")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Takes openSMILE's place; how long the utterances were that were listened to."""
    lengths: list[int] = []

    class Smile:
        num_features = 3

        def __call__(self, samples: NDArray[np.float32], rate: int) -> NDArray[np.float32]:
            assert rate == RATE
            lengths.append(len(samples))
            return np.array([[[samples.std()], [samples.mean()], [samples.std() + samples.mean()]]], np.float32)

    monkeypatch.setattr(extraction, "_smile", lambda features: Smile())
    monkeypatch.setitem(sys.modules, "opensmile", SimpleNamespace(__version__="0"))
    return lengths


def config(corpus: Path, *settings: str) -> Config:
    file = corpus.parent / "tones.yaml"
    file.write_text(
        f"""
data:
  corpora: {{tones: {{reader: table, options: {{path: {corpus / "labels.csv"}}}}}}}
  labelled: [tones]
  classes: {{angry: [anger], neutral: [neutral], sad: [sadness]}}
  cache: {corpus.parent / "cache"}
split: {{protocol: speaker_groups, folds: 3}}
model: {{heads: {{emotion: {{}}, dimensions: {{}}}}}}
output: {corpus.parent / "runs"}
"""
    )
    return load(str(file), settings)


def read_csv(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_a_run_folder_is_as_of_a_training(corpus: Path, heard: list[int], capsys: pytest.CaptureFixture[str]) -> None:
    wanted = config(corpus, "run=first", "split.fold=1")
    folder = train_baseline(wanted, "eGeMAPSv02", per_speaker=False)
    assert folder == corpus.parent / "runs" / "tones" / "first"
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)
    assert load_run(folder) == wanted

    results = read_json(folder / "results.json")
    report = read_json(folder / "data_report.json")
    assert (results["experiment"], results["fold"], results["seed"]) == ("tones", 1, 0)
    assert results["best_epoch"] is None
    assert results["parameters"] == 3 * (3 + 1) + 1 * (3 + 1)  # three classes; of the dimensions one is rated
    assert results["labelled"] == report["split"]["train"]["utterances"] == 2 * TAKES * len(LEVELS)
    assert (results["device"], results["unreadable_files"], results["synthetic"]) == ("cpu", [], False)
    assert set(results["baseline"]["complexity"]) == {"emotion", "dimensions"}
    assert {"opensmile", "scikit-learn", "torch"} < set(read_json(folder / "environment.json")["packages"])
    for split, side in (("dev", "development"), ("test", "test")):
        rows = read_csv(folder / f"predictions_{split}.csv")
        assert {row["speaker"] for row in rows} == set(report["split"][side]["speakers"])
        truth, predicted = ([row[name] for row in rows] for name in ("truth", "prediction"))
        assert results[split]["uar"] == pytest.approx(balanced_accuracy_score(truth, predicted))
        assert results[split]["uar"] == 1
        assert results[split]["ccc"]["activation"] > 0.9
        assert results[split]["ccc"]["valence"] is None
        assert results[split]["corpora"]["tones"]["utterances"] == len(rows)
        for row in rows:
            assert sum(float(row[f"probability_{name}"]) for name in wanted.data.classes) == pytest.approx(1)

    record = record_of("study", "svm", {}, wanted, folder)
    assert record.best_epoch is None
    assert {name: np.trace(counts) for name, counts in record.confusion_by_speaker.items()} == {
        name: TAKES * len(LEVELS) for name in report["split"]["test"]["speakers"]
    }
    with pytest.raises(InputError, match="already exists"):
        train_baseline(wanted, "eGeMAPSv02", per_speaker=False)


def test_speech_is_listened_to_once(corpus: Path, heard: list[int]) -> None:
    silent = np.zeros(RATE, np.float32)
    silent[RATE // 3 : RATE // 2] = 0.4 * np.sin(np.arange(RATE // 2 - RATE // 3) * 0.3)
    fakes.write(corpus / "0-anger-0.wav", silent, RATE)
    one = train_baseline(config(corpus, "run=one"), "eGeMAPSv02", per_speaker=False)
    assert len(heard) == SPEAKERS * TAKES * len(LEVELS)
    assert RATE // 6 < min(heard) < max(heard) < RATE // 3  # without the silence around the speech
    other = train_baseline(config(corpus, "run=other"), "eGeMAPSv02", per_speaker=False)
    assert len(heard) == SPEAKERS * TAKES * len(LEVELS)
    for name in ("predictions_dev.csv", "predictions_test.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    train_baseline(config(corpus, "run=another"), "ComParE_2016", per_speaker=False)
    assert len(heard) == 2 * SPEAKERS * TAKES * len(LEVELS)


def test_what_cannot_be_read_is_left_out_and_tried_again(
    corpus: Path, heard: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    away = {"0-anger-0.wav"}

    class Disk(Files):
        def read(self, span: Span, skip: float, duration: float) -> NDArray[np.float32]:
            if span.path in away:
                raise BadAudioError(f"{span.path}: away")
            return super().read(span, skip, duration)

    monkeypatch.setattr("datamodules.gathering.Files", Disk)
    with pytest.raises(InputError, match="1 of 36 utterances of tones have no functionals, the first: 0-anger"):
        train_baseline(config(corpus, "run=strict"), "eGeMAPSv02", per_speaker=False)
    without = train_baseline(config(corpus, "run=without", "data.max_bad_fraction=0.1"), "eGeMAPSv02", True)
    assert read_json(without / "results.json")["unreadable_files"] == ["0-anger-0.wav: away"]
    tested = {row["id"] for row in read_csv(without / "predictions_test.csv")}
    assert len(tested) == 2 * TAKES * len(LEVELS) - 1
    assert len(heard) == 35

    away.clear()
    whole = train_baseline(config(corpus, "run=whole"), "eGeMAPSv02", per_speaker=True)
    assert {row["id"] for row in read_csv(whole / "predictions_test.csv")} == tested | {"0-anger-0.wav"}
    assert len(heard) == 36


@pytest.mark.parametrize("per_speaker", [False, True])
def test_a_speakers_offset_is_taken_away(corpus: Path, heard: list[int], per_speaker: bool) -> None:
    data = make_data(config(corpus))
    corpora = svm._functionals(config(corpus), data, "eGeMAPSv02")
    sides, _ = svm._sides(data, corpora, per_speaker)
    for name, side in sides.items():
        for speaker in np.unique(data.collection.strings("speaker", side.rows)[0]):
            own = side.features[data.collection.strings("speaker", side.rows)[0] == speaker]
            is_standard = np.allclose(own.mean(axis=0), 0, atol=1e-6) and np.allclose(own.std(axis=0), 1, atol=1e-6)
            assert is_standard == per_speaker, name
    if not per_speaker:
        assert sides["train"].features.mean(axis=0) == pytest.approx([0, 0, 0], abs=1e-6)
        assert sides["train"].features.std(axis=0) == pytest.approx([1, 1, 1])
        assert abs(sides["test"].features.mean(axis=0)).max() > 0.1


def side(labels: dict[str, Any], count: int = 60, features: int = 5) -> svm.Side:
    generator = np.random.default_rng(0)
    values = generator.standard_normal((count, features))
    emotion = (values[:, 0] > 0.3).astype(np.int64) + (values[:, 1] > 0.5)
    dimensions = np.stack([values @ np.arange(features) / 20 + 0.5] * 3, axis=1) + 0.1 * generator.standard_normal(
        (count, 3)
    )
    known = {"emotion": emotion, "dimensions": dimensions, "corpus": np.zeros(count, np.int64)}
    known |= {"speaker": np.zeros(count, np.int64), "gender": np.zeros(count, np.int64)}
    return svm.Side(np.arange(count), values, known | labels)


def test_fewer_utterances_than_features_are_learnt_from_as_they_are() -> None:
    sides = {name: side({}, count, 40) for name, count in (("train", 25), ("dev", 60))}
    rotated = svm._rotated(sides)
    assert rotated["train"].features.shape == (25, 25)
    assert svm._rotated({"train": side({}, 60, 40)})["train"].features.shape == (60, 40)
    for fit in svm.HEADS.values():
        expected = fit(sides["train"], 0.1, 0).predict(sides["dev"].features)
        found = fit(rotated["train"], 0.1, 0).predict(rotated["dev"].features)
        np.testing.assert_allclose(found, expected, atol=1e-3)


def test_of_equal_scores_the_smallest_complexity_is_chosen() -> None:
    one = side({"emotion": np.arange(60) % 2})

    def fit(_: svm.Side, complexity: float, seed: int) -> svm.Head:
        right = np.arange(60) % 2 if complexity >= 1e-3 else np.zeros(60, np.int64)
        return svm.Head(lambda features: np.eye(2, dtype=np.float32)[right], 0)

    complexity, _ = svm._search(fit, "emotion", {"train": one, "dev": one}, ("a", "b"), (1e-4, 1e-3, 1e-2), 0)
    assert complexity == 1e-3


def test_each_class_is_told_from_the_others_and_rare_ones_weigh_more() -> None:
    one = side({})
    decisions = []
    for number in range(3):
        own = one.labels["emotion"] == number
        weights = {True: 60 / (3 * own.sum()), False: 1.0}
        reference = LinearSVC(C=0.1, class_weight=weights, random_state=0).fit(one.features, own)
        decisions.append(reference.decision_function(one.features))
    found = svm.fit_emotion(one, 0.1, 0).predict(one.features)
    np.testing.assert_allclose(found, softmax(np.stack(decisions, axis=1), axis=1), atol=1e-3)


def test_two_classes_have_two_probabilities() -> None:
    one = side({"emotion": np.arange(60) % 2})
    one.features[:, 0] = one.labels["emotion"]
    probabilities = svm.fit_emotion(one, 1.0, 0).predict(one.features)
    assert probabilities.shape == (60, 2)
    assert (probabilities.argmax(axis=1) == one.labels["emotion"]).all()


def test_dimensions_are_regressed_as_by_ridge_regression() -> None:
    one = side({})
    one.labels["dimensions"][::3, 1] = np.nan
    one.labels["dimensions"][:, 2] = np.nan
    predicted = svm.fit_dimensions(one, 0.01, 0).predict(one.features)
    extended = np.column_stack([one.features, np.ones(60)])
    for column in (0, 1):
        truth = one.labels["dimensions"][:, column]
        known = np.isfinite(truth)
        mean = truth[known].mean()
        reference = Ridge(alpha=1 / (2 * 0.01), fit_intercept=False).fit(extended[known], truth[known] - mean)
        np.testing.assert_allclose(predicted[:, column], reference.predict(extended) + mean, atol=1e-3)
    assert (predicted[:, 2] == 0.5).all()


def test_a_development_side_without_labels_is_refused() -> None:
    one = side({"emotion": np.full(60, -1)})
    with pytest.raises(InputError, match="head emotion"):
        svm._search(svm.fit_emotion, "emotion", {"train": side({}), "dev": one}, ("a", "b", "c"), (1.0,), 0)


def test_scores_of_predictions_are_those_of_references() -> None:
    generator = np.random.default_rng(0)
    truth, probabilities = generator.integers(3, size=50), generator.random((50, 3), np.float32)
    nothing = np.zeros(50, np.int64)
    scores = score_predictions(
        Predictions(
            nothing,
            nothing,
            nothing,
            nothing,
            np.empty((50, 0), np.float32),
            truth,
            np.full((50, 3), np.nan, np.float32),
            probabilities,
        ),
        ("a", "b", "c"),
    )
    assert scores["uar"] == pytest.approx(balanced_accuracy_score(truth, probabilities.argmax(axis=1)))
    assert "ccc" not in scores


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["features=eGeMAPS"], "Did you mean eGeMAPSv02?"),
        (["features=IS09"], "ComParE_2016"),
        ([], "features is missing"),
        (["features=eGeMAPSv02", "per_speaker=maybe"], "per_speaker is 'maybe'"),
        (["features=eGeMAPSv02", "split.flod=1"], "split.fold"),
    ],
)
def test_wrong_arguments_are_named(settings: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ravdess_cat", *settings]) == 2
    assert message in capsys.readouterr().err


def test_how_to_install_opensmile_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)
    assert main(["ravdess_cat", "features=eGeMAPSv02"]) == 2
    assert "pip install -e '.[baselines]'" in capsys.readouterr().err


def test_functionals_are_those_of_opensmile(tmp_path: Path) -> None:
    opensmile = pytest.importorskip("opensmile")
    samples = {name: fakes.speech(name, seconds=0.6, emotion=name) for name in ("calm", "loud")}
    for name, speech in samples.items():
        fakes.write(tmp_path / "corpus" / f"{name}.wav", speech, RATE)
    manifest = build_manifest(
        make_reader("folder"), tmp_path / "corpus", tmp_path / "cache", hash_content=True, workers=1, max_bad_fraction=0
    )
    source = Files(manifest.root, RATE)
    found = extraction.functionals(manifest, source, "eGeMAPSv02", RATE, tmp_path / "cache", workers=1)
    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    for span, values in zip(Collection([manifest]).spans(np.arange(2)), found.values, strict=True):
        recording, _ = soundfile.read(manifest.root / span.path, dtype="float32")
        assert span.end - span.start < 0.6
        speech = recording[round(span.start * RATE) : round(span.end * RATE)]
        np.testing.assert_array_equal(values, smile.process_signal(speech, RATE).to_numpy()[0])
    assert found.faults == {}
