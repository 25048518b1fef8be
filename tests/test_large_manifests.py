"""Manifests of any size: single cells, intervals instead of lists, and what is streamed against what is held."""

import multiprocessing
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from datamodules import building
from datamodules.audit import AuditSettings
from datamodules.batch import SPEAKER
from datamodules.building import DRAFT, declared, write_manifest
from datamodules.cells import Cells, Integers
from datamodules.collection import Collection, Span
from datamodules.corpora.folder import Folder
from datamodules.errors import InputError
from datamodules.freshness import Stamps
from datamodules.guard import guard
from datamodules.manifest import Manifest
from datamodules.pool import Indices, Pool
from datamodules.report import check_classes, data_report
from datamodules.vocabulary import DIMENSIONS, GENDERS

Row = dict[str, Any]


def rows_of(corpus: str, count: int, seed: int) -> list[Row]:
    """Rows with all kinds of values, and nulls among them, where a manifest may have nulls."""
    rng = np.random.default_rng(seed)

    def one_of(*values: Any) -> Any:
        return values[rng.integers(len(values))]

    rows = []
    for number in range(count):
        start, end = sorted(rng.uniform(0, 9, 2).tolist())
        speaker = one_of(*"abcdefg", None)
        unit, original = float(np.float32(rng.uniform())), float(np.float32(rng.uniform(1, 5)))
        rated = one_of(True, False)
        rows.append(
            {
                "path": f"ordner/{'ä' * int(rng.integers(4))}{number}.wav",
                "start": 0.0,
                "duration": float(rng.uniform(0.1, 9)),
                "sample_rate": one_of(8000, 16_000),
                "frames": int(rng.integers(1, 2**40)),
                "speech_start": start,
                "speech_end": end,
                "corpus": corpus,
                "speaker": speaker and f"{corpus}/{speaker}",
                "gender": one_of(*GENDERS, None),
                "label": one_of("wütend", "froh", "froh!", None),
                "emotion": one_of("anger", "happiness", "sadness", None),
                "votes": one_of(None, [("anger", 2.0), ("sadness", 1.0)], [("happiness", 3.0)]),
                **dict.fromkeys(DIMENSIONS, unit if rated else None),
                **{f"{name}_original": original if rated else None for name in DIMENSIONS},
                "content_hash": one_of(None, f"{corpus}{number:x}", f"{rng.integers(30):x}"),
            }
        )
    return rows


def write(folder: Path, corpus: str, rows: Sequence[Row], batch: int = 16) -> Manifest:
    """A manifest of these rows, ``batch`` of them in a record batch."""
    batches = [
        pa.RecordBatch.from_pylist(list(rows[first : first + batch]), DRAFT) for first in range(0, len(rows), batch)
    ]
    file = folder / f"{corpus}.arrow"
    write_manifest(file, batches, declared(Folder(corpus=corpus), AuditSettings()), Stamps(folder))
    return Manifest(file)


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection(
        [write(tmp_path, name, rows_of(name, count, count)) for name, count in (("one", 70), ("two", 45))]
    )


def pool_of(collection: Collection, rows: range | Integers) -> Pool:
    speakers = collection.values("speaker", [rows])
    return Pool(
        rows,
        SPEAKER,
        looked_up={
            "corpus": collection.corpus_index,
            "speaker": Indices(collection, "speaker", speakers),
            "gender": Indices(collection, "gender", GENDERS),
        },
    )


# Cells


def test_spans_are_those_of_the_rows(collection: Collection) -> None:
    chosen = np.random.default_rng(0).permutation(len(collection))
    expected = []
    for number in chosen.tolist():
        row = collection.row(number)
        corpus = collection.corpora.index(row["corpus"])
        local = number - int(collection.first[corpus])
        expected.append(Span(corpus, local, row["path"], row["speech_start"], row["speech_end"]))
    found = collection.spans(chosen)
    assert found == expected
    assert [type(value) for value in found[0]] == [int, int, str, float, float]
    assert collection.spans(np.array([], np.int64)) == []


@pytest.mark.parametrize("batch", [1, 8, 9, 1000])
@pytest.mark.parametrize("name", ["speaker", "gender"])
def test_codes_of_cells_are_those_of_the_column(tmp_path: Path, name: str, batch: int) -> None:
    manifest = write(tmp_path, "one", rows_of("one", 67, 3), batch)
    codes, words = manifest.codes(name)
    assert -1 in codes
    assert words == manifest.words(name)
    np.testing.assert_array_equal(manifest.cells.numbers(name, np.arange(67)), codes)


def _spans(collection: Collection, rows: Integers, answers: Any) -> None:
    answers.put(collection.spans(rows))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_look_up_the_same(collection: Collection, method: str) -> None:
    rows = np.arange(len(collection))[::-7].copy()
    before = collection.spans(rows)  # opened before the others begin
    context: Any = multiprocessing.get_context(method)
    answers = context.Queue()
    others = [context.Process(target=_spans, args=(collection, rows, answers)) for _ in range(2)]
    for other in others:
        other.start()
    assert [answers.get(timeout=120) for _ in others] == [before, before]
    for other in others:
        other.join()


def test_nothing_stays_mapped(collection: Collection) -> None:
    collection.spans(np.arange(len(collection)))
    data_report(collection.manifests)
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("the system does not tell what is mapped")
    assert str(collection.manifests[0].file) not in maps.read_text()


def test_cells_let_go_of_their_file(collection: Collection) -> None:
    folder = Path("/proc/self/fd")
    if not folder.exists():
        pytest.skip("the system does not tell what is open")
    before = len(list(folder.iterdir()))
    for _ in range(5):
        Cells(collection.manifests[0].file, ["path"])
    assert len(list(folder.iterdir())) == before


# Pools


def test_a_pool_over_an_interval_is_that_over_its_array(collection: Collection) -> None:
    for interval in (range(len(collection)), range(20, 90), collection.rows("two")):
        whole, listed = pool_of(collection, interval), pool_of(collection, np.array(interval))
        positions = np.random.default_rng(1).integers(0, len(interval), 200)
        assert len(whole) == len(listed) == len(interval)
        np.testing.assert_array_equal(whole.rows(positions), listed.rows(positions))
        for name, values in whole.labels(positions).items():
            np.testing.assert_array_equal(values, listed.labels(positions)[name])
        assert whole.missing == listed.missing == {"corpus": -1, "speaker": -1, "gender": -1}


def test_labels_are_looked_up(collection: Collection) -> None:
    interval = range(30, 100)
    speakers = collection.values("speaker", [interval])
    labels = pool_of(collection, interval).labels(np.arange(70))
    for place, number in enumerate(interval):
        row = collection.row(number)
        assert labels["corpus"][place] == collection.corpora.index(row["corpus"])
        for name, words in (("speaker", speakers), ("gender", GENDERS)):
            code = labels[name][place]
            assert (None if code < 0 else words[code]) == row[name]


def test_what_workers_are_given_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    sizes = []
    for count in (100, 4000):
        folder = tmp_path / str(count)
        folder.mkdir()
        collection = Collection([write(folder, "one", rows_of("one", count, 0))])
        pool = pool_of(collection, collection.rows("one"))
        pool.labels(np.arange(100))
        collection.spans(np.arange(100))
        sizes.append(len(pickle.dumps((collection, pool))))
    assert abs(sizes[1] - sizes[0]) < 20


# The streamed and the held


@pytest.mark.parametrize("rows", [None, range(5, 61), np.array([0, 15, 16, 17, 40, 69])])
def test_scans_go_through_the_wanted_rows(collection: Collection, rows: range | Integers | None) -> None:
    manifest = collection.manifests[0]
    pieces = [(list(numbers), batch.to_pylist()) for numbers, batch in manifest.scan(["gender", "path"], rows)]
    wanted = list(range(70) if rows is None else rows)
    assert [number for numbers, _ in pieces for number in numbers] == wanted
    columns = [(row["gender"], row["path"]) for row in map(manifest.row, wanted)]
    assert [tuple(row.values()) for _, batch in pieces for row in batch] == columns


def test_rows_without_some_speakers(collection: Collection) -> None:
    manifest = collection.manifests[0]
    kept = manifest.without("speaker", ["one/a", "one/c"])
    assert kept.tolist() == [row for row in range(70) if manifest.row(row)["speaker"] not in ("one/a", "one/c")]
    assert manifest.values("speaker", kept) == {f"one/{letter}" for letter in "bdefg"}


@pytest.mark.parametrize("column", ["speaker", "content_hash"])
@pytest.mark.parametrize("chosen", [range(3, 66), np.arange(0, 70, 3)])
def test_first_rows(collection: Collection, column: str, chosen: range | Integers) -> None:
    manifest = collection.manifests[0]
    expected: dict[str, int] = {}
    for row in map(int, chosen):
        value = manifest.row(row)[column]
        if value is not None:
            expected.setdefault(value, row)
    assert manifest.first_rows(column, chosen) == expected
    among = [*list(expected)[::2], "nobody"]
    assert manifest.first_rows(column, chosen, among) == {
        value: row for value, row in expected.items() if value in among
    }


@pytest.mark.parametrize("column", ["speaker", "content_hash"])
def test_the_guard_finds_what_is_planted_in_an_auxiliary_corpus(tmp_path: Path, column: str) -> None:
    labelled, auxiliary = rows_of("acted", 40, 1), rows_of("calls", 900, 2)
    for row in (*labelled, *auxiliary):
        row["content_hash"] = f"{row['corpus']}{row['path']}"

    def check() -> None:
        collection = Collection([write(tmp_path, "acted", labelled), write(tmp_path, "calls", auxiliary)])
        test = np.arange(20, 40)
        guard(
            {
                "train": [collection.subset("calls", collection.rows("calls"))],
                "development": [collection.subset("acted", np.array([], np.int64))],
                "test": [collection.subset(corpus, test) for corpus in collection.corpora],
            }
        )

    check()
    labelled[33][column] = auxiliary[777][column] = "both"
    with pytest.raises(InputError) as raised:
        check()
    for row in (labelled[33], auxiliary[777]):
        assert f"{row['corpus']}/{tmp_path / row['path']}" in raised.value.problem


def plain_report(rows: Sequence[Row], classes: dict[str, list[str]], agreeing: int) -> dict[str, Any]:
    """The figures of a corpus in the data report, row by row."""
    owner = {emotion: name for name, emotions in classes.items() for emotion in emotions}
    speakers = {row["speaker"] for row in rows} - {None}
    pairs: dict[tuple[Any, Any], int] = {}
    agreed: dict[str, int] = dict.fromkeys(classes, 0)
    disputed = 0
    for row in rows:
        pairs[row["label"], row["emotion"]] = pairs.get((row["label"], row["emotion"]), 0) + 1
        if row["emotion"] in owner:
            enough = dict(row["votes"] or ()).get(row["emotion"], 0) >= agreeing
            agreed[owner[row["emotion"]]] += enough
            disputed += not enough
    left_out: dict[str, int] = {}
    for (label, emotion), count in pairs.items():
        if (label or emotion) and emotion not in owner:
            left_out[label or emotion] = left_out.get(label or emotion, 0) + count
    return {
        "hours": pytest.approx(sum(row["duration"] for row in rows) / 3600, rel=1e-12),
        "speech_hours": pytest.approx(sum(row["speech_end"] - row["speech_start"] for row in rows) / 3600, rel=1e-12),
        "seconds": {
            "shortest": min(row["duration"] for row in rows),
            "longest": max(row["duration"] for row in rows),
        },
        "sample_rates": {str(rate): sum(row["sample_rate"] == rate for row in rows) for rate in (8000, 16_000)},
        "speakers": {
            **{
                name: len({row["speaker"] for row in rows if row["gender"] == gender} - {None})
                for name, gender in (("female", "female"), ("male", "male"), ("unknown", None))
            },
            "total": len(speakers),
            "utterances_without": sum(row["speaker"] is None for row in rows),
        },
        "without_label": pairs.get((None, None), 0),
        "voted": sum(row["votes"] is not None for row in rows),
        "classes": agreed,
        "left_out": left_out,
        "disputed": disputed,
    }


@pytest.mark.parametrize("agreeing", [0, 2])
@pytest.mark.parametrize("batch", [16, 10_000])
def test_the_report_is_that_of_a_plain_count(tmp_path: Path, agreeing: int, batch: int) -> None:
    classes = {"angry": ["anger"], "other": ["happiness"]}
    rows = rows_of("one", 300, 8)
    report = data_report([write(tmp_path, "one", rows, batch)], classes, agreeing)
    one = report["corpora"]["one"]
    expected = plain_report(rows, classes, agreeing)
    assert {name: one[name] for name in expected} == expected
    counted = {(label["label"], label["emotion"]): label["utterances"] for label in one["labels"]}
    pairs = [(row["label"], row["emotion"]) for row in rows if row["label"] or row["emotion"]]
    assert counted == {pair: pairs.count(pair) for pair in pairs}
    ratings = np.array([row["valence"] for row in rows if row["valence"] is not None])
    assert one["dimensions"]["valence"]["mean"] == pytest.approx(ratings.mean())
    hashes = [row["content_hash"] for row in rows if row["content_hash"]]
    repeated = {value for value in hashes if hashes.count(value) > 1}
    assert report["duplicates"]["groups"] == len(repeated) > 0
    assert report["duplicates"]["utterances"] == sum(value in repeated for value in hashes) - len(repeated)


def test_a_corpus_without_labels_is_reported(tmp_path: Path) -> None:
    rows = [
        row | dict.fromkeys(("label", "emotion", "votes", "speaker", "gender", "content_hash"))
        for row in rows_of("one", 50, 4)
    ]
    manifest = write(tmp_path, "one", rows)
    one = data_report([manifest], {"angry": ["anger"]}, 2)["corpora"]["one"]
    assert (one["without_label"], one["voted"], one["labels"], one["classes"]) == (50, 0, [], {"angry": 0})
    assert one["speakers"] == {"female": 0, "male": 0, "unknown": 0, "total": 0, "utterances_without": 50}
    check_classes({}, [manifest])


# Writing


def test_manifests_are_written_from_batches(tmp_path: Path) -> None:
    rows = rows_of("one", 50, 5)
    manifest = write(tmp_path, "one", rows)
    found = [manifest.row(number) for number in range(50)]
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    assert building.is_current(manifest.file, tmp_path)


def test_batches_may_be_made_as_they_are_asked_for(tmp_path: Path) -> None:
    class Made:
        def __iter__(self) -> Iterator[pa.RecordBatch]:
            for seed in range(3):
                yield pa.RecordBatch.from_pylist(rows_of("one", 5, seed), DRAFT)

    write_manifest(tmp_path / "one.arrow", Made(), declared(Folder(corpus="one"), AuditSettings()), Stamps(tmp_path))
    assert len(Manifest(tmp_path / "one.arrow")) == 15
