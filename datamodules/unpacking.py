"""Unpacks archives of others: nothing ever lands outside the folder, and nothing but files and folders is made."""

import errno
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, NamedTuple

from rich.progress import Progress

from datamodules.download import full_disk
from datamodules.errors import InputError

_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)
# Of names that contradict each other or are none; the modules that decompress give no number.
_OF_MEMBERS = {None, errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ}


class _Member(NamedTuple):
    name: str
    size: int
    kind: str  # "file", "folder", or what else it is
    open: Callable[[], IO[bytes] | None]


def unpack(archive: Path, folder: Path, bar: Progress, top: str = "") -> None:
    """Unpacks a zip or tar archive.

    Args:
        archive: The file.
        folder: Where to; it is empty.
        bar: Shows how far it is.
        top: Only what is in this folder of the archive is unpacked, without it.

    Raises:
        InputError: A member would land outside the folder or is neither file nor folder, the archive is damaged or has
            no such folder, or the disk has no room.
    """
    above = PurePosixPath(top)
    task = bar.add_task(f"unpacking {archive.name}", total=archive.stat().st_size)
    with archive.open("rb") as stream:
        try:
            members = _zip_members(stream, folder) if zipfile.is_zipfile(stream) else _tar_members(stream)
            for member in members:
                path = inside(member.name, str(archive))
                if member.kind not in ("file", "folder"):
                    raise _unsafe(str(archive), member.name, f"a {member.kind}")
                bar.update(task, completed=stream.tell())
                if not path.is_relative_to(above):
                    continue
                target = folder / path.relative_to(above)
                if member.kind == "folder":
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                if member.size > shutil.disk_usage(folder).free:
                    raise full_disk(folder, member.size)
                target.parent.mkdir(parents=True, exist_ok=True)
                source = member.open()
                with target.open("xb") as copy:
                    if source is not None:
                        shutil.copyfileobj(source, copy, 1 << 20)
        except (*_DAMAGED, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _OF_MEMBERS:
                raise
            raise InputError(f"{archive} cannot be unpacked: {error}", "remove it, and fetch it again") from error
        finally:
            bar.remove_task(task)
    if not any(folder.iterdir()):
        raise InputError(f"{archive} holds nothing in the folder '{top}'", "the archive is not the corpus's own")


def inside(name: str, source: str) -> PurePosixPath:
    """Returns a path relative to a folder that it cannot leave.

    Raises:
        InputError: It could.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise _unsafe(source, name, "a path outside")
    return path


def _unsafe(source: str, name: str, what: str) -> InputError:
    return InputError(
        f"{source} was not unpacked: its member '{name}' is {what}",
        "a corpus consists of files in folders: do not use what you have here, and tell its owners",
    )


def _zip_members(stream: BinaryIO, folder: Path) -> Iterator[_Member]:
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if total > shutil.disk_usage(folder).free:
            raise full_disk(folder, total)
        for member in members:
            kind = stat.S_IFMT(member.external_attr >> 16)  # 0 where the archive comes from other systems
            kinds = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}
            said = "folder" if member.is_dir() else kinds.get(kind, "device")
            yield _Member(member.filename, member.file_size, said, partial(archive.open, member))


def _tar_members(stream: BinaryIO) -> Iterator[_Member]:
    stream.seek(0)
    with tarfile.open(fileobj=stream, mode="r|*") as archive:  # one pass: the largest have tens of gigabytes
        for member in archive:
            kind = "file" if member.isreg() else "folder" if member.isdir() else "device"
            if member.issym() or member.islnk():
                kind = "link"
            yield _Member(member.name, member.size, kind, partial(archive.extractfile, member))
