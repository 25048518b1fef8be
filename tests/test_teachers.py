"""Teachers: which runs may teach another, and that they do."""

from pathlib import Path

import pytest

from experiments.__main__ import main
from experiments.config import load_run, save
from experiments.files import read_json
from tests import fakes, runs

TAUGHT = ("split.fold=0", "model.consistency.weight=1")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    fakes.ravdess(root / "ravdess", actors=6)
    return root


@pytest.fixture(scope="module")
def teacher(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.train("ravdess_single_task", root, tmp_path_factory.mktemp("teacher"), "split.fold=0", "split.folds=3")


def attempt(root: Path, output: Path, teacher: Path, *settings: str) -> int:
    given = [*runs.SMALL, "wandb.enabled=false", *runs.places(root, output), "split.folds=3", *TAUGHT]
    return main(["train", "ravdess_single_task", *given, f"trainer.teachers=[{teacher}]", *settings])


def test_a_run_is_taught(root: Path, teacher: Path, tmp_path: Path) -> None:
    assert attempt(root, tmp_path, teacher, "run=taught") == 0
    folder = tmp_path / "ravdess_single_task" / "taught"
    assert "train/consistency" in (folder / "metrics.csv").read_text().splitlines()[0]
    assert read_json(folder / "results.json")["parameters"] == read_json(teacher / "results.json")["parameters"]
    assert main(["evaluate", str(folder)]) == 0, "it can be scored without its teacher"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["split.fold=1"], "had its epoch chosen by ravdess/"),
        (["split.fold=2"], "was trained on ravdess/"),
        (["data.labelled_share=0.5"], "has data.labelled_share=1 chosen by seed 0, and this run 0.5 by 0"),
        (
            ["data.classes={calm: [calm], sad: [sadness]}"],
            "tells neutral, calm, happy, sad, angry, fearful",
        ),
        (["model.features.hop_ms=10"], "hears other features (model.features)"),
        (["model.consistency.weight=0"], "and model.consistency.weight is 0"),
        (["trainer.teachers=[nowhere]"], "nowhere is no run folder"),
    ],
)
def test_who_may_not_teach(
    root: Path, teacher: Path, tmp_path: Path, settings: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert attempt(root, tmp_path, teacher, *settings) == 2
    told = capsys.readouterr().err
    assert message in told
    assert str(teacher) in told or "nowhere" in told
    assert not list(tmp_path.glob("ravdess_single_task/*"))


def test_a_teacher_whose_checkpoint_is_of_another_model(
    root: Path, teacher: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    (other / "checkpoints").mkdir(parents=True)
    for name in ("data_report.json", "checkpoints/best.ckpt"):
        (other / name).write_bytes((teacher / name).read_bytes())
    config = load_run(teacher)
    config.model.code["shared"] += 1
    save(config, other / "config.yaml")
    assert attempt(root, tmp_path, other) == 2
    assert f"the checkpoint of {other} does not fit its model" in capsys.readouterr().err
