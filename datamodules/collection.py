"""All corpora of an experiment as one table of utterances, numbered through."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.manifest import Manifest

Integers = NDArray[np.int64]


class Collection:
    """Manifests one after the other: utterance ``row`` of the collection is a row of one of them.

    Args:
        manifests: Opened manifests, each corpus once.
    """

    def __init__(self, manifests: Sequence[Manifest]) -> None:
        self.manifests = list(manifests)
        self.corpora = [manifest.corpus for manifest in manifests]
        self.first = np.cumsum([0, *(len(manifest) for manifest in manifests)])

    def __len__(self) -> int:
        return int(self.first[-1])

    def rows(self, corpus: str) -> Integers:
        """Numbers of a corpus's utterances."""
        index = self.corpora.index(corpus)
        return np.arange(self.first[index], self.first[index + 1])

    def row(self, row: int) -> dict[str, Any]:
        """An utterance's columns, with ``file``, the absolute path of its audio."""
        index = int(np.searchsorted(self.first, row, side="right")) - 1
        manifest = self.manifests[index]
        columns = manifest.row(row - int(self.first[index]))
        file: Path = manifest.root / columns["path"]
        return columns | {"file": file}

    def numbers(self, name: str, rows: Integers) -> NDArray[np.float64]:
        """A numeric column at ``rows``; NaN where missing."""
        return self._gather(rows, lambda manifest, local: manifest.column(name)[local].astype(np.float64))

    def class_codes(self, classes: Mapping[str, Sequence[str]], rows: Integers, agreeing_raters: int = 0) -> Integers:
        """Index of each utterance's class in a class map (see ``Manifest.class_codes``), -1 where it has none."""
        codes = self._gather(rows, lambda manifest, local: manifest.class_codes(classes, agreeing_raters)[local])
        return codes.astype(np.int64)

    def vote_shares(self, classes: Mapping[str, Sequence[str]], rows: Integers) -> NDArray[np.float64]:
        """The raters' votes for each class (rows, classes); see ``Manifest.vote_shares``."""
        return self._gather(rows, lambda manifest, local: manifest.vote_shares(classes)[local], len(classes))

    def strings(self, name: str, rows: Integers) -> tuple[NDArray[np.int32], list[str]]:
        """A column of strings at ``rows`` as codes, -1 where missing, and their values, sorted."""
        found = []
        for index, manifest in enumerate(self.manifests):
            inside = (rows >= self.first[index]) & (rows < self.first[index + 1])
            if inside.any():
                codes, values = manifest.codes(name)
                found.append((inside, codes[rows[inside] - self.first[index]], values))
        values_there = {values[code] for _, codes, values in found for code in np.unique(codes) if code >= 0}
        vocabulary = sorted(values_there)
        place = {value: code for code, value in enumerate(vocabulary)}
        merged = np.full(len(rows), -1, dtype=np.int32)
        for inside, codes, values in found:
            # One more entry at the end, for the code -1.
            translation = np.array([*(place.get(value, -1) for value in values), -1], dtype=np.int32)
            merged[inside] = translation[codes]
        return merged, vocabulary

    def corpus_index(self, rows: Integers) -> Integers:
        """Index of each utterance's corpus."""
        return np.searchsorted(self.first, rows, side="right").astype(np.int64) - 1

    def lookup(self, rows: Integers) -> dict[str, list[str | None]]:
        """What people call utterances: ``id`` (the path), ``speaker`` and ``corpus`` of each row."""
        found = [self.row(int(row)) for row in rows]
        return {
            name: [one[key] for one in found]
            for name, key in (("id", "path"), ("speaker", "speaker"), ("corpus", "corpus"))
        }

    def _gather(self, rows: Integers, take: Any, *shape: int) -> NDArray[np.float64]:
        gathered = np.full((len(rows), *shape), np.nan)
        for index, manifest in enumerate(self.manifests):
            inside = (rows >= self.first[index]) & (rows < self.first[index + 1])
            if inside.any():
                gathered[inside] = take(manifest, rows[inside] - self.first[index])
        return gathered
