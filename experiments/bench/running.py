"""Runs rows one after the other, each in a process of its own."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from rich.console import Console
from rich.table import Table

from callbacks.interruption import INTERRUPTED
from experiments.allocation import keep_freed_memory
from experiments.bench.core import Bench, Row, SkippedError
from experiments.bench.record import FAILED, HEADER, RESULTS, SKIPPED, TABLE, Results, machine, measured, not_measured
from experiments.hush import hush


def run(bench: Bench, rows: Sequence[Row]) -> int:
    """Measures rows, writes each down when it is done, and prints the table; returns 1 if one failed, else 0."""
    results = Results(bench, machine())
    if results.dropped:
        print(f"The rows of the earlier {bench.output / RESULTS} are not kept: {results.dropped}", file=sys.stderr)
    failed = 0
    for number, row in enumerate(rows, 1):
        print(f"[{number}/{len(rows)}] {row.name}: {row.what}", file=sys.stderr, flush=True)
        record = measure(row, bench)
        failed += record["status"] == FAILED
        results.add(row, record)
        print(f"  {_shortly(record)}", file=sys.stderr, flush=True)
    _show(results)
    print(bench.output / TABLE, flush=True)
    return 1 if failed else 0


def measure(row: Row, bench: Bench) -> dict[str, Any]:
    """Measures a row in a process of its own, which starts bare and ends with all that the row left behind.

    Returns:
        The record; also of a row that failed, whatever happened to its process.
    """
    load_before = os.getloadavg()[0]
    started = time.monotonic()
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_begin) as process:
        future = process.submit(_measure, row, bench)
        error = future.exception()
    if error is None:
        record = future.result()
    elif isinstance(error, SkippedError):
        record = not_measured(row, SKIPPED, str(error))
    else:
        traceback.print_exception(error)
        record = not_measured(row, FAILED, f"{type(error).__name__}: {error}")
    return record | {"load_before": load_before, "seconds": time.monotonic() - started}


def _begin() -> None:
    hush()
    # What a spawned process starts is spawned too, unless this is taken back: rows start theirs as any program does.
    multiprocessing.set_start_method(None, force=True)
    # A shell starts what it runs in the background with interrupts ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_the_bench, daemon=True).start()
    keep_freed_memory()  # as the train command does


def _end_with_the_bench() -> None:
    """Interrupts the row when the bench is no more, so that it ends what it started."""
    bench = multiprocessing.parent_process()
    assert bench is not None
    bench.join()
    os.kill(os.getpid(), signal.SIGINT)


def _measure(row: Row, bench: Bench) -> dict[str, Any]:
    try:
        found = row.measure(bench)
    except (KeyboardInterrupt, SystemExit):  # Lightning makes one of the other
        os._exit(INTERRUPTED)  # the pool's process would wait for more work, which may never come
    record = measured(row, found)
    json.dumps(record, allow_nan=False)  # what cannot be written is no result
    return record


def _shortly(record: dict[str, Any]) -> str:
    if record["figure"] is None:
        return f"{record['status']}: {record['reason']}"
    met = "met" if record["all_met"] else "NOT met"
    return f"{record['figure']:.4g} (bar {record['bar']}, {met}), {record['seconds']:.0f} s"


def _show(results: Results) -> None:
    table = Table(*HEADER)
    for cells in results.table():
        table.add_row(*cells)
    # In a file or a pipe rich would take 80 columns, and break most words.
    Console(width=None if sys.stdout.isatty() else 200).print(table)
