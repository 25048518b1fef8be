"""The one exception for input that cannot be used, and how the system's refusals become it."""

import contextlib
import errno
import re
from collections.abc import Iterator
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
GONE = (errno.EROFS, errno.EIO, errno.ESTALE)
"""A disk that could be written before: read-only since it is broken, or gone with the network."""
_MOST_CHARACTERS = 1500
"""Of a problem, and of a remedy."""
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that are no text; those that change the direction of writing among them."""
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST)


class InputError(Exception):
    """Something the user gave (a path, key, label, file or environment) cannot be used.

    The command line prints it as one message and exits with code 2, without a traceback.

    Args:
        problem: What is wrong: the value and where it came from.
        remedy: What the user can do about it.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{_shown(self.problem)}\n  {_shown(self.remedy)}" if self.remedy else _shown(self.problem)


def _shown(text: str) -> str:
    """A text as a terminal may show it: what a file says is not to move its cursor, nor to fill it for minutes."""
    shown = _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text[:_MOST_CHARACTERS])
    return f"{shown[:_MOST_CHARACTERS]} …" if len(text) > _MOST_CHARACTERS or len(shown) > _MOST_CHARACTERS else shown


@contextlib.contextmanager
def explained(what: str, folder: Path, setting: str) -> Iterator[None]:
    """Turns what the system refuses while something is written into input errors.

    Args:
        what: What is written, with its place.
        folder: Where.
        setting: Chooses the place.
    """
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise InputError(
                f"the disk is full: {what} cannot be written", f"free space, or set another {setting}"
            ) from error
        if error.errno in _REFUSED:
            raise InputError(
                f"{error.filename or what}: {error.strerror}", f"{folder} must be writable, or set another {setting}"
            ) from error
        raise
