"""Reads an exported folder back, from its settings and weights alone, neither of which can run anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError, safe_open
from torch import Tensor

from datamodules.batch import Labels
from datamodules.errors import InputError
from experiments.files import digest, read_json
from experiments.limits import leaves, out_of_range
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.encoder import Encoder
from lightning_modules.heads import TASKS, Task
from lightning_modules.settings import AdaptationSettings, ConsistencySettings, HeadSettings, ModelSettings

FORMAT = "ser-aae"
VERSION = 1
"""Of the format; raised when older readers could not read what is written."""

SETTINGS = "config.json"
WEIGHTS = "model.safetensors"
GRAPH = "model.onnx"
CARD = "README.md"

_REMEDY = "Give a folder that `make export` wrote, as it was written."


@dataclass(frozen=True)
class Exported:
    """A model that was exported.

    Attributes:
        module: In evaluation mode; waveform (batch, samples) at ``sample_rate`` and length (batch,) to ``emotion``
            probabilities (batch, classes), ``dimensions`` (batch, 3) on [0, 1], whichever it has heads for, and
            ``code`` (batch, code).
        settings: Of the model.
        sample_rate: In Hz.
        classes: Names of the classes, in the order of their probabilities; each with the common names of the emotions
            that it stands for.
        dimensions: Names of the dimensions in their order; empty without a head for them.
        config: All that ``config.json`` holds.
    """

    module: AdversarialAutoencoder
    settings: ModelSettings
    sample_rate: int
    classes: dict[str, list[str]]
    dimensions: list[str]
    config: dict[str, Any]


def read_export(folder: Path) -> Exported:
    """Reads an exported folder.

    Args:
        folder: With ``config.json`` and ``model.safetensors``.

    Raises:
        InputError: It is no exported folder, is damaged, was changed, or is of a later version.
    """
    path = folder / SETTINGS
    if not path.is_file():
        raise InputError(f"{folder} is no exported model: {path} does not exist", _REMEDY)
    config = read_json(path)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(f"{path} is not the config.json of a model of this project", _REMEDY)
    if config.get("version") != VERSION:
        raise InputError(
            f"{path} has version {config.get('version')!r}, and this program reads version {VERSION}",
            "Read it with the version of the program that wrote it, or export the run again.",
        )
    settings = _settings(config, path)
    classes, dimensions = _labels(config, path)
    weights = _weights(folder / WEIGHTS, settings, len(classes), config)
    module = build(settings, list(classes))
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"{folder / WEIGHTS} does not fit {path}: {error}", _REMEDY) from error
    return Exported(module.eval(), settings, settings.features.sample_rate, classes, dimensions, config)


def for_inference(settings: ModelSettings) -> ModelSettings:
    """A model's settings without what its predictions do not need: what only trains, and what adapts to a corpus."""
    heads: dict[str, HeadSettings] = {}
    predicted = set()
    for name, head in settings.heads.items():
        prediction = _task(name, head).prediction
        # Of heads that share a task, the first speaks for it, as in the model itself.
        if head.weight > 0 and not head.adversarial and prediction and prediction not in predicted:
            heads[name] = head
            predicted.add(prediction)
    return replace(
        settings,
        heads=heads,
        decoder=replace(settings.decoder, weight=0.0),
        adversary=replace(settings.adversary, weight=0.0),
        categorical=0.0,
        consistency=ConsistencySettings(),
        adaptation=AdaptationSettings(),
    )


def build(settings: ModelSettings, classes: Sequence[str]) -> AdversarialAutoencoder:
    """A model with weights to be loaded; how frequent classes and speakers were matters in training alone.

    Args:
        settings: Of ``for_inference``.
        classes: Names of the classes.

    Raises:
        InputError: Settings do not fit each other.
    """
    labels = Labels(tuple(classes), (1,) * len(classes), speakers=0, corpora=())
    try:
        return AdversarialAutoencoder(settings, labels, total_steps=1, seed=0)
    except ValueError as error:
        raise InputError(f"the model cannot be built: {error}", _REMEDY) from error


def _task(name: str, head: HeadSettings, classes: int = 0) -> Task:
    kind = head.task or name
    if kind not in TASKS:
        raise InputError(f"the head {name!r} has the unknown task {kind!r}", _REMEDY)
    return TASKS[kind](Labels(("",) * classes, (1,) * classes, speakers=0, corpora=()), head)


def _settings(config: Mapping[str, Any], path: Path) -> ModelSettings:
    given = config.get("model")
    for key, value in leaves(given, "model"):
        # OmegaConf would look up what stands in such a string, in the environment for one.
        if isinstance(value, str) and "${" in value:
            raise InputError(f"{path}: {key} is {value!r}", _REMEDY)
        if allowed := out_of_range(key, value):
            raise InputError(f"{path}: {key} is {value}, and not {allowed}", _REMEDY)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(ModelSettings(code={})), OmegaConf.create(cast(Any, given)))
        settings = cast(ModelSettings, OmegaConf.to_object(merged))
    except (OmegaConfBaseException, TypeError, ValueError, AttributeError) as error:
        first, *_ = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{path}: model cannot be read: {first}", _REMEDY) from error
    if settings != for_inference(settings) or not settings.heads:
        raise InputError(f"{path}: model holds parts that are not exported, or no head that predicts", _REMEDY)
    return settings


def _labels(config: Mapping[str, Any], path: Path) -> tuple[dict[str, list[str]], list[str]]:
    try:
        classes = {str(one["name"]): [str(name) for name in one["emotions"]] for one in config["labels"]["classes"]}
        dimensions = [str(one["name"]) for one in config["labels"]["dimensions"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: labels cannot be read", _REMEDY) from error
    return classes, dimensions


def _weights(path: Path, settings: ModelSettings, classes: int, config: Mapping[str, Any]) -> dict[str, Tensor]:
    """The weights, looked at before memory is made for a model of the size that the settings promise."""
    if not path.is_file():
        raise InputError(f"{path} does not exist", _REMEDY)
    known = config.get("files")
    if not isinstance(known, dict) or known.get(path.name) != digest(path):
        raise InputError(f"{path} is not the file that was exported: {SETTINGS} has another checksum", _REMEDY)
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _check_shapes(shapes, settings, classes, path)
            return {name: file.get_tensor(name) for name in shapes}
    except SafetensorError as error:
        raise InputError(f"{path} cannot be read: {error}", _REMEDY) from error


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], settings: ModelSettings, classes: int, path: Path) -> None:
    encoder = settings.encoder
    every = chain(encoder.layers, repeat(encoder.layers[-1])) if encoder.layers else repeat(0)
    if sum(layers for _, layers in zip(encoder.channels, every, strict=False)) > len(shapes):
        raise InputError(f"{path} holds fewer layers than {SETTINGS} promises", _REMEDY)
    code = sum(settings.code.values())
    try:
        with torch.device("meta"):
            expected = Encoder(settings.features.mels, code * (2 if settings.variational > 0 else 1), encoder)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"the model cannot be built: {error}", _REMEDY) from error
    sizes = {f"encoder.{name}": tuple(weight.shape) for name, weight in expected.state_dict().items()}
    for name, head in settings.heads.items():
        inputs = sum(settings.code.get(part, 0) for part in head.reads or settings.code)
        outputs = _task(name, head, classes).outputs
        if head.hidden:
            sizes[f"heads.{name}.hidden.weight"] = (head.hidden, inputs)
        sizes[f"heads.{name}.output.weight"] = (outputs, head.hidden or inputs)
    for name, size in sizes.items():
        if shapes.get(name) != size:
            found = " × ".join(map(str, shapes[name])) if name in shapes else "missing"
            raise InputError(
                f"{path}: {name} is {found}, and {SETTINGS} promises {' × '.join(map(str, size)) or 'one number'}",
                _REMEDY,
            )
