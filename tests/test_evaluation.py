"""The evaluation of whole passes, in Lightning's own loops, on one process and on two."""

import csv
import json
from pathlib import Path
from typing import Any

import audmetric
import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from callbacks.evaluation import Evaluation, Predictions, write_predictions
from callbacks.figures import read_metrics
from datamodules.corpora.base import Scale
from datamodules.errors import InputError

CLASSES = ["anger", "neutral", "sadness", "surprise"]
DIMENSIONS = ("activation", "valence", "dominance")
N = 23


def outputs(n: int = N) -> dict[str, Tensor]:
    """What a model would return for n utterances; nobody is surprised, and some labels are missing."""
    generator = torch.Generator().manual_seed(0)
    emotion = torch.randint(0, 3, (n,), generator=generator)
    emotion[::7] = -1
    dimensions = torch.rand(n, 3, generator=generator)
    dimensions[3:9, 1] = torch.nan
    return {
        "row": torch.randperm(n, generator=generator) + 100,
        "valid": torch.ones(n, dtype=torch.bool),
        "code": torch.randn(n, 8, generator=generator),
        "emotion": torch.randn(n, 4, generator=generator).softmax(dim=1),
        "dimensions": torch.rand(n, 3, generator=generator),
        "target_emotion": emotion,
        "target_dimensions": dimensions,
        "target_speaker": torch.arange(n) % 5,
        "target_gender": torch.arange(n) % 2,
        "target_corpus": torch.zeros(n, dtype=torch.int64),
    }


class Replay(pl.LightningModule):
    """Returns prepared outputs instead of computing any; each process its share, padded to equally many batches."""

    def __init__(self, outputs: dict[str, Tensor], batch: int = 4) -> None:
        super().__init__()
        self.outputs, self.batch = outputs, batch
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def share(self) -> DataLoader[Any]:
        rank, world = self.trainer.global_rank, self.trainer.world_size
        n = len(self.outputs["row"])
        mine = torch.arange(rank, n, world)
        padding = -(-n // world) - len(mine)
        rows = torch.cat((mine, mine[:padding]))
        held = {key: values[rows] for key, values in self.outputs.items()}
        held["valid"] = torch.arange(len(rows)) < len(mine)
        batches = [{key: values[i : i + self.batch] for key, values in held.items()} for i in range(0, n, self.batch)]
        return DataLoader([batch for batch in batches if len(batch["row"])], batch_size=None)  # type: ignore[arg-type]

    val_dataloader = test_dataloader = share

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        return batch

    test_step = validation_step


class Learner(Replay):
    """Is right about more utterances the later the epoch is, up to epoch 2, and then forgets."""

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([torch.ones(2)] * 3, batch_size=None)  # type: ignore[arg-type]

    def training_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        loss = (self.weight - 1) ** 2
        self.log("train/loss", loss.detach(), on_step=False, on_epoch=True, batch_size=2)
        return {"loss": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]:
        truth = batch["target_emotion"].clamp(min=0)
        right = torch.nn.functional.one_hot(truth, 4).float()
        known = torch.arange(len(truth)) < (1, 2, 4, 3, 1)[self.current_epoch]
        return {**batch, "emotion": torch.where(known[:, None], right, right.roll(1, dims=1))}


def trainer(folder: Path, *callbacks: pl.Callback, **arguments: Any) -> pl.Trainer:
    defaults: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return pl.Trainer(
        accelerator="cpu",
        default_root_dir=folder,
        callbacks=list(callbacks),
        enable_model_summary=False,
        use_distributed_sampler=False,
        **defaults | arguments,
    )


def evaluate(folder: Path, outputs: dict[str, Tensor], collect: bool = True, batch: int = 4) -> Evaluation:
    evaluation = Evaluation(CLASSES, collect=collect)
    trainer(folder, evaluation).validate(Replay(outputs, batch), verbose=False)
    return evaluation


def lookup(rows: NDArray[np.int64]) -> dict[str, list[str | None]]:
    return {
        "id": [f"Actor/{row}, é.wav" for row in rows],
        "speaker": [None if row % 5 == 0 else f"demo/{row % 5:02d}" for row in rows],
        "corpus": ["demo"] * len(rows),
    }


def test_scores_are_those_of_the_pooled_pass(tmp_path: Path) -> None:
    given = outputs()
    scores = evaluate(tmp_path, given).scores("dev")
    known = given["target_emotion"] >= 0
    truth = given["target_emotion"][known].tolist()
    prediction = given["emotion"].argmax(dim=1)[known].tolist()
    recalls = audmetric.recall_per_class(truth, prediction, [0, 1, 2, 3])
    assert scores["confusion"] == audmetric.confusion_matrix(truth, prediction, [0, 1, 2, 3])
    assert scores["recall"] == {**{CLASSES[k]: pytest.approx(recalls[k]) for k in range(3)}, "surprise": None}
    assert scores["uar"] == pytest.approx(np.mean([recalls[k] for k in range(3)]))
    assert scores["accuracy"] == pytest.approx(np.mean(np.equal(truth, prediction)))
    for i, name in enumerate(DIMENSIONS):
        pair = (given[key][:, i].double().numpy() for key in ("target_dimensions", "dimensions"))
        assert scores["ccc"][name] == pytest.approx(audmetric.concordance_cc(*pair, ignore_nan=True), abs=1e-12)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores


def test_what_is_logged(tmp_path: Path) -> None:
    evaluation = Evaluation(CLASSES)
    run = trainer(tmp_path, evaluation)
    (logged,) = run.test(Replay(outputs()), verbose=False)
    scores = evaluation.scores("test")
    expected = {
        "test/uar": scores["uar"],
        "test/accuracy": scores["accuracy"],
        **{f"test/recall/{name}": scores["recall"][name] for name in CLASSES[:3]},
        **{f"test/ccc/{name}": scores["ccc"][name] for name in DIMENSIONS},
        "test/ccc": np.mean(list(scores["ccc"].values())),
    }
    assert logged == pytest.approx(expected, abs=1e-6)
    assert evaluation.predictions == {}
    with pytest.raises(KeyError, match="'dev' was not evaluated"):
        evaluation.scores("dev")


def test_only_what_applies_is_scored(tmp_path: Path) -> None:
    given = outputs()
    without_labels = {**given, "target_emotion": torch.full((N,), -1)}
    without_labels["target_dimensions"] = torch.full((N, 3), torch.nan)
    assert evaluate(tmp_path, without_labels).scores("dev") == {}

    without_dominance = {key: values for key, values in given.items() if key != "emotion"}
    without_dominance["target_dimensions"] = given["target_dimensions"].clone()
    without_dominance["target_dimensions"][:, 2] = torch.nan
    scores = evaluate(tmp_path, without_dominance).scores("dev")
    assert set(scores) == {"ccc"}
    assert scores["ccc"]["dominance"] is None
    assert scores["ccc"]["activation"] is not None


@pytest.mark.parametrize("head", ["emotion", "dimensions"])
def test_a_model_that_broke_down_is_an_error(tmp_path: Path, head: str) -> None:
    given = outputs()
    given[head][5] = torch.nan
    with pytest.raises(InputError, match=f"the head {head} predicts NaN"):
        evaluate(tmp_path, given)


def test_predictions_are_sorted_and_complete(tmp_path: Path) -> None:
    given = outputs()
    predictions = evaluate(tmp_path, given).predictions["dev"]
    order = given["row"].argsort()
    assert len(predictions) == N
    assert predictions.row.tolist() == list(range(100, 100 + N))
    assert predictions.probabilities is not None
    assert predictions.dimensions is not None
    for field, key in (("probabilities", "emotion"), ("dimensions", "dimensions"), ("code", "code")):
        np.testing.assert_array_equal(getattr(predictions, field), given[key][order].numpy())
    for field in ("emotion", "dimensions"):
        truth = given[f"target_{field}"][order].numpy()
        np.testing.assert_array_equal(getattr(predictions, f"{field}_truth"), truth)
    for field in ("speaker", "gender", "corpus"):
        np.testing.assert_array_equal(getattr(predictions, field), given[f"target_{field}"][order].numpy())


def test_codes_of_mixed_precision_are_collected(tmp_path: Path) -> None:
    given = outputs()
    given["code"] = given["code"].bfloat16()
    assert evaluate(tmp_path, given).predictions["dev"].code.dtype == np.float32


def test_a_row_that_comes_twice_is_an_error(tmp_path: Path) -> None:
    given = outputs()
    given["row"][4] = given["row"][9]
    with pytest.raises(RuntimeError, match="evaluated twice"):
        evaluate(tmp_path, given)


def test_the_batch_size_does_not_matter(tmp_path: Path) -> None:
    one, other = (evaluate(tmp_path, outputs(), batch=batch).scores("dev") for batch in (1, 23))
    assert one["confusion"] == other["confusion"]
    assert one["ccc"] == pytest.approx(other["ccc"], abs=1e-12)


def test_checkpoints_and_stopping_follow_the_scores(tmp_path: Path) -> None:
    best = ModelCheckpoint(dirpath=tmp_path, monitor="dev/uar", mode="max", filename="{epoch}")
    stopping = EarlyStopping("dev/uar", mode="max", patience=1)
    logger = CSVLogger(tmp_path, name="", version="")
    evaluation = Evaluation(CLASSES)
    run = trainer(
        tmp_path,
        evaluation,
        best,
        stopping,
        logger=logger,
        enable_checkpointing=True,
        max_epochs=5,
        log_every_n_steps=1,
    )
    run.fit(Learner(outputs()))
    assert Path(best.best_model_path).name == "epoch=2.ckpt"
    assert stopping.stopped_epoch == 3
    assert best.best_model_score is not None

    metrics = read_metrics(tmp_path / "metrics.csv")
    scores = metrics["dev/uar"][~np.isnan(metrics["dev/uar"])]
    assert scores.argmax() == 2
    assert scores.max() == pytest.approx(best.best_model_score.item())
    assert np.isfinite(metrics["train/loss"]).sum() == 4
    assert evaluation.scores("dev")["uar"] == pytest.approx(scores[-1])


class Save(pl.Callback):
    """Writes what each process holds at the end, since nothing else of it comes back."""

    def __init__(self, folder: Path, evaluation: Evaluation) -> None:
        self.folder, self.evaluation = folder, evaluation

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        rank = trainer.global_rank
        (self.folder / f"{rank}.json").write_text(json.dumps(self.evaluation.scores("dev")))
        np.savez(self.folder / f"{rank}.npz", **vars(self.evaluation.predictions["dev"]))
        (self.folder / f"{rank}.logged").write_text(str(trainer.callback_metrics["dev/uar"].item()))


def test_two_processes_give_the_scores_and_predictions_of_one(tmp_path: Path) -> None:
    alone = evaluate(tmp_path, outputs())
    evaluation = Evaluation(CLASSES, collect=True)
    run = trainer(tmp_path, evaluation, Save(tmp_path, evaluation), devices=2, strategy="ddp_spawn")
    run.validate(Replay(outputs()), verbose=False)
    for rank in range(2):
        scores = json.loads((tmp_path / f"{rank}.json").read_text())
        expected = alone.scores("dev")
        assert {name: scores[name] for name in scores if name != "ccc"} == {
            name: expected[name] for name in expected if name != "ccc"
        }
        assert scores["ccc"] == pytest.approx(expected["ccc"], abs=1e-12)
        assert float((tmp_path / f"{rank}.logged").read_text()) == pytest.approx(expected["uar"], abs=1e-6)
        with np.load(tmp_path / f"{rank}.npz") as arrays:
            for field, values in vars(alone.predictions["dev"]).items():
                np.testing.assert_array_equal(arrays[field], values)


def test_written_predictions_say_all_and_lose_nothing(tmp_path: Path) -> None:
    predictions = evaluate(tmp_path, outputs()).predictions["dev"]
    assert predictions.probabilities is not None
    assert predictions.dimensions is not None
    write_predictions(tmp_path / "predictions_dev.csv", predictions, lookup, CLASSES)
    with (tmp_path / "predictions_dev.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        *("id", "speaker", "corpus", "truth", "prediction"),
        *(f"probability_{name}" for name in CLASSES),
        *(f"{name}_{which}" for name in DIMENSIONS for which in ("truth", "prediction")),
    ]
    assert [row["id"] for row in rows] == [f"Actor/{100 + i}, é.wav" for i in range(N)]
    assert [row["speaker"] for row in rows][:2] == ["", "demo/01"]
    for i, row in enumerate(rows):
        truth = predictions.emotion_truth[i]
        assert row["truth"] == (CLASSES[truth] if truth >= 0 else "")
        assert row["prediction"] == CLASSES[predictions.probabilities[i].argmax()]
        assert [float(row[f"probability_{name}"]) for name in CLASSES] == predictions.probabilities[i].tolist()
        assert [float(row[f"{name}_prediction"]) for name in DIMENSIONS] == predictions.dimensions[i].tolist()
        read = [float(row[f"{name}_truth"] or "nan") for name in DIMENSIONS]
        np.testing.assert_array_equal(read, predictions.dimensions_truth[i])


def test_written_predictions_of_one_head(tmp_path: Path) -> None:
    predictions = Predictions(
        row=np.array([3]),
        corpus=np.array([0]),
        speaker=np.array([0]),
        gender=np.array([-1]),
        code=np.zeros((1, 2), np.float32),
        emotion_truth=np.array([-1]),
        dimensions_truth=np.full((1, 3), np.nan, np.float32),
        dimensions=np.array([[0.1, 0.5, 1]], np.float32),
    )
    write_predictions(tmp_path / "p.csv", predictions, lookup, [])
    header, row = (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()
    assert header.startswith("id,speaker,corpus,activation_truth,activation_prediction,valence_truth")
    assert row == '"Actor/3, é.wav",demo/03,demo,,0.10000000149011612,,0.5,,1.0'


def test_each_corpus_is_scored_by_itself_and_in_its_own_units(tmp_path: Path) -> None:
    given = outputs()
    corpus = given["target_corpus"] = (torch.arange(N) % 3 == 0).long() * 2  # nothing of the second corpus
    scales = {
        "reversed": dict.fromkeys(DIMENSIONS, Scale(1, 5, reversed=True)),
        "absent": dict.fromkeys(DIMENSIONS, Scale(0, 1)),
        "wide": dict.fromkeys(DIMENSIONS, Scale(1, 7)),
    }
    evaluation = Evaluation(CLASSES, collect=True, scales=scales)
    trainer(tmp_path, evaluation).test(Replay(given), verbose=False)
    scores = evaluation.scores("test")
    by_corpus = scores["corpora"]
    assert list(by_corpus) == ["reversed", "wide"]
    # What 0 and 1 on the common scale are in the corpus's units.
    for index, name, nothing, everything in ((0, "reversed", 5, 1), (2, "wide", 1, 7)):
        here = corpus == index
        of_corpus = by_corpus[name]
        assert of_corpus["utterances"] == here.sum()
        known = here & (given["target_emotion"] >= 0)
        truth, predicted = given["target_emotion"][known].numpy(), given["emotion"][known].argmax(1).numpy()
        recalls = [np.mean(predicted[truth == emotion] == emotion) for emotion in np.unique(truth)]
        assert of_corpus["uar"] == pytest.approx(np.mean(recalls))
        for column, dimension in enumerate(DIMENSIONS):
            known = here & ~given["target_dimensions"][:, column].isnan()
            units = [given[key][known, column].double().numpy() for key in ("target_dimensions", "dimensions")]
            truth, predicted = (nothing + (everything - nothing) * values for values in units)
            unit = of_corpus["own_units"][dimension]
            assert unit["rmse"] == pytest.approx(np.sqrt(np.mean((truth - predicted) ** 2)))
            assert unit["ccc"] == pytest.approx(lin(truth, predicted))
            assert unit["ccc"] == pytest.approx(of_corpus["ccc"][dimension])
        low, high = (1, 5) if name == "reversed" else (1, 7)
        assert (unit["low"], unit["high"], unit["reversed"]) == (low, high, name == "reversed")
    confusion = np.sum([by_corpus[name]["confusion"] for name in by_corpus], axis=0)
    assert confusion.tolist() == scores["confusion"]
    json.dumps(scores, allow_nan=False)


def lin(truth: NDArray[np.float64], prediction: NDArray[np.float64]) -> float:
    covariance = np.mean((truth - truth.mean()) * (prediction - prediction.mean()))
    return float(2 * covariance / (truth.var() + prediction.var() + (truth.mean() - prediction.mean()) ** 2))
