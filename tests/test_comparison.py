"""Two runs beside each other."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.__main__ import main
from experiments.comparison import compare
from experiments.files import BEST, LAST
from tests import fakes, runs


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    fakes.ravdess(root / "ravdess", actors=6)
    output = tmp_path_factory.mktemp("runs")
    return runs.train("ravdess_single_task", root, output, "split.fold=0", "split.folds=3", "run=one")


@pytest.fixture
def other(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "other")


def change(path: Path, how: Callable[[dict[str, Any]], object]) -> None:
    checkpoint = torch.load(path, weights_only=True)
    how(checkpoint)
    torch.save(checkpoint, path)


def larger(state: dict[str, torch.Tensor]) -> None:
    state.update({name: tensor * 1.25 if tensor.is_floating_point() else tensor for name, tensor in state.items()})


def test_a_run_is_identical_with_itself(run: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(run, other)
    assert found.identical
    assert (found.settings, found.scores, found.weights, found.last_weights, found.gradients) == ([], None, 0, 0, 0)
    assert found.same_files == {"metrics.csv": True, "predictions_dev.csv": True, "predictions_test.csv": True}
    assert main(["compare", str(run), str(other)]) == 0
    assert capsys.readouterr().out.count("identical") == 7


def test_distances_are_relative_to_the_first(run: Path, other: Path) -> None:
    change(other / BEST, lambda checkpoint: larger(checkpoint["state_dict"]))
    found = compare(run, other)
    assert not found.identical
    assert found.weights == pytest.approx(0.25)
    assert (found.last_weights, found.gradients) == (0, 0)
    assert compare(other, run).weights == pytest.approx(0.2)


def test_of_gradients_the_largest_distance_of_any_weight_counts(run: Path, other: Path) -> None:
    def three_times(checkpoint: dict[str, Any]) -> None:
        checkpoint["optimizer_states"][0]["state"][3]["exp_avg"] *= 3

    change(other / LAST, three_times)
    found = compare(run, other)
    assert found.identical, "what they ended with is the same"
    assert found.gradients == pytest.approx(2)
    for path in (other / "checkpoints").glob("[!b]*"):
        path.unlink()
    assert compare(run, other).gradients is None
    assert dict(compare(run, other).rows())["last weights"] == "no longer there"


def test_scores_and_files_and_settings(run: Path, other: Path) -> None:
    results = json.loads((other / "results.json").read_text())
    results["dev"]["uar"] += 0.125
    results["dev"]["confusion"][0][0] += 5
    results["train_seconds"] += 100
    (other / "results.json").write_text(json.dumps(results))
    (other / "predictions_test.csv").unlink()
    config = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(config.replace("\nseed: 0\n", "\nseed: 3\n"))
    found = compare(run, other)
    assert found.scores is not None
    assert found.scores[0] == "dev.uar"
    assert found.scores[1] == pytest.approx(0.125)
    assert found.same_files == {"metrics.csv": True, "predictions_dev.csv": True, "predictions_test.csv": False}
    assert found.settings == ["seed"]
    assert not found.identical


def test_a_score_that_one_of_them_lacks(run: Path, other: Path) -> None:
    results = json.loads((other / "results.json").read_text())
    del results["test"]
    (other / "results.json").write_text(json.dumps(results))
    name, apart = compare(run, other).scores or ("", 0)
    assert name.startswith("test.")
    assert apart == float("inf")


def test_runs_that_cannot_be_compared(run: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(other / BEST, lambda checkpoint: checkpoint["state_dict"].pop("heads.emotion.output.weight"))
    assert main(["compare", str(run), str(other)]) == 2
    told = capsys.readouterr().err
    assert f"{other} is of another model than {run}" in told
    assert "heads.emotion.output.weight is not there, and there 8 × " in told
    assert main(["compare", str(run), "nowhere"]) == 2
    assert "nowhere/results.json does not exist" in capsys.readouterr().err
