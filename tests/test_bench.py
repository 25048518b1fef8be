"""The bench: its statistics, its record, and that its rows run; how quick anything is, is no test."""

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
import torch

from experiments.bench import record, running
from experiments.bench.__main__ import main, read
from experiments.bench.core import (
    Bench,
    Figure,
    Measurement,
    Repeats,
    Row,
    SkippedError,
    alternate,
    at_least,
    at_most,
    ratio,
)
from experiments.bench.record import FAILED, HEADER, MEASURED, RESULTS, SKIPPED, TABLE, Results, measured
from experiments.bench.rows import KEYS, ROWS
from tests import fakes, runs


def two(ours: float = 3.0, bar: Any = None) -> Figure:
    return ratio(Repeats("a", "files/s", [ours]), Repeats("b", "files/s", [2.0]), bar)


def works(bench: Bench) -> Measurement:
    return Measurement(two(), details={"process": os.getpid(), "settings": bench.settings})


def fails(bench: Bench) -> Measurement:
    raise ValueError("no such thing")


def dies(bench: Bench) -> Measurement:
    os._exit(3)


def skips(bench: Bench) -> Measurement:
    raise SkippedError("the corpus is elsewhere")


def finds_nothing(bench: Bench) -> Measurement:
    return Measurement(two(math.nan))


def waits(bench: Bench) -> Measurement:
    """Waits for a process, which writes its number down."""
    script = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
    subprocess.run([sys.executable, "-c", script, str(bench.scratch / "number")], check=True)
    raise AssertionError("it ended")


HERE: dict[str, Any] = {
    "machine": {"cpu": "a", "cores": 2, "memory_gb": 8.0, "gpus": []},
    "python": "3.11",
    "packages": {"torch": "2", "lightning": "2", "soundfile": "1"},
    "git": {"commit": "0" * 40, "dirty": False},
    "code": "00ff",
}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(root=None, output=tmp_path / "bench", quick=False, repeats=2)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> dict[str, Row]:
    """Rows that do nothing, in the place of the real ones."""
    some = {
        "good": Row("good", "works", at_least(1), works),
        "bad": Row("bad", "fails", at_least(1), fails),
        "dead": Row("dead", "dies", at_most(1), dies),
        "elsewhere": Row("elsewhere", "skips", at_least(1), skips),
        "nothing": Row("nothing", "finds nothing", at_least(1), finds_nothing),
    }
    monkeypatch.setattr(record, "ROWS", some)
    monkeypatch.setattr("experiments.bench.__main__.ROWS", some)
    monkeypatch.setattr(running, "machine", lambda: HERE)
    return some


def test_every_key_of_the_table_has_a_row() -> None:
    assert tuple(ROWS) == KEYS
    assert all(name == row.name and row.what for name, row in ROWS.items())


def test_the_sides_take_turns_and_the_warm_up_does_not_count() -> None:
    calls: list[str] = []
    times = itertools.count()

    def side(name: str) -> float:
        calls.append(name)
        return next(times)

    ours, counterpart = alternate(lambda: side("A"), lambda: side("B"), repeats=2, warm_up=1)
    assert calls == ["A", "B"] * 3
    assert (ours, counterpart) == ([2, 4], [3, 5])


def test_a_ratio_is_one_of_medians() -> None:
    figure = ratio(Repeats("a", "s", [1.0, 30.0, 3.0]), Repeats("b", "s", [2.0, 2.0, 9.0, 4.0]))
    assert figure.value == 3.0 / 3.0
    assert figure.record()["ours"] == {
        "what": "a",
        "unit": "s",
        "median": 3.0,
        "min": 1.0,
        "max": 30.0,
        "repeats": [1.0, 30.0, 3.0],
    }


@pytest.mark.parametrize(
    ("bar", "figure", "met"),
    [
        (at_least(0.95), 0.95, True),
        (at_least(0.95), 0.949, False),
        (at_most(8), 8.0, True),
        (at_most(8), 8.1, False),
        (at_least(0), math.nan, False),
        (at_most(0), math.nan, False),
    ],
)
def test_a_bar_is_met_by_its_limit_and_what_is_better(bar: Any, figure: float, met: bool) -> None:
    assert bar.met(figure) is met


def test_a_row_is_met_if_all_its_bars_are() -> None:
    row = Row("a", "what", at_least(1.5), works)
    assert measured(row, Measurement(two()))["all_met"] is True
    assert measured(row, Measurement(two(2.9)))["all_met"] is False
    assert measured(row, Measurement(two(2.9, at_least(1.4))))["all_met"] is True, "the measurement's bar counts"
    missed = measured(row, Measurement(two(), also={"b": two(bar=at_most(1)), "c": two()}))
    assert (missed["met"], missed["all_met"]) == (True, False)
    assert [missed["also"][name]["met"] for name in "bc"] == [False, None]


@pytest.mark.bench
def test_rows_are_recorded_whatever_becomes_of_them(
    bench: Bench, rows: dict[str, Row], capfd: pytest.CaptureFixture[str]
) -> None:
    assert running.run(bench, list(rows.values())) == 1
    content = json.loads((bench.output / RESULTS).read_text())
    assert content["environment"] == HERE
    assert {name: content[name]["status"] for name in rows} == {
        "good": MEASURED,
        "bad": FAILED,
        "dead": FAILED,
        "elsewhere": SKIPPED,
        "nothing": FAILED,
    }
    good = content["good"]
    assert good["figure"] == 1.5
    assert good["details"]["process"] != os.getpid(), "each row has a process of its own"
    assert {"what", "bar", "met", "ours", "counterpart", "load_before", "seconds"} <= set(good)
    assert content["bad"]["reason"] == "ValueError: no such thing"
    assert content["elsewhere"]["reason"] == "the corpus is elsewhere"
    assert "Traceback" in capfd.readouterr().err

    table = (bench.output / TABLE).read_text()
    assert f"| {' | '.join(HEADER)} |" in table
    assert "| good | 1.5 | ≥ 1 | yes | 3 files/s: a | 2 files/s: b | works |" in table
    assert "| elsewhere | skipped | ≥ 1 |  |  |  | the corpus is elsewhere |" in table


@pytest.mark.bench
def test_what_is_skipped_or_misses_its_bar_is_no_failure(bench: Bench, rows: dict[str, Row]) -> None:
    missed = Row("good", "works", at_least(99), works)
    assert running.run(bench, [missed, rows["elsewhere"]]) == 0


def test_each_row_is_written_when_it_is_done(bench: Bench, rows: dict[str, Row]) -> None:
    def rows_and_then_an_interrupt() -> Iterator[Row]:
        yield rows["good"]
        raise KeyboardInterrupt

    class Interrupted(list[Row]):
        def __iter__(self) -> Iterator[Row]:
            return rows_and_then_an_interrupt()

    with pytest.raises(KeyboardInterrupt):
        running.run(bench, Interrupted([rows["good"], rows["bad"]]))
    assert json.loads((bench.output / RESULTS).read_text())["good"]["status"] == MEASURED


@pytest.mark.bench
def test_nothing_is_left_of_a_bench_that_is_killed(bench: Bench) -> None:
    script = f"""
import signal
from pathlib import Path
from experiments.bench.core import Bench, Row, at_least
from experiments.bench.running import measure
from tests.test_bench import waits
signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell does it for what runs in the background
measure(Row("row", "waits", at_least(1), waits), Bench(None, Path({str(bench.output)!r}), False, 1))
"""
    number = bench.scratch / "number"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[1])
    try:
        assert soon(lambda: number.exists() and number.read_text() != "")
    finally:
        process.kill()
        process.wait()
    child = int(number.read_text())
    try:
        assert soon(lambda: not _runs(child))
    finally:
        if _runs(child):
            os.kill(child, signal.SIGKILL)


def soon(true: Callable[[], bool]) -> bool:
    until = time.monotonic() + 120
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.bench
def test_rows_of_an_earlier_bench_stay(bench: Bench, rows: dict[str, Row], capsys: pytest.CaptureFixture[str]) -> None:
    running.run(bench, [rows["good"]])
    running.run(bench, [rows["elsewhere"]])
    content = json.loads((bench.output / RESULTS).read_text())
    assert content["good"]["status"] == MEASURED
    assert content["elsewhere"]["status"] == SKIPPED
    assert "not kept" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"code": "ff00"}, "the code is another"),
        ({"python": "3.12"}, "python is another"),
        ({"packages": HERE["packages"] | {"torch": "1"}}, "packages is another"),
        ({"machine": HERE["machine"] | {"cpu": "b"}}, "machine is another"),
    ],
)
def test_rows_of_another_machine_or_code_do_not_stay(
    bench: Bench, rows: dict[str, Row], change: dict[str, Any], why: str
) -> None:
    Results(bench, HERE | change).add(rows["good"], {"status": MEASURED, **_any()})
    results = Results(bench, HERE)
    assert results.dropped is not None
    assert why in results.dropped
    assert "good" not in results.content


def test_a_smoke_test_is_never_mixed_with_results(bench: Bench, rows: dict[str, Row]) -> None:
    quick = Bench(None, bench.output, quick=True, repeats=bench.repeats)
    Results(quick, HERE).add(rows["good"], {"status": MEASURED, **_any()})
    assert "smoke test" in (bench.output / TABLE).read_text()
    results = Results(bench, HERE)
    assert results.dropped == "quick was True, and is False"
    assert "good" not in results.content


def _any() -> dict[str, Any]:
    return {**two().record(), "also": {}, "all_met": True}


def test_damaged_results_are_told_of(bench: Bench, rows: dict[str, Row]) -> None:
    bench.output.mkdir()
    (bench.output / RESULTS).write_text('{"good":')
    dropped = Results(bench, HERE).dropped
    assert dropped is not None
    assert "is damaged" in dropped


def test_the_record_names_the_machine(bench: Bench) -> None:
    here = record.machine()
    assert json.loads(json.dumps(here)) == here
    assert {"cpu", "cores", "memory_gb", "threads", "gpus"} <= set(here["machine"])
    assert here["code"] == record.machine()["code"]
    assert Results(bench, here).markdown()


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bench, wanted = read([])
    assert (bench.root, bench.quick, bench.repeats, bench.settings) == (None, False, 5, ())
    assert bench.output == tmp_path / "runs/bench"
    assert [row.name for row in wanted] == list(KEYS)
    bench, wanted = read([f"data.root={tmp_path}", "rows=loader_ratio,loop_ratio", "quick=true", "model.code.shared=8"])
    assert (bench.root, bench.quick, bench.repeats) == (tmp_path, True, 1)
    assert bench.settings == ("model.code.shared=8",)
    assert [row.name for row in wanted] == ["loop_ratio", "loader_ratio"], "in the order of the table"
    monkeypatch.setenv("SER_AAE_DATA", str(tmp_path))
    assert read(["repeats=3"])[0].root == tmp_path


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("rows=loop", "there is no row 'loop'"),
        ("quick=yes", "quick is 'yes'"),
        ("repeats=0", "repeats is '0'"),
        ("data.root=/no/such/folder", "data.root is /no/such/folder"),
        ("modell.code=1", "there is no setting 'modell'"),
        ("loop_ratio", "Settings are written key=value"),
    ],
)
def test_what_cannot_be_used_is_told_at_once(
    argument: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([argument]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_row_that_needs_a_corpus_is_skipped_without(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(SkippedError, match=r"needs ravdess and librispeech: give data\.root"):
        bench.corpora("ravdess", "librispeech")
    with_root = Bench(tmp_path, bench.output, quick=True, repeats=1)
    with pytest.raises(SkippedError, match="needs ravdess, which is not in"):
        with_root.corpora("ravdess")
    assert running.measure(ROWS["loop_ratio"], bench)["status"] == SKIPPED


_TAKING = """
import os
from experiments.bench.processes import proportional_memory_mb
before = proportional_memory_mb([os.getpid()])
taken = bytearray(os.urandom(1) * 100_000_000)
print(proportional_memory_mb([os.getpid()]) - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells proportional memory")
def test_memory_that_a_process_takes_is_seen() -> None:
    """In a small process, of whose memory little counts as another's when one that shares it begins or ends."""
    told = subprocess.run([sys.executable, "-c", _TAKING], capture_output=True, text=True, check=True, timeout=60)
    assert 85 < float(told.stdout) < 115


def test_bytes_are_those_that_operations_read_and_write() -> None:
    from experiments.bench.counting import Bytes

    x, y = torch.ones(4, 25), torch.ones(100)
    with Bytes() as views:
        x.view(100).as_strided((10,), (10,)).squeeze().unbind()
        torch.empty(100)
    with Bytes() as moved:
        y.mul_(2)  # read and written
        torch.ops.aten.slice_backward(y, [200], 0, 0, 100, 1)  # no slice: read, and twice as many written
    assert views.total == 0
    assert moved.total == 400 + 400 + 400 + 800


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corpora")
    fakes.ravdess(root / "ravdess")
    fakes.librispeech(root / "LibriSpeech")
    return root


@pytest.mark.bench
@pytest.mark.parametrize(
    "name",
    [
        "loop_ratio",
        "loader_ratio",
        "first_step_seconds",
        "batch_time_growth",
        "memory_growth_mb",
        "manifest_rows_per_s",
        "real_time_factor",
    ],
)
def test_a_row_runs(name: str, corpora: Path, tmp_path: Path) -> None:
    small = [setting for setting in runs.SMALL if not setting.startswith(("data.steps", "trainer.epochs"))]
    cache = f"data.cache={tmp_path / 'cache'}"
    own = [f"rows={name}", "quick=true", f"data.root={corpora}", f"output={tmp_path / 'bench'}"]
    assert main([*own, *small, cache, "split.folds=4"]) == 0
    content = json.loads((tmp_path / "bench" / RESULTS).read_text())
    found = content[name]
    assert found["status"] == MEASURED, found.get("reason")
    assert content["quick"] is True
    for figure in (found, *found["also"].values()):
        for side in ("ours", "counterpart"):
            assert len(figure[side]["repeats"]) == 1
            assert math.isfinite(figure[side]["median"])


def test_generated_recordings_are_made_once(bench: Bench, tmp_path: Path) -> None:
    from experiments.bench.rows.manifest import SAMPLE_RATE, recordings

    root = recordings(tmp_path / "tree", 12, bench)
    files = sorted(root.rglob("*.wav"))
    assert len(files) == 12
    assert soundfile.info(files[0]).samplerate == SAMPLE_RATE
    stamps = [file.stat().st_mtime_ns for file in files]
    recordings(tmp_path / "tree", 12, bench)
    assert [file.stat().st_mtime_ns for file in files] == stamps


def test_a_comparison_of_unequal_work_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from experiments.bench.rows import manifest

    tree = manifest.recordings(tmp_path / "tree", 12, bench)
    monkeypatch.setattr(manifest, "recordings", lambda *_: tree)
    with pytest.raises(RuntimeError, match="12 of 200000 files were found"):
        manifest.manifest_rows_per_s(bench)
