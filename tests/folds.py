"""Splits of a manifest, as tests of several corpora look at them."""

from collections.abc import Mapping, Sequence

import numpy as np

from datamodules.manifest import Manifest
from datamodules.splits import CorpusColumns, SplitSettings, make_split


def columns(manifest: Manifest, classes: Mapping[str, Sequence[str]]) -> CorpusColumns:
    """The rows of a manifest that have a class."""
    chosen = np.flatnonzero(manifest.class_codes(classes) >= 0)
    codes = {name: manifest.codes(name) for name in ("speaker", "gender", "session", "split")}
    taken = {name: (code[chosen], words) for name, (code, words) in codes.items()}
    return CorpusColumns(manifest.corpus, chosen, **taken)


def sides(columns: CorpusColumns, settings: SplitSettings) -> list[list[str]]:
    """The speakers of training, development and test, which together have all rows."""
    split = make_split([columns], settings)
    rows = (split.train, split.development, split.test)
    assert sum(side.size for side in rows) == columns.rows.size
    codes, words = columns.speaker
    return [sorted({words[code] for code in codes[np.isin(columns.rows, side)]}) for side in rows]
