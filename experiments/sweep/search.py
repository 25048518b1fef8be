"""A sweep that is made here: Optuna draws the trials, and its journal in the sweep's folder keeps them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import optuna
import yaml  # type: ignore[import-untyped]
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.pruners import BasePruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GridSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from datamodules.errors import InputError, explained
from datamodules.yaml_text import read_yaml_text
from experiments import claims
from experiments.config import load
from experiments.files import DAMAGED, replacing
from experiments.sweep.plan import Halving, Sweep, sweep_of

SWEEP = "sweep.yaml"
"""Of a sweep's folder: what it is, in W&B's format."""
JOURNAL = "optuna.journal"
"""Of a sweep's folder: Optuna's record of the trials."""

optuna.logging.set_verbosity(optuna.logging.WARNING)  # the sweep tells of its trials itself


@dataclass(frozen=True)
class Trial:
    """A trial that is to be made, or gone on with.

    Attributes:
        number: From 0.
        values: Of its parameters, by path.
        epochs: That it trains.
        folder: Of its run.
        claim: Lock file that keeps other agents from making it.
    """

    number: int
    values: dict[tuple[str, ...], Any]
    epochs: int
    folder: Path
    claim: IO[str]

    @property
    def name(self) -> str:
        """For the eye."""
        return f"trial {self.number}"

    @property
    def log(self) -> Path:
        """Where its process writes."""
        return self.folder.with_name(f"{self.folder.name}.log")


def begin(sweep: Sweep, output: Path) -> Path:
    """Makes a sweep's folder, or finds that of the same sweep.

    Args:
        sweep: It.
        output: Folder of all sweeps.

    Returns:
        The folder.

    Raises:
        InputError: Another sweep of that name is there, or the folder cannot be made.
    """
    folder = output / sweep.name
    with explained(str(folder), output, "output"):
        folder.mkdir(parents=True, exist_ok=True)
        with turn(folder):
            if (folder / SWEEP).exists():
                there = _read(folder).config
                if differing := [key for key in {**there, **sweep.config} if _of(there, key) != _of(sweep.config, key)]:
                    raise InputError(
                        f"{folder} holds another sweep of that name: {', '.join(differing)} differ",
                        "Give name=<another name>, or the settings that it was begun with.",
                    )
            else:
                optuna.create_study(
                    study_name=sweep.name, storage=_storage(folder), direction="maximize", load_if_exists=True
                )
            with replacing(folder / SWEEP) as stream:
                stream.write(yaml.safe_dump(sweep.config, sort_keys=False, allow_unicode=True).encode())
    return folder


def _of(config: Mapping[str, Any], key: str) -> Any:
    return None if key == "run_cap" else config.get(key)  # there may be more trials, later


@contextmanager
def turn(folder: Path) -> Iterator[None]:
    """Waits until no other agent is choosing a trial, or writing results; holds on NFS, too."""
    lock = JournalFileOpenLock(str(folder / ".turn"))
    lock.acquire()
    try:
        yield
    finally:
        with suppress(RuntimeError):  # it took so long that another one took the lock away
            lock.release()


class Search:
    """The trials of a sweep's folder.

    Args:
        folder: It.

    Raises:
        InputError: It is none, or of another version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sweep = _read(folder)
        config = load(self.sweep.experiment, self.sweep.settings)
        self.experiment, self.epochs = config.experiment, config.trainer.epochs
        sampler, pruner = _Numbered(_sampler(self.sweep, config.seed)), _pruner(self.sweep.halving)
        try:
            self.storage = _storage(folder)
            self.study = optuna.load_study(
                study_name=self.sweep.name, storage=self.storage, sampler=sampler, pruner=pruner
            )
        except (KeyError, ValueError) as error:
            raise InputError(f"{folder / JOURNAL} cannot be read: {error}", "Begin another sweep.") from error

    @property
    def trials(self) -> list[FrozenTrial]:
        """All that were begun, by number."""
        return self.study.get_trials(deepcopy=False)

    def total(self, count: int | None) -> float:
        """How many trials there are to be: ``count``, or as many as the sweep says; of a grid not more than it has."""
        count = count or self.sweep.count
        return min(count or math.inf, _grid_size(self.sweep))

    def next(self, count: int | None) -> Trial | None:
        """The trial to make now: one that was interrupted, or a new one; none where all that are to be are begun.

        Args:
            count: How many there are to be in all; without, as many as the sweep says.
        """
        with turn(self.folder):
            trials = self.trials
            for frozen in trials:
                if frozen.state == TrialState.RUNNING and (claim := self._claim(frozen.number)):
                    return self._trial(frozen, claim)
            if len(trials) >= self.total(count):
                return None
            number = self.study.ask({one.name: one.drawn for one in self.sweep.space}).number
            claim = self._claim(number)
            assert claim is not None, "nobody else knows of it"
            return self._trial(self.trials[number], claim)

    def judge(self, trial: Trial, scores: Mapping[int, float]) -> int | None:
        """Takes in new scores of a trial, epoch by epoch: how many of them come at a time makes no difference.

        Args:
            trial: It.
            scores: By epoch, from 0.

        Returns:
            The epoch after which the trial is to stop, since too many others were better by then; none if it goes on.
        """
        identity = self._identity(trial.number)
        known = max(self.storage.get_trial(identity).intermediate_values, default=0)
        halving = self.sweep.halving
        last = min(trial.epochs, (halving and halving.last) or trial.epochs)
        for epoch, score in sorted(scores.items()):
            done = epoch + 1
            if done > known:
                self.storage.set_trial_intermediate_value(identity, done, score)
            # The last that is known may not have been judged yet: an agent may have been killed.
            if known <= done < last and self.study.pruner.prune(self.study, self.storage.get_trial(identity)):
                self.note(trial, {"stopped": epoch})
                return epoch
        return None

    def end(self, trial: Trial, state: TrialState, notes: Mapping[str, Any]) -> None:
        """Notes that a trial has ended, and what is known of it: ``objective``, ``epochs``, ``seconds`` and others."""
        self.note(trial, notes)
        value = notes["objective"] if state == TrialState.COMPLETE else None
        self.study.tell(trial.number, value, state)

    def note(self, trial: Trial, notes: Mapping[str, Any]) -> None:
        """Notes something of a trial."""
        for key, value in notes.items():
            self.storage.set_trial_user_attr(self._identity(trial.number), key, value)

    def place(self, number: int) -> Path:
        """The run folder of a trial."""
        return self.folder / self.experiment / f"trial-{number:03}"

    def _trial(self, frozen: FrozenTrial, claim: IO[str]) -> Trial:
        values = self.sweep.values(frozen.params)
        own = {".".join(path): value for path, value in values.items()}
        epochs = int(own.get("trainer.epochs", self.epochs))
        return Trial(frozen.number, values, epochs, self.place(frozen.number), claim)

    def _claim(self, number: int) -> IO[str] | None:
        return claims.take(self.folder / ".claims" / str(number))

    def _identity(self, number: int) -> int:
        study = self.storage.get_study_id_from_name(self.sweep.name)
        return self.storage.get_trial_id_from_study_id_trial_number(study, number)


def _read(folder: Path) -> Sweep:
    file = folder / SWEEP
    if not file.exists():
        raise InputError(
            f"{folder} is no folder of a sweep: {file} does not exist",
            "Give the last line that `python -m experiments.sweep create` printed.",
        )
    text = read_yaml_text(file)
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, *DAMAGED) as error:
        raise InputError(f"{file} cannot be read: {error}", "Begin another sweep.") from error
    return sweep_of(config, str(file))


def _storage(folder: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(folder / JOURNAL)))


def _grid_size(sweep: Sweep) -> float:
    return math.prod(map(len, _grid(sweep).values())) if sweep.method == "grid" else math.inf


def _grid(sweep: Sweep) -> dict[str, Sequence[Any]]:
    return {one.name: one.drawn.choices for one in sweep.space if isinstance(one.drawn, CategoricalDistribution)}


def _pruner(halving: Halving | None) -> BasePruner:
    return SuccessiveHalvingPruner(halving.first, halving.eta) if halving else NopPruner()


def _sampler(sweep: Sweep, seed: int) -> Callable[[int], BaseSampler]:
    """Makes the sampler of a trial, by its number."""
    if sweep.method == "grid":
        grid = GridSampler(_grid(sweep), seed=seed)
        return lambda _: grid

    def sampler(number: int) -> BaseSampler:
        own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        return RandomSampler(own) if sweep.method == "random" else TPESampler(seed=own, constant_liar=True)

    return sampler


class _Numbered(BaseSampler):
    """Draws each trial by random numbers of its own: whichever agent draws it, and whatever that one drew before.

    Args:
        sampler: Makes the sampler of a trial, by its number.
    """

    def __init__(self, sampler: Callable[[int], BaseSampler]) -> None:
        self.sampler = sampler

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self.of_trial = self.sampler(trial.number)
        self.of_trial.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.of_trial.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.of_trial.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self.of_trial.sample_independent(study, trial, param_name, param_distribution)
