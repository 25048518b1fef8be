"""What a model says of one recording: as a whole, and over time."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.errors import InputError
from experiments.predict.inputs import Stretch, stretches
from experiments.predict.recogniser import WINDOW_S, Recogniser, Recognition, Row

MOST_WINDOWS = 600
"""Over time; a curve of more cannot be seen, and windows of what is longer are farther apart."""


@dataclass(frozen=True)
class Heard:
    """A recording, and what a model says of it.

    Attributes:
        seconds: Its length.
        whole: Of all of it: what ``make predict`` writes, or, where that cuts a long recording, the mean of its rows.
        windows: Over time; those without speech have no ``found``.
    """

    seconds: float
    whole: Recognition
    windows: list[Row]


def listen(
    recogniser: Recogniser,
    path: Path,
    window_s: float,
    hop_s: float,
    progress: Callable[[float], object] = lambda share: None,
) -> Heard:
    """Listens to a recording.

    Args:
        recogniser: The model.
        path: A file in any format that libsndfile reads.
        window_s: Length of the windows over time, in seconds; a shorter recording is one window.
        hop_s: From the beginning of a window to that of the next one, at least.
        progress: Called with the share of the work that is done.

    Raises:
        InputError: The file cannot be read, or there is no speech in it.
    """
    cut = _stretches(path, WINDOW_S, WINDOW_S / 2)
    seconds = (cut[-1].end or 0) - cut[0].start
    sparse_s = (seconds - window_s) / (MOST_WINDOWS - 1) * (1 + 1e-9)  # or rounding would add one
    over_time = _stretches(path, window_s, max(hop_s, sparse_s))
    rows: list[Row] = []
    # One after the other: both are read from the beginning to the end.
    for wanted in (cut, over_time):
        for some in recogniser.rows(wanted):
            rows += some
            progress(len(rows) / (len(cut) + len(over_time)))
    found = [row.found for row in rows[: len(cut)] if row.found is not None]
    if not found:
        raise InputError(f"{path.name}: {rows[0].error}", "Give another recording.")
    return Heard(seconds, _mean(found), rows[len(cut) :])


def _stretches(path: Path, window_s: float, hop_s: float) -> list[Stretch]:
    (found,) = stretches(path.parent, [(path.name, 0.0, None)], window_s, hop_s)
    return list(found)


def _mean(found: Sequence[Recognition]) -> Recognition:
    if len(found) == 1:
        return found[0]

    def mean(rows: list[dict[str, float]]) -> dict[str, float]:
        return {name: math.fsum(row[name] for row in rows) / len(rows) for name in rows[0]}

    return Recognition(
        mean([one.probabilities for one in found]),
        mean([one.dimensions for one in found]),
        math.fsum(one.novelty for one in found) / len(found),
        np.mean([one.code for one in found], axis=0, dtype=np.float32),
    )
