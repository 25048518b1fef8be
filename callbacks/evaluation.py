"""Scores of a whole development or test pass, and the predictions behind them."""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from callbacks.metrics import (
    ConcordanceCorrelation,
    ConfusionMatrix,
    accuracy,
    concordance,
    confusion_matrix,
    moments,
    recall,
    uar,
)
from datamodules.corpora.base import Scale
from datamodules.errors import InputError
from datamodules.vocabulary import DIMENSIONS

Lookup = Callable[[NDArray[np.int64]], Mapping[str, Sequence[str | None]]]
"""From the rows of N utterances to their columns ``id`` (path), ``speaker`` and ``corpus``, N values each."""


@dataclass(frozen=True)
class Predictions:
    """What the model said about N utterances, in the order of their rows, each utterance once.

    Attributes:
        row: Row in the manifest, (N,) int64.
        corpus: Index of the corpus, (N,) int64.
        speaker: Index of the speaker, (N,) int64, -1 where it is not known.
        gender: 0 female, 1 male, -1 not known, (N,) int64.
        code: Latent code z, (N, Z) float32.
        emotion_truth: Index of the true class, (N,) int64, -1 where it is not known.
        dimensions_truth: Activation, valence and dominance, (N, 3) float32, NaN where they are not known.
        probabilities: Of each class, (N, K) float32; None without that head.
        dimensions: Predicted activation, valence and dominance, (N, 3) float32; None without that head.
    """

    row: NDArray[np.int64]
    corpus: NDArray[np.int64]
    speaker: NDArray[np.int64]
    gender: NDArray[np.int64]
    code: NDArray[np.float32]
    emotion_truth: NDArray[np.int64]
    dimensions_truth: NDArray[np.float32]
    probabilities: NDArray[np.float32] | None = None
    dimensions: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.row)

    def at(self, chosen: NDArray[np.bool_]) -> "Predictions":
        """Those of some utterances, of which (N,) tells."""
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        kept: dict[str, Any] = {name: None if value is None else value[chosen] for name, value in values.items()}
        return Predictions(**kept)


# Field of Predictions -> key in what validation_step and test_step return.
_OUTPUTS = {
    "row": "row",
    "corpus": "target_corpus",
    "speaker": "target_speaker",
    "gender": "target_gender",
    "code": "code",
    "emotion_truth": "target_emotion",
    "dimensions_truth": "target_dimensions",
    "probabilities": "emotion",
    "dimensions": "dimensions",
}


class Evaluation(pl.Callback):
    """Score each development and test pass as a whole, whatever the batch size and the number of processes.

    It consumes what ``validation_step`` and ``test_step`` return: a dict of tensors ``row`` (B,), ``valid`` (B,) bool
    (False for padding), ``code`` (B, Z), ``target_emotion``, ``target_speaker``, ``target_gender``, ``target_corpus``
    (B,), ``target_dimensions`` (B, 3) and, where the model has that head, ``emotion`` (B, K) probabilities and
    ``dimensions`` (B, 3). All processes must be given equally many batches.

    At the end of a pass it logs ``dev/uar``, ``dev/accuracy``, ``dev/recall/<class>``, ``dev/ccc/<dimension>`` and
    ``dev/ccc`` (the mean over the dimensions), as far as there are heads and labels for them; of a test pass
    ``test/...``.

    Args:
        classes: Names of the emotion classes in the order of their indices; empty without that head.
        collect: Keep the predictions of the pass too, for the final passes: memory grows with the utterances.
        scales: Corpora in the order of their indices, each with the scales of its dimensions; with these and
            ``collect``, each corpus is scored by itself too.

    Attributes:
        predictions: Of the last pass with ``collect``, by split: "dev" and "test".
    """

    def __init__(
        self,
        classes: Sequence[str],
        collect: bool = False,
        scales: Mapping[str, Mapping[str, Scale]] | None = None,
    ) -> None:
        self.classes = list(classes)
        self.collect = collect
        self.scales = scales or {}
        self.predictions: dict[str, Predictions] = {}
        self._scores: dict[str, dict[str, Any]] = {}
        self._confusion = ConfusionMatrix(len(self.classes))
        self._concordance = ConcordanceCorrelation(len(DIMENSIONS))
        self._outputs: list[dict[str, NDArray[Any]]] = []

    def scores(self, split: str) -> dict[str, Any]:
        """Return the scores of the last pass, ready for JSON.

        Args:
            split: "dev" or "test".

        Returns:
            ``uar``, ``accuracy``, ``recall`` (class -> recall, None for a class without utterances), ``confusion`` (K
            lists of K counts, rows are the truth) and ``ccc`` (dimension -> coefficient, None without truths); only
            what there are a head and labels for. Of a pass with predictions also ``corpora``, see ``score_by_corpus``.

        Raises:
            KeyError: That split was not evaluated.
        """
        if split not in self._scores:
            raise KeyError(f"{split!r} was not evaluated; there are scores of: {', '.join(self._scores) or 'nothing'}")
        return self._scores[split]

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the last pass."""
        self._start(pl_module)

    def on_test_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the last pass."""
        self._start(pl_module)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in a batch."""
        self._update(outputs)

    def on_test_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Take in a batch."""
        self._update(outputs)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute and log the scores of the pass."""
        self._finish(pl_module, "dev")

    def on_test_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compute and log the scores of the pass."""
        self._finish(pl_module, "test")

    def _start(self, pl_module: pl.LightningModule) -> None:
        # MPS has no float64; the processes that exchange states with NCCL need them on their device.
        device = torch.device("cpu") if pl_module.device.type == "mps" else pl_module.device
        for metric in (self._confusion, self._concordance):
            metric.reset()
            metric.to(device)
        self._outputs = []

    def _update(self, outputs: Mapping[str, Tensor]) -> None:
        device = self._confusion.device
        valid = outputs["valid"].to(device)
        if "emotion" in outputs:
            probabilities = _finite("emotion", outputs["emotion"].to(device), valid)
            self._confusion.update(probabilities.argmax(dim=1), outputs["target_emotion"].to(device), valid)
        if "dimensions" in outputs:
            dimensions = _finite("dimensions", outputs["dimensions"].to(device), valid)
            self._concordance.update(dimensions, outputs["target_dimensions"].to(device), valid)
        if self.collect:
            kept = {field: outputs[key][outputs["valid"]] for field, key in _OUTPUTS.items() if key in outputs}
            self._outputs.append({field: _to_numpy(values) for field, values in kept.items()})

    def _finish(self, pl_module: pl.LightningModule, split: str) -> None:
        confusion = self._confusion.compute().cpu() if self._confusion.update_called else None
        concordance = self._concordance.compute().cpu() if self._concordance.update_called else None
        self._scores[split] = _scores(self.classes, confusion, concordance)
        for name, value in _flatten(self._scores[split]).items():
            # Every rank has the same value already: "max" leaves it as it is, a mean could round it.
            pl_module.log(f"{split}/{name}", value, on_step=False, on_epoch=True, sync_dist=True, reduce_fx="max")
        if self.collect:
            self.predictions[split] = _pool(self._outputs)
            self._outputs = []
            if self.scales:
                self._scores[split]["corpora"] = score_by_corpus(self.predictions[split], self.classes, self.scales)


def score_predictions(predictions: Predictions, classes: Sequence[str]) -> dict[str, Any]:
    """Score predictions, whatever made them.

    Args:
        predictions: Of one pass.
        classes: Names of the emotion classes in the order of their indices.

    Returns:
        As of ``Evaluation.scores``, without ``corpora``.
    """
    confusion = concordances = None
    if predictions.probabilities is not None:
        predicted = torch.from_numpy(predictions.probabilities.argmax(axis=1))
        confusion = confusion_matrix(predicted, torch.from_numpy(predictions.emotion_truth), len(classes))
    if predictions.dimensions is not None:
        truth = torch.from_numpy(predictions.dimensions_truth)
        concordances = concordance(moments(torch.from_numpy(predictions.dimensions), truth))
    return _scores(classes, confusion, concordances)


def score_by_corpus(
    predictions: Predictions, classes: Sequence[str], scales: Mapping[str, Mapping[str, Scale]]
) -> dict[str, Any]:
    """Score the utterances of each corpus by themselves, dimensions also in the corpus's own units.

    Within one corpus both units give the same CCC, which no change of scale moves; where corpora of different scales
    are pooled, only the common scale gives a CCC at all.

    Args:
        predictions: Of one pass.
        classes: Names of the emotion classes in the order of their indices.
        scales: Corpora in the order of their indices, each with the scale of every dimension.

    Returns:
        For each corpus that has utterances ``utterances``, the scores as of ``Evaluation.scores``, and ``own_units``:
        of each rated dimension ``low``, ``high`` and ``reversed`` of its scale, and in its units ``ccc`` and ``rmse``.
    """
    scores: dict[str, Any] = {}
    for index, (corpus, of_corpus) in enumerate(scales.items()):
        here = predictions.at(predictions.corpus == index)
        if not len(here):
            continue
        own_units: dict[str, Any] = {}
        if here.dimensions is not None:
            for column, name in enumerate(DIMENSIONS):
                truth, predicted = here.dimensions_truth[:, column], here.dimensions[:, column]
                known = np.isfinite(truth)
                if known.any():
                    own_units[name] = _in_own_units(truth[known], predicted[known], of_corpus[name])
        scores[corpus] = {"utterances": len(here), **score_predictions(here, classes)}
        if own_units:
            scores[corpus]["own_units"] = own_units
    return scores


def _in_own_units(truth: NDArray[np.float32], prediction: NDArray[np.float32], scale: Scale) -> dict[str, Any]:
    own_truth, own_prediction = (scale.from_unit(values.astype(np.float64)) for values in (truth, prediction))
    columns = (torch.from_numpy(values)[:, None] for values in (own_prediction, own_truth))
    return {
        "low": scale.low,
        "high": scale.high,
        "reversed": scale.reversed,
        "ccc": concordance(moments(*columns)).item(),
        "rmse": float(np.sqrt(np.mean((own_prediction - own_truth) ** 2))),
    }


def write_predictions(path: Path, predictions: Predictions, lookup: Lookup, classes: Sequence[str]) -> None:
    """Write one CSV row an utterance: ``id``, ``speaker``, ``corpus``, and what there are heads for.

    With an emotion head: ``truth``, ``prediction`` and ``probability_<class>`` for each class; with a dimension head
    ``<dimension>_truth`` and ``<dimension>_prediction`` for each dimension. Numbers are written so that reading them
    gives the same numbers; what is not known is an empty cell.

    Args:
        path: The CSV file.
        predictions: The utterances.
        lookup: Gives the id, speaker and corpus of rows.
        classes: Names of the emotion classes in the order of their indices.
    """
    columns: dict[str, Sequence[object]] = {}
    names = lookup(predictions.row)
    for column in ("id", "speaker", "corpus"):
        columns[column] = names[column]
    if predictions.probabilities is not None:
        columns["truth"] = [classes[i] if i >= 0 else None for i in predictions.emotion_truth]
        columns["prediction"] = [classes[i] for i in predictions.probabilities.argmax(axis=1)]
        for name, probability in zip(classes, predictions.probabilities.T, strict=True):
            columns[f"probability_{name}"] = probability.tolist()
    if predictions.dimensions is not None:
        for i, name in enumerate(DIMENSIONS):
            truth = predictions.dimensions_truth[:, i].tolist()
            columns[f"{name}_truth"] = [None if math.isnan(value) else value for value in truth]
            columns[f"{name}_prediction"] = predictions.dimensions[:, i].tolist()
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _finite(head: str, values: Tensor, valid: Tensor) -> Tensor:
    # The largest of NaNs is some class: a model that broke down would go unnoticed.
    if not values[valid].isfinite().all():
        raise InputError(f"training diverged: the head {head} predicts NaN or infinity", "Lower the learning rate.")
    return values


def _scores(classes: Sequence[str], confusion: Tensor | None, concordance: Tensor | None) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    if confusion is not None and confusion.sum() > 0:
        recalls = [None if math.isnan(value) else value for value in recall(confusion).tolist()]
        scores["uar"] = uar(confusion).item()
        scores["accuracy"] = accuracy(confusion).item()
        scores["recall"] = dict(zip(classes, recalls, strict=True))
        scores["confusion"] = confusion.tolist()
    if concordance is not None and not concordance.isnan().all():
        coefficients = [None if math.isnan(value) else value for value in concordance.tolist()]
        scores["ccc"] = dict(zip(DIMENSIONS, coefficients, strict=True))
    return scores


def _flatten(scores: Mapping[str, Any]) -> dict[str, float]:
    """Return the scores that are numbers, under the names that they are logged with."""
    flat: dict[str, float] = {name: scores[name] for name in ("uar", "accuracy") if name in scores}
    for group in ("recall", "ccc"):
        known = {name: value for name, value in scores.get(group, {}).items() if value is not None}
        flat |= {f"{group}/{name}": value for name, value in known.items()}
        if group == "ccc" and known:
            flat["ccc"] = sum(known.values()) / len(known)
    return flat


def _to_numpy(values: Tensor) -> NDArray[Any]:
    # numpy has no bfloat16, which mixed precision may leave in the code.
    return (values.float() if values.is_floating_point() else values).cpu().numpy()


def _pool(batches: list[dict[str, NDArray[Any]]]) -> Predictions:
    """Gather the batches of all processes, and sort them by row."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        gathered: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, batches)
        batches = [batch for rank in gathered for batch in rank]
    pooled = {field: np.concatenate([batch[field] for batch in batches]) for field in batches[0]}
    order = np.argsort(pooled["row"], kind="stable")
    rows = pooled["row"][order]
    if (twice := rows[1:][rows[1:] == rows[:-1]]).size:
        raise RuntimeError(f"row {twice[0]} was evaluated twice: padding must be marked as not valid")
    return Predictions(**{field: values[order] for field, values in pooled.items()})
