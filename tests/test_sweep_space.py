"""The parameters of a sweep: each of W&B's distributions, drawn from as W&B does, or refused by name."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from optuna.samplers import RandomSampler
from optuna.study import create_study
from scipy import stats

from datamodules.errors import InputError
from experiments.sweep.space import Parameter, arguments, read_space

DRAWS = 1500


def read(spec: dict[str, Any], method: str = "random") -> Parameter:
    (parameter,) = read_space({"data.quota": spec}, "mine.yaml", method)
    return parameter


def draws(parameter: Parameter, number: int = DRAWS) -> list[Any]:
    study, sampler = create_study(), RandomSampler(seed=3)
    trial = study.ask()
    frozen = study.trials[trial.number]
    return [
        parameter.value(sampler.sample_independent(study, frozen, parameter.name, parameter.drawn))
        for _ in range(number)
    ]


LOG = stats.loguniform(0.001, 10)


@pytest.mark.parametrize(
    ("spec", "law"),
    [
        ({"min": -1.0, "max": 3.0}, stats.uniform(-1, 4)),
        ({"distribution": "uniform", "min": -1, "max": 3}, stats.uniform(-1, 4)),
        ({"distribution": "log_uniform", "min": math.log(0.001), "max": math.log(10)}, LOG),
        ({"distribution": "log_uniform_values", "min": 0.001, "max": 10}, LOG),
        ({"distribution": "inv_log_uniform", "min": -math.log(10), "max": -math.log(0.001)}, LOG),
        ({"distribution": "inv_log_uniform_values", "min": 0.001, "max": 10}, LOG),
        ({"distribution": "normal"}, stats.norm()),
        ({"distribution": "normal", "mu": 3, "sigma": 0.5}, stats.norm(3, 0.5)),
        ({"distribution": "log_normal", "mu": 1, "sigma": 0.5}, stats.lognorm(s=0.5, scale=math.e)),
        ({"distribution": "beta"}, stats.uniform()),
        ({"distribution": "beta", "a": 2, "b": 5.5}, stats.beta(2, 5.5)),
    ],
)
def test_numbers_follow_their_law(spec: dict[str, Any], law: Any) -> None:
    values = draws(read(spec))
    assert all(isinstance(value, float) for value in values)
    assert stats.kstest(values, law.cdf).pvalue > 0.01


@pytest.mark.parametrize(
    ("spec", "quantile", "kind"),
    [
        ({"distribution": "q_uniform", "min": 1, "max": 9, "q": 2}, stats.uniform(1, 8).ppf, int),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}, stats.uniform().ppf, float),
        ({"distribution": "q_uniform", "min": 0, "max": 3}, stats.uniform(0, 3).ppf, float),
        ({"distribution": "q_log_uniform", "min": 0, "max": 3, "q": 2}, lambda x: np.exp(3 * x), int),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 8}, lambda x: 64**x, int),
        ({"distribution": "q_normal", "mu": 8, "sigma": 4, "q": 2}, stats.norm(8, 4).ppf, int),
        ({"distribution": "q_log_normal", "q": 0.5}, stats.lognorm(1).ppf, float),
        ({"distribution": "q_beta", "a": 2, "b": 2, "q": 0.1}, stats.beta(2, 2).ppf, float),
    ],
)
def test_rounded_numbers_are_as_frequent_as_of_w_and_b(
    spec: dict[str, Any], quantile: Callable[[Any], Any], kind: type
) -> None:
    """W&B rounds the quantile function's value to multiples of q: its ends are rarer than the rest."""
    values = draws(read(spec))
    assert all(isinstance(value, kind) for value in values)
    step = spec.get("q", 1.0)
    expected = np.round(quantile((np.arange(200_000) + 0.5) / 200_000) / step) * step
    shares = {value: (np.isclose(expected, value)).mean() for value in set(values)}
    assert sum(shares.values()) == pytest.approx(1, abs=0.01)
    found = Counter(values)
    for value, share in shares.items():
        assert abs(found[value] / DRAWS - share) < 4 * math.sqrt(share / DRAWS) + 1 / DRAWS, value


def test_whole_numbers_and_lists() -> None:
    assert set(draws(read({"min": 2, "max": 5}))) == {2, 3, 4, 5}
    assert set(draws(read({"distribution": "int_uniform", "min": -1, "max": 1}))) == {-1, 0, 1}
    chosen = [True, 1, 1.5, "a b", [4, 8], {"x": [1]}]
    found = draws(read({"values": chosen}))
    assert {repr(value) for value in found} == set(map(repr, chosen)), "true and 1 are not the same"
    assert draws(read({"value": "gaussian"}), 3) == ["gaussian"] * 3
    assert read({"value": 1}).fixed
    assert read({"values": [1]}).fixed
    assert not read({"values": [1, 2]}).fixed


def test_probabilities() -> None:
    parameter = read({"values": ["a", "b", "c"], "probabilities": [0.5, 0.0, 0.5]})
    found = Counter(draws(parameter))
    assert set(found) == {"a", "c"}
    assert abs(found["a"] / DRAWS - 0.5) < 0.05


@pytest.mark.parametrize(
    ("spec", "values"),
    [
        ({"values": [0.1, "x", [1]]}, [0.1, "x", [1]]),
        ({"value": 3}, [3]),
        ({"min": 2, "max": 4}, [2, 3, 4]),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.25}, [0, 0.25, 0.5, 0.75]),  # as in W&B, without max
    ],
)
def test_a_grid_tries(spec: dict[str, Any], values: list[Any]) -> None:
    parameter = read(spec, "grid")
    assert [parameter.value(drawn) for drawn in parameter.drawn.choices] == values  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "spec",
    [
        {"min": 0.0, "max": 1.0},
        {"distribution": "normal"},
        {"distribution": "log_uniform_values", "min": 1, "max": 2},
        {"distribution": "q_normal"},
        {"values": [1, 2], "probabilities": [0.5, 0.5]},
    ],
)
def test_a_grid_refuses(spec: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"mine.yaml: parameters\.data\.quota cannot be tried on a grid"):
        read(spec, "grid")


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (3, "parameters.data.quota is 3"),
        ({}, "parameters.data.quota says not which values there are"),
        ({"min": 1}, "says not which values"),
        ({"min": 1, "max": 2.5}, "min is 1 and max is 2.5, a whole number and another"),
        ({"min": "1e-4", "max": 0.1}, "min is '1e-4', which is no number"),
        ({"min": 3, "max": 1}, "min is 3 and max is 1"),
        ({"min": True, "max": 2, "distribution": "uniform"}, "min is True, which is no number"),
        ({"distribution": "int_uniform", "min": 1, "max": 2.5}, "int_uniform has no others"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "min is 0"),
        ({"distribution": "gaussian"}, "no distribution 'gaussian'"),
        ({"distribution": "log_unifrom", "min": 1, "max": 2}, "Did you mean log_uniform?"),
        ({"distribution": "uniform", "min": 0.0}, "uniform lacks max"),
        ({"distribution": "normal", "mean": 1}, "normal has no 'mean'"),
        ({"distribution": "normal", "sigma": 0}, "sigma is 0"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}, "q is 0"),
        ({"distribution": "beta", "a": -1}, "a is -1"),
        ({"values": []}, r"values is []"),
        ({"values": "abc"}, "values is 'abc'"),
        ({"values": [1, None]}, "null cannot be told to a run"),
        ({"value": None}, "null cannot be told to a run"),
        ({"values": [1, 2], "probabilities": [1]}, "probabilities are [1]"),
        ({"values": [1, 2], "probabilities": [0.5, 0.6]}, "of sum 1"),
        ({"distribution": "categorical", "values": [1, 2], "probabilities": [0.5, 0.5]}, "categorical has no 'probab"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(spec: Any, told: str) -> None:
    with pytest.raises(InputError) as error:
        read(spec)
    assert "mine.yaml: parameters.data.quota" in str(error.value)
    assert told in str(error.value)
    assert error.value.remedy


def test_nested_parameters_are_settings_below_a_setting() -> None:
    nested = {
        "model": {"parameters": {"heads": {"parameters": {"emotion": {"parameters": {"weight": {"value": 2}}}}}}},
        "model.code.shared": {"values": [8]},
    }
    space = read_space(nested, "mine.yaml", "random")
    assert [one.name for one in space] == ["model.heads.emotion.weight", "model.code.shared"]
    values = {one.path: one.value(one.drawn.choices[0]) for one in space}  # type: ignore[attr-defined]
    assert arguments(values) == ["model={'heads': {'emotion': {'weight': 2}}}", "model.code.shared=8"]
    twice = nested | {"model.heads.emotion.weight": {"value": 1}}
    with pytest.raises(InputError, match=r"parameters\.model\.heads\.emotion\.weight is there twice"):
        read_space(twice, "mine.yaml", "random")


@pytest.mark.parametrize(
    ("spec", "drawn", "place"),
    [
        ({"min": 2.0, "max": 4.0}, 3.0, 0.5),
        ({"distribution": "log_uniform_values", "min": 0.01, "max": 1}, 0.1, 0.5),
        ({"min": 0, "max": 4}, 1, 0.25),
        ({"values": ["a", "b", "c"]}, '"b"', 0.5),
        ({"value": "a"}, '"a"', 0),
        ({"distribution": "normal"}, 0.25, 0.25),
    ],
)
def test_places_on_an_axis(spec: dict[str, Any], drawn: Any, place: float) -> None:
    assert read(spec).place(drawn) == pytest.approx(place)


@pytest.mark.parametrize("parameters", [None, {}, [], "data.quota"])
def test_without_parameters(parameters: Any) -> None:
    with pytest.raises(InputError, match="names no parameters"):
        read_space(parameters, "mine.yaml", "random")
