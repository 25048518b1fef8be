"""What is known of a search: a table, a figure, and the best settings as an experiment."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from optuna.trial import FrozenTrial, TrialState

from experiments.config import REPLACED, experiments, load, to_dict
from experiments.files import replacing
from experiments.sweep.plan import Sweep
from experiments.sweep.search import Search, turn
from experiments.sweep.space import arguments

BEST_SETTINGS = "best.yaml"
"""Of a sweep's folder: the settings of the best trial, as an experiment."""
_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
_OF_TRIALS = ("trainer.test", "wandb.group")


@dataclass(frozen=True)
class Row:
    """A trial, for the table.

    Attributes:
        number: Its number.
        state: ``complete``, ``stopped`` early, ``failed`` or ``running``.
        values: Of its parameters, by name.
        objective: Its best development score; none before the first epoch.
        epochs: That count.
        seconds: How long it took.
        folder: Of its run.
    """

    number: int
    state: str
    values: dict[str, Any]
    objective: float | None
    epochs: int
    seconds: float
    folder: Path


def rows(search: Search) -> list[Row]:
    """The trials of a search, by number."""
    return [
        Row(
            number=trial.number,
            state=_STATES[trial.state],
            values={".".join(path): value for path, value in search.sweep.values(trial.params).items()},
            objective=trial.user_attrs.get("objective"),
            epochs=trial.user_attrs.get("epochs", 0),
            seconds=trial.user_attrs.get("seconds", 0.0),
            folder=search.place(trial.number),
        )
        for trial in search.trials
    ]


def best(search: Search) -> FrozenTrial | None:
    """The best of the trials that were trained to their end, of equal ones the first; none where there is none."""
    complete = [trial for trial in search.trials if trial.state == TrialState.COMPLETE]
    return max(complete, key=lambda trial: trial.user_attrs["objective"], default=None)


def write_results(search: Search) -> None:
    """Writes ``results.csv``, ``results.md`` and, where a trial is complete, ``best.yaml`` into the sweep's folder."""
    with turn(search.folder):
        table = rows(search)
        for name, text in (("results.csv", _csv(search.sweep, table)), ("results.md", _markdown(search.sweep, table))):
            _write(search.folder / name, text)
        if (trial := best(search)) is not None:
            _write_best(search, trial, search.folder / BEST_SETTINGS)


def write_figure(search: Search) -> None:
    """Draws ``results.png``: the objective over the trials, and over the parameters."""
    from experiments.sweep.figure import Axis, Line, draw  # slow to import

    varied = [one for one in search.sweep.space if not one.fixed]
    axes = [Axis(one.name, *map(_short, one.ends)) for one in varied]
    lines = [
        Line(row.number, row.state, row.objective, [one.place(trial.params[one.name]) for one in varied])
        for row, trial in zip(rows(search), search.trials, strict=False)
        if row.objective is not None
    ]
    with turn(search.folder), replacing(search.folder / "results.png") as stream:
        draw(search.sweep.metric, lines, axes).savefig(stream, format="png")


def _write(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text.encode())


def _cells(sweep: Sweep, row: Row) -> dict[str, str]:
    values = {name: _short(value) for name, value in row.values.items()}
    score = "" if row.objective is None else f"{row.objective:.4f}"
    facts = {"epochs": str(row.epochs), "seconds": f"{row.seconds:.0f}", "run": str(row.folder)}
    return {"trial": str(row.number), "state": row.state, **values, sweep.metric: score, **facts}


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _csv(sweep: Sweep, table: list[Row]) -> str:
    text = io.StringIO(newline="")
    names = [one.name for one in sweep.space]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", *names, sweep.metric, "epochs", "seconds", "run"])
    for row in table:
        values = [row.values[name] for name in names]
        writer.writerow([row.number, row.state, *values, row.objective, row.epochs, row.seconds, row.folder])
    return text.getvalue()


def _markdown(sweep: Sweep, table: list[Row]) -> str:
    lines = [_cells(sweep, row) for row in table]
    shown = [key for key in (lines[0] if lines else {}) if key not in {one.name for one in sweep.space if one.fixed}]
    text = [f"| {' | '.join(shown)} |", f"|{'---|' * len(shown)}"]
    text += [f"| {' | '.join(line[key].replace('|', '/') for key in shown)} |" for line in lines]
    return "\n".join([*text, ""])


def _write_best(search: Search, trial: FrozenTrial, file: Path) -> None:
    score = f"{search.sweep.metric} {trial.user_attrs['objective']:.4f}"
    about = f"# The best settings of the sweep {search.sweep.name}: trial {trial.number}, {score}.\n"
    if not file.exists() or not file.read_text(encoding="utf-8").startswith(about):
        _write(file, about + _experiment(search.sweep, trial))


def _experiment(sweep: Sweep, trial: FrozenTrial) -> str:
    """A trial's settings as an experiment that extends the sweep's own; its runs are tested."""
    given = [*sweep.settings, *arguments(sweep.values(trial.params))]
    config = to_dict(load(sweep.experiment, given))
    keys = [setting.partition("=")[0] for setting in sweep.settings] + [one.name for one in sweep.space]
    settings: dict[str, Any] = {"extends": _parent(sweep.experiment), "experiment": sweep.name}
    for key in keys:
        if key not in _OF_TRIALS:
            _put(settings, config, key.replace("[", ".").replace("]", "").split("."))
    text: str = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return text


def _parent(experiment: str) -> str:
    return experiment if experiment in experiments() else str(Path(experiment).resolve())


def _put(settings: dict[str, Any], config: Mapping[str, Any], key: list[str]) -> None:
    """Copies a setting; of lists, and of dicts that are one value, all."""
    whole: list[str] = []
    value: Any = config
    for name in key:
        whole.append(name)
        value = value[name]
        if isinstance(value, list) or ".".join(whole) in REPLACED:
            break
    for name in whole[:-1]:
        settings = settings.setdefault(name, {})
    settings[whole[-1]] = value
