"""Gets a corpus from its owners: fetched, compared with its checksum, unpacked, and only then put in its place."""

import contextlib
import difflib
import errno
import os
import shlex
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from datamodules.bars import bar_of_bytes
from datamodules.corpora import CORPORA, MissingCorpusError, find_root
from datamodules.corpora.base import Download, Reader, Repository, audio_files
from datamodules.download import Fetcher, digest, full_disk
from datamodules.errors import FULL, InputError
from datamodules.freshness import lock
from datamodules.repository import check_out
from datamodules.unpacking import unpack
from experiments.config import experiments, load

SETTING = "data.root"
HERE = "data"
"""Where corpora go if nothing else is said."""
_MOUNTED = (errno.EBUSY, errno.EXDEV)


def data(corpus: str, settings: Sequence[str] = ()) -> Path:
    """Downloads a corpus unless it is there; says its licence, what was found and what to do next.

    Args:
        corpus: What is asked for, such as "ravdess" or "librispeech-clean-100".
        settings: `data.root=<folder>`, or nothing: then it is the variable SER_AAE_DATA or a folder here.

    Returns:
        Its folder.

    Raises:
        InputError: It is unknown, not to be had without an application, or something went wrong on the way.
    """
    reader, source = _find(corpus)
    base = _base(settings)
    with _explained(base):
        try:
            root = find_root(reader, data_root=str(base))
        except MissingCorpusError:
            named = os.environ.get(f"SER_AAE_{reader.name.upper()}_ROOT")
            root = Path(named).expanduser() if named else base / reader.folders[0]
        print(f"{corpus}: {reader.licence}; the terms and how to cite it: {source.page}", flush=True)
        if _is_there(source, root):
            print("It is there already: nothing is downloaded.")
        else:
            with _explained(root.parent):
                _install(corpus, source, Path(os.path.realpath(root)), reader.how_to_get)
        root = find_root(reader, data_root=str(base))
        print(f"{root / source.part}: {_count(root / source.part)} recordings")
        for command in _next_commands(reader, base):
            print(f"next: {command}", flush=True)
    return root


def downloads() -> dict[str, tuple[type[Reader], Download | Repository]]:
    """All that can be downloaded, by the name that it is asked for."""
    return {name: (reader, source) for reader in CORPORA.values() for name, source in reader.downloads.items()}


def on_application() -> list[str]:
    """Names of the corpora that their owners give only to those who ask."""
    return [name for name, reader in CORPORA.items() if reader.folders and not reader.downloads]


def _next_commands(reader: type[Reader], base: Path) -> list[str]:
    """What can be pasted into a shell: an experiment with a corpus, after the corpora that it also takes."""
    experiment = f"{reader.name}_cat" if f"{reader.name}_cat" in experiments() else "ravdess_cat"
    settings = load(experiment).data
    commands = []
    for other in dict.fromkeys([*settings.labelled, *(one.corpus for one in settings.auxiliary)]):
        try:
            find_root(CORPORA[other], data_root=str(base))
        except MissingCorpusError:
            commands.append(f"make data CORPUS={next(iter(CORPORA[other].downloads))}")
    commands.append(f"make train EXP={experiment}")
    words = shlex.quote(f"{SETTING}={base}")  # split into words by the shell of make, after the user's own
    quoted = shlex.quote(words) if set(words) & set('"$`\\!') else f'"{words}"'
    return [f"{command} ARGS={quoted}" for command in commands]


def _find(corpus: str) -> tuple[type[Reader], Download | Repository]:
    known = downloads()
    if corpus in known:
        return known[corpus]
    if corpus in CORPORA and not CORPORA[corpus].downloads:
        raise InputError(f"{corpus} cannot be downloaded by a command", f"to get it: {CORPORA[corpus].how_to_get}")
    near = [name for name in known if name.startswith(f"{corpus}-")]
    near = near or difflib.get_close_matches(corpus, [*known, *on_application()], n=3, cutoff=0.5)
    guess = f"Did you mean: {', '.join(near)}? " if near else ""
    raise InputError(
        f"unknown corpus {corpus!r}",
        f"{guess}There are: {', '.join(known)}; on application: {', '.join(on_application())}.",
    )


def _base(settings: Sequence[str]) -> Path:
    base = os.environ.get("SER_AAE_DATA") or HERE
    for setting in settings:
        key, _, value = setting.partition("=")
        if key != SETTING or not value:
            raise InputError(f"cannot use the setting {setting!r}", f"Give {SETTING}=<folder> or nothing.")
        base = value
    return Path(base).expanduser()


def _count(folder: Path) -> int:
    return sum(1 for _ in audio_files(folder)) if folder.is_dir() else 0


def _is_there(source: Download | Repository, root: Path) -> bool:
    """Whether the corpus, which never appears before it is complete, is in its place.

    Raises:
        InputError: Something else is, or what is left of it.
    """
    folder = root / source.part
    if not folder.is_dir() or not any(folder.iterdir()):
        return False
    count = _count(folder)
    if count < source.audio:
        raise InputError(
            f"{folder} is there, but holds {count} of {source.audio} recordings",
            f"move it away, or give another place with {SETTING}=<folder>, and run the same command again",
        )
    return True


def _install(corpus: str, source: Download | Repository, root: Path, how_to_get: str) -> None:
    # Beside the place, to be on the same disk; each corpus its own, so that several may be fetched at once.
    work = root.parent / f".{corpus}.download"
    with lock(work / "lock"):
        if not _is_there(source, root):  # another process may have been quicker
            new = work / "new"
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            _try_place(new, root, source.part)
            with bar_of_bytes() as bar:
                if isinstance(source, Repository):
                    fetcher = Fetcher(work, bar, how_to_get)
                    fetcher.tell(f"Downloading {source.page}, commit {source.commit}")
                    check_out(source, new, fetcher)
                else:
                    by_hand = f"download it otherwise, put it into {root.parent} and run the same command again"
                    unpack(_archive(source, root.parent, Fetcher(work, bar, by_hand)), new, bar, source.top)
            count = _count(new / source.part)
            if count < source.audio:
                raise InputError(f"{source.page} offers {count} of {source.audio} recordings now", how_to_get)
            _put(new, root, source.part)
        shutil.rmtree(work, ignore_errors=True)


def _archive(source: Download, beside: Path, fetcher: Fetcher) -> Path:
    """The archive, which the user may have brought."""
    brought = beside / PurePosixPath(urlsplit(source.url).path).name
    if brought.is_file():
        if digest(brought, source.checksum) == source.checksum:
            fetcher.tell(f"Using {brought}, which is the published file")
            return brought
        fetcher.tell(f"{brought} is left alone: it is not the published file, or not all of it")
    fetcher.tell(f"Downloading {source.url}")
    return fetcher.fetch(source.url, source.checksum)


def _try_place(new: Path, root: Path, part: str) -> None:
    """Moves an empty folder to a corpus's place and back: what the system refuses, it does before the download."""
    if os.path.lexists(root) and not root.is_dir():
        raise InputError(f"{root} is in the way: it is no folder", "move it away and run the same command again")
    if root.is_dir():
        new.replace(root / part)
        (root / part).replace(new)


def _put(new: Path, root: Path, part: str) -> None:
    """Moves a corpus into its place: what tells that it is there comes last, and at once."""
    if part:
        root.mkdir(parents=True, exist_ok=True)
        for entry in new.iterdir():
            if entry.is_file() and not (root / entry.name).exists():  # the user's own stay
                entry.replace(root / entry.name)
    (new / part).replace(root / part)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turns what the system refuses into input errors."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise full_disk(folder) from error
        place = error.filename2 or error.filename or folder
        if error.errno in _MOUNTED:
            raise InputError(
                f"{place} is a mount point: a corpus cannot be moved there as a whole",
                f"make a folder on that disk and give it with {SETTING}=<folder>",
            ) from error
        raise InputError(
            f"{place}: {error.strerror or error}", f"give a folder that you may write to with {SETTING}=<folder>"
        ) from error
