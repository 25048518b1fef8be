"""Whole pools, as tests look at them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.cells import Integers
from datamodules.pool import Pool


def rows(pool: Pool) -> Integers:
    """Rows of the collection of all utterances."""
    return pool.rows(np.arange(len(pool)))


def labels(pool: Pool) -> dict[str, NDArray[Any]]:
    """Labels of all utterances."""
    return pool.labels(np.arange(len(pool)))
