"""Utterances that fill one part of the batch, and their labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.cells import Integers, Rows, take
from datamodules.collection import Collection

Lookup = Callable[[Integers], Integers]
"""From rows of the collection to a label of each as an index, -1 where it is missing."""


class Pool:
    """Utterances that fill one part of the batch, and their labels.

    Of a small corpus labels are held; of a large one they are looked up when an utterance is drawn, and a pool of all
    its rows holds nothing that grows with them.

    Args:
        rows: Rows of the collection.
        part: ``LABELLED``, ``SPEAKER`` or ``UNLABELLED``.
        held: Labels of all utterances by name, each (utterances, ...), NaN or -1 where missing.
        looked_up: Labels by name that are looked up.

    Attributes:
        part: As given.
        missing: What each label that the pool has is where it is missing, by name.
    """

    def __init__(
        self,
        rows: Rows,
        part: int,
        held: Mapping[str, NDArray[Any]] | None = None,
        looked_up: Mapping[str, Lookup] | None = None,
    ) -> None:
        self.part = part
        self._rows = rows
        self._held = dict(held or {})
        self._looked_up = dict(looked_up or {})
        self.missing: dict[str, NDArray[Any]] = {name: _missing(values) for name, values in self._held.items()}
        self.missing |= dict.fromkeys(self._looked_up, np.array(-1))

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, positions: Integers) -> Integers:
        """Rows of the collection at ``positions``."""
        return take(self._rows, positions)

    def labels(self, positions: Integers) -> dict[str, NDArray[Any]]:
        """The labels that the pool has, by name, each (positions, ...); NaN or -1 where an utterance lacks one."""
        labels: dict[str, NDArray[Any]] = {name: values[positions] for name, values in self._held.items()}
        rows = self.rows(positions)
        return labels | {name: lookup(rows) for name, lookup in self._looked_up.items()}


class Indices:
    """Looks up what utterances have in a column of strings, as an index into a vocabulary; -1 where it is not there.

    Args:
        collection: Where the utterances are.
        column: ``speaker`` or ``gender``.
        vocabulary: The strings that count.
    """

    def __init__(self, collection: Collection, column: str, vocabulary: Sequence[str]) -> None:
        self.collection = collection
        self.column = column
        place = {value: index for index, value in enumerate(vocabulary)}
        # For each manifest the index of each of its codes; the last is that of the code -1.
        self._of_code = [
            np.array([*(place.get(value, -1) for value in manifest.words(column)), -1], np.int64)
            for manifest in collection.manifests
        ]

    def __call__(self, rows: Integers) -> Integers:
        """The index of each of the rows."""
        indices = np.empty(len(rows), np.int64)
        for manifest, places, local in self.collection.by_manifest(rows):
            codes = self.collection.manifests[manifest].cells.numbers(self.column, local)
            indices[places] = self._of_code[manifest][codes]
        return indices


def _missing(values: NDArray[Any]) -> NDArray[Any]:
    """What a label (utterances, ...) is where it is missing."""
    return np.full(values.shape[1:], np.nan if values.dtype.kind == "f" else -1, dtype=values.dtype)
