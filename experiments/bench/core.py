"""What the rows of the bench share: a figure with its bar, repeats in turn, and the register of rows."""

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class SkippedError(Exception):
    """A row cannot be measured here, for a reason that is no fault: a corpus or a program is not there."""


@dataclass(frozen=True)
class Bar:
    """What a figure is to reach.

    Attributes:
        limit: The value itself is enough.
        at_least: Whether more is better; else less is.
    """

    limit: float
    at_least: bool

    def met(self, figure: float) -> bool:
        """Whether a figure reaches it; NaN reaches nothing."""
        return figure >= self.limit if self.at_least else figure <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


def at_least(limit: float) -> Bar:
    """A bar for figures of which more is better."""
    return Bar(limit, at_least=True)


def at_most(limit: float) -> Bar:
    """A bar for figures of which less is better."""
    return Bar(limit, at_least=False)


@dataclass(frozen=True)
class Repeats:
    """One side of a comparison.

    Attributes:
        what: What was measured, for people: "lhotse 1.30, one worker".
        unit: Of the values: "utterances/s", "s", "MB".
        values: One for each repeat, in order, the warm-up left out.
    """

    what: str
    unit: str
    values: Sequence[float]

    @property
    def median(self) -> float:
        """The middle of the values."""
        return statistics.median(self.values)

    def record(self) -> dict[str, Any]:
        """As it is written down."""
        return {
            "what": self.what,
            "unit": self.unit,
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "repeats": list(self.values),
        }


@dataclass(frozen=True)
class Figure:
    """A number, and what it was compared with.

    Attributes:
        value: The number.
        ours: What it was made of on the framework's side.
        counterpart: The same on the other side, from the same run.
        bar: What it is to reach; none where the row's bar counts, or, for a figure beside it, where there is none.
    """

    value: float
    ours: Repeats
    counterpart: Repeats
    bar: Bar | None = None

    def record(self) -> dict[str, Any]:
        """As it is written down."""
        return {
            "figure": self.value,
            "bar": None if self.bar is None else str(self.bar),
            "met": None if self.bar is None else self.bar.met(self.value),
            "ours": self.ours.record(),
            "counterpart": self.counterpart.record(),
        }


@dataclass(frozen=True)
class Measurement:
    """What a row found.

    Attributes:
        figure: The figure of the row's key.
        also: Further figures by name, each with a bar of its own or none; the row is met if all bars are.
        details: Whatever helps to judge the figures and can be written as JSON: sizes, versions, curves.
    """

    figure: Figure
    also: dict[str, Figure] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


def ratio(ours: Repeats, counterpart: Repeats, bar: Bar | None = None) -> Figure:
    """The median of ours divided by the counterpart's, whichever of the two is to be the larger."""
    return Figure(ours.median / counterpart.median, ours, counterpart, bar)


def alternate(
    ours: Callable[[], float], counterpart: Callable[[], float], repeats: int, warm_up: int = 1
) -> tuple[list[float], list[float]]:
    """Measures both sides in turn, A B A B, so that what the machine does beside it falls on both.

    Args:
        ours: Measures once, and returns what it found.
        counterpart: The same for the other side.
        repeats: Of each, after the warm-up.
        warm_up: Rounds that are not counted.

    Returns:
        The values of both, each (repeats,).
    """
    found = [(ours(), counterpart()) for _ in range(warm_up + repeats)][warm_up:]
    return [a for a, _ in found], [b for _, b in found]


@dataclass(frozen=True)
class Bench:
    """What a row is given.

    Attributes:
        root: Folder of corpora, ``data.root``; none if it was not given.
        output: Folder of the results, ``runs/bench``.
        quick: Whether this is a smoke test: few repeats, small sizes, figures that say nothing.
        repeats: How often each side is measured.
        settings: ``key=value`` settings of the experiments that rows run.
    """

    root: Path | None
    output: Path
    quick: bool
    repeats: int
    settings: tuple[str, ...] = ()

    @property
    def scratch(self) -> Path:
        """Folder for what rows generate, kept between runs; made when it is asked for."""
        folder = self.output / "scratch"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def size(self, full: int, quick: int) -> int:
        """So many of something: ``full``, or ``quick`` in a smoke test."""
        return quick if self.quick else full

    def corpora(self, *names: str) -> Path:
        """The folder of corpora, for a row that needs these.

        Raises:
            SkippedError: It was not given, or one of them is not in it.
        """
        from datamodules.corpora import MissingCorpusError, find_root, make_reader

        if self.root is None:
            raise SkippedError(f"needs {' and '.join(names)}: give data.root=<folder of corpora>")
        for name in names:
            try:
                find_root(make_reader(name, {}), None, str(self.root), made_in=self.scratch)
            except MissingCorpusError as error:
                raise SkippedError(f"needs {name}, which is not in {self.root}") from error
        return self.root

    def say(self, text: str) -> None:
        """Tells on the terminal what is being done."""
        print(f"  {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: Key in ``results.json``.
        what: What is compared with what.
        bar: What the figure is to reach, unless the measurement says otherwise for this machine.
        measure: Measures it. It runs in a process of its own, so it is a function of a module, not one inside another.
    """

    name: str
    what: str
    bar: Bar
    measure: Callable[[Bench], Measurement]


ROWS: dict[str, Row] = {}
"""What ``row`` registered, in no order; see ``experiments.bench.rows``."""


def row(name: str, what: str, bar: Bar) -> Callable[[Callable[[Bench], Measurement]], Callable[[Bench], Measurement]]:
    """Registers a function as the row ``name``; see ``Row``.

    The function raises ``SkippedError`` where the row cannot be measured; whatever else it raises is a failure of this
    row alone.
    """

    def register(measure: Callable[[Bench], Measurement]) -> Callable[[Bench], Measurement]:
        ROWS[name] = Row(name, what, bar, measure)
        return measure

    return register
