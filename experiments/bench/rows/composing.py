"""`batch_time_growth`: what a batch costs when the manifest grows."""

import time
from typing import cast

import numpy as np

from experiments.bench.core import Bench, Measurement, Repeats, alternate, at_most, ratio, row

QUOTA = 39
CROP_SECONDS = 0.1


@row(
    "batch_time_growth",
    "time to compose a batch (draw, look up paths and labels) at 10 million rows ÷ at 10 thousand",
    at_most(1.3),
)
def batch_time_growth(bench: Bench) -> Measurement:
    """Composes batches of both sizes in turn, without audio and with it."""
    from datamodules.datamodule import EpochLoader, SpeechDataModule
    from experiments.bench.generated import mixed
    from experiments.bench.large import large_corpus

    batches = bench.size(500, quick=5)
    sizes = (bench.size(10_000_000, quick=20_000), 10_000)

    def made(rows: int) -> tuple[SpeechDataModule, EpochLoader]:
        name, where = large_corpus(bench.scratch, rows)
        data = mixed(bench, name, where, QUOTA, "speaker", steps=batches, crop_s=CROP_SECONDS, workers=0)
        return data, cast(EpochLoader, data.train_dataloader())

    def compose(data: SpeechDataModule, loader: EpochLoader) -> float:
        """Milliseconds a batch; other batches each time."""
        epoch = loader.step // loader.quotas.steps
        loader.step += loader.quotas.steps
        started = time.perf_counter()
        for step in range(batches):
            draws = loader.quotas.batch(epoch, step)
            for number, pool in enumerate(data.pools):
                positions = np.array([draw.position for draw in draws if draw.pool == number])
                pool.labels(positions)
                data.collection.spans(pool.rows(positions))
        return 1000 * (time.perf_counter() - started) / batches

    def load(loader: EpochLoader) -> float:
        started = time.perf_counter()
        for _ in loader:
            pass
        return 1000 * (time.perf_counter() - started) / batches

    large, small = (made(rows) for rows in sizes)
    composed = alternate(lambda: compose(*large), lambda: compose(*small), bench.repeats)
    loaded = alternate(lambda: load(large[1]), lambda: load(small[1]), bench.repeats)

    def sides(times: tuple[list[float], list[float]]) -> tuple[Repeats, Repeats]:
        ours, counterpart = (
            Repeats(f"{rows:,} rows", "ms a batch", values) for rows, values in zip(sizes, times, strict=True)
        )
        return ours, counterpart

    return Measurement(
        ratio(*sides(composed)),
        also={"with audio": ratio(*sides(loaded))},
        details={"batches": batches, "batch": QUOTA + 1, "crop_s": CROP_SECONDS},
    )
