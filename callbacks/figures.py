"""The figures of a run, written once after its final evaluation."""

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch.loggers import Logger, WandbLogger
from matplotlib.figure import Figure
from numpy.typing import NDArray

from callbacks import plots
from callbacks.evaluation import Lookup, Predictions
from callbacks.metrics import confusion_matrix


def write_figures(
    folder: Path,
    *,
    predictions: dict[str, Predictions],
    classes: Sequence[str],
    lookup: Lookup,
    metrics_csv: Path | None = None,
    best_epoch: int | None = None,
    reconstructions: tuple[Iterable[NDArray[Any]], Iterable[NDArray[Any]]] | None = None,
    seconds_per_frame: float = 0.01,
    synthetic: bool = False,
    loggers: Sequence[Logger] = (),
) -> list[Path]:
    """Draw what a run can show, write it as PNG, and send it to Weights & Biases where that is a logger.

    ``confusion_<split>.png`` of each split where there are an emotion head and labels, ``latent_codes.png`` (all splits
    together), ``learning_curves.png``, ``gradients.png`` (where they were compared) and
    ``reconstructions.png``. To be called on one process.

    Args:
        folder: Where to write; it is made.
        predictions: Of each split, "dev" and "test" (``Evaluation.predictions``).
        classes: Names of the emotion classes in the order of their indices.
        lookup: Gives the speaker and corpus of rows.
        metrics_csv: What Lightning's ``CSVLogger`` wrote; without it there are no learning curves.
        best_epoch: The epoch whose weights were kept.
        reconstructions: Log-mels (mels, frames) of some utterances, and what the decoder made of them; None without it.
        seconds_per_frame: Hop of the log-mels.
        synthetic: The speech is synthetic, and every title says so.
        loggers: Those of the trainer.

    Returns:
        The files.
    """
    figures: dict[str, Figure] = {}
    for split, of_split in predictions.items():
        confusion = _confusion(of_split, len(classes))
        if confusion is not None and confusion.any():
            figures[f"confusion_{split}"] = plots.confusion_matrix(confusion, classes, title=split, synthetic=synthetic)
    if predictions:
        figures["latent_codes"] = plots.latent_codes(
            np.concatenate([of_split.code for of_split in predictions.values()]),
            _groups(list(predictions.values()), classes, lookup),
            synthetic=synthetic,
        )
    if metrics_csv is not None:
        metrics = read_metrics(metrics_csv)
        figures["learning_curves"] = plots.learning_curves(metrics, best_epoch=best_epoch, synthetic=synthetic)
        if any(name.startswith("gradients/") for name in metrics):
            figures["gradients"] = plots.gradients(metrics, best_epoch=best_epoch, synthetic=synthetic)
    if reconstructions is not None:
        figures["reconstructions"] = plots.reconstructions(
            *reconstructions, seconds_per_frame=seconds_per_frame, synthetic=synthetic
        )

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1])
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            for path in paths:
                logger.log_image(f"figures/{path.stem}", [str(path)])
    return paths


def read_metrics(path: Path) -> dict[str, NDArray[np.float64]]:
    """Read metrics.csv, where Lightning's ``CSVLogger`` fills in each row only what was logged together.

    Args:
        path: The CSV file.

    Returns:
        Column -> one float a row, NaN for an empty cell.
    """
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns = rows[0] if rows else ()
    return {name: np.array([float(row[name]) if row[name] else math.nan for row in rows]) for name in columns}


def _confusion(predictions: Predictions, classes: int) -> NDArray[np.int64] | None:
    if predictions.probabilities is None:
        return None
    predicted = torch.from_numpy(predictions.probabilities.argmax(axis=1))
    return confusion_matrix(predicted, torch.from_numpy(predictions.emotion_truth), classes).numpy()


def _groups(
    predictions: Sequence[Predictions], classes: Sequence[str], lookup: Lookup
) -> dict[str, tuple[NDArray[np.int64], Sequence[str]]]:
    """Return the ways to colour the codes: title -> index of each utterance's group, and the names of the groups."""
    groups: dict[str, tuple[NDArray[np.int64], Sequence[str]]] = {}
    groups["emotion"] = np.concatenate([of_split.emotion_truth for of_split in predictions]), classes
    columns = lookup(np.concatenate([of_split.row for of_split in predictions]))
    for title in ("speaker", "corpus"):
        names = sorted({name for name in columns[title] if name is not None})
        index = {name: i for i, name in enumerate(names)}
        groups[title] = np.array([-1 if name is None else index[name] for name in columns[title]]), names
    return groups
