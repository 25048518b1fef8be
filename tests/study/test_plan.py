"""What a study consists of."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from datamodules.errors import InputError
from experiments.config import load
from experiments.study.plan import CurvePlan, Run, Study, SystemPlan, read_study, runs
from experiments.study.record import Point, settings_hash

STUDY = """
experiments: [ravdess_cat]
folds: [0, 1]
systems:
  full: {seeds: [0, 1]}
  single_task: {settings: {trainer.epochs: 3}}
"""


def write(folder: Path, text: str) -> str:
    file = folder / "mine.yaml"
    file.write_text(text)
    return str(file)


def test_a_study_takes_its_systems_from_the_common_ones(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, STUDY))
    assert (study.name, list(study.systems)) == ("mine", ["full", "single_task"])
    plan = study.systems["single_task"]
    assert (plan.label, plan.settings["data.auxiliary"], plan.settings["trainer.epochs"]) == ("single-task CNN", [], 3)
    config = list(runs(study))[-1].config(("trainer.threads=1",))
    assert (config.trainer.epochs, config.trainer.threads, config.data.auxiliary) == (3, 1, [])
    assert (config.split.fold, config.seed, config.model.heads["speaker"].weight) == (1, 0, 0)


def test_what_stands_first_is_run_first(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, STUDY))
    found = [(run.system, run.seed, run.fold) for run in runs(study)]
    full = [("full", seed, fold) for seed in (0, 1) for fold in (0, 1)]
    assert found == [*full, ("single_task", 0, 0), ("single_task", 0, 1)]


def test_systems_are_run_along_curves_with_seeds_of_points() -> None:
    shares = CurvePlan(points=[{"data.labelled_share": 0.1}, {"data.labelled_share": 1.0}], seeds={0: [0, 1, 2]})
    study = Study("mine", experiments=["a"], systems={"full": SystemPlan(curves=["shares"], seeds=[7])})
    study.curves["shares"] = shares
    found = [(run.point["data.labelled_share"], run.seed) for run in runs(study)]
    assert found == [(0.1, 0), (0.1, 1), (0.1, 2), (1.0, 7)]


def test_a_system_may_have_folds_seeds_and_experiments_of_its_own() -> None:
    plans = {"full": SystemPlan(folds=[5], seeds=[3], experiments=["b"]), "other": SystemPlan()}
    found = [(run.system, run.experiment, run.fold, run.seed) for run in runs(Study("mine", "", ["a"], systems=plans))]
    assert found == [("full", "b", 5, 3), ("other", "a", 0, 0)]


def taught(point: Point, teachers: Sequence[int], seeds: Sequence[int]) -> list[Run]:
    plans = {
        "taught": SystemPlan(teachers=["single_task"], seeds=list(seeds), curves=["shares"]),
        "single_task": SystemPlan(seeds=list(teachers), curves=["shares"]),
    }
    study = Study("mine", "", ["ravdess_cat"], [0, 1], systems=plans, curves={"shares": CurvePlan(points=[point])})
    return [run for run in runs(study) if run.system == "taught"]


def test_all_seeds_teach() -> None:
    [first, *_] = found = taught({"data.labelled_share": 1.0}, [0, 1], [0, 5])
    assert [(one.system, one.fold, one.seed) for one in first.teachers] == [
        ("single_task", 0, 0),
        ("single_task", 0, 1),
    ]
    assert {one.fold for one in found[1].teachers} == {1}
    assert len({one.settings_hash() for one in found}) == 1, "the same system, whatever its seed"
    [others, *_] = taught({"data.labelled_share": 1.0}, [0, 2], [0])
    assert others.settings_hash() != first.settings_hash() != replace(first, teachers=()).settings_hash()


def test_where_labels_are_hidden_by_the_seed_those_of_the_same_seed_teach() -> None:
    found = taught({"data.labelled_share": 0.1}, [0, 1], [0, 1])
    assert [[one.seed for one in run.teachers] for run in found] == [[0], [0], [1], [1]]
    assert len({one.settings_hash() for one in found}) == 1
    with pytest.raises(InputError, match=r"taught-labelled_share=0\.1-fold0-seed5 is to be taught by single_task"):
        taught({"data.labelled_share": 0.1}, [0, 1], [5])


def test_where_labels_are_hidden_by_a_seed_of_its_own_all_of_whom_they_are_hidden_teach() -> None:
    hidden = {"data.labelled_share": 0.1}
    plans = {
        "taught": SystemPlan(teachers=["single_task", "committee"], settings=hidden),
        "single_task": SystemPlan(seeds=[0, 1], settings=hidden),
        "committee": SystemPlan(seeds=[10, 11], settings={**hidden, "data.labelled_seed": 0}),
        "others": SystemPlan(seeds=[10], settings={**hidden, "data.labelled_seed": 1}),
    }
    study = Study("mine", "", ["ravdess_cat"], [2], systems=plans)
    [run] = [run for run in runs(study) if run.system == "taught"]
    assert [(one.system, one.seed) for one in run.teachers] == [
        ("single_task", 0),
        ("committee", 10),
        ("committee", 11),
    ]
    plans["taught"].teachers = ["others"]
    with pytest.raises(InputError, match="taught-fold2-seed0 is to be taught by others"):
        list(runs(study))


def test_a_run_has_a_name_and_a_key() -> None:
    run = Run("mine", "a", "full", {"data.labelled_share": 0.1}, 2, 1, SystemPlan())
    assert run.name == "full-labelled_share=0.1-fold2-seed1"
    assert run.key == ("a", "full", '{"data.labelled_share": 0.1}', 2, 1)
    assert "/" not in Run("mine", "a", "full", {"data.root": "/a b/c"}, 2, 1, SystemPlan()).name
    assert Run("mine", "a", "full", {"data.auxiliary": [{"corpus": "nemo"}]}, 2, 1, SystemPlan()).name == (
        "full-fold2-seed1"
    )


def test_what_a_system_sets_holds_at_all_points() -> None:
    plan = SystemPlan(settings={"data.steps": 5})
    run = Run("mine", "a", "full", {"data.labelled_share": 0.1, "data.steps": 30}, 2, 1, plan)
    assert run.settings == ["data.labelled_share=0.1", "data.steps=5", "split.fold=2", "seed=1"]


def test_settings_mean_on_the_command_line_what_they_mean_in_the_file() -> None:
    settings = {
        "data.auxiliary": [{"corpus": "librispeech", "role": "speaker", "quota": 8}],
        "data.classes": {"calm": ["calm"], "others": ["happiness", "sadness"]},
        "data.soft_labels": True,
        "wandb.entity": None,
        "trainer.monitor": "dev/accuracy",
        "trainer.average": 0.5,
    }
    config = Run("mine", "ravdess_cat", "full", {"data.quota": 4}, 2, 1, SystemPlan(settings=settings)).config()
    (auxiliary,) = config.data.auxiliary
    assert (auxiliary.corpus, auxiliary.role, auxiliary.quota) == ("librispeech", "speaker", 8)
    assert config.data.classes == settings["data.classes"]
    assert (config.data.soft_labels, config.wandb.entity, config.trainer.average) == (True, None, 0.5)
    assert (config.trainer.monitor, config.data.quota) == ("dev/accuracy", 4)
    assert (config.split.fold, config.seed) == (2, 1)


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ("systems: {full: {}, single_task: {}}", "names no experiments", "Give experiments"),
        (STUDY + "  foo: {}", "systems.foo is not described", "autoencoder"),
        (STUDY + "  foo: {label: foo, curves: [share]}", "no curve 'share'", "There are: none."),
        (
            STUDY + "  foo: {label: foo, teachers: [bar]}",
            "foo.teachers: 'bar' is no system of the study that can",
            "Name",
        ),
        (STUDY + "main: adversarial", "main is 'adversarial'", "There are: full, single_task."),
        (STUDY + "reference: foo", "reference is 'foo'", "There are: full, single_task."),
        (STUDY + "fold: [1]", "fold", "Repair the file."),
        (STUDY + "seeds: a", "mine.yaml: seeds: Invalid value", "Repair the file."),
        ("experiments: [", r"mine.yaml cannot be read as YAML: ", "Repair the file."),
        (STUDY.replace("ravdess_cat", "ravdes_cat"), "unknown experiment 'ravdes_cat'", "ravdess_cat"),
        (STUDY.replace("trainer.epochs", "trainer.epoch"), "trainer.epoch", "trainer.epochs"),
        (STUDY.replace("trainer.epochs: 3", "trainer.epochs: 0"), "trainer.epochs is 0", "Give 1 or more."),
    ],
)
def test_what_is_wrong_in_a_study_is_told(tmp_path: Path, text: str, problem: str, remedy: str) -> None:
    with pytest.raises(InputError) as told:
        read_study(write(tmp_path, text))
    assert problem in told.value.problem
    assert remedy in told.value.remedy


def test_a_study_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown study 'ravdes'\n  Did you mean: ravdess"):
        read_study("ravdes")
    with pytest.raises(InputError, match=r"none\.yaml does not exist"):
        read_study(str(tmp_path / "none.yaml"))


def test_the_file_of_systems_is_no_study() -> None:
    with pytest.raises(InputError, match="unknown study 'systems'"):
        read_study("systems")


def test_the_single_task_experiment_is_the_system_of_that_name() -> None:
    system = next(run for run in runs(read_study("ravdess")) if run.system == "single_task")
    assert settings_hash(system.config()) == settings_hash(load("ravdess_single_task"))
