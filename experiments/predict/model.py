"""From a folder to a model that is ready to be applied, without the corpora that it was trained on."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from datamodules.batch import Labels
from datamodules.errors import InputError
from datamodules.vocabulary import DIMENSIONS
from experiments.calibration import temperature_of_rows
from experiments.config import load_run
from experiments.export.reading import SETTINGS, WEIGHTS, build, for_inference, read_export
from experiments.files import BEST, digest, read_json
from experiments.novelty import Novelty
from experiments.novelty import read as read_novelty
from experiments.records import read_checkpoint
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.settings import ModelSettings

_SYNTHETIC = "the model was trained on SYNTHETIC speech: what it says of people means nothing"

_DEVICES: dict[str, tuple[str, ...]] = {
    "auto": ("cuda", "mps", "cpu"),
    "gpu": ("cuda", "mps"),
    "cuda": ("cuda",),
    "mps": ("mps",),
    "cpu": ("cpu",),
}
_THERE: dict[str, Callable[[], bool]] = {
    "cuda": torch.cuda.is_available,
    "mps": torch.backends.mps.is_available,
    "cpu": lambda: True,
}


@dataclass(frozen=True)
class Model:
    """A trained model, and what belongs to its predictions.

    Attributes:
        settings: Of the parts that predict.
        labels: Of its heads.
        module: In evaluation mode, on the CPU.
        sha256: Of the file that the weights are from.
        dimensions: Those that its training rated: the head says something of the others, too.
        temperature: Of the probabilities of the emotions; 1 where they are not calibrated.
        novelty: What novelty is told by, if there is something.
        notes: What whoever uses it should know.
    """

    settings: ModelSettings
    labels: Labels
    module: AdversarialAutoencoder
    sha256: str
    dimensions: tuple[str, ...]
    temperature: float
    novelty: Novelty | None
    notes: tuple[str, ...] = ()


def read_model(place: Path, calibrate: bool = True) -> Model:
    """Reads a model; whatever kind of folder one may be loaded from is told apart here.

    Args:
        place: A run folder, whose best epoch is taken, a checkpoint in one, or a folder that ``make export`` wrote.
        calibrate: Whether its probabilities are to be calibrated.

    Raises:
        InputError: There is no model, or its files are damaged or do not fit each other.
    """
    if not place.exists():
        raise InputError(
            f"{place} does not exist", "Give the folder of a run, the last line that `make train` printed."
        )
    if (place / SETTINGS).is_file():
        return _of_export(place, calibrate)
    if place.is_dir():
        return _of_run(place, place / BEST, calibrate)
    folder = place.absolute().parent.parent
    if not (folder / "config.yaml").is_file():
        raise InputError(
            f"{place} is not in the folder checkpoints of a run", "Give the folder of a run, or a checkpoint in one."
        )
    return _of_run(folder, place, calibrate)


def device_of(accelerator: str) -> torch.device:
    """The first device of a kind that this machine has.

    Raises:
        InputError: It has none, or there is no such kind.
    """
    if accelerator not in _DEVICES:
        raise InputError(f"accelerator is {accelerator!r}", f"Choose from: {', '.join(_DEVICES)}.")
    found = next((kind for kind in _DEVICES[accelerator] if _THERE[kind]()), None)
    if found is None:
        raise InputError(
            f"accelerator is {accelerator!r}, but PyTorch {torch.__version__} finds no such GPU",
            "Give accelerator=auto, or install a PyTorch build and a driver for the GPU.",
        )
    return torch.device(found)


def _of_run(folder: Path, file: Path, calibrate: bool) -> Model:
    config = load_run(folder)
    checkpoint = read_checkpoint(file)
    settings = for_inference(config.model)
    found = checkpoint["state_dict"]
    module = build(settings, list(config.data.classes))
    try:
        module.load_state_dict({name: found[name] for name in module.state_dict()})
    except (KeyError, RuntimeError, TypeError) as error:
        raise InputError(
            f"the checkpoint {file} does not fit the model of {folder / 'config.yaml'}: {error}",
            "If another version of this program made the run, its environment.json names the commit.",
        ) from error
    if not settings.heads:
        raise InputError(f"{folder} predicts neither emotion nor dimensions", "Give the folder of another run.")
    is_best = file.resolve() == (folder / BEST).resolve()
    novelty = _novelty(folder, settings, f"`make novelty RUN={folder}` makes it again.") if is_best else None
    notes = []
    results = read_json(folder / "results.json") if (folder / "results.json").exists() else {}
    try:
        rated = _rated(results)
    except (AttributeError, TypeError) as error:
        raise InputError(f"{folder / 'results.json'} is damaged: {error}", "Give the folder of another run.") from error
    if results.get("synthetic"):
        notes.append(_SYNTHETIC)
    if novelty is None and is_best:
        notes.append(f"novelty is not told: `make novelty RUN={folder}` sees to it, where the corpora are")
    temperature = None
    if "emotion" in {head.task or name for name, head in settings.heads.items()} and calibrate and is_best:
        temperature = _temperature(folder, results, module.labels)
        if temperature is None:
            notes.append(f"probabilities are not calibrated: {folder} has no predictions_dev.csv")
    elif not is_best:
        notes.append(f"probabilities are not calibrated, and novelty is not told: both belong to {folder / BEST}")
    return Model(
        settings,
        module.labels,
        module.eval(),
        digest(file),
        rated,
        temperature or 1.0,
        novelty,
        tuple(notes),
    )


def _of_export(folder: Path, calibrate: bool) -> Model:
    exported = read_export(folder)
    told, weights = exported.config.get("temperature"), folder / WEIGHTS
    run = exported.config.get("run") or {}
    try:
        temperature = _checked(told) if calibrate and told is not None else 1.0
        rated, synthetic = _rated(run.get("results") or {}), bool(run.get("synthetic"))
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{folder / SETTINGS} is damaged: {error}", "Export the run again.") from error
    notes = [_SYNTHETIC] if synthetic else []
    module = exported.module
    novelty = _novelty(folder, exported.settings, "Export the run again.")
    return Model(exported.settings, module.labels, module, digest(weights), rated, temperature, novelty, tuple(notes))


def _novelty(folder: Path, settings: ModelSettings, remedy: str) -> Novelty | None:
    found = read_novelty(folder)
    if found is not None and found.means.shape[1] != sum(settings.code.values()):
        raise InputError(f"what novelty is told by in {folder} is of another model", remedy)
    return found


def _rated(results: dict[str, dict[str, dict[str, float | None]]]) -> tuple[str, ...]:
    """The dimensions that development data could score; all where nothing is known."""
    scores = results.get("dev", {}).get("ccc", {})
    return tuple(name for name in DIMENSIONS if scores.get(name, 0.0) is not None)


def _temperature(folder: Path, results: dict[str, dict[str, float]], labels: Labels) -> float | None:
    """As the run found it; of a run of an earlier version, from its predictions."""
    file = folder / "predictions_dev.csv"
    try:
        if results.get("calibration"):
            return _checked(results["calibration"]["temperature"])
        with file.open(encoding="utf-8", newline="") as stream:
            return temperature_of_rows(list(csv.DictReader(stream)), labels.emotions)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise InputError(
            f"the calibration of {folder} cannot be read: {error}", "Give calibrate=false, or another run."
        ) from error


def _checked(temperature: float) -> float:
    if not 0 < float(temperature) < float("inf"):
        raise ValueError(f"a temperature of {temperature}")
    return float(temperature)
