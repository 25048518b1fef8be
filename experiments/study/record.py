"""What is kept of a run: one line of JSON, small enough to commit, from which all tables are made."""

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from datamodules.errors import InputError
from datamodules.vocabulary import DIMENSIONS
from experiments.config import Config, load_run
from experiments.files import parse_json, read_json, replacing, understood

RECORDS = "records.jsonl"

VERSION = 1
"""Raised when a setting's default changes, or what a setting does: results of before are then outdated."""

_THERE = "there"
"""What is told of an entry that may be all as it is by default."""

Point = dict[str, Any]
"""What a curve sets: settings and their values, such as ``{"data.labelled_share": 0.1}``; empty beside curves."""

_WITHOUT_EFFECT = (
    "seed",
    "split.fold",
    "experiment",
    "output",
    "run",
    "wandb.*",
    "data.root",
    "data.packed",
    "data.cache",
    "data.workers",
    "data.decoded_gb",
    "data.rebuild",
    "data.corpora",
    "data.corpora.*.root",
    "data.corpora.*.packed",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.threads",
    "trainer.gradients",
    "trainer.teachers*",
)
"""Settings that tell where and on what a run is made, and not what it is; fold and seed stand in the record anyway, and
teachers count for what they are and not where."""


_OF_TRAINING = (
    "model.*",
    "schedule.*",
    "trainer.*",
    "data.quota",
    "data.steps",
    "data.crop_s",
    "data.evaluation_batch",
    "data.auxiliary*",
)
"""Settings of how a model of ours is made and trained, which systems on features have nothing of but their tasks."""


@dataclass(frozen=True)
class Record:
    """A run of a study.

    Attributes:
        study: Name of the study.
        experiment: Name of the experiment.
        system: Name of the system.
        fold: Which speakers are held out.
        seed: Of the run.
        point: Where on a curve the run lies; empty for a run that lies on none.
        commit: Of the code that made the run; with ``+`` where files differed from it, empty where it is not known.
        settings: Hash of all settings that have an effect, but for fold and seed: equal for runs of a system.
        device: What it was trained on: ``cpu`` with its instructions, or the name of the GPU, and the precision, as in
            ``cpu (AVX2, 32-true)``; without these in records of earlier versions and of systems on features.
        parameters: Number of trainable weights.
        best_epoch: Epoch with the best development score, from 0; none for systems without epochs.
        train_seconds: Time of the training.
        labelled: Training utterances that carried a label of the experiment.
        development: The development score that chose the epoch: UAR, or the mean CCC.
        labels: Names of the classes, in the order of the confusion matrices; empty without an emotion head.
        confusion_by_speaker: For each test speaker a row for each true class, which counts the predicted ones.
        moments_by_speaker: For each test speaker and dimension what a CCC is made of: number of utterances, mean of the
            truth and of the prediction, and the sums of squared deviations from the means of the truth, of the
            prediction, and of the product of both deviations.
    """

    study: str
    experiment: str
    system: str
    fold: int
    seed: int
    point: Point
    commit: str
    settings: str
    device: str
    parameters: int
    best_epoch: int | None
    train_seconds: float
    labelled: int
    development: float
    labels: list[str] = field(default_factory=list)
    confusion_by_speaker: dict[str, list[list[int]]] = field(default_factory=dict)
    moments_by_speaker: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str, int, int]:
        """What distinguishes a run from the others of its study."""
        return self.experiment, self.system, json.dumps(self.point, sort_keys=True), self.fold, self.seed


Teachers = Sequence[tuple[str, int]]
"""Of each teacher the hash of its settings, and its seed."""


def settings_hash(config: Config, features: Sequence[str] = (), teachers: Teachers = ()) -> str:
    """Hash of what a run is: the settings that have an effect on the result, fold and seed apart.

    Args:
        config: Configuration of the run.
        features: What a system on features is given beside it.
        teachers: Those of the run, of the same fold.

    Returns:
        16 hexadecimal digits.
    """
    without = (*_WITHOUT_EFFECT, *(_OF_TRAINING if features else ()))
    telling = {
        key: value
        for key, value in _chosen(config)
        if not any(fnmatchcase(key, pattern) for pattern in without)
        # A corpus may stand there for its folder alone.
        and not (value is _THERE and key.startswith("data.corpora."))
    }
    if features:
        telling["tasks"] = sorted(config.model.tasks & {"emotion", "dimensions"})
    if teachers:
        # With labels hidden by the seed, teachers are of the seed of the run, which does not count here.
        own = config.seed if config.data.labelled_share < 1 else None
        telling["teachers"] = sorted((settings, -1 if seed == own else seed) for settings, seed in teachers)
    told = json.dumps([VERSION, telling, *features], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def _chosen(settings: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Settings that are not what they are by default, each with its dotted key: a new setting changes no hash."""
    if is_dataclass(settings) and not isinstance(settings, type):
        default = type(settings)()
        for name in (one.name for one in fields(settings)):
            if getattr(settings, name) != getattr(default, name):
                yield from _chosen(getattr(settings, name), f"{key}.{name}" if key else name)
    elif isinstance(settings, dict | list):
        yield key, len(settings)
        for place, entry in settings.items() if isinstance(settings, dict) else enumerate(settings):
            yield f"{key}.{place}", _THERE
            yield from _chosen(entry, f"{key}.{place}")
    else:
        yield key, settings


def record_of(
    study: str,
    system: str,
    point: Point,
    config: Config,
    folder: Path,
    features: Sequence[str] = (),
    teachers: Teachers = (),
) -> Record:
    """The record of a finished run.

    Args:
        study: Name of the study.
        system: Name of the system.
        point: Where on a curve the run lies.
        config: Its configuration.
        folder: The run folder.
        features: What a system on features is given beside its configuration.
        teachers: Those of the run.

    Raises:
        InputError: The run is not complete, or was not tested.
    """
    if not (folder / "predictions_test.csv").exists() and (folder / "results.json").exists():
        raise InputError(
            f"{folder} has no scores of the test set, which records are made of",
            "Train it without trainer.test=false.",
        )
    with understood(folder):
        return _record_of(study, system, point, config, folder, features, teachers)


def _record_of(
    study: str,
    system: str,
    point: Point,
    config: Config,
    folder: Path,
    features: Sequence[str],
    teachers: Teachers,
) -> Record:
    results = read_json(folder / "results.json")
    environment = read_json(folder / "environment.json")
    git = environment["git"] or {"commit": "", "dirty": False}
    confusion, moments = _by_speaker(folder / "predictions_test.csv", list(config.data.classes))
    dev = results["dev"]
    return Record(
        study=study,
        experiment=config.experiment,
        system=system,
        fold=config.split.fold,
        seed=config.seed,
        point=point,
        commit=git["commit"] + "+" * bool(git["dirty"]),
        settings=settings_hash(config, features, teachers),
        device=results["device"] if features else _device(folder, results["device"], environment["machine"]),
        parameters=results["parameters"],
        best_epoch=results["best_epoch"],
        train_seconds=round(results["train_seconds"], 1),
        labelled=results["labelled"],
        development=dev["uar"] if config.trainer.monitor == "dev/uar" else _mean_ccc(dev),
        labels=list(config.data.classes) if confusion else [],
        confusion_by_speaker=confusion,
        moments_by_speaker=moments,
    )


def _device(folder: Path, name: str, machine: Mapping[str, Any]) -> str:
    """Device, and what its figures depend on: a CPU's instructions, and the precision that the machine settled."""
    instructions = [machine["cpu_capability"]] * (name == "cpu")
    return f"{name} ({', '.join([*instructions, load_run(folder).trainer.precision])})"


def _mean_ccc(scores: Mapping[str, Any]) -> float:
    known = [value for value in scores["ccc"].values() if value is not None]
    return float(np.mean(known))


def _by_speaker(
    predictions: Path, classes: list[str]
) -> tuple[dict[str, list[list[int]]], dict[str, dict[str, list[float]]]]:
    """Confusion matrices and moments of each speaker, from the run's file of predictions."""
    rows_of: dict[str, list[dict[str, str]]] = {}
    with predictions.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            rows_of.setdefault(row["speaker"], []).append(row)
    confusion: dict[str, list[list[int]]] = {}
    moments: dict[str, dict[str, list[float]]] = {}
    for speaker, rows in sorted(rows_of.items()):
        if "truth" in rows[0]:
            counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
            for row in rows:
                if row["truth"]:
                    counts[classes.index(row["truth"]), classes.index(row["prediction"])] += 1
            confusion[speaker] = counts.tolist()
        found = {name: _moments(rows, name) for name in DIMENSIONS if f"{name}_truth" in rows[0]}
        if any(found.values()):
            moments[speaker] = {name: values for name, values in found.items() if values}
    return confusion, moments


def _moments(rows: list[dict[str, str]], dimension: str) -> list[float]:
    pairs = [(row[f"{dimension}_truth"], row[f"{dimension}_prediction"]) for row in rows if row[f"{dimension}_truth"]]
    if not pairs:
        return []
    truth, prediction = np.array(pairs, dtype=np.float64).T
    dx, dy = truth - truth.mean(), prediction - prediction.mean()
    return [float(len(pairs)), truth.mean(), prediction.mean(), *map(float, (dx @ dx, dy @ dy, dx @ dy))]


def read_records(path: Path) -> list[Record]:
    """Reads a file of records, in its order; none where there is no file yet.

    Raises:
        InputError: A line is no record.
    """
    if not path.exists():
        return []
    names = {one.name for one in fields(Record)}
    records = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            found = parse_json(line)
            if set(found) != names:
                raise ValueError(f"its keys are {', '.join(found)}")
            _check(found)
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}, is no record of a run: {error}", "Remove the line: its run is then made again."
            ) from error
        records.append(Record(**found))
    return records


def _check(found: dict[str, Any]) -> None:
    """Checks what a record says; raises what is wrong."""
    kinds: dict[str, type | tuple[type, ...]] = {
        **dict.fromkeys(("study", "experiment", "system", "commit", "settings", "device"), str),
        **dict.fromkeys(("fold", "seed", "parameters", "labelled"), int),
        **dict.fromkeys(("train_seconds", "development"), (int, float)),
        **dict.fromkeys(("point", "confusion_by_speaker", "moments_by_speaker"), dict),
        "best_epoch": (int, type(None)),
        "labels": list,
    }
    for name, kind in kinds.items():
        if not isinstance(found[name], kind) or (isinstance(found[name], int | float) and not _is_number(found[name])):
            raise ValueError(f"its {name} is {found[name]!r}")
    size = len(found["labels"])
    if not all(isinstance(label, str) for label in found["labels"]):
        raise ValueError("its labels are none")
    for speaker, matrix in found["confusion_by_speaker"].items():
        rows = [list(row) for row in matrix]
        if [len(row) for row in rows] != [size] * size or not all(
            isinstance(count, int) and _is_number(count) and count >= 0 for row in rows for count in row
        ):
            raise ValueError(f"its confusion matrix of {speaker} is none")
    for speaker, moments in found["moments_by_speaker"].items():
        if not set(moments) <= set(DIMENSIONS) or not all(
            len(values) == 6 and all(map(_is_number, values)) and values[0] > 0 for values in moments.values()
        ):
            raise ValueError(f"its moments of {speaker} are none")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Writes a file of records at once, sorted, so that its differences stay readable.

    Args:
        path: The file.
        records: Of one study; of two with the same key, the later one counts.
    """
    kept = {record.key: record for record in records}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        for _, record in sorted(kept.items()):
            stream.write(json.dumps(asdict(record), ensure_ascii=False, allow_nan=False).encode() + b"\n")
