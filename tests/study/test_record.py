"""What is kept of a run of a study."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import InputError
from experiments.config import TrainerSettings, load
from experiments.files import read_json, write_json
from experiments.study.record import read_records, record_of, settings_hash, write_records
from tests.study.runs import write_predictions, write_run

EXPERIMENT = "ravdess_cat"
MACHINE = {"machine": {"cpu_capability": "AVX2"}}


def test_a_record_tells_of_its_run(tmp_path: Path) -> None:
    config = load(EXPERIMENT, ["split.fold=2", "seed=1", "trainer.precision=32-true"])
    record = record_of("mine", "full", {"data.quota": 8}, config, write_run(tmp_path / "run", config, uar=0.75))
    assert record.key == (EXPERIMENT, "full", '{"data.quota": 8}', 2, 1)
    assert (record.study, record.commit, record.device) == ("mine", "4c1b09c+", "cpu (AVX2, 32-true)")
    assert (record.parameters, record.best_epoch, record.train_seconds, record.labelled) == (1234, 3, 61.3, 960)
    assert record.development == 0.75
    assert record.settings == settings_hash(config)


def test_a_record_tells_what_figures_depend_on(tmp_path: Path) -> None:
    config = load(EXPERIMENT)
    folder = write_run(tmp_path / "run", replace(config, trainer=replace(config.trainer, precision="bf16-mixed")))
    write_json(folder / "results.json", read_json(folder / "results.json") | {"device": "NVIDIA H100"})
    # As the machine settled it, and not as the study left it open; openSMILE's features know no precision.
    assert record_of("mine", "full", {}, config, folder).device == "NVIDIA H100 (bf16-mixed)"
    assert record_of("mine", "svm", {}, config, folder, features=["features=eGeMAPSv02"]).device == "NVIDIA H100"


def test_the_code_may_be_in_no_repository(tmp_path: Path) -> None:
    config = load(EXPERIMENT)
    folder = write_run(tmp_path / "run", config)
    write_json(folder / "environment.json", MACHINE | {"git": None})
    assert record_of("mine", "full", {}, config, folder).commit == ""
    write_json(folder / "environment.json", MACHINE | {"git": {"commit": "4c1b09c", "dirty": 10**12}})  # a stranger's
    assert record_of("mine", "full", {}, config, folder).commit == "4c1b09c+"


def test_confusion_is_counted_speaker_by_speaker(tmp_path: Path) -> None:
    config = load(EXPERIMENT, ["data.classes={calm: [calm], happy: [happiness], sad: [sadness]}"])
    folder = write_run(tmp_path / "run", config)
    record = record_of("mine", "full", {}, config, folder)
    assert record.labels == ["calm", "happy", "sad"]
    assert record.confusion_by_speaker == {
        "a": [[1, 1, 0], [0, 1, 0], [0, 0, 0]],
        "b": [[0, 0, 0], [0, 1, 0], [1, 0, 0]],
    }
    assert record.moments_by_speaker == {}


def test_moments_make_the_concordance_of_the_rows(tmp_path: Path) -> None:
    config = load("iemocap_dim")
    folder = write_run(tmp_path / "run", config)
    generator = np.random.default_rng(0)
    truth = generator.random(20)
    predicted = truth + generator.normal(0, 0.1, 20)
    rows = [("a", x, y, 0.5 if i else "", 0.25) for i, (x, y) in enumerate(zip(truth, predicted, strict=True))]
    names = ["activation_truth", "activation_prediction", "valence_truth", "valence_prediction"]
    write_predictions(folder, ["speaker", *names], [*rows, ("b", "", 0.5, "", 0.5)])
    record = record_of("mine", "full", {}, config, folder)
    assert (record.labels, record.confusion_by_speaker) == ([], {})
    assert set(record.moments_by_speaker) == {"a"}
    moments = record.moments_by_speaker["a"]
    n, mean_x, mean_y, xx, yy, xy = moments["activation"]
    covariance = np.cov(truth, predicted, ddof=0)
    assert n == 20
    assert [[xx / n, xy / n], [xy / n, yy / n]] == pytest.approx(covariance)
    assert (mean_x, mean_y) == pytest.approx((truth.mean(), predicted.mean()))
    assert moments["valence"] == [19, 0.5, 0.25, 0, 0, 0]
    assert record.development == pytest.approx((0.5 + 0.25) / 2)  # of the dimensions that have one


def test_a_run_without_results_has_no_record(tmp_path: Path) -> None:
    config = load(EXPERIMENT)
    folder = write_run(tmp_path / "run", config)
    (folder / "results.json").unlink()
    with pytest.raises(InputError, match=r"results\.json does not exist"):
        record_of("mine", "full", {}, config, folder)


@pytest.mark.parametrize(
    "setting",
    [
        "seed=3",
        "split.fold=1",
        "data.root=/elsewhere",
        "data.workers=3",
        "trainer.threads=1",
        "trainer.accelerator=cpu",
        "wandb.tags=[mine]",
        "output=elsewhere",
        "data.corpora.ravdess.root=/elsewhere",
    ],
)
def test_where_a_run_is_made_is_not_what_it_is(setting: str) -> None:
    assert settings_hash(load(EXPERIMENT, [setting])) == settings_hash(load(EXPERIMENT))


@pytest.mark.parametrize(
    "setting",
    [
        "trainer.epochs=3",
        "model.decoder.weight=0",
        "data.auxiliary=[]",
        "data.corpora.ravdess.exclude_speakers=[01]",
        "model.heads.corpus={}",  # all as it is by default, but there
        "split.protocol=speaker_groups",
    ],
)
def test_another_setting_is_another_run(setting: str) -> None:
    hashes = {settings_hash(load(EXPERIMENT, settings)) for settings in ([], [setting])}
    assert (len(hashes) == 1) == (setting.partition("=")[2] == load(EXPERIMENT).split.protocol)


def test_how_a_network_is_trained_is_nothing_to_systems_on_features() -> None:
    def of(*settings: str) -> str:
        return settings_hash(load(EXPERIMENT, settings), ["features=eGeMAPSv02"])

    assert of("model.encoder.dropout=0.4", "trainer.epochs=3", "data.quota=8", "data.auxiliary=[]") == of()
    changes = ("split.folds=5", "data.classes={neutral: [neutral], sad: [sadness]}", "model.heads.dimensions={}")
    assert len({of(), *(of(change) for change in changes)}) == 4


def test_a_new_setting_leaves_what_was_run_as_it_is() -> None:
    @dataclass
    class Newer(TrainerSettings):
        novelty: float = 0.0

    config = load(EXPERIMENT)
    known = settings_hash(config)
    newer = Newer(**vars(config.trainer))
    assert settings_hash(replace(config, trainer=newer)) == known
    assert settings_hash(replace(config, trainer=replace(newer, novelty=0.1))) != known


def test_records_are_read_as_they_were_written(tmp_path: Path) -> None:
    config = load(EXPERIMENT)
    first = record_of("mine", "full", {}, config, write_run(tmp_path / "run", config))
    other = replace(first, system="autoencoder", point={"data.quota": 8}, best_epoch=None)
    file = tmp_path / "new" / "records.jsonl"
    assert read_records(file) == []
    write_records(file, [first, other, replace(first, development=0.25)])
    assert read_records(file) == [other, replace(first, development=0.25)]
    assert [path.name for path in file.parent.iterdir()] == ["records.jsonl"]


@pytest.mark.parametrize("line", ["{", "3", json.dumps({"study": "mine"})])
def test_a_line_that_is_no_record_is_told(tmp_path: Path, line: str) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"records\.jsonl, line 1, is no record"):
        read_records(file)
