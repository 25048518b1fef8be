"""All corpora of an experiment as one table of utterances, numbered through."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from datamodules.cells import Integers, Rows
from datamodules.manifest import Manifest


class Span(NamedTuple):
    """Where an utterance's speech is.

    Attributes:
        corpus: Index of its manifest in the collection.
        row: Its row of that manifest.
        path: Its file, relative to the corpus root.
        start: Where the speech begins, in seconds in the file.
        end: Where it ends.
    """

    corpus: int
    row: int
    path: str
    start: float
    end: float


@dataclass(frozen=True)
class Subset:
    """Some utterances of one corpus.

    Attributes:
        manifest: The corpus.
        local: Rows of the manifest, ascending.
    """

    manifest: Manifest
    local: Rows

    @property
    def corpus(self) -> str:
        """The corpus's name."""
        return self.manifest.corpus

    def first_rows(self, column: str, among: Iterable[str] | None = None) -> dict[str, int]:
        """The first row with each value of a column of strings; see ``Manifest.first_rows``."""
        return self.manifest.first_rows(column, self.local, among)

    def path(self, row: int) -> str:
        """The file of a row of the manifest."""
        return str(self.manifest.root / self.manifest.row(row)["path"])


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

    def rows(self, corpus: str) -> range:
        """Numbers of a corpus's utterances."""
        index = self.corpora.index(corpus)
        return range(int(self.first[index]), int(self.first[index + 1]))

    def row(self, row: int) -> dict[str, Any]:
        """An utterance's columns, with ``file``, the absolute path of its audio; of many, see ``spans``."""
        index = int(np.searchsorted(self.first, row, side="right")) - 1
        manifest = self.manifests[index]
        columns = manifest.row(row - int(self.first[index]))
        file: Path = manifest.root / columns["path"]
        return columns | {"file": file}

    def spans(self, rows: Integers) -> list[Span]:
        """Where the speech of utterances is, in time and memory that do not depend on the size of the manifests."""
        spans: dict[int, Span] = {}
        for index, places, local in self.by_manifest(rows):
            cells = self.manifests[index].cells
            paths = cells.strings("path", local)
            starts, ends = (cells.numbers(name, local).tolist() for name in ("speech_start", "speech_end"))
            for place, *span in zip(places.tolist(), local.tolist(), paths, starts, ends, strict=True):
                spans[place] = Span(index, *span)
        return [spans[place] for place in range(len(rows))]

    def by_manifest(self, rows: Integers) -> Iterator[tuple[int, Integers, Integers]]:
        """For each manifest that rows are of: its index, their places among ``rows``, and their numbers in it."""
        owner = self.corpus_index(rows)
        for index in range(len(self.manifests)):
            places = np.flatnonzero(owner == index)
            if places.size:
                yield index, places, rows[places] - self.first[index]

    def subset(self, corpus: str, rows: Rows) -> Subset:
        """Those of the rows, ascending, that are of a corpus."""
        own = self.rows(corpus)
        if isinstance(rows, range):
            inside: Rows = range(max(rows.start, own.start) - own.start, min(rows.stop, own.stop) - own.start)
        else:
            inside = rows[slice(*np.searchsorted(rows, (own.start, own.stop)))] - own.start
        return Subset(self.manifests[self.corpora.index(corpus)], inside)

    def values(self, name: str, rows: Iterable[Rows]) -> list[str]:
        """The distinct strings that any of ``rows`` has in a column whose strings repeat, sorted."""
        found: set[str] = set()
        for some in rows:
            for corpus in self.corpora:
                subset = self.subset(corpus, some)
                if len(subset.local):
                    found |= subset.manifest.values(name, subset.local)
        return sorted(found)

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
        for index, places, local in self.by_manifest(rows):
            codes, values = self.manifests[index].codes(name)
            found.append((places, codes[local], values))
        values_there = {values[code] for _, codes, values in found for code in np.unique(codes) if code >= 0}
        vocabulary = sorted(values_there)
        place = {value: code for code, value in enumerate(vocabulary)}
        merged = np.full(len(rows), -1, dtype=np.int32)
        for places, codes, values in found:
            # One more entry at the end, for the code -1.
            translation = np.array([*(place.get(value, -1) for value in values), -1], dtype=np.int32)
            merged[places] = translation[codes]
        return merged, vocabulary

    def corpus_index(self, rows: Integers) -> Integers:
        """Index of each utterance's corpus."""
        return np.searchsorted(self.first, rows, side="right").astype(np.int64) - 1

    def lookup(self, rows: Integers) -> dict[str, list[str | None]]:
        """What people call utterances: ``id`` (the path), ``speaker`` and ``corpus`` of each row."""
        called: dict[str, list[str | None]] = {name: [None] * len(rows) for name in ("id", "speaker", "corpus")}
        for index, places, local in self.by_manifest(rows):
            manifest = self.manifests[index]
            paths, codes = manifest.cells.strings("path", local), manifest.cells.numbers("speaker", local)
            speakers = [*manifest.words("speaker"), None]
            for place, path, code in zip(places.tolist(), paths, codes.tolist(), strict=True):
                called["id"][place], called["speaker"][place] = path, speakers[code]
                called["corpus"][place] = manifest.corpus
        return called

    def _gather(self, rows: Integers, take: Any, *shape: int) -> NDArray[np.float64]:
        gathered = np.full((len(rows), *shape), np.nan)
        for index, places, local in self.by_manifest(rows):
            gathered[places] = take(self.manifests[index], local)
        return gathered
