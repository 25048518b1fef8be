"""The parameters of a sweep: W&B's distributions, as Optuna draws from them."""

import difflib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from datamodules.errors import InputError
from experiments.limits import leaves

_EDGE = 2.0**-40
"""How near to 0 and 1 a share of a distribution's mass comes: at 0 and 1 themselves some have no value."""

_Spec = Mapping[str, Any]
_Path = tuple[str, ...]
_Quantiles = Callable[[float], float]
"""From a share of a distribution's mass, 0 to 1, to the value below which it lies."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of a sweep.

    Attributes:
        path: Its names, from the outermost; several where ``parameters`` are nested.
        drawn: What Optuna draws from: values, where it knows the distribution; texts of values, where they are listed;
            else the share of the distribution's mass that lies below the value.
        value: Turns what is drawn into the parameter's value.
        grid: Gives the values that a grid tries; none where a grid cannot.
        examples: Values that show what the parameter may be.
    """

    path: tuple[str, ...]
    drawn: BaseDistribution
    value: Callable[[Any], Any]
    grid: Callable[[], Sequence[Any]] | None
    examples: tuple[Any, ...]

    @property
    def name(self) -> str:
        """The setting that it stands for."""
        return ".".join(self.path)

    @property
    def fixed(self) -> bool:
        """Whether it has one value only."""
        return self.drawn.single()

    @property
    def ends(self) -> tuple[Any, Any]:
        """The first and the last value."""
        drawn = self.drawn
        if isinstance(drawn, CategoricalDistribution):
            return self.value(drawn.choices[0]), self.value(drawn.choices[-1])
        assert isinstance(drawn, FloatDistribution | IntDistribution)
        return self.value(drawn.low), self.value(drawn.high)

    def place(self, drawn: Any) -> float:
        """Where what was drawn lies between the ends of the distribution, from 0 to 1."""
        if isinstance(self.drawn, CategoricalDistribution):
            return self.drawn.choices.index(drawn) / max(1, len(self.drawn.choices) - 1)
        assert isinstance(self.drawn, FloatDistribution | IntDistribution)
        low, high, here = self.drawn.low, self.drawn.high, drawn
        if self.drawn.log:
            low, high, here = math.log(low), math.log(high), math.log(here)
        return (here - low) / (high - low) if high > low else 0.5


def arguments(values: Mapping[_Path, Any]) -> list[str]:
    """Values by path as W&B's agent writes them on the command line: ``name=value``, of nested ones a dict."""
    nested: dict[str, Any] = {}
    for path, value in values.items():
        inner = nested
        for name in path[:-1]:
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
    return [f"{name}={value}" for name, value in nested.items()]


def read_space(parameters: Any, origin: str, method: str) -> list[Parameter]:
    """Reads the parameters of a sweep.

    Args:
        parameters: As they stand in its YAML.
        origin: Of the YAML, for messages.
        method: The sweep's method.

    Raises:
        InputError: A parameter is no distribution that there is, or none for this method; the message names it.
    """
    if not isinstance(parameters, dict) or not parameters:
        raise InputError(f"{origin} names no parameters", "Write parameters: {<setting>: {values: […]}, …}.")
    space: dict[str, Parameter] = {}
    for path, spec in _flat(parameters, origin):
        one = _read(path, spec, f"{origin}: parameters.{'.'.join(path)}")
        if one.name in space:
            raise InputError(f"{origin}: parameters.{one.name} is there twice", "Take one of them out.")
        if method == "grid":
            if one.grid is None:
                raise InputError(
                    f"{origin}: parameters.{one.name} cannot be tried on a grid",
                    "Give values, or the distribution int_uniform or q_uniform; or choose the method random or bayes.",
                )
            one = _listed(path, one.grid())
        space[one.name] = one
    return list(space.values())


def _flat(parameters: _Spec, origin: str, above: _Path = ()) -> Iterator[tuple[_Path, _Spec]]:
    for name, spec in parameters.items():
        path = (*above, str(name))
        if not isinstance(spec, dict):
            raise InputError(
                f"{origin}: parameters.{'.'.join(path)} is {spec!r}",
                "Write a mapping: {value: …}, {values: […]}, {min: …, max: …} or {distribution: …, …}.",
            )
        inner = spec.get("parameters")
        if isinstance(inner, dict) and set(spec) == {"parameters"}:
            yield from _flat(inner, origin, path)
        else:
            yield path, spec


def _read(path: _Path, spec: _Spec, origin: str) -> Parameter:
    distribution = spec.get("distribution") or _implied(spec, origin)
    if distribution not in _READERS:
        near = difflib.get_close_matches(str(distribution), _READERS, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise InputError(f"{origin}: no distribution {distribution!r}", f"{hint}There are: {', '.join(_READERS)}.")
    needed, optional, reader = _READERS[distribution]
    for key in spec:
        if key not in (*needed, *optional, "distribution"):
            raise InputError(
                f"{origin}: {distribution} has no {key!r}", f"It has {', '.join([*needed, *optional])}: take it out."
            )
    for key in needed:
        if key not in spec:
            raise InputError(f"{origin}: {distribution} lacks {key}", f"Give it: {key}: <…>.")
    return reader(path, spec, origin)


def _implied(spec: _Spec, origin: str) -> str:
    """The distribution of a parameter that names none, as W&B's client and server find it out."""
    if "value" in spec:
        return "constant"
    if "values" in spec:
        return "categorical_w_probabilities" if "probabilities" in spec else "categorical"
    if "min" in spec and "max" in spec:
        kinds = [type(spec[end]) for end in ("min", "max")]
        if kinds == [int, int]:
            return "int_uniform"
        if kinds == [float, float]:
            return "uniform"
        _number(spec, "min", origin)
        _number(spec, "max", origin)
        raise InputError(
            f"{origin}: min is {spec['min']} and max is {spec['max']}, a whole number and another",
            "Write both as whole numbers (int_uniform) or both with a point (uniform), or name the distribution.",
        )
    raise InputError(
        f"{origin} says not which values there are",
        "Give value, values, min and max, or a distribution with what belongs to it.",
    )


def _number(spec: _Spec, key: str, origin: str, default: float | None = None, above: float = -math.inf) -> Any:
    value = spec.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(
            f"{origin}: {key} is {value!r}, which is no number", "In YAML 1e-4 is a text: write 1.0e-4, or 0.0001."
        )
    if value <= above:
        raise InputError(f"{origin}: {key} is {value}", f"Give more than {above:g}.")
    return value


def _ends(spec: _Spec, origin: str, above: float = -math.inf) -> tuple[Any, Any]:
    low, high = (_number(spec, end, origin, above=above) for end in ("min", "max"))
    if low >= high:
        raise InputError(f"{origin}: min is {low} and max is {high}", "Give a min below the max.")
    return low, high


def _check_plain(value: Any, origin: str) -> None:
    """Refuses what would not come through W&B's command line as it is."""
    for _, one in leaves(value):
        if one is None:
            raise InputError(f"{origin}: null cannot be told to a run: W&B's agent writes None", "Leave it out.")
        if not isinstance(one, bool | int | float | str):
            raise InputError(f"{origin}: {one!r} is neither a number nor text", "Quote it, if it is text.")


def _constant(path: _Path, spec: _Spec, origin: str) -> Parameter:
    _check_plain(spec["value"], origin)
    return _listed(path, [spec["value"]])


def _categorical(path: _Path, spec: _Spec, origin: str) -> Parameter:
    return _listed(path, _values(spec, origin))


def _values(spec: _Spec, origin: str) -> list[Any]:
    values = spec["values"]
    if not isinstance(values, list) or not values:
        raise InputError(f"{origin}: values is {values!r}", "Give a list of values.")
    _check_plain(values, origin)
    return values


def _listed(path: _Path, values: Sequence[Any]) -> Parameter:
    # Texts, for Optuna takes no lists, and 1 and true for the same.
    drawn = CategoricalDistribution([json.dumps(value) for value in values])
    return Parameter(path, drawn, json.loads, lambda: values, tuple(values))


def _weighted(path: _Path, spec: _Spec, origin: str) -> Parameter:
    values, shares = _values(spec, origin), spec["probabilities"]
    known = isinstance(shares, list) and all(isinstance(one, int | float) and one >= 0 for one in shares)
    if not known or len(shares) != len(values) or not math.isclose(sum(shares), 1, rel_tol=1e-5):
        raise InputError(
            f"{origin}: probabilities are {shares}", f"Give {len(values)} numbers, one for each value, of sum 1."
        )
    ends = np.cumsum(shares) / np.sum(shares)

    def quantile(share: float) -> Any:
        return values[int(np.searchsorted(ends, share, side="right").clip(max=len(values) - 1))]

    # A grid has no probabilities, as in W&B.
    return Parameter(path, FloatDistribution(_EDGE, 1 - _EDGE), quantile, None, tuple(values))


def _int_uniform(path: _Path, spec: _Spec, origin: str) -> Parameter:
    low, high = _ends(spec, origin)
    if not (isinstance(low, int) and isinstance(high, int)):
        raise InputError(f"{origin}: min is {low} and max is {high}", "Give whole numbers: int_uniform has no others.")
    return Parameter(path, IntDistribution(low, high), int, lambda: range(low, high + 1), (low, high))


def _uniform(path: _Path, spec: _Spec, origin: str) -> Parameter:
    return _floats(path, *_ends(spec, origin), log=False)


def _log_uniform(path: _Path, spec: _Spec, origin: str) -> Parameter:
    low, high = _ends(spec, origin)
    return _floats(path, _exp(low), _exp(high), log=True)


def _inv_log_uniform(path: _Path, spec: _Spec, origin: str) -> Parameter:
    low, high = _ends(spec, origin)
    return _floats(path, _exp(-high), _exp(-low), log=True)


def _log_uniform_values(path: _Path, spec: _Spec, origin: str) -> Parameter:
    return _floats(path, *_ends(spec, origin, above=0), log=True)


def _exp(exponent: float) -> float:
    return float(np.exp(exponent))


def _floats(path: _Path, low: float, high: float, log: bool) -> Parameter:
    return Parameter(path, FloatDistribution(low, high, log=log), float, None, (low, high))


def _by_quantiles(quantiles: Callable[[_Spec, str], _Quantiles], rounded: bool) -> Callable[..., Parameter]:
    """A reader of a distribution that Optuna does not know: what is drawn is a share of its mass.

    That is exact for random search, and what W&B's own Bayesian search does with all distributions.

    Args:
        quantiles: Of the distribution.
        rounded: To multiples of ``q``.
    """

    def reader(path: _Path, spec: _Spec, origin: str) -> Parameter:
        value_at: Callable[[float], Any] = quantiles(spec, origin)
        grid = None
        if rounded:
            step = _number(spec, "q", origin, 1.0, above=0)
            exact = value_at

            def value_at(share: float) -> Any:
                multiple = float(np.round(exact(share) / step)) * step
                return int(multiple) if isinstance(step, int) else multiple

            if quantiles is _q_uniform:
                grid = lambda: np.arange(spec["min"], spec["max"], step).tolist()  # noqa: E731
        examples = tuple(value_at(share) for share in (0.01, 0.5, 0.99))
        return Parameter(path, FloatDistribution(_EDGE, 1 - _EDGE), value_at, grid, examples)

    return reader


def _q_uniform(spec: _Spec, origin: str) -> _Quantiles:
    low, high = _ends(spec, origin)
    return lambda share: low + share * (high - low)


def _q_log_uniform(spec: _Spec, origin: str) -> _Quantiles:
    low, high = _ends(spec, origin)
    return lambda share: _exp(low + share * (high - low))


def _q_log_uniform_values(spec: _Spec, origin: str) -> _Quantiles:
    low, high = map(math.log, _ends(spec, origin, above=0))
    return lambda share: _exp(low + share * (high - low))


def _normal(spec: _Spec, origin: str) -> _Quantiles:
    return NormalDist(_number(spec, "mu", origin, 0.0), _number(spec, "sigma", origin, 1.0, above=0)).inv_cdf


def _log_normal(spec: _Spec, origin: str) -> _Quantiles:
    exponent = _normal(spec, origin)
    return lambda share: _exp(exponent(share))


def _beta(spec: _Spec, origin: str) -> _Quantiles:
    from scipy.special import betaincinv

    a, b = (_number(spec, key, origin, 1.0, above=0) for key in ("a", "b"))
    return lambda share: float(betaincinv(a, b, share))


_NORMAL, _BETA, _ENDS = ("mu", "sigma"), ("a", "b"), ("min", "max")
_READERS: dict[str, tuple[tuple[str, ...], tuple[str, ...], Callable[..., Parameter]]] = {
    "constant": (("value",), (), _constant),
    "categorical": (("values",), (), _categorical),
    "categorical_w_probabilities": (("values", "probabilities"), (), _weighted),
    "int_uniform": (_ENDS, (), _int_uniform),
    "uniform": (_ENDS, (), _uniform),
    "q_uniform": (_ENDS, ("q",), _by_quantiles(_q_uniform, rounded=True)),
    "log_uniform": (_ENDS, (), _log_uniform),
    "log_uniform_values": (_ENDS, (), _log_uniform_values),
    "q_log_uniform": (_ENDS, ("q",), _by_quantiles(_q_log_uniform, rounded=True)),
    "q_log_uniform_values": (_ENDS, ("q",), _by_quantiles(_q_log_uniform_values, rounded=True)),
    "inv_log_uniform": (_ENDS, (), _inv_log_uniform),
    "inv_log_uniform_values": (_ENDS, (), _log_uniform_values),
    "normal": ((), _NORMAL, _by_quantiles(_normal, rounded=False)),
    "q_normal": ((), (*_NORMAL, "q"), _by_quantiles(_normal, rounded=True)),
    "log_normal": ((), _NORMAL, _by_quantiles(_log_normal, rounded=False)),
    "q_log_normal": ((), (*_NORMAL, "q"), _by_quantiles(_log_normal, rounded=True)),
    "beta": ((), _BETA, _by_quantiles(_beta, rounded=False)),
    "q_beta": ((), (*_BETA, "q"), _by_quantiles(_beta, rounded=True)),
}
"""Of each distribution what it needs, what it may have, and what reads it; all that W&B's schema of sweeps names."""
