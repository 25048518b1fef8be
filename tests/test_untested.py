"""Runs that do without the test set, as those of a search do: they neither read nor report it."""

from pathlib import Path

import pytest
import torch
import wandb

from datamodules.datamodule import SpeechDataModule
from datamodules.errors import InputError
from experiments.__main__ import main
from experiments.config import load, load_run
from experiments.files import BEST, read_json
from experiments.study import baselines
from experiments.study.plan import Run, SystemPlan
from experiments.study.record import RECORDS, read_records, record_of, settings_hash
from tests import fakes, runs

EXPERIMENT = "ravdess_single_task"
UNTESTED = "trainer.test=false"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    fakes.ravdess(root / "ravdess", actors=6)
    return root


@pytest.fixture(scope="module")
def tested(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.train(EXPERIMENT, root, tmp_path_factory.mktemp("tested"))


@pytest.fixture(scope="module")
def untested(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    def read(*_: object) -> None:
        raise AssertionError("the test set is read")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SpeechDataModule, "test_dataloader", read)
        folder = runs.train(EXPERIMENT, root, tmp_path_factory.mktemp("untested"), UNTESTED, wandb=True)
    wandb.teardown()
    return folder


def test_it_has_development_scores_alone(tested: Path, untested: Path) -> None:
    expected = read_json(tested / "results.json")
    del expected["test"], expected["calibration"]["test"]
    found = read_json(untested / "results.json")
    assert found | {"train_seconds": expected["train_seconds"]} == expected
    files = {file.relative_to(tested) for file in tested.rglob("*.*") if "test" in file.name}
    assert {str(file) for file in files} == {"predictions_test.csv", "figures/confusion_test.png"}
    there = {file.relative_to(untested) for file in untested.rglob("*") if "wandb" not in file.parts}
    assert there - {Path("wandb")} == {file.relative_to(tested) for file in tested.rglob("*")} - files
    weights = [torch.load(folder / BEST, weights_only=True)["state_dict"] for folder in (tested, untested)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert (tested / "metrics.csv").read_text() == (untested / "metrics.csv").read_text()


def test_weights_and_biases_hears_nothing_of_it(untested: Path) -> None:
    (log,) = untested.glob("wandb/offline-run-*/*.wandb")
    record = log.read_bytes()
    assert b"final/dev/uar" in record
    for name in (b"final/test", b"test/uar", b"confusion_test", b"predictions_test"):
        assert name not in record, name


def test_evaluate_scores_it(tested: Path, untested: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.read_bytes() for file in untested.rglob("*") if file.is_file()}
    assert main(["evaluate", str(tested), "wandb.enabled=false"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    assert last == f"Identical to {tested / 'results.json'}, to the last digit."
    assert main(["evaluate", str(untested)]) == 0
    *same, last = capsys.readouterr().out.splitlines()
    assert (
        last == f"Identical to {untested / 'results.json'}, to the last digit. "
        "What it says of the test set is not written there."
    )
    assert same[1:] == table[1:], "the first line tells the time of the training"
    assert any("test" in line for line in same)
    assert {file: file.read_bytes() for file in untested.rglob("*") if file.is_file()} == before


def test_studies_and_baselines_need_it(untested: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = load_run(untested)
    with pytest.raises(InputError, match="has no scores of the test set"):
        record_of("mine", "full", {}, config, untested)
    run = Run("mine", EXPERIMENT, "full", {}, 0, 0, SystemPlan())
    assert run.config().trainer.test
    with pytest.raises(InputError, match=r"the study mine: full has trainer\.test=false"):
        run.config((UNTESTED,))
    assert baselines.main([EXPERIMENT, "features=eGeMAPSv02", UNTESTED]) == 2
    assert "a system on features is always tested" in capsys.readouterr().err


def test_the_records_of_before_hold() -> None:
    assert settings_hash(load(EXPERIMENT)) == settings_hash(load(EXPERIMENT, ["trainer.test=true"]))
    records = read_records(Path(__file__).parents[1] / "docs/studies/ravdess" / RECORDS)
    assert settings_hash(load("ravdess_cat")) in {one.settings for one in records if one.system == "full"}
