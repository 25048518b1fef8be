"""What a user sees while the runs of a study are made: a table on a terminal, a line a start and an end elsewhere."""

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

REFRESH_S = 1.0
_END_OF_LOG = 4096
_EPOCH = re.compile(rb"Epoch (\d+)/(\d+): .*\bbest (-?\d+\.\d+)")


@dataclass(frozen=True)
class Counts:
    """Numbers of runs."""

    done: int
    running: int
    to_do: int
    failed: int

    def __str__(self) -> str:
        return f"{self.done} done, {self.running} running, {self.to_do} to do, {self.failed} failed"


class View:
    """Shows how far a study is, on the standard error.

    Args:
        console: Where to; found out if it is left out.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._live = Live(console=self.console, transient=True, auto_refresh=False)
        self._shown = 0.0

    def __enter__(self) -> "View":
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def started(self, name: str, again: bool = False) -> None:
        """Tells that a run began, or goes on; on a terminal the table shows it."""
        if not self.console.is_terminal:
            self.say(f"{'went on with' if again else 'started'} {name}")

    def say(self, text: str) -> None:
        """Prints lines that stay."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def show(self, counts: Counts, running: Iterable[tuple[str, Path, float]], left: float | None) -> None:
        """Draws the table anew, every second at most, and on a terminal alone.

        Args:
            counts: Numbers of runs.
            running: Name of each run, its log, and for how many seconds it has been running.
            left: Estimate of the seconds until all is done, where there is one.
        """
        if not self.console.is_terminal or time.monotonic() - self._shown < REFRESH_S:
            return
        self._shown = time.monotonic()
        table = Table.grid(padding=(0, 2))
        for name, log, seconds in running:
            table.add_row(Text(name), standing(log), clock(seconds))
        estimate = "" if left is None else f"; about {clock(left)} left"
        self._live.update(Group(Text(f"{counts}{estimate}"), table), refresh=True)


def standing(log: Path) -> str:
    """How far a training is, by the last line that its log has of an epoch; empty before the first."""
    with log.open("rb") as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _END_OF_LOG))
        found = _EPOCH.findall(stream.read())
    if not found:
        return ""
    epoch, last, best = found[-1]
    return f"epoch {int(epoch) + 1} of {int(last) + 1}, best {best.decode()}"


def clock(seconds: float) -> str:
    """A duration as h:mm:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
