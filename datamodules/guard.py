"""The guard that stops a leak: no speaker and no recording on two sides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from datamodules.errors import InputError
from datamodules.splits import Codes, codes_present, natural_key

_EXAMPLES = 5


@dataclass(frozen=True)
class SideColumns:
    """What the guard looks at: rows of one corpus that stand on one side.

    Attributes:
        corpus: Name of the corpus.
        speaker: Corpus-qualified ids.
        content_hash: Hashes of the decoded samples.
        path: Gives the path of the i-th of these rows; asked for a few culprits only.
    """

    corpus: str
    speaker: Codes
    content_hash: Codes
    path: Callable[[int], str]


def guard(sides: Mapping[str, Sequence[SideColumns]]) -> None:
    """Stop the run when a speaker, or the same recording, stands on two sides.

    Rows without a speaker or without a hash are not looked at.

    Args:
        sides: For each side, its rows, corpus by corpus; auxiliary corpora belong to the training side.

    Raises:
        InputError: Something leaks: the culprits, with a path on either side.
    """
    leaks = []
    for what, column in (("speaker", "speaker"), ("recording with the hash", "content_hash")):
        present = {side: _values_present(columns, column) for side, columns in sides.items()}
        for first, second in combinations(sides, 2):
            shared = sorted(present[first] & present[second], key=natural_key)
            for value in shared[:_EXAMPLES]:
                places = " and ".join(f"{side} ({_example(sides[side], column, value)})" for side in (first, second))
                leaks.append(f"{what} {value} is in {places}")
            if len(shared) > _EXAMPLES:
                leaks.append(f"and {len(shared) - _EXAMPLES} more like it in {first} and {second}")
    if leaks:
        raise InputError(
            "The split leaks:\n" + "\n".join(f"  {leak}" for leak in leaks),
            "Take them out of one of the sides: choose another split.protocol, leave the speakers out "
            "(data.corpora.<name>.exclude_speakers), or delete one of two equal recordings.",
        )


def _values_present(columns: Sequence[SideColumns], column: str) -> set[str]:
    pairs: list[Codes] = [getattr(piece, column) for piece in columns]
    return {pair[1][code] for pair in pairs for code in codes_present(pair)}


def _example(columns: Sequence[SideColumns], column: str, value: str) -> str:
    """Corpus and path of the first row that has the value."""
    for piece in columns:
        codes, values = getattr(piece, column)
        if value in values:
            rows = np.flatnonzero(codes == values.index(value))
            if rows.size:
                return f"{piece.corpus}/{piece.path(int(rows[0]))}"
    raise ValueError(f"no row has {value}")
