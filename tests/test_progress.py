"""What a user sees while a model trains, and at its end."""

import re
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.progress import Progress
from callbacks.summary import print_summary

SCORES = (0.25, 0.75, 0.5, 0.625)


class Scripted(pl.LightningModule):
    """Its loss in epoch e is 4 - e, its development score is given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([torch.tensor(1.0), torch.tensor(-1.0)], batch_size=None)  # type: ignore[arg-type]

    val_dataloader = train_dataloader

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return 0 * self.weight + 4 - self.current_epoch + batch

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("dev/uar", SCORES[self.current_epoch], on_epoch=True, batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    folder: Path,
    progress: Progress,
    epochs: int,
    checkpoint: Path | None = None,
    callbacks: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[progress, *callbacks],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Scripted(), ckpt_path=checkpoint, weights_only=True)
    return trainer


def test_a_log_gets_one_line_an_epoch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, Progress("dev/uar"), epochs=3)
    lines = capsys.readouterr().out.splitlines()
    assert [re.sub(r"\d+\.\d s$", "T s", line) for line in lines] == [
        "Epoch 0/2: loss 4.000, dev/uar 0.250, best 0.250 (epoch 0), T s",
        "Epoch 1/2: loss 3.000, dev/uar 0.750, best 0.750 (epoch 1), T s",
        "Epoch 2/2: loss 2.000, dev/uar 0.500, best 0.750 (epoch 1), T s",
    ]


def test_a_terminal_gets_a_bar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    fit(tmp_path, Progress("dev/uar"), epochs=2)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", capsys.readouterr().out)
    assert "Epoch 1/1" in shown
    assert "it/s" in shown
    assert re.search(r"loss: \d\.\d{3} dev/uar: 0\.\d{3} best: 0\.\d{3} \(epoch \d\)", shown)
    assert "T s" not in shown


def test_a_resumed_training_knows_the_best_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, Progress("dev/uar"), epochs=2).save_checkpoint(tmp_path / "last.ckpt")
    capsys.readouterr()
    fit(tmp_path, Progress("dev/uar"), epochs=4, checkpoint=tmp_path / "last.ckpt")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("best 0.750 (epoch 1)" in line for line in lines)


class Saved(pl.Callback):
    """Saves in the middle of the second epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.path)


def test_an_epoch_that_is_gone_on_with_is_timed_from_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, Progress("dev/uar"), 2, callbacks=[Saved(tmp_path / "last.ckpt")])
    capsys.readouterr()
    fit(tmp_path, Progress("dev/uar"), 2, checkpoint=tmp_path / "last.ckpt")
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"Epoch 1/1: .*, \d{1,2}\.\d s", line)


def results(**changes: Any) -> dict[str, Any]:
    recall = {"anger": 0.75, "neutral": None}
    scores = {"uar": 0.7512, "accuracy": 0.6, "recall": recall, "confusion": [[3, 1], [0, 0]]}
    ccc = {"activation": 0.5, "valence": 0.0, "dominance": None}
    about = {"experiment": "demo", "fold": 2, "seed": 1, "synthetic": False, "best_epoch": 7}
    return {**about, "parameters": 1234567, "train_seconds": 61.5, "dev": scores, "test": {"ccc": ccc}, **changes}


def summary(results: dict[str, Any], report: dict[str, Any] | None) -> str:
    console = Console(file=StringIO(), width=120)
    print_summary(results, report, console)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_the_summary_shows_data_and_results() -> None:
    report = {
        "corpora": {
            "ravdess": {"hours": 1.479, "utterances": 1440, "speakers": {"female": 12, "male": 12, "total": 24}}
        },
        "split": {
            "train": {"utterances": 960, "speakers": ["01"] * 16},
            "development": {"utterances": 240, "speakers": ["02"] * 4},
            "test": {"utterances": 239, "speakers": ["03"] * 4},
        },
    }
    cells = [re.findall(r"[^│\s][^│]*[^│\s]|[^│\s]", line) for line in summary(results(), report).splitlines()]
    for row in (
        ["ravdess", "1.48", "1440", "24"],
        ["labelled, train", "960", "16"],
        ["labelled, test", "239", "4"],
        ["UAR", "0.751", "–"],
        ["recall, anger", "0.750", "–"],
        ["CCC, activation", "–", "0.500"],
        ["CCC, valence", "–", "0.000"],
    ):
        assert row in cells
    assert not any(row and row[0] in ("recall, neutral", "CCC, dominance") for row in cells)


def test_the_summary_marks_synthetic_speech() -> None:
    assert "SYNTHETIC" in summary(results(synthetic=True), None)
    assert "SYNTHETIC" not in summary(results(), None)
    assert "demo, fold 2, seed 1: best epoch 7, 1,234,567 parameters, 62 s of training" in summary(results(), None)
