"""Opens lock files; free of heavy imports."""

import errno
import os
from pathlib import Path
from typing import IO

from datamodules.errors import InputError


def open_unlinked(file: Path) -> IO[str]:
    """Opens a lock file, which is made where it is missing; through a link it could be any other of the user's files.

    Raises:
        InputError: It is a link.
    """
    try:
        return open(file, "a", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o666))
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError(f"{file} is a link, where a lock is to be", "Remove it.") from error
