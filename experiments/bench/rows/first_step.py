"""`first_step_seconds`: how long one waits for a training to begin."""

import subprocess
import sys
import tempfile
import time

from experiments.bench.core import Bench, Figure, Measurement, Repeats, alternate, at_most, row
from experiments.bench.processes import offline


@row(
    "first_step_seconds",
    "from the command `train ravdess_cat` to its first optimiser step, with warm manifests, beside a process that only "
    "imports the model and makes a step over noise",
    at_most(8),
)
def first_step_seconds(bench: Bench) -> Measurement:
    """Starts trainings, each in a process of its own, and ends them after a step."""
    from experiments.bench.large import large_corpus

    root = bench.corpora("ravdess", "librispeech")
    rows = bench.size(10_000_000, quick=20_000)
    name, where = large_corpus(bench.scratch, rows)
    large = [
        f"data.corpora.{name}.root={where.root}",
        f"data.corpora.{name}.reader={where.reader}",
        f"data.auxiliary=[{{corpus: {name}, role: unlabelled, quota: 8, hash_content: false}}]",
    ]

    def trained(*more: str) -> float:
        with tempfile.TemporaryDirectory(dir=bench.scratch, ignore_cleanup_errors=True) as folder:
            own = [f"data.root={root}", f"data.cache={bench.scratch / 'cache'}", f"output={folder}"]
            return _seconds("until_first_step", *bench.settings, *own, *more)

    def bare() -> float:
        return _seconds("bare_first_step", *bench.settings)

    warm_up = bench.size(1, quick=0)  # each start takes seconds
    warm = alternate(trained, bare, bench.repeats, warm_up)
    with_large = alternate(lambda: trained(*large), bare, bench.repeats, warm_up)
    floor = "imports, model, a step over noise"

    def figure(times: tuple[list[float], list[float]], what: str, limit: float) -> Figure:
        ours = Repeats(what, "s", times[0])
        return Figure(ours.median, ours, Repeats(floor, "s", times[1]), at_most(limit))

    return Measurement(
        figure(warm, "RAVDESS and LibriSpeech", 8),
        also={"large manifest": figure(with_large, f"RAVDESS and {rows:,} rows of another corpus", 15)},
    )


def _seconds(module: str, *settings: str) -> float:
    """Seconds from the start of a process to the moment that its last line tells."""
    command = [sys.executable, "-m", f"experiments.bench.{module}", "ravdess_cat", *settings]
    started = time.monotonic()
    done = subprocess.run(command, check=True, env=offline(), stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1]) - started
