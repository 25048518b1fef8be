"""Shares of the data, chosen at random: a smaller share of the same seed is part of a larger one."""

import hashlib

import numpy as np

from datamodules.cells import Integers, Rows, take
from datamodules.collection import Collection
from datamodules.sampler import permute

_BLOCK = 1 << 16


def labelled_share(collection: Collection, rows: Integers, classes: Integers, share: float, seed: int) -> Integers:
    """Chooses the utterances that keep their labels, class by class.

    The choice depends on the seed and, of each class, on which utterances it has (corpus, path and start), wherever
    they stand.

    Args:
        collection: Where the utterances are.
        rows: Its rows to choose from, ascending.
        classes: The class of each; those with a rating alone have -1, as if that were one.
        share: Of each class, in (0, 1]; at least one utterance is chosen.
        seed: Of the choice.

    Returns:
        The rows chosen, ascending.
    """
    if share == 1:
        return rows
    called = collection.lookup(rows)
    starts = collection.numbers("start", rows).tolist()
    names = zip(called["corpus"], called["id"], starts, strict=True)
    # Hashes and not a random generator: an utterance more in the corpus leaves the others in their order.
    keys = np.array([_key(f"{seed} {corpus}/{path} {start}") for corpus, path, start in names], np.uint64)
    chosen = []
    for one in np.unique(classes):
        members = np.flatnonzero(classes == one)
        chosen.append(members[np.argsort(keys[members])][: _count(share, len(members))])
    return rows[np.sort(np.concatenate(chosen))]


def auxiliary_share(corpus: str, rows: Rows, share: float, seed: int) -> Rows:
    """Chooses among utterances of which there may be very many: nothing about them is looked up.

    Args:
        corpus: Their corpus, so that several corpora do not all give their first utterances, say.
        rows: Rows to choose from, ascending.
        share: Of them, in (0, 1]; at least one utterance is chosen.
        seed: Of the choice.

    Returns:
        The rows chosen, ascending: eight bytes for each, or ``rows`` themselves if the share is 1.
    """
    size = len(rows)
    if share == 1 or not size:
        return rows
    count, key = _count(share, size), _key(f"{seed} {corpus}")
    blocks = (np.arange(first, min(first + _BLOCK, size)) for first in range(0, size, _BLOCK))
    return np.concatenate([take(rows, block[permute(block, size, key) < count]) for block in blocks])


def _count(share: float, size: int) -> int:
    return max(1, round(share * size))


def _key(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
