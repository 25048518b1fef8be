"""Fetches a commit of somebody's Git repository: only the files that are needed, also those in Git LFS."""

import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from datamodules.corpora.base import Repository
from datamodules.download import CONNECTIONS, TIMEOUT_S, Fetcher, PassingError, check, full_disk
from datamodules.errors import InputError
from datamodules.freshness import lock
from datamodules.unpacking import inside

BATCH = 100
"""How many files are asked for at once; after a cut, as many are fetched again."""
_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\noid sha256:([0-9a-f]{64})\nsize (\d+)\n")
_NETWORK = re.compile(
    r"resolve|connect|timed out|too slow|recv|reply|eof|hung up|stream|closed|curl (?!22)\d"
    r"|returned error: (?:408|425|429|5\d\d)",
    re.I,
)
"""What Git says where the network fails, or a server for now."""
_LFS = "application/vnd.git-lfs+json"

T = TypeVar("T")


class _Large(NamedTuple):
    """A file in Git LFS, by the SHA-256 of its content."""

    oid: str
    size: int


def check_out(repository: Repository, folder: Path, fetcher: Fetcher) -> None:
    """Writes the needed files of a repository.

    What is received is what the owners published: Git follows every file from the commit, which is a hash of them all,
    and in place of a file in Git LFS the commit has its SHA-256.

    Args:
        repository: Which one.
        folder: Where to; it is empty.
        fetcher: In its folder is kept what was received, until all is.

    Raises:
        InputError: It cannot be had, or is not what was published.
    """
    # Git holds the lock, too: one that outlived us when we were killed is waited for.
    with lock(fetcher.folder / "git.lock") as held:
        _check_out(_Git(fetcher.folder / "repository.git", repository, fetcher, held), folder)


def _check_out(git: "_Git", folder: Path) -> None:
    repository, fetcher = git.repository, git.fetcher
    files = git.files()
    large: dict[_Large, list[Path]] = defaultdict(list)
    for path, content in zip(files, git.contents(list(files.values())), strict=True):
        target = folder / inside(path, repository.page)
        target.parent.mkdir(parents=True, exist_ok=True)
        if pointer := _POINTER.fullmatch(content):
            large[_Large(pointer[1].decode(), int(pointer[2]))].append(target)
        else:
            target.write_bytes(content)
    for one, fetched in zip(large, _fetch_large(repository, list(large), fetcher), strict=True):
        for target in large[one]:  # the same content may have several names
            shutil.copyfile(fetched, target)  # kept until all is in its place


class _GitError(InputError):
    """Git refused something."""


class _Git:
    """A bare repository that holds one commit of another one, all its folders, and of its files the needed ones."""

    def __init__(self, folder: Path, repository: Repository, fetcher: Fetcher, held: int) -> None:
        self.folder, self.repository, self.fetcher, self.held = folder, repository, fetcher, held
        for stale in folder.glob("*.lock"):  # of a Git that was killed: none is at work here, or it would hold the lock
            stale.unlink()
        self._run("init", "--quiet", "--bare")
        for key, value in (("url", repository.page), ("promisor", "true"), ("partialclonefilter", "blob:none")):
            self._run("config", f"remote.origin.{key}", value)

    def files(self) -> dict[str, str]:
        """Fetches the commit and all needed files; returns their paths with their object ids."""
        commit = self.repository.commit
        self._fetch("--depth=1", "origin", commit)
        files = {}
        for line in self._run("ls-tree", "-r", "-z", commit, "--", *self.repository.paths).split("\0")[:-1]:
            about, _, path = line.partition("\t")
            mode, _kind, oid = about.split(" ")
            if not mode.startswith("100"):
                raise InputError(f"{self.repository.page}: '{path}' is a link or a repository", "tell its owners")
            files[path] = oid
        absent = set(re.findall(r"^\?(\w+)$", self._run("rev-list", "--objects", "--missing=print", commit), re.M))
        wanted = sorted(absent & set(files.values()))
        task = self.fetcher.bar.add_task(f"{len(wanted)} files in portions", total=None)
        for portion in _portions(wanted):
            self._fetch("--stdin", "origin", objects=portion)
            self.fetcher.bar.update(task, completed=sum(file.stat().st_size for file in self.folder.rglob("*.pack")))
        self.fetcher.bar.remove_task(task)
        return files

    def contents(self, objects: Sequence[str]) -> Iterator[bytes]:
        """Yields the contents of files by their object ids."""
        with subprocess.Popen(
            self._command("cat-file", "--batch"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as git:
            assert git.stdin is not None
            assert git.stdout is not None
            for oid in objects:
                git.stdin.write(f"{oid}\n".encode())
                git.stdin.flush()
                size = int(git.stdout.readline().split()[2])
                yield git.stdout.read(size)
                git.stdout.read(1)
            git.stdin.close()

    def _fetch(self, *arguments: str, objects: Iterable[str] = ()) -> None:
        options = ("--quiet", "--no-tags", "--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none")
        lines = "".join(f"{oid}\n" for oid in objects)

        def attempt() -> None:
            try:
                self._run("fetch", *options, *arguments, lines=lines)
            except _GitError as error:
                if _NETWORK.search(error.problem):
                    raise PassingError(error.problem) from error
                raise self.fetcher.refused(self.repository.page, error.problem) from error

        self.fetcher.retry(self.repository.page, attempt)

    def _run(self, *arguments: str, lines: str = "") -> str:
        # Nobody is asked for a password: what needs one is refused.
        environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
        try:
            done = subprocess.run(
                self._command(*arguments),
                input=lines,
                env=environment,
                pass_fds=[self.held],
                capture_output=True,
                text=True,
                errors="surrogateescape",
                check=False,
            )
        except FileNotFoundError as error:
            raise InputError("the program git is missing", f"install it, or {self.fetcher.by_hand}") from error
        said = " ".join(done.stderr.split())
        if done.returncode and ("No space left" in said or "Disk quota" in said):
            raise full_disk(self.folder)
        if done.returncode:
            raise _GitError(f"git {arguments[0]}: {said}", f"remove {self.folder} and run the same command again")
        return done.stdout

    def _command(self, *arguments: str) -> list[str]:
        slow = ("http.lowSpeedLimit=1000", f"http.lowSpeedTime={TIMEOUT_S[1]:.0f}")
        settings = ("gc.auto=0", "maintenance.auto=false", "fetch.negotiationAlgorithm=noop", *slow)
        return ["git", f"--git-dir={self.folder}", *(word for one in settings for word in ("-c", one)), *arguments]


def _fetch_large(repository: Repository, files: Sequence[_Large], fetcher: Fetcher) -> list[Path]:
    """Fetches files from Git LFS; returns where they are, in the same order."""
    places = [fetcher.folder / one.oid for one in files]
    absent = [one for one, place in zip(files, places, strict=True) if not place.is_file()]
    total, missing = (sum(one.size for one in some) for some in (files, absent))
    task = fetcher.bar.add_task(f"{len(files)} files", total=total, completed=total - missing)

    def fetch(links: Mapping[str, tuple[str, dict[str, str]]], one: _Large) -> None:
        url, headers = links[one.oid]
        fetcher.fetch(url, f"sha256:{one.oid}", name=one.oid, headers=headers, task=task)

    with ThreadPool(CONNECTIONS) as pool:  # an executor would wait for servers that are silent, however this ends
        try:
            for portion in _portions(absent):
                links = _links(repository, portion, fetcher)  # which do not last, and so are not asked for all at once
                list(pool.imap(partial(fetch, links), portion))
        except BaseException:
            fetcher.stopped.set()
            raise
    fetcher.bar.remove_task(task)
    return places


def _links(repository: Repository, files: Sequence[_Large], fetcher: Fetcher) -> dict[str, tuple[str, dict[str, str]]]:
    """Asks where files in Git LFS can be had; returns URL and headers of each, by its hash."""
    # Owners pay for what is fetched from Git LFS: where their budget is spent, another repository of theirs may go on.
    refusals = []
    for page in (repository.page, *repository.mirrors):
        url = f"{page}.git/info/lfs/objects/batch"
        try:
            return fetcher.retry(url, partial(_ask, url, files, fetcher))
        except InputError as error:
            refusals.append(error.problem)
    raise InputError("\n".join(refusals), f"try again later, or {fetcher.by_hand}")


def _ask(url: str, files: Sequence[_Large], fetcher: Fetcher) -> dict[str, tuple[str, dict[str, str]]]:
    wanted = [{"oid": one.oid, "size": one.size} for one in files]
    request: dict[str, Any] = {"operation": "download", "transfers": ["basic"], "objects": wanted}
    headers = {"Accept": _LFS, "Content-Type": _LFS}
    with fetcher.session.post(url, json=request, headers=headers, timeout=TIMEOUT_S) as answer:
        check(answer)
        links = {}
        for one in answer.json()["objects"]:
            if "error" in one:
                raise fetcher.refused(url, one["error"]["message"])
            link = one["actions"]["download"]
            links[one["oid"]] = (link["href"], link.get("header", {}))
    return links


def _portions(objects: Sequence[T]) -> Iterator[Sequence[T]]:
    return (objects[start : start + BATCH] for start in range(0, len(objects), BATCH))
