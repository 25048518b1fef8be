"""Options that readers of the user's own corpora share, and their checks."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from datamodules.corpora.base import Scale
from datamodules.errors import InputError
from datamodules.vocabulary import DIMENSIONS


def check_name(corpus: str) -> None:
    """Checks a corpus name of the user's own: it becomes part of file names and of speaker ids."""
    if not re.fullmatch(r"\w[\w.-]*", corpus):
        raise InputError(f"corpus = '{corpus}' is not a name", "use letters, digits, '_', '-' and '.'")


def check_columns(corpus: str, columns: Mapping[str, str], known: Iterable[str]) -> None:
    """Checks that columns are given for what is read, by our names."""
    for key in columns:
        if key not in known:
            raise InputError(f"{corpus}: columns names '{key}'", f"possible keys: {', '.join(known)}")


def check_ranges(corpus: str, ranges: Mapping[str, Sequence[float]]) -> None:
    """Checks lowest and highest ratings, by dimension."""
    for dimension, bounds in ranges.items():
        if dimension not in DIMENSIONS:
            raise InputError(f"{corpus}: ranges names '{dimension}'", f"possible keys: {', '.join(DIMENSIONS)}")
        if len(bounds) != 2 or not np.isfinite(list(bounds)).all() or bounds[0] == bounds[1]:
            raise InputError(
                f"{corpus}: ranges.{dimension} = {list(bounds)} is no range", "give two numbers, as in [1, 5]"
            )


def scale_of(bounds: Sequence[float]) -> Scale:
    """The scale of a range, which is written highest first when it is reversed."""
    low, high = bounds
    return Scale(min(low, high), max(low, high), reversed=low > high)
