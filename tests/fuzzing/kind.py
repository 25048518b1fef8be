"""What a kind of input is."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

Act = Callable[[], None]


class Opened(Protocol):
    """A kind in one process, with whole input of its own."""

    def case(self, draw: random.Random, place: Path) -> Act:
        """Breaks input in a folder of the case; returns what is done with it."""

    def restore(self) -> None:
        """Makes whole what the case broke outside its folder."""


class Kind(Protocol):
    """A kind of input."""

    name: str

    def prepare(self, seeds: Path) -> None:
        """Writes whole input, once."""

    def opened(self, seeds: Path) -> Opened:
        """Is ready for cases, in a process that has a copy of that input."""


class Simple:
    """A kind whose cases write to their own folder alone.

    Args:
        name: Of the kind.
        prepare: Writes whole input into a folder.
        case: From the draw, whole input and the case's folder; breaks it and returns what is done with it.
    """

    def __init__(
        self, name: str, prepare: Callable[[Path], None], case: Callable[[random.Random, Path, Path], Act]
    ) -> None:
        self.name, self.prepare, self._case = name, prepare, case
        self.seeds = Path()

    def opened(self, seeds: Path) -> "Simple":
        self.seeds = seeds
        return self

    def case(self, draw: random.Random, place: Path) -> Act:
        return self._case(draw, self.seeds, place)

    def restore(self) -> None:
        pass


def drop(_: object) -> None:
    """Only whether it can be read is of interest."""
