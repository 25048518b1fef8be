"""A peer's process, asked in turn with what it is compared with; ``peers.turns`` is the other end."""

import json
import os
import re
import select
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from experiments.bench.core import Repeats
from experiments.bench.environments import PeerError

SCRIPTS = Path(__file__).parent
"""Where the package ``peers`` is found."""

LIMIT_S = 900
"""An answer that takes longer never comes."""


class Peer:
    """A process that measures whenever it is asked.

    Args:
        python: The Python of its environment.
        module: Its script among ``peers``.
        job: What it is to measure.
        folder: Its working directory, where it also writes what it has to say.

    Attributes:
        details: What it told of itself.

    Raises:
        PeerError: It ended, or told nothing that can be read.
    """

    def __init__(self, python: Path | str, module: str, job: dict[str, Any], folder: Path) -> None:
        self.module = module
        self._log = folder / f"{module}.log"
        self._output = self._log.open("w", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(python), "-m", f"peers.{module}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._output,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        )
        try:
            self.details = self._ask(job)
        except PeerError:
            self.close()
            raise

    def measure(self) -> float:
        """Its figure of one more turn."""
        return float(self._ask({})["value"])

    def close(self) -> None:
        """Ends it: no one asks any more."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        for stream in (self._process.stdin, self._process.stdout, self._output):
            stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _ask(self, what: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(what), file=self._process.stdin, flush=True)
        except OSError as error:  # it has ended
            raise PeerError(self._last_words()) from error
        if not select.select([self._process.stdout], [], [], LIMIT_S)[0]:
            raise PeerError(f"{self.module} did not answer within {LIMIT_S} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        errors = [line for line in lines if re.match(r"[\w.]+(Error|Exception|Interrupt)\b", line)]
        return f"{self.module} failed: {(errors or lines or ['it said nothing'])[-1]}"


class Contender:
    """A peer in a comparison. If it fails it is out, and what it said is kept; the others go on.

    Args:
        name: What people call it.
        start: Starts it.

    Attributes:
        values: Its figure of each turn that counts.
        details: What it told of itself.
        error: Why it is out; none if it is not.
    """

    def __init__(self, name: str, start: Callable[[], Peer]) -> None:
        self.name = name
        self.values: list[float] = []
        self.details: dict[str, Any] = {}
        self.error: str | None = None
        self._peer: Peer | None = None
        try:
            self._peer = start()
            self.details = self._peer.details
        except PeerError as error:
            self.error = str(error)

    def turn(self, counts: bool) -> None:
        """Measures once, and keeps the figure if it counts."""
        if self._peer is None:
            return
        try:
            value = self._peer.measure()
        except PeerError as error:
            self.error = str(error)
            self.close()
            return
        if counts:
            self.values.append(value)

    def close(self) -> None:
        """Ends its process."""
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    def record(self, unit: str) -> dict[str, Any]:
        """As it is written down."""
        if self.error is not None:
            return {"error": self.error}
        return {**Repeats(self.name, unit, self.values).record(), **self.details}


def best(contenders: Sequence[Contender], unit: str, largest: bool) -> Repeats:
    """The contender with the largest, or the smallest, median.

    Raises:
        PeerError: None of them found anything.
    """
    there = [Repeats(one.name, unit, one.values) for one in contenders if one.error is None]
    if not there:
        raise PeerError("; ".join(f"{one.name}: {one.error}" for one in contenders))
    return (max if largest else min)(there, key=lambda one: one.median)
