"""Figures, drawn by pure functions from arrays: no global state of matplotlib, nothing read but the arguments."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from callbacks.metrics import accuracy, uar
from datamodules.vocabulary import DIMENSIONS

# Okabe and Ito's colours, which colour-blind readers tell apart; its yellow is darkened to be seen on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#a89b00", "#000000")
_MARKERS = "os^D"
_UNKNOWN = "#c8c8c8"
_STYLE: Any = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "figure.dpi": 200,
    "savefig.dpi": 200,
}
_SCORES = {
    "dev/uar": "UAR",
    "dev/accuracy": "accuracy",
    "dev/ccc": "CCC, mean",
    **{f"dev/ccc/{name}": f"CCC, {name}" for name in DIMENSIONS},
}
_MOST_NAMES = 12
_MOST_POINTS = 5000

_Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
_P = ParamSpec("_P")


def _styled(draw: Callable[_P, Figure]) -> Callable[_P, Figure]:
    @wraps(draw)
    def drawn(*args: _P.args, **kwargs: _P.kwargs) -> Figure:
        with mpl.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return drawn


@_styled
def confusion_matrix(
    confusion: ArrayLike, classes: Sequence[str], *, title: str = "", synthetic: bool = False
) -> Figure:
    """Draw a confusion matrix: colour and the upper number are the share of the true class, below it the count.

    Args:
        confusion: (K, K) counts; rows are the truth.
        classes: K names.
        title: What was evaluated; UAR and accuracy are put behind it.
        synthetic: Say in the title that the speech is synthetic.

    Returns:
        The figure.
    """
    counts = np.asarray(confusion)
    matrix = torch.from_numpy(counts)
    support = counts.sum(axis=1)
    with np.errstate(invalid="ignore"):
        shares = counts / support[:, None]
    size = max(3.4, 1.6 + 0.58 * len(classes))
    figure = Figure(figsize=(size + 0.7, size), layout="constrained")
    axes = figure.subplots()
    axes.set_facecolor("#ededed")
    # A class without utterances has no shares: its row is grey and empty.
    image = axes.imshow(np.ma.masked_invalid(shares), cmap="Blues", vmin=0, vmax=1)
    for truth, prediction in np.argwhere(support[:, None] * np.ones_like(counts) > 0):
        share, count = shares[truth, prediction], counts[truth, prediction]
        colour = "white" if share > 0.65 else "black" if count else "#909090"
        axes.text(prediction, truth, f"{share:.2f}\n({count})", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(classes)), classes, rotation=35, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), [f"{name}\n(n = {n})" for name, n in zip(classes, support, strict=True)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("truth")
    scores = f"UAR {uar(matrix).item():.3f}, accuracy {accuracy(matrix).item():.3f}"
    axes.set_title(_title(f"{title}: {scores}" if title else scores, synthetic, separator="\n"))
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8, aspect=30)
    return figure


@_styled
def learning_curves(
    metrics: Mapping[str, NDArray[np.float64]], *, best_epoch: int | None = None, synthetic: bool = False
) -> Figure:
    """Draw the training losses and the development scores over the epochs.

    Args:
        metrics: Columns of metrics.csv, NaN where a row has no value (see ``callbacks.figures.read_metrics``):
            ``epoch``, the losses, which are all that is under ``train/``, and the scores that ``Evaluation`` logs.
        best_epoch: The epoch whose weights were kept is marked.
        synthetic: Say in the title that the speech is synthetic.

    Returns:
        The figure.
    """
    losses = {name: _by_epoch(metrics, name) for name in sorted(metrics) if name.startswith("train/")}
    losses = {name.removeprefix("train/"): curve for name, curve in losses.items() if curve[0].size}
    scores = {label: _by_epoch(metrics, name) for name, label in _SCORES.items() if name in metrics}
    # An evaluation after the training is logged too, under the epoch that would have come next.
    last = max((epochs[-1] for epochs, _ in losses.values()), default=np.inf)
    scores = {label: (epochs[epochs <= last], values[epochs <= last]) for label, (epochs, values) in scores.items()}

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, title, curves in ((left, "training losses", losses), (right, "development scores", scores)):
        _curves(axes, curves, best_epoch)
        axes.set_title(title)
    if losses and all((values > 0).all() for _, values in losses.values()):
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        left.yaxis.set_minor_formatter(NullFormatter())
    lowest = min((values.min() for _, values in scores.values() if values.size), default=0.0)
    right.set_ylim(min(0.0, lowest), 1)
    figure.suptitle(_title("Learning curves", synthetic), fontsize=11)
    return figure


@_styled
def gradients(
    metrics: Mapping[str, NDArray[np.float64]], *, best_epoch: int | None = None, synthetic: bool = False
) -> Figure:
    """Draw how each loss pulls at the encoder over the epochs, against the emotion tasks.

    Args:
        metrics: Columns of metrics.csv, of which ``gradients/<loss>/cosine`` and ``/ratio`` are drawn
            (``callbacks.interference``).
        best_epoch: The epoch whose weights were kept is marked.
        synthetic: Say in the title that the speech is synthetic.

    Returns:
        The figure.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes, what, title in (
        (left, "cosine", "cosine of the angle to the emotion tasks' gradient"),
        (right, "ratio", "norm by that of the emotion tasks' gradient"),
    ):
        names = {name.split("/")[1]: name for name in sorted(metrics) if re.fullmatch(rf"gradients/.+/{what}", name)}
        curves = {label: _by_epoch(metrics, name) for label, name in names.items()}
        _curves(axes, {label: curve for label, curve in curves.items() if curve[0].size}, best_epoch)
        axes.set_title(title)
    left.axhline(0, color="#606060", linewidth=0.9, zorder=0)
    left.set_ylim(-1, 1)
    right.set_yscale("log")
    right.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    right.yaxis.set_minor_formatter(NullFormatter())
    figure.suptitle(_title("Gradients of the losses in the encoder", synthetic), fontsize=11)
    return figure


@_styled
def latent_codes(
    codes: ArrayLike,
    groups: Mapping[str, tuple[NDArray[np.int64], Sequence[str]]],
    *,
    synthetic: bool = False,
) -> Figure:
    """Draw latent codes on their first two principal components, once for each way of colouring them.

    Args:
        codes: (N, Z); at most 5000 of them, drawn evenly, are shown.
        groups: Title of a panel -> group of each code (N,), -1 where it is not known, and the names of the groups.
        synthetic: Say in the title that the speech is synthetic.

    Returns:
        The figure. Up to twelve groups are named in a panel's legend.
    """
    code = np.asarray(codes, dtype=np.float64)
    # Shuffled, so that no group lies on top of the others only because it comes last.
    shown = np.random.default_rng(0).permutation(len(code))[:_MOST_POINTS]
    points, explained = principal_components(code[shown])
    figure = Figure(figsize=(3.6 * len(groups), 4.5), layout="constrained")
    for axes, (title, (index, names)) in zip(
        figure.subplots(1, len(groups), squeeze=False)[0], groups.items(), strict=True
    ):
        _scatter(axes, points, np.asarray(index)[shown], names)
        axes.set_title(f"by {title}")
        axes.set_xlabel(f"first component ({explained[0]:.0%} of variance)")
        axes.set_ylabel(f"second ({explained[1]:.0%})")
    figure.suptitle(_title(f"Latent codes of {len(code)} utterances", synthetic), fontsize=11)
    return figure


@_styled
def reconstructions(
    originals: Iterable[NDArray[Any]],
    reconstructed: Iterable[NDArray[Any]],
    *,
    seconds_per_frame: float = 0.01,
    names: Sequence[str] = (),
    synthetic: bool = False,
) -> Figure:
    """Draw log-mels in the upper row and their reconstructions in the lower one, on one colour scale.

    Args:
        originals: N images (mels, frames) of their own lengths, or an array (N, mels, frames).
        reconstructed: The same shapes.
        seconds_per_frame: Hop of the log-mels.
        names: N titles.
        synthetic: Say in the title that the speech is synthetic.

    Returns:
        The figure.
    """
    pairs = list(zip(originals, reconstructed, strict=True))
    # The loudest and softest 0.5 % would take the contrast from the rest.
    low, high = np.percentile(np.concatenate([np.ravel(image) for image, _ in pairs]), (0.5, 99.5))
    figure = Figure(figsize=(2.5 * len(pairs) + 1, 4.2), layout="constrained")
    grid = figure.subplots(2, len(pairs), sharey=True, squeeze=False, sharex="col")
    for column, pair in enumerate(pairs):
        for axes, image in zip(grid[:, column], pair, strict=True):
            mels, frames = image.shape
            extent = (0, frames * seconds_per_frame, 0, mels)
            drawn = axes.imshow(
                image,
                origin="lower",
                aspect="auto",
                cmap="magma",
                vmin=low,
                vmax=high,
                extent=extent,
                interpolation="none",
            )
        if names:
            grid[0, column].set_title(names[column], fontsize=9)
        grid[1, column].set_xlabel("time / s")
    grid[0, 0].set_ylabel("original\nmel band")
    grid[1, 0].set_ylabel("reconstruction\nmel band")
    figure.colorbar(drawn, ax=grid, label="log-mel", aspect=35, pad=0.01)
    figure.suptitle(_title("Originals and reconstructions", synthetic), fontsize=11)
    return figure


def principal_components(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project on the two directions of largest variance, by singular value decomposition.

    The sign of a component, which the decomposition leaves open, makes its largest loading positive.

    Args:
        values: (N, Z).

    Returns:
        The points (N, 2), and the share of the variance that each of the two explains, in [0, 1]. What is missing when
        N or Z is less than 2 is 0.
    """
    centred = values - values.mean(axis=0)
    _, spread, directions = np.linalg.svd(centred, full_matrices=False)
    directions = directions[:2]
    largest = np.abs(directions).argmax(axis=1)
    directions = directions * np.where(directions[range(len(directions)), largest] < 0, -1, 1)[:, None]
    points = np.zeros((len(values), 2))
    explained = np.zeros(2)
    points[:, : len(directions)] = centred @ directions.T
    explained[: len(directions)] = spread[:2] ** 2 / max((spread**2).sum(), np.finfo(float).tiny)
    return points, explained


def _scatter(axes: Axes, points: NDArray[np.float64], index: NDArray[np.int64], names: Sequence[str]) -> None:
    size = 14 if len(points) < 1000 else 6
    present = [group for group in range(len(names)) if (index == group).any()]

    def dots(group: NDArray[np.bool_], **appearance: Any) -> None:
        axes.scatter(points[group, 0], points[group, 1], s=size, linewidths=0, **appearance)

    if len(present) > _MOST_NAMES:
        # Too many to name: the colours only show whether a group keeps together.
        rank = np.searchsorted(present, index[index >= 0])
        dots(index >= 0, c=rank, cmap="viridis", alpha=0.7, label=f"{len(present)} groups")
    else:
        for order, group in enumerate(present):
            colour, marker = COLOURS[order % len(COLOURS)], _MARKERS[order // len(COLOURS)]
            dots(index == group, color=colour, marker=marker, alpha=0.7, label=names[group])
    if (index < 0).any():
        dots(index < 0, color=_UNKNOWN, zorder=0, label="unknown")
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=3, handletextpad=0.1, columnspacing=1, markerscale=1.3
    )
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)


def _by_epoch(metrics: Mapping[str, NDArray[np.float64]], name: str) -> _Curve:
    """Return the epochs that have values of a metric, and the mean of each."""
    known = np.isfinite(metrics[name]) & np.isfinite(metrics["epoch"])
    epochs, inverse = np.unique(metrics["epoch"][known], return_inverse=True)
    return epochs, np.bincount(inverse, weights=metrics[name][known]) / np.bincount(inverse)


def _curves(axes: Axes, curves: Mapping[str, _Curve], best_epoch: int | None) -> None:
    for i, (label, (epochs, values)) in enumerate(curves.items()):
        colour = COLOURS[i % len(COLOURS)]
        marker = "o" if len(epochs) == 1 else None
        style = ("-", "--", ":")[i // len(COLOURS) % 3]
        axes.plot(epochs, values, style, color=colour, label=label, linewidth=1.4, marker=marker, markersize=4)
        axes.plot(epochs[epochs == best_epoch], values[epochs == best_epoch], "o", color=colour, markersize=4)
    if best_epoch is not None:
        label = f"best epoch: {best_epoch}"
        axes.axvline(best_epoch, color="#606060", linewidth=0.9, linestyle=":", zorder=0, label=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), handlelength=1.6)


def _title(text: str, synthetic: bool, separator: str = " – ") -> str:
    return f"{text}{separator}synthetic speech" if synthetic else text
