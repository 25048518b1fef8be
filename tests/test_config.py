"""How experiments, files and the command line become one configuration."""

import dataclasses
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from datamodules.errors import InputError
from datamodules.settings import AuxiliarySettings
from experiments import config as configuration
from experiments.config import Config, experiments, load, load_run, save, to_dict
from experiments.limits import RANGES, leaves, out_of_range
from lightning_modules.settings import HeadSettings


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of experiments: `child` extends `parent`."""
    monkeypatch.setattr(configuration, "FOLDER", tmp_path)
    (tmp_path / "parent.yaml").write_text(
        "data:\n  labelled: [a]\n  quota: 16\n  classes: {happy: [happiness], sad: [sadness]}\n"
        "  auxiliary: [{corpus: x, role: speaker, quota: 4}, {corpus: y, quota: 6}]\n"
        "model: {heads: {emotion: {weight: 2}}}\n"
    )
    (tmp_path / "child.yaml").write_text(
        "extends: parent\ndata: {quota: 8, classes: {angry: [anger]}}\nmodel: {heads: {gender: {weight: 0.1}}}\n"
    )
    return tmp_path


def fault(*arguments: Any) -> str:
    with pytest.raises(InputError) as caught:
        load(*arguments)
    assert caught.value.remedy
    return str(caught.value)


@pytest.mark.parametrize("experiment", experiments())
def test_what_ships_is_complete(experiment: str, tmp_path: Path) -> None:
    config = load(experiment)
    assert config.experiment == experiment
    assert config.data.labelled
    assert bool(config.data.classes) == ("emotion" in config.model.tasks)
    assert config.trainer.monitor == ("dev/uar" if config.data.classes else "dev/ccc")
    save(config, tmp_path / "config.yaml")
    assert load_run(tmp_path) == config
    for part in (config.data, config.split, config.model, config.schedule, config.trainer, config.wandb):
        assert dataclasses.is_dataclass(part)


@pytest.mark.parametrize(
    "setting", ["data.labelled=a", "data.corpora.a.exclude_speakers=03", "model.encoder.channels=4"]
)
def test_a_list_without_brackets_is_told(setting: str) -> None:
    with pytest.raises(InputError, match=r"is a list\s+Write it in brackets"):
        load("demo", [setting])


def test_layers_win_in_order(folder: Path) -> None:
    config = load("child", ["data.quota=4", "data.quota=2", "trainer.epochs=3"])
    assert (config.experiment, config.data.labelled, config.data.quota, config.trainer.epochs) == ("child", ["a"], 2, 3)
    assert load("child").data.quota == 8
    assert load("parent").data.quota == 16
    assert load("parent").trainer == configuration.TrainerSettings()


def test_heads_are_added_and_classes_replaced(folder: Path) -> None:
    assert {name: head.weight for name, head in load("child").model.heads.items()} == {"emotion": 2, "gender": 0.1}
    assert load("child").data.classes == {"angry": ["anger"]}
    assert load("parent", ["data.classes={angry: [anger]}"]).data.classes == {"angry": ["anger"]}
    assert load("parent", ["model.code={a: 3, b: 4}"]).model.code == {"a": 3, "b": 4}


def test_one_class_or_one_element_can_be_set(folder: Path) -> None:
    assert load("parent", ["data.classes.sad=[sadness, fear]"]).data.classes == {
        "happy": ["happiness"],
        "sad": ["sadness", "fear"],
    }
    changed = load("parent", ["data.auxiliary.1.quota=3", "data.auxiliary[0].role=unlabelled"])
    assert [(one.corpus, one.role, one.quota) for one in changed.data.auxiliary] == [
        ("x", "unlabelled", 4),
        ("y", "unlabelled", 3),
    ]
    assert load("parent", ["data.auxiliary=[]"]).data.auxiliary == []


def test_values_keep_their_equals_signs_and_types(folder: Path) -> None:
    config = load("parent", ["data.root=/a=b", "run=007", "wandb.entity=null", "data.corpora.a.options={n: 3}"])
    assert (config.data.root, config.wandb.entity) == ("/a=b", None)
    assert config.data.corpora["a"].options == {"n": 3}
    assert isinstance(config.run, str)


def test_references_are_resolved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORPORA", "/corpora")
    config = load("parent", ["data.root=${oc.env:CORPORA}", "split.seed=${seed}", "seed=3"])
    assert (config.data.root, config.split.seed) == ("/corpora", 3)
    assert to_dict(config)["data"]["root"] == "/corpora"


def test_a_file_anywhere_is_an_experiment(folder: Path, tmp_path: Path) -> None:
    mine = tmp_path / "elsewhere" / "mine.yaml"
    mine.parent.mkdir()
    mine.write_text("extends: parent\nseed: 4\n")
    config = load(str(mine))
    assert (config.experiment, config.seed, config.data.quota) == ("mine", 4, 16)


def test_experiments_that_extend_each_other_are_refused(folder: Path) -> None:
    (folder / "parent.yaml").write_text("extends: child\n")
    assert "child.yaml extends 'parent', which extends it" in fault("parent")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("data: [", "cannot be read as YAML"),
        ("- data", "holds no settings"),
        ("just words", "there is no setting 'just words'"),
        ("data: {quota: 3}\ndata: {quota: 4}\n", "cannot be read as YAML"),
        ("data: {quotta: 3}", "there is no setting 'data.quotta'\n  Did you mean: data.quota"),
        ("data: {quota: many}", "data.quota: Value 'many' of type 'str' could not be converted to Integer"),
        ("data: {quota: 0}", "data.quota is 0\n  Give 1 or more."),
        ("data: 3", "int is not a subclass of DataSettings"),
        ("extends: parrent", "unknown experiment 'parrent'\n  Did you mean: parent"),
    ],
)
def test_a_wrong_file_is_named_with_its_fault(folder: Path, text: str, told: str) -> None:
    (folder / "wrong.yaml").write_text(text)
    message = fault("wrong")
    assert told in message
    assert "wrong.yaml" in message or "parrent" in message


def test_a_file_that_is_no_text_is_refused(folder: Path) -> None:
    (folder / "latin.yaml").write_bytes("run: Jürgen".encode("latin-1"))
    assert "latin.yaml cannot be read as YAML" in fault("latin")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("data.quotta=3", "there is no setting 'data.quotta'\n  Did you mean: data.quota"),
        ("epochs=3", "there is no setting 'epochs'\n  Did you mean: trainer.epochs?"),
        ("model.head.emotion.weight=1", "there is no setting 'model.head'\n  Did you mean: model.heads?"),
        ("model.heads.emotion.wieght=1", "'model.heads.emotion.wieght'\n  Did you mean: model.heads.emotion.weight"),
        ("data.auxiliary=[{corpus: x, rolle: speaker}]", "there is no setting 'rolle'\n  Did you mean: data.auxiliary"),
        ("qqqq=3", "there is no setting 'qqqq'\n  There are: experiment, seed, output"),
        ("split.qqqq=3", "there is no setting 'split.qqqq'\n  There are: protocol, folds"),
        ("trainer.epochs=1.5", "trainer.epochs: Value '1.5' of type 'float' could not be converted to Integer"),
        ("trainer.epochs=", "trainer.epochs: Incompatible value 'None'"),
        ("data.labelled=ravdess", "data.labelled is a list"),
        ("data.labelled=[ravdess", "'data.labelled=[ravdess' on the command line"),
        ("data.classes=[happy]", "'data.classes=[happy]' on the command line"),
        ("data.auxiliary.7.quota=1", "data.auxiliary[7]"),
        ("model.augmentation.noise_snr_db=[1]", "length 1 does not match"),
        ("seed=${nothing}", "Interpolation key 'nothing' not found"),
        ("seed=${oc.env:NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE"),
        ("data.quota=${split.seed}", "data.quota is 0"),
        ("data", "cannot read the setting 'data'"),
        ("--trainer.epochs=3", "unknown option '--trainer.epochs=3'\n  Settings are written key=value, and no hyphens"),
        ("-x", "unknown option '-x'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_fault(folder: Path, setting: str, told: str) -> None:
    message = fault("parent", [setting])
    assert told in message
    assert "Traceback" not in message
    # Where it came from; of a reference only the end is known, which may be right in itself.
    assert f"'{setting}'" in message or "${" in setting


@pytest.mark.parametrize(
    ("setting", "allowed"),
    [
        ("seed=-1", "a number from 0 to 4294967295"),
        ("data.quota=0", "1 or more"),
        ("data.auxiliary.1.quota=0", "1 or more"),
        ("data.crop_s=nan", "0.1 or more"),
        ("data.crop_s=.inf", "0.1 or more"),
        ("data.max_bad_fraction=1.5", "a number from 0 to 1"),
        ("model.encoder.channels=[8,0]", "1 or more"),
        ("model.encoder.dropout=1", "a number from 0 to 0.99"),
        ("model.heads.emotion.weight=-1", "0 or more"),
        ("model.optimiser.learning_rate=0", "a number from 1e-09 to 10"),
        ("schedule.cadence=0", "1 or more"),
        ("trainer.epochs=0", "1 or more"),
        ("trainer.devices=0", "1 or more"),
        ("trainer.average=1", "a number from 0 to 0.999999"),
    ],
)
def test_a_number_out_of_its_range_is_refused(folder: Path, setting: str, allowed: str) -> None:
    message = fault("parent", [setting])
    assert message.startswith(f"{setting!r} on the command line: ")
    assert message.endswith(f"\n  Give {allowed}.")


def test_every_range_is_of_a_setting_and_holds_its_default() -> None:
    full = Config()
    full.data.auxiliary = [AuxiliarySettings()]
    full.model.heads = {"emotion": HeadSettings()}
    values = dict(leaves(to_dict(full)))
    assert [key for key, value in values.items() if out_of_range(key, value)] == []
    used = {next((pattern for pattern in RANGES if fnmatchcase(key, pattern)), None) for key in values}
    assert set(RANGES) <= used


@pytest.mark.parametrize(
    ("experiment", "told"),
    [
        ("parrent", "unknown experiment 'parrent'\n  Did you mean: parent? There are: child, parent."),
        ("zzz", "unknown experiment 'zzz'\n  There are: child, parent."),
        ("", "unknown experiment ''"),
        ("../parent", "unknown experiment '../parent'"),
        ("nowhere.yaml", "the experiment file nowhere.yaml does not exist"),
    ],
)
def test_an_unknown_experiment_gets_its_nearest(folder: Path, experiment: str, told: str) -> None:
    assert fault(experiment).startswith(told)


def test_a_run_of_another_version_is_told(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("data: {quotas: 3}\n")
    with pytest.raises(InputError, match=r"config.yaml: there is no setting 'data.quotas'"):
        load_run(tmp_path)
    with pytest.raises(InputError, match="is no run folder"):
        load_run(tmp_path / "nowhere")
