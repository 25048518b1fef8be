"""The figure of a search, drawn from numbers that are handed in."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 150,
}
_MARKERS = {"complete": "o", "stopped": "x", "failed": "s", "running": "_"}


@dataclass(frozen=True)
class Axis:
    """A parameter: its name, and its first and last value."""

    name: str
    low: str
    high: str


@dataclass(frozen=True)
class Line:
    """A trial.

    Attributes:
        number: Its number.
        state: How it ended.
        objective: Its score.
        places: Where it lies on each axis, from 0 to 1.
    """

    number: int
    state: str
    objective: float
    places: Sequence[float]


def draw(metric: str, trials: Sequence[Line], axes: Sequence[Axis]) -> Figure:
    """Draw the objective over the trials and, a line a trial, over the parameters.

    Args:
        metric: What the objective is.
        trials: Those with a score, by number.
        axes: The parameters, in the order of the trials' places.

    Returns:
        The figure.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6 + 0.9 * len(axes), 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(3.2, 1.6 + 0.9 * len(axes)))
        _over_trials(left, metric, trials)
        _over_parameters(right, metric, trials, axes)
        return figure


def _over_trials(axes: Axes, metric: str, trials: Sequence[Line]) -> None:
    for state, marker in _MARKERS.items():
        of_state = [one for one in trials if one.state == state]
        if of_state:
            numbers, scores = [one.number for one in of_state], [one.objective for one in of_state]
            axes.plot(numbers, scores, marker, color="#0072b2" if state == "complete" else "0.5", label=state)
            if state == "complete":
                best = np.maximum.accumulate(scores)
                axes.plot(numbers, best, drawstyle="steps-post", color="#d55e00", label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("trial")
    axes.set_ylabel(metric)
    if trials:
        axes.legend()


def _over_parameters(axes: Axes, metric: str, trials: Sequence[Line], parameters: Sequence[Axis]) -> None:
    scores = [one.objective for one in trials] or [0.0, 1.0]
    norm = Normalize(min(scores), max(scores) if max(scores) > min(scores) else min(scores) + 1)
    places = range(len(parameters) + 1)
    # The best are drawn last, and seen.
    for one in sorted(trials, key=lambda trial: trial.objective):
        along = [*one.places, float(norm(one.objective))]
        dashed = (0, (2, 2)) if one.state != "complete" else "-"
        colour = colormaps["viridis"](float(norm(one.objective)))
        axes.plot(places, along, color=colour, linestyle=dashed, linewidth=1.5)
    named = [*parameters, Axis(metric, f"{norm.vmin:.3f}", f"{norm.vmax:.3f}")]
    for place, axis in zip(places, named, strict=True):
        axes.axvline(place, color="0.7", linewidth=0.8, zorder=0)
        axes.annotate(axis.low, (place, 0), (0, -3), textcoords="offset points", ha="center", va="top")
        axes.annotate(axis.high, (place, 1), (0, 3), textcoords="offset points", ha="center", va="bottom")
    axes.set_ylim(-0.08, 1.08)
    axes.set_yticks([])
    axes.set_xticks(places, [_short(axis.name) for axis in named], rotation=30, ha="right")
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(axis="x", length=0)


def _short(name: str) -> str:
    """The end of a setting's name: two words of it."""
    *above, last = name.split(".")
    return ".".join([*[word for word in above if not word.isdecimal()][-1:], last])
