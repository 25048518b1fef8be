"""The configuration of an experiment: composed here, read from YAML and the command line, handed out as dataclasses."""

import copy
import difflib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from callbacks.settings import ScheduleSettings
from datamodules.errors import InputError
from datamodules.settings import DataSettings
from datamodules.splits import SplitSettings
from datamodules.yaml_text import read_yaml_text
from experiments.files import DAMAGED, find_yaml, is_file, replacing
from experiments.limits import leaves, out_of_range
from lightning_modules.settings import ModelSettings

FOLDER = Path(__file__).parent

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]

Matmul = Literal["highest", "high", "medium"]

_MOST_INTERPOLATIONS = 10
_MOST_BITS = 1024

REPLACED = ("data.classes", "model.code")
"""Dicts that are one value: to merge a layer's into an earlier one would keep entries that it means to replace."""


@dataclass
class TrainerSettings:
    """How long and on what to train.

    Attributes:
        epochs: Passes over the labelled training data.
        accelerator: ``auto``, ``cpu``, ``gpu`` or another that Lightning knows.
        devices: Processes on each machine.
        num_nodes: Machines.
        precision: Of training, as in Lightning: ``32-true``, ``bf16-mixed`` or ``16-mixed``; ``auto`` is ``bf16-mixed``
            on processors and GPUs that compute in bfloat16, else ``32-true``. Scores are always computed in float32.
        gradient_clip: Largest norm of the gradients, model and discriminators apart; 0 does not clip.
        average: Share that the exponential average of the weights keeps at each step; 0 does not average.
        monitor: Development score that chooses the epoch.
        test: Scores the test set once, at the end. Without, a run neither reads nor reports it, as in a search for
            settings; `make evaluate` scores it then.
        teachers: Run folders, whose models are in turn the teacher of ``model.consistency``; without any, the average
            of the model's own weights is.
        gradients: Epochs from one comparison of the losses' gradients in the encoder to the next; 0 compares none.
        patience: Epochs without a better development score after which training stops; 0 never stops early.
        checkpoint_minutes: Within an epoch, time from one checkpoint to the next; there is one after each epoch, too.
        threads: CPU threads of PyTorch; 0 leaves it to PyTorch.
        compile: Compiles encoder and decoder for training (``torch.compile``): a minute or more at the start.
        matmul: How exactly a GPU multiplies float32: ``highest``, ``high`` (TF32) or ``medium``; a CPU is always exact.
        deterministic: Of a GPU's algorithms, only those that give the same again; others may be faster.
    """

    epochs: int = 40
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: str = "auto"
    gradient_clip: float = 5.0
    average: float = 0.995
    monitor: str = "dev/uar"
    test: bool = True
    teachers: list[str] = field(default_factory=list)
    gradients: int = 0
    patience: int = 0
    checkpoint_minutes: float = 10.0
    threads: int = 0
    compile: bool = False
    matmul: str = "high"
    deterministic: bool = True


@dataclass
class WandbSettings:
    """Weights & Biases.

    Attributes:
        enabled: Logs to W&B; without an account or network it runs offline.
        project: Name of the project.
        entity: User or team; none is the default of the account.
        group: Groups runs of a study.
        tags: For filtering.
    """

    enabled: bool = True
    project: str = "ser-aae"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)


@dataclass
class Config:
    """Everything that defines a run.

    Attributes:
        experiment: Its name.
        seed: Of initial weights, order, crops and augmentation.
        output: Folder of all runs.
        run: Name of the run's folder; empty makes one of time, fold and seed.
        data: Corpora and batches.
        split: Which speakers train, develop and test.
        model: The model and its losses.
        schedule: The adversarial schedule.
        trainer: How long and on what to train.
        wandb: Weights & Biases.
    """

    experiment: str = ""
    seed: int = 0
    output: str = "runs"
    run: str = ""
    data: DataSettings = field(default_factory=DataSettings)
    split: SplitSettings = field(default_factory=SplitSettings)
    model: ModelSettings = field(default_factory=ModelSettings)
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    wandb: WandbSettings = field(default_factory=WandbSettings)


def experiments() -> list[str]:
    """Names of the experiments that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(experiment: str, overrides: Sequence[str] = ()) -> Config:
    """Reads an experiment.

    Args:
        experiment: Name of an experiment that ships, or the path of a YAML file.
        overrides: ``key=value`` settings, which win.

    Returns:
        The configuration as plain dataclasses.

    Raises:
        InputError: There is no such experiment, or a key or value is wrong; the message says where it stands.
    """
    config = OmegaConf.structured(Config)
    for path, layer in _layers(_find(experiment)):
        config = _merge(config, layer, str(path))
    config = _override(config, overrides)
    return _plain(config, Path(experiment).stem)


def load_run(folder: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads the configuration of a run, which ``save`` wrote as its ``config.yaml``.

    Args:
        folder: The run folder.
        overrides: ``key=value`` settings, which win.

    Raises:
        InputError: There is no such file, it is not a configuration of this version, or a key or value is wrong.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise InputError(
            f"{folder} is no run folder: {path} does not exist",
            "Give the folder of a run, the last line that `make train` printed.",
        )
    config = _merge(OmegaConf.structured(Config), _read(path), str(path))
    # Not its experiment: that may refer to another setting, and is not resolved yet.
    return _plain(_override(config, overrides), folder.parent.name)


def save(config: Config, path: Path) -> None:
    """Writes a configuration that ``load_run`` reads, at once: other processes of the run may look at any time."""
    with replacing(path) as stream:
        stream.write(OmegaConf.to_yaml(OmegaConf.structured(config)).encode())


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as nested plain dicts and lists."""
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(config)))


def differing(config: Config, other: Config) -> list[str]:
    """The settings in which two configurations differ, by dotted key."""
    found, known = (dict(leaves(to_dict(one))) for one in (config, other))
    return [key for key in {**found, **known} if found.get(key) != known.get(key)]


def check_interpolations(settings: Any, origin: str, resolvers: bool = False) -> None:
    """Refuses what OmegaConf would compute from other things than the settings themselves.

    ``${seed}`` stands for another setting. Resolvers, as in ``${oc.env:HOME}``, would bring what is on the machine into
    the run's files, and from there to W&B: whoever gives a setting on the command line may want that, whoever runs a
    file of somebody else does not. And a few settings made of each other are longer than any memory.

    Args:
        settings: Settings as they were read, nothing resolved.
        origin: Where they are from.
        resolvers: Whether resolvers may be there.

    Raises:
        InputError: It has a resolver, or too much of them.
    """
    if isinstance(settings, Container):
        settings = OmegaConf.to_container(settings, resolve=False)
    values = [value for _, value in leaves(settings) if isinstance(value, str) and "${" in value]
    for value in values:
        if not resolvers and ":" in value.partition("${")[2]:
            raise InputError(
                f"{origin}: {value!r} would be computed by a resolver",
                "Write the value itself, or give the setting on the command line; ${seed} refers to a setting.",
            )
    if sum(value.count("${") for value in values) > _MOST_INTERPOLATIONS:
        raise InputError(
            f"{origin}: more than {_MOST_INTERPOLATIONS} settings refer to others with ${{}}",
            "Write the values themselves.",
        )


def _find(experiment: str) -> Path:
    return find_yaml("experiment", experiment, FOLDER, experiments())


def _layers(path: Path) -> list[tuple[Path, DictConfig]]:
    """The files that an experiment consists of, the one that extends no other first."""
    layers: list[tuple[Path, DictConfig]] = []
    while True:
        layer = _read(path)
        try:
            parent = layer.pop("extends", None)
        except OmegaConfBaseException as error:
            raise InputError(f"{path}: extends refers to a setting: {error}", "Write a name.") from error
        if not isinstance(parent, str | None):
            raise InputError(f"{path}: extends is {parent}", "Write the name of one experiment.")
        layers.insert(0, (path, layer))
        if parent is None:
            return layers
        beside = path.parent / f"{parent}.yaml"
        child, path = path, beside if is_file(beside) else _find(parent)
        if path in (known for known, _ in layers):
            raise InputError(f"{child} extends {parent!r}, which extends it", "Let one of them stand by itself.")


def _read(path: Path) -> DictConfig:
    text = read_yaml_text(path)
    try:
        read = OmegaConf.load(io.StringIO(text))
        check_interpolations(read, str(path))
    except (YAMLError, OmegaConfBaseException, OSError, *DAMAGED) as error:  # the last but one: of a single number
        raise InputError(f"{path} cannot be read as YAML: {error}", "Repair the file.") from error
    if not isinstance(read, DictConfig):
        raise InputError(f"{path} holds no settings", "Write a YAML mapping, as in: data: {labelled: [ravdess]}")
    return read


def _override(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    for setting in overrides:
        if setting.startswith("-"):
            hint = f", and no hyphens: {setting.lstrip('-')}" if "=" in setting else "."
            raise InputError(f"unknown option {setting!r}", f"Settings are written key=value{hint}")
        if "=" not in setting:
            raise InputError(f"cannot read the setting {setting!r}", "Settings are written key=value.")
        config = _merge(config, setting, f"{setting!r} on the command line")
    return config


def _merge(config: DictConfig, layer: DictConfig | str, origin: str) -> DictConfig:
    """Lays a file's settings, or a setting ``key=value``, over others."""
    try:
        if isinstance(layer, DictConfig):
            replaced = [key for key in REPLACED if OmegaConf.select(layer, key) is not None]
        else:
            replaced = [key for key in REPLACED if layer.startswith(f"{key}=")]
        base = copy.deepcopy(config)
        for key in replaced:
            OmegaConf.update(base, key, {}, merge=False)
        merged = _laid_over(base, layer)
    except (ConfigKeyError, ConfigAttributeError) as error:
        raise InputError(f"{origin}: there is no setting {error.full_key!r}", _nearest(config, error)) from error
    except YAMLError as error:
        raise InputError(f"{origin}: {error}", "Write the value as in YAML, and quote it in the shell.") from error
    except (OmegaConfBaseException, *DAMAGED) as error:
        raise _wrong_value(config, error, origin) from error
    _check_ranges(merged, origin)
    return merged


def _laid_over(config: DictConfig, layer: DictConfig | str) -> DictConfig:
    if isinstance(layer, str):
        key = layer.partition("=")[0]
        dotlist = OmegaConf.from_dotlist([layer])
        if not re.search(r"[.\[]\d", key):
            layer = dotlist
        else:  # an element of a list, which merging would replace as a whole: data.auxiliary.0.quota=8
            OmegaConf.update(config, key, OmegaConf.select(dotlist, key))
            return config
    return cast(DictConfig, OmegaConf.merge(config, layer))


def _nearest(config: DictConfig, error: OmegaConfBaseException) -> str:
    """Which settings may have been meant."""
    wrong = str(error.full_key)
    parent, _, name = wrong.rpartition(".")
    parts = [key.split(".") for key, _ in leaves(OmegaConf.to_container(config))]
    keys = sorted({".".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1)})
    alike = difflib.get_close_matches(name, {key.rpartition(".")[2] for key in keys}, n=1)
    near = difflib.get_close_matches(wrong, [key for key in keys if key.rpartition(".")[2] in alike], cutoff=0)
    if near:
        return f"Did you mean: {', '.join(near)}?"
    beside = OmegaConf.select(config, parent) if parent else config
    return f"There are: {', '.join(map(str, beside))}." if beside else "It has no settings of its own."


def _wrong_value(config: DictConfig, error: Exception, origin: str) -> InputError:
    first, *_ = str(error).splitlines() or [type(error).__name__]
    key = getattr(error, "full_key", None)
    if "ListConfig" in first:
        return InputError(f"{origin}: {key} is a list", "Write it in brackets, as in key=[a] or key=[a, b].")
    now = _now(config, key) if key else None
    return InputError(
        f"{origin}: {f'{key}: ' if key else ''}{first}",
        "Give a value of the setting's kind." if now is None else f"Give a value like the one it has now: {now}",
    )


def _now(config: DictConfig, key: str) -> Any:
    try:
        return OmegaConf.select(config, key)
    except OmegaConfBaseException:  # an interpolation, which cannot be resolved
        return OmegaConf.select(OmegaConf.structured(Config), key)


def _check_ranges(config: DictConfig, origin: str) -> None:
    for key, value in leaves(OmegaConf.to_container(config, resolve=False)):
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise InputError(f"{origin}: {key} is a number of {value.bit_length()} bits", "Give a shorter one.")
        if allowed := out_of_range(key, value):
            raise InputError(f"{origin}: {key} is {value}", f"Give {allowed}.")


def _plain(config: DictConfig, name: str) -> Config:
    try:
        check_interpolations(config, f"the experiment {name}", resolvers=True)
        OmegaConf.resolve(config)
        plain = cast(Config, OmegaConf.to_object(config))
        OmegaConf.structured(plain)  # as it is saved: lists are looked into only then
    except (OmegaConfBaseException, *DAMAGED) as error:
        raise _wrong_value(config, error, f"the experiment {name}") from error
    _check_ranges(config, f"the experiment {name}")
    plain.experiment = plain.experiment or name
    for key in ("experiment", "run"):
        if "/" in getattr(plain, key) or getattr(plain, key) in (".", ".."):
            raise InputError(
                f"the experiment {name}: {key} is {getattr(plain, key)!r}, which is no name of a folder",
                "Give a name; where all runs are, is output=<folder>.",
            )
    return plain
