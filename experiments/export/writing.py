"""Writes the folder of an exported model from a run: completely, or not at all."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save

from datamodules.errors import InputError, explained
from datamodules.vocabulary import DIMENSIONS
from experiments.config import Config, load_run
from experiments.export.card import model_card
from experiments.export.checking import TOLERANCE, Difference, compare, development_recordings
from experiments.export.graph import to_onnx
from experiments.export.reading import CARD, FORMAT, GRAPH, SETTINGS, VERSION, WEIGHTS
from experiments.export.spread import study_of
from experiments.files import digest, read_json, replacing, write_json
from experiments.novelty import FILE as NOVELTY
from experiments.novelty import write as write_novelty
from experiments.predict.model import Model, read_model
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder

FILES = (SETTINGS, WEIGHTS, GRAPH, CARD, NOVELTY)


def export(run: Path, out: Path, records: Path) -> dict[str, Any]:
    """Exports the best checkpoint of a run, and prints what was written and, last, the folder.

    Args:
        run: Folder of a finished run.
        out: Where to; an earlier export that nobody changed is replaced.
        records: Folder of the studies' records, from which the card takes the spread over folds and seeds.

    Returns:
        What ``config.json`` holds.

    Raises:
        InputError: The run is not finished or has nothing to export, packages are missing, the ONNX graph differs from
            PyTorch, or ``out`` holds what was not exported.
    """
    _import_onnx()
    out = out.resolve()
    config = load_run(run)
    results = read_json(run / "results.json")
    _check_place(out)
    model = read_model(run)
    module = model.module
    recordings = development_recordings(run, config.model.features.sample_rate)
    classes = list(config.data.classes) if "emotion" in _predicted(module) else []
    onnx = to_onnx(module, {"classes": json.dumps(classes), "sample_rate": str(config.model.features.sample_rate)})
    difference = compare(onnx, module, recordings)
    if not difference.largest <= TOLERANCE:
        raise InputError(
            f"the ONNX graph of {run} differs from PyTorch by {difference.largest:.2g} ({difference.where}), more than "
            f"{TOLERANCE:g}",
            "Nothing was written. Install the versions that constraints.txt names; if it differs with them, tell us.",
        )
    report, environment = read_json(run / "data_report.json"), read_json(run / "environment.json")
    described = _describe(config, model, results, report, environment, difference)
    study = study_of(run, config, records)
    with explained(str(out), out.parent, "out"):
        _write(out, described, model, onnx, model_card(described, config, results, report, study))
    _tell(out, described)
    return described


def _import_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"to export needs the package {error.name}, which is not installed",
            "pip install -c constraints.txt -e '.[export]'",
        ) from error
    onnxruntime.set_default_logger_severity(3)  # it warns of what its own optimiser does


def _predicted(module: AdversarialAutoencoder) -> list[str]:
    return [head.task.prediction for _, head in module._heads()]


def _describe(
    config: Config,
    model: Model,
    results: Mapping[str, Any],
    report: Mapping[str, Any],
    environment: Mapping[str, Any],
    difference: Difference,
) -> dict[str, Any]:
    """The content of ``config.json``, but for the files' checksums."""
    predicted = _predicted(model.module)
    git = environment["git"] or {"commit": None, "dirty": False}
    classes = config.data.classes if "emotion" in predicted else {}
    return {
        "format": FORMAT,
        "version": VERSION,
        "sample_rate": config.model.features.sample_rate,
        "labels": {
            "classes": [{"name": name, "emotions": list(emotions)} for name, emotions in classes.items()],
            "dimensions": [
                {"name": name, "low": 0, "high": 1, "corpora": _scales(report, name)}
                for name in (DIMENSIONS if "dimensions" in predicted else ())
            ],
        },
        "outputs": [*predicted, "code"],
        # What the logarithms of the probabilities are divided by, before they are normalised again.
        "temperature": model.temperature,
        "model": asdict(model.settings),
        "onnx": {
            "largest_difference": difference.largest,
            "on": difference.where,
            "largest_on_recordings": difference.on_recordings,
            "sounds": difference.sounds,
            "recordings": difference.recordings,
        },
        "run": {
            "experiment": config.experiment,
            "fold": config.split.fold,
            "folds": report["split"]["folds"],
            "seed": config.seed,
            "commit": git["commit"],
            "changed": git["dirty"],
            "best_epoch": results["best_epoch"],
            "monitor": config.trainer.monitor,
            "synthetic": results.get("synthetic", False),
            "corpora": {
                name: {key: corpus[key] for key in ("licence", "language", "labelled", "synthetic")}
                for name, corpus in report["corpora"].items()
            },
            "results": {split: _figures(results[split]) for split in ("dev", "test") if split in results},
        },
        "parameters": model.module.parameter_count,
    }


def _scales(report: Mapping[str, Any], dimension: str) -> dict[str, Any]:
    """The scales of the corpora that rate a dimension: what 0 and 1 are in their own units."""
    return {
        name: corpus["dimensions"][dimension]["scale"]
        for name, corpus in report["corpora"].items()
        if dimension in corpus["dimensions"]
    }


def _figures(scores: Mapping[str, Any]) -> dict[str, Any]:
    return {name: scores[name] for name in ("uar", "accuracy", "recall", "ccc") if name in scores}


def _check_place(out: Path) -> None:
    """Checks that nothing that stands there was made by others."""
    remedy = "Give another folder with out=<folder>, or remove it."
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"{out} already exists, and is no folder", remedy)
    there = sorted(entry.name for entry in out.iterdir())
    if others := [name for name in there if name not in FILES]:
        raise InputError(f"{out} holds {', '.join(others[:3])}, which was not exported", remedy)
    known = read_json(out / SETTINGS) if SETTINGS in there else {}
    own = isinstance(known, dict) and known.get("format") == FORMAT and isinstance(known.get("files"), dict)
    for name in there:
        if not own or (name != SETTINGS and known["files"].get(name) != digest(out / name)):
            raise InputError(f"{out / name} was not exported, or was changed since", remedy)


def _write(out: Path, described: dict[str, Any], model: Model, onnx: bytes, card: str) -> None:
    draft, before = (out.with_name(f".{out.name}.{what}") for what in ("draft", "before"))
    for left in (draft, before):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        weights = {name: tensor.contiguous() for name, tensor in model.module.state_dict().items()}
        for name, content in (
            (WEIGHTS, save(weights, {"format": "pt"})),
            (GRAPH, onnx),
            (CARD, card.encode()),
        ):
            with replacing(draft / name) as stream:
                stream.write(content)
        if model.novelty is not None:
            write_novelty(draft, model.novelty)
        described["files"] = {path.name: digest(path) for path in sorted(draft.iterdir())}
        write_json(draft / SETTINGS, described)
        if out.exists():
            out.rename(before)
        try:
            draft.rename(out)
        except OSError:
            if before.exists():
                before.rename(out)
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)


def _tell(out: Path, described: Mapping[str, Any]) -> None:
    for name in (SETTINGS, *described["files"]):
        print(f"{name:18} {(out / name).stat().st_size:>10,} bytes")
    onnx = described["onnx"]
    print(
        f"onnxruntime and PyTorch differ by {onnx['largest_difference']:.1e} at most, on {onnx['sounds']} sounds, of "
        f"which {onnx['recordings']} are development recordings of the run"
    )
    print(out, flush=True)
