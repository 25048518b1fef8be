"""Every experiment that ships: two steps, development and test, from its corpora to its records."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from callbacks import evaluation
from datamodules.vocabulary import DIMENSIONS
from experiments import novelty
from experiments.__main__ import main
from experiments.config import experiments, load, load_run
from experiments.records import PACKAGES, read_checkpoint
from experiments.run import make_data, make_module, prepare_machine, score
from tests import runs, trees

ROOT = Path(__file__).parents[1]
Rows = list[dict[str, str]]


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trees.write_all(tmp_path_factory.mktemp("corpora"))


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Lightning leaves its choices in PyTorch and in the environment."""
    before = torch.are_deterministic_algorithms_enabled()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "CUBLAS_WORKSPACE_CONFIG"):
            patch.setenv(name, "")
            patch.delenv(name)
        yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("experiment", experiments())
def test_an_experiment_runs_and_is_scored_again(
    experiment: str, corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    watched = ["trainer.gradients=1"] * (experiment == "iemocap_joint")
    folder = runs.train(experiment, corpora, tmp_path, "run=first", *watched)
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(folder) == str(tmp_path / experiment / "first")

    settings = [*runs.SMALL, "wandb.enabled=false", *runs.places(corpora, tmp_path), "run=first", *watched]
    expected = load(experiment, settings)
    prepare_machine(expected.trainer)  # what the machine settled is in the run: it is scored alike elsewhere
    assert expected.trainer.precision in ("bf16-mixed", "32-true")
    assert load_run(folder) == expected
    assert "${" not in (folder / "config.yaml").read_text()
    names = [*load_run(folder).data.labelled, *load_run(folder).split.test_corpora]
    check_records(folder, labelled=names)

    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert main(["evaluate", str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == f"Identical to {folder / 'results.json'}, to the last digit."
    assert ("UAR" in printed.out) == ("emotion" in load(experiment).model.tasks)
    assert ("CCC" in printed.out) == ("dimensions" in load(experiment).model.tasks)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def check_records(folder: Path, labelled: list[str]) -> None:
    """Checks that a run folder holds what it should, and that its files agree."""
    config = load_run(folder)
    results, report, environment = (read_json(folder, name) for name in ("results", "data_report", "environment"))
    predictions = {split: read_csv(folder / f"predictions_{split}.csv") for split in ("dev", "test")}
    corpora = {*labelled, *(one.corpus for one in config.data.auxiliary)}

    assert results["experiment"] == config.experiment == folder.parent.name
    assert (results["seed"], results["fold"]) == (config.seed, config.split.fold)
    assert results["synthetic"] == any(name.startswith("demo") for name in labelled)
    assert results["best_epoch"] == 0
    assert results["parameters"] > 1000
    assert results["labelled"] == report["split"]["train"]["utterances"] > 0
    assert results["device"] == "cpu"
    assert 0 < results["train_seconds"] < 300
    assert results["unreadable_files"] == []
    for split, side in (("dev", "development"), ("test", "test")):
        rows = predictions[split]
        assert len({(row["corpus"], row["id"]) for row in rows}) == len(rows) == report["split"][side]["utterances"]
        assert {row["speaker"] for row in rows} == set(report["split"][side]["speakers"])
        assert ("uar" in results[split]) == ("emotion" in config.model.tasks)
        if "emotion" in config.model.tasks:
            check_classes(results[split], rows, list(config.data.classes))
        assert ("ccc" in results[split]) == ("dimensions" in config.model.tasks)
        if "dimensions" in config.model.tasks:
            check_dimensions(results[split], rows, report)
        by_corpus = results[split]["corpora"]
        assert {name: one["utterances"] for name, one in by_corpus.items()} == Counter(row["corpus"] for row in rows)
    assert (results["calibration"] is not None) == ("emotion" in config.model.tasks)
    told_by = novelty.read(folder)
    assert told_by is not None
    assert len(told_by.distances) == len(predictions["dev"])
    sides = [set(report["split"][side]["speakers"]) for side in ("train", "development", "test")]
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides))

    assert set(report["corpora"]) == set(environment["manifests"]) == corpora
    assert all(len(bytes.fromhex(sha256)) == 32 for sha256 in environment["manifests"].values())
    assert set(environment["packages"]) == set(PACKAGES)
    assert environment["packages"]["torch"] == torch.__version__
    assert environment["command"].startswith("python ")
    assert {"python", "git", "machine"} < set(environment)

    metrics = read_csv(folder / "metrics.csv")
    assert {"epoch", "step", "train/loss"} < set(metrics[0])
    if "emotion" in config.model.tasks:
        assert [float(row["dev/uar"]) for row in metrics if row["dev/uar"]] == [pytest.approx(results["dev"]["uar"])]
    if "dimensions" in config.model.tasks:
        mean = np.mean(list(results["dev"]["ccc"].values()))
        assert [float(row["dev/ccc"]) for row in metrics if row["dev/ccc"]] == [pytest.approx(mean)]
    assert all(np.isfinite(float(row["train/loss"])) for row in metrics if row["train/loss"])

    for name, epoch in (("best", 0), ("last", 1)):  # the last is of the beginning of the next
        checkpoint = read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")
        assert (checkpoint["epoch"], checkpoint["global_step"]) == (epoch, 2)
    assert sorted(file.name for file in (folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]

    expected = {"latent_codes", "learning_curves"}
    if "emotion" in config.model.tasks:
        expected |= {"confusion_dev", "confusion_test"}
    if config.model.decoder.weight > 0:
        expected.add("reconstructions")
    if config.trainer.gradients:
        expected.add("gradients")
        of_speaker = [float(row["gradients/speaker/cosine"]) for row in metrics if row["gradients/speaker/cosine"]]
        assert len(of_speaker) == config.trainer.epochs
        assert all(-1 <= value <= 1 for value in of_speaker)
    assert {figure.stem for figure in (folder / "figures").iterdir()} == expected
    for figure in (folder / "figures").glob("*.png"):
        pixels = matplotlib.image.imread(figure)
        assert min(pixels.shape[:2]) > 200
        assert pixels.std() > 0.01


def check_classes(scores: dict[str, Any], rows: Rows, classes: list[str]) -> None:
    """Computes the scores of classes again from the predictions."""
    hits = defaultdict(list)
    for row in rows:
        if not row["truth"]:  # it is rated, and of no class
            continue
        probabilities = [float(row[f"probability_{name}"]) for name in classes]
        assert sum(probabilities) == pytest.approx(1, abs=1e-5)
        assert row["prediction"] == classes[int(np.argmax(probabilities))]
        hits[row["truth"]].append(row["prediction"] == row["truth"])
    recall = {name: float(np.mean(hits[name])) for name in classes}
    assert scores["recall"] == pytest.approx(recall)
    assert scores["uar"] == pytest.approx(np.mean(list(recall.values())))
    assert scores["accuracy"] == pytest.approx(np.mean([hit for of_class in hits.values() for hit in of_class]))
    assert [sum(counts) for counts in scores["confusion"]] == [len(hits[name]) for name in classes]


def check_dimensions(scores: dict[str, Any], rows: Rows, report: dict[str, Any]) -> None:
    """Computes the scores of dimensions again from the predictions, on the common scale and in the corpus's units."""
    (corpus,) = {row["corpus"] for row in rows}
    for name in DIMENSIONS:
        known = [row for row in rows if row[f"{name}_truth"]]
        truth, predicted = (
            np.array([float(row[f"{name}_{what}"]) for row in known]) for what in ("truth", "prediction")
        )
        assert ((truth >= 0) & (truth <= 1)).all()
        assert scores["ccc"][name] == pytest.approx(lin(truth, predicted), abs=1e-6)
        own, scale = (
            scores["corpora"][corpus]["own_units"][name],
            report["corpora"][corpus]["dimensions"][name]["scale"],
        )
        assert {key: own[key] for key in scale} == scale
        assert own["ccc"] == pytest.approx(lin(truth, predicted), abs=1e-6)
        error = np.sqrt(np.mean((truth - predicted) ** 2))
        assert own["rmse"] == pytest.approx((scale["high"] - scale["low"]) * error)


def lin(truth: NDArray[np.float64], predicted: NDArray[np.float64]) -> float:
    covariance = np.cov(truth, predicted, ddof=0)
    return float(2 * covariance[0, 1] / (np.trace(covariance) + (truth.mean() - predicted.mean()) ** 2))


def read_json(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return content


def read_csv(file: Path) -> Rows:
    with file.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_the_best_epoch_is_scored_and_not_the_last(
    corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = chain([0.1, 0.9, 0.5, 0.4], repeat(0.3))  # of the epochs, and of the final passes
    monkeypatch.setattr(evaluation, "uar", lambda confusion: torch.tensor(next(scores)))
    folder = runs.train("ravdess_cat", corpora, tmp_path, "trainer.epochs=4", "data.auxiliary=[]")
    assert read_json(folder, "results")["best_epoch"] == 1

    written = np.array([float(row["probability_calm"]) for row in read_csv(folder / "predictions_test.csv")])
    monkeypatch.undo()
    config = load_run(folder)
    data = make_data(config)

    def calm(checkpoint: str) -> Any:
        found = score(config, make_module(config, data), data, read_checkpoint(folder / "checkpoints" / checkpoint))
        probabilities = found.predictions["test"].probabilities
        assert probabilities is not None
        return probabilities[:, 1]

    np.testing.assert_array_equal(calm("best.ckpt"), written)
    assert np.abs(calm("last.ckpt") - written).max() > 1e-4


def test_other_numbers_than_the_runs_are_told(
    corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs.train("ravdess_single_task", corpora, tmp_path)
    results = read_json(folder, "results")
    results["test"]["uar"] = float(np.nextafter(results["test"]["uar"], 1))
    (folder / "results.json").write_text(json.dumps(results))
    environment = read_json(folder, "environment")
    environment["manifests"]["ravdess"] = "another"
    (folder / "environment.json").write_text(json.dumps(environment))
    capsys.readouterr()
    assert main(["evaluate", str(folder)]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == f"NOT identical to {folder / 'results.json'}. These corpora have changed: ravdess."


def test_two_runs_are_the_same_but_for_their_time(corpora: Path, tmp_path: Path) -> None:
    first, second = (runs.train("ravdess_cat", corpora, tmp_path, f"run={name}") for name in ("first", "second"))
    weights = [read_checkpoint(folder / "checkpoints" / "last.ckpt")["state_dict"] for folder in (first, second)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    for name in ("predictions_test.csv", "metrics.csv", "data_report.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    results = [read_json(folder, "results") | {"train_seconds": None} for folder in (first, second)]
    assert results[0] == results[1]


def test_settings_reach_the_trainer(corpora: Path, tmp_path: Path) -> None:
    folder = runs.train(
        "ravdess_single_task",
        corpora,
        tmp_path,
        "trainer.epochs=30",
        "trainer.patience=1",
        "trainer.average=0",
        "trainer.precision=bf16-mixed",
        "trainer.monitor=dev/accuracy",
        "model.features.normalise=training",
        "model.optimiser.learning_rate=1e-9",
    )
    # Nothing gets better: the first epoch is the best, and the second is the last that is waited for.
    last = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert (read_json(folder, "results")["best_epoch"], last["epoch"]) == (0, 2)
    assert "averaging_state" not in last
    assert main(["evaluate", str(folder)]) == 0


def test_a_model_adapts_to_another_corpus_before_it_is_tested(corpora: Path, tmp_path: Path) -> None:
    adaptation = "model.adaptation={statistics: true, priors: true}"
    plain = runs.train("ravdess_to_nemo", corpora, tmp_path / "plain")
    adapted = runs.train("ravdess_to_nemo", corpora, tmp_path, adaptation)
    results = [read_json(folder, "results") for folder in (plain, adapted)]
    assert results[0]["dev"] == results[1]["dev"]
    predictions = [(folder / "predictions_test.csv").read_text() for folder in (plain, adapted)]
    assert predictions[0] != predictions[1]
    assert main(["evaluate", str(adapted)]) == 0


def test_voxceleb_takes_the_place_of_librispeech_by_a_line(corpora: Path, tmp_path: Path) -> None:
    line = ["data.auxiliary.0.corpus=voxceleb2", "data.auxiliary.0.hash_content=false"]
    (tmp_path / "known.txt").write_text("id00012\n")
    out = [f"data.corpora.voxceleb2.exclude_speakers=[file:{tmp_path / 'known.txt'}]"]
    folder = runs.train("iemocap_joint", corpora, tmp_path, *line, *out)
    auxiliary = read_json(folder, "data_report")["auxiliary"]
    # Three speakers with two recordings of each of two videos; one of them is left out.
    assert auxiliary[0] == {"corpus": "voxceleb2", "role": "speaker", "utterances": 8, "quota": 4}
    assert auxiliary[1]["corpus"] == "librispeech"


def test_votes_can_be_learnt(corpora: Path, tmp_path: Path) -> None:
    folder = runs.train("iemocap_cat", corpora, tmp_path, "data.soft_labels=true", "data.agreeing_raters=2")
    report = read_json(folder, "data_report")["corpora"]["iemocap"]
    # Of a turn's three raters two agree, and the third names two others; but for those that name three.
    assert (report["disputed"], report["voted"]) == (0, 112)


def test_a_name_is_made_of_time_fold_and_seed(corpora: Path, tmp_path: Path) -> None:
    folder = runs.train("ravdess_single_task", corpora, tmp_path, "split.fold=2", "seed=5")
    assert folder.name.endswith("-fold2-seed5")
    assert read_json(folder, "results")["fold"] == 2


def test_a_manifest_is_made_without_training(corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["manifest", "ravdess_to_nemo", *runs.SMALL, *runs.places(corpora, tmp_path)]) == 0
    printed = capsys.readouterr().out
    file = tmp_path / "ravdess_to_nemo" / "data_report.json"
    assert printed.splitlines()[-1] == str(file)
    assert {"ravdess", "nemo", "librispeech"} == set(json.loads(file.read_text())["corpora"])
    assert "calm" in printed  # which the class map leaves out
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["data_report.json"]


# Float32, and layers that do not round otherwise where a batch is shared: PyTorch's batch normalisation does.
EXACT = ("trainer.precision=32-true", "model.encoder.normalisation=group", "model.augmentation.mixup=0.4")


@pytest.fixture(scope="module")
def of_two(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a training in two processes printed, and its folder."""
    output = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "experiments", "train", "ravdess_cat", "trainer.devices=2", *runs.SMALL, *EXACT]
    done = subprocess.run(
        [*command, *runs.places(corpora, output)],
        cwd=ROOT,
        env={**os.environ, "WANDB_SILENT": "false"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = output.glob("*/*")
    return done.stdout, folder


def test_two_processes_make_one_run(of_two: tuple[str, Path]) -> None:
    printed, folder = of_two
    assert printed.splitlines()[-1] == str(folder)
    assert printed.count("W&B: offline") == printed.count("Epoch 0/0") == 1
    check_records(folder, labelled=["ravdess"])
    assert len(list(folder.glob("wandb/offline-run-*"))) == 1

    # One process scores the same: no utterance is lost, none is counted twice.
    assert main(["evaluate", str(folder), "trainer.devices=1", "wandb.enabled=false"]) == 0


def test_two_processes_train_the_model_of_one(of_two: tuple[str, Path], corpora: Path, tmp_path: Path) -> None:
    alone = runs.train("ravdess_cat", corpora, tmp_path, *EXACT)
    one, two = (torch.load(run / "checkpoints" / "best.ckpt", weights_only=True) for run in (alone, of_two[1]))
    for name, weight in one["state_dict"].items():
        # What a softmax does not see has a gradient of rounding alone, which the optimiser makes as large as any.
        if name != "encoder.pool.score.2.bias":
            torch.testing.assert_close(two["state_dict"][name], weight, rtol=1e-3, atol=1e-4)
