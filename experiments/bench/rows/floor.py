"""`step_of_floor`: a training step beside what its operations and bytes would take at the machine's full speed."""

import time
from collections.abc import Callable
from typing import Any

from experiments.bench.core import Bench, Measurement, Repeats, at_least, ratio, row
from experiments.config import load

STEPS = 8
"""Steps of one measurement."""


@row(
    "step_of_floor",
    "one training step of `ravdess_cat` in memory: the seconds that its multiplications and bytes would take at the "
    "machine's measured best ÷ the seconds that it takes",
    at_least(0),
)
def step_of_floor(bench: Bench) -> Measurement:
    """Counts the operations and bytes of a step, measures the machine's best at both, and times the step by parts."""
    from torch.utils.flop_counter import FlopCounterMode

    from experiments.bench.counting import Bytes, Step, best_bandwidth, best_multiplication

    root = bench.corpora("ravdess", "librispeech")
    step = Step(load("ravdess_cat", [*bench.settings, f"data.root={root}"]))
    step.run()
    with FlopCounterMode(display=False) as operations:
        step.run()
    with Bytes() as moved:
        step.run()

    floors, seconds = [], []
    parts: dict[str, list[float]] = {}
    rates = []
    for _ in range(bench.repeats):
        multiplying, moving = best_multiplication(step.precision), best_bandwidth()
        floors.append(max(operations.get_total_flops() / multiplying, moved.total / moving))
        rates.append((multiplying, moving))
        seconds.append(_seconds(step.run))
        with step.autocast():
            for name, part in step.parts().items():
                parts.setdefault(name, []).append(_seconds(part))
    return Measurement(
        ratio(Repeats("floor", "s", floors), Repeats("a training step", "s", seconds)),
        details={
            "utterances": len(step.batch),
            "precision": str(step.precision),
            "operations": operations.get_total_flops(),
            "bytes": moved.total,
            "best_operations_per_s": [one for one, _ in rates],
            "best_bytes_per_s": [one for _, one in rates],
            "seconds_by_part": parts,
            "operations_by_module": _by_module(operations),
        },
    )


def _seconds(run: Callable[[], Any]) -> float:
    """Seconds of one run: the mean over some, after one that is not counted."""
    run()
    started = time.perf_counter()
    for _ in range(STEPS):
        run()
    return (time.perf_counter() - started) / STEPS


def _by_module(operations: Any) -> dict[str, int]:
    """Operations, forwards and backwards, of the features, the encoder and its blocks, and the decoder."""
    counts = {name: sum(by_kind.values()) for name, by_kind in operations.get_flop_counts().items()}
    return {name: count for name, count in counts.items() if name.startswith(("LogMel", "Encoder", "Decoder"))}
