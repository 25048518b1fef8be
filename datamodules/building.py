"""Makes manifests: a reader lists the utterances, the audit looks into their files, the result is kept."""

import contextlib
import csv
import errno
import hashlib
import inspect
import json
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datamodules.audit import AuditSettings, Inspection, Result, Segment, inspect_all
from datamodules.bars import bar_of_utterances
from datamodules.corpora.base import Fault, Reader, Scale, Utterance
from datamodules.errors import InputError
from datamodules.freshness import Stamps, durable, lock, read_state, unchanged
from datamodules.manifest import META, SCHEMA, VERSION, WORD, Manifest, is_whole, state_file
from datamodules.splits import SIDES
from datamodules.vocabulary import DIMENSIONS, GENDERS

_UTTERANCE = [field.name for field in fields(Utterance)]
DRAFT = pa.schema([(field.name, pa.string() if field.type == WORD else field.type) for field in SCHEMA])
"""Columns of a manifest whose rows are not all known yet: strings that repeat are plain."""

_ROWS_PER_BATCH = 1 << 14
# By whether they are decoded; a chunk is a fraction of a second.
_SEGMENTS_PER_CHUNK = {True: 64, False: 1024}
_FAULTS_SHOWN = 5
_ODD_FILES = (errno.EISDIR, errno.ELOOP, errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
"""What becomes of opening a folder, a link to itself or to nothing where a corpus has a file."""


def build_manifest(
    reader: Reader,
    root: Path,
    cache_dir: Path,
    *,
    hash_content: bool,
    max_bad_fraction: float = 0.01,
    workers: int | None = None,
    rebuild: bool = False,
    progress: bool = True,
    audit: AuditSettings | None = None,
) -> Manifest:
    """Makes the manifest of a corpus, or finds the one that was made before.

    It is made again when the reader, its options or its source changed, or the corpus did: its folders, its metadata
    files and, where content is hashed, its audio files are compared by size and time of modification. Several processes
    may ask at once: one makes it, the others wait.

    Args:
        reader: The corpus's reader.
        root: Its folder.
        cache_dir: Where manifests are kept.
        hash_content: Decode every file (see `AuditSettings`); always done for a labelled corpus.
        max_bad_fraction: The largest share of the corpus that may be unusable.
        workers: Number of processes; None is one for each core.
        rebuild: Make it again in any case.
        progress: Show a progress bar on the terminal.
        audit: What counts as unusable.

    Raises:
        InputError: If the root does not exist, the corpus is empty or too much of it is unusable, the reader does not
            understand it, or the cache cannot be written.
    """
    root = root.expanduser().resolve()
    audit = replace(audit or AuditSettings(), hash_content=hash_content or reader.labelled)
    file = manifest_file(reader, root, cache_dir, audit)
    if rebuild or not is_current(file, root):
        with explained_corpus(reader.corpus, root, file), lock(file.with_suffix(".lock")):
            reader.prepare(root)
            if not root.is_dir():
                problem = f"{reader.corpus}: the folder {root} does not exist"
                raise InputError(problem, f"to get it: {reader.how_to_get}")
            if rebuild or not is_current(file, root):  # another process may have made it in the meantime
                _build(reader, root, file, audit, workers, progress)
    manifest = Manifest(file)
    check_usable(manifest, max_bad_fraction)
    return manifest


def manifest_file(reader: Reader, root: Path, cache_dir: Path, audit: AuditSettings) -> Path:
    """Where a corpus's manifest is kept, by a hash of everything but the corpus itself that it depends on."""
    sources = [
        Path(inspect.getfile(cls)).read_bytes().hex()
        for cls in type(reader).__mro__
        if issubclass(cls, Reader)  # the reader, what it is derived from, and what all share
    ]
    parts = [VERSION, reader.name, reader.corpus, reader.options(), sources, str(root), asdict(audit)]
    key = hashlib.blake2b(json.dumps(parts, default=str).encode(), digest_size=8).hexdigest()
    return cache_dir.expanduser().resolve() / f"{reader.corpus}-{key}.arrow"


def is_current(file: Path, root: Path) -> bool:
    """Whether there is a whole manifest and nothing has changed that it was made from; reads it and the stamps."""
    try:
        state = read_state(state_file(file))
        whole = file.stat().st_size == state["bytes"] and state["root"] == str(root) and is_whole(file, state)
        return whole and unchanged(state_file(file), root)
    except (OSError, pa.ArrowException, LookupError, TypeError, ValueError):
        return False  # there is none, or it was damaged


@contextlib.contextmanager
def explained_corpus(corpus: str, root: Path, file: Path) -> Iterator[None]:
    """Turns what the system refuses, and tables that are none, into input errors.

    Args:
        corpus: Its name.
        root: Its root.
        file: The manifest that is written.
    """
    try:
        yield
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{corpus}: a table in {root} cannot be read: {error}", "restore the corpus's own") from error
    except OSError as error:
        if error.errno in _ODD_FILES:
            raise InputError(
                f"{corpus}: {error.filename}: {error.strerror}", "restore the file, as the corpus's owners have it"
            ) from error
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"the disk is full: the manifest {file} cannot be written", "free space, or set another data.cache"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise InputError(
                f"{error.filename or file}: {error.strerror}",
                f"{root} must be readable and {file.parent} writable for this user",
            ) from error
        raise


def _build(reader: Reader, root: Path, file: Path, audit: AuditSettings, workers: int | None, progress: bool) -> None:
    """Writes the manifest of what the reader finds.

    Rows go first to a file of plain strings, in batches, so that memory does not grow with the corpus.
    """
    draft = file.with_suffix(f".draft-{os.getpid()}")
    try:
        stamps = Stamps(root)
        stamps.watch(reader.watched(root))  # before anything is read: what changes from now on is noticed next time
        faults = _write_draft(reader, root, draft, audit, workers, progress, stamps)
        write_manifest(file, _Draft(draft), declared(reader, audit, faults), stamps)
    finally:
        draft.unlink(missing_ok=True)


def declared(reader: Reader, audit: AuditSettings, faults: Sequence[Fault] = ()) -> dict[str, Any]:
    """What a manifest says beside its rows (see `Manifest.facts`)."""
    return {
        "version": VERSION,
        "corpus": reader.corpus,
        "reader": reader.name,
        "options": reader.options(),
        "language": reader.language,
        "licence": reader.licence,
        "labelled": reader.labelled,
        "synthetic": reader.synthetic,
        "audit": asdict(audit),
        "scales": {name: [s.low, s.high, s.reversed] for name in DIMENSIONS for s in [reader.scale(name)]},
        "faults": [[fault.path, fault.reason] for fault in faults],
    }


def write_manifest(file: Path, batches: Iterable[pa.RecordBatch], facts: Mapping[str, Any], stamps: Stamps) -> None:
    """Writes a manifest and, last, its state, each at once; memory does not grow with the number of rows.

    Args:
        file: Where it is kept (see `manifest_file`).
        batches: The rows, with the columns of `DRAFT`; gone through twice, since Arrow needs the dictionaries before
            the rows.
        facts: What `declared` says.
        stamps: Of what it was made from.
    """
    done, state = (file.with_suffix(f".{name}-{os.getpid()}") for name in ("done", "new-state"))
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        sha256 = _write_encoded(batches, done, facts)
        stamps.write(state, {"sha256": sha256, "bytes": done.stat().st_size, "root": str(stamps.root)})
        state_file(file).unlink(missing_ok=True)  # never beside a file that it does not describe
        done.replace(file)
        state.replace(state_file(file))
    finally:
        for temporary in (done, state):
            temporary.unlink(missing_ok=True)


class _Draft:
    """The rows of an Arrow file, batch by batch."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        # Not mapped: what is read of a mapped file counts as memory of this process.
        with pa.OSFile(str(self.file)) as source:
            rows = pa.ipc.open_file(source)
            for index in range(rows.num_record_batches):
                yield rows.get_batch(index)


def _write_draft(
    reader: Reader,
    root: Path,
    file: Path,
    audit: AuditSettings,
    workers: int | None,
    progress: bool,
    stamps: Stamps,
) -> list[Fault]:
    """Reads and inspects the corpus; writes the usable rows and returns what is not usable."""
    faults: list[Fault] = []
    # Those that are being inspected, in order, each with the faults that were read before it: the manifest is the same
    # however many processes there are.
    waiting: deque[tuple[list[Fault], list[Utterance]]] = deque()

    def chunks() -> Iterator[list[Segment]]:
        found = reader.read(root)
        odd: list[Fault] = []
        while some := list(islice(found, _SEGMENTS_PER_CHUNK[audit.hash_content])):
            utterances = []
            for one in some:
                # Arrow holds text; Python gives bytes of a file name that are none as lone surrogates.
                name = one.path if one.path.isascii() else one.path.encode(errors="backslashreplace").decode()
                if isinstance(one, Fault):
                    odd.append(Fault(name, one.reason))
                elif name != one.path:
                    odd.append(Fault(name, "file name: its bytes are not UTF-8"))
                else:
                    utterances.append(one)
            if utterances:
                waiting.append((odd, utterances))
                odd = []
                yield [(one.path, one.start, one.end) for one in utterances]
        waiting.append((odd, []))

    gathered: list[pa.RecordBatch] = []
    rows = 0
    with bar_of_utterances(progress) as bar, file.open("wb") as stream, pa.ipc.new_file(stream, DRAFT) as writer:
        task = bar.add_task(f"Reading {reader.corpus}", total=None)
        for results in inspect_all(str(root), chunks(), audit, workers):
            odd, utterances = waiting.popleft()
            faults.extend(odd)
            if audit.hash_content:
                _stamp(stamps, utterances, results)
            batch, unusable = _rows(reader, utterances, results)
            faults.extend(unusable)
            gathered.append(batch)
            rows += len(batch)
            if rows >= _ROWS_PER_BATCH:
                writer.write_table(pa.Table.from_batches(gathered).combine_chunks())
                gathered, rows = [], 0
            bar.advance(task, len(results))
        writer.write_table(pa.Table.from_batches(gathered, DRAFT).combine_chunks())
    [(odd, _)] = waiting
    return faults + odd


def _stamp(stamps: Stamps, utterances: list[Utterance], results: list[Result]) -> None:
    files = {one.path: result for one, result in zip(utterances, results, strict=True)}
    sizes, mtimes_ns = ([getattr(result, name) for result in files.values()] for name in ("size", "mtime_ns"))
    stamps.add(list(files), sizes, mtimes_ns)


def _rows(reader: Reader, utterances: list[Utterance], results: list[Result]) -> tuple[pa.RecordBatch, list[Fault]]:
    """Makes rows of those utterances that are usable, and faults of the others."""
    usable: list[Utterance] = []
    inspections: list[Inspection] = []
    faults = []
    scales = {dimension: reader.scale(dimension) for dimension in DIMENSIONS}
    # Most corpora rate nothing: then the utterances are not gone through one by one.
    rated = {name: scale for name, scale in scales.items() if {*map(attrgetter(name), utterances)} != {None}}
    for utterance, result in zip(utterances, results, strict=True):
        if not isinstance(result, Inspection):
            faults.append(Fault(utterance.path, result.reason))
            continue
        if rated and (outside := _outside(utterance, rated)):
            faults.extend(Fault(utterance.path, reason) for reason in outside.values())
            lost: dict[str, Any] = dict.fromkeys(outside)
            utterance = replace(utterance, **lost)  # the rating is lost, and not the utterance with its other labels
        usable.append(utterance)
        inspections.append(result)
    # Column by column, since this is done for each of what may be millions: a tuple for each row takes twice as long.
    values: dict[str, Any] = dict.fromkeys(DRAFT.names, ())
    values |= {name: list(map(attrgetter(name), usable)) for name in _UTTERANCE}
    values |= zip(Inspection._fields, zip(*inspections, strict=True), strict=False)  # nothing, where there are none
    values["votes"] = [votes and list(votes.items()) for votes in values["votes"]]
    columns = {field.name: pa.array(values[field.name], field.type) for field in DRAFT}
    columns["corpus"] = pa.array([reader.corpus] * len(usable), pa.string())
    columns["speaker"] = pc.binary_join_element_wise(columns["corpus"], columns["speaker"], "/")
    for dimension in DIMENSIONS:
        rating = columns[dimension]
        columns[f"{dimension}_original"] = rating
        unit = scales[dimension].to_unit(rating.to_numpy(zero_copy_only=False).astype(np.float64))
        columns[dimension] = pa.array(unit, pa.float32(), from_pandas=True)  # NaN becomes null
    for name, words in (("gender", GENDERS), ("split", SIDES)):
        known = pc.is_in(columns[name], pa.array([*words, None], pa.string()))
        if not pc.all(known, min_count=0).as_py():
            raise ValueError(f"the reader of {reader.corpus} gives a {name} that is none of {words}")
    return pa.record_batch([columns[name] for name in DRAFT.names], DRAFT), faults


def _outside(utterance: Utterance, scales: Mapping[str, Scale]) -> dict[str, str]:
    """Ratings that the corpus's scale does not have, and what is to be said of them."""
    reasons = {}
    for dimension, scale in scales.items():
        rating = getattr(utterance, dimension)
        if rating is not None and not scale.low <= rating <= scale.high:
            reasons[dimension] = (
                f"rating outside its scale: {dimension} {rating:g} is not in {scale.low:g} to {scale.high:g}; "
                "the utterance stays without it"
            )
    return reasons


def _write_encoded(batches: Iterable[pa.RecordBatch], file: Path, facts: Mapping[str, Any]) -> str:
    """Writes the rows, each repeating string as a number; returns the SHA-256 of the file."""
    # Each word's number, in the order of their first appearance.
    numbers: dict[str, dict[str, int]] = {field.name: {} for field in SCHEMA if field.type == WORD}
    for batch in batches:
        for name, number in numbers.items():
            for word in pc.drop_null(pc.unique(batch.column(name))).to_pylist():
                number.setdefault(word, len(number))
    words = {name: pa.array(list(number), pa.string()) for name, number in numbers.items()}
    schema = SCHEMA.with_metadata({META: json.dumps(facts, sort_keys=True)})
    with durable(file) as stream, pa.ipc.new_file(stream, schema) as writer:
        for batch in batches:
            columns = []
            for field in SCHEMA:
                column = batch.column(field.name)
                if field.name in words:
                    here = column.dictionary_encode()
                    number = numbers[field.name]
                    codes = pa.array([number[word] for word in here.dictionary.to_pylist()], pa.int32())
                    column = pa.DictionaryArray.from_arrays(codes.take(here.indices), words[field.name])
                columns.append(column)
            writer.write_batch(pa.record_batch(columns, schema))
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_usable(manifest: Manifest, max_bad_fraction: float) -> None:
    """Refuses a corpus that is empty or too much of which is unusable.

    Raises:
        InputError: It is; with the first faults.
    """
    faults, total = manifest.faults, len(manifest) + len(manifest.faults)
    if not total:
        raise InputError(
            f"{manifest.corpus}: no utterance was found in {manifest.root}", "set the corpus's root to its folder"
        )
    if len(faults) <= max_bad_fraction * total and len(manifest):
        return
    kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(fault.kind for fault in faults).most_common())
    first = "\n".join(f"    {fault.path}: {fault.reason}" for fault in faults[:_FAULTS_SHOWN])
    limit = f", more than data.max_bad_fraction = {max_bad_fraction:g} allows" if len(manifest) else ""
    raise InputError(
        f"{manifest.corpus}: {len(faults)} of {total} utterances in {manifest.root} cannot be used ({kinds}){limit}; "
        f"the first of them:\n{first}",
        "repair them, or raise data.max_bad_fraction to go on without them" if limit else "repair or replace them",
    )
