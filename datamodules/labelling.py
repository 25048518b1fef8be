"""Which label of the experiment an utterance carries, of those that its corpus gives it."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from datamodules.cells import Integers
from datamodules.collection import Collection
from datamodules.vocabulary import DIMENSIONS

Floats = NDArray[np.float32]


class Labelling:
    """The labels of a collection's utterances, as targets.

    Args:
        collection: The utterances.
        classes: Emotion classes, each with the common emotion names that it takes in.
        agreeing_raters: How many raters must have named an utterance's emotion; 0 asks for no votes.
        rated: Whether dimensions are labels of the experiment too.
    """

    def __init__(
        self, collection: Collection, classes: Mapping[str, Sequence[str]], agreeing_raters: int, rated: bool
    ) -> None:
        self.collection = collection
        self.classes = classes
        self.agreeing_raters = agreeing_raters
        self.rated = rated

    def labelled(self, rows: Integers) -> Integers:
        """Those of the rows that have a class or, where dimensions are labels too, any rating."""
        usable = self.emotion(rows) >= 0
        if self.rated:
            usable |= np.isfinite(self.dimensions(rows)).any(axis=1)
        return rows[usable]

    def emotion(self, rows: Integers) -> Integers:
        """Index of each utterance's class (rows,), -1 where it has none."""
        return self.collection.class_codes(self.classes, rows, self.agreeing_raters)

    def votes(self, rows: Integers) -> Floats:
        """The raters' votes as shares of the classes, (rows, classes).

        NaN where the utterance has no class; that class alone where its corpus tells no votes.
        """
        classes = self.emotion(rows)
        shares = self.collection.vote_shares(self.classes, rows)
        shares = np.where(np.isnan(shares), np.eye(len(self.classes))[classes], shares)
        shares[classes < 0] = np.nan
        return shares.astype(np.float32)

    def dimensions(self, rows: Integers) -> Floats:
        """Activation, valence and dominance on [0, 1], (rows, 3), NaN where missing."""
        return np.stack([self.collection.numbers(name, rows) for name in DIMENSIONS], axis=1).astype(np.float32)
