"""From a folder to a model that is ready to be applied, without the corpora that it was trained on."""

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from datamodules.batch import Labels
from datamodules.errors import InputError
from datamodules.vocabulary import DIMENSIONS
from experiments.calibration import temperature_of_rows
from experiments.config import Config, load_run
from experiments.files import BEST, digest, read_json
from experiments.novelty import Novelty
from experiments.novelty import read as read_novelty
from experiments.records import read_checkpoint
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.settings import AdaptationSettings, ConsistencySettings, ModelSettings

_PREDICTED = ("emotion", "dimensions")
"""Tasks that predict something of anybody's speech."""

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
        place: A run folder, whose best epoch is taken, or a checkpoint in one.
        calibrate: Whether its probabilities are to be calibrated.

    Raises:
        InputError: There is no model, or its files are damaged or do not fit each other.
    """
    if not place.exists():
        raise InputError(
            f"{place} does not exist", "Give the folder of a run, the last line that `make train` printed."
        )
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


def predicting(settings: ModelSettings) -> ModelSettings:
    """A model's settings without all that predictions are not made by."""
    heads = {
        name: head
        for name, head in settings.heads.items()
        if (head.task or name) in _PREDICTED and head.weight > 0 and not head.adversarial
    }
    return replace(
        settings,
        heads=heads,
        decoder=replace(settings.decoder, weight=0),
        adversary=replace(settings.adversary, weight=0),
        categorical=0,
        consistency=ConsistencySettings(),
        adaptation=AdaptationSettings(),
    )


def _of_run(folder: Path, file: Path, calibrate: bool) -> Model:
    config = load_run(folder)
    checkpoint = read_checkpoint(file)
    settings, labels = predicting(config.model), labels_of(config)
    found = checkpoint["state_dict"]
    try:
        module = AdversarialAutoencoder(settings, labels, total_steps=1, seed=0)
        module.load_state_dict({name: found[name] for name in module.state_dict()})
    except (KeyError, ValueError, RuntimeError, TypeError) as error:
        raise InputError(
            f"the checkpoint {file} does not fit the model of {folder / 'config.yaml'}: {error}",
            "If another version of this program made the run, its environment.json names the commit.",
        ) from error
    if not settings.heads:
        raise InputError(f"{folder} predicts neither emotion nor dimensions", "Give the folder of another run.")
    is_best = file.resolve() == (folder / BEST).resolve()
    novelty = read_novelty(folder) if is_best else None
    if novelty is not None and novelty.means.shape[1] != sum(settings.code.values()):
        raise InputError(
            f"what novelty is told by in {folder} is of another model", f"`make novelty RUN={folder}` makes it again."
        )
    notes = []
    results = read_json(folder / "results.json") if (folder / "results.json").exists() else {}
    try:
        rated = _rated(results)
    except (AttributeError, TypeError) as error:
        raise InputError(f"{folder / 'results.json'} is damaged: {error}", "Give the folder of another run.") from error
    if results.get("synthetic"):
        notes.append("the model was trained on SYNTHETIC speech: what it says of people means nothing")
    if novelty is None and is_best:
        notes.append(f"the column novelty stays empty: `make novelty RUN={folder}` fills it, if the corpora are there")
    temperature = None
    if "emotion" in {head.task or name for name, head in settings.heads.items()} and calibrate and is_best:
        temperature = _temperature(folder, results, labels)
        if temperature is None:
            notes.append(f"probabilities are not calibrated: {folder} has no predictions_dev.csv")
    elif not is_best:
        notes.append(f"probabilities are not calibrated, and novelty is not told: both belong to {folder / BEST}")
    return Model(
        settings,
        labels,
        module.eval(),
        digest(file),
        rated,
        temperature or 1.0,
        novelty,
        tuple(notes),
    )


def labels_of(config: Config) -> Labels:
    """What heads that predict need to know of the training data: names, and no counts."""
    classes = tuple(config.data.classes)
    return Labels(emotions=classes, emotion_counts=(1,) * len(classes), speakers=0, corpora=())


def _rated(results: dict[str, dict[str, dict[str, float | None]]]) -> tuple[str, ...]:
    """The dimensions that development data could score; all where nothing is known."""
    scores = results.get("dev", {}).get("ccc", {})
    return tuple(name for name in DIMENSIONS if scores.get(name, 0.0) is not None)


def _temperature(folder: Path, results: dict[str, dict[str, float]], labels: Labels) -> float | None:
    """As the run found it; of a run of an earlier version, from its predictions."""
    file = folder / "predictions_dev.csv"
    try:
        if results.get("calibration"):
            temperature = float(results["calibration"]["temperature"])
            if not 0 < temperature < float("inf"):
                raise ValueError(f"a temperature of {temperature}")
            return temperature
        with file.open(encoding="utf-8", newline="") as stream:
            return temperature_of_rows(list(csv.DictReader(stream)), labels.emotions)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise InputError(
            f"the calibration of {folder} cannot be read: {error}", "Give calibrate=false, or another run."
        ) from error
