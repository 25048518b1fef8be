"""What tests of downloads share: what is offered, the command that fetches it, and what it says."""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.progress import Progress, TaskID

from datamodules import download
from datamodules.corpora.base import Download, Repository

PROJECT = Path(__file__).parents[2]
PATH = "/files/speech.zip"
CUT = 3 * download.PIECE
"""After how many bytes connections are cut."""
PART = Path(".ravdess.download/speech.zip.part")


def zipped(folder: Path, top: str = "") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as target:
        for file in sorted(folder.rglob("*")):
            target.write(file, f"{top}{file.relative_to(folder)}")
    return packed.getvalue()


def tarred(folder: Path, top: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as target:
        target.add(folder, top)
    return packed.getvalue()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


class Told(NamedTuple):
    code: int
    out: str
    err: str


Offer = Callable[..., Download]
Data = Callable[..., Told]


def error(told: Told) -> str:
    """The one message of a command that was refused, without what was told on the way to it."""
    assert told.code == 2
    assert len(re.findall("^error: ", told.err, re.M)) == 1
    assert "Traceback" not in told.err
    message = re.split("^error: ", told.err, flags=re.M)[1]
    assert "\n  " in message, "a remedy"
    return message


def plant(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)


def limit_disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: type("Usage", (), {"free": free}))


class Bar(Progress):
    """A bar that remembers what it showed last."""

    def __init__(self) -> None:
        super().__init__(disable=True)
        self.last: dict[str, tuple[float, float | None]] = {}

    def remove_task(self, task_id: TaskID) -> None:
        (task,) = (one for one in self.tasks if one.id == task_id)
        self.last[task.description] = (task.completed, task.total)
        super().remove_task(task_id)


SCRIPT = """
import signal
import sys
from datamodules.corpora import CORPORA
from datamodules.corpora.base import Download, Repository
from experiments.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has jobs in the background ignore it
corpus, source, root = sys.argv[1:]
CORPORA[corpus].downloads = {corpus: eval(source)}
sys.exit(main(["data", corpus, f"data.root={root}"]))
"""


def start(source: Download | Repository, root: Path, corpus: str = "ravdess") -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SCRIPT, corpus, repr(source), str(root)]
    return subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def commit(folder: Path) -> str:
    """Makes a repository of a folder; returns the commit."""
    who = {f"GIT_{role}_{what}": "x@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*words: str) -> str:
        command = ["git", "-c", "core.autocrlf=false", *words]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, **who}, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message=all")
    git("config", "uploadpack.allowFilter", "true")
    git("config", "uploadpack.allowAnySHA1InWant", "true")
    return git("rev-parse", "HEAD")
