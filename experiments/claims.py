"""Claims: lock files that keep processes, also on several machines, from making the same run."""

import fcntl
from pathlib import Path
from typing import IO

from datamodules.locks import open_unlinked


def take(file: Path) -> IO[str] | None:
    """Holds a lock file; none where a living process holds it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    stream = open_unlinked(file)
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.close()
        return None
    return stream


def release(claim: IO[str]) -> None:
    """Lets go of it."""
    # Unlocked and not only closed: what a run left behind may have inherited the file.
    fcntl.flock(claim, fcntl.LOCK_UN)
    claim.close()
