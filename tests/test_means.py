from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_modules.means import EpochMeans


class Both(pl.LightningModule):
    """Logs a value of each batch in Lightning's way and as a mean of the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.means = EpochMeans()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        value: torch.Tensor = batch.double().mean() + self.weight
        self.log("theirs", value, on_step=False, on_epoch=True, batch_size=len(batch))
        self.means.add({"ours": value, "negative": -value}, len(batch))
        return value

    def on_train_epoch_end(self) -> None:
        self.means.log(self)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_means_are_lightnings_and_begin_anew_with_the_epoch(tmp_path: Any) -> None:
    module = Both()

    class Noted(pl.Callback):
        def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            logged = trainer.callback_metrics
            assert logged["ours"].item() == pytest.approx(logged["theirs"].item(), rel=1e-6)
            assert logged["negative"].item() == -logged["ours"].item()
            noted.append(logged["ours"].item())

    noted: list[float] = []
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        default_root_dir=tmp_path,
        callbacks=[Noted()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = [torch.tensor([1.0]), torch.tensor([2.0, 3.0, 7.0])]
    trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    # Weights 0, -0.1, -0.2, -0.3; the second epoch's mean is of its own four values.
    assert noted == [pytest.approx((1 * (1 - 0.2) + 3 * (4 - 0.3)) / 4)]


def test_nothing_is_logged_of_nothing() -> None:
    means = EpochMeans()
    means.add({}, 3)
    means.log(pl.LightningModule())


def test_a_process_with_more_utterances_counts_for_more() -> None:
    logged: dict[str, tuple[float, Any]] = {}

    class Process(pl.LightningModule):
        def log(self, name: str, value: Any, *_: Any, **options: Any) -> None:
            logged[name] = value.item(), options

    means = EpochMeans()
    for value, size in ((1.0, 1), (5.0, 3)):
        means.add({"loss": torch.tensor(value)}, size)
    means.log(Process())
    assert logged == {"loss": (4.0, {"batch_size": 4, "sync_dist": True})}
