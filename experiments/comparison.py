"""Two runs beside each other: what is the same to the last bit, and how far apart the rest is."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from datamodules.errors import InputError
from experiments.config import differing, load_run
from experiments.files import BEST, read_json, understood
from experiments.limits import leaves
from experiments.records import last_checkpoint, read_checkpoint

SPLITS = ("dev", "test")
FILES = ("metrics.csv", "predictions_dev.csv", "predictions_test.csv")
_WITHOUT_EFFECT = ("run", "output")


@dataclass(frozen=True)
class Comparison:
    """What became of two runs.

    Attributes:
        settings: Those in which they differ, by dotted key.
        same_files: Whether each of ``FILES`` that either has is the same, byte by byte.
        scores: The largest difference of any score, and which; none where all are the same.
        weights: Distance of the best checkpoints' weights, relative to the first run's: the norm of the difference over
            the norm, all weights and running statistics together.
        last_weights: Likewise of the last checkpoints'; none where a run has none any more.
        gradients: Of the last checkpoints, the largest distance of any weight's mean gradient, as the optimiser keeps
            it, relative likewise: after a single step, that of the gradients themselves.
    """

    settings: list[str]
    same_files: dict[str, bool]
    scores: tuple[str, float] | None
    weights: float
    last_weights: float | None
    gradients: float | None

    @property
    def identical(self) -> bool:
        """Whether they ended alike, bit for bit, whatever their settings."""
        return all(self.same_files.values()) and self.scores is None and not self.weights

    def rows(self) -> Iterator[tuple[str, str]]:
        """What there is to tell, in words."""
        yield "settings that differ", ", ".join(self.settings) or "none"
        for name, same in self.same_files.items():
            yield name, "identical" if same else "differs"
        yield "scores", "identical" if self.scores is None else f"{self.scores[0]} by {self.scores[1]:.2g}"
        yield "best weights", _told(self.weights)
        yield "last weights", _told(self.last_weights)
        yield "last mean gradients", _told(self.gradients)


def compare(run: Path, other: Path) -> Comparison:
    """Compares two runs that have ended.

    Args:
        run: Run folder, which distances are relative to.
        other: Another one.

    Raises:
        InputError: One has not ended, cannot be read, or its model has other weights.
    """
    with understood(other / "results.json"):
        apart = _apart(*(read_json(folder / "results.json") for folder in (run, other)))
        worst = max(apart, key=lambda name: (bool(apart[name]), "confusion" not in name, apart[name]))
    best, best_other = (read_checkpoint(folder / BEST)["state_dict"] for folder in (run, other))
    weights = _distance(best, best_other, run, other)
    last_weights = gradients = None
    ends = [last_checkpoint(folder) for folder in (run, other)]
    if ends[0] and ends[1]:
        last, last_other = read_checkpoint(ends[0]), read_checkpoint(ends[1])
        last_weights = _distance(last["state_dict"], last_other["state_dict"], run, other)
        with understood(ends[1]):
            gradients = _of_gradients(last, last_other)
    there = [name for name in FILES if (run / name).exists() or (other / name).exists()]
    return Comparison(
        settings=[key for key in differing(load_run(run), load_run(other)) if key not in _WITHOUT_EFFECT],
        same_files={name: _bytes(run / name) == _bytes(other / name) for name in there},
        scores=(worst, apart[worst]) if apart[worst] else None,
        weights=weights,
        last_weights=last_weights,
        gradients=gradients,
    )


def print_comparison(run: Path, others: Sequence[Path]) -> bool:
    """Compares a run with others, and prints what came out; returns whether all ended alike, bit for bit."""
    from rich.console import Console
    from rich.table import Table

    found = [compare(run, other) for other in others]
    table = Table("", *map(str, others), title=f"beside {run}", title_justify="left")
    for rows in zip(*(one.rows() for one in found), strict=True):
        table.add_row(rows[0][0], *(told for _, told in rows))
    Console(markup=False).print(table)
    return all(one.identical for one in found)


def _apart(results: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, float]:
    """How far the scores of two runs are from each other, by dotted key; one that only one of them has, infinitely."""
    numbers = [
        {
            key: float(value)
            for key, value in leaves({name: found[name] for name in SPLITS if name in found})
            if _number(value)
        }
        for found in (results, others)
    ]
    names = {**numbers[0], **numbers[1]}
    return {
        name: abs(numbers[0][name] - numbers[1][name]) if all(name in one for one in numbers) else math.inf
        for name in names
    }


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _distance(state: Mapping[str, Tensor], other: Mapping[str, Tensor], run: Path, beside: Path) -> float:
    shapes = [{name: tuple(tensor.shape) for name, tensor in one.items()} for one in (state, other)]
    if shapes[0] != shapes[1]:
        name = next(name for name in {**shapes[0], **shapes[1]} if shapes[0].get(name) != shapes[1].get(name))
        raise InputError(
            f"{beside} is of another model than {run}: {name} is {_shape(shapes[1], name)}, and there "
            f"{_shape(shapes[0], name)}",
            "Compare runs of the same model.",
        )
    names = [name for name, tensor in state.items() if tensor.is_floating_point()]
    if all(torch.equal(state[name], other[name]) for name in names):
        return 0.0
    squares = [
        ((state[name] - other[name]).double().square().sum(), state[name].double().square().sum()) for name in names
    ]
    return float((sum(one for one, _ in squares) / sum(two for _, two in squares)) ** 0.5)


def _shape(shapes: Mapping[str, tuple[int, ...]], name: str) -> str:
    return " × ".join(map(str, shapes[name])) or "one number" if name in shapes else "not there"


def _of_gradients(last: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    means = [
        {place: kept["exp_avg"].double() for place, kept in one["optimizer_states"][0]["state"].items()}
        for one in (last, other)
    ]
    apart = [float((mean - means[1][place]).norm() / mean.norm().clamp(min=1e-30)) for place, mean in means[0].items()]
    return max(apart, default=0.0)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _told(distance: float | None) -> str:
    return "no longer there" if distance is None else "identical" if distance == 0 else f"{distance:.1e}"
