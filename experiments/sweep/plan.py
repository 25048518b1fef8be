"""What a sweep is, read from its YAML in W&B's format, and checked before the first trial."""

import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from datamodules.errors import InputError
from datamodules.yaml_text import read_yaml_text
from experiments.config import Config, check_interpolations, load
from experiments.files import DAMAGED, find_yaml
from experiments.sweep.space import Parameter, arguments, read_space

FOLDER = Path(__file__).parents[1] / "sweeps"
METHODS = ("grid", "random", "bayes")
PARAMETERS = "${args_no_hyphens}"
"""Where W&B's agent puts a trial's parameters into the command, as ``key=value``."""
_KEYS = (
    *("name", "description", "project", "entity", "program", "method"),
    *("metric", "parameters", "early_terminate", "command", "run_cap"),
)
_MACROS = {"${env}": "/usr/bin/env", "${interpreter}": sys.executable}
_COMMAND = (
    'Write command: ["${env}", "${interpreter}", -m, experiments, train, <experiment>, trainer.test=false, '
    f'"{PARAMETERS}"].'
)
_OURS = {
    "run": "Trials are named by the sweep.",
    "output": "Give output=<folder> to `make sweep` (ARGS).",
    "resume": "Trials that were interrupted go on by themselves.",
    "experiment": "It stands in the command.",
    "trainer.test": "It is always false: the test set chooses nothing.",
    "trainer.monitor": "It is the sweep's metric, and the same for all trials: write it into the command.",
}


@dataclass(frozen=True)
class Halving:
    """Early termination, as of W&B's ``hyperband``: successive halving of the trials.

    Attributes:
        first: Epochs after which trials are first compared.
        eta: One of so many goes on each time, until so many times the epochs.
        last: Epochs from which on none is compared; none is no limit.
    """

    first: int
    eta: int
    last: int | None


@dataclass(frozen=True)
class Sweep:
    """A sweep.

    Attributes:
        name: Its name.
        config: All of it, in W&B's format.
        space: Its parameters.
        halving: Early termination; none without.
    """

    name: str
    config: dict[str, Any]
    space: list[Parameter]
    halving: Halving | None

    @property
    def method(self) -> str:
        """``grid``, ``random`` or ``bayes``."""
        return str(self.config["method"])

    @property
    def metric(self) -> str:
        """Name of the development score that is searched for."""
        return str(self.config["metric"]["name"])

    @property
    def count(self) -> int | None:
        """How many trials there are to be in all; none where that is left to the grid or the agents."""
        count: int | None = self.config.get("run_cap")
        return count

    @property
    def experiment(self) -> str:
        """The experiment that each trial trains."""
        command = self.config["command"]
        return str(command[command.index("train") + 1])

    @property
    def settings(self) -> list[str]:
        """``key=value`` settings of all trials."""
        command = self.config["command"]
        return [word for word in command[command.index("train") + 2 :] if word != PARAMETERS]

    def values(self, drawn: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
        """Values of the parameters, by their paths, of what Optuna drew."""
        return {one.path: one.value(drawn[one.name]) for one in self.space}

    def words(self, values: Mapping[tuple[str, ...], Any]) -> list[str]:
        """The command of a trial, as W&B's agent would make it."""
        words: list[str] = []
        for word in self.config["command"]:
            words += arguments(values) if word == PARAMETERS else [_MACROS.get(word, word)]
        return words


def sweeps() -> list[str]:
    """Names of the sweeps that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_sweep(name: str, settings: Sequence[str] = (), count: int | None = None, title: str = "") -> Sweep:
    """Reads a sweep, and tries its parameters on the experiment.

    Args:
        name: Of a sweep that ships, or the path of a YAML file.
        settings: ``key=value`` settings for all trials, which win over those of the command.
        count: Number of trials; without, what the YAML says.
        title: Name of the sweep; without, what the YAML says, or else the file's.

    Raises:
        InputError: There is no such sweep, something in it is wrong, or a trial would be refused.
    """
    path = find_yaml("sweep", name, FOLDER, sweeps())
    config = _read(path)
    config["name"] = title or str(config.get("name") or path.stem)
    if isinstance(config.get("command"), list):
        config["command"] = [*map(str, config["command"]), *settings]
    if count is not None:
        config["run_cap"] = count
    sweep = sweep_of(config, str(path))
    if sweep.count is None and sweep.method != "grid":
        raise InputError(f"the sweep {sweep.name} has no end", "Give COUNT=<number of trials>, or run_cap in its YAML.")
    _try(sweep, str(path))
    return sweep


def sweep_of(config: dict[str, Any], origin: str) -> Sweep:
    """The sweep that a configuration in W&B's format describes.

    Raises:
        InputError: Something in it is wrong.
    """
    for key in config:
        if key not in _KEYS:
            near = difflib.get_close_matches(str(key), _KEYS, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise InputError(f"{origin}: a sweep has no {key!r} here", f"{hint}There are: {', '.join(_KEYS)}.")
    if config.get("method") not in METHODS:
        raise InputError(f"{origin}: method is {config.get('method')!r}", f"Choose from: {', '.join(METHODS)}.")
    if not re.fullmatch(r"[\w.-]+", name := str(config["name"])):
        raise InputError(f"{origin}: the name of the sweep is {name!r}", "Use letters, digits, points and hyphens.")
    cap = config.get("run_cap")
    if cap is not None and (isinstance(cap, bool) or not isinstance(cap, int) or cap < 1):
        raise InputError(f"{origin}: run_cap is {cap!r}", "Give a number of trials, 1 or more.")
    _check_metric(config.get("metric"), origin)
    check_interpolations(config.get("parameters"), origin)
    space = read_space(config.get("parameters"), origin, config["method"])
    halving = _halving(config["early_terminate"], origin) if "early_terminate" in config else None
    sweep = Sweep(name, config, space, halving)
    _check_command(sweep, origin)
    return sweep


def _read(path: Path) -> dict[str, Any]:
    """What a YAML file says to W&B, which takes 1e-4 for a text."""
    text = read_yaml_text(path)
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, *DAMAGED) as error:
        raise InputError(f"{path} cannot be read as YAML: {error}", "Repair the file.") from error
    if not isinstance(config, dict):
        raise InputError(f"{path} describes no sweep", "Write a YAML mapping: method, metric, parameters, command.")
    return config


def _check_metric(metric: Any, origin: str) -> None:
    if not isinstance(metric, dict) or not isinstance(metric.get("name"), str):
        raise InputError(f"{origin} names no metric", "Write metric: {name: dev/uar, goal: maximize}.")
    name = metric["name"]
    if not name.startswith("dev/"):
        why = " of the test set, which chooses nothing" if "test" in name else ", which is no development score"
        raise InputError(f"{origin}: metric.name is {name}{why}", "Give dev/uar, dev/ccc or another score in dev/.")
    if metric.get("goal") != "maximize":
        raise InputError(
            f"{origin}: metric.goal is {metric.get('goal', 'minimize, as it is not given')}, and {name} is the better "
            "the higher it is",
            "Write goal: maximize.",
        )
    if others := [key for key in metric if key not in ("name", "goal")]:
        raise InputError(f"{origin}: metric.{others[0]} does nothing here", "Take it out.")


def _halving(rule: Any, origin: str) -> Halving:
    origin = f"{origin}: early_terminate"
    if not isinstance(rule, dict) or rule.get("type") != "hyperband":
        raise InputError(f"{origin} is {rule}", "Write early_terminate: {type: hyperband, min_iter: <epochs>}.")
    kinds = [{"type", "min_iter", "eta", "strict"}, {"type", "max_iter", "s", "eta", "strict"}]
    if not any(set(rule) <= kind for kind in kinds) or not {"min_iter", "s"} & set(rule):
        raise InputError(
            f"{origin} has {', '.join(map(str, rule))}", "Give min_iter, or max_iter and s; and eta, if not 3."
        )
    if rule.get("strict", True) is not True:
        raise InputError(f"{origin}.strict is {rule['strict']}", "Leave it out: trials are compared at the epoch.")
    for key, low in (("min_iter", 1), ("max_iter", 1), ("s", 1), ("eta", 2)):
        value = rule.get(key, low)
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise InputError(f"{origin}.{key} is {value!r}", f"Give a whole number of {low} or more.")
    eta = rule.get("eta", 3)
    if "min_iter" in rule:
        return Halving(rule["min_iter"], eta, None)
    last = rule["max_iter"]
    steps = 0
    while steps < rule["s"] and last // eta ** (steps + 1):
        steps += 1
    if not steps:
        raise InputError(f"{origin}: max_iter is {last} and eta {eta}", "Give a max_iter of eta or more.")
    return Halving(last // eta**steps, eta, last)


def _check_command(sweep: Sweep, origin: str) -> None:
    command = sweep.config.get("command")
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise InputError(f"{origin} has no command", _COMMAND)
    start = command.index("train") if "train" in command else 0
    if command[max(0, start - 2) : start] != ["-m", "experiments"] or len(command) < start + 2:
        raise InputError(f"{origin}: the command is {' '.join(command)}, which trains no experiment", _COMMAND)
    if command[start + 2 :].count(PARAMETERS) != 1:
        raise InputError(f"{origin}: the command has {PARAMETERS} not once behind the experiment", _COMMAND)
    for word in command:
        if "${" in word and word not in (*_MACROS, PARAMETERS):
            raise InputError(
                f"{origin}: the command has {word}",
                f"Of W&B's macros, {', '.join(_MACROS)} and {PARAMETERS} may stand there.",
            )
    keys = {setting.partition("=")[0] for setting in sweep.settings}
    names = {one.name for one in sweep.space}
    for key, why in _OURS.items():
        if key in names or (key in keys and not key.startswith("trainer.")):
            raise InputError(f"{origin}: {key} is not for a sweep to set", why)
    if both := sorted(keys & names):
        raise InputError(f"{origin}: {both[0]} is a parameter, and set for all trials, too", "Take one of them out.")


def _try(sweep: Sweep, origin: str) -> None:
    """Reads the experiment with samples of the parameters, as the trials will."""
    for number in range(max(len(one.examples) for one in sweep.space)):
        values = {one.path: one.examples[number % len(one.examples)] for one in sweep.space}
        try:
            config = load(sweep.experiment, [*sweep.settings, *arguments(values)])
        except InputError as error:
            raise InputError(f"{origin}: a trial would be refused: {error.problem}", error.remedy) from error
        _check_fair(config, sweep, origin)


def _check_fair(config: Config, sweep: Sweep, origin: str) -> None:
    if config.trainer.test:
        raise InputError(
            f"{origin}: trials would score the test set, which chooses nothing",
            "Write trainer.test=false into the command.",
        )
    if config.trainer.monitor != sweep.metric:
        raise InputError(
            f"{origin}: metric.name is {sweep.metric}, and the trials' epochs are chosen by {config.trainer.monitor}",
            f"Write trainer.monitor={sweep.metric} into the command, or name the other metric.",
        )
