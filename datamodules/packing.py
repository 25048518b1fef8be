"""Packs a corpus into few large files, for file systems that hate small ones, and opens such packs.

A pack is a folder: shards, which hold the original files byte for byte one after the other; an index, which says of
each row of the manifest where its file is; the manifest and its state; `SHA256SUMS`, for `sha256sum --check`; and
`pack.json`, which describes it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.bars import bar_of_bytes
from datamodules.corpora.base import Reader
from datamodules.errors import InputError, explained
from datamodules.freshness import durable, lock
from datamodules.manifest import VERSION as MANIFEST_VERSION
from datamodules.manifest import Manifest, check_sound, state_file
from datamodules.speech import PLACE, Packed

VERSION = 1
"""Of the pack's own format."""

DESCRIPTION = "pack.json"
"""Written last: where it is, the pack is complete."""
INDEX = "rows.index"
MANIFEST = "manifest.arrow"
SUMS = "SHA256SUMS"
_ROWS = 1 << 16
_PIECE = 1 << 22


def shard_name(number: int) -> str:
    """The file of a shard."""
    return f"shard-{number:05d}.bin"


class Pack:
    """A corpus that was packed.

    Args:
        folder: What `pack_corpus` made.

    Raises:
        InputError: It is no pack, is of another version, or a file of it is missing or cut off.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()
        try:
            self.description: dict[str, Any] = json.loads((self.folder / DESCRIPTION).read_text())
            version = self.description["version"], self.description["manifest_version"]
            files: dict[str, int] = dict(self.description["files"])
            if INDEX not in files or MANIFEST not in files or any("/" in name for name in files):
                raise ValueError("it names other files than a pack has")
        except (OSError, ValueError, KeyError, RecursionError, TypeError) as error:
            raise InputError(
                f"{folder} is no pack of a corpus: {DESCRIPTION} cannot be read there ({error})",
                "make pack writes one; it is there only when it is complete",
            ) from error
        if version != (VERSION, MANIFEST_VERSION):
            raise InputError(
                f"the pack {folder} was made by another version of this program",
                "remove it and pack the corpus again",
            )
        for name, size in files.items():
            file = self.folder / name
            there = file.stat().st_size if file.is_file() else None
            if there != size:
                found = "is missing" if there is None else f"has {there} bytes instead of {size}"
                raise InputError(
                    f"the pack {folder} is damaged: {name} {found}",
                    "copy it again from where it is whole, or remove it and pack the corpus again",
                )

    @cached_property
    def manifest(self) -> Manifest:
        """The corpus's manifest, byte for byte that of the corpus itself."""
        return Manifest(self.folder / MANIFEST)

    def source(self, sample_rate: int) -> Packed:
        """The speech, at a rate in Hz."""
        return Packed(self.folder, INDEX, shard_name, sample_rate)

    def check(self, reader: Reader, hash_content: bool) -> None:
        """Refuses a pack of another corpus than the one that is wanted.

        Raises:
            InputError: It was packed with another reader or other options, or without looking into its files.
        """
        check_sound(self.folder / MANIFEST)
        facts = self.manifest.facts
        packed = {"reader": facts["reader"], "corpus": facts["corpus"], "options": facts["options"]}
        options = json.loads(json.dumps(reader.options(), default=str))
        wanted = {"reader": reader.name, "corpus": reader.corpus, "options": options}
        for name, value in wanted.items():
            if value != packed[name]:
                raise InputError(
                    f"the pack {self.folder} has the {name} {_words(packed[name])}, "
                    f"but the experiment wants {_words(value)}",
                    "give the same settings of the corpus as when it was packed, or pack it again into another folder",
                )
        if (hash_content or reader.labelled) and not facts["audit"]["hash_content"]:
            raise InputError(
                f"the pack {self.folder} was made with hash_content=false, but the experiment wants hash_content=true",
                f"set hash_content=false for {reader.corpus} in data.auxiliary, or pack it again into another folder",
            )


def is_pack(folder: Path) -> bool:
    """Whether a pack is there."""
    return (folder / DESCRIPTION).is_file()


def pack_corpus(manifest: Manifest, folder: Path, shard_bytes: int) -> Path | None:
    """Packs a corpus.

    It is made in a hidden folder beside its place and moved there when it is complete: after an interruption, the same
    call begins again.

    Args:
        manifest: The corpus; its root holds the files.
        folder: Gets a folder of the corpus's name.
        shard_bytes: A shard ends with the file that brings it to this size.

    Returns:
        The corpus's folder, or None if it was packed there before.

    Raises:
        InputError: Something else is in its place, the disk is full or cannot be written, or a file of the corpus
            cannot be read.
    """
    folder = folder.expanduser().resolve()
    place = folder / manifest.corpus
    with explained(f"the pack {place}", folder, "pack"):
        work = folder / f".{manifest.corpus}.packing"
        with lock(folder / f".{manifest.corpus}.lock"):
            if _is_there(manifest, place):
                return None
            if work.exists():
                shutil.rmtree(work)  # of a run that was interrupted: it had not ended, since the lock is free
            work.mkdir()
            try:
                _write(manifest, work, shard_bytes)
                work.rename(place)
            finally:
                shutil.rmtree(work, ignore_errors=True)
            _sync(folder)
    return place


def _is_there(manifest: Manifest, place: Path) -> bool:
    """Whether the corpus is packed in its place.

    Raises:
        InputError: Something else is there.
    """
    if not os.path.lexists(place):
        return False
    if not is_pack(place):
        raise InputError(
            f"{place} is in the way: it is no pack, and is not written over", "move it, or give another folder as pack"
        )
    known = Pack(place).manifest.sha256
    if known != manifest.sha256:
        raise InputError(
            f"{place} is a pack of another state of {manifest.corpus}, or with other options: "
            f"its manifest is {known[:12]}, that of the corpus {manifest.sha256[:12]}",
            "remove it, or give another folder as pack",
        )
    return True


def _write(manifest: Manifest, work: Path, shard_bytes: int) -> None:
    codes, paths = manifest.codes("path")
    places, shards = _write_shards(manifest, paths, work, shard_bytes)
    index = hashlib.sha256()
    with durable(work / INDEX) as stream:
        for first in range(0, len(codes), _ROWS):
            records = b"".join(PLACE.pack(*place) for place in places[codes[first : first + _ROWS]].tolist())
            index.update(records)
            stream.write(records)
    sums = {**shards, INDEX: index.hexdigest()}
    for name, file in ((MANIFEST, manifest.file), (state_file(work / MANIFEST).name, state_file(manifest.file))):
        sums[name] = _copy(file, work / name)
    with durable(work / SUMS) as stream:
        stream.write("".join(f"{digest}  {name}\n" for name, digest in sums.items()).encode())
    description = {
        "version": VERSION,
        "manifest_version": manifest.facts["version"],
        "corpus": manifest.corpus,
        "reader": manifest.facts["reader"],
        "options": manifest.facts["options"],
        "licence": manifest.facts["licence"],
        "manifest": manifest.sha256,
        "utterances": len(manifest),
        "recordings": len(paths),
        "files": {name: (work / name).stat().st_size for name in sums},
    }
    with durable(work / DESCRIPTION) as stream:
        stream.write((json.dumps(description, indent=2) + "\n").encode())
    _sync(work)


def _write_shards(
    manifest: Manifest, paths: list[str], work: Path, shard_bytes: int
) -> tuple[NDArray[np.int64], dict[str, str]]:
    """Writes the files one after the other; returns each one's place, (files, 3), and the shards' checksums."""
    places = np.empty((len(paths), 3), np.int64)
    sums: dict[str, str] = {}
    done = 0
    with bar_of_bytes() as bar:
        task = bar.add_task(f"Packing {manifest.corpus}", total=None)
        while done < len(paths):
            name = shard_name(len(sums))
            digest = hashlib.sha256()
            offset = 0
            with durable(work / name) as stream:
                while done < len(paths) and (offset == 0 or offset < shard_bytes):
                    begin = offset
                    for piece in _pieces(manifest, paths[done]):
                        stream.write(piece)
                        digest.update(piece)
                        offset += len(piece)
                    places[done] = len(sums), begin, offset - begin
                    done += 1
                    bar.advance(task, offset - begin)
            sums[name] = digest.hexdigest()
    return places, sums


def _pieces(manifest: Manifest, path: str) -> Iterator[bytes]:
    """The bytes of a file of the corpus."""
    try:
        with (manifest.root / path).open("rb") as stream:
            while piece := stream.read(_PIECE):
                yield piece
    except OSError as error:
        raise InputError(
            f"{manifest.corpus}: {manifest.root / path} cannot be read: {error.strerror}",
            "repair it, or give data.rebuild=true, which leaves out what is unusable",
        ) from error


def _copy(file: Path, to: Path) -> str:
    """Copies a file, and returns its checksum."""
    with file.open("rb") as stream, durable(to) as copy:
        shutil.copyfileobj(stream, copy)
    with to.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """What was renamed in a folder is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _words(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)
