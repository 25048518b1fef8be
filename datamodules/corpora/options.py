"""Options that readers of the user's own corpora share, and their checks."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datamodules.corpora.base import Scale
from datamodules.errors import InputError
from datamodules.vocabulary import DIMENSIONS

_LARGEST = 1e9
"""No rating is beyond it."""


def check_name(corpus: str) -> None:
    """Checks a corpus name of the user's own: it becomes part of file names and of speaker ids."""
    if not re.fullmatch(r"\w[\w.-]*", corpus):
        raise InputError(f"corpus = '{corpus}' is not a name", "use letters, digits, '_', '-' and '.'")


def check_columns(corpus: str, columns: Mapping[str, str], known: Iterable[str]) -> None:
    """Checks that columns are given for what is read, by our names."""
    if not isinstance(columns, Mapping):
        raise InputError(f"{corpus}: columns is {columns!r}", "give own names by ours, as in {emotion: label}")
    for key, name in columns.items():
        if key not in known:
            raise InputError(f"{corpus}: columns names '{key}'", f"possible keys: {', '.join(known)}")
        if not isinstance(name, str):
            raise InputError(f"{corpus}: columns.{key} is {name!r}", "give the name of a column, in quotes")


def check_ranges(corpus: str, ranges: Mapping[str, Sequence[float]]) -> None:
    """Checks lowest and highest ratings, by dimension."""
    if not isinstance(ranges, Mapping):
        raise InputError(f"{corpus}: ranges is {ranges!r}", "give two numbers by dimension, as in {valence: [1, 5]}")
    for dimension, bounds in ranges.items():
        if dimension not in DIMENSIONS:
            raise InputError(f"{corpus}: ranges names '{dimension}'", f"possible keys: {', '.join(DIMENSIONS)}")
        if not _is_range(bounds):
            raise InputError(f"{corpus}: ranges.{dimension} = {_told(bounds)} is no range", "give two numbers: [1, 5]")


def _told(value: Any) -> str:
    try:
        return repr(value)
    except ValueError:  # more digits than Python writes
        return "a number of thousands of digits"


def _is_range(bounds: Any) -> bool:
    if not isinstance(bounds, Sequence) or not all(
        isinstance(one, int | float) and not isinstance(one, bool) and abs(one) < _LARGEST for one in bounds
    ):
        return False
    return len(bounds) == 2 and bounds[0] != bounds[1]


def scale_of(bounds: Sequence[float]) -> Scale:
    """The scale of a range, which is written highest first when it is reversed."""
    low, high = bounds
    return Scale(min(low, high), max(low, high), reversed=low > high)


class Inside:
    """Where files that a table names are, and whether that is in the corpus's root.

    Args:
        root: The root, its own links resolved.
        outside: Whether files may be elsewhere.
    """

    def __init__(self, root: Path, outside: bool = False) -> None:
        self.root = root
        self.outside = outside
        self._folders: dict[str, bool] = {}  # to follow the links of each file's folders would take long

    def below(self, path: str) -> str | None:
        """A path relative to the root; none where it leaves the root and must not, be it through a link."""
        if "\0" in path:
            return None
        below = os.path.relpath(os.path.realpath(path) if path.startswith("/") else self.root / path, self.root)
        if self.outside:
            return below
        folder, name = os.path.split(below)
        if folder not in self._folders:
            self._folders[folder] = self._holds(folder)
        there = self._folders[folder] and name != ".." and (not self._is_link(below) or self._holds(below))
        return below if there else None

    def _is_link(self, path: str) -> bool:
        try:
            return (self.root / path).is_symlink()
        except OSError:  # a name that is too long
            return False

    def _holds(self, path: str) -> bool:
        real = os.path.relpath(os.path.realpath(self.root / path), self.root)
        return not f"{real}/".startswith("../")


def without_outside(options: Mapping[str, Any]) -> dict[str, Any]:
    """A reader's options as they were before there was `outside`, where that is not given: manifests stay the same."""
    return {name: value for name, value in options.items() if name != "outside" or value}
