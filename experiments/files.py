"""Files of results: written at once, never over others; free of heavy imports."""

import csv
import difflib
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from datamodules.errors import InputError
from experiments.claims import release, take

BEST = Path("checkpoints", "best.ckpt")
"""Of a run folder: the epoch that was best on development data."""
LAST = Path("checkpoints", "last.ckpt")
"""Of a run folder: what an interrupted training goes on from."""
BEFORE = Path("checkpoints", "before.ckpt")
"""Of a run folder: the one before it, should it be damaged."""

DAMAGED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    csv.Error,
)
"""What to use a file that says something else than it should may raise."""

SECONDS_TO_END = 10
"""How long what a killed process started may take to notice that, and to let go of what it inherited."""


def find_yaml(kind: str, name: str, folder: Path, known: Sequence[str]) -> Path:
    """The YAML file of something that ships, or of the user's own.

    Args:
        kind: What it describes, for messages.
        name: Of what ships, or the path of a file.
        folder: Of what ships.
        known: Names of what ships.

    Raises:
        InputError: There is no such thing.
    """
    if name.endswith((".yaml", ".yml")):
        if not is_file(Path(name)):
            raise InputError(f"the {kind} file {name} does not exist", f"Give a file, or one of: {', '.join(known)}.")
        return Path(name)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
        hint = f"Did you mean: {', '.join(near)}? " if near else ""
        raise InputError(f"unknown {kind} {name!r}", f"{hint}There are: {', '.join(known)}.")
    return folder / f"{name}.yaml"


def is_file(path: Path) -> bool:
    """Whether a file is there; a name that no file can have is of none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def make_folder(folder: Path, new: bool = True) -> None:
    """Makes a folder for results, with those above it.

    Args:
        folder: Of a run, or of an experiment.
        new: It must not be there yet: results of a run are never overwritten. One in which a run had no more than begun
            to write when it was killed counts as not there.

    Raises:
        InputError: It is there already, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=not new or _begun(folder))
    except FileExistsError as error:
        raise InputError(
            f"the run folder {folder} already exists",
            "Give the run another name with run=<name>, or remove the folder.",
        ) from error
    except (PermissionError, NotADirectoryError) as error:
        raise InputError(
            f"the folder {folder} cannot be made: {error.strerror}",
            "Give a folder that you may write to with output=<folder>.",
        ) from error


def _begun(folder: Path) -> bool:
    """Whether there is nothing but locks and drafts in a folder."""
    return folder.is_dir() and all(one.match(".lock") or one.match(".*.draft") for one in folder.iterdir())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keeps others from making the same run; however this process ends, the system lets go of its folder.

    Raises:
        InputError: Another process is making it.
    """
    until = time.monotonic() + SECONDS_TO_END
    while (claim := take(folder / ".lock")) is None:
        if time.monotonic() > until:
            raise InputError(
                f"another process is making the run {folder}",
                "Wait until it has ended, or begin another run with run=<name>.",
            )
        time.sleep(0.2)
    try:
        yield
    finally:
        release(claim)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Opens a draft beside a file, which takes its place when all is on the disk.

    Nobody ever sees half of it, and what was there before survives whatever happens, a full disk included.

    Raises:
        OSError: It cannot be written; ``filename`` is set.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.unlink(missing_ok=True)  # of somebody who was killed; were it a link, another file would be written to
        with draft.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # to write, unlike to open, does not tell
        raise
    finally:
        draft.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON, at once."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    with replacing(path) as stream:
        stream.write(f"{text}\n".encode())


def read_json(path: Path) -> dict[str, Any]:
    """Reads what ``write_json`` wrote.

    Raises:
        InputError: The file is missing or damaged.
    """
    with understood(path):
        content = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it has no keys")
    return content


def parse_json(text: str | bytes) -> Any:
    """What JSON of somebody else says.

    Raises:
        ValueError: It is damaged, or escapes in it stand for no character, and could not be written again.
    """
    content = json.loads(text)
    json.dumps(content, ensure_ascii=False).encode()
    return content


@contextmanager
def understood(path: Path) -> Iterator[None]:
    """Turns what goes wrong with a file of a run that says something else than it should into input errors.

    Args:
        path: The file, or the run folder.

    Raises:
        InputError: It is missing or damaged.
    """
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{error.filename or path} does not exist", "Give the folder of a finished run.") from error
    except (*DAMAGED, IsADirectoryError) as error:
        why = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} is damaged: {why}", "Give the folder of another run, or train again.") from error


def check_ours(path: Path, mark: str) -> None:
    """Checks that what is to be replaced was written by this program.

    Args:
        path: The file, which need not be there.
        mark: What all that it writes there has.

    Raises:
        InputError: It was not.
    """
    if path.exists() and (not path.is_file() or mark not in path.read_text(encoding="utf-8", errors="replace")):
        raise InputError(
            f"{path} is in the way: this program did not write it, and does not write over it",
            "Move it, or give another folder.",
        )


def check_links(folder: Path) -> None:
    """Checks that no file of a run folder is a link: who goes on with the run would write to what it stands for.

    Raises:
        InputError: One is.
    """
    for path in (*folder.glob("*"), *folder.glob(".*"), *folder.glob("checkpoints/*"), *folder.glob("figures/*")):
        if path.is_symlink():
            raise InputError(
                f"{path} is a link, and would be written to: the run is not gone on with",
                "Put what it stands for in its place, or remove it.",
            )


def read_scores(folder: Path, name: str) -> dict[int, float]:
    """A run's scores so far, by epoch.

    Args:
        folder: The run folder.
        name: Of the score, as in ``metrics.csv``.
    """
    path = folder / "metrics.csv"
    if not path.exists():
        return {}
    with understood(path):
        with path.open(encoding="utf-8", newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row.get(name)]
        found = {int(float(row["epoch"])): float(row[name]) for row in rows}
    return {epoch: score for epoch, score in found.items() if math.isfinite(score)}


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
