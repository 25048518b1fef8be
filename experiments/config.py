"""The configuration of an experiment: composed here, read from YAML and the command line, handed out as dataclasses."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError  # type: ignore[import-untyped]

from callbacks.settings import ScheduleSettings
from datamodules.errors import InputError
from datamodules.settings import DataSettings
from datamodules.splits import SplitSettings
from lightning_modules.settings import ModelSettings

FOLDER = Path(__file__).parent


@dataclass
class TrainerSettings:
    """How long and on what to train.

    Attributes:
        epochs: Passes over the labelled training data.
        accelerator: ``auto``, ``cpu``, ``gpu`` or another that Lightning knows.
        devices: Processes on each machine.
        num_nodes: Machines.
        precision: As in Lightning: ``32-true``, ``bf16-mixed``, ...
        gradient_clip: Largest norm of the gradients, model and discriminators apart; 0 does not clip.
        average: Share that the exponential average of the weights keeps at each step; 0 does not average.
        monitor: Development score that chooses the epoch.
        patience: Epochs without a better development score after which training stops; 0 never stops early.
        threads: CPU threads of PyTorch; 0 leaves it to PyTorch.
    """

    epochs: int = 40
    accelerator: str = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: str = "32-true"
    gradient_clip: float = 5.0
    average: float = 0.995
    monitor: str = "dev/uar"
    patience: int = 0
    threads: int = 0


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
    for path in _with_ancestors(_find(experiment)):
        layer = _read(path)
        layer.pop("extends", None)
        config = _merge(config, layer, str(path))
    config = _override(config, overrides)
    return _plain(config, Path(experiment).stem)


def load_resolved(path: Path) -> Config:
    """Reads the ``config.yaml`` of a run.

    Raises:
        InputError: The file is missing or not a configuration of this version.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist", "Give the folder of a run, which holds config.yaml.")
    config = _merge(OmegaConf.structured(Config), _read(path), str(path))
    return _plain(config, config.experiment)


def override(config: Config, overrides: Sequence[str]) -> Config:
    """Applies ``key=value`` settings to a configuration.

    Raises:
        InputError: A key or value is wrong.
    """
    return _plain(_override(OmegaConf.structured(config), overrides), config.experiment)


def save(config: Config, path: Path) -> None:
    """Writes a configuration that ``load_resolved`` reads."""
    OmegaConf.save(OmegaConf.structured(config), path)


def to_dict(config: Config) -> dict[str, Any]:
    """The configuration as nested plain dicts and lists."""
    return cast(dict[str, Any], OmegaConf.to_container(OmegaConf.structured(config)))


def _find(experiment: str) -> Path:
    path = Path(experiment)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise InputError(f"the experiment file {experiment} does not exist")
        return path
    path = FOLDER / f"{experiment}.yaml"
    if not path.is_file():
        near = difflib.get_close_matches(experiment, experiments(), n=3, cutoff=0.4)
        hint = f"Did you mean: {', '.join(near)}? " if near else ""
        raise InputError(f"unknown experiment {experiment!r}", f"{hint}There are: {', '.join(experiments())}.")
    return path


def _with_ancestors(path: Path) -> list[Path]:
    chain = [path]
    while parent := _read(chain[0]).get("extends"):
        beside = chain[0].parent / f"{parent}.yaml"
        ancestor = beside if beside.is_file() else _find(str(parent))
        if ancestor in chain:
            raise InputError(f"{path}: the experiments extend each other in a circle at {parent!r}")
        chain.insert(0, ancestor)
    return chain


def _read(path: Path) -> DictConfig:
    try:
        read = OmegaConf.load(path)
    except (YAMLError, UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(read, DictConfig):
        raise InputError(
            f"{path} holds no settings", "An experiment is a YAML mapping, as in: data: {labelled: [ravdess]}"
        )
    return read


def _override(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    for setting in overrides:
        if "=" not in setting:
            raise InputError(f"cannot read the setting {setting!r}", "Settings are written key=value.")
        if setting.startswith("-"):
            raise InputError(f"unknown option {setting!r}", f"Settings have no hyphens: {setting.lstrip('-')}")
        config = _merge(config, _from_dotlist(setting), f"{setting!r} on the command line")
    return config


def _from_dotlist(override: str) -> DictConfig:
    try:
        return OmegaConf.from_dotlist([override])
    except (OmegaConfBaseException, YAMLError) as error:
        raise InputError(f"cannot read the setting {override!r}: {error}") from error


def _merge(config: DictConfig, layer: DictConfig, origin: str) -> DictConfig:
    try:
        # A dict of classes or of code parts is one value: merging it would keep entries that the layer means to replace.
        for key in ("data.classes", "model.code"):
            if OmegaConf.select(layer, key) is not None:
                OmegaConf.update(config, key, {}, merge=False)
        return cast(DictConfig, OmegaConf.merge(config, layer))
    except OmegaConfBaseException as error:
        lines = [line.strip() for line in str(error).splitlines() if not line.strip().startswith("object_type")]
        raise InputError(f"{origin}: {' '.join(lines)}") from error


def _plain(config: DictConfig, name: str) -> Config:
    plain = cast(Config, OmegaConf.to_object(config))
    plain.experiment = plain.experiment or name
    return plain
