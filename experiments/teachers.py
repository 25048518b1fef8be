"""Teachers: models of earlier runs, whose probabilities a model is trained to agree with (knowledge distillation)."""

from dataclasses import replace
from pathlib import Path

from datamodules.datamodule import SpeechDataModule
from datamodules.errors import InputError
from experiments.config import Config, load_run
from experiments.files import BEST, read_json, understood
from experiments.records import read_checkpoint
from lightning_modules.adversarial_autoencoder import AdversarialAutoencoder
from lightning_modules.settings import AdaptationSettings, ConsistencySettings, ModelSettings

_REMEDY = "Take it out of trainer.teachers, or train it again with the data and the split of this run."


def read_teachers(config: Config, data: SpeechDataModule) -> list[AdversarialAutoencoder]:
    """Reads the models that ``trainer.teachers`` names.

    Args:
        config: Of the run that is taught.
        data: Its data, set up.

    Returns:
        Their encoders and emotion heads, in evaluation mode; nothing where none is named.

    Raises:
        InputError: A folder holds no finished run, or a teacher has heard speakers who are held out here, knows labels
            that are hidden here, tells other classes apart or hears other features.
    """
    if config.trainer.teachers and config.model.consistency.weight <= 0:
        raise InputError(
            f"trainer.teachers names {config.trainer.teachers[0]}, and model.consistency.weight is 0",
            "Give model.consistency.weight=1, or no teachers.",
        )
    return [_read(Path(folder), config, data) for folder in config.trainer.teachers]


def _read(folder: Path, config: Config, data: SpeechDataModule) -> AdversarialAutoencoder:
    teacher = load_run(folder)
    checkpoint = read_checkpoint(folder / BEST)
    with understood(folder / "data_report.json"):
        reasons = _reasons_against(folder, teacher, config, data)
    if reasons:
        raise InputError(f"trainer.teachers: {folder} {'; it '.join(reasons)}", _REMEDY)
    module = AdversarialAutoencoder(_emotion_alone(teacher.model), data.labels, total_steps=1, seed=0)
    found = checkpoint["state_dict"]
    try:
        module.load_state_dict({name: found[name] for name in module.state_dict()})
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"trainer.teachers: the checkpoint of {folder} does not fit its model: {error}", _REMEDY
        ) from error
    return module.eval()


def _reasons_against(folder: Path, teacher: Config, config: Config, data: SpeechDataModule) -> list[str]:
    reasons = []
    if list(teacher.data.classes.items()) != list(config.data.classes.items()):
        reasons.append(f"tells {', '.join(teacher.data.classes)} apart, and this run {', '.join(config.data.classes)}")
    if teacher.model.features != config.model.features:
        reasons.append("hears other features (model.features)")
    sides = read_json(folder / "data_report.json")["split"]
    here = data.report["split"]
    held_out = {side: set(here[side]["speakers"]) for side in ("development", "test")}
    if heard := sorted((held_out["development"] | held_out["test"]) & set(sides["train"]["speakers"])):
        reasons.append(f"was trained on {', '.join(heard)}, who is held out here")
    if heard := sorted(held_out["test"] & set(sides["development"]["speakers"])):
        reasons.append(f"had its epoch chosen by {', '.join(heard)}, who is tested here")
    tested = {*config.data.labelled, *config.split.test_corpora} - set(teacher.data.labelled)
    if heard := sorted(tested & {one.corpus for one in teacher.data.auxiliary}):
        reasons.append(f"heard {', '.join(heard)} (data.auxiliary), of whom speakers are held out here")
    hidden = [(one.data.labelled_share, one.data.labelled_by(one.seed)) for one in (teacher, config)]
    if config.data.labelled_share < 1 and hidden[0] != hidden[1]:
        reasons.append(
            f"has data.labelled_share={hidden[0][0]:g} chosen by seed {hidden[0][1]}, and this run {hidden[1][0]:g} by "
            f"{hidden[1][1]} (data.labelled_seed, else seed): it knows labels that are hidden here"
        )
    return reasons


def _emotion_alone(settings: ModelSettings) -> ModelSettings:
    """A model's settings without all that emotions are not told by."""
    return replace(
        settings,
        heads={name: head for name, head in settings.heads.items() if name == "emotion"},
        decoder=replace(settings.decoder, weight=0),
        adversary=replace(settings.adversary, weight=0),
        categorical=0,
        consistency=ConsistencySettings(),
        adaptation=AdaptationSettings(),
    )
