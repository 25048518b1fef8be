"""Fetches files over HTTP: shows how far it is, tries again, goes on after a cut, and keeps what has its checksum."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from threading import Event
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pooch
import requests
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ConnectionError, InvalidURL, RequestException, SSLError, Timeout
from rich.progress import (
    Progress,
    TaskID,
)

from datamodules.errors import InputError

ATTEMPTS = 5
"""How many attempts in a row may bring nothing."""
PAUSE_S = 1.0
"""Before the second attempt; doubled before each further one."""
LONGEST_PAUSE_S = 60.0
TIMEOUT_S = (10.0, 60.0)
"""To connect, and between two pieces of an answer."""
CONNECTIONS = 8
"""How many files are fetched at once, where there are many."""
PIECE = 1 << 14
"""Bytes that are written at once: of a connection that is cut, less than that is lost."""
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")

T = TypeVar("T")


class PassingError(Exception):
    """Something went wrong that may go well the next time.

    Args:
        reason: What was answered.
        pause_s: How long the server wants to be left alone.
    """

    def __init__(self, reason: str, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


def full_disk(folder: Path, needed: int | None = None) -> InputError:
    """The error for a disk without room for what is to be written below a folder."""
    sizes = ""
    if needed is not None:
        free = shutil.disk_usage(folder).free
        sizes = f": {needed / 1e6:,.0f} MB are needed, {free / 1e6:,.0f} MB are free"
    return InputError(
        f"the disk is full that {folder} is on{sizes}",
        "free some space and run the same command again, which goes on from what is there; "
        "or choose another disk with data.root=<folder>",
    )


def digest(file: Path, checksum: str) -> str:
    """The checksum of a file, of the kind that another one is: "md5:…" or "sha256:…"."""
    algorithm = checksum.partition(":")[0]
    return f"{algorithm}:{pooch.file_hash(str(file), algorithm)}"


class Fetcher:
    """Fetches files into a folder; what is not complete stays there, and the next attempt goes on from it.

    Args:
        folder: Where to.
        bar: Shows how far it is.
        by_hand: What else the user can do where fetching fails for good.

    Attributes:
        stopped: Once it is set, what is fetched by other threads ends soon.
    """

    def __init__(self, folder: Path, bar: Progress, by_hand: str) -> None:
        self.folder = folder
        self.bar = bar
        self.by_hand = by_hand
        self.session = requests.Session()
        for scheme in ("https://", "http://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))
        self.stopped = Event()
        pooch.get_logger().setLevel("WARNING")

    def fetch(
        self,
        url: str,
        checksum: str,
        *,
        name: str = "",
        headers: Mapping[str, str] | None = None,
        task: TaskID | None = None,
    ) -> Path:
        """Fetches a file unless it is there; its checksum is compared in either case.

        Args:
            url: Where it is.
            checksum: "md5:…" or "sha256:…".
            name: Its name in the folder; empty takes the URL's.
            headers: Those that the server wants.
            task: The bar that it is a part of; without, it has one of its own.

        Raises:
            InputError: It cannot be had, or is not what was published.
        """
        name = name or PurePosixPath(urlsplit(url).path).name
        own = self.bar.add_task(name, total=None) if task is None else None
        transfer = _Transfer(self, url, self.folder / f"{name}.part", headers or {}, own, task)
        try:
            while True:
                try:
                    file = Path(pooch.retrieve(url, checksum, name, self.folder, downloader=transfer))
                    transfer.discard()
                    return file
                except ValueError as error:
                    got = digest(transfer.part, checksum)
                    transfer.discard()
                    if not transfer.inherited:
                        raise InputError(
                            f"{url} is not the file that was published: its checksum is {got} instead of {checksum}",
                            f"it was deleted; try again, or {self.by_hand}",
                        ) from error
                    # Begun another time, perhaps from another file of the same name.
                    self.tell(f"{name} does not fit to its beginning: fetching all of it again")
        finally:
            if own is not None:
                self.bar.remove_task(own)

    def retry(self, url: str, attempt: Callable[[], T], size: Callable[[], int] = lambda: 0) -> T:
        """Repeats an attempt until it goes well, or several in a row brought nothing.

        Args:
            url: What is attempted.
            attempt: Raises `PassingError` or an error of `requests`.
            size: How much there is.

        Raises:
            InputError: It did not go well.
        """
        failures, most = 0, size()
        while True:
            try:
                return attempt()
            except (PassingError, RequestException) as error:
                if self.stopped.is_set():
                    raise
                # Where every attempt begins anew, only what none had before is a progress.
                failures = 0 if size() > most else failures + 1
                most = max(most, size())
                passing = isinstance(error, PassingError | ConnectionError | Timeout | ChunkedEncodingError)
                if failures >= ATTEMPTS or not passing or isinstance(error, SSLError):
                    raise self.refused(url, _reason(error)) from error
                self.tell(f"{url}: {_reason(error)}; trying again")
                pause_s = max(PAUSE_S * 2 ** max(failures - 1, 0), getattr(error, "pause_s", 0.0))
                if self.stopped.wait(min(pause_s, LONGEST_PAUSE_S)):
                    raise

    def refused(self, url: str, reason: str) -> InputError:
        """The error for what cannot be had."""
        return InputError(f"{url} cannot be downloaded: {reason}", f"try again later, or {self.by_hand}")

    def tell(self, line: str) -> None:
        """Prints a line above the bar."""
        self.bar.console.print(line)


class _Transfer:
    """Brings one file here; pooch calls it with the URL and the place, and compares the checksum.

    Attributes:
        inherited: Whether what came last was put behind what an earlier call left.
    """

    def __init__(
        self,
        fetcher: Fetcher,
        url: str,
        part: Path,
        headers: Mapping[str, str],
        own: TaskID | None,
        shared: TaskID | None,
    ) -> None:
        self.fetcher = fetcher
        self.url = url
        self.part = part
        self.tag = part.with_name(f"{part.name}.tag")
        self.headers = headers
        self.own = own  # a bar of its own shows its total, too
        self.task = own if shared is None else shared
        self.shown = 0
        self.inherited = part.is_file()

    def __call__(self, url: str, target: str, _pooch: Any) -> None:
        self.fetcher.retry(url, self.receive, self.size)
        # Under both names, since pooch deletes what it was given when it is interrupted.
        Path(target).unlink()
        try:
            os.link(self.part, target)
        except OSError:  # not all file systems have links
            shutil.copyfile(self.part, target)

    def size(self) -> int:
        """How much there is."""
        return self.part.stat().st_size if self.part.is_file() else 0

    def discard(self) -> None:
        """Deletes what there is."""
        for file in (self.part, self.tag):
            file.unlink(missing_ok=True)

    def receive(self) -> None:
        """Makes one request, for all that is missing."""
        there = self.size()
        # Of compressed answers no range could be asked for.
        headers = {**self.headers, "Accept-Encoding": "identity"}
        if there:
            headers["Range"] = f"bytes={there}-"
            if self.tag.is_file():
                headers["If-Range"] = self.tag.read_text(encoding="latin-1")  # all of it, if it has changed
        with self._ask(headers) as answer:
            if answer.status_code == 416:
                if there and answer.headers.get("Content-Range") == f"bytes */{there}":
                    return  # nothing was missing
                self.discard()
            check(answer)
            start, total = _extent(answer)
            if start not in (0, there):
                self.discard()
                raise PassingError(f"bytes from {start} on were sent instead of {there}")
            # What is there is gone on from, or written over.
            if total is not None and total - there > shutil.disk_usage(self.part.parent).free:
                raise full_disk(self.part.parent, total - there)
            self.inherited = self.inherited and start > 0
            if self.own is not None:
                self.fetcher.bar.update(self.own, total=total)
            self._show(start)
            with self.part.open("ab" if start else "wb") as stream:
                if not start:
                    self._keep_tag(answer)
                answer.raw.headers.pop("Content-Encoding", None)  # said of a .tar.gz, which is kept as it is
                for piece in answer.iter_content(PIECE):
                    if self.fetcher.stopped.is_set():
                        raise PassingError("it was stopped")
                    stream.write(piece)
                    self._show(self.shown + len(piece))
        if total is not None and self.size() < total:
            raise PassingError("the connection was cut")

    def _ask(self, headers: Mapping[str, str]) -> requests.Response:
        try:
            return self.fetcher.session.get(self.url, headers=headers, stream=True, timeout=TIMEOUT_S)
        except ValueError as error:  # partly from below requests
            raise InvalidURL(f"it leads to an address that is none: {error}") from error

    def _keep_tag(self, answer: requests.Response) -> None:
        tag = answer.headers.get("ETag", "W/")
        if tag.startswith("W/"):  # the weak ones do not promise the same bytes
            tag = answer.headers.get("Last-Modified", "")
        if tag:
            self.tag.write_text(tag, encoding="latin-1")
        else:
            self.tag.unlink(missing_ok=True)

    def _show(self, size: int) -> None:
        if self.task is not None:
            self.fetcher.bar.advance(self.task, size - self.shown)
        self.shown = size


def _reason(error: Exception) -> str:
    """What went wrong, without the layers of libraries that say so."""
    said = str(error)
    if isinstance(error, ChunkedEncodingError):
        return "the connection was cut"
    if isinstance(error, Timeout) or "timed out" in said:
        return "the server does not answer"
    if isinstance(error, ConnectionError) and "Connection aborted" in said:
        return "the server closed the connection without an answer"
    system = re.search(r"\[Errno -?\d+\] ([^'\")]+)", said)
    return system[1] if system and isinstance(error, ConnectionError) else said


def check(answer: requests.Response) -> None:
    """Raises what a refusal calls for: `PassingError` where it may pass, else an error of `requests`."""
    if answer.status_code in _PASSING or answer.status_code == 416:
        wait = answer.headers.get("Retry-After", "")
        raise PassingError(
            f"the server answered {answer.status_code} {answer.reason}", float(wait or 0) if wait.isdecimal() else 0
        )
    if answer.status_code not in (200, 206):
        raise RequestException(f"the server answered {answer.status_code} {answer.reason}")


def _extent(answer: requests.Response) -> tuple[int, int | None]:
    """Where in the file an answer begins, and the size of the file, if it is told."""
    if answer.status_code == 206:
        told = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if told is None:
            raise PassingError("a part of the file was sent, without telling which")
        return int(told[1]), None if told[2] == "*" else int(told[2])
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None
