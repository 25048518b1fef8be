"""Signals that ask a training to stop: it saves first, and tells by its exit code whether it wants to go on."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from datamodules.processes import ASKED

INTERRUPTED = 130
"""Exit code of programs that ctrl-C ended, by the shell's custom."""
AGAIN = 75
"""Exit code of programs that are to be started again (``EX_TEMPFAIL`` of ``sysexits.h``)."""


class Interrupted(BaseException):
    """A signal ended the work.

    Args:
        signum: The signal.
        text: What to tell the user.
        spoken_for: Whether another process tells, and ends with the exit code, for this one, too.
    """

    def __init__(self, signum: int, text: str = "", spoken_for: bool = False) -> None:
        super().__init__(signum, text)
        self.text = "" if spoken_for else text
        # Who started several processes takes any other exit code of one of them for a failure, and kills the rest.
        self.code = 0 if spoken_for else INTERRUPTED if signum == signal.SIGINT else AGAIN


class Interruption:
    """Hears the signals in ``ASKED``.

    A first one ends what can be done again in ``Interrupted``, at once; in what is ``kept``, it is only noted, and
    whoever trains looks at it between two steps. A ctrl-C after that ends anything.

    Attributes:
        signum: The first signal that came; 0 where none did.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._kept = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Hears signals within, in a process's main thread; others cannot."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self._hear) for one in ASKED}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Within, a first signal is noted only; if nobody acted on it by the end, it ends the work there.

        Raises:
            Interrupted: A signal came.
        """
        self._kept = True
        try:
            yield
        finally:
            self._kept = False
        if self.signum:
            raise Interrupted(self.signum)

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        again, self.signum = self.signum, self.signum or signum
        if not again and not self._kept:
            raise Interrupted(signum)
        if again and signum == signal.SIGINT:
            raise Interrupted(signum)
