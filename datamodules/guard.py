"""The guard that stops a leak: no speaker and no recording on two sides."""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Protocol

from datamodules.errors import InputError
from datamodules.splits import natural_key

_EXAMPLES = 5


class Utterances(Protocol):
    """What the guard looks at: utterances of one corpus that stand on one side."""

    @property
    def corpus(self) -> str:
        """Name of the corpus."""
        ...

    def first_rows(self, column: str, among: Collection[str] | None = None) -> Mapping[str, int]:
        """The first row with each value, or with each of those in ``among``, of ``speaker`` or ``content_hash``."""
        ...

    def path(self, row: int) -> str:
        """The path of a row; asked for a few culprits only."""
        ...


def guard(sides: Mapping[str, Sequence[Utterances]]) -> None:
    """Stop the run when a speaker, or the same recording, stands on two sides.

    Rows without a speaker or without a hash are not looked at.

    Args:
        sides: For each side, its utterances, corpus by corpus; auxiliary corpora belong to the training side. The first
            side may be of any size: what the others have is looked for in it, and nothing else of it is kept.

    Raises:
        InputError: Something leaks: the culprits, with a path on either side.
    """
    leaks = []
    large, *small = sides
    for what, column in (("speaker", "speaker"), ("recording with the hash", "content_hash")):
        found = {side: [piece.first_rows(column) for piece in sides[side]] for side in small}
        among = {value for pieces in found.values() for rows in pieces for value in rows}
        found[large] = [piece.first_rows(column, among) for piece in sides[large]]
        present = {side: {value for rows in found[side] for value in rows} for side in sides}
        for first, second in combinations(sides, 2):
            shared = sorted(present[first] & present[second], key=natural_key)
            for value in shared[:_EXAMPLES]:
                places = (f"{side} ({_example(sides[side], found[side], value)})" for side in (first, second))
                leaks.append(f"{what} {value} is in {' and '.join(places)}")
            if len(shared) > _EXAMPLES:
                leaks.append(f"and {len(shared) - _EXAMPLES} more like it in {first} and {second}")
    if leaks:
        raise InputError(
            "The split leaks:\n" + "\n".join(f"  {leak}" for leak in leaks),
            "Take them out of one of the sides: choose another split.protocol, leave the speakers out "
            "(data.corpora.<name>.exclude_speakers), or delete one of two equal recordings.",
        )


def _example(pieces: Sequence[Utterances], found: Sequence[Mapping[str, int]], value: str) -> str:
    """Corpus and path of the first row that has the value."""
    piece, row = next((piece, rows[value]) for piece, rows in zip(pieces, found, strict=True) if value in rows)
    return f"{piece.corpus}/{piece.path(row)}"
