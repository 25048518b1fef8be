"""What a case may do: bounded memory and files in its own folder; and who sees to it that it does no more."""

import errno
import os
import re
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from datamodules.errors import FULL, GONE, InputError

MEMORY_BYTES = 1 << 30
"""More than the process has when it begins."""
FILE_BYTES = 256 << 20
CPU_SECONDS = 20.0
WALL_SECONDS = 120.0
MESSAGE_CHARACTERS = 4000
"""A message that nobody can read on a terminal is none."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.truncate", "os.symlink", "os.link", "os.rename"}
_FORBIDDEN = {
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.kill", "subprocess.Popen", "pickle.find_class"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "ctypes.dlopen"),
}
"""What no input may bring about. Compiled code that Python itself imports late is not among them."""


class OutOfBoundsError(BaseException):
    """A case did what none may; no handler of the product catches it."""


class Watch:
    """Hears of each file that Python opens to write, and of each program, connection and pickle.

    Args:
        allowed: The folder that a case may write to.
    """

    def __init__(self, allowed: Path) -> None:
        self.allowed = f"{allowed.resolve()}/"
        self.on = False
        self.seen: list[str] = []
        sys.addaudithook(self._hear)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within the block; raises at its end what a handler in between may have hidden."""
        self.seen.clear()
        self.on = True
        try:
            yield
        finally:
            self.on = False
        if self.seen:
            raise OutOfBoundsError(self.seen[0])

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event == "open":
            path, mode, flags = arguments
            if isinstance(path, int) or not (set(mode) & set("wxa+") if mode else flags & _WRITING):
                return
            self._check(event, path)
        elif event in _CHANGES:
            for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
                self._check(event, path)
        elif event in _FORBIDDEN:
            self._tell(f"{event} {arguments[:2]}")

    def _check(self, event: str, path: Any) -> None:
        if isinstance(path, int):
            return
        name = os.fsdecode(path)
        if name == os.devnull or name.startswith("/proc/"):
            return
        self.on = False  # to resolve a path is no event of the case
        real = f"{Path(name).parent.resolve() / Path(name).name}/"
        self.on = True
        if not real.startswith(self.allowed):
            self._tell(f"{event} {name}")

    def _tell(self, what: str) -> None:
        self.seen.append(what)
        raise OutOfBoundsError(what)


def limit() -> None:
    """Bounds this process's memory and the size of files, from now on."""
    with Path("/proc/self/status").open() as stream:
        now = next(int(line.split()[1]) << 10 for line in stream if line.startswith("VmData:"))
    resource.setrlimit(resource.RLIMIT_DATA, (now + MEMORY_BYTES, now + MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def outcome(act: Callable[[], None], watch: Watch) -> str:
    """What became of a case: "used" or "refused", which is well either way.

    Raises:
        BaseException: Anything else that happened.
    """
    try:
        with watch.watching():
            act()
    except InputError as error:
        text = str(error)
        if len(text) > MESSAGE_CHARACTERS:
            raise OutOfBoundsError(f"a message of {len(text)} characters: {text[:300]!r}") from error
        if re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", text):
            raise OutOfBoundsError(f"control characters in a message: {text[:300]!r}") from error
        return "refused"
    except OSError as error:
        if error.errno not in {*FULL, *GONE} - {errno.EFBIG}:
            raise
        return "refused"
    return "used"


def cpu_seconds(process: int) -> float:
    """How long a process has computed."""
    with Path(f"/proc/{process}/stat").open() as stream:
        numbers = stream.read().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")
