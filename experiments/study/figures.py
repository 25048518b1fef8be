"""The plots of a study's report: drawn from numbers that are handed in, as SVG that takes the page's colours."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Of Okabe and Ito's colours, which colour-blind readers tell apart, those that are seen on white and on black.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_MARKERS = "os^Dvp"
_INK = "#010203"
"""Stands for the page's colour of text, which is light on a dark page."""
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 10.5,
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: small, and found by a search
    "svg.hashsalt": "study",
    "text.parse_math": False,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}
_WIDTH = 5.2


@dataclass(frozen=True)
class Estimate:
    """A score and how sure it is.

    Attributes:
        value: The score, the mean over seeds.
        low: Lower end of its interval.
        high: Upper end.
        seeds: The score of each seed.
    """

    value: float
    low: float
    high: float
    seeds: tuple[float, ...]


Line = tuple[str, Sequence[Estimate | None]]
"""Label of a system, and its scores; none where there is none yet."""


def forest(systems: Sequence[Line], kinds: Sequence[str], axis: str, reference: float | None = None) -> Figure:
    """Draw a score of each system with its interval and its seeds, below each other on one scale.

    Args:
        systems: Each with its score of each kind.
        kinds: What the scores of a system are; a legend names them where there are several.
        axis: What the score is.
        reference: A score that a dashed line marks, to compare the others with.

    Returns:
        The figure. A system's label stands above its interval, so that the figure stays narrow.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.8 + 0.25 * (len(kinds) > 1) + 0.52 * len(systems)), layout="constrained")
        axes = figure.subplots()
        for row, (label, estimates) in enumerate(systems):
            axes.annotate(label, (0, row), (0, 9), xycoords=("axes fraction", "data"), textcoords="offset points")
            for kind, estimate in enumerate(estimates):
                if estimate is not None:
                    _draw(axes, estimate, row + 0.16 * kind, kind, upright=False)
        if reference is not None:
            axes.axvline(reference, color=_INK, linewidth=1, linestyle=(0, (4, 4)), alpha=0.6, zorder=0)
        if len(kinds) > 1:
            _legend(figure, axes, kinds, columns=len(kinds), line="")
        axes.set_ylim(len(systems) - 0.6, -0.85)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color="#808080", alpha=0.3, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(axis)
        return figure


def curves(systems: Sequence[Line], points: Sequence[str], quantity: str, axis: str) -> Figure:
    """Draw scores along a quantity, a line each system, with their intervals and seeds.

    Args:
        systems: Each with its score at each point.
        points: The quantity at each point; they are drawn at equal distances, for quantities often double.
        quantity: Name of the horizontal axis.
        axis: What the score is.

    Returns:
        The figure.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.6 + 0.2 * len(systems)), layout="constrained")
        axes = figure.subplots()
        for kind, (_, estimates) in enumerate(systems):
            # Beside each other, for intervals at one place would hide each other.
            places = np.arange(len(points)) + 0.09 * (kind - (len(systems) - 1) / 2)
            values = [np.nan if estimate is None else estimate.value for estimate in estimates]
            axes.plot(places, values, color=_colour(kind), linewidth=1.5)
            for place, estimate in zip(places, estimates, strict=True):
                if estimate is not None:
                    _draw(axes, estimate, place, kind, upright=True)
        _legend(figure, axes, [label for label, _ in systems], columns=1, line="-")
        axes.set_xticks(range(len(points)), points)
        axes.set_xlim(-0.4, len(points) - 0.6)
        axes.grid(axis="y", color="#808080", alpha=0.3, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(quantity)
        axes.set_ylabel(axis)
        return figure


def svg(figure: Figure, name: str, alt: str) -> str:
    """Write a figure as SVG to be put into a page.

    Args:
        figure: It; its text and axes take the colour of the text around them.
        name: What its ids begin with, for they have to be unique in the page.
        alt: What it shows, for those who do not see it.

    Returns:
        The element ``svg``, without a background.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context(_STYLE):
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{name}-", text)
    text = re.sub(r"\s*\n\s*", " ", text)
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)


def _draw(axes: Axes, estimate: Estimate, place: float, kind: int, *, upright: bool) -> None:
    """The interval as a line, the mean as a full marker, and the seeds as rings."""
    colour, marker = _colour(kind), _MARKERS[kind % len(_MARKERS)]

    def at(*values: float) -> tuple[list[float], list[float]]:
        places = [place] * len(values)
        return (places, list(values)) if upright else (list(values), places)

    axes.plot(*at(estimate.low, estimate.high), color=colour, linewidth=1.8, marker="_|"[not upright], markersize=7)
    if len(estimate.seeds) > 1:
        axes.plot(*at(*estimate.seeds), "o", color=colour, markersize=6, fillstyle="none")
    axes.plot(*at(estimate.value), marker, color=colour, markersize=6.5)


def _legend(figure: Figure, axes: Axes, names: Sequence[str], columns: int, line: str) -> None:
    handles = [
        axes.plot([], [], line, marker=_MARKERS[kind % len(_MARKERS)], color=_colour(kind))[0]
        for kind in range(len(names))
    ]
    figure.legend(handles, names, loc="outside lower center", ncols=columns)


def _colour(kind: int) -> str:
    return _COLOURS[kind % len(_COLOURS)]
