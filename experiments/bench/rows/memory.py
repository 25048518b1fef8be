"""`memory_growth_mb`: the memory of loading over many batches of a large corpus."""

import multiprocessing
import os
import warnings
from collections.abc import Callable

from experiments.bench.core import Bar, Bench, Figure, Measurement, Repeats, SkippedError, at_most, row
from experiments.bench.processes import PROC, proportional_memory_mb

WORKERS = 4
QUOTA = 3
CROP_SECONDS = 0.1
SAMPLES = 40
WARM_UP = 0.05
"""Share of the batches after which growth is counted."""

Curve = list[tuple[int, float]]
"""MB of all processes after so many batches."""


@row(
    "memory_growth_mb",
    "growth of the proportional memory of main process and 4 workers over 20 thousand batches at 10 million rows, "
    "beside 10 thousand rows",
    at_most(200),
)
def memory_growth_mb(bench: Bench) -> Measurement:
    """Loads batches with four workers, and weighs all processes along the way."""
    if not PROC.joinpath("self", "smaps_rollup").exists():
        raise SkippedError("proportional memory is read from /proc/<process>/smaps_rollup, which is not there")
    # Four are wanted, however many cores there are.
    warnings.filterwarnings("ignore", "This DataLoader will create")
    batches = bench.size(20_000, quick=200)
    sizes = (bench.size(10_000_000, quick=20_000), 10_000)
    # The small one comes first: memory that the large one leaves in this process would count for it.
    small, large = (_curve(bench, rows, batches, f"{rows:,} rows") for rows in reversed(sizes))
    what = [f"{rows:,} rows" for rows in sizes]

    def figure(value: Callable[[Curve], float], bar: Bar | None = None) -> Figure:
        ours, counterpart = (
            Repeats(name, "MB", [value(curve)]) for name, curve in zip(what, (large, small), strict=True)
        )
        return Figure(ours.median, ours, counterpart, bar)

    return Measurement(
        figure(_growth),
        also={"absolute": figure(_most, at_most(1500))},
        details={"batches": batches, "batch": QUOTA + 1, "curves": {"large": large, "small": small}},
    )


def _curve(bench: Bench, rows: int, batches: int, what: str) -> Curve:
    from experiments.bench.generated import mixed
    from experiments.bench.large import large_corpus

    name, where = large_corpus(bench.scratch, rows)
    data = mixed(bench, name, where, QUOTA, "speaker", steps=batches, crop_s=CROP_SECONDS, workers=WORKERS)
    bench.say(f"{what}: {batches} batches")
    every = max(1, batches // SAMPLES)
    curve: Curve = []
    for number, _ in enumerate(data.train_dataloader(), 1):
        if number % every == 0:
            workers = [child.pid for child in multiprocessing.active_children() if child.pid]
            if number < batches:  # after the last batch the workers may be gone
                curve.append((number, proportional_memory_mb([os.getpid(), *workers])))
    return curve


def _growth(curve: Curve) -> float:
    warm = int(len(curve) * WARM_UP)
    return curve[-1][1] - curve[warm][1]


def _most(curve: Curve) -> float:
    return max(megabytes for _, megabytes in curve)
